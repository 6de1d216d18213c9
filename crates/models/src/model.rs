//! A network with its head, and the plans to train, evaluate and embed with it.

use crate::backbone::Backbone;
use crate::network::Network;
use sphereface_tensor::op::{
    Advance, Augmentation, GatherBatch, Gradient, GradientNorm, Link, Logits, METRICS, MarginSoftmax, Metrics,
    Optimizer, RowModifiers, Rule, UnitRows,
};
use sphereface_tensor::{BufferId, Dim, Error, Init, ParameterSet, Plan, PlanBuilder, Shape, Type};

/// Name of the class weights `[classes, D]`.
pub const CLASS_WEIGHTS: &str = "classifier.weight";
/// Name of the bias `[1]` of a head that has one.
pub const CLASS_BIAS: &str = "classifier.bias";
/// Persistent buffer: training steps done.
pub const STEP: &str = "step";
/// Persistent buffer: learning rate of each step.
pub const RATES: &str = "rates";
/// Persistent buffer: λ of each step.
pub const LAMBDAS: &str = "lambdas";
/// Persistent buffer: the last rows of the training's metrics.
pub const LOG: &str = "log";

/// A set of images on the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSource {
    /// Prefix of its persistent buffers, such as `train`.
    pub name: &'static str,
    /// Number of images.
    pub images: usize,
}

impl ImageSource {
    /// Persistent buffer of the images, `u8 [images, H·W·C]`.
    pub fn images_buffer(&self) -> String {
        format!("{}.images", self.name)
    }

    /// Persistent buffer of the labels, `u8 [images]`.
    pub fn labels_buffer(&self) -> String {
        format!("{}.labels", self.name)
    }

    /// Persistent buffer: batches evaluated or embedded.
    pub fn counter_buffer(&self) -> String {
        format!("{}.batch", self.name)
    }

    /// Persistent buffer of the metrics of each evaluated batch.
    pub fn log_buffer(&self) -> String {
        format!("{}.log", self.name)
    }

    /// Persistent buffer of the embeddings of one batch, `[N, D]`.
    pub fn embedding_buffer(&self) -> String {
        format!("{}.embedding", self.name)
    }

    /// Batches that cover all images.
    pub fn batches(&self, batch: usize) -> usize {
        self.images.div_ceil(batch)
    }
}

/// What is subtracted from the byte of a pixel: bytes become `(byte − 127.5) / 128`.
pub const PIXEL_OFFSET: f32 = 127.5;
/// What the difference is multiplied with.
pub const PIXEL_FACTOR: f32 = 1.0 / 128.0;

/// What a training plan needs to know besides the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Training {
    /// Images to train on.
    pub source: ImageSource,
    /// Images a step.
    pub batch: usize,
    /// Steps of the whole training: length of the schedules.
    pub steps: usize,
    /// Seed of order and augmentation.
    pub seed: u64,
    /// Random changes of the images.
    pub augmentation: Augmentation,
    /// Update rule.
    pub rule: Rule,
    /// Weight decay.
    pub decay: f32,
    /// Largest norm of the gradient.
    pub clip: Option<f32>,
    /// Rows of the log.
    pub log_rows: usize,
}

/// A network and the head it is trained with.
#[derive(Clone, Debug)]
pub struct Model<N = Network> {
    /// From images to embeddings.
    pub network: N,
    /// From embeddings to the loss.
    pub head: MarginSoftmax,
}

impl<N: Backbone> Model<N> {
    /// All parameters, class weights last, but for a bias that the head may have.
    ///
    /// # Errors
    /// [`Error`], when names clash.
    pub fn parameters(&self) -> Result<ParameterSet, Error> {
        let mut parameters = ParameterSet::default();
        self.network.declare(&mut parameters)?;
        let shape = Shape::matrix((Dim::Classes, self.head.classes), (Dim::D, self.network.embedding()));
        parameters.add(CLASS_WEIGHTS, shape, self.network.classifier_init(), 1.0, 1.0)?;
        if let Link::Binary { initial_bias, .. } = self.head.link {
            parameters.add(CLASS_BIAS, Shape::vector(Dim::Length, 1), Init::Constant(initial_bias), 0.0, 1.0)?;
        }
        Ok(parameters)
    }

    /// One training step: gather, forward, backward, update.
    ///
    /// # Errors
    /// [`Error`], when the network does not fit the images.
    pub fn training_plan(&self, parameters: &ParameterSet, training: &Training) -> Result<Plan, Error> {
        let mut plan = PlanBuilder::new(parameters);
        let counter = plan.persistent(STEP, counter_type());
        let gather = self.gather(training.batch, training.seed, true, training.augmentation);
        let batch = self.gathered(&mut plan, gather, training.source, counter)?;
        if self.head.gradient == Gradient::Caffe {
            plan.label("head");
            let weights = plan.parameter(CLASS_WEIGHTS)?;
            plan.push(UnitRows, &[], &[weights])?;
        }
        let lambdas = plan.persistent(LAMBDAS, table_type(training.steps));
        let (hits, loss, norm) =
            self.classify(&mut plan, &batch, self.head.clone(), [lambdas, counter], training.seed)?;
        let gradients = plan.backward(loss)?;
        let gradient_norm = plan.push(GradientNorm, &[gradients], &[])?[0];
        let rates = plan.persistent(RATES, table_type(training.steps));
        let mut updates = vec![plan.block(sphereface_tensor::PARAMETERS)];
        updates.extend(training.rule.states().iter().map(|state| plan.block(state)));
        let groups = parameters.groups(training.decay);
        let optimizer = Optimizer { rule: training.rule, groups, clip: training.clip, copied: None };
        plan.push(optimizer, &[gradients, gradient_norm, rates, counter], &updates)?;
        let log = plan.persistent(LOG, log_type(training.log_rows));
        plan.push(Metrics, &[loss, hits, norm, batch.count, counter, gradient_norm], &[log])?;
        plan.push(Advance, &[], &[counter])?;
        Ok(plan.finish())
    }

    /// Metrics of one batch of a set, in order and not augmented; its hits are counted with and without margin: see [`METRICS`].
    ///
    /// # Errors
    /// [`Error`], when the network does not fit the images.
    pub fn evaluation_plan(
        &self,
        parameters: &ParameterSet,
        source: ImageSource,
        batch: usize,
        steps: usize,
    ) -> Result<Plan, Error> {
        let mut plan = PlanBuilder::new(parameters);
        let counter = plan.persistent(&source.counter_buffer(), counter_type());
        let gathered =
            self.gathered(&mut plan, self.gather(batch, 0, false, Augmentation::default()), source, counter)?;
        let lambdas = plan.persistent(LAMBDAS, table_type(steps));
        let step = plan.persistent(STEP, counter_type());
        // Without a backward pass nothing reads what the head could keep.
        let head = MarginSoftmax { logits: Logits::Recompute, ..self.head.clone() };
        let (hits, loss, norm) = self.classify(&mut plan, &gathered, head, [lambdas, step], 0)?;
        let log = plan.persistent(&source.log_buffer(), log_type(source.batches(batch)));
        plan.push(Metrics, &[loss, hits, norm, gathered.count, counter], &[log])?;
        plan.push(Advance, &[], &[counter])?;
        Ok(plan.finish())
    }

    /// Embeddings of one batch of a set, in order.
    ///
    /// # Errors
    /// [`Error`], when the network does not fit the images.
    pub fn embedding_plan(&self, parameters: &ParameterSet, source: ImageSource, batch: usize) -> Result<Plan, Error> {
        let mut plan = PlanBuilder::new(parameters);
        let counter = plan.persistent(&source.counter_buffer(), counter_type());
        let gathered =
            self.gathered(&mut plan, self.gather(batch, 0, false, Augmentation::default()), source, counter)?;
        let embedding = self.network.build(&mut plan, gathered.x)?;
        plan.keep(embedding, &source.embedding_buffer());
        plan.label("embed");
        plan.push(Advance, &[], &[counter])?;
        Ok(plan.finish())
    }

    fn gather(&self, batch: usize, seed: u64, shuffle: bool, augmentation: Augmentation) -> GatherBatch {
        let (offset, factor) = (PIXEL_OFFSET, PIXEL_FACTOR);
        GatherBatch { image: self.network.image(), batch, seed, shuffle, augmentation, offset, factor }
    }

    fn gathered(
        &self,
        plan: &mut PlanBuilder<'_>,
        gather: GatherBatch,
        source: ImageSource,
        counter: BufferId,
    ) -> Result<Batch, Error> {
        plan.label("gather");
        let bytes = self.network.image().iter().fold(1, |bytes: usize, &size| bytes.saturating_mul(size));
        let images = Shape::matrix((Dim::Images, source.images), (Dim::Length, bytes));
        let images = plan.persistent(&source.images_buffer(), Type::u8(images));
        let labels = plan.persistent(&source.labels_buffer(), Type::u8(Shape::vector(Dim::Images, source.images)));
        let written = plan.push(gather, &[images, labels, counter], &[])?;
        Ok(Batch { x: written[0], labels: written[1], count: written[2] })
    }

    /// Hits, loss and embedding norm of each row; `seed` is that of margins which are drawn.
    fn classify(
        &self,
        plan: &mut PlanBuilder<'_>,
        batch: &Batch,
        head: MarginSoftmax,
        [lambdas, counter]: [BufferId; 2],
        seed: u64,
    ) -> Result<(BufferId, BufferId, BufferId), Error> {
        let embedding = self.network.build(plan, batch.x)?;
        plan.label("head");
        let weights = plan.parameter(CLASS_WEIGHTS)?;
        let modifiers = match head.modifier {
            None => lambdas,
            Some(of) => plan.push(RowModifiers { of, seed }, &[embedding, batch.count, counter], &[])?[0],
        };
        let mut operands = vec![embedding, weights, batch.labels, batch.count, modifiers, counter];
        if head.has_bias() {
            operands.push(plan.parameter(CLASS_BIAS)?);
        }
        let output = plan.margin_softmax(head, operands)?;
        Ok((output.hits, output.loss, output.norm))
    }
}

struct Batch {
    x: BufferId,
    labels: BufferId,
    count: BufferId,
}

fn counter_type() -> Type {
    Type::u32(Shape::vector(Dim::Length, 1))
}

fn table_type(steps: usize) -> Type {
    Type::f32(Shape::vector(Dim::Steps, steps))
}

fn log_type(rows: usize) -> Type {
    Type::f32(Shape::matrix((Dim::Steps, rows), (Dim::Columns, METRICS.len())))
}
