//! One training from its start, or from its checkpoint, to its results.

use crate::config::Config;
use crate::course::{self, Course, History};
use crate::event::Event;
use crate::export;
use crate::film::{self, Recording};
use crate::folder::{Folder, Line, TrainingSummary, events, records};
use crate::network::Profile;
use crate::progress::Verbosity;
use crate::session::Session;
use anyhow::Result;
use sphereface::Embedded;
use sphereface_data::Dataset;
use sphereface_report::{Embeddings, Training};

/// Steps of the curves in a report.
const CURVE_POINTS: usize = 400;

/// How a training ended.
pub(crate) enum Outcome {
    /// At its last step.
    Finished(Box<Finished>),
    /// Saved before its last step: asked to stop, or at the step it was told to stop at.
    Paused {
        /// Steps done.
        step: usize,
        /// Steps of the whole training.
        steps: usize,
    },
}

/// Results of a finished training.
pub(crate) struct Finished {
    pub(crate) summary: TrainingSummary,
    pub(crate) report: Training,
    pub(crate) lines: Vec<Line>,
    /// What each kernel did, where the backend counts it.
    pub(crate) counts: Option<String>,
    /// Where the time of a step goes; not on the emulator, whose time says nothing about a GPU's.
    pub(crate) profile: Option<Profile>,
}

/// Trains, or continues, what `config` describes in `folder`, up to step `stop_at` if it is given.
pub(crate) fn run(
    config: &Config,
    dataset: &Dataset,
    folder: &Folder,
    name: &str,
    verbosity: Verbosity,
    stop_at: Option<usize>,
) -> Result<Outcome> {
    let mut session = Session::new(config, dataset, verbosity)?;
    let mut history = History { lines: Vec::new(), film: Recording::new(&session) };
    let lines = &mut history.lines;
    if folder.has_checkpoint() {
        session.load(&folder.checkpoint())?;
        history.film = Recording::resume(&folder.file(film::FILE), &session)?;
        *lines = folder.read_log(session.steps_done())?;
        // A run that ended within an epoch and is now stretched has a line for that epoch too early.
        let steps = session.steps();
        lines.retain(|line| match *line {
            Line::Epoch { step, record, .. } => step == session.steps_until(record.epoch) || step == steps,
            Line::Step { .. } | Line::Guard { .. } => true,
        });
        folder.write_config(config)?;
    } else {
        // The log before the checkpoint, here too: a run that dies between them has done nothing yet.
        folder.write_config(config)?;
        folder.continue_log(lines)?;
        history.film.record(&mut session)?;
        course::save(&mut session, &mut history.film, folder)?;
    }
    let place = (config, dataset, folder);
    Course::new(&mut session, &mut history, place, name, verbosity, stop_at.unwrap_or(usize::MAX))?.run()?;
    let (step, steps) = (session.steps_done(), session.steps());
    if step < steps {
        return Ok(Outcome::Paused { step, steps });
    }
    let mut finished = finish(&mut session, config, dataset, folder, history)?;
    if config.backend.device != "emulator" {
        let model = session.model().clone();
        finished.profile = Some(Profile::new(&model, &session.into_inner().step_times()?)?);
    }
    Ok(Outcome::Finished(Box::new(finished)))
}

fn finish(
    session: &mut Session,
    config: &Config,
    dataset: &Dataset,
    folder: &Folder,
    history: History,
) -> Result<Finished> {
    let History { lines, film } = history;
    let (test, train) = (session.evaluate_test()?, session.evaluate_train()?);
    let embedded = session.embed_test(dataset.test.len())?;
    export::write(folder, session, config, dataset, &lines, &embedded)?;
    let choice = config.loss()?;
    let (steps, epochs_log) = records(&lines);
    let final_train_loss = epochs_log.last().map_or(f64::NAN, |epoch| epoch.train_loss);
    let dim = config.model.dims[0];
    let summary = TrainingSummary {
        loss: choice.key.clone(),
        embedding_dim: dim,
        seed: config.training.seed,
        test_accuracy: test.mean(test.hits_logits),
        test_accuracy_cosines: test.mean(test.hits_cosines),
        train_accuracy: train.mean(train.hits_logits),
        seconds: lines.last().map_or(0.0, Line::seconds),
        final_train_loss,
        steps: session.steps(),
        epochs: session.epochs(session.steps()),
        folder: String::new(),
        class_accuracy: class_accuracy(&embedded.predictions, dataset),
        guard: events(&lines),
    };
    let embeddings = (2..=3).contains(&dim).then(|| embeddings(embedded, dataset));
    let report = Training {
        loss: choice.key.clone(),
        title: choice.title(),
        embedding_dim: dim,
        seed: config.training.seed,
        epochs: session.epochs(session.steps()).round().max(1.0) as usize,
        seconds: summary.seconds,
        train_accuracy: summary.train_accuracy,
        test_accuracy: summary.test_accuracy,
        test_accuracy_cosines: summary.test_accuracy_cosines,
        final_train_loss,
        steps: thinned(steps),
        epochs_log,
        embeddings,
        film: film.finish(),
        guard: summary.guard.iter().map(Event::reported).collect(),
    };
    Ok(Finished { summary, report, lines, counts: session.profile(), profile: None })
}

/// Share of each class's test images that were taken for it; none for a class without images.
fn class_accuracy(predictions: &[u8], dataset: &Dataset) -> Vec<Option<f64>> {
    let mut counts = vec![[0_usize; 2]; dataset.classes];
    for (&label, &prediction) in dataset.test.labels.iter().zip(predictions) {
        if let Some([images, hits]) = counts.get_mut(usize::from(label)) {
            *images += 1;
            *hits += usize::from(label == prediction);
        }
    }
    counts.into_iter().map(|[images, hits]| (images > 0).then(|| hits as f64 / images as f64)).collect()
}

fn embeddings(embedded: Embedded, dataset: &Dataset) -> Embeddings {
    Embeddings {
        labels: dataset.test.labels.clone(),
        predictions: embedded.predictions,
        points: embedded.points,
        class_weights: embedded.class_weights,
    }
}

/// Evenly spaced entries, the last one among them.
fn thinned<T: Copy>(entries: Vec<T>) -> Vec<T> {
    if entries.len() <= CURVE_POINTS {
        return entries;
    }
    (1..=CURVE_POINTS).map(|i| entries[i * entries.len() / CURVE_POINTS - 1]).collect()
}
