//! What is checked and timed: an operator, a head or a whole network, with its sizes.

use crate::cases::{Case, Fill, case, conv2d_tolerance, counter, gemm_case, normal};
use crate::compare::{Tolerance, largest_error};
use crate::head::{HeadCase, HeadProducts};
use crate::run::{case_error, plan_of_case};
use crate::training::TrainingCase;
use sphereface_models::margin::SphereFace;
use sphereface_models::{LOG, loss, named_network};
use sphereface_tensor::op::{
    Augmentation, Conv2dBackwardData, Conv2dBackwardWeight, Conv2dForward, Conv2dGeometry, FEW_CLASSES, Gemm, Group,
    Layout, METRICS, MarginSoftmax, Op, Optimizer, Rule, Scale,
};
use sphereface_tensor::{Backend, Cost, DType, Dim, Error, Init, ParameterSet, Plan, PlanBuilder, Shape, Type};
use std::sync::Arc;

/// What the losses of heads and networks have as m.
pub const MARGIN: u32 = 4;
/// Annealing weight of heads and networks.
pub const LAMBDA: f32 = 5.0;
/// Momentum of every update.
pub const MOMENTUM: f32 = 0.9;
/// Weight decay of every update.
pub const DECAY: f32 = 5e-4;
/// Learning rate: small enough for any number of steps, large enough for the third loss to depend on it.
pub const RATE: f32 = 1e-3;
/// Classes of a network's head.
pub const CLASSES: usize = 10;
/// Batches of a training's data.
pub const BATCHES: usize = 4;
/// Steps of a training that are compared with others.
pub const STEPS: usize = 3;
/// Seed of initial values and of the order of images.
pub const SEED: u64 = 1;

/// A pass of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// `y` of `x` and `filter`.
    Forward,
    /// `d_x` of `d_y` and `filter`.
    BackwardData,
    /// `d_filter` of `x` and `d_y`.
    BackwardWeight,
    /// `out = residual + prelu(conv x + bias)`, and what is before the rectifier.
    FusedForward,
    /// Backward data, and through the rectifier before the convolution.
    FusedBackward,
}

/// What a network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Gather, forward, backward, update.
    TrainingStep,
    /// From images to embeddings.
    Forward,
}

/// Numbers in which products are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arithmetic {
    /// Strict fp32.
    F32,
    /// Operands rounded to TF32.
    Tf32,
    /// Operands and activations in bf16.
    Bf16,
}

impl Arithmetic {
    /// All, the most exact first.
    pub const ALL: [Arithmetic; 3] = [Arithmetic::F32, Arithmetic::Tf32, Arithmetic::Bf16];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Arithmetic> {
        Arithmetic::ALL.into_iter().find(|arithmetic| arithmetic.name() == name)
    }

    /// Its name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Arithmetic::F32 => "f32",
            Arithmetic::Tf32 => "tf32",
            Arithmetic::Bf16 => "bf16",
        }
    }
}

/// A piece of work with its sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// A product of matrices.
    Gemm {
        /// Which operand is transposed.
        layout: Layout,
        /// Rows, columns and length of the sums.
        sizes: [usize; 3],
    },
    /// A pass of a convolution.
    Conv2d {
        /// Which.
        pass: Pass,
        /// As in [`CONVOLUTIONS`](crate::cases::CONVOLUTIONS).
        sizes: [usize; 8],
    },
    /// A-Softmax, forward and backward.
    Head {
        /// Classes.
        classes: usize,
        /// Length of an embedding.
        dimension: usize,
        /// Embeddings.
        batch: usize,
    },
    /// Gradient descent with momentum.
    Optimizer {
        /// Parameters.
        length: usize,
    },
    /// A network with A-Softmax for [`CLASSES`] classes.
    Network {
        /// What it does.
        task: Task,
        /// Its name, see [`NETWORKS`](sphereface_models::NETWORKS).
        key: &'static str,
        /// Height, width and channels of an image.
        image: [usize; 3],
        /// Length of an embedding.
        embedding: usize,
        /// Images.
        batch: usize,
    },
}

/// Names of a workload's operands, in their order in the step; those without a name are no tensors of the formula.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// Operands that are read, then those that are updated, as they are before.
    pub inputs: &'static [&'static str],
    /// Operands that are written, then those that are updated, as they are after.
    pub outputs: &'static [&'static str],
}

impl Workload {
    /// The one operator that this is, if it is one, with names of its operands.
    pub fn case(&self) -> Option<(Case, Names)> {
        match *self {
            Workload::Gemm { layout, sizes } => {
                let names = Names { inputs: &["a", "b"], outputs: &["c"] };
                Some((gemm_case(Gemm::plain(layout), sizes), names))
            }
            Workload::Conv2d { pass, sizes } => conv2d(pass, sizes),
            Workload::Optimizer { length } => Some(optimizer(length)),
            Workload::Head { .. } | Workload::Network { .. } => None,
        }
    }

    /// The training behind a network.
    pub fn training(&self) -> Option<TrainingCase> {
        let Workload::Network { key, image, embedding, batch, .. } = *self else { return None };
        let network = named_network(key)?.network(image, embedding);
        let mut case = TrainingCase::new(network, loss("sphereface")?, CLASSES, BATCHES * batch, batch);
        case.training.rule = Rule::Sgd { momentum: MOMENTUM, nesterov: false };
        case.training.decay = DECAY;
        case.training.augmentation = Augmentation::default();
        case.training.seed = SEED;
        case.rates.fill(RATE);
        case.lambdas.fill(LAMBDA);
        Some(case)
    }

    /// The plan, and the parameters it is about.
    ///
    /// # Errors
    /// [`Error`], when the sizes do not fit each other.
    pub fn plan(&self) -> Result<(ParameterSet, Plan), Error> {
        if let Some((case, _)) = self.case() {
            return Ok((ParameterSet::default(), plan_of_case(&case)?));
        }
        if let Workload::Head { classes, dimension, batch } = *self {
            return head(classes, dimension, batch);
        }
        let missing = || Error::Buffer { name: format!("{self:?}"), message: "expected a named network".into() };
        let case = self.training().ok_or_else(missing)?;
        match self {
            Workload::Network { task: Task::Forward, batch, .. } => {
                let parameters = case.model.parameters()?;
                let plan = case.model.embedding_plan(&parameters, case.training.source, *batch)?;
                Ok((parameters, plan))
            }
            _ => case.plan(),
        }
    }

    /// The plan as it runs in this arithmetic: in bf16 with narrow operands, and the steps that narrow them.
    ///
    /// # Errors
    /// As [`plan`](Workload::plan).
    pub fn plan_in(&self, arithmetic: Arithmetic) -> Result<Plan, Error> {
        match (self.case(), arithmetic) {
            (Some((case, _)), Arithmetic::Bf16) => plan_of_case(&case.in_bf16().unwrap_or(case)),
            (None, Arithmetic::Bf16) => self.plan()?.1.narrowed(),
            _ => Ok(self.plan()?.1),
        }
    }

    /// Work and traffic in this arithmetic. What narrows operands is left out: copies of parameters last from run to run,
    /// and others are small.
    ///
    /// # Errors
    /// As [`plan`](Workload::plan).
    pub fn cost(&self, arithmetic: Arithmetic) -> Result<Cost, Error> {
        let mut plan = self.plan_in(arithmetic)?;
        plan.steps.retain(|step| !matches!(step.op, Op::Cast(_)));
        Ok(plan.total_cost())
    }

    /// Compares with the f64 reference, and returns the largest error as a multiple of what the tolerance is one of.
    ///
    /// # Errors
    /// One line, when something is refused or outside its tolerance.
    pub fn error(&self, arithmetic: Arithmetic, backend: &mut dyn Backend) -> Result<f64, String> {
        if let Some((case, _)) = self.case() {
            let is_product = !matches!(self, Workload::Optimizer { .. });
            let case = match arithmetic {
                Arithmetic::Tf32 if is_product => case.in_tf32(),
                Arithmetic::Bf16 => case.in_bf16().map_or(case, Case::on_tensor_cores),
                _ => case,
            };
            return case_error(&case, backend);
        }
        if let Workload::Head { classes, dimension, batch } = *self {
            let mut head = HeadCase::new(SphereFace::new(MARGIN), Scale::FeatureNorm, f64::from(LAMBDA));
            head.products = match arithmetic {
                // Few classes are in fp32 always.
                Arithmetic::Bf16 if classes <= FEW_CLASSES => HeadProducts::Exact,
                Arithmetic::F32 => HeadProducts::Exact,
                Arithmetic::Tf32 => HeadProducts::Tf32,
                Arithmetic::Bf16 => HeadProducts::Bf16,
            };
            return head.error([classes, dimension, batch, batch], backend);
        }
        self.network_error(arithmetic, backend)
    }

    /// Losses of two steps, or embeddings, against the reference: the largest error relative to the largest value.
    fn network_error(&self, arithmetic: Arithmetic, backend: &mut dyn Backend) -> Result<f64, String> {
        let refused = |error: Error| format!("{self:?}: {error}");
        let case = self.training().ok_or_else(|| format!("{self:?}: expected a named network"))?;
        let (parameters, plan) = self.plan().map_err(refused)?;
        let program = backend.lower(&plan).map_err(refused)?;
        let trains = matches!(self, Workload::Network { task: Task::TrainingStep, .. });
        let (buffer, steps) = if trains { (LOG.to_owned(), 2) } else { (case.training.source.embedding_buffer(), 1) };
        let uploaded = if trains { case.upload(&parameters, backend) } else { case.upload_model(&parameters, backend) };
        uploaded.and_then(|()| backend.run(program, steps)).map_err(refused)?;
        let mut reference = case.reference(&parameters);
        (0..steps).for_each(|_| drop(reference.run(&plan)));
        let expected = reference.get(&buffer).unwrap_or_default().to_vec();
        let mut found = vec![0.0f32; expected.len()];
        backend.download(&buffer, bytemuck::cast_slice_mut(&mut found)).map_err(refused)?;
        let found: Vec<f64> = found.into_iter().map(f64::from).collect();
        let [found, expected] = [found, expected].map(|values| if trains { losses(&values, steps) } else { values });
        // The reference rounds nothing, so that each of ten layers adds the rounding of its operands.
        let tolerance = Tolerance::Largest(match arithmetic {
            Arithmetic::F32 => 2e-5,
            Arithmetic::Tf32 => 5e-3,
            Arithmetic::Bf16 => 5e-2,
        });
        largest_error(DType::F32, &found, &expected, &[], tolerance).map_err(|error| format!("{self:?}: {error}"))
    }
}

/// Mean losses of the first rows of a training's log.
pub fn losses(log: &[f64], steps: usize) -> Vec<f64> {
    log.chunks(METRICS.len()).take(steps).map(|row| row[1] / row[0]).collect()
}

/// One pass of a convolution, as [`CONVOLUTIONS`](crate::cases::CONVOLUTIONS) has them, without bias where nothing is fused.
fn conv2d(pass: Pass, sizes: [usize; 8]) -> Option<(Case, Names)> {
    let [h, w, n, c, k, r, stride, padding] = sizes;
    let tolerance = conv2d_tolerance(sizes);
    let (image, taps) = (Shape::activation(h, w, n, c), Shape::filter(r, r, c, k));
    let geometry = Conv2dGeometry::new("conv2d", &image, &taps, stride, padding).ok()?;
    let [x, filter, y] = [image, taps, geometry.output()].map(normal);
    let slope = |channels| normal(Shape::vector(Dim::C, channels));
    let plain = Conv2dForward::plain(stride, padding, false);
    let data = Conv2dBackwardData::plain(stride, padding, [h, w], false);
    let name = format!("conv2d {pass:?} {h}x{w} N{n} C{c} K{k} {r}x{r} stride {stride} padding {padding}");
    let names = |inputs, outputs| Names { inputs, outputs };
    Some(match pass {
        Pass::Forward => (case(name, plain, vec![x, filter], tolerance), names(&["x", "filter"], &["y"])),
        Pass::BackwardData => (case(name, data, vec![y, filter], tolerance), names(&["d_y", "filter"], &["d_x"])),
        Pass::BackwardWeight => {
            let op = Conv2dBackwardWeight { stride, padding, bias: false, taps: [r, r] };
            (case(name, op, vec![x, y], tolerance), names(&["x", "d_y"], &["d_filter"]))
        }
        Pass::FusedForward => {
            let op = Conv2dForward { bias: true, slope: true, residual: true, keep: true, ..plain };
            let reads = vec![x, filter, normal(Shape::vector(Dim::K, k)), slope(k), y];
            (case(name, op, reads, tolerance), names(&["x", "filter", "bias", "slope", "residual"], &["pre", "out"]))
        }
        Pass::FusedBackward => {
            let op = Conv2dBackwardData { slope: true, ..data };
            let reads = vec![y, filter, x, slope(c)];
            (case(name, op, reads, tolerance), names(&["d_y", "filter", "pre", "slope"], &["d_pre", "d_slope"]))
        }
    })
}

/// An update of all parameters alike.
fn optimizer(length: usize) -> (Case, Names) {
    let flat = || normal(Shape::vector(Dim::Length, length));
    let op = Optimizer {
        rule: Rule::Sgd { momentum: MOMENTUM, nesterov: false },
        groups: vec![Group { range: 0..length, decay: DECAY, rate: 1.0 }],
        clip: None,
        copied: None,
    };
    let norm = (Type::f32(Shape::vector(Dim::Length, 1)), Fill::Constant(1.0));
    let rates = (Type::f32(Shape::vector(Dim::Steps, 1)), Fill::Constant(f64::from(RATE)));
    let reads = vec![flat(), norm, rates, counter(0.0)];
    let case = case(format!("optimizer sgd length {length}"), op, reads, Tolerance::Largest(2e-6));
    let names = Names { inputs: &["g", "", "", "", "p", "v"], outputs: &["p", "v"] };
    (Case { updates: vec![flat(), flat()], ..case }, names)
}

/// Buffers of a head: its parameters are `x` and `w`, their gradients `d_x` and `d_w`, and it keeps the `loss` of each row.
fn head(classes: usize, dimension: usize, batch: usize) -> Result<(ParameterSet, Plan), Error> {
    let mut parameters = ParameterSet::default();
    let normal = Init::Normal { std: 1.0 };
    parameters.add("x", Shape::matrix((Dim::N, batch), (Dim::D, dimension)), normal, 0.0, 1.0)?;
    parameters.add("w", Shape::matrix((Dim::Classes, classes), (Dim::D, dimension)), normal, 0.0, 1.0)?;
    let mut plan = PlanBuilder::new(&parameters);
    let one = Shape::vector(Dim::Length, 1);
    let operands = [
        plan.parameter("x")?,
        plan.parameter("w")?,
        plan.persistent("labels", Type::u32(Shape::vector(Dim::N, batch))),
        plan.persistent("count", Type::u32(one.clone())),
        plan.persistent("lambdas", Type::f32(Shape::vector(Dim::Steps, 1))),
        plan.persistent("counter", Type::u32(one)),
    ];
    let margin = MarginSoftmax::new(classes, Arc::new(SphereFace::new(MARGIN)), Scale::FeatureNorm);
    let output = plan.margin_softmax(margin, operands)?;
    plan.keep(output.loss, "loss");
    plan.backward(output.loss)?;
    let plan = plan.finish();
    Ok((parameters, plan))
}
