//! The optimiser's rules, clipping and schedules against numbers worked out by hand, on backend and reference alike.

use sphereface_models::margin::SphereFace;
use sphereface_tensor::cpu::CpuBackend;
use sphereface_tensor::op::{
    Advance, GradientNorm, Group, MarginSoftmax, MarginSoftmaxForward, Optimizer, Rule, Scale,
};
use sphereface_tensor::{Backend, Dim, ParameterSet, PlanBuilder, Reference, Shape, Type};
use std::sync::Arc;

/// Length of the blocks: one vector and a tail; every element sees the same numbers.
const LENGTH: usize = 19;

const SGD: Rule = Rule::Sgd { momentum: 0.9, nesterov: false };

/// An optimiser over one block that starts at 1, and the rates of its steps.
struct Run {
    rule: Rule,
    decay: f32,
    rates: Vec<f32>,
    clip: Option<f32>,
}

impl Run {
    /// Parameter after each step with these gradients; rates count from step `first` on.
    fn parameters(&self, first: u32, gradients: &[f32]) -> Vec<f64> {
        let Run { rule, decay, ref rates, clip } = *self;
        let none = ParameterSet::default();
        let mut plan = PlanBuilder::new(&none);
        let block = Type::f32(Shape::vector(Dim::Length, LENGTH));
        let d = plan.persistent("gradients of the test", block.clone());
        let table = plan.persistent("rates", Type::f32(Shape::vector(Dim::Steps, rates.len())));
        let counter = plan.persistent("counter", Type::u32(Shape::vector(Dim::Length, 1)));
        let mut updates = vec![plan.persistent("block", block.clone())];
        updates.extend(rule.states().iter().map(|state| plan.persistent(state, block.clone())));
        let norm = plan.push(GradientNorm, &[d], &[]).unwrap()[0];
        let groups = vec![Group { range: 0..LENGTH, decay, rate: 1.0 }];
        plan.push(Optimizer { rule, groups, clip, copied: None }, &[d, norm, table, counter], &updates).unwrap();
        plan.push(Advance, &[], &[counter]).unwrap();
        let plan = plan.finish();

        let mut backend = CpuBackend::new(1).unwrap();
        let program = backend.lower(&plan).unwrap();
        let mut reference = Reference::default();
        backend.upload("rates", bytemuck::cast_slice(rates)).unwrap();
        reference.set("rates", rates.iter().copied().map(f64::from).collect());
        backend.upload("counter", &first.to_le_bytes()).unwrap();
        reference.set("counter", vec![f64::from(first)]);
        backend.upload("block", bytemuck::cast_slice(&[1f32; LENGTH])).unwrap();
        reference.set("block", vec![1.0; LENGTH]);
        let mut steps = Vec::new();
        for &gradient in gradients {
            backend.upload("gradients of the test", bytemuck::cast_slice(&[gradient; LENGTH])).unwrap();
            backend.run(program, 1).unwrap();
            reference.set("gradients of the test", vec![f64::from(gradient); LENGTH]);
            reference.run(&plan);
            let mut found = [0f32; LENGTH];
            backend.download("block", bytemuck::cast_slice_mut(&mut found)).unwrap();
            let expected = reference.get("block").unwrap();
            assert!(
                found.iter().zip(expected).all(|(&f, e)| (f64::from(f) - e).abs() < 3e-7),
                "{found:?} {expected:?}"
            );
            assert!(expected.iter().all(|value| *value == expected[0]));
            steps.push(expected[0]);
        }
        steps
    }
}

/// Rates and decays are f32: 0.1 is off by 1.5e-9.
fn assert_steps(found: &[f64], expected: &[f64]) {
    let close = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 3e-8);
    assert!(close && found.len() == expected.len(), "found {found:?}, expected {expected:?}");
}

/// PyTorch's definition: v = μ v + g, p −= rate · v.
#[test]
fn momentum_gathers_gradients_as_pytorch_defines_it() {
    let run = Run { rule: SGD, decay: 0.0, rates: vec![0.1], clip: None };
    // v: 0.5, 0.45 + 0.5 = 0.95, 0.855 − 1 = −0.145
    assert_steps(&run.parameters(0, &[0.5, 0.5, -1.0]), &[0.95, 0.855, 0.8695]);
}

/// PyTorch's definition: p −= rate · (g + μ v).
#[test]
fn nesterov_looks_ahead_as_pytorch_defines_it() {
    let run = Run { rule: Rule::Sgd { momentum: 0.9, nesterov: true }, decay: 0.0, rates: vec![0.1], clip: None };
    // g + μ v: 0.5 + 0.45 = 0.95, 0.5 + 0.855 = 1.355, −1 − 0.1305 = −1.1305
    assert_steps(&run.parameters(0, &[0.5, 0.5, -1.0]), &[0.905, 0.7695, 0.88255]);
}

#[test]
fn weight_decay_of_sgd_enters_the_momentum() {
    let run = Run { rule: SGD, decay: 0.1, rates: vec![0.1], clip: None };
    // g + decay · p: 0.6, 0.5 + 0.094 = 0.594, −1 + 0.08266; v: 0.6, 1.134, 1.0206 − 0.91734 = 0.10326
    assert_steps(&run.parameters(0, &[0.5, 0.5, -1.0]), &[0.94, 0.8266, 0.816274]);
}

fn adam(decoupled: bool) -> Run {
    let rule = Rule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decoupled };
    Run { rule, decay: 0.1, rates: vec![0.1], clip: None }
}

#[test]
fn adamw_shrinks_the_parameter_and_corrects_its_moments() {
    // p shrinks by 1 − 0.1 · 0.1 each step. Corrected mean over root: 0.5 / 0.5 = 1, then
    // (0.045 − 0.1) / 0.19 = −0.2894737 over √(0.00124975 / 0.001999) = 0.7906881, then
    // (−0.0495 + 0.025) / 0.271 = −0.0904059 over √(0.00131100025 / 0.002997001) = 0.6613898.
    let expected = [0.99 - 0.1, 0.8811 + 0.036_610_354, 0.908_533_25 + 0.013_669_07];
    assert_steps(&adam(true).parameters(0, &[0.5, -1.0, 0.25]), &expected);
}

#[test]
fn adam_without_decoupling_adds_the_decay_to_the_gradient() {
    // The first step of Adam has length `rate`, whatever the gradient; the second sees −1 + 0.1 · 0.9 = −0.91:
    // (0.054 − 0.091) / 0.19 = −0.1947368 over √((0.00035964 + 0.0008281) / 0.001999) = 0.7708223.
    assert_steps(&adam(false).parameters(0, &[0.5, -1.0]), &[0.9, 0.9 + 0.1 * 0.194_736_842 / 0.770_822_3]);
}

#[test]
fn clipping_leaves_small_gradients_and_scales_large_ones_to_the_norm() {
    let run = |clip| Run { rule: Rule::Sgd { momentum: 0.0, nesterov: false }, decay: 0.0, rates: vec![1.0], clip };
    let root = (LENGTH as f64).sqrt(); // the norm of gradients that are all 1
    // A norm of root / 4 is below the limit of 2: nothing changes.
    assert_eq!(run(Some(2.0)).parameters(0, &[0.25]), run(None).parameters(0, &[0.25]));
    assert_eq!(run(Some(2.0)).parameters(0, &[0.25]), [0.75]);
    // Norms of root and 10 root become 2: the same step for both.
    assert_steps(&run(Some(2.0)).parameters(0, &[1.0]), &[1.0 - 2.0 / root]);
    assert_steps(&run(Some(2.0)).parameters(0, &[10.0, -10.0]), &[1.0 - 2.0 / root, 1.0]);
}

#[test]
fn the_last_rate_holds_past_the_end_of_its_table() {
    let rates = vec![0.5, 0.25, 0.125];
    let run = Run { rule: Rule::Sgd { momentum: 0.0, nesterov: false }, decay: 0.0, rates, clip: None };
    assert_eq!(run.parameters(0, &[1.0; 5]), [0.5, 0.25, 0.125, 0.0, -0.125]);
    assert_eq!(run.parameters(4_000_000_000, &[1.0]), [0.875]);
}

/// Loss of one row at a counter, where the table of λ is 1, 0 and the angle to the target is 60°.
fn loss_at(counter: u32) -> f64 {
    let none = ParameterSet::default();
    let mut plan = PlanBuilder::new(&none);
    let one = Type::u32(Shape::vector(Dim::Length, 1));
    let x = plan.persistent("x", Type::f32(Shape::matrix((Dim::N, 1), (Dim::D, 2))));
    let w = plan.persistent("w", Type::f32(Shape::matrix((Dim::Classes, 2), (Dim::D, 2))));
    let labels = plan.persistent("labels", Type::u32(Shape::vector(Dim::N, 1)));
    let [count, step] = ["count", "step"].map(|name| plan.persistent(name, one.clone()));
    let lambdas = plan.persistent("lambdas", Type::f32(Shape::vector(Dim::Steps, 2)));
    let head = MarginSoftmax::new(2, Arc::new(SphereFace::new(2)), Scale::FeatureNorm);
    let loss = plan.push(MarginSoftmaxForward(head), &[x, w, labels, count, lambdas, step], &[]).unwrap()[0];
    plan.keep(loss, "loss");
    let plan = plan.finish();
    let mut backend = CpuBackend::new(1).unwrap();
    let program = backend.lower(&plan).unwrap();
    let mut reference = Reference::default();
    let mut set = |name: &str, values: &[f32]| {
        backend.upload(name, bytemuck::cast_slice(values)).unwrap();
        reference.set(name, values.iter().copied().map(f64::from).collect());
    };
    set("x", &[1.0, 3f32.sqrt()]); // norm 2
    set("w", &[1.0, 0.0, 0.0, 1.0]);
    set("lambdas", &[1.0, 0.0]);
    backend.upload("count", &1u32.to_le_bytes()).unwrap();
    reference.set("count", vec![1.0]);
    backend.upload("step", &counter.to_le_bytes()).unwrap();
    reference.set("step", vec![f64::from(counter)]);
    backend.run(program, 1).unwrap();
    reference.run(&plan);
    let mut found = [0f32];
    backend.download("loss", bytemuck::cast_slice_mut(&mut found)).unwrap();
    let expected = reference.get("loss").unwrap()[0];
    assert!((f64::from(found[0]) - expected).abs() < 1e-6, "{found:?}, {expected}");
    expected
}

#[test]
fn the_last_lambda_holds_past_the_end_of_its_table() {
    // ψ(60°) with m = 2 is cos 120° = −0.5; the plain cosine is 0.5, the rival's √3 / 2, and the norm is 2.
    let loss = |target: f64| (1.0 + (3f64.sqrt() - 2.0 * target).exp()).ln();
    let halfway = (0.5 - 0.5) / 2.0;
    assert!((loss_at(0) - loss(halfway)).abs() < 1e-6);
    for counter in [1, 2, 1000, u32::MAX] {
        assert!((loss_at(counter) - loss(-0.5)).abs() < 1e-6, "step {counter}");
    }
}
