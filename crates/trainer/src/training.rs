//! One training from its start, or from its checkpoint, to its results.

use crate::config::Config;
use crate::export;
use crate::film::{self, Recording};
use crate::folder::{Folder, Line, TrainingSummary, records};
use crate::interrupt;
use crate::network::Profile;
use crate::progress::{Progress, Verbosity};
use crate::session::{Embedded, LOG_ROWS, Row, Session};
use anyhow::{Result, bail};
use sphereface_data::Dataset;
use sphereface_report::{Embeddings, Training};
use std::time::{Duration, Instant};

/// Longest time between two checkpoints.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(20);
/// About how long the backend runs between two readings of its log.
const READING_INTERVAL: f64 = 0.2;
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

/// What a training has left behind so far.
struct History {
    lines: Vec<Line>,
    film: Recording,
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
            Line::Epoch { step, epoch, .. } => step == session.steps_until(epoch) || step == steps,
            Line::Step { .. } => true,
        });
        folder.write_config(config)?;
    } else {
        // The log before the checkpoint, here too: a run that dies between them has done nothing yet.
        folder.write_config(config)?;
        folder.continue_log(lines)?;
        history.film.record(&mut session)?;
        save(&mut session, &mut history.film, folder)?;
    }
    train(&mut session, config, folder, &mut history, name, verbosity, stop_at.unwrap_or(usize::MAX))?;
    let (step, steps) = (session.steps_done(), session.steps());
    if step < steps {
        return Ok(Outcome::Paused { step, steps });
    }
    let mut finished = finish(&mut session, config, dataset, folder, history)?;
    if config.backend.device != "emulator" {
        let model = session.model().clone();
        finished.profile = Some(Profile::new(&model, &session.step_times()?)?);
    }
    Ok(Outcome::Finished(Box::new(finished)))
}

fn train(
    session: &mut Session,
    config: &Config,
    folder: &Folder,
    History { lines, film }: &mut History,
    name: &str,
    verbosity: Verbosity,
    stop_at: usize,
) -> Result<()> {
    let mut log = folder.continue_log(lines)?;
    let before = lines.last().map_or(0.0, Line::seconds);
    let (started, mut saved) = (Instant::now(), Instant::now());
    let mut saved_step = session.steps_done();
    let stop_at = stop_at.min(session.steps());
    let mut progress = Progress::new(name, verbosity, session.steps_done(), session.steps(), session.batch());
    let mut chunk = 1;
    let on = if config.data.validate { "validation" } else { "test" };
    while session.steps_done() < stop_at && !interrupt::requested() {
        let epoch = session.epoch();
        let next_frame = film.next_step(session.steps_done()).unwrap_or(usize::MAX);
        let next_stop = session.steps_until(epoch).min(next_frame).min(stop_at);
        let running = Instant::now();
        let rows = session.train(chunk.min(next_stop - session.steps_done()))?;
        chunk = next_chunk(rows.len(), running.elapsed());
        let seconds = before + started.elapsed().as_secs_f64();
        let first = session.steps_done() - rows.len();
        for (index, row) in rows.iter().enumerate() {
            let line = step_line(session, first + index, row, seconds);
            if !(row.loss.is_finite() && row.gradient_norm.is_finite()) {
                log.flush()?;
                progress.finish();
                bail!(
                    "{name}: step {}: expected a finite loss and gradient, found {} and {}; the last checkpoint is kept in {} (try a smaller training.rate, or optimizer.clip)",
                    first + index + 1,
                    row.mean(row.loss),
                    row.gradient_norm,
                    folder.checkpoint().display()
                );
            }
            log.write(&line)?;
            lines.push(line);
            progress.step(first + index + 1, row.mean(row.loss), row.mean(row.hits_logits));
        }
        let epoch_ends = session.steps_done() == session.steps_until(epoch) || session.steps_done() == session.steps();
        if epoch_ends {
            let test = session.evaluate_test()?;
            if !test.loss.is_finite() {
                bail!(
                    "{name}: step {}: expected a finite loss on the {on} images, found {}; the checkpoint before is kept (try a smaller training.rate)",
                    session.steps_done(),
                    test.loss
                );
            }
            let line = Line::Epoch {
                step: session.steps_done(),
                epoch,
                test_accuracy: test.mean(test.hits_logits),
                train_loss: mean_loss_since(lines, session.steps_until(epoch - 1)),
                seconds: before + started.elapsed().as_secs_f64(),
            };
            if let Line::Epoch { train_loss, test_accuracy, .. } = line {
                progress.epoch(epoch, train_loss, test_accuracy, on);
            }
            log.write(&line)?;
            lines.push(line);
        }
        film.record(session)?;
        // The log first: whatever a checkpoint has done stands in it.
        log.flush()?;
        if epoch_ends || saved.elapsed() >= CHECKPOINT_INTERVAL {
            save(session, film, folder)?;
            (saved, saved_step) = (Instant::now(), session.steps_done());
        }
    }
    progress.finish();
    if saved_step < session.steps_done() {
        save(session, film, folder)?;
    }
    Ok(())
}

/// Saves the film, then the checkpoint, so that the film reaches every checkpoint.
fn save(session: &mut Session, film: &mut Recording, folder: &Folder) -> Result<()> {
    film.save(&folder.file(film::FILE), session)?;
    session.save(&folder.checkpoint())
}

/// Steps to the next reading of the log, from how long the last ones took.
fn next_chunk(steps: usize, took: Duration) -> usize {
    let per_step = took.as_secs_f64() / steps.max(1) as f64;
    ((READING_INTERVAL / per_step.max(1e-6)) as usize).clamp(1, LOG_ROWS)
}

fn step_line(session: &Session, step: usize, row: &Row, seconds: f64) -> Line {
    let (rate, lambda) = session.schedule(step);
    Line::Step {
        step: step + 1,
        epoch: session.epochs(step + 1),
        loss: row.mean(row.loss),
        accuracy: row.mean(row.hits_logits),
        accuracy_penalised: row.mean(row.hits_penalised),
        rate,
        lambda,
        gradient_norm: row.gradient_norm,
        feature_norm: row.mean(row.feature_norm),
        seconds,
    }
}

/// Mean loss of the steps after `after`.
fn mean_loss_since(lines: &[Line], after: usize) -> f64 {
    let losses: Vec<f64> = lines
        .iter()
        .filter_map(|line| match *line {
            Line::Step { step, loss, .. } if step > after => Some(loss),
            _ => None,
        })
        .collect();
    losses.iter().sum::<f64>() / losses.len().max(1) as f64
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
    };
    Ok(Finished { summary, report, lines, counts: session.profile(), profile: None })
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
