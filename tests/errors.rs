//! Mistakes in plans and uploads end in one line that names operator, operand and both shapes; none panics.

use sphereface_models::margin::OriginalSoftmax;
use sphereface_models::{ImageSource, Model, Network};
use sphereface_tensor::cpu::CpuBackend;
use sphereface_tensor::op::{
    Advance, Augmentation, Cast, Conv2dForward, GatherBatch, Gemm, GradientNorm, Group, Layout, Logits, MarginSoftmax,
    MarginSoftmaxForward, Metrics, Op, Optimizer, PreluForward, Rule, Scale,
};
use sphereface_tensor::{Backend, BufferId, DType, Dim, Error, Init, ParameterSet, PlanBuilder, Shape, Type};
use std::sync::Arc;

fn f32(dims: &[(Dim, usize)]) -> Type {
    Type::f32(Shape::new(dims.iter().copied()))
}

fn u32(dims: &[(Dim, usize)]) -> Type {
    Type::u32(Shape::new(dims.iter().copied()))
}

/// The message of pushing an operator with operands of these types.
fn refusal(op: impl Into<Op>, reads: &[Type], updates: &[Type]) -> String {
    let parameters = ParameterSet::default();
    let mut plan = PlanBuilder::new(&parameters);
    let mut declare = |kinds: &[Type], verb: &str| -> Vec<BufferId> {
        kinds.iter().enumerate().map(|(i, kind)| plan.persistent(&format!("{verb} {i}"), kind.clone())).collect()
    };
    let (reads, updates) = (declare(reads, "read"), declare(updates, "update"));
    let error = plan.push(op, &reads, &updates).expect_err("a planted mistake");
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

const X: [(Dim, usize); 4] = [(Dim::H, 6), (Dim::W, 5), (Dim::N, 2), (Dim::C, 3)];

#[test]
fn products_name_the_fused_operand_that_does_not_fit() {
    let plain = Gemm::plain(Layout::NN);
    let factors = || vec![f32(&[(Dim::Rows, 4), (Dim::Length, 3)]), f32(&[(Dim::Length, 3), (Dim::Columns, 5)])];
    let with = |kind: Type| [factors(), vec![kind]].concat();
    let biased = Gemm { bias: true, ..plain };
    for (op, reads, expected) in [
        (biased, factors(), "gemm: expected 3 operands, found 2 for Gemm"),
        (biased, with(f32(&[(Dim::Columns, 4)])), "gemm: bias: expected [columns 5], found [columns 4]"),
        (
            Gemm { slope: true, ..plain },
            with(f32(&[(Dim::Rows, 4)])),
            "gemm: slope: expected [columns 5], found [rows 4]",
        ),
        (
            Gemm { residual: true, ..plain },
            with(f32(&[(Dim::Rows, 5), (Dim::Columns, 5)])),
            "gemm: residual: expected [rows 4, columns 5], found [rows 5, columns 5]",
        ),
    ] {
        let message = refusal(op, &reads, &[]);
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn convolutions_name_the_shapes_that_do_not_fit() {
    let filter = |r, c| f32(&[(Dim::R, r), (Dim::S, 3), (Dim::C, c), (Dim::K, 4)]);
    let plain = Conv2dForward::plain(1, 0, false);
    for (op, reads, expected) in [
        (
            plain,
            vec![f32(&X), filter(3, 2)],
            "conv2d_forward: filter: expected C 3 as in the input [H 6, W 5, N 2, C 3], found [R 3, S 3, C 2, K 4]",
        ),
        (
            plain,
            vec![f32(&X), filter(7, 3)],
            "conv2d_forward: filter [R 7, S 3, C 3, K 4] is larger than the input [H 6, W 5, N 2, C 3] with padding 0",
        ),
        (
            plain,
            vec![f32(&X[..3]), filter(3, 3)],
            "conv2d_forward: input: expected [H, W, N, C], none of them zero, found [H 6, W 5, N 2]",
        ),
        (
            plain,
            vec![f32(&[(Dim::N, 6), (Dim::W, 5), (Dim::H, 2), (Dim::C, 3)]), filter(3, 3)],
            "conv2d_forward: input: expected [H, W, N, C], none of them zero, found [N 6, W 5, H 2, C 3]",
        ),
        (
            plain,
            vec![f32(&[(Dim::H, 6), (Dim::W, 0), (Dim::N, 2), (Dim::C, 3)]), filter(3, 3)],
            "conv2d_forward: input: expected [H, W, N, C], none of them zero, found [H 6, W 0, N 2, C 3]",
        ),
        (
            Conv2dForward::plain(0, 0, false),
            vec![f32(&X), filter(3, 3)],
            "conv2d_forward: stride: expected at least 1, found 0",
        ),
        (
            Conv2dForward::plain(1, 0, true),
            vec![f32(&X), filter(3, 3), f32(&[(Dim::K, 5)])],
            "conv2d_forward: bias: expected [K 4], found [K 5]",
        ),
        (plain, vec![u32(&X), filter(3, 3)], "conv2d_forward: operand: expected f32, found u32"),
    ] {
        assert_eq!(refusal(op, &reads, &[]), expected);
    }
    assert!(refusal(plain, &[f32(&X)], &[]).starts_with("conv2d_forward: expected 2 operands, found 1"));
}

#[test]
fn the_other_layers_name_the_shapes_that_do_not_fit() {
    use sphereface_tensor::op::{Add, LinearForward};
    let other = [(Dim::H, 6), (Dim::W, 5), (Dim::N, 2), (Dim::C, 4)];
    assert_eq!(
        refusal(Add, &[f32(&X), f32(&other)], &[]),
        "add: right: expected [H 6, W 5, N 2, C 3], found [H 6, W 5, N 2, C 4]"
    );
    assert_eq!(
        refusal(PreluForward, &[f32(&X), f32(&[(Dim::C, 4)])], &[]),
        "prelu_forward: slope: expected [C 3], one slope a channel of [H 6, W 5, N 2, C 3], found [C 4]"
    );
    let weight = [(Dim::R, 6), (Dim::S, 4), (Dim::C, 3), (Dim::K, 2)];
    assert_eq!(
        refusal(LinearForward, &[f32(&X), f32(&weight), f32(&[(Dim::K, 2)])], &[]),
        "linear_forward: weight: expected [R 6, S 5, C 3, K 2], found [R 6, S 4, C 3, K 2]"
    );
    assert_eq!(refusal(Cast { to: DType::U8 }, &[f32(&X)], &[]), "cast: expected f32 or bf16 as the result, found u8");
    assert_eq!(refusal(Cast { to: DType::F32 }, &[f32(&X)], &[]), "cast: input: expected bf16, found f32");
    assert_eq!(refusal(GradientNorm, &[f32(&X[..1])], &[]), {
        "gradient_norm: gradients: expected [length], none of them zero, found [H 6]"
    });
    assert_eq!(refusal(Advance, &[], &[f32(&[(Dim::Length, 1)])]), "advance: counter: expected u32, found f32");
    let gather = GatherBatch {
        image: [4, 4, 1],
        batch: 2,
        seed: 0,
        shuffle: false,
        augmentation: Augmentation::default(),
        offset: 0.0,
        factor: 1.0,
    };
    let images = Type::u8(Shape::matrix((Dim::Images, 9), (Dim::Length, 15)));
    let labels = Type::u8(Shape::vector(Dim::Images, 9));
    assert_eq!(
        refusal(gather, &[images, labels, u32(&[(Dim::Length, 1)])], &[]),
        "gather_batch: images: expected [images, length 4·4·1] and a batch above 0, found [images 9, length 15]"
    );
}

/// Operands of a head with 5 classes for 4 embeddings of 3 values.
fn head_operands() -> Vec<Type> {
    vec![
        f32(&[(Dim::N, 4), (Dim::D, 3)]),
        f32(&[(Dim::Classes, 5), (Dim::D, 3)]),
        u32(&[(Dim::N, 4)]),
        u32(&[(Dim::Length, 1)]),
        f32(&[(Dim::Steps, 2)]),
        u32(&[(Dim::Length, 1)]),
    ]
}

#[test]
fn the_head_names_each_operand_that_does_not_fit() {
    let head =
        |classes| MarginSoftmaxForward(MarginSoftmax::new(classes, Arc::new(OriginalSoftmax), Scale::InnerProduct));
    for (operand, wrong, expected) in [
        (0, f32(&[(Dim::N, 4), (Dim::C, 3)]), "embedding: expected [N, D], none of them zero, found [N 4, C 3]"),
        (1, f32(&[(Dim::Classes, 5), (Dim::D, 2)]), "weight: expected [classes 5, D 3], found [classes 5, D 2]"),
        (2, u32(&[(Dim::N, 3)]), "labels: expected [N 4], found [N 3]"),
        (2, f32(&[(Dim::N, 4)]), "labels: expected u32, found f32"),
        (3, u32(&[(Dim::Length, 2)]), "count: expected [length 1], found [length 2]"),
        (4, f32(&[(Dim::Length, 2)]), "lambdas: expected [steps], none of them zero, found [length 2]"),
        (5, f32(&[(Dim::Length, 1)]), "counter: expected u32, found f32"),
    ] {
        let mut operands = head_operands();
        operands[operand] = wrong;
        assert_eq!(refusal(head(5), &operands, &[]), format!("margin_softmax_forward: {expected}"));
    }
    assert_eq!(refusal(head(6), &head_operands(), &[]), {
        "margin_softmax_forward: weight: expected [classes 6, D 3], found [classes 5, D 3]"
    });
    let mut one_class = head_operands();
    one_class[1] = f32(&[(Dim::Classes, 1), (Dim::D, 3)]);
    assert_eq!(refusal(head(1), &one_class, &[]), "margin_softmax_forward: classes: expected at least 2, found 1");
    let mut keeps = head(5);
    keeps.0.logits = Logits::Kept;
    assert_eq!(
        refusal(keeps, &head_operands(), &[]),
        "margin_softmax_forward: logits: expected more than 32 classes to keep any, found 5"
    );
}

#[test]
fn the_last_steps_name_each_operand_that_does_not_fit() {
    let (row, one) = ([(Dim::N, 4)], [(Dim::Length, 1)]);
    let log = f32(&[(Dim::Steps, 3), (Dim::Columns, 7)]);
    let metrics = vec![f32(&row), u32(&row), f32(&row), u32(&one), u32(&one), f32(&one)];
    for (operand, wrong, expected) in [
        (1, f32(&row), "hits: expected u32, found f32"),
        (2, u32(&row), "norm: expected f32, found u32"),
        (0, u32(&row), "loss: expected f32, found u32"),
        (5, u32(&one), "gradient_norm: expected f32, found u32"),
        (2, f32(&[(Dim::N, 5)]), "norm: expected [N 4], found [N 5]"),
        (3, f32(&one), "count: expected u32, found f32"),
    ] {
        let mut operands = metrics.clone();
        operands[operand] = wrong;
        assert_eq!(refusal(Metrics, &operands, std::slice::from_ref(&log)), format!("metrics: {expected}"));
    }
    let narrow = f32(&[(Dim::Steps, 3), (Dim::Columns, 6)]);
    assert_eq!(
        refusal(Metrics, &metrics, &[narrow]),
        "metrics: log: expected [steps 3, columns 7], found [steps 3, columns 6]"
    );
    let mut too_many = metrics.clone();
    too_many.push(f32(&one));
    assert_eq!(refusal(Metrics, &too_many, &[log]), "metrics: expected 5 or 6 operands, found 7");

    let sgd =
        |groups| Optimizer { rule: Rule::Sgd { momentum: 0.9, nesterov: false }, groups, clip: None, copied: None };
    let group = |range| Group { range, decay: 0.0, rate: 1.0 };
    let block = |length| f32(&[(Dim::Length, length)]);
    let reads = [block(8), block(1), f32(&[(Dim::Steps, 2)]), u32(&one)];
    assert_eq!(
        refusal(sgd(vec![]), &reads, &[block(8), block(9)]),
        "optimizer: parameters: expected [length 8], found [length 9]"
    );
    assert_eq!(refusal(sgd(vec![]), &reads, &[block(8)]), "optimizer: expected 2 updated blocks, found 1");
    assert_eq!(
        refusal(sgd(vec![group(0..5), group(4..8)]), &reads, &[block(8), block(8)]),
        "optimizer: groups: expected disjoint ascending ranges in 0..8, found 4..8"
    );
    assert_eq!(
        refusal(sgd(vec![group(0..9)]), &reads, &[block(8), block(8)]),
        "optimizer: groups: expected disjoint ascending ranges in 0..8, found 0..9"
    );
}

/// Parameters of a fully connected layer and of a head, and one more that nothing uses.
fn parameters(unused: bool) -> ParameterSet {
    let mut set = ParameterSet::default();
    let mut add = |name: &str, shape: Shape| set.add(name, shape, Init::Constant(0.5), 1.0, 1.0).unwrap();
    add("weight", Shape::filter(6, 5, 3, 3));
    add("bias", Shape::vector(Dim::K, 3));
    add("classifier", Shape::matrix((Dim::Classes, 5), (Dim::D, 3)));
    if unused {
        add("left over", Shape::vector(Dim::C, 3));
    }
    set
}

/// The backward pass over a layer and a head, from the loss or from another result of the head.
fn backward(parameters: &ParameterSet) -> Result<(), Error> {
    let mut plan = PlanBuilder::new(parameters);
    let x = plan.persistent("x", Type::f32(Shape::activation(6, 5, 4, 3)));
    let embedding = plan.linear(x, plan.parameter("weight")?, plan.parameter("bias")?)?;
    let rest: Vec<BufferId> =
        (2..6).map(|i| plan.persistent(&format!("operand {i}"), head_operands()[i].clone())).collect();
    let head = MarginSoftmax::new(5, Arc::new(OriginalSoftmax), Scale::InnerProduct);
    let classifier = plan.parameter("classifier")?;
    let output = plan.margin_softmax(head, [embedding, classifier, rest[0], rest[1], rest[2], rest[3]])?;
    plan.backward(output.loss).map(drop)
}

#[test]
fn unknown_and_unused_parameters_are_named() {
    assert_eq!(backward(&parameters(false)), Ok(()));
    assert_eq!(
        backward(&parameters(true)).unwrap_err().to_string(),
        "parameter 'left over': expected a path to the loss, found none"
    );
    let none = ParameterSet::default();
    assert_eq!(
        backward(&none).unwrap_err().to_string(),
        "buffer 'weight': expected a parameter, found none of this name"
    );
    let mut twice = parameters(false);
    let error = twice.add("bias", Shape::vector(Dim::K, 3), Init::Constant(0.0), 1.0, 1.0).unwrap_err();
    assert_eq!(error.to_string(), "buffer 'bias': expected a new parameter, found one of this name");
}

#[test]
fn a_gradient_cannot_flow_through_an_operator_without_adjoint() {
    let mut parameters = ParameterSet::default();
    parameters.add("block", Shape::vector(Dim::Length, 3), Init::Constant(0.0), 1.0, 1.0).unwrap();
    let mut plan = PlanBuilder::new(&parameters);
    let block = plan.parameter("block").unwrap();
    let norm = plan.push(GradientNorm, &[block], &[]).unwrap()[0];
    assert_eq!(plan.backward(norm).unwrap_err().to_string(), "gradient_norm: has no adjoint");
}

#[test]
fn networks_that_are_too_small_or_incomplete_are_refused() {
    let head = || MarginSoftmax::new(4, Arc::new(OriginalSoftmax), Scale::InnerProduct);
    for network in [
        Network::input([8, 8, 1]).stage(4, 1),           // no embedding
        Network::input([8, 8, 1]).stage(0, 1).linear(2), // a stage without channels
        Network::input([0, 8, 1]).stage(4, 1).linear(2), // no pixels
        Network::input([8, 8, 0]).stage(4, 1).linear(2), // no channels
    ] {
        let model = Model { network: network.clone(), head: head() };
        let source = ImageSource { name: "test", images: 3 };
        let plan = model.parameters().and_then(|parameters| model.evaluation_plan(&parameters, source, 2, 1));
        let message = plan.expect_err("an incomplete network").to_string();
        assert!(message.contains("expected") && message.contains("found"), "{network:?}: {message}");
    }
}

/// A backend that has lowered a plan with one persistent buffer.
fn lower(backend: &mut CpuBackend, name: &str, kind: Type) -> Result<(), Error> {
    let parameters = ParameterSet::default();
    let mut plan = PlanBuilder::new(&parameters);
    plan.persistent(name, kind);
    backend.lower(&plan.finish()).map(drop)
}

#[test]
fn a_persistent_buffer_keeps_its_type_between_plans() {
    let mut backend = CpuBackend::new(1).unwrap();
    lower(&mut backend, "table", f32(&[(Dim::Steps, 3)])).unwrap();
    lower(&mut backend, "table", f32(&[(Dim::Steps, 3)])).unwrap();
    for wrong in [f32(&[(Dim::Steps, 4)]), u32(&[(Dim::Steps, 3)]), f32(&[(Dim::Length, 3)])] {
        let message = lower(&mut backend, "table", wrong.clone()).unwrap_err().to_string();
        assert_eq!(message, format!("buffer 'table': expected f32 [steps 3], found {wrong}"));
    }
}

#[test]
fn a_persistent_buffer_has_one_type_within_a_plan() {
    let parameters = ParameterSet::default();
    let mut plan = PlanBuilder::new(&parameters);
    let table = plan.persistent("table", f32(&[(Dim::Steps, 3)]));
    assert_eq!(plan.persistent("table", f32(&[(Dim::Steps, 3)])), table);
    plan.persistent("table", f32(&[(Dim::Steps, 4)]));
    let error = CpuBackend::new(1).unwrap().lower(&plan.finish()).unwrap_err();
    assert_eq!(error.to_string(), "buffer 'table': expected f32 [steps 3], found f32 [steps 4]");
}

#[test]
fn uploads_and_downloads_of_wrong_names_and_lengths_are_refused() {
    let mut backend = CpuBackend::new(1).unwrap();
    lower(&mut backend, "table", f32(&[(Dim::Steps, 3)])).unwrap();
    for length in [0, 11, 13] {
        let expected = format!("buffer 'table': expected 12 bytes for f32 [steps 3], found {length}");
        assert_eq!(backend.upload("table", &vec![0; length]).unwrap_err().to_string(), expected);
        assert_eq!(backend.download("table", &mut vec![0; length]).unwrap_err().to_string(), expected);
    }
    assert_eq!(
        backend.upload("tables", &[0; 12]).unwrap_err().to_string(),
        "buffer 'tables': expected a persistent buffer, found none"
    );
    backend.upload("table", &[7; 12]).unwrap();
    let mut bytes = [0; 12];
    backend.download("table", &mut bytes).unwrap();
    assert_eq!(bytes, [7; 12]);
}
