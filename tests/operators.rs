//! Every operator on the CPU backend against its f64 reference.

use sphereface_models::margin::{ModifiedSoftmax, OriginalSoftmax, SphereFace};
use sphereface_tensor::cpu::CpuBackend;
use sphereface_tensor::op::{Margin, MarginSoftmax, MarginSoftmaxForward, Scale};
use sphereface_tensor::{DType, Dim, Shape, Type};
use sphereface_testkit::cases::{self, Case, Fill};
use sphereface_testkit::{Tolerance, assert_close, check_case, run_case};
use std::sync::Arc;

/// Checks the cases, and those of them that there are in bf16.
fn check(cases: Vec<Case>) {
    let mut backend = CpuBackend::new(2).unwrap();
    let bf16: Vec<Case> = cases.iter().filter_map(Case::in_bf16).collect();
    cases.iter().chain(&bf16).for_each(|case| drop(check_case(case, &mut backend)));
}

#[test]
fn conv2d_matches_reference() {
    check(cases::conv2d());
}

#[test]
fn long_sums_match_reference() {
    check(cases::long_sums());
}

#[test]
fn linear_matches_reference() {
    check(cases::linear());
}

#[test]
fn gemm_matches_reference() {
    check(cases::gemm());
}

#[test]
fn prelu_matches_reference() {
    check(cases::prelu());
}

#[test]
fn elementwise_operators_match_reference() {
    check(cases::elementwise());
}

#[test]
fn optimizer_matches_reference() {
    check(cases::optimizer());
}

#[test]
fn gather_batch_matches_reference() {
    check(cases::gather_batch());
}

#[test]
fn metrics_match_reference() {
    check(cases::metrics());
}

fn heads() -> Vec<(Arc<dyn Margin>, Scale, f64)> {
    let mut heads: Vec<(Arc<dyn Margin>, Scale, f64)> = vec![
        (Arc::new(OriginalSoftmax), Scale::InnerProduct, 0.0),
        (Arc::new(ModifiedSoftmax), Scale::FeatureNorm, 0.0),
        (Arc::new(ModifiedSoftmax), Scale::Constant(10.0), 0.0),
        (Arc::new(SphereFace::new(3)), Scale::Constant(8.0), 1.0),
        (Arc::new(SphereFace::new(2)), Scale::InnerProduct, 0.5),
    ];
    for m in 1..=SphereFace::MAX_M {
        heads.extend(
            [0.0, 5.0].map(|lambda| (Arc::new(SphereFace::new(m)) as Arc<dyn Margin>, Scale::FeatureNorm, lambda)),
        );
    }
    heads
}

#[test]
fn margin_softmax_forward_matches_reference() {
    for (margin, scale, lambda) in heads() {
        check(cases::margin_softmax_forward(&margin, scale, lambda));
    }
}

/// What a logit's error does to its softmax, relative to the largest gradient. The inner product of normal vectors may be
/// wrong by 1e-6 · Σ|x w|, with a mean of 2/π for each of the D products; logits reach 4 √D, and rounding one, or its
/// log-sum-exp, moves it by 2⁻²⁴ of itself.
fn softmax_tolerance(dimension: usize) -> Tolerance {
    let dimension = dimension as f64;
    let product = 1e-6 * std::f64::consts::FRAC_2_PI * dimension;
    let rounding = 4.0 * 4.0 * dimension.sqrt() / f64::from(1 << 24);
    Tolerance::Largest(product + rounding)
}

/// The backward pass on the operands and results of the forward pass.
#[test]
fn margin_softmax_backward_matches_reference() {
    let mut backend = CpuBackend::new(2).unwrap();
    for (margin, scale, lambda) in heads() {
        for forward in cases::margin_softmax_forward(&margin, scale, lambda) {
            let dimension = forward.reads[0].0.shape.last();
            let results = run_case(&forward, &mut backend).unwrap();
            let statistics = [1, 2, 3, 4].map(|written| Fill::Values(results[written].2.values.clone()));
            let backward = cases::margin_softmax_backward_of(&forward, statistics, softmax_tolerance(dimension));
            check_case(&backward, &mut backend);
        }
    }
}

/// Embeddings along, against and between the class weights: cosines of exactly ±1 and 0, and on both sides of ±½, ±√½.
#[test]
fn margin_softmax_matches_reference_at_boundary_cosines() {
    let mut backend = CpuBackend::new(2).unwrap();
    let cosines = [1.0, -1.0, 0.0, 0.5, -0.5, std::f64::consts::FRAC_1_SQRT_2, -std::f64::consts::FRAC_1_SQRT_2];
    let near = cosines.iter().flat_map(|&c| [c, f64::from((c as f32).next_up()), f64::from((c as f32).next_down())]);
    let points: Vec<f64> =
        near.map(|c: f64| c.clamp(-1.0, 1.0)).flat_map(|c| [3.0 * c, 3.0 * (1.0 - c * c).sqrt()]).collect();
    let batch = points.len() / 2;
    for (margin, scale, lambda) in heads() {
        let head = MarginSoftmax { classes: 2, margin, scale };
        let values = |shape, values| (Type::f32(shape), Fill::Values(values));
        let row = Shape::vector(Dim::N, batch);
        let one = |value: f64| (Type::u32(Shape::vector(Dim::Length, 1)), Fill::Constant(value));
        let reads = vec![
            values(Shape::matrix((Dim::N, batch), (Dim::D, 2)), points.clone()),
            values(Shape::matrix((Dim::Classes, 2), (Dim::D, 2)), vec![1.0, 0.0, 0.0, -0.5]),
            (Type::u32(row), Fill::Constant(0.0)),
            one(batch as f64),
            (Type::f32(Shape::vector(Dim::Steps, 1)), Fill::Constant(lambda)),
            one(0.0),
        ];
        let tolerance = Tolerance::Largest(1e-6);
        let name = format!("margin_softmax {head:?} λ {lambda}");
        let op = MarginSoftmaxForward(head).into();
        let forward = Case { name: name.clone(), op, reads, updates: vec![], tolerance };
        let results = run_case(&forward, &mut backend).unwrap();
        // Whether a tie counts as a miss is a matter of the last bit here, so hits are left out.
        for (kind, found, expected, _) in &results[..5] {
            assert_close(&format!("{name} {kind}"), kind.dtype, &found.values, &expected.values, &[], tolerance);
        }
        let statistics = [1, 2, 3, 4].map(|written| Fill::Values(results[written].2.values.clone()));
        check_case(&cases::margin_softmax_backward_of(&forward, statistics, tolerance), &mut backend);
    }
}

#[test]
fn the_comparator_sees_a_single_wrong_element() {
    let case = &cases::conv2d()[0];
    let mut backend = CpuBackend::new(1).unwrap();
    let (_, found, expected, magnitude) = run_case(case, &mut backend).unwrap().remove(0);
    let mut wrong = found.values.clone();
    wrong[7] += 1e-3;
    let compare = |values: &[f64]| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            assert_close("planted", DType::F32, values, &expected.values, &magnitude.values, case.tolerance)
        }))
    };
    assert!(compare(&found.values).is_ok() && compare(&wrong).is_err());
}
