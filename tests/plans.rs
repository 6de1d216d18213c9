//! Plans of whole trainings: against the reference, fused and unfused, their lifetimes and how they print.

use sphereface_models::{ImageSource, LOG, LOSSES, Loss, Model, NETWORKS, Network, OF_THE_PAPER, loss, named_network};
use sphereface_tensor::arena::{Request, assign};
use sphereface_tensor::cpu::CpuBackend;
use sphereface_tensor::op::{
    Add, Cast, Conv2dBackwardData, Conv2dForward, FEW_CLASSES, Gradient, METRICS, Op, PreluBackward, PreluForward,
};
use sphereface_tensor::{
    Backend, Buffer, BufferId, DType, Dim, GRADIENTS, Init, PARAMETERS, ParameterSet, Place, Plan, PlanBuilder,
    Reference, Shape, Step, Type,
};
use sphereface_testkit::workload::losses;
use sphereface_testkit::{Tolerance, TrainingCase, assert_close};

fn download(backend: &mut CpuBackend, name: &str, length: usize) -> Vec<f32> {
    let mut values = vec![0.0f32; length];
    backend.download(name, bytemuck::cast_slice_mut(&mut values)).unwrap();
    values
}

/// The network of the MNIST comparison, and one of SphereFace-4's shape with few channels, on tiny images.
fn tiny_networks() -> Vec<Network> {
    let mnist = named_network("mnist").unwrap();
    let sphereface4 = Network::input([11, 9, 2]).stage(4, 0).stage(6, 0).stage(8, 0).stage(10, 0).linear(5);
    vec![mnist.network([12, 12, 1], 2), mnist.network([12, 12, 1], 3), sphereface4]
}

/// `‖found − expected‖ ≤ tolerance · ‖expected‖`.
fn assert_norm_close(name: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let error = norm(&mut found.iter().zip(expected).map(|(&found, expected)| f64::from(found) - expected));
    let size = norm(&mut expected.iter().copied());
    assert!(found.len() == expected.len() && size > 0.0 && size.is_finite(), "{name}: norm {size}");
    assert!(error <= tolerance * size, "{name}: error {:e} of the norm", error / size); // NaN fails
}

/// Single steps are compared element by element elsewhere. Here rounding passes through some twenty operators, three
/// updates and the margin's slope (up to m² = 16 times a cosine's error), so norms are compared: 1e-4 is a hundred
/// times what an element of one operator may be off, and far below what a missing term would do.
const COMPOSITION: f64 = 1e-4;

#[test]
fn three_training_steps_match_the_reference_for_every_loss() {
    for network in tiny_networks() {
        let case = |loss: &Loss| TrainingCase::new(network.clone(), loss, 10, 7, 3);
        // The authors' layer, which changes class weights before each step.
        let mut caffe = case(OF_THE_PAPER[2]);
        caffe.model.head.gradient = Gradient::Caffe;
        let cases = LOSSES.map(|loss| (loss.key, case(loss)));
        for (key, case) in cases.into_iter().chain([("caffe", caffe)]) {
            let (parameters, plan) = case.plan().unwrap();
            let mut backend = CpuBackend::new(2).unwrap();
            let program = backend.lower(&plan).unwrap();
            case.upload(&parameters, &mut backend).unwrap();
            let mut reference = case.reference(&parameters);
            for step in 0..3 {
                backend.run(program, 1).unwrap();
                reference.run(&plan);
                for parameter in parameters.iter() {
                    let name = format!("{key} step {step} {}", parameter.name);
                    let value = download(&mut backend, &parameter.name, parameter.shape.elements());
                    assert_norm_close(
                        &name,
                        &value,
                        &reference.get(PARAMETERS).unwrap()[parameter.range()],
                        COMPOSITION,
                    );
                }
                // Gradients of one parameter may cancel to almost nothing: the whole block is compared.
                let gradients = download(&mut backend, GRADIENTS, parameters.length());
                let name = format!("{key} step {step} gradients");
                assert_norm_close(&name, &gradients, reference.get(GRADIENTS).unwrap(), COMPOSITION);
                let row = step * METRICS.len()..(step + 1) * METRICS.len();
                let log = download(&mut backend, LOG, case.training.log_rows * METRICS.len())[row.clone()].to_vec();
                let expected = &reference.get(LOG).unwrap()[row];
                for ((column, &found), &expected) in METRICS.iter().zip(&log).zip(expected) {
                    // Rows and hits are counts: they are equal.
                    let counts = *column == "rows" || column.starts_with("hits");
                    let tolerance = if counts { Tolerance::Exact } else { Tolerance::Largest(COMPOSITION) };
                    let name = format!("{key} step {step} {column}");
                    assert_close(&name, DType::F32, &[f64::from(found)], &[expected], &[], tolerance);
                }
            }
        }
    }
}

fn small_training() -> TrainingCase {
    TrainingCase::new(Network::input([6, 5, 1]).stage(3, 1).linear(2), loss("sphereface").unwrap(), 4, 6, 3)
}

/// The operator with what is fused into it.
fn summary(step: &Step) -> String {
    match &step.op {
        Op::Conv2dForward(conv) => {
            let flags = [(conv.slope, "+prelu"), (conv.residual, "+add"), (conv.keep, ", kept")];
            flags.iter().filter(|(set, _)| *set).fold("conv2d_forward".into(), |name, (_, flag)| name + flag)
        }
        Op::Conv2dBackwardData(conv) => {
            let flags = [(conv.addend, "+add"), (conv.slope, "+prelu"), (conv.keep, ", kept")];
            flags.iter().filter(|(set, _)| *set).fold("conv2d_backward_data".into(), |name, (_, flag)| name + flag)
        }
        op => op.name().into(),
    }
}

#[test]
fn training_fuses_convolution_prelu_and_sum_and_keeps_what_the_backward_pass_reads() {
    let (_, plan) = small_training().plan().unwrap();
    let steps: Vec<String> = plan.steps.iter().map(summary).collect();
    assert_eq!(
        steps,
        [
            "gather_batch",
            "conv2d_forward+prelu, kept",
            "conv2d_forward+prelu, kept",
            "conv2d_forward+prelu+add, kept",
            "linear_forward",
            "margin_softmax_forward",
            "margin_softmax_backward",
            "linear_backward_weight",
            "linear_backward_data",
            "prelu_backward",
            "conv2d_backward_weight",
            "conv2d_backward_data+prelu",
            "conv2d_backward_weight",
            "conv2d_backward_data+add+prelu", // adds the gradient that came over the residual connection
            "conv2d_backward_weight",         // and no data gradient: nothing is trained below
            "gradient_norm",
            "optimizer",
            "metrics",
            "advance",
        ]
    );
}

#[test]
fn evaluation_and_embedding_keep_nothing_for_a_backward_pass() {
    let case = small_training();
    let parameters = case.model.parameters().unwrap();
    let source = ImageSource { name: "test", images: 5 };
    let evaluation = case.model.evaluation_plan(&parameters, source, 2, case.training.steps).unwrap();
    let embedding = case.model.embedding_plan(&parameters, source, 2).unwrap();
    let forward = [
        "gather_batch",
        "conv2d_forward+prelu",
        "conv2d_forward+prelu",
        "conv2d_forward+prelu+add",
        "linear_forward",
        "margin_softmax_forward",
        "metrics",
        "advance",
    ];
    let without_head: Vec<&str> =
        forward.iter().copied().filter(|name| !["margin_softmax_forward", "metrics"].contains(name)).collect();
    assert_eq!(evaluation.steps.iter().map(summary).collect::<Vec<_>>(), forward);
    assert_eq!(embedding.steps.iter().map(summary).collect::<Vec<_>>(), without_head);
}

/// The same plan with every fused step taken apart.
fn unfused(plan: &Plan) -> Plan {
    let mut result = Plan { buffers: plan.buffers.clone(), steps: vec![] };
    for step in &plan.steps {
        match step.op {
            Op::Conv2dForward(conv) if conv.slope => split_forward(&mut result, step, conv),
            Op::Conv2dBackwardData(conv) if conv.slope => split_backward_data(&mut result, step, conv),
            _ => result.steps.push(step.clone()),
        }
    }
    result
}

/// A new buffer like another one.
fn temporary(plan: &mut Plan, like: BufferId) -> BufferId {
    plan.buffers.push(Buffer { place: Place::Arena, ..plan.buffer(like).clone() });
    BufferId(plan.buffers.len() - 1)
}

fn push(plan: &mut Plan, step: &Step, op: impl Into<Op>, reads: &[BufferId], writes: &[BufferId]) {
    let (reads, writes) = (reads.to_vec(), writes.to_vec());
    plan.steps.push(Step { op: op.into(), label: step.label.clone(), reads, writes, updates: vec![] });
}

fn split_forward(plan: &mut Plan, step: &Step, conv: Conv2dForward) {
    let out = *step.writes.last().unwrap();
    let y = if conv.keep { step.writes[0] } else { temporary(plan, out) };
    let z = if conv.residual { temporary(plan, out) } else { out };
    let (operands, fused) = step.reads.split_at(2 + usize::from(conv.bias));
    push(plan, step, Conv2dForward::plain(conv.stride, conv.padding, conv.bias), operands, &[y]);
    push(plan, step, PreluForward, &[y, fused[0]], &[z]);
    if conv.residual {
        push(plan, step, Add, &[z, fused[1]], &[out]);
    }
}

fn split_backward_data(plan: &mut Plan, step: &Step, conv: Conv2dBackwardData) {
    let &[.., d_pre, d_slope] = &step.writes[..] else { panic!("writes of {conv:?}") };
    let d_x = if conv.keep { step.writes[0] } else { temporary(plan, d_pre) };
    let (operands, fused) = step.reads.split_at(2 + usize::from(conv.addend));
    let plain = Conv2dBackwardData::plain(conv.stride, conv.padding, conv.size, conv.addend);
    push(plan, step, plain, operands, &[d_x]);
    push(plan, step, PreluBackward, &[d_x, fused[0], fused[1]], &[d_pre, d_slope]);
}

#[test]
fn fused_steps_give_the_bits_of_their_parts() {
    for network in tiny_networks() {
        let case = TrainingCase::new(network, loss("sphereface").unwrap(), 10, 7, 3);
        let (parameters, fused) = case.plan().unwrap();
        let apart = unfused(&fused);
        assert!(apart.steps.len() > fused.steps.len());
        let [first, second] = [&fused, &apart].map(|plan| {
            let mut backend = CpuBackend::new(1).unwrap();
            let program = backend.lower(plan).unwrap();
            case.upload(&parameters, &mut backend).unwrap();
            backend.run(program, 3).unwrap();
            download(&mut backend, PARAMETERS, parameters.length()).iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        });
        assert_eq!(first, second);
        let [first, second] = [&fused, &apart].map(|plan| {
            let mut reference = case.reference(&parameters);
            reference.run(plan);
            reference.get(PARAMETERS).unwrap().to_vec()
        });
        assert_eq!(first, second);
    }
}

/// `out = prelu(conv x) + side`, where `side` is made after the convolution and kept under a name.
fn late_residual_plan() -> (ParameterSet, Plan) {
    let mut parameters = ParameterSet::default();
    let mut add = |name: &str, shape| parameters.add(name, shape, Init::Constant(0.5), 1.0, 1.0).unwrap();
    add("filter", Shape::filter(1, 1, 2, 2));
    add("slope", Shape::vector(Dim::C, 2));
    let mut plan = PlanBuilder::new(&parameters);
    let x = plan.persistent("x", Type::f32(Shape::activation(3, 3, 2, 2)));
    let [filter, slope] = ["filter", "slope"].map(|name| plan.parameter(name).unwrap());
    let y = plan.conv2d(x, filter, None, 1, 0).unwrap();
    let z = plan.prelu(y, slope).unwrap();
    let side = plan.add(x, x).unwrap();
    plan.keep(side, "side");
    let out = plan.add(z, side).unwrap();
    plan.keep(out, "out");
    let plan = plan.finish();
    (parameters, plan)
}

#[test]
fn a_sum_is_not_fused_into_a_convolution_that_runs_before_its_other_operand() {
    let (parameters, plan) = late_residual_plan();
    let mut reference = Reference::default();
    reference.set("x", (0..36).map(f64::from).collect());
    reference.set(PARAMETERS, parameters.initial(0).iter().copied().map(f64::from).collect());
    reference.run(&plan);
    // prelu((x₀ + x₁) / 2) + 2 x, from its first run on.
    let expected = |i: usize| f64::from(i as u32 / 2 * 2) + 0.5 + 2.0 * i as f64;
    assert_eq!(reference.get("out").unwrap(), (0..36).map(expected).collect::<Vec<_>>());
}

/// Every plan of every named network, on MNIST's images.
fn all_plans() -> Vec<(String, Plan)> {
    let mut plans = Vec::new();
    for named in &NETWORKS {
        let network = named.network([28, 28, 1], 2);
        for loss in LOSSES {
            let case = TrainingCase::new(network.clone(), loss, 10, 7, 3);
            plans.push((format!("{} {} training", named.key, loss.key), case.plan().unwrap().1));
            let model = Model { network: network.clone(), head: loss.head(10) };
            let parameters = model.parameters().unwrap();
            let source = ImageSource { name: "test", images: 7 };
            let evaluation = model.evaluation_plan(&parameters, source, 3, 16).unwrap();
            plans.push((format!("{} {} evaluation", named.key, loss.key), evaluation));
            let embedding = model.embedding_plan(&parameters, source, 3).unwrap();
            plans.push((format!("{} {} embedding", named.key, loss.key), embedding));
        }
    }
    plans
}

#[test]
fn every_buffer_is_written_by_one_step_before_any_reads_it() {
    for (name, plan) in all_plans() {
        let mut written = vec![false; plan.buffers.len()];
        for (index, step) in plan.steps.iter().enumerate() {
            for &read in &step.reads {
                let buffer = plan.buffer(read);
                assert!(
                    written[read.0] || buffer.place != Place::Arena,
                    "{name}: step {index} reads {} too early",
                    buffer.name
                );
            }
            for &write in &step.writes {
                assert!(!written[write.0], "{name}: step {index} writes {} again", plan.buffer(write).name);
                written[write.0] = true;
            }
            for &update in &step.updates {
                assert_eq!(plan.buffer(update).place, Place::Persistent, "{name}: step {index}");
            }
        }
        // Gradients are read as one block: every view of it was written by the step that reads the block.
        let block = plan.buffers.iter().position(|buffer| buffer.name == GRADIENTS);
        let views = plan
            .buffers
            .iter()
            .enumerate()
            .filter(|(_, buffer)| matches!(buffer.place, Place::View { of, .. } if Some(of.0) == block));
        let mut count = 0;
        for (id, view) in views {
            assert!(written[id], "{name}: {} is never written", view.name);
            count += 1;
        }
        assert_eq!(count > 0, name.ends_with("training"));
    }
}

#[test]
fn buffers_that_live_together_are_apart_in_the_arena() {
    for (name, plan) in all_plans() {
        let lives = plan.lifetimes();
        let requests: Vec<(usize, Request)> = (0..plan.buffers.len())
            .filter_map(|id| Some((id, Request { length: plan.buffers[id].kind.bytes(), lifetime: lives[id]? })))
            .collect();
        let (offsets, total) = assign(&requests.iter().map(|&(_, request)| request).collect::<Vec<_>>());
        let place = |i: usize| offsets[i]..offsets[i] + requests[i].1.length;
        // Lifetimes are found anew here: from the step that writes a buffer to the last one that reads it.
        let uses: Vec<[usize; 2]> = requests
            .iter()
            .map(|&(id, _)| {
                let id = BufferId(id);
                let first = plan.steps.iter().position(|step| step.writes.contains(&id)).unwrap();
                let last = plan.steps.iter().rposition(|step| step.reads.contains(&id)).unwrap_or(first);
                [first, last]
            })
            .collect();
        for i in 0..requests.len() {
            assert!(place(i).end <= total, "{name}");
            for j in 0..i {
                let together = uses[i][0] <= uses[j][1] && uses[j][0] <= uses[i][1];
                let overlap = place(i).start < place(j).end && place(j).start < place(i).end;
                assert!(!(together && overlap), "{name}: buffers {} and {}", requests[i].0, requests[j].0);
            }
        }
        let sum: usize = requests.iter().map(|(_, request)| request.length).sum();
        assert!(total < sum, "{name}: an arena of {total} bytes shares nothing of {sum}");
    }
}

#[test]
fn a_plan_prints_each_step_once_and_in_order() {
    let (_, plan) = small_training().plan().unwrap();
    let text = plan.to_string();
    let heads: Vec<&str> = text.lines().filter(|line| line.contains("MFLOP")).collect();
    assert_eq!(heads.len(), plan.steps.len());
    for (index, (line, step)) in heads.iter().zip(&plan.steps).enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[..3], [index.to_string().as_str(), step.op.name(), step.label.as_str()]);
    }
    for (verb, count) in [
        ("reads", plan.steps.iter().filter(|step| !step.reads.is_empty()).count()),
        ("writes", plan.steps.iter().filter(|step| !step.writes.is_empty()).count()),
        ("updates", plan.steps.iter().filter(|step| !step.updates.is_empty()).count()),
    ] {
        assert_eq!(text.lines().filter(|line| line.trim_start().starts_with(verb)).count(), count, "{verb}");
    }
}

/// A training plan with activations in bf16: weights are converted once, parameters and gradients stay f32.
#[test]
fn narrowed_plans_convert_each_weight_once_and_compute_the_same() {
    let case = TrainingCase::new(tiny_networks().remove(2), OF_THE_PAPER[2], 5, 20, 4);
    let (parameters, plan) = case.plan().unwrap();
    let narrowed = plan.narrowed().unwrap();
    let casts: Vec<&Step> = narrowed.steps.iter().filter(|step| matches!(step.op, Op::Cast(_))).collect();
    for cast in &casts {
        let again = casts.iter().filter(|other| other.reads == cast.reads).count();
        assert_eq!(again, 1, "{} is converted {again} times", narrowed.buffer(cast.reads[0]).name);
    }
    let dtype = |id: &BufferId| narrowed.buffer(*id).kind.dtype;
    for step in narrowed.steps.iter().filter(|step| matches!(step.op, Op::Conv2dForward(_))) {
        assert!(step.writes.iter().all(|id| dtype(id) == DType::Bf16), "{}", step.label);
    }
    // What is converted of the parameters, the update keeps up.
    let of_parameters = |cast: &&&Step| narrowed.buffer(cast.writes[0]).place == Place::Persistent;
    let copy = casts.iter().find(of_parameters).unwrap().writes[0];
    let update = narrowed.steps.iter().find(|step| matches!(step.op, Op::Optimizer(_))).unwrap();
    assert_eq!(update.updates.last(), Some(&copy));
    assert!(update.op.outputs(&narrowed.kinds(&update.reads), &narrowed.kinds(&update.updates)).is_ok());
    assert!(plan.buffers.iter().zip(&narrowed.buffers).all(|(a, b)| a.place == Place::Arena || a == b));
    // A plan that casts by itself still does: there is nothing in it to narrow.
    let mut builder = PlanBuilder::new(&parameters);
    let x = builder.persistent("x", Type { shape: Shape::vector(Dim::Length, 3), dtype: DType::Bf16 });
    builder.push(Cast { to: DType::F32 }, &[x], &[]).unwrap();
    let plain = builder.finish();
    assert_eq!(plain.narrowed().unwrap().to_string(), plain.to_string());
    // Rounding moves the loss of a step by about 2⁻⁸, and nothing else does.
    let first = [&plan, &narrowed].map(|plan| {
        let mut reference = case.reference(&parameters);
        reference.run(plan);
        reference.get(LOG).unwrap()[1]
    });
    assert!((first[0] - first[1]).abs() < 0.02 * first[0] && first[0] != first[1], "{first:?}");
}

/// The CPU backend in bf16 finds each narrowed weight in its place: it trains as the reference does.
#[test]
fn the_cpu_trains_narrowed_plans_as_the_reference_does() {
    let case = TrainingCase::new(tiny_networks().remove(2), OF_THE_PAPER[2], 5, 20, 4);
    let (parameters, plan) = case.plan().unwrap();
    let mut backend = CpuBackend::new(2).unwrap().in_bf16();
    let program = backend.lower(&plan).unwrap();
    case.upload(&parameters, &mut backend).unwrap();
    backend.run(program, 3).unwrap();
    let mut log = vec![0.0f32; case.training.log_rows * METRICS.len()];
    backend.download(LOG, bytemuck::cast_slice_mut(&mut log)).unwrap();
    let (narrowed, mut reference) = (plan.narrowed().unwrap(), case.reference(&parameters));
    for _ in 0..3 {
        reference.run(&narrowed);
    }
    let expected = losses(reference.get(LOG).unwrap(), 3);
    let found = losses(&log.into_iter().map(f64::from).collect::<Vec<f64>>(), 3);
    // Activations that are rounded another way move a loss by less than a rounding of bf16 does.
    let close = expected.iter().zip(&found).all(|(a, b)| (a - b).abs() < a * 2f64.powi(-8));
    assert!(close && expected[0] != expected[2], "{expected:?} {found:?}");
}

/// In a plan of bf16 activations a head of many classes rounds its operands, one of few does not.
#[test]
fn narrowed_plans_round_the_operands_of_a_head_of_many_classes() {
    for (classes, rounds) in [(FEW_CLASSES, false), (FEW_CLASSES + 1, true)] {
        let case = TrainingCase::new(tiny_networks().remove(2), OF_THE_PAPER[2], classes, 20, 4);
        let (_, plan) = case.plan().unwrap();
        let rounded = |plan: &Plan| -> Vec<bool> {
            let of = |step: &Step| match &step.op {
                Op::MarginSoftmaxForward(op) => Some(op.0.rounded),
                Op::MarginSoftmaxBackward(op) => Some(op.0.rounded),
                _ => None,
            };
            plan.steps.iter().filter_map(of).collect()
        };
        assert_eq!(rounded(&plan), [false; 2]);
        assert_eq!(rounded(&plan.narrowed().unwrap()), [rounds; 2]);
    }
}

/// Cosines that are kept take two bytes each from the forward to the backward pass, and save the product that makes them.
/// An evaluation keeps none.
#[test]
fn kept_cosines_are_in_the_bytes_of_a_plan() {
    let (classes, batch) = (3000, 4);
    let case = TrainingCase::new(tiny_networks().remove(2), OF_THE_PAPER[2], classes, 20, batch);
    let kept = case.clone().with_kept_cosines();
    let [(parameters, plan), (_, kept_plan)] = [&case, &kept].map(|case| case.plan().unwrap());
    let bytes = 2 * batch * classes;
    assert_eq!(kept_plan.total_cost().bytes, plan.total_cost().bytes + 2 * bytes as u64, "written and read");
    let product = 2 * batch * case.model.network.embedding * classes;
    assert_eq!(kept_plan.total_cost().flops.useful, plan.total_cost().flops.useful - product as u64);
    assert!(kept_plan.arena_bytes() >= bytes);
    let evaluation = |case: &TrainingCase| case.model.evaluation_plan(&parameters, case.training.source, batch, 1);
    assert_eq!(evaluation(&case).unwrap().to_string(), evaluation(&kept).unwrap().to_string());
}
