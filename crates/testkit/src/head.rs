//! The classifier head: every loss with every choice, gradient and λ, forward and then backward on what forward computed.

use crate::cases::{Case, Fill, bias, margin_softmax_backward_of, margin_softmax_forward_of, modifiers};
use crate::compare::{Tolerance, assert_close};
use crate::run::{case_error, results_error, run_case};
use sphereface_models::margin::{LOSSES, ModifiedSoftmax, SphereFace};
use sphereface_tensor::op::{Array, Gradient, Margin, MarginSoftmax, MarginSoftmaxForward, Scale};
use sphereface_tensor::{Backend, Dim, Shape, Type};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};
use std::sync::Arc;

/// A loss of the family at one λ.
#[derive(Clone, Debug)]
pub struct HeadCase {
    /// The head; its number of classes is that of the sizes it is checked with.
    pub head: MarginSoftmax,
    /// Annealing weight.
    pub lambda: f64,
    /// Whether the forward pass keeps its cosines for the backward pass.
    pub kept: bool,
    /// How products are made.
    pub products: HeadProducts,
}

/// How a backend makes the products of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadProducts {
    /// In fp32.
    Exact,
    /// Of operands rounded to TF32: the tests' are such that this changes nothing.
    Tf32,
    /// In fp32, of directions rounded to bf16: as the CPU does.
    Rounded,
    /// Of directions and gradients rounded to bf16.
    Bf16,
}

/// Slopes up to that of a cosine whose angle counts four times are what tolerances are made for.
const USUAL_SLOPE: f64 = 16.0;

/// What rounding a logit, and the log-sum-exp that is taken from it, does to a softmax.
fn rounding(largest_logit: f64, classes: usize) -> f64 {
    (largest_logit + (classes as f64).ln()) / f64::from(1 << 24)
}

/// What a logit's error does to its softmax, relative to the largest gradient. The inner product of normal vectors may be
/// wrong by 1e-6 · Σ|x w|, with a mean of 2/π for each of the D products; logits reach 4 √D.
pub(crate) fn softmax_error(classes: usize, dimension: usize) -> f64 {
    let dimension = dimension as f64;
    let product = 1e-6 * FRAC_2_PI * dimension;
    product + 4.0 * rounding(4.0 * dimension.sqrt(), classes)
}

/// The reference's `log_sum_exp`, `target_cosine`, `norm` and `inverse_norm`, and kept cosines, for the backward pass.
pub(crate) fn statistics(results: &[(Type, Array, Array, Array)]) -> Vec<Fill> {
    [1, 2, 3, 4, 6].iter().filter_map(|&written| Some(Fill::Values(results.get(written)?.2.values.clone()))).collect()
}

impl HeadCase {
    /// A loss at one λ.
    pub fn new(margin: impl Margin + 'static, scale: Scale, lambda: f64) -> Self {
        HeadCase::of(MarginSoftmax::new(10, Arc::new(margin), scale), lambda)
    }

    /// A head at one λ.
    pub fn of(head: MarginSoftmax, lambda: f64) -> Self {
        HeadCase { head, lambda, kept: false, products: HeadProducts::Exact }
    }

    /// The same with another gradient.
    fn with(self, gradient: Gradient) -> Self {
        HeadCase { head: MarginSoftmax { gradient, ..self.head }, ..self }
    }

    /// Every loss in every variant, those that are annealed with and without annealing; other gradients than its own; then
    /// margins and scales that no loss combines.
    pub fn all() -> Vec<HeadCase> {
        let mut cases = Vec::new();
        for loss in LOSSES {
            let lambdas = if loss.annealed { &[0.0, 5.0][..] } else { &[0.0][..] };
            for values in loss.variants() {
                let of = |&lambda| HeadCase::of((loss.make)(10, &values), lambda);
                cases.extend(lambdas.iter().map(of));
            }
            // A detached head's own gradient, too.
            let stock = HeadCase::of(loss.head(10), 0.0);
            cases.extend((stock.head.gradient == Gradient::Detached).then(|| stock.with(Gradient::True)));
        }
        cases.extend([
            HeadCase::new(ModifiedSoftmax, Scale::Constant(10.0), 0.0),
            HeadCase::new(SphereFace::new(3), Scale::Constant(8.0), 1.0),
            HeadCase::new(SphereFace::new(2), Scale::InnerProduct, 0.5),
            HeadCase::new(SphereFace::new(4), Scale::FeatureNorm, 0.5).with(Gradient::Detached),
            HeadCase::new(SphereFace::new(2), Scale::InnerProduct, 0.0).with(Gradient::Detached),
            HeadCase::new(SphereFace::new(3), Scale::FeatureNorm, 0.0).with(Gradient::Caffe),
            HeadCase::new(SphereFace::new(4), Scale::FeatureNorm, 5.0).with(Gradient::Caffe),
        ]);
        cases
    }

    /// Both passes on random operands; sizes as in [`HEADS`](crate::cases::HEADS). Returns the largest error, as
    /// [`check_case`](crate::check_case) does.
    ///
    /// # Panics
    /// When a result is outside its tolerance.
    pub fn check(&self, sizes: [usize; 4], backend: &mut dyn Backend) -> f64 {
        self.error(sizes, backend).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The largest error of both passes, as [`check`](HeadCase::check) has it.
    ///
    /// # Errors
    /// One line, when the head is refused or a result is outside its tolerance.
    pub fn error(
        &self,
        sizes @ [classes, dimension, ..]: [usize; 4],
        backend: &mut dyn Backend,
    ) -> Result<f64, String> {
        let forward = self.form(margin_softmax_forward_of(&self.head, self.lambda, sizes));
        let results = run_case(&forward, backend).map_err(|error| format!("{}: {error}", forward.name))?;
        let error = results_error(&forward, &results)?;
        Ok(error.max(self.backward_error(&forward, &results, softmax_error(classes, dimension), backend)?))
    }

    /// The forward pass as this head has it.
    fn form(&self, forward: Case) -> Case {
        let forward = if self.kept { forward.with_kept_cosines() } else { forward };
        match self.products {
            HeadProducts::Exact => forward,
            HeadProducts::Tf32 => forward.in_tf32(),
            HeadProducts::Rounded => forward.with_rounded_directions(),
            HeadProducts::Bf16 => forward.with_rounded_directions().on_tensor_cores(),
        }
    }

    /// The backward pass on what a forward pass found out, with a bound for fp32 products.
    fn backward_error(
        &self,
        forward: &Case,
        results: &[(Type, Array, Array, Array)],
        bound: f64,
        backend: &mut dyn Backend,
    ) -> Result<f64, String> {
        let backward = margin_softmax_backward_of(forward, statistics(results), Tolerance::Largest(bound));
        let on_tensor_cores = matches!(self.products, HeadProducts::Tf32 | HeadProducts::Bf16);
        case_error(&if on_tensor_cores { backward.with_rounded_gradients() } else { backward }, backend)
    }

    /// Both passes on embeddings along, against and between the class weights: cosines of exactly ±1 and 0, and on both
    /// sides of ±½ and ±√½. Two classes lie on the axes; the others, if any, point away from most embeddings.
    ///
    /// # Panics
    /// When a result is outside its tolerance.
    pub fn check_boundary_cosines(&self, classes: usize, backend: &mut dyn Backend) -> f64 {
        let cosines = [1.0, -1.0, 0.0, 0.5, -0.5, FRAC_1_SQRT_2, -FRAC_1_SQRT_2];
        let near =
            cosines.iter().flat_map(|&c| [c, f64::from((c as f32).next_up()), f64::from((c as f32).next_down())]);
        let points: Vec<f64> =
            near.map(|c: f64| c.clamp(-1.0, 1.0)).flat_map(|c| [3.0 * c, 3.0 * (1.0 - c * c).sqrt()]).collect();
        let batch = points.len() / 2;
        // A slope multiplies what is left of a class weight across the embedding, a difference in f32.
        let changes = if self.head.modifier.is_some() { vec![-1.0, 0.0, 1.0] } else { vec![self.lambda] };
        let target = |c: f64| changes.iter().map(move |&change| self.head.margin.target(c, change).slope.abs());
        let slopes = cosines.iter().flat_map(|&c| target(c).chain([self.head.margin.other(c).slope]));
        let steepest = slopes.fold(0.0, f64::max);
        let steepness = if steepest > USUAL_SLOPE { steepest / 4.0 } else { 1.0 };
        let mut weights = vec![1.0, 0.0, 0.0, -0.5];
        weights.extend((2..classes).flat_map(|class| [-0.1 - 0.007 * class as f64, -0.5]));
        let values = |shape, values| (Type::f32(shape), Fill::Values(values));
        let one = |value: f64| (Type::u32(Shape::vector(Dim::Length, 1)), Fill::Constant(value));
        let mut reads = vec![
            values(Shape::matrix((Dim::N, batch), (Dim::D, 2)), points),
            values(Shape::matrix((Dim::Classes, classes), (Dim::D, 2)), weights),
            (Type::u32(Shape::vector(Dim::N, batch)), Fill::Constant(0.0)),
            one(batch as f64),
            modifiers(&self.head, self.lambda, 1, batch),
            one(0.0),
        ];
        reads.extend(bias(&self.head));
        let head = MarginSoftmax { classes, ..self.head.clone() };
        let (name, tolerance) =
            (format!("margin_softmax {head:?} λ {}", self.lambda), Tolerance::Largest(steepness * 1e-6));
        let op = MarginSoftmaxForward(head).into();
        let forward = self.form(Case { name: name.clone(), op, reads, updates: vec![], tolerance });
        let results = run_case(&forward, backend).unwrap_or_else(|error| panic!("{name}: {error}"));
        // Whether a tie counts as a miss is a matter of the last bit here, so hits are left out.
        let mut worst = 0.0f64;
        for (index, (kind, found, expected, _)) in results[..5].iter().enumerate() {
            let (name, tolerance) = (format!("{name} {kind}"), forward.tolerance_of(index));
            let error = assert_close(&name, kind.dtype, &found.values, &expected.values, &[], tolerance);
            worst = worst.max(error);
        }
        // Embeddings have length 3, so logits at most that.
        let backward = self.backward_error(&forward, &results, steepness * (1e-6 + rounding(3.0, classes)), backend);
        worst.max(backward.unwrap_or_else(|error| panic!("{error}")))
    }
}
