//! Central differences of the f64 reference, the truth behind every adjoint.

use sphereface_tensor::{GRADIENTS, PARAMETERS, ParameterSet, Plan, Reference};

/// Compares the gradients that a plan computes with central differences of its mean loss, all in f64.
///
/// `plan` ends with a block of gradients and writes the loss of each row into the persistent buffer `loss`;
/// `start` sets every other persistent buffer, among them perhaps `count`, the rows the mean is taken over. Checks up
/// to `samples` elements of each parameter.
///
/// # Panics
/// When a gradient differs by more than `tolerance` of the largest one.
pub fn check_gradients(
    name: &str,
    plan: &Plan,
    parameters: &ParameterSet,
    block: &[f64],
    start: &Reference,
    samples: usize,
    tolerance: f64,
) {
    const STEP: f64 = 1e-5;
    let run = |block: Vec<f64>| {
        let mut reference = start.clone();
        reference.set(PARAMETERS, block);
        reference.run(plan);
        let loss = reference.get("loss").expect("a plan that writes 'loss'");
        let rows = reference.get("count").map_or(loss.len() as f64, |count| count[0]);
        (loss.iter().sum::<f64>() / rows, reference)
    };
    let (loss, reference) = run(block.to_vec());
    assert!(loss.is_finite(), "{name}: loss {loss}");
    let gradients = reference.get(GRADIENTS).expect("a plan with gradients").to_vec();
    let largest = gradients.iter().fold(0.0f64, |largest, g| largest.max(g.abs()));
    assert!(largest > 0.0 && largest.is_finite(), "{name}: largest gradient {largest}");
    for parameter in parameters.iter() {
        let range = parameter.range();
        for index in range.clone().step_by(range.len().div_ceil(samples)) {
            let moved = |step: f64| {
                let mut block = block.to_vec();
                block[index] += step;
                run(block).0
            };
            let difference = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            let error = (difference - gradients[index]).abs();
            assert!(
                error <= tolerance * largest,
                "{name}: {}[{}]: gradient {}, central difference {difference}, error {error:e}",
                parameter.name,
                index - range.start,
                gradients[index],
            );
        }
    }
}
