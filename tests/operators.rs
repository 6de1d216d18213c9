//! Every operator on the CPU backend against its f64 reference.

use sphereface_tensor::DType;
use sphereface_tensor::cpu::CpuBackend;
use sphereface_testkit::cases::{self, Case};
use sphereface_testkit::{HeadCase, assert_close, check_case, run_case};

/// Checks the cases, and those of them that there are in bf16.
fn check(cases: Vec<Case>) {
    let mut backend = CpuBackend::new(2).unwrap();
    let bf16: Vec<Case> = cases.iter().filter_map(Case::in_bf16).collect();
    cases.iter().chain(&bf16).for_each(|case| _ = check_case(case, &mut backend));
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

#[test]
fn margin_softmax_matches_reference() {
    let mut backend = CpuBackend::new(2).unwrap();
    for head in HeadCase::all() {
        for sizes in cases::HEADS {
            head.check(sizes, &mut backend);
        }
    }
}

#[test]
fn margin_softmax_matches_reference_at_boundary_cosines() {
    let mut backend = CpuBackend::new(2).unwrap();
    for head in HeadCase::all() {
        head.check_boundary_cosines(2, &mut backend);
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
