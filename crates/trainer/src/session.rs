//! A training of the library as the program runs it: made of a configuration, saved, loaded, eased by the guard.

use crate::checkpoint;
use crate::config::Config;
use crate::device;
use crate::event::{Finding, Recovery};
use crate::guard::NotFinite;
use crate::progress::Verbosity;
use crate::recovery::Schedules;
use anyhow::{Context, Result, bail, ensure};
use sphereface::Metrics;
use sphereface_data::Dataset;
use sphereface_export::pytorch;
use sphereface_models::{ImageSource, Model, Training};
use sphereface_tensor::op::{FEW_CLASSES, Logits, MarginSoftmax};
use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::Path;

/// Rows of the log on the backend: the most steps between two readings.
pub(crate) const LOG_ROWS: usize = 64;

/// The longest training.
const MAX_STEPS: usize = 10_000_000;

/// One training, or one trained model: a session of the library with checkpoints and what the guard changed.
pub(crate) struct Session {
    session: sphereface::Session,
    /// Images of the training set that are evaluated.
    evaluated: usize,
    /// Learning rates and λ as the configuration has them.
    planned: Schedules,
    /// As they are, after what the guard changed.
    schedules: Schedules,
    recoveries: Vec<Recovery>,
}

impl Deref for Session {
    type Target = sphereface::Session;

    fn deref(&self) -> &sphereface::Session {
        &self.session
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut sphereface::Session {
        &mut self.session
    }
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
        let backend = device::backend(config, verbosity)?.backend;
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
        let model = model(config, dataset)?;
        let mut session = sphereface::Session::new(backend, model, training, &dataset.train, &dataset.test)?;
        let rates = config.rate().table(steps);
        let annealed = config.loss()?.loss.annealed;
        let lambdas = if annealed { config.lambda().table(steps) } else { vec![0.0; steps] };
        let planned = Schedules { rates, lambdas, annealed };
        session.set_schedules(&planned.rates, &planned.lambdas)?;
        let evaluated = config.data.evaluate.unwrap_or(usize::MAX);
        Ok(Session { session, evaluated, schedules: planned.clone(), planned, recoveries: Vec::new() })
    }

    /// Continues from a checkpoint.
    pub(crate) fn load(&mut self, path: &Path) -> Result<()> {
        let rule = self.training().rule;
        let (backend, parameters) = self.session.state();
        let (steps_done, recoveries) = checkpoint::load(path, backend, parameters, rule)?;
        self.set_steps_done(steps_done).with_context(|| path.display().to_string())?;
        self.set_recoveries(recoveries)
    }

    /// Takes the model of a finished training, without what going on would need.
    pub(crate) fn load_model(&mut self, path: &Path) -> Result<()> {
        let file = fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let values = pytorch::decode(&file, self.model(), self.parameters());
        self.set_values(&values.with_context(|| path.display().to_string())?)?;
        let steps = self.steps();
        Ok(self.set_steps_done(steps)?)
    }

    /// Saves a checkpoint.
    pub(crate) fn save(&mut self, path: &Path) -> Result<()> {
        let rule = self.training().rule;
        let (backend, parameters) = self.session.state();
        checkpoint::save(path, backend, parameters, rule, &self.recoveries)
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
            self.session.set_schedules(&self.schedules.rates, &self.schedules.lambdas)?;
            self.recoveries = recoveries;
        }
        Ok(())
    }

    /// Learning rate and λ of a step.
    pub(crate) fn schedule(&self, step: usize) -> (f64, f64) {
        (self.schedules.rates[step], self.schedules.lambdas[step])
    }

    /// Evaluates the test set.
    ///
    /// # Errors
    /// [`NotFinite`] if the loss is.
    pub(crate) fn evaluate_test(&mut self) -> Result<Metrics> {
        let metrics = self.session.evaluate_test()?;
        if !metrics.loss.is_finite() {
            bail!(NotFinite("the loss on the test images".into()));
        }
        Ok(metrics)
    }

    /// Evaluates the training set, without augmentation.
    pub(crate) fn evaluate_train(&mut self) -> Result<Metrics> {
        Ok(self.session.evaluate_train(self.evaluated)?)
    }

    /// The session without what the program adds to it.
    pub(crate) fn into_inner(self) -> sphereface::Session {
        self.session
    }
}
