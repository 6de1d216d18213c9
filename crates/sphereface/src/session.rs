//! One model on one backend: its plans lowered, its data uploaded, its state stepped and evaluated.

use crate::error::Error;
use crate::metrics::Metrics;
use sphereface_data::ImageSet;
use sphereface_models::{Backbone, CLASS_WEIGHTS, ImageSource, LAMBDAS, LOG, Model, Network, RATES, Recipe};
use sphereface_models::{STEP, Training};
use sphereface_tensor::op::{METRICS, Scale};
use sphereface_tensor::{Backend, PARAMETERS, ParameterSet, Program, StepTime};
use std::time::{Duration, Instant};

/// The fewest and the most steps that are timed, and the time after which there are no more than the fewest.
const TIMED_STEPS: [usize; 2] = [3, 20];
const TIMING: Duration = Duration::from_secs(2);

/// A set of images that lies on the backend, with the plan that evaluates it.
struct Evaluation {
    source: ImageSource,
    program: Program,
}

/// Embeddings of a set with the class of the largest logit without margin.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedded {
    /// `[N, D]`.
    pub points: Vec<f32>,
    /// Class of the largest logit, `[N]`.
    pub predictions: Vec<u8>,
    /// `[classes, D]`.
    pub class_weights: Vec<f32>,
}

/// One training: a model, its images and its optimiser on one backend.
///
/// All images lie on the backend, a byte a value. Everything that a step depends on is seed, state and number of the step:
/// the same seed gives the same bits for any number of threads.
pub struct Session<N = Network> {
    backend: Box<dyn Backend>,
    model: Model<N>,
    parameters: ParameterSet,
    training: Training,
    program: Program,
    train: Evaluation,
    test: Evaluation,
    /// The plan that embeds the test set, lowered when it is first asked for.
    embedding: Option<Program>,
    steps_done: usize,
}

impl<N: Backbone> Session<N> {
    /// A training at its start, by a recipe: with its learning rates, and with its λ for margins that are annealed.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn with_recipe(
        backend: Box<dyn Backend>,
        model: Model<N>,
        recipe: &Recipe,
        train: &ImageSet,
        test: &ImageSet,
    ) -> Result<Session<N>, Error> {
        let steps = recipe.steps(train.len());
        let mut session = Session::new(backend, model, recipe.training(train.len()), train, test)?;
        session.set_schedules(&recipe.rate().table(steps), &recipe.lambda().table(steps))?;
        Ok(session)
    }

    /// A training at its start: parameters initialised from the seed, images uploaded; rates and λ are 0 until
    /// [`set_schedules`](Session::set_schedules) says otherwise.
    ///
    /// # Errors
    /// [`Error::Given`], when images or labels are not those that model and training are made for; [`Error::Plan`].
    pub fn new(
        mut backend: Box<dyn Backend>,
        model: Model<N>,
        training: Training,
        train: &ImageSet,
        test: &ImageSet,
    ) -> Result<Session<N>, Error> {
        if training.source.images != train.len() {
            return Err(Error::given("training images", training.source.images, train.len()));
        }
        for (set, field) in [(train, "training labels"), (test, "test labels")] {
            let (found, size) = ([set.height, set.width, set.channels], model.network.image());
            if found != size {
                return Err(Error::given("images", format!("{size:?}"), format!("{found:?}")));
            }
            if let Some(label) = set.labels.iter().find(|&&label| usize::from(label) >= model.head.classes) {
                return Err(Error::given(field, format!("less than the {} classes", model.head.classes), label));
            }
        }
        let parameters = model.parameters()?;
        let program = backend.lower(&model.training_plan(&parameters, &training)?)?;
        let mut upload = |source: ImageSource, images: &ImageSet| -> Result<Evaluation, Error> {
            let plan = model.evaluation_plan(&parameters, source, training.batch, training.steps)?;
            let program = backend.lower(&plan)?;
            backend.upload(&source.images_buffer(), &images.images)?;
            backend.upload(&source.labels_buffer(), &images.labels)?;
            Ok(Evaluation { source, program })
        };
        let (train, test) =
            (upload(training.source, train)?, upload(ImageSource { name: "test", images: test.len() }, test)?);
        backend.upload(PARAMETERS, bytemuck::cast_slice(&parameters.initial(training.seed)))?;
        Ok(Session { backend, model, parameters, training, program, train, test, embedding: None, steps_done: 0 })
    }

    /// Sets the learning rate and λ of every step.
    ///
    /// # Shapes
    /// `[steps]` each.
    ///
    /// # Errors
    /// [`Error::Plan`], when they have another length.
    pub fn set_schedules(&mut self, rates: &[f64], lambdas: &[f64]) -> Result<(), Error> {
        for (buffer, values) in [(RATES, rates), (LAMBDAS, lambdas)] {
            let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
            self.backend.upload(buffer, bytemuck::cast_slice(&values))?;
        }
        Ok(())
    }

    /// The backend, whose persistent buffers are all state there is, and where parameters lie in theirs.
    pub fn state(&mut self) -> (&mut dyn Backend, &ParameterSet) {
        (&mut *self.backend, &self.parameters)
    }

    /// Says how many steps are done, when parameters and optimiser state were put there by other means.
    ///
    /// # Errors
    /// [`Error::Given`], when there are not so many.
    pub fn set_steps_done(&mut self, steps: usize) -> Result<(), Error> {
        if steps > self.training.steps {
            return Err(Error::given("step", format!("at most the {} of the training", self.training.steps), steps));
        }
        self.backend.upload(STEP, &(steps as u32).to_le_bytes())?;
        self.steps_done = steps;
        Ok(())
    }

    /// The parameters.
    pub fn parameters(&self) -> &ParameterSet {
        &self.parameters
    }

    /// The block of their values, as [`ParameterSet`] lays it out.
    ///
    /// # Errors
    /// [`Error::Plan`], when the backend fails.
    pub fn values(&mut self) -> Result<Vec<f32>, Error> {
        self.read(PARAMETERS, self.parameters.length())
    }

    /// Replaces the block of their values.
    ///
    /// # Errors
    /// [`Error::Plan`], when it has another length.
    pub fn set_values(&mut self, values: &[f32]) -> Result<(), Error> {
        Ok(self.backend.upload(PARAMETERS, bytemuck::cast_slice(values))?)
    }

    /// Network and head.
    pub fn model(&self) -> &Model<N> {
        &self.model
    }

    /// How it is trained.
    pub fn training(&self) -> &Training {
        &self.training
    }

    /// Steps done so far.
    pub fn steps_done(&self) -> usize {
        self.steps_done
    }

    /// Steps of the whole training.
    pub fn steps(&self) -> usize {
        self.training.steps
    }

    /// Epochs, as a fraction, after this many steps.
    pub fn epochs(&self, steps: usize) -> f64 {
        (steps * self.training.batch) as f64 / self.training.source.images as f64
    }

    /// Number of the epoch of the next step, from 1 on.
    pub fn epoch(&self) -> usize {
        self.steps_done * self.training.batch / self.training.source.images + 1
    }

    /// Steps after which an epoch is over.
    pub fn steps_until(&self, epoch: usize) -> usize {
        (epoch * self.training.source.images).div_ceil(self.training.batch)
    }

    /// Trains `steps` steps more, at most as many as the log has rows, and none beyond the end; returns what each measured.
    ///
    /// # Errors
    /// [`Error::Plan`], when the backend fails.
    pub fn train(&mut self, steps: usize) -> Result<Vec<Metrics>, Error> {
        let rows = self.training.log_rows;
        let steps = steps.min(rows).min(self.training.steps - self.steps_done);
        self.backend.run(self.program, steps)?;
        self.backend.sync()?;
        let log = self.read(LOG, rows * METRICS.len())?;
        let first = self.steps_done;
        self.steps_done += steps;
        let row = |step: usize| Metrics::new(&log[step % rows * METRICS.len()..][..METRICS.len()]);
        Ok((first..self.steps_done).map(row).collect())
    }

    /// Trains to the end.
    ///
    /// # Errors
    /// [`Error::Plan`], when the backend fails.
    pub fn finish(&mut self) -> Result<(), Error> {
        while self.steps_done < self.training.steps {
            self.train(self.training.log_rows)?;
        }
        Ok(())
    }

    /// Evaluates the test set.
    ///
    /// # Errors
    /// [`Error::Plan`], when the backend fails.
    pub fn evaluate_test(&mut self) -> Result<Metrics, Error> {
        let Evaluation { source, program } = self.test;
        self.evaluate(source, program, source.images)
    }

    /// Evaluates the first `images` images of the training set, rounded up to whole batches, without augmentation.
    ///
    /// # Errors
    /// [`Error::Plan`], when the backend fails.
    pub fn evaluate_train(&mut self, images: usize) -> Result<Metrics, Error> {
        let Evaluation { source, program } = self.train;
        self.evaluate(source, program, images.min(source.images))
    }

    fn evaluate(&mut self, source: ImageSource, program: Program, images: usize) -> Result<Metrics, Error> {
        let batch = self.training.batch;
        let batches = images.div_ceil(batch);
        self.backend.upload(&source.counter_buffer(), &[0; 4])?;
        self.backend.run(program, batches)?;
        self.backend.sync()?;
        let log = self.read(&source.log_buffer(), source.batches(batch) * METRICS.len())?;
        let rows = log[..batches * METRICS.len()].chunks_exact(METRICS.len());
        Ok(rows.map(Metrics::new).fold(Metrics::default(), Metrics::add))
    }

    /// Number of test images.
    pub fn test_images(&self) -> usize {
        self.test.source.images
    }

    /// Embeds the first `images` images of the test set, or all if there are fewer. Other images: [`Embedder`](crate::Embedder).
    ///
    /// # Errors
    /// [`Error::Plan`], when the backend fails.
    pub fn embed_test(&mut self, images: usize) -> Result<Embedded, Error> {
        let (source, batch) = (self.test.source, self.training.batch);
        let images = images.min(source.images);
        let program = match self.embedding {
            Some(program) => program,
            None => {
                let plan = self.model.embedding_plan(&self.parameters, source, batch)?;
                *self.embedding.insert(self.backend.lower(&plan)?)
            }
        };
        let dim = self.model.network.embedding();
        self.backend.upload(&source.counter_buffer(), &[0; 4])?;
        let batches = images.div_ceil(batch);
        let mut points = Vec::with_capacity(batches * batch * dim);
        for _ in 0..batches {
            self.backend.run(program, 1)?;
            points.extend(self.read(&source.embedding_buffer(), batch * dim)?);
        }
        points.truncate(images * dim);
        let class_weights = self.read(CLASS_WEIGHTS, self.model.head.classes * dim)?;
        let scale = self.model.head.scale;
        let predictions = points.chunks_exact(dim).map(|point| predict(point, &class_weights, scale)).collect();
        Ok(Embedded { points, predictions, class_weights })
    }

    /// What each kernel did so far, where the backend counts it.
    pub fn profile(&self) -> Option<String> {
        self.backend.profile()
    }

    /// What each step of the training plan takes: the shortest of a few runs, after one that warms up. They train on, so
    /// the session ends here.
    ///
    /// # Errors
    /// [`Error::Plan`], when the backend fails.
    pub fn step_times(mut self) -> Result<Vec<StepTime>, Error> {
        let mut run = || -> Result<Vec<StepTime>, Error> {
            // The first step each time: the schedules end where the training did.
            self.backend.upload(STEP, &[0; 4])?;
            Ok(self.backend.run_timed(self.program)?)
        };
        run()?;
        let started = Instant::now();
        let [fewest, most] = TIMED_STEPS;
        let mut runs = vec![run()?];
        while runs.len() < fewest || (runs.len() < most && started.elapsed() < TIMING) {
            runs.push(run()?);
        }
        // The shortest: whatever else the machine does only adds to a time.
        let shortest = |index: usize| runs.iter().map(|run| &run[index]).min_by_key(|step| step.time).cloned();
        Ok((0..runs[0].len()).filter_map(shortest).collect())
    }

    fn read(&mut self, buffer: &str, length: usize) -> Result<Vec<f32>, Error> {
        let mut values = vec![0.0f32; length];
        self.backend.download(buffer, bytemuck::cast_slice_mut(&mut values))?;
        Ok(values)
    }
}

/// The class of the largest logit without margin: `w·x`, for unit-norm class weights `ŵ·x`.
fn predict(point: &[f32], class_weights: &[f32], scale: Scale) -> u8 {
    let logit = |weight: &[f32]| {
        let dot: f64 = point.iter().zip(weight).map(|(p, w)| f64::from(*p) * f64::from(*w)).sum();
        let norm = weight.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>().sqrt();
        if scale == Scale::InnerProduct { dot } else { dot / norm.max(1e-12) }
    };
    let logits = class_weights.chunks_exact(point.len()).map(logit);
    logits.enumerate().fold((0, f64::NEG_INFINITY), |best, (j, z)| if z > best.1 { (j as u8, z) } else { best }).0
}
