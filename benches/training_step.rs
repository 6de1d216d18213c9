//! Whole training steps on all cores, from gathering the batch to the updated parameters, in images a second.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sphereface_models::{loss, named_network};
use sphereface_tensor::Backend;
use sphereface_tensor::cpu::CpuBackend;
use sphereface_testkit::TrainingCase;
use std::time::{Duration, Instant};

fn training_steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("training_step");
    for (key, batch) in [("mnist", 128), ("sphereface20", 32)] {
        let network = named_network(key).expect("a named network").network([28, 28, 1], 2);
        let mut case = TrainingCase::new(network, loss("sphereface").expect("a loss"), 10, 1024, batch);
        // The last rate holds for all the steps a bench takes: it is too small to lead anywhere.
        case.rates = vec![1e-6; case.rates.len()];
        let (parameters, plan) = case.plan().expect("a network for these images");
        let mut backend = CpuBackend::new(0).expect("threads");
        let program = backend.lower(&plan).expect("a plan of known operators");
        case.upload(&parameters, &mut backend).expect("buffers of the plan");
        group.throughput(Throughput::Elements(batch as u64)); // an element is an image
        group.bench_function(BenchmarkId::from_parameter(format!("{key} N{batch}")), |bencher| {
            bencher.iter_custom(|steps| {
                let start = Instant::now();
                backend.run(program, steps as usize).expect("a run");
                start.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = training_steps
}
criterion_main!(benches);
