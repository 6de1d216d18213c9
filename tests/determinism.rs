//! The same seed gives the same bits, for any number of threads; evaluation counts each image once.

use sphereface_models::{ImageSource, LOG, loss, named_network};
use sphereface_tensor::cpu::CpuBackend;
use sphereface_tensor::op::METRICS;
use sphereface_tensor::{Backend, PARAMETERS};
use sphereface_testkit::TrainingCase;

/// A-Softmax on the network of the MNIST comparison with an embedding of two values.
fn mnist(classes: usize, batch: usize) -> TrainingCase {
    let network = named_network("mnist").unwrap().network([28, 28, 1], 2);
    TrainingCase::new(network, loss("sphereface").unwrap(), classes, 50, batch)
}

fn bits(backend: &mut CpuBackend, name: &str, length: usize) -> Vec<u32> {
    let mut bits = vec![0u32; length];
    backend.download(name, bytemuck::cast_slice_mut(&mut bits)).unwrap();
    bits
}

/// Bits of the parameters and of the log after ten steps.
fn trained(case: &TrainingCase, threads: usize) -> [Vec<u32>; 2] {
    let (parameters, plan) = case.plan().unwrap();
    let mut backend = CpuBackend::new(threads).unwrap();
    let program = backend.lower(&plan).unwrap();
    case.upload(&parameters, &mut backend).unwrap();
    backend.run(program, 10).unwrap();
    let trained = bits(&mut backend, PARAMETERS, parameters.length());
    assert!(trained.iter().all(|&bits| f32::from_bits(bits).is_finite()));
    [trained, bits(&mut backend, LOG, case.training.log_rows * METRICS.len())]
}

#[test]
fn any_number_of_threads_trains_the_same_bits() {
    // Batches on both sides of the limit from which a pixel is a task; a head of one tile of classes, and of three.
    for (classes, batch) in [(10, 33), (10, 8), (2500, 33)] {
        let case = mnist(classes, batch);
        let one = trained(&case, 1);
        for threads in [1, 2, 8] {
            assert!(trained(&case, threads) == one, "{classes} classes, batch {batch}, {threads} threads");
        }
    }
}

#[test]
fn a_program_gives_the_same_bits_when_it_starts_again() {
    let case = mnist(10, 8);
    let (parameters, plan) = case.plan().unwrap();
    let mut backend = CpuBackend::new(2).unwrap();
    let program = backend.lower(&plan).unwrap();
    let mut run = || {
        case.upload(&parameters, &mut backend).unwrap();
        backend.upload("step", &[0; 4]).unwrap();
        backend.upload("momentum", &vec![0; 4 * parameters.length()]).unwrap();
        backend.run(program, 5).unwrap();
        bits(&mut backend, PARAMETERS, parameters.length())
    };
    let first = run();
    assert!(run() == first);
    // Ten runs of one step are one run of ten.
    (0..5).for_each(|_| backend.run(program, 1).unwrap());
    let [ten, _] = trained(&case, 2);
    assert!(bits(&mut backend, PARAMETERS, parameters.length()) == ten);
}

#[test]
fn timed_runs_give_the_same_bits_and_name_every_step() {
    let case = mnist(10, 8);
    let (parameters, plan) = case.plan().unwrap();
    let mut backend = CpuBackend::new(2).unwrap();
    let program = backend.lower(&plan).unwrap();
    case.upload(&parameters, &mut backend).unwrap();
    for run in 0..10 {
        if run % 3 == 1 {
            backend.run(program, 1).unwrap();
            continue;
        }
        let timed = backend.run_timed(program).unwrap();
        let named: Vec<(&str, &str)> = timed.iter().map(|step| (step.label.as_str(), step.op)).collect();
        let steps: Vec<(&str, &str)> = plan.steps.iter().map(|step| (step.label.as_str(), step.op.name())).collect();
        assert_eq!(named, steps);
        assert!(timed.iter().any(|step| !step.time.is_zero()));
    }
    let log = bits(&mut backend, LOG, case.training.log_rows * METRICS.len());
    assert!([bits(&mut backend, PARAMETERS, parameters.length()), log] == trained(&case, 2));
}

#[test]
fn another_seed_trains_other_bits() {
    let case = mnist(10, 8);
    let mut other = case.clone();
    other.training.seed += 1;
    let [first, second] = [&case, &other].map(|case| trained(case, 2));
    assert!(first[0] != second[0] && first[1] != second[1]);
    // The order of the images alone makes a difference too, from the same initial values.
    let mut reordered = case.clone();
    reordered.training.augmentation.shift = 0;
    assert!(trained(&reordered, 2)[0] != first[0]);
}

/// Rows, and hits by logits, cosines and penalised logits, summed over the log of an evaluation in batches.
fn evaluated(case: &TrainingCase, batch: usize, threads: usize) -> ([usize; 4], f64) {
    let source = ImageSource { name: "test", images: case.labels.len() };
    let parameters = case.model.parameters().unwrap();
    let training = case.model.training_plan(&parameters, &case.training).unwrap();
    let evaluation = case.model.evaluation_plan(&parameters, source, batch, case.training.steps).unwrap();
    let mut backend = CpuBackend::new(threads).unwrap();
    let [training, evaluation] = [training, evaluation].map(|plan| backend.lower(&plan).unwrap());
    case.upload(&parameters, &mut backend).unwrap();
    backend.upload(&source.images_buffer(), &case.images).unwrap();
    backend.upload(&source.labels_buffer(), &case.labels).unwrap();
    backend.run(training, 10).unwrap();
    backend.run(evaluation, source.batches(batch)).unwrap();
    let log = bits(&mut backend, &source.log_buffer(), source.batches(batch) * METRICS.len());
    let sum = |column: &str| -> f64 {
        let column = METRICS.iter().position(|name| *name == column).unwrap();
        log.chunks(METRICS.len()).map(|row| f64::from(f32::from_bits(row[column]))).sum()
    };
    (["rows", "hits_logits", "hits_cosines", "hits_penalised"].map(|column| sum(column) as usize), sum("loss"))
}

#[test]
fn evaluation_counts_each_image_once_in_batches_of_any_size() {
    let case = mnist(10, 8);
    let ([rows, hits @ ..], loss) = evaluated(&case, 1, 1);
    assert_eq!(rows, 50);
    assert!(hits[0] > 5, "{hits:?}"); // ten steps learn something of fifty images
    for (batch, threads) in [(7, 2), (33, 1), (49, 2), (50, 1), (64, 2)] {
        // Another batch sums in another order, so losses differ by rounding; a hit would only where two logits tie.
        let (counts, other_loss) = evaluated(&case, batch, threads);
        assert_eq!(counts, [50, hits[0], hits[1], hits[2]], "batch {batch}");
        assert!((other_loss - loss).abs() <= 1e-5 * loss, "batch {batch}: {other_loss}, expected {loss}");
    }
}
