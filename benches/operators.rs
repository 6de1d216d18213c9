//! Operators of the MNIST network and of SphereFace-20, one by one, on all cores.
//!
//! Products report elements a second, where an element is a useful floating-point operation: `Gelem/s` reads GFLOP/s,
//! padding not counted. Operators that mostly move memory report bytes a second, each operand moved once; the gathering of
//! batches reports images a second.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sphereface_models::{LayerKind, loss, named_network};
use sphereface_tensor::Backend;
use sphereface_tensor::cpu::CpuBackend;
use sphereface_tensor::op::{Conv2dBackwardData, Conv2dBackwardWeight, Conv2dForward, Op, Rule};
use sphereface_testkit::cases::{self, Case, Fill};
use sphereface_testkit::prepare_case;
use std::time::Duration;

/// A pass of the convolution: its name, and whether an operator is it.
type Pass = (&'static str, fn(&Op) -> bool);

/// What a group's throughput counts.
#[derive(Clone, Copy)]
enum Count {
    Flops,
    Bytes,
    Items(u64),
}

fn bench(criterion: &mut Criterion, group: &str, count: Count, cases: &[(String, Case)]) {
    let mut group = criterion.benchmark_group(group);
    for (name, case) in cases {
        let mut backend = CpuBackend::new(0).expect("threads");
        let prepared = prepare_case(case, &mut backend).expect("a case that the operator tests run");
        let cost = prepared.plan.cost(prepared.step());
        group.throughput(match count {
            Count::Flops => Throughput::Elements(cost.flops.useful),
            Count::Bytes => Throughput::Bytes(cost.bytes),
            Count::Items(items) => Throughput::Elements(items),
        });
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            // All repetitions are one run: the threads are woken once, as in a training.
            bencher.iter_custom(|repetitions| {
                let start = std::time::Instant::now();
                backend.run(prepared.program, repetitions as usize).expect("a run");
                start.elapsed()
            });
        });
    }
    group.finish();
}

/// Each convolution of a network on MNIST's images, as a training step runs it.
fn convolutions(criterion: &mut Criterion) {
    for (key, batch) in [("mnist", 128), ("sphereface20", 32)] {
        let network = named_network(key).expect("a named network").network([28, 28, 1], 2);
        let mut shapes = Vec::new();
        for layer in network.layers() {
            let LayerKind::Conv2d { stride, .. } = layer.kind else { continue };
            let ([height, width, inputs], outputs) = (layer.input, layer.output[2]);
            let shape = [height, width, batch, inputs, outputs, 3, stride, 1];
            if !shapes.contains(&shape) {
                shapes.push(shape);
            }
        }
        let passes: [Pass; 3] = [
            ("conv2d_forward", |op| matches!(op, Op::Conv2dForward(Conv2dForward { keep: true, residual: false, .. }))),
            ("conv2d_backward_data", |op| {
                matches!(op, Op::Conv2dBackwardData(Conv2dBackwardData { addend: false, slope: false, .. }))
            }),
            ("conv2d_backward_weight", |op| {
                matches!(op, Op::Conv2dBackwardWeight(Conv2dBackwardWeight { bias: false, .. }))
            }),
        ];
        for (pass, is_pass) in passes {
            let cases: Vec<(String, Case)> = shapes
                .iter()
                .filter(|[_, _, _, inputs, ..]| pass != "conv2d_backward_data" || *inputs > 1)
                .filter_map(|&shape| {
                    let [height, width, _, inputs, outputs, _, stride, _] = shape;
                    let name = format!("{height}x{width}x{inputs}-{outputs}/{stride}");
                    let case = cases::conv2d_passes(shape).into_iter().find(|case| is_pass(&case.op))?;
                    Some((name, case))
                })
                .collect();
            bench(criterion, &format!("{pass} {key} N{batch}"), Count::Flops, &cases);
        }
    }
}

/// The head of MNIST and one for many faces.
fn heads(criterion: &mut Criterion) {
    for sizes @ [classes, dimension, batch, _] in [[10, 2, 128, 128], [10_572, 512, 64, 64]] {
        let forward = cases::margin_softmax_forward_of(&loss("sphereface").expect("a loss").head(classes), 5.0, sizes);
        // Logits of normal vectors have the size of √D: this sum keeps their exponentials finite and above zero.
        let root = (dimension as f64).sqrt();
        let statistics = [4.0 * root, 0.0, root, 1.0 / root].map(Fill::Constant).to_vec();
        let backward = cases::margin_softmax_backward_of(&forward, statistics, forward.tolerance);
        let cases = [("forward".into(), forward), ("backward".into(), backward)];
        bench(criterion, &format!("margin_softmax C{classes} D{dimension} N{batch}"), Count::Flops, &cases);
    }
}

/// PReLU's gradient, batches from MNIST, and the update of all parameters of both networks.
fn element_wise(criterion: &mut Criterion) {
    let mut all = Vec::new();
    for [height, width, batch, channels] in [[14, 14, 128, 16], [14, 14, 32, 64], [2, 2, 32, 512]] {
        let name = format!("prelu_backward {height}x{width}x{channels} N{batch}");
        all.push((name, cases::prelu_backward([height, width, batch, channels])));
    }
    let sgd = Rule::Sgd { momentum: 0.9, nesterov: true };
    let adam = Rule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decoupled: true };
    for (rule, name) in [(sgd, "sgd"), (adam, "adamw")] {
        for key in ["mnist", "sphereface20"] {
            let length = named_network(key).expect("a named network").network([28, 28, 1], 2).parameter_count();
            all.push((format!("optimizer {name} {key}"), cases::optimizer_of(rule, None, length)));
        }
    }
    bench(criterion, "element-wise", Count::Bytes, &all);
    let gather = cases::gather_batch_of([28, 28, 1], 128, 10_000);
    bench(criterion, "gather_batch", Count::Items(128), &[("28x28x1 N128".into(), gather)]);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = convolutions, heads, element_wise
}
criterion_main!(benches);
