//! Heads.

use super::{Case, Fill, case, counter, normal};
use crate::compare::Tolerance;
use sphereface_tensor::op::{Link, MarginSoftmax, MarginSoftmaxBackward, MarginSoftmaxForward, Op};
use sphereface_tensor::{DType, Dim, Shape, Type};

/// Classes, embedding, batch and valid rows of heads: tails of the tile of classes, one row, padded rows.
pub const HEADS: [[usize; 4]; 7] = [
    [10, 2, 128, 128],
    [10, 3, 33, 20],
    [2, 2, 1, 1],
    [17, 64, 5, 5],
    [1024, 8, 3, 3],
    [2500, 16, 40, 39],
    [1025, 512, 2, 2],
];

/// Forward passes of margin_softmax over all [`HEADS`].
pub fn margin_softmax_forward(head: &MarginSoftmax, lambda: f64) -> Vec<Case> {
    HEADS.into_iter().map(|sizes| margin_softmax_forward_of(head, lambda, sizes)).collect()
}

/// The forward pass of one head, as in [`HEADS`].
pub fn margin_softmax_forward_of(
    head: &MarginSoftmax,
    lambda: f64,
    [classes, dimension, batch, valid]: [usize; 4],
) -> Case {
    let head = MarginSoftmax { classes, ..head.clone() };
    let name = format!("margin_softmax {head:?} λ {lambda} D{dimension} N{batch} valid {valid}");
    let labels = Type::u32(Shape::vector(Dim::N, batch));
    let mut reads = vec![
        normal(Shape::matrix((Dim::N, batch), (Dim::D, dimension))),
        normal(Shape::matrix((Dim::Classes, classes), (Dim::D, dimension))),
        (labels, Fill::Below(classes as u32)),
        counter(valid as f64),
        (Type::f32(Shape::vector(Dim::Steps, 4)), Fill::Constant(lambda)),
        counter(9.0),
    ];
    reads.extend(bias(&head));
    case(name, MarginSoftmaxForward(head), reads, Tolerance::Largest(2e-6))
}

/// The bias of a head that has one, where a training begins.
pub(crate) fn bias(head: &MarginSoftmax) -> Option<(Type, Fill)> {
    let Link::Binary { initial_bias, .. } = head.link else { return None };
    Some((Type::f32(Shape::vector(Dim::Length, 1)), Fill::Constant(initial_bias.into())))
}

/// The backward pass on a forward pass's operands and `log_sum_exp`, `target_cosine`, `norm`, `inverse_norm`, and the
/// cosines if it kept them.
///
/// # Panics
/// When `forward` is another operator.
pub fn margin_softmax_backward_of(forward: &Case, statistics: Vec<Fill>, tolerance: Tolerance) -> Case {
    let Op::MarginSoftmaxForward(op) = &forward.op else { panic!("{}: expected a head", forward.name) };
    let name = forward.name.replace("margin_softmax", "margin_softmax_backward");
    let mut reads = forward.reads[..6].to_vec();
    let (row, class) = (forward.reads[0].0.shape.sizes().next().unwrap_or(0), op.0.classes);
    let cosines = Shape::matrix((Dim::N, row), (Dim::Classes, class.next_multiple_of(8)));
    let [row, class] = [Shape::vector(Dim::N, row), Shape::vector(Dim::Classes, class)];
    let mut kinds = [row.clone(), row.clone(), row, class].map(Type::f32).to_vec();
    kinds.push(Type { shape: cosines, dtype: DType::Cosine });
    reads.extend(kinds.into_iter().zip(statistics));
    reads.extend(forward.reads.get(6).cloned());
    case(name, MarginSoftmaxBackward(op.0.clone()), reads, tolerance)
}
