//! What the roofline says of whole training plans, against what a backend does with them.

use sphereface_models::{ImageSource, Model, Training, loss, named_network};
use sphereface_tensor::cpu::{Allocated, CpuBackend};
use sphereface_tensor::op::{Augmentation, Rule};
use sphereface_tensor::roofline::{MACHINES, Machine, Precision, Prediction};
use sphereface_tensor::{Backend, Plan};

/// Bytes of a cache line, to which the CPU backend aligns.
const LINE: usize = 64;

fn plan(key: &str, classes: usize, batch: usize) -> Plan {
    let network = named_network(key).unwrap().network([28, 28, 1], 64);
    let model = Model { network, head: loss("sphereface").unwrap().head(classes) };
    let training = Training {
        source: ImageSource { name: "train", images: 100 },
        batch,
        steps: 1,
        seed: 1,
        augmentation: Augmentation::default(),
        rule: Rule::Sgd { momentum: 0.9, nesterov: true },
        decay: 5e-4,
        clip: None,
        log_rows: 1,
    };
    model.training_plan(&model.parameters().unwrap(), &training).unwrap()
}

fn predict(plan: &Plan, machine: &Machine, precision: Precision) -> Prediction {
    plan.predict(machine, precision).unwrap()
}

#[test]
fn predicted_memory_is_what_the_cpu_backend_allocates() {
    for (key, classes, batch) in [("mnist", 10, 32), ("mnist", 3000, 7), ("sphereface4", 10, 16)] {
        for precision in [Precision::Fp32, Precision::Bf16] {
            let plan = plan(key, classes, batch);
            let prediction = predict(&plan, &MACHINES[0].1, precision);
            let backend = CpuBackend::new(1).unwrap();
            let mut backend = if precision == Precision::Bf16 { backend.in_bf16() } else { backend };
            backend.lower(&plan).unwrap();
            let Allocated { persistent, arena, scratch } = backend.allocated();
            let lines = |bytes: usize| bytes.next_multiple_of(LINE);
            let expected: usize = prediction.persistent.iter().map(|(_, bytes)| lines(*bytes)).sum();
            assert_eq!(persistent, expected, "{key} {precision}");
            // Scratch memory is the backend's own affair: at most what one step has is added, and the ends of lines.
            let most = prediction.arena + lines(scratch) + LINE * plan.buffers.len();
            assert!((prediction.arena..=most).contains(&arena), "{key} {precision}: {arena}, {prediction:?}");
        }
    }
}

#[test]
fn machines_with_more_of_everything_take_less_time() {
    for key in ["mnist", "sphereface20"] {
        let plan = plan(key, 10_572, 64);
        let seconds = |index: usize, precision| predict(&plan, &MACHINES[index].1, precision).seconds();
        let [h100, h200, a100] = [0, 1, 2];
        for (_, precision) in Precision::NAMED {
            assert!(seconds(h200, precision) < seconds(h100, precision), "{key} {precision}: more bandwidth");
            assert!(seconds(h100, precision) < seconds(a100, precision), "{key} {precision}: more of both");
        }
        assert!(seconds(h100, Precision::Bf16) < seconds(h100, Precision::Fp32), "{key}");
    }
}

/// Larger steps amortise what a step costs anyway, and no step is faster than its floor.
#[test]
fn time_grows_with_the_batch_and_never_falls_below_arithmetic_or_traffic() {
    let machine = &MACHINES[0].1;
    let mut before = 0.0;
    for batch in [1, 8, 64] {
        let plan = plan("sphereface20", 1000, batch);
        let prediction = predict(&plan, machine, Precision::Fp32);
        let (seconds, cost) = (prediction.seconds(), plan.total_cost());
        assert!(seconds > before);
        assert!(seconds >= cost.flops.useful as f64 / machine.fp32);
        assert!(seconds >= cost.bytes as f64 / machine.bandwidth);
        assert_eq!(prediction.steps.len(), plan.steps.len());
        before = seconds;
    }
}
