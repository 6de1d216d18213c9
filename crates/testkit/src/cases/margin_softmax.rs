//! Heads.

use super::{Case, FP32_SUM, Fill, case, counter, normal};
use crate::compare::Tolerance;
use sphereface_tensor::op::{Link, MarginSoftmax, MarginSoftmaxBackward, MarginSoftmaxForward, Op, Scale};
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

/// The forms of a head: products of operands as they are or rounded to directions in bf16, logits computed twice or kept.
pub const HEAD_FORMS: [fn(Case) -> Case; 4] = [
    |case| case,
    Case::with_kept_cosines,
    Case::with_rounded_directions,
    |case| case.with_kept_cosines().with_rounded_directions(),
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
        modifiers(&head, lambda, 4, batch),
        counter(9.0),
    ];
    reads.extend(bias(&head));
    case(name, MarginSoftmaxForward(head), reads, Tolerance::Largest(2e-6))
}

impl Case {
    /// How far one of its results may be from the reference.
    ///
    /// All as the case says, but what a head of yes and no keeps for its backward pass: Σ σ(z + b) is relatively as wrong
    /// as z + b is absolutely.
    pub(crate) fn tolerance_of(&self, result: usize) -> Tolerance {
        match (&self.op, self.tolerance) {
            (Op::MarginSoftmaxForward(op), Tolerance::Largest(factor)) if result == STATISTIC => {
                Tolerance::Largest(factor + binary_logit_error(&op.0))
            }
            _ => self.tolerance,
        }
    }
}

/// Which result of a forward pass its backward pass begins with.
const STATISTIC: usize = 1;

/// The error of z + b of a head of yes and no, where z = s h(c). As 0 ≤ σ′ ≤ σ, a sum of σ(z + b) has at most this for a
/// relative error: far below 0, where σ is an exponential, just this.
///
/// A cosine is a sum of products in fp32, with Σ|x̂ ŵ| ≤ 1, and h multiplies its error by its slope, which is steepest at an
/// end. Then h, its product with s, the sum with b and the exponential round what is at most as large as s |h| + |b|.
fn binary_logit_error(head: &MarginSoftmax) -> f64 {
    let (Link::Binary { initial_bias, .. }, Scale::Constant(scale)) = (head.link, head.scale) else { return 0.0 };
    let ends = [-1.0, 1.0].map(|c| head.margin.other(c));
    let steepest = ends.iter().fold(0.0f64, |most, bent| most.max(bent.slope.abs()));
    let largest = ends.iter().fold(0.0f64, |most, bent| most.max(bent.value.abs()));
    let (scale, bias) = (f64::from(scale), f64::from(initial_bias).abs());
    scale * steepest * FP32_SUM + 4.0 * (scale * largest + bias) / f64::from(1 << 24)
}

/// What changes the margin: one λ, or from −1 to 1 from row to row.
pub(crate) fn modifiers(head: &MarginSoftmax, lambda: f64, steps: usize, batch: usize) -> (Type, Fill) {
    let shape = head.modifiers(steps, batch).1;
    let of_rows = || Fill::Values((0..batch).map(|row| (row % 9) as f64 / 4.0 - 1.0).collect());
    let fill = if head.modifier.is_some() { of_rows() } else { Fill::Constant(lambda) };
    (Type::f32(shape), fill)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{results_error, run_case};
    use sphereface_models::loss;
    use sphereface_tensor::cpu::CpuBackend;

    #[test]
    fn only_what_a_head_of_yes_and_no_keeps_has_the_bound_of_its_logits() {
        let head = loss("sphereface2").unwrap().head(70);
        let case = margin_softmax_forward_of(&head, 0.0, [70, 20, 130, 129]);
        let results = run_case(&case, &mut CpuBackend::new(1).unwrap()).unwrap();
        let passes = |result: usize, factor: f64| {
            let mut results = results.clone();
            let (_, found, expected, _) = &mut results[result];
            found.values = expected.values.iter().map(|value| value * factor).collect();
            results_error(&case, &results).is_ok()
        };
        // An ulp of z + b where it is 16 or more, which the other results need not stand.
        let ulp = 2.0f64.powi(-19);
        assert!(passes(STATISTIC, 1.0 + 2.0 * ulp) && passes(STATISTIC, 1.0 - 2.0 * ulp));
        (0..5).filter(|&result| result != STATISTIC).for_each(|result| assert!(!passes(result, 1.0 + 2.0 * ulp)));
        // A logit that is wrong by 1e-4, as products of operands cut to TF32 make it, and a class too few.
        assert!(!passes(STATISTIC, 1.0 + 1e-4) && !passes(STATISTIC, 1.0 - 1.0 / 70.0));
    }
}
