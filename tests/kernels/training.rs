//! Whole trainings on the emulated device: plan, arena, launches, graphs and kernels together.

use crate::backend;
use sphereface_cuda::{Arena, Options, Precision, Tier};
use sphereface_models::{LOG, LOSSES, Network, STEP};
use sphereface_tensor::op::{Gemm, Gradient, Layout, METRICS, Op};
use sphereface_tensor::{Backend, PARAMETERS};
use sphereface_testkit::cases::{conv2d_passes, gemm_case};
use sphereface_testkit::{TrainingCase, prepare_case};

/// Steps that are trained.
const STEPS: usize = 3;

/// The shape of SphereFace-4 with a residual unit, on tiny images.
fn case(loss: usize) -> TrainingCase {
    let network = Network::input([9, 8, 1]).stage(8, 1).stage(16, 0).linear(3);
    TrainingCase::new(network, LOSSES[loss], 10, 40, 6)
}

/// Losses of a few steps and the parameters after them, if there is an emulated device.
fn train(case: &TrainingCase, options: Options) -> Option<(Vec<f32>, Vec<f32>)> {
    let mut backend = backend(options)?;
    let (parameters, plan) = case.plan().unwrap();
    let program = backend.lower(&plan).unwrap();
    case.upload(&parameters, &mut backend).unwrap();
    backend.run(program, STEPS).unwrap();
    let mut log = vec![0.0f32; case.training.log_rows * METRICS.len()];
    backend.download(LOG, bytemuck::cast_slice_mut(&mut log)).unwrap();
    let mut trained = vec![0.0f32; parameters.length()];
    backend.download(PARAMETERS, bytemuck::cast_slice_mut(&mut trained)).unwrap();
    Some((log.chunks(METRICS.len()).take(STEPS).map(|row| row[1]).collect(), trained))
}

/// Losses of the same steps in f64.
fn reference(case: &TrainingCase) -> Vec<f64> {
    let (parameters, plan) = case.plan().unwrap();
    let mut reference = case.reference(&parameters);
    (0..STEPS).for_each(|_| drop(reference.run(&plan)));
    reference.get(LOG).unwrap().chunks(METRICS.len()).take(STEPS).map(|row| row[1]).collect()
}

fn assert_losses(found: &[f32], expected: &[f64], tolerance: f64) {
    for (found, expected) in found.iter().zip(expected) {
        let error = (f64::from(*found) - expected).abs() / expected;
        assert!(error <= tolerance, "loss {found}, expected {expected}, off by {error:e}");
    }
}

#[test]
fn every_loss_trains_as_the_reference_does() {
    let mut cases: Vec<TrainingCase> = (0..LOSSES.len()).map(case).collect();
    let mut caffe = case(2);
    caffe.model.head.gradient = Gradient::Caffe;
    cases.push(caffe);
    for case in cases {
        let Some((losses, _)) = train(&case, Options::default()) else { return };
        assert_losses(&losses, &reference(&case), 1e-5);
    }
}

#[test]
fn timed_runs_do_what_graphs_do() {
    let case = case(2);
    let Some((_, expected)) = train(&case, Options::default()) else { return };
    let Some(mut backend) = backend(Options::default()) else { return };
    let (parameters, plan) = case.plan().unwrap();
    let program = backend.lower(&plan).unwrap();
    case.upload(&parameters, &mut backend).unwrap();
    for _ in 0..STEPS - 1 {
        let timed = backend.run_timed(program).unwrap();
        let labels = |step: &sphereface_tensor::Step| step.label.clone();
        assert_eq!(
            timed.iter().map(|step| step.label.clone()).collect::<Vec<_>>(),
            plan.steps.iter().map(labels).collect::<Vec<_>>()
        );
    }
    backend.run(program, 1).unwrap();
    let mut trained = vec![0.0f32; parameters.length()];
    backend.download(PARAMETERS, bytemuck::cast_slice_mut(&mut trained)).unwrap();
    assert!(trained == expected);
}

#[test]
fn graphs_arenas_and_tiers_of_fp32_do_not_change_a_bit() {
    let case = case(2);
    let Some(expected) = train(&case, Options::default()) else { return };
    for options in [
        Options::default(),
        Options { graph: false, ..Options::default() },
        Options { arena: Arena::Separate, ..Options::default() },
        Options { tier: Tier::Simt, ..Options::default() },
    ] {
        assert_eq!(train(&case, options), Some(expected.clone()), "{options:?}");
    }
}

/// An update keeps up the bf16 copies of parameters, so that they are made by the first step only, and again after
/// parameters came from outside.
#[test]
fn copies_of_parameters_are_made_again_where_something_else_changed_them() {
    let case = case(2);
    let (parameters, plan) = case.plan().unwrap();
    let casts = plan.narrowed().unwrap().steps.iter().filter(|step| matches!(step.op, Op::Cast(_))).count() as u64;
    let bf16 = Options { precision: Precision::Bf16, ..Options::default() };
    for options in [bf16, Options { graph: false, ..bf16 }] {
        let Some(mut backend) = backend(options) else { return };
        let program = backend.lower(&plan).unwrap();
        let mut results = Vec::new();
        for run in 1..=3 {
            case.upload(&parameters, &mut backend).unwrap();
            backend.upload(STEP, &[0; 4]).unwrap();
            backend.upload("momentum", &vec![0; 4 * parameters.length()]).unwrap();
            backend.run(program, STEPS).unwrap();
            let mut trained = vec![0.0f32; parameters.length()];
            backend.download(PARAMETERS, bytemuck::cast_slice_mut(&mut trained)).unwrap();
            results.push(trained);
            // What a graph replays is not counted: the first run and the capture are.
            let steps = if options.graph { 2 } else { run * STEPS as u64 };
            assert_eq!(backend.driver().launches["cast_bf16"], run + steps * (casts - 1), "{options:?}");
        }
        assert!(results[1..].iter().all(|result| *result == results[0]), "{options:?}");
    }
}

#[test]
fn lower_precisions_train_close_to_the_reference() {
    let case = case(2);
    let expected = reference(&case);
    for (precision, tolerance) in [(Precision::Tf32, 2e-3), (Precision::Bf16, 3e-2)] {
        let Some((losses, _)) = train(&case, Options { precision, ..Options::default() }) else { return };
        assert_losses(&losses, &expected, tolerance);
    }
}

/// A head of many classes, whose operands bf16 rounds, and whose cosines are kept or not.
#[test]
fn a_head_of_many_classes_trains_close_to_the_reference_in_every_form() {
    let network = || Network::input([9, 8, 1]).stage(8, 1).stage(16, 0).linear(3);
    let case = TrainingCase::new(network(), LOSSES[2], 200, 40, 6);
    let expected = reference(&case);
    for (precision, tolerance) in [(Precision::Fp32, 1e-5), (Precision::Tf32, 2e-3), (Precision::Bf16, 3e-2)] {
        for case in [case.clone(), case.clone().with_kept_cosines()] {
            let Some((losses, _)) = train(&case, Options { precision, ..Options::default() }) else { return };
            assert_losses(&losses, &expected, tolerance);
        }
    }
}

#[test]
fn plans_lowered_before_run_on_when_memory_is_short_for_another() {
    let Some(mut backend) = backend(Options::default()) else { return };
    let small = prepare_case(&gemm_case(Gemm::plain(Layout::NN), [8, 16, 9000]), &mut backend).unwrap();
    let out = &small.plan.buffer(small.step().writes[0]).name;
    let mut results = [[0.0f32; 8 * 16]; 3];
    backend.run(small.program, 1).unwrap();
    backend.download(out, bytemuck::cast_slice_mut(&mut results[0])).unwrap();
    // Room for each operand, not for the partial sums of all splits.
    backend.driver_mut().most_bytes = 200_000;
    let Some(large) = conv2d_passes([16, 16, 16, 8, 8, 9, 1, 4]).pop() else { panic!("a gradient of a filter") };
    let error = prepare_case(&large, &mut backend).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("activations") && error.contains("out of memory"), "{error}");
    for result in &mut results[1..] {
        backend.run(small.program, 1).unwrap();
        backend.download(out, bytemuck::cast_slice_mut(result)).unwrap();
    }
    assert_eq!([results[1], results[2]], [results[0]; 2], "after a new arena, and replayed");
}
