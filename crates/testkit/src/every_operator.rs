//! Small cases by which a device is judged when it is first used.

use crate::cases::{self, Case};
use crate::compare::Tolerance;
use crate::head::{softmax_error, statistics};
use crate::run::run_case;
use sphereface_models::LOSSES;
use sphereface_tensor::cpu::CpuBackend;
use sphereface_tensor::op::Rule;

/// Every operator, with shapes that take whole tiles and shapes that leave tails, and every loss: a second or two on an
/// emulator, milliseconds on a GPU.
pub fn every_operator() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in [[6, 5, 16, 16, 24, 3, 1, 1], [8, 6, 8, 3, 64, 3, 2, 1]] {
        cases.extend(cases::conv2d_passes(shape));
    }
    cases.extend(cases::linear_passes([2, 2, 33, 24, 40]));
    cases.extend(cases::prelu().into_iter().take(4));
    cases.extend(cases::elementwise().into_iter().filter(|case| elements(case) < 5000));
    for rule in [
        Rule::Sgd { momentum: 0.9, nesterov: true },
        Rule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decoupled: true },
    ] {
        cases.push(cases::optimizer_of(rule, Some(5.0), 5000));
    }
    cases.extend(cases::gather_batch());
    cases.extend(cases::metrics());
    // Few classes, and more than a tile of them.
    for (loss, sizes) in LOSSES.into_iter().flat_map(|loss| [(loss, [10, 2, 33, 20]), (loss, [150, 8, 9, 9])]) {
        let (margin, scale) = (loss.head)(4);
        let [classes, dimension, batch, valid] = sizes;
        let exact = cases::margin_softmax_forward_of(&margin, scale, 5.0, [classes, dimension, batch, valid]);
        // Operands that tensor cores need not round, whichever cores there are.
        let forward = Case { tolerance: exact.tolerance, ..exact.in_tf32() };
        // The backward pass reads what the forward pass found out: the reference's figures, on any backend.
        let results = CpuBackend::new(1).and_then(|mut backend| run_case(&forward, &mut backend));
        if let Ok(results) = results {
            let (statistics, tolerance) = (statistics(&results), Tolerance::Largest(softmax_error(classes, dimension)));
            cases.push(cases::margin_softmax_backward_of(&forward, statistics, tolerance));
        }
        cases.push(forward);
    }
    cases
}

fn elements(case: &Case) -> usize {
    case.reads.iter().map(|(kind, _)| kind.shape.elements()).sum()
}
