//! Every operator on the CPU backend against its f64 reference.

use sphereface_models::margin::OriginalSoftmax;
use sphereface_tensor::cpu::CpuBackend;
use sphereface_tensor::op::Scale;
use sphereface_tensor::{Cosine, DType};
use sphereface_testkit::cases::{self, Case, Fill};
use sphereface_testkit::{HeadCase, HeadProducts, Tolerance, assert_close, check_case, run_case};

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

/// By both algorithms: fewer products are held to the same bound.
#[test]
fn winograd_matches_reference() {
    let mut exact = CpuBackend::new(2).unwrap().with_exact_conv();
    let mut default = CpuBackend::new(2).unwrap();
    for case in cases::winograd() {
        check_case(&case, &mut exact);
        check_case(&case, &mut default);
        let of = |backend: &mut CpuBackend| run_case(&case, backend).unwrap().swap_remove(0).1.values;
        assert_ne!(of(&mut exact), of(&mut default), "{}: computed in the same way", case.name);
    }
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
    for head in HeadCase::all() {
        let mut backend = CpuBackend::new(2).unwrap(); // a backend keeps the operands of all that it has run
        for sizes in cases::HEADS {
            head.check(sizes, &mut backend);
        }
    }
}

/// With kept cosines, with directions rounded to bf16, and with both.
#[test]
fn margin_softmax_in_every_form_matches_reference() {
    let mut backend = CpuBackend::new(2).unwrap();
    let forms = [(true, HeadProducts::Exact), (false, HeadProducts::Rounded), (true, HeadProducts::Rounded)];
    for (kept, products) in forms {
        for head in HeadCase::all().into_iter().filter(|head| head.head.is_plain() || !kept) {
            let head = HeadCase { kept, products, ..head };
            head.check([1100, 12, 40, 39], &mut backend); // more than one of its tiles
            head.check_boundary_cosines(40, &mut backend);
        }
    }
}

/// A cosine that is kept is wrong by half a step at most, its softmax by that of it that the scale makes of it. Sums of
/// such errors, each of its own sign, stay below twice their share of the largest gradient.
#[test]
fn kept_cosines_change_gradients_by_no_more_than_their_steps() {
    let scale = 64.0f32;
    let head = HeadCase::new(OriginalSoftmax, Scale::Constant(scale), 0.0);
    let forward = cases::margin_softmax_forward_of(&head.head, 0.0, [500, 32, 16, 16]);
    let mut backend = CpuBackend::new(2).unwrap();
    let mut gradients = |forward: &Case| {
        let found = run_case(forward, &mut backend).unwrap();
        let mut statistics: Vec<usize> = vec![1, 2, 3, 4];
        statistics.extend((found.len() > 6).then_some(6));
        let statistics = statistics.iter().map(|&i| Fill::Values(found[i].1.values.clone())).collect();
        let backward = cases::margin_softmax_backward_of(forward, statistics, forward.tolerance);
        run_case(&backward, &mut backend).unwrap().into_iter().map(|(_, found, ..)| found.values).collect::<Vec<_>>()
    };
    let (exact, kept) = (gradients(&forward), gradients(&forward.clone().with_kept_cosines()));
    let bound = 2.0 * f64::from(scale * 0.5 / f32::from(Cosine::STEPS)).exp_m1();
    for (exact, kept) in exact.iter().zip(&kept) {
        assert_close("kept", DType::F32, kept, exact, &[], Tolerance::Largest(bound));
        assert_ne!(exact, kept);
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
