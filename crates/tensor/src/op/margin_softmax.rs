//! The classifier head of the whole family: softmax cross-entropy over cosines, with a margin on the target.

use super::{Array, Flops, Op, Operator, operands};
use crate::builder::Tape;
use crate::error::Error;
use crate::plan::Step;
use crate::shape::{DType, Dim, Shape, Type};
use half::bf16;
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

/// The most classes of a head that is fp32 in every precision: its products are too few to matter.
pub const FEW_CLASSES: usize = 32;

/// Where the backward pass has the logits of the other classes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Logits {
    /// It computes them again, a tile at a time: memory is O(N + C).
    #[default]
    Recompute,
    /// From the forward pass, which leaves all cosines in 16 bits ([`Cosine`](crate::Cosine)): 2 N C bytes of memory, a
    /// third less arithmetic in the backward pass. Only for more than [`FEW_CLASSES`].
    Kept,
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
    /// Where the backward pass has the logits from.
    pub logits: Logits,
    /// Whether products are of directions `x̂` and `ŵ` that were rounded to bf16, all but the one for the target's cosine;
    /// [`Plan::narrowed`](crate::Plan::narrowed) sets it. A gradient is that of the product with the other operand
    /// rounded, and may come of slopes rounded to bf16.
    pub rounded: bool,
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
/// With [`Logits::Kept`] also `cosines` `[N, classes]`, rows padded with zeros to a multiple of 8; the target's is not used.
#[derive(Clone, Debug)]
pub struct MarginSoftmaxForward(pub MarginSoftmax);

/// Gradients of the mean loss over the valid rows.
///
/// # Shapes
/// Reads the operands of [`MarginSoftmaxForward`], then its `log_sum_exp`, `target_cosine`, `norm`, `inverse_norm`, and
/// `cosines` if it kept them. Writes `d_embedding` `[N, D]`, `d_weight` `[classes, D]`.
#[derive(Clone, Debug)]
pub struct MarginSoftmaxBackward(pub MarginSoftmax);

/// Entry of a per-step table at the counter; past its end the last entry holds.
pub(crate) fn at_counter(table: &[f64], counter: f64) -> f64 {
    table[(counter as usize).min(table.len() - 1)]
}

impl MarginSoftmax {
    /// A head of exact products that keeps no logits.
    pub fn new(classes: usize, margin: Arc<dyn Margin>, scale: Scale) -> Self {
        MarginSoftmax { classes, margin, scale, logits: Logits::default(), rounded: false }
    }

    /// The same head in a plan whose activations are bf16, if that makes a difference.
    fn narrowed(&self) -> Option<Self> {
        let makes_a_difference = self.classes > FEW_CLASSES && !self.rounded;
        makes_a_difference.then(|| MarginSoftmax { rounded: true, ..self.clone() })
    }

    /// The kept cosines of this many rows; 16 bytes are eight of them.
    fn cosines(&self, batch: usize) -> Type {
        let shape = Shape::matrix((Dim::N, batch), (Dim::Classes, self.classes.next_multiple_of(8)));
        Type { shape, dtype: DType::Cosine }
    }

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
        if self.logits == Logits::Kept && self.classes <= FEW_CLASSES {
            let message =
                format!("logits: expected more than {FEW_CLASSES} classes to keep any, found {}", self.classes);
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

/// Rows of a matrix as norms and directions.
struct Vectors {
    norms: Vec<f64>,
    directions: Vec<Vec<f64>>,
    /// Directions as products take them.
    operands: Vec<Vec<f64>>,
}

impl Vectors {
    fn new(matrix: &Array, rounded: bool) -> Vectors {
        let [_, columns] = matrix.sizes();
        let norm_of = |v: &[f64]| v.iter().map(|a| a * a).sum::<f64>().sqrt().max(f64::from(NORM_FLOOR));
        let norms: Vec<f64> = matrix.values.chunks(columns).map(norm_of).collect();
        let rows = || matrix.values.chunks(columns).zip(&norms);
        let directions = rows().map(|(v, norm)| v.iter().map(|a| a / norm).collect()).collect();
        let narrow = |(v, &norm): (&[f64], &f64)| {
            let inverse = 1.0 / norm as f32;
            v.iter().map(|&a| bf16::from_f32(a as f32 * inverse).to_f64()).collect()
        };
        let operands = if rounded { rows().map(narrow).collect() } else { Vec::clone(&directions) };
        Vectors { norms, directions, operands }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// One row of the head, as the formulas say it.
struct Row {
    cosines: Vec<f64>,
    target: TargetLogit,
    label: usize,
    plain: Vec<f64>,
    logits: Vec<f64>,
    log_sum_exp: f64,
}

impl Row {
    /// `kept` are the row's cosines, if it need not compute them.
    fn new(head: &MarginSoftmax, reads: &[&Array], [x, w]: [&Vectors; 2], row: usize, kept: Option<&[f64]>) -> Row {
        let product = |j: usize| dot(&x.operands[row], &w.operands[j]);
        let mut cosines: Vec<f64> = match kept {
            Some(kept) => kept[..head.classes].to_vec(),
            None => (0..head.classes).map(product).collect(),
        };
        let label = reads[2].values[row] as usize;
        cosines[label] = dot(&x.directions[row], &w.directions[label]).clamp(-1.0, 1.0);
        let target = head.margin.target(cosines[label], at_counter(&reads[4].values, reads[5].values[0]));
        let scaled = |j: usize, h: f64| {
            let (row, class) = head.factors(x.norms[row], w.norms[j]);
            row * class * h
        };
        let plain: Vec<f64> = cosines.iter().enumerate().map(|(j, &c)| scaled(j, c)).collect();
        let mut logits = plain.clone();
        logits[label] = scaled(label, target.value);
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_sum_exp = largest + logits.iter().map(|z| (z - largest).exp()).sum::<f64>().ln();
        Row { cosines, target, label, plain, logits, log_sum_exp }
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
        let mut outputs = vec![Type::f32(row.clone()); 4];
        outputs.extend([Type::f32(Shape::vector(Dim::Classes, self.0.classes)), Type::u32(row)]);
        outputs.extend((self.0.logits == Logits::Kept).then(|| self.0.cosines(batch)));
        Ok(outputs)
    }

    fn narrowed(&self) -> Option<Op> {
        Some(MarginSoftmaxForward(self.0.narrowed()?).into())
    }

    fn flops(&self, reads: &[&Type], _writes: &[&Type]) -> Flops {
        Flops::exactly(2 * reads[0].shape.elements() * self.0.classes)
    }

    fn reference(&self, reads: &[&Array], _updates: &mut [Array]) -> Vec<Array> {
        let [batch, _] = reads[0].sizes();
        let row_shape = Shape::vector(Dim::N, batch);
        let mut rows: [Array; 5] = std::array::from_fn(|_| Array::zeros(row_shape.clone()));
        let [x, w] = [0, 1].map(|read| Vectors::new(reads[read], self.0.rounded));
        let mut inverse_norm = Array::zeros(Shape::vector(Dim::Classes, self.0.classes));
        inverse_norm.values = w.norms.iter().map(|norm| 1.0 / norm).collect();
        let mut cosines = Array::zeros(self.0.cosines(batch).shape);
        let [_, pitch] = cosines.sizes();
        for i in 0..batch {
            let row = Row::new(&self.0, reads, [&x, &w], i, None);
            let kept = &mut cosines.values[i * pitch..][..self.0.classes];
            kept.copy_from_slice(&row.cosines);
            kept[row.label] = dot(&x.operands[i], &w.operands[row.label]);
            let [loss, log_sum_exp, target_cosine, norm, hits] = &mut rows;
            log_sum_exp.values[i] = row.log_sum_exp;
            target_cosine.values[i] = row.cosines[row.label];
            norm.values[i] = x.norms[i];
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
        let mut written = vec![loss, log_sum_exp, target_cosine, norm, inverse_norm, hits];
        written.extend((self.0.logits == Logits::Kept).then_some(cosines));
        written
    }

    fn adjoint(&self, step: &Step, tape: &mut Tape<'_, '_>) -> Result<(), Error> {
        let mut reads = step.reads.clone();
        reads.extend(&step.writes[1..5]);
        reads.extend(step.writes.get(6)); // what it kept
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
        let kept = match reads {
            [reads @ .., cosines] if self.0.logits == Logits::Kept => Some((reads, *cosines)),
            _ => None,
        };
        let reads: &[&Type; 10] = operands(op, kept.map_or(reads, |(reads, _)| reads))?;
        let [batch, _] = self.0.check(op, &reads[..6])?;
        if let Some((_, cosines)) = kept {
            let expected = self.0.cosines(batch);
            cosines.expect_dtype(op, "cosines", expected.dtype)?;
            cosines.shape.expect_equal(op, "cosines", &expected.shape)?;
        }
        for (read, operand) in reads[6..9].iter().zip(["log_sum_exp", "target_cosine", "norm"]) {
            read.expect_dtype(op, operand, DType::F32)?;
            read.shape.expect_equal(op, operand, &Shape::vector(Dim::N, batch))?;
        }
        reads[9].shape.expect_equal(op, "inverse_norm", &Shape::vector(Dim::Classes, self.0.classes))?;
        Ok(vec![reads[0].clone(), reads[1].clone()])
    }

    fn narrowed(&self) -> Option<Op> {
        Some(MarginSoftmaxBackward(self.0.narrowed()?).into())
    }

    fn flops(&self, reads: &[&Type], _writes: &[&Type]) -> Flops {
        let products = if self.0.logits == Logits::Kept { 2 } else { 3 };
        Flops::exactly(products * 2 * reads[0].shape.elements() * self.0.classes)
    }

    fn reference(&self, reads: &[&Array], _updates: &mut [Array]) -> Vec<Array> {
        let [_, columns] = reads[0].sizes();
        let (mut d_x, mut d_w) = (Array::zeros(reads[0].shape.clone()), Array::zeros(reads[1].shape.clone()));
        let count = reads[3].values[0];
        let [x, w] = [0, 1].map(|read| Vectors::new(reads[read], self.0.rounded));
        // Derivatives of the two factors of the scale with respect to the two norms.
        let d_row = f64::from(!matches!(self.0.scale, Scale::Constant(_)));
        let d_class = f64::from(self.0.scale == Scale::InnerProduct);
        for i in 0..count as usize {
            let kept = reads.get(10).map(|cosines| &cosines.values[i * cosines.shape.last()..]);
            let row = Row::new(&self.0, reads, [&x, &w], i, kept);
            for j in 0..self.0.classes {
                let is_target = j == row.label;
                let softmax = (row.logits[j] - reads[6].values[i]).exp();
                let g = (softmax - f64::from(is_target)) / count;
                let c = row.cosines[j];
                let h = if is_target { row.target } else { TargetLogit { value: c, slope: 1.0 } };
                let (kappa, omega) = self.0.factors(x.norms[i], w.norms[j]);
                let (x_hat, w_hat) = (&x.directions[i], &w.directions[j]);
                let (x_operand, w_operand) = (&x.operands[i], &w.operands[j]);
                // A normalised vector has no gradient along itself, however its product was rounded.
                let along_x = if d_row == 0.0 { dot(x_hat, w_operand) } else { c };
                let along_w = if d_class == 0.0 { dot(x_operand, w_hat) } else { c };
                let d_x = &mut d_x.values[i * columns..][..columns];
                let d_w = &mut d_w.values[j * columns..][..columns];
                for d in 0..columns {
                    d_x[d] += omega
                        * g
                        * (kappa * h.slope * (w_operand[d] - along_x * x_hat[d]) / x.norms[i]
                            + d_row * h.value * x_hat[d]);
                    d_w[d] += kappa
                        * g
                        * (omega * h.slope * (x_operand[d] - along_w * w_hat[d]) / w.norms[j]
                            + d_class * h.value * w_hat[d]);
                }
            }
        }
        vec![d_x, d_w]
    }
}
