//! The classifier head of the whole family, described by data: how cosines are bent and scaled, what makes a loss of
//! logits, and which of its derivatives are followed.

mod reference;

use super::{Array, Flops, Op, Operator, RowModifier, operands};
use crate::builder::Tape;
use crate::error::Error;
use crate::plan::Step;
use crate::shape::{DType, Dim, Shape, Type};
use std::fmt;
use std::sync::Arc;

/// Norms below this are taken for it, so that a zero vector has a direction of length zero.
pub(crate) const NORM_FLOOR: f32 = 1e-12;

/// Value and slope of a logit as a function of its cosine, before the scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bent {
    /// `h(cos θ)`.
    pub value: f64,
    /// `h′(cos θ)`, with respect to the cosine.
    pub slope: f64,
}

impl Bent {
    /// The cosine as it is.
    pub fn straight(cos_theta: f64) -> Bent {
        Bent { value: cos_theta, slope: 1.0 }
    }
}

/// The farthest from 0 that a cosine of two class weights counts in their energy: beyond it θ⁻² grows without bound.
pub(crate) const FARTHEST: f64 = 0.99999;

/// The most numbers that a margin can have; the rest are zeros.
pub const MARGIN_PARAMETERS: usize = 8;

/// A margin: what becomes of the target's cosine, and perhaps of the others, before they are scaled.
pub trait Margin: fmt::Debug + Send + Sync {
    /// Stem of the margin's files; `kernels/margin/<name>.cuh` has `target`, and perhaps `other`, for GPUs.
    fn name(&self) -> &'static str;

    /// The numbers that tell margins of this name apart, as the function in `kernels/margin/<name>.cuh` takes them.
    fn parameters(&self) -> [f64; MARGIN_PARAMETERS] {
        [0.0; MARGIN_PARAMETERS]
    }

    /// `h` and `h′` at `cos_theta` in `[-1, 1]`; `modifier` is the annealing weight λ of margins that have one, or the row's
    /// own number in a head that has [such](MarginSoftmax::modifier).
    fn target(&self, cos_theta: f64, modifier: f64) -> Bent;

    /// Whether the cosines of the other classes are bent, too.
    fn bends_others(&self) -> bool {
        false
    }

    /// The same as [`target`](Margin::target) of another class: it never falls as its cosine grows, so that it does not
    /// change which class is nearest.
    fn other(&self, cos_theta: f64) -> Bent {
        Bent::straight(cos_theta)
    }
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

/// Which derivative of the bent cosines the backward pass follows; the loss is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Gradient {
    /// The loss's own: `h′`.
    #[default]
    True,
    /// `h` is a cosine with a constant added: slope 1. What a long embedding gains is still `h`.
    ///
    /// # Source
    /// "Characteristic gradient detachment", Liu et al., SphereFace Revived, TPAMI 2023.
    Detached,
    /// That of the layer with which SphereFace was trained, for [`Scale::FeatureNorm`] and class weights of length 1. With
    /// the target's logit `(λ ‖x‖ c + ‖x‖ ψ(c)) / (1 + λ)`, the gradient of its second term with respect to the embedding,
    /// `a ŵ + b x` with `a = ψ′` and `b = (ψ − c ψ′) / ‖x‖`, is replaced by `(a ŵ + b x) / √(a² + b²)`. For class weights
    /// every logit counts as `x·w`.
    ///
    /// # Source
    /// The layer `MarginInnerProduct` of the authors' Caffe, and the section on gradients in their notes.
    Caffe,
}

/// What makes a loss of logits `z`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Link {
    /// Softmax cross-entropy: `log Σ_j exp z_j − z_y`.
    #[default]
    Softmax,
    /// A yes or no for each class, with a trained bias `b`: `α s(−z_y − b) + (1 − α) Σ_{j≠y} s(z_j + b)`, where
    /// `s(u) = log(1 + eᵘ)`.
    Binary {
        /// `α`, the share of the target.
        positive: f32,
        /// The bias with which a training begins.
        initial_bias: f32,
    },
}

/// `weight · |‖x‖ − norm|`, added to the loss of each row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NormPenalty {
    /// How much it counts; 0 for no such term.
    pub weight: f32,
    /// The length that costs nothing.
    pub norm: f32,
}

/// Description of the head: logits `κ h(cos θ)`, and what is made of them.
#[derive(Clone, Debug)]
pub struct MarginSoftmax {
    /// Number of classes.
    pub classes: usize,
    /// How cosines are bent.
    pub margin: Arc<dyn Margin>,
    /// What multiplies the bent cosines.
    pub scale: Scale,
    /// Which derivative is followed.
    pub gradient: Gradient,
    /// What makes a loss of logits.
    pub link: Link,
    /// What multiplies that loss.
    pub loss_factor: f32,
    /// What is added for the length of the embedding.
    pub penalty: NormPenalty,
    /// Weight of the class weights' energy, which is added to the loss of each row: the mean of `θ⁻²` over all pairs of them,
    /// whose cosines are taken at ±0.99999 beyond it.
    ///
    /// # Source
    /// Liu et al., Learning towards Minimum Hyperspherical Energy, NeurIPS 2018.
    pub energy: f32,
    /// What makes the margin of one row differ from that of another, if anything does: then [`RowModifiers`] gives the
    /// numbers, in the place of the table of λ.
    ///
    /// [`RowModifiers`]: super::RowModifiers
    pub modifier: Option<RowModifier>,
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

/// Loss of each row of the batch, as [`Link`] makes it of logits.
///
/// # Shapes
/// Reads `embedding` `[N, D]`, `weight` `[classes, D]`, `labels` `u32 [N]`, `count` `u32 [1]` (valid rows),
/// `lambdas` `[steps]` (of a head with a modifier `modifiers` `[N]`), `counter` `u32 [1]`, with [`Link::Binary`] `bias` `[1]`. Writes `loss`, `log_sum_exp`, `target_cosine`, `norm` `[N]`,
/// `inverse_norm` `[classes]` (of the class weights) and `hits` `u32 [N]` (see [`Hit`]). Rows past `count` have loss 0.
/// With [`Link::Binary`] the place of `log_sum_exp` holds `Σ_{j≠y} σ(z_j + b)`, the slopes of the other classes' terms.
/// With [`Logits::Kept`] also `cosines` `[N, classes]`, rows padded with zeros to a multiple of 8; the target's is not used.
#[derive(Clone, Debug)]
pub struct MarginSoftmaxForward(pub MarginSoftmax);

/// Gradients of the mean loss over the valid rows.
///
/// # Shapes
/// Reads the first six operands of [`MarginSoftmaxForward`], then its `log_sum_exp`, `target_cosine`, `norm`,
/// `inverse_norm`, `cosines` if it kept them, and `bias` if there is one. Writes `d_embedding` `[N, D]`, `d_weight`
/// `[classes, D]`, and `d_bias` `[1]` of a bias.
#[derive(Clone, Debug)]
pub struct MarginSoftmaxBackward(pub MarginSoftmax);

/// Entry of a per-step table at the counter; past its end the last entry holds.
pub(crate) fn at_counter<T: Copy>(table: &[T], counter: usize) -> T {
    table[counter.min(table.len() - 1)]
}

impl MarginSoftmax {
    /// A softmax cross-entropy with its own gradient, of exact products, that keeps no logits.
    pub fn new(classes: usize, margin: Arc<dyn Margin>, scale: Scale) -> Self {
        MarginSoftmax {
            classes,
            margin,
            scale,
            gradient: Gradient::default(),
            link: Link::default(),
            loss_factor: 1.0,
            penalty: NormPenalty::default(),
            energy: 0.0,
            modifier: None,
            logits: Logits::default(),
            rounded: false,
        }
    }

    /// Whether the head has a bias.
    pub fn has_bias(&self) -> bool {
        matches!(self.link, Link::Binary { .. })
    }

    /// Whether all cosines but the target's are logits as they are, of a softmax: a head that can keep them, and have any
    /// scale.
    pub fn is_plain(&self) -> bool {
        self.link == Link::Softmax && !self.margin.bends_others()
    }

    /// Name and shape of the operand that changes the margin: of a table of `steps`, or of numbers of a batch's rows.
    pub fn modifiers(&self, steps: usize, batch: usize) -> (&'static str, Shape) {
        match self.modifier {
            None => ("lambdas", Shape::vector(Dim::Steps, steps)),
            Some(_) => ("modifiers", Shape::vector(Dim::N, batch)),
        }
    }

    /// What changes the margin of a row: an entry of that operand, at the counter, past its end the last one, or at the row.
    pub(crate) fn modifier_of<T: Copy>(&self, modifiers: &[T], counter: usize, row: usize) -> T {
        if self.modifier.is_some() { modifiers[row] } else { at_counter(modifiers, counter) }
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
        let (modifiers, of_rows) = self.modifiers(1, batch);
        match self.modifier {
            None => drop(reads[4].shape.expect(op, modifiers, [Dim::Steps])?),
            Some(_) => reads[4].shape.expect_equal(op, modifiers, &of_rows)?,
        }
        reads[5].shape.expect_equal(op, "counter", &Shape::vector(Dim::Length, 1))?;
        for (read, (operand, dtype)) in reads.iter().zip([
            ("embedding", DType::F32),
            ("weight", DType::F32),
            ("labels", DType::U32),
            ("count", DType::U32),
            (modifiers, DType::F32),
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
        let refuse = |what: &str, expected: &str| {
            let message = format!("{what}: expected {expected}, found {:?} and {:?}", self.scale, self.logits);
            Err(Error::Attribute { op, message })
        };
        // What a length adds to all logits at once takes a sum over the bent ones that neither pass makes.
        if !self.is_plain() && (!matches!(self.scale, Scale::Constant(_)) || self.logits == Logits::Kept) {
            return refuse("others bent, or no softmax", "a constant scale and logits that are computed again");
        }
        if self.penalty.weight != 0.0 && self.scale == Scale::InnerProduct {
            return refuse("penalty", "unit-norm class weights");
        }
        if self.gradient == Gradient::Caffe && self.scale != Scale::FeatureNorm {
            return refuse("gradient: caffe", "the scale FeatureNorm");
        }
        Ok([batch, embedding])
    }

    /// Checks the bias, the last of the operands, if there is one; returns the others.
    fn without_bias<'a, 'b>(&self, op: &'static str, reads: &'a [&'b Type]) -> Result<&'a [&'b Type], Error> {
        let Some((bias, rest)) = reads.split_last().filter(|_| self.has_bias()) else { return Ok(reads) };
        bias.expect_dtype(op, "bias", DType::F32)?;
        bias.shape.expect_equal(op, "bias", &Shape::vector(Dim::Length, 1))?;
        Ok(rest)
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

impl Operator for MarginSoftmaxForward {
    fn name(&self) -> &'static str {
        "margin_softmax_forward"
    }

    fn outputs(&self, reads: &[&Type], _updates: &[&Type]) -> Result<Vec<Type>, Error> {
        let reads: &[&Type; 6] = operands(self.name(), self.0.without_bias(self.name(), reads)?)?;
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
        reference::forward(&self.0, reads)
    }

    fn adjoint(&self, step: &Step, tape: &mut Tape<'_, '_>) -> Result<(), Error> {
        let mut reads = step.reads[..6].to_vec();
        reads.extend(&step.writes[1..5]);
        reads.extend(step.writes.get(6)); // what it kept
        reads.extend(step.reads.get(6)); // its bias
        let gradients = tape.emit(MarginSoftmaxBackward(self.0.clone()), &reads)?;
        let trained = step.reads[..2].iter().chain(step.reads.get(6));
        trained.zip(gradients).try_for_each(|(&operand, gradient)| tape.contribute(operand, gradient))
    }
}

impl Operator for MarginSoftmaxBackward {
    fn name(&self) -> &'static str {
        "margin_softmax_backward"
    }

    fn outputs(&self, reads: &[&Type], _updates: &[&Type]) -> Result<Vec<Type>, Error> {
        let op = self.name();
        let bias = reads.last().filter(|_| self.0.has_bias());
        let reads = self.0.without_bias(op, reads)?;
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
        Ok([reads[0], reads[1]].into_iter().chain(bias.copied()).cloned().collect())
    }

    fn narrowed(&self) -> Option<Op> {
        Some(MarginSoftmaxBackward(self.0.narrowed()?).into())
    }

    fn flops(&self, reads: &[&Type], _writes: &[&Type]) -> Flops {
        let products = if self.0.logits == Logits::Kept { 2 } else { 3 };
        Flops::exactly(products * 2 * reads[0].shape.elements() * self.0.classes)
    }

    fn reference(&self, reads: &[&Array], _updates: &mut [Array]) -> Vec<Array> {
        reference::backward(&self.0, reads)
    }
}
