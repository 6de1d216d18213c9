//! One model on one backend: its plans lowered, its data uploaded, its state stepped, evaluated and saved.

use crate::checkpoint;
use crate::config::Config;
use crate::device;
use crate::event::{Finding, Recovery};
use crate::guard::NotFinite;
use crate::progress::Verbosity;
use crate::recovery::Schedules;
use anyhow::{Context, Result, bail, ensure};
use sphereface_data::{Dataset, ImageSet};
use sphereface_export::pytorch;
use sphereface_models::{CLASS_WEIGHTS, ImageSource, LAMBDAS, LOG, Model, RATES, STEP, Training};
use sphereface_tensor::op::{FEW_CLASSES, Logits, METRICS, MarginSoftmax, Scale};
use sphereface_tensor::{Backend, PARAMETERS, ParameterSet, Program, StepTime};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Rows of the log on the backend: the most steps between two readings.
pub(crate) const LOG_ROWS: usize = 64;

/// The longest training.
const MAX_STEPS: usize = 10_000_000;

/// The fewest and the most steps that are timed, and the time after which there are no more than the fewest.
const TIMED_STEPS: [usize; 2] = [3, 20];
const TIMING: Duration = Duration::from_secs(2);

/// One row of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Row {
    /// Valid rows of the batch.
    pub(crate) rows: f64,
    /// Sum of their losses.
    pub(crate) loss: f64,
    /// How many were right by the logits without margin.
    pub(crate) hits_logits: f64,
    /// By the cosines.
    pub(crate) hits_cosines: f64,
    /// By the logits with margin.
    pub(crate) hits_penalised: f64,
    /// Sum of the embeddings' norms.
    pub(crate) feature_norm: f64,
    /// Norm of all gradients.
    pub(crate) gradient_norm: f64,
}

impl Row {
    fn new(values: &[f32]) -> Row {
        let at =
            |name: &str| METRICS.iter().position(|metric| *metric == name).map_or(f64::NAN, |i| f64::from(values[i]));
        Row {
            rows: at("rows"),
            loss: at("loss"),
            hits_logits: at("hits_logits"),
            hits_cosines: at("hits_cosines"),
            hits_penalised: at("hits_penalised"),
            feature_norm: at("feature_norm"),
            gradient_norm: at("gradient_norm"),
        }
    }

    fn add(self, other: Row) -> Row {
        Row {
            rows: self.rows + other.rows,
            loss: self.loss + other.loss,
            hits_logits: self.hits_logits + other.hits_logits,
            hits_cosines: self.hits_cosines + other.hits_cosines,
            hits_penalised: self.hits_penalised + other.hits_penalised,
            feature_norm: self.feature_norm + other.feature_norm,
            gradient_norm: self.gradient_norm.max(other.gradient_norm),
        }
    }

    /// Mean over the valid rows of something that was summed.
    pub(crate) fn mean(&self, sum: f64) -> f64 {
        sum / self.rows
    }
}

/// Embeddings of a set with the class of the largest logit without margin.
pub(crate) struct Embedded {
    /// `[images, D]`.
    pub(crate) points: Vec<f32>,
    /// Class of the largest logit.
    pub(crate) predictions: Vec<u8>,
    /// `[classes, D]`.
    pub(crate) class_weights: Vec<f32>,
}

/// A set of images that has been uploaded, with the plan that evaluates it.
struct Evaluation {
    source: ImageSource,
    program: Program,
}

/// One training, or one trained model.
pub(crate) struct Session {
    backend: Box<dyn Backend>,
    model: Model,
    parameters: ParameterSet,
    training: Training,
    train_program: Program,
    train: Evaluation,
    test: Evaluation,
    /// The plan that embeds the test set, lowered when it is first asked for.
    embedding_program: Option<Program>,
    /// Images of the training set that are evaluated.
    evaluated: usize,
    steps_done: usize,
    /// Learning rates and λ as the configuration has them.
    planned: Schedules,
    /// As they are, after what the guard changed.
    schedules: Schedules,
    recoveries: Vec<Recovery>,
}

/// Model of a single training for images of this data set.
pub(crate) fn model(config: &Config, dataset: &Dataset) -> Result<Model> {
    let image = [dataset.train.height, dataset.train.width, dataset.train.channels];
    let (classes, logits) = (dataset.classes, config.logits()?);
    ensure!(
        classes > FEW_CLASSES || logits == Logits::Recompute,
        "model.logits: expected more than {FEW_CLASSES} classes to keep any, found {classes}"
    );
    let choice = config.loss()?;
    let head = choice.head(classes);
    ensure!(
        head.is_plain() || logits == Logits::Recompute,
        "model.logits: expected recompute for {}, whose logits are no plain cosines, found kept",
        choice.loss.title
    );
    Ok(Model {
        network: config.network()?.network(image, config.model.dims[0]),
        head: MarginSoftmax { logits, ..head },
    })
}

impl Session {
    /// A training at its start: parameters initialised from the seed.
    pub(crate) fn new(config: &Config, dataset: &Dataset, verbosity: Verbosity) -> Result<Session> {
        let mut backend = device::backend(config, verbosity)?.backend;
        let model = model(config, dataset)?;
        let parameters = model.parameters()?;
        let steps = config.steps(dataset.train.len());
        let clip = config.optimizer.clip as f32;
        let training = Training {
            source: ImageSource { name: "train", images: dataset.train.len() },
            batch: config.training.batch,
            steps,
            seed: config.training.seed,
            augmentation: config.augmentation(),
            rule: config.rule(),
            decay: config.optimizer.weight_decay as f32,
            clip: (clip > 0.0).then_some(clip),
            log_rows: LOG_ROWS,
        };
        ensure!(steps <= MAX_STEPS, "training: expected at most {MAX_STEPS} steps, found {steps}");
        ensure!(
            dataset.train.len() < u32::MAX as usize && steps < u32::MAX as usize,
            "training: too many images or steps"
        );
        let test = ImageSource { name: "test", images: dataset.test.len() };
        let train_program = backend.lower(&model.training_plan(&parameters, &training)?)?;
        let mut evaluation = |source| -> Result<Evaluation> {
            let plan = model.evaluation_plan(&parameters, source, training.batch, steps)?;
            Ok(Evaluation { source, program: backend.lower(&plan)? })
        };
        let (train, test) = (evaluation(training.source)?, evaluation(test)?);
        upload_images(&mut *backend, train.source, &dataset.train)?;
        upload_images(&mut *backend, test.source, &dataset.test)?;
        let rates = config.rate().table(steps);
        let annealed = config.loss()?.loss.annealed;
        let lambdas = if annealed { config.lambda().table(steps) } else { vec![0.0; steps] };
        let planned = Schedules { rates, lambdas, annealed };
        upload_schedules(&mut *backend, &planned)?;
        backend.upload(PARAMETERS, bytemuck::cast_slice(&parameters.initial(config.training.seed)))?;
        let evaluated = config.data.evaluate.unwrap_or(usize::MAX).min(dataset.train.len());
        Ok(Session {
            backend,
            model,
            parameters,
            training,
            train_program,
            train,
            test,
            embedding_program: None,
            evaluated,
            steps_done: 0,
            schedules: planned.clone(),
            planned,
            recoveries: Vec::new(),
        })
    }

    /// Continues from a checkpoint.
    pub(crate) fn load(&mut self, path: &Path) -> Result<()> {
        let (steps_done, recoveries) =
            checkpoint::load(path, &mut *self.backend, &self.parameters, self.training.rule)?;
        self.steps_done = steps_done;
        self.set_recoveries(recoveries)?;
        let (done, steps) = (self.steps_done, self.training.steps);
        ensure!(done <= steps, "{}: step: expected at most the {steps} of the training, found {done}", path.display());
        Ok(())
    }

    /// Takes the model of a finished training, without what going on would need.
    pub(crate) fn load_model(&mut self, path: &Path) -> Result<()> {
        let file = fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let values = pytorch::decode(&file, &self.model, &self.parameters);
        let values = values.with_context(|| path.display().to_string())?;
        self.backend.upload(PARAMETERS, bytemuck::cast_slice(&values))?;
        self.steps_done = self.training.steps;
        self.backend.upload(STEP, &(self.steps_done as u32).to_le_bytes())?;
        Ok(())
    }

    /// Saves a checkpoint.
    pub(crate) fn save(&mut self, path: &Path) -> Result<()> {
        checkpoint::save(path, &mut *self.backend, &self.parameters, self.training.rule, &self.recoveries)
    }

    /// What the guard did so far.
    pub(crate) fn recoveries(&self) -> &[Recovery] {
        &self.recoveries
    }

    /// What to do about a finding from step `back_to` on.
    pub(crate) fn recovery(&self, finding: Finding, back_to: usize) -> Recovery {
        self.schedules.recovery(finding, back_to)
    }

    /// Changes the schedules as these recoveries say.
    pub(crate) fn set_recoveries(&mut self, recoveries: Vec<Recovery>) -> Result<()> {
        if recoveries != self.recoveries {
            self.schedules = self.planned.eased(&recoveries);
            upload_schedules(&mut *self.backend, &self.schedules)?;
            self.recoveries = recoveries;
        }
        Ok(())
    }

    /// Parameters of the model.
    pub(crate) fn parameters(&self) -> &ParameterSet {
        &self.parameters
    }

    /// Their block of values.
    pub(crate) fn parameter_values(&mut self) -> Result<Vec<f32>> {
        read(&mut *self.backend, PARAMETERS, self.parameters.length())
    }

    /// Network and head.
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// Steps done so far.
    pub(crate) fn steps_done(&self) -> usize {
        self.steps_done
    }

    /// Steps of the whole training.
    pub(crate) fn steps(&self) -> usize {
        self.training.steps
    }

    /// Images of the training set.
    pub(crate) fn train_images(&self) -> usize {
        self.training.source.images
    }

    /// Images a step.
    pub(crate) fn batch(&self) -> usize {
        self.training.batch
    }

    /// Learning rate and λ of a step.
    pub(crate) fn schedule(&self, step: usize) -> (f64, f64) {
        (self.schedules.rates[step], self.schedules.lambdas[step])
    }

    /// Epochs, as a fraction, after this many steps.
    pub(crate) fn epochs(&self, steps: usize) -> f64 {
        (steps * self.training.batch) as f64 / self.training.source.images as f64
    }

    /// Number of the epoch of the next step, from 1 on.
    pub(crate) fn epoch(&self) -> usize {
        self.steps_done * self.training.batch / self.training.source.images + 1
    }

    /// Steps after which an epoch is over.
    pub(crate) fn steps_until(&self, epoch: usize) -> usize {
        (epoch * self.training.source.images).div_ceil(self.training.batch)
    }

    /// Trains `steps` steps, at most [`LOG_ROWS`], and returns their rows of the log.
    pub(crate) fn train(&mut self, steps: usize) -> Result<Vec<Row>> {
        let steps = steps.min(LOG_ROWS);
        self.backend.run(self.train_program, steps)?;
        self.backend.sync()?;
        let log = read(&mut *self.backend, LOG, LOG_ROWS * METRICS.len())?;
        let first = self.steps_done;
        self.steps_done += steps;
        let row = |step: usize| Row::new(&log[step % LOG_ROWS * METRICS.len()..][..METRICS.len()]);
        Ok((first..self.steps_done).map(row).collect())
    }

    /// Evaluates the test set.
    ///
    /// # Errors
    /// [`NotFinite`] if the loss is.
    pub(crate) fn evaluate_test(&mut self) -> Result<Row> {
        let row = evaluate(&mut *self.backend, &self.test, self.test.source.images, self.training.batch)?;
        if !row.loss.is_finite() {
            bail!(NotFinite("the loss on the test images".into()));
        }
        Ok(row)
    }

    /// What each kernel did so far, where the backend counts it.
    pub(crate) fn profile(&self) -> Option<String> {
        self.backend.profile()
    }

    /// What each step of the training plan takes: the shortest of a few runs, after one that warms up. They train on, so
    /// the session ends here.
    pub(crate) fn step_times(mut self) -> Result<Vec<StepTime>> {
        let mut run = || -> Result<Vec<StepTime>> {
            // The first step each time: the schedules end where the training did.
            self.backend.upload(STEP, &[0; 4])?;
            Ok(self.backend.run_timed(self.train_program)?)
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

    /// Evaluates the training set, without augmentation.
    pub(crate) fn evaluate_train(&mut self) -> Result<Row> {
        evaluate(&mut *self.backend, &self.train, self.evaluated, self.training.batch)
    }

    /// Embeds the first `images` images of the test set, or all if there are fewer.
    pub(crate) fn embed_test(&mut self, images: usize) -> Result<Embedded> {
        let (source, batch) = (self.test.source, self.training.batch);
        let images = images.min(source.images);
        let program = match self.embedding_program {
            Some(program) => program,
            None => {
                let plan = self.model.embedding_plan(&self.parameters, source, batch)?;
                *self.embedding_program.insert(self.backend.lower(&plan)?)
            }
        };
        let dim = self.model.network.embedding;
        self.backend.upload(&source.counter_buffer(), &[0; 4])?;
        let batches = images.div_ceil(batch);
        let mut points = Vec::with_capacity(batches * batch * dim);
        for _ in 0..batches {
            self.backend.run(program, 1)?;
            points.extend(read(&mut *self.backend, &source.embedding_buffer(), batch * dim)?);
        }
        points.truncate(images * dim);
        let class_weights = read(&mut *self.backend, CLASS_WEIGHTS, self.model.head.classes * dim)?;
        let scale = self.model.head.scale;
        let predictions = points.chunks_exact(dim).map(|point| predict(point, &class_weights, scale)).collect();
        Ok(Embedded { points, predictions, class_weights })
    }
}

fn read(backend: &mut dyn Backend, buffer: &str, length: usize) -> Result<Vec<f32>> {
    let mut values = vec![0.0f32; length];
    backend.download(buffer, bytemuck::cast_slice_mut(&mut values))?;
    Ok(values)
}

fn upload_images(backend: &mut dyn Backend, source: ImageSource, images: &ImageSet) -> Result<()> {
    backend.upload(&source.images_buffer(), &images.images).context("images")?;
    backend.upload(&source.labels_buffer(), &images.labels).context("labels")?;
    Ok(())
}

fn upload_schedules(backend: &mut dyn Backend, schedules: &Schedules) -> Result<()> {
    for (buffer, values) in [(RATES, &schedules.rates), (LAMBDAS, &schedules.lambdas)] {
        let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        backend.upload(buffer, bytemuck::cast_slice(&values))?;
    }
    Ok(())
}

/// Metrics of the first `images` images of a set, in whole batches.
fn evaluate(backend: &mut dyn Backend, evaluation: &Evaluation, images: usize, batch: usize) -> Result<Row> {
    let source = evaluation.source;
    let batches = images.div_ceil(batch);
    backend.upload(&source.counter_buffer(), &[0; 4])?;
    backend.run(evaluation.program, batches)?;
    backend.sync()?;
    let log = read(backend, &source.log_buffer(), source.batches(batch) * METRICS.len())?;
    let log = &log[..batches * METRICS.len()];
    Ok(log.chunks_exact(METRICS.len()).map(Row::new).fold(Row::default(), Row::add))
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
