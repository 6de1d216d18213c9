//! The classifier head of the whole family: softmax cross-entropy over cosines, with a margin on the target.

use super::{Array, Flops, Operator, operands};
use crate::builder::Tape;
use crate::error::Error;
use crate::plan::Step;
use crate::shape::{DType, Dim, Shape, Type};
use std::fmt;
use std::sync::Arc;

/// Norms below this are taken for it, so that a zero vector has a direction of length zero.
pub(crate) const NORM_FLOOR: f32 = 1e-12;

/// Value and slope of the target's logit as a function of its cosine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TargetLogit {
    /// `h(cos θ)`.
    pub value: f64,
    /// `h′(cos θ)`, with respect to the cosine.
    pub slope: f64,
}

/// The most numbers that a margin can have; the rest are zeros.
pub const MARGIN_PARAMETERS: usize = 4;

/// A margin: what becomes of the target's cosine before the softmax.
pub trait Margin: fmt::Debug + Send + Sync {
    /// Stem of the margin's files; `kernels/margin/<name>.cuh` has `target` for GPUs.
    fn name(&self) -> &'static str;

    /// The numbers that tell margins of this name apart, as the function in `kernels/margin/<name>.cuh` takes them.
    fn parameters(&self) -> [f64; MARGIN_PARAMETERS] {
        [0.0; MARGIN_PARAMETERS]
    }

    /// `h` and `h′` at `cos_theta` in `[-1, 1]`; `lambda` is the annealing weight of margins that have one.
    fn target(&self, cos_theta: f64, lambda: f64) -> TargetLogit;
}

/// What multiplies the (bent) cosines.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// `‖x‖ ‖w‖`: nothing is normalised, as in the original softmax.
    InnerProduct,
    /// `‖x‖`: unit-norm class weights, as in modified softmax and SphereFace.
    FeatureNorm,
    /// A constant: unit-norm class weights and embeddings.
    Constant(f32),
}

/// Description of the head: logits `κ cos θ`, the target's bent by the margin.
#[derive(Clone, Debug)]
pub struct MarginSoftmax {
    /// Number of classes.
    pub classes: usize,
    /// What becomes of the target's cosine.
    pub margin: Arc<dyn Margin>,
    /// What multiplies the cosines.
    pub scale: Scale,
}

/// Bits of the head's `hits`: by which logits the target's is the largest (a tie is a miss).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Hit {
    /// By the logits without margin: the rule a trained classifier uses.
    Logits = 1,
    /// By the cosines alone.
    Cosines = 2,
    /// By the logits with the margin on the target.
    Penalised = 4,
}

/// Loss of each row of the batch: `log Σ_j exp z_ij − z_iy`.
///
/// # Shapes
/// Reads `embedding` `[N, D]`, `weight` `[classes, D]`, `labels` `u32 [N]`, `count` `u32 [1]` (valid rows),
/// `lambdas` `[steps]`, `counter` `u32 [1]`. Writes `loss`, `log_sum_exp`, `target_cosine`, `norm` `[N]`,
/// `inverse_norm` `[classes]` (of the class weights) and `hits` `u32 [N]` (see [`Hit`]). Rows past `count` have loss 0.
#[derive(Clone, Debug)]
pub struct MarginSoftmaxForward(pub MarginSoftmax);

/// Gradients of the mean loss over the valid rows.
///
/// # Shapes
/// Reads the operands of [`MarginSoftmaxForward`], then its `log_sum_exp`, `target_cosine`, `norm`, `inverse_norm`.
/// Writes `d_embedding` `[N, D]`, `d_weight` `[classes, D]`.
#[derive(Clone, Debug)]
pub struct MarginSoftmaxBackward(pub MarginSoftmax);

/// Entry of a per-step table at the counter; past its end the last entry holds.
pub(crate) fn at_counter(table: &[f64], counter: f64) -> f64 {
    table[(counter as usize).min(table.len() - 1)]
}

impl MarginSoftmax {
    fn check(&self, op: &'static str, reads: &[&Type]) -> Result<[usize; 2], Error> {
        let [batch, embedding] = reads[0].shape.expect(op, "embedding", [Dim::N, Dim::D])?;
        let weight = Shape::matrix((Dim::Classes, self.classes), (Dim::D, embedding));
        reads[1].shape.expect_equal(op, "weight", &weight)?;
        reads[2].shape.expect_equal(op, "labels", &Shape::vector(Dim::N, batch))?;
        reads[3].shape.expect_equal(op, "count", &Shape::vector(Dim::Length, 1))?;
        reads[4].shape.expect(op, "lambdas", [Dim::Steps])?;
        reads[5].shape.expect_equal(op, "counter", &Shape::vector(Dim::Length, 1))?;
        for (read, (operand, dtype)) in reads.iter().zip([
            ("embedding", DType::F32),
            ("weight", DType::F32),
            ("labels", DType::U32),
            ("count", DType::U32),
            ("lambdas", DType::F32),
            ("counter", DType::U32),
        ]) {
            read.expect_dtype(op, operand, dtype)?;
        }
        if self.classes < 2 {
            let message = format!("classes: expected at least 2, found {}", self.classes);
            return Err(Error::Attribute { op, message });
        }
        Ok([batch, embedding])
    }

    /// Factor of the scale that belongs to the row, and the one that belongs to the class.
    fn factors(&self, norm: f64, weight_norm: f64) -> (f64, f64) {
        match self.scale {
            Scale::InnerProduct => (norm, weight_norm),
            Scale::FeatureNorm => (norm, 1.0),
            Scale::Constant(scale) => (f64::from(scale), 1.0),
        }
    }
}

/// One row of the head, as the formulas say it.
struct Row {
    cosines: Vec<f64>,
    norm: f64,
    weight_norms: Vec<f64>,
    target: TargetLogit,
    label: usize,
    plain: Vec<f64>,
    logits: Vec<f64>,
    log_sum_exp: f64,
}

impl Row {
    fn new(head: &MarginSoftmax, reads: &[&Array], row: usize) -> Row {
        let [_, columns] = reads[0].sizes();
        let x = &reads[0].values[row * columns..][..columns];
        let norm_of = |v: &[f64]| v.iter().map(|a| a * a).sum::<f64>().sqrt().max(f64::from(NORM_FLOOR));
        let norm = norm_of(x);
        let weight_norms: Vec<f64> = reads[1].values.chunks(columns).map(norm_of).collect();
        let dot = |w: &[f64]| x.iter().zip(w).map(|(a, b)| a * b).sum::<f64>();
        let cosines: Vec<f64> = reads[1]
            .values
            .chunks(columns)
            .zip(&weight_norms)
            .map(|(w, wn)| (dot(w) / (norm * wn)).clamp(-1.0, 1.0))
            .collect();
        let label = reads[2].values[row] as usize;
        let target = head.margin.target(cosines[label], at_counter(&reads[4].values, reads[5].values[0]));
        let scaled = |j: usize, h: f64| {
            let (row, class) = head.factors(norm, weight_norms[j]);
            row * class * h
        };
        let plain: Vec<f64> = cosines.iter().enumerate().map(|(j, &c)| scaled(j, c)).collect();
        let mut logits = plain.clone();
        logits[label] = scaled(label, target.value);
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_sum_exp = largest + logits.iter().map(|z| (z - largest).exp()).sum::<f64>().ln();
        Row { cosines, norm, weight_norms, target, label, plain, logits, log_sum_exp }
    }

    fn wins(&self, values: &[f64]) -> bool {
        values.iter().enumerate().all(|(j, &value)| j == self.label || value < values[self.label])
    }
}

impl Operator for MarginSoftmaxForward {
    fn name(&self) -> &'static str {
        "margin_softmax_forward"
    }

    fn outputs(&self, reads: &[&Type], _updates: &[&Type]) -> Result<Vec<Type>, Error> {
        let reads: &[&Type; 6] = operands(self.name(), reads)?;
        let [batch, _] = self.0.check(self.name(), reads)?;
        let row = Shape::vector(Dim::N, batch);
        Ok(vec![
            Type::f32(row.clone()),
            Type::f32(row.clone()),
            Type::f32(row.clone()),
            Type::f32(row.clone()),
            Type::f32(Shape::vector(Dim::Classes, self.0.classes)),
            Type::u32(row),
        ])
    }

    fn flops(&self, reads: &[&Type], _writes: &[&Type]) -> Flops {
        Flops::exactly(2 * reads[0].shape.elements() * self.0.classes)
    }

    fn reference(&self, reads: &[&Array], _updates: &mut [Array]) -> Vec<Array> {
        let [batch, _] = reads[0].sizes();
        let row_shape = Shape::vector(Dim::N, batch);
        let mut rows: [Array; 5] = std::array::from_fn(|_| Array::zeros(row_shape.clone()));
        let mut inverse_norm = Array::zeros(Shape::vector(Dim::Classes, self.0.classes));
        for i in 0..batch {
            let row = Row::new(&self.0, reads, i);
            inverse_norm.values = row.weight_norms.iter().map(|norm| 1.0 / norm).collect();
            let [loss, log_sum_exp, target_cosine, norm, hits] = &mut rows;
            log_sum_exp.values[i] = row.log_sum_exp;
            target_cosine.values[i] = row.cosines[row.label];
            norm.values[i] = row.norm;
            if (i as f64) < reads[3].values[0] {
                loss.values[i] = row.log_sum_exp - row.logits[row.label];
                hits.values[i] =
                    [(&row.plain, Hit::Logits), (&row.cosines, Hit::Cosines), (&row.logits, Hit::Penalised)]
                        .iter()
                        .map(|&(values, hit)| f64::from(if row.wins(values) { hit as u32 } else { 0 }))
                        .sum();
            }
        }
        let [loss, log_sum_exp, target_cosine, norm, hits] = rows;
        vec![loss, log_sum_exp, target_cosine, norm, inverse_norm, hits]
    }

    fn adjoint(&self, step: &Step, tape: &mut Tape<'_, '_>) -> Result<(), Error> {
        let mut reads = step.reads.clone();
        reads.extend(&step.writes[1..5]);
        let gradients = tape.emit(MarginSoftmaxBackward(self.0.clone()), &reads)?;
        tape.contribute(step.reads[0], gradients[0])?;
        tape.contribute(step.reads[1], gradients[1])
    }
}

impl Operator for MarginSoftmaxBackward {
    fn name(&self) -> &'static str {
        "margin_softmax_backward"
    }

    fn outputs(&self, reads: &[&Type], _updates: &[&Type]) -> Result<Vec<Type>, Error> {
        let op = self.name();
        let reads: &[&Type; 10] = operands(op, reads)?;
        let [batch, _] = self.0.check(op, &reads[..6])?;
        for (read, operand) in reads[6..9].iter().zip(["log_sum_exp", "target_cosine", "norm"]) {
            read.expect_dtype(op, operand, DType::F32)?;
            read.shape.expect_equal(op, operand, &Shape::vector(Dim::N, batch))?;
        }
        reads[9].shape.expect_equal(op, "inverse_norm", &Shape::vector(Dim::Classes, self.0.classes))?;
        Ok(vec![reads[0].clone(), reads[1].clone()])
    }

    fn flops(&self, reads: &[&Type], _writes: &[&Type]) -> Flops {
        Flops::exactly(6 * reads[0].shape.elements() * self.0.classes)
    }

    fn reference(&self, reads: &[&Array], _updates: &mut [Array]) -> Vec<Array> {
        let [_, columns] = reads[0].sizes();
        let (mut d_x, mut d_w) = (Array::zeros(reads[0].shape.clone()), Array::zeros(reads[1].shape.clone()));
        let count = reads[3].values[0];
        // Derivatives of the two factors of the scale with respect to the two norms.
        let d_row = f64::from(!matches!(self.0.scale, Scale::Constant(_)));
        let d_class = f64::from(self.0.scale == Scale::InnerProduct);
        for i in 0..count as usize {
            let row = Row::new(&self.0, reads, i);
            for j in 0..self.0.classes {
                let is_target = j == row.label;
                let softmax = (row.logits[j] - row.log_sum_exp).exp();
                let g = (softmax - f64::from(is_target)) / count;
                let c = row.cosines[j];
                let h = if is_target { row.target } else { TargetLogit { value: c, slope: 1.0 } };
                let (kappa, omega) = self.0.factors(row.norm, row.weight_norms[j]);
                for d in 0..columns {
                    let x_hat = reads[0].values[i * columns + d] / row.norm;
                    let w_hat = reads[1].values[j * columns + d] / row.weight_norms[j];
                    d_x.values[i * columns + d] +=
                        omega * g * (kappa * h.slope * (w_hat - c * x_hat) / row.norm + d_row * h.value * x_hat);
                    d_w.values[j * columns + d] += kappa
                        * g
                        * (omega * h.slope * (x_hat - c * w_hat) / row.weight_norms[j] + d_class * h.value * w_hat);
                }
            }
        }
        vec![d_x, d_w]
    }
}
