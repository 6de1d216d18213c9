//! The steps of a training from where it stands to where it stops: log, evaluation, film, checkpoints, and the guard,
//! which may send it back.

use crate::config::Config;
use crate::event::{Event, Finding, Recovery};
use crate::film::{self, Recording};
use crate::folder::{Folder, Line, Log};
use crate::guard::{self, Guard, Mode, NotFinite, Stopped};
use crate::interrupt;
use crate::progress::{Progress, Verbosity};
use crate::recovery::{self, GoodStates};
use crate::session::{LOG_ROWS, Session};
use anyhow::{Result, bail};
use sphereface::Metrics;
use sphereface_data::Dataset;
use sphereface_report::{EpochRecord, StepRecord};
use std::time::{Duration, Instant};

/// Longest time between two checkpoints.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(20);
/// About how long the backend runs between two readings of its log.
const READING_INTERVAL: f64 = 0.2;

/// What a training has left behind so far.
pub(crate) struct History {
    pub(crate) lines: Vec<Line>,
    pub(crate) film: Recording,
}

/// A training while it runs.
pub(crate) struct Course<'a> {
    session: &'a mut Session,
    history: &'a mut History,
    folder: &'a Folder,
    name: &'a str,
    /// What the images are called that each epoch is judged by.
    judged_on: &'static str,
    annealed: bool,
    mode: Mode,
    /// A guard that has seen nothing.
    fresh: Guard,
    guard: Guard,
    good: GoodStates,
    log: Log,
    progress: Progress,
    stop_at: usize,
    started: Instant,
    /// Seconds of training before that.
    before: f64,
    saved: Instant,
    saved_step: usize,
    /// Steps to the next reading of the log.
    chunk: usize,
}

impl<'a> Course<'a> {
    /// A training that has a checkpoint where it stands, up to step `stop_at`.
    pub(crate) fn new(
        session: &'a mut Session,
        history: &'a mut History,
        (config, dataset, folder): (&Config, &Dataset, &'a Folder),
        name: &'a str,
        verbosity: Verbosity,
        stop_at: usize,
    ) -> Result<Course<'a>> {
        let (step, steps) = (session.steps_done(), session.steps());
        let before = history.lines.last().map_or(0.0, Line::seconds);
        history.lines = placed(std::mem::take(&mut history.lines), session.recoveries(), before);
        let annealed = config.loss()?.loss.annealed;
        let fresh = Guard::new(config, annealed, &dataset.train.labels, dataset.classes, steps);
        let ends = (1..).map(|epoch| session.steps_until(epoch));
        let good = GoodStates::new(folder, steps, guard::window(steps), ends);
        let mode = config.training.guard.parse()?;
        if mode == Mode::Recover {
            good.forget_beyond(step)?;
            if good.is_due(step) || good.is_empty()? {
                good.keep(step)?;
            }
        }
        let now = Instant::now();
        Ok(Course {
            guard: watching(&fresh, &history.lines),
            fresh,
            good,
            mode,
            log: folder.continue_log(&history.lines)?,
            before,
            progress: Progress::new(name, verbosity, step, steps, session.training().batch),
            judged_on: if config.data.validate { "validation" } else { "test" },
            annealed,
            stop_at: stop_at.min(steps),
            saved: now,
            saved_step: step,
            started: now,
            chunk: 1,
            session,
            history,
            folder,
            name,
        })
    }

    /// Trains until the end, the step to stop at, or Ctrl-C. What is done then is saved.
    ///
    /// # Errors
    /// One line that says why the training cannot go on; its last checkpoint is kept.
    pub(crate) fn run(mut self) -> Result<()> {
        while self.session.steps_done() < self.stop_at && !interrupt::requested() {
            let found = self.advance().or_else(|error| match error.downcast::<NotFinite>() {
                Ok(NotFinite(what)) => Ok(Some(Finding::not_finite(&what, self.session.steps_done()))),
                Err(error) => Err(error),
            })?;
            if let Some(finding) = found {
                self.act(finding)?;
            }
        }
        self.progress.finish();
        if self.saved_step < self.session.steps_done() {
            self.save()?;
        }
        if self.session.steps_done() == self.session.steps() {
            self.good.remove()?;
        }
        Ok(())
    }

    /// Trains up to the next reading of the log and does what is due there. Ends early with what the guard found, unless
    /// it is only to warn.
    fn advance(&mut self) -> Result<Option<Finding>> {
        let epoch = self.session.epoch();
        let done = self.session.steps_done();
        let mut next_stop = self.session.steps_until(epoch).min(self.stop_at);
        let next_frame = self.history.film.next_step(done);
        let next_state = self.good.next_step(done).filter(|_| self.mode == Mode::Recover);
        next_stop = next_frame.into_iter().chain(next_state).fold(next_stop, usize::min);
        let running = Instant::now();
        let rows = self.session.train(self.chunk.min(next_stop - done))?;
        self.chunk = next_chunk(rows.len(), running.elapsed());
        for (index, row) in rows.iter().enumerate() {
            let line = step_line(self.session, done + index, row, self.seconds());
            if let Some(finding) = self.guard.observe(&line) {
                if self.stops_for(&finding) {
                    return Ok(Some(finding));
                }
                self.warn(finding)?;
            }
            self.write(line)?;
            self.progress.step(done + index + 1, row.mean(row.loss), row.mean(row.hits_logits));
        }
        let done = self.session.steps_done();
        let epoch_ends = done == self.session.steps_until(epoch) || done == self.session.steps();
        if epoch_ends {
            self.end_epoch(epoch)?;
        }
        self.history.film.record(self.session)?;
        // The log first: whatever a checkpoint has done stands in it.
        self.log.flush()?;
        let state_is_due = self.mode == Mode::Recover && self.good.is_due(done);
        if epoch_ends || state_is_due || self.saved.elapsed() >= CHECKPOINT_INTERVAL {
            self.save()?;
        }
        if state_is_due {
            self.good.keep(done)?;
        }
        Ok(None)
    }

    fn end_epoch(&mut self, epoch: usize) -> Result<()> {
        let test = self.session.evaluate_test()?;
        let train_loss = mean_loss_since(&self.history.lines, self.session.steps_until(epoch - 1));
        let test_accuracy = test.mean(test.hits_logits);
        self.progress.epoch(epoch, train_loss, test_accuracy, self.judged_on);
        let (step, seconds) = (self.session.steps_done(), self.seconds());
        self.write(Line::Epoch { step, record: EpochRecord { epoch, test_accuracy, train_loss }, seconds })
    }

    fn seconds(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }

    fn write(&mut self, line: Line) -> Result<()> {
        self.log.write(&line)?;
        self.history.lines.push(line);
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        save(self.session, &mut self.history.film, self.folder)?;
        (self.saved, self.saved_step) = (Instant::now(), self.session.steps_done());
        Ok(())
    }

    /// Whether the training cannot go on as it is: a guard that only warns lets it do anything but compute with NaN.
    fn stops_for(&self, finding: &Finding) -> bool {
        finding.is_fatal() || self.mode == Mode::Recover
    }

    /// Writes a finding down, once for each cause; a guard that is off says nothing.
    fn warn(&mut self, finding: Finding) -> Result<()> {
        let same = |line: &Line| matches!(line, Line::Guard { event: Event::Warned(found), .. } if found.cause == finding.cause);
        if self.mode == Mode::Off || self.history.lines.iter().any(same) {
            return Ok(());
        }
        self.progress.say(format_args!("{}: {}", self.name, finding.sentence));
        self.write(Line::Guard { event: Event::Warned(finding.written_down()), seconds: self.seconds() })
    }

    /// Goes back to a good state and eases the schedules, or stops.
    fn act(&mut self, finding: Finding) -> Result<()> {
        let mut recoveries = self.session.recoveries().to_vec();
        if self.mode != Mode::Recover {
            return self.stop(finding, &recoveries);
        }
        let Some((mut back_to, mut file)) = self.good.newest(finding.since.saturating_sub(1))? else {
            return self.stop(finding, &recoveries);
        };
        // Going on from there failed already: from the state before it, if there is one.
        if recoveries.last().is_some_and(|last| last.back_to == back_to)
            && let Some(before) = self.good.newest(back_to.saturating_sub(1))?
        {
            (back_to, file) = before;
        }
        let spent = recoveries.len() >= recovery::MOST;
        if !spent {
            recoveries.push(self.session.recovery(finding.clone(), back_to));
        }
        self.session.load(&file)?;
        self.session.set_recoveries(recoveries.clone())?;
        // The checkpoint first: from here on the training has gone back, whatever happens.
        self.session.save(&self.folder.checkpoint())?;
        self.history.film.rewind(back_to);
        self.history.film.save(&self.folder.file(film::FILE), self.session)?;
        self.good.forget_beyond(back_to)?;
        self.history.lines.retain(|line| line.step() <= back_to);
        self.history.lines = placed(std::mem::take(&mut self.history.lines), &recoveries, self.seconds());
        self.log = self.folder.continue_log(&self.history.lines)?;
        self.guard = watching(&self.fresh, &self.history.lines);
        (self.saved, self.saved_step, self.chunk) = (Instant::now(), back_to, 1);
        if spent {
            return self.stop(finding, &recoveries);
        }
        if let Some(recovery) = recoveries.last() {
            self.progress.say(format_args!("{}: {}; {}", self.name, recovery.sentence, recovery.remedy()));
        }
        Ok(())
    }

    /// Ends the training with one line.
    fn stop(&mut self, finding: Finding, recoveries: &[Recovery]) -> Result<()> {
        self.progress.finish();
        let advice = finding.cause.advice(self.annealed);
        let after = match recoveries.len() {
            0 => String::new(),
            1 => " after one recovery".to_owned(),
            count => format!(" after {count} recoveries"),
        };
        let message = format!(
            "{}: step {}: expected {}{after}, found: {}; the last good checkpoint is kept in {} (try {advice})",
            self.name,
            finding.at,
            finding.cause.expected(),
            finding.sentence,
            self.folder.checkpoint().display(),
        );
        let seconds = self.seconds();
        self.log.write(&Line::Guard { event: Event::Stopped(finding.written_down()), seconds })?;
        self.log.flush()?;
        bail!(Stopped(message))
    }
}

/// Saves the film, then the checkpoint, so that the film reaches every checkpoint.
pub(crate) fn save(session: &mut Session, film: &mut Recording, folder: &Folder) -> Result<()> {
    film.save(&folder.file(film::FILE), session)?;
    session.save(&folder.checkpoint())
}

/// A guard that has seen these lines.
fn watching(fresh: &Guard, lines: &[Line]) -> Guard {
    let mut guard = fresh.clone();
    lines.iter().for_each(|line| drop(guard.observe(line)));
    guard
}

/// The lines of a training with the recoveries of its checkpoint, each where the course that was taken in the end goes on
/// from: a later one may have gone back further. Those that the log lacks happened after `seconds`.
fn placed(lines: Vec<Line>, recoveries: &[Recovery], seconds: f64) -> Vec<Line> {
    let (known, mut lines): (Vec<Line>, Vec<Line>) = lines
        .into_iter()
        .filter(|line| !matches!(line, Line::Guard { event: Event::Stopped(_), .. }))
        .partition(|line| matches!(line, Line::Guard { event: Event::Recovered(_), .. }));
    for (index, recovery) in recoveries.iter().enumerate() {
        let from = recoveries[index..].iter().map(|later| later.back_to).min().unwrap_or(recovery.back_to);
        let is_before = |line: &Line| match line {
            Line::Guard { event: Event::Recovered(_), .. } => true,
            line => line.step() <= from,
        };
        let at = lines.iter().rposition(is_before).map_or(0, |at| at + 1);
        let event = Event::Recovered(recovery.clone());
        let written = known.iter().find(|line| matches!(line, Line::Guard { event: known, .. } if *known == event));
        let seconds = written.map_or(seconds, Line::seconds);
        lines.insert(at, Line::Guard { event, seconds });
    }
    lines
}

/// Steps to the next reading of the log, from how long the last ones took.
fn next_chunk(steps: usize, took: Duration) -> usize {
    let per_step = took.as_secs_f64() / steps.max(1) as f64;
    ((READING_INTERVAL / per_step.max(1e-6)) as usize).clamp(1, LOG_ROWS)
}

fn step_line(session: &Session, step: usize, row: &Metrics, seconds: f64) -> Line {
    let (rate, lambda) = session.schedule(step);
    let record = StepRecord {
        step: step + 1,
        epoch: session.epochs(step + 1),
        loss: row.mean(row.loss),
        accuracy: row.mean(row.hits_logits),
        accuracy_penalised: row.mean(row.hits_penalised),
        rate,
        lambda,
        gradient_norm: row.gradient_norm,
        feature_norm: row.mean(row.feature_norm),
    };
    Line::Step { record, seconds }
}

/// Mean loss of the steps after `after`.
fn mean_loss_since(lines: &[Line], after: usize) -> f64 {
    let losses: Vec<f64> = lines
        .iter()
        .filter_map(|line| match *line {
            Line::Step { record, .. } if record.step > after => Some(record.loss),
            _ => None,
        })
        .collect();
    losses.iter().sum::<f64>() / losses.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Cause;

    fn epoch(step: usize) -> Line {
        let record = EpochRecord { epoch: step, test_accuracy: 0.5, train_loss: 1.0 };
        Line::Epoch { step, record, seconds: step as f64 }
    }

    fn recovery(found_at: usize, back_to: usize) -> Recovery {
        Recovery { cause: Cause::Stuck, sentence: String::new(), found_at, back_to, rate_factor: 0.5, lambda: None }
    }

    #[test]
    fn recoveries_stand_where_the_course_goes_on_from() {
        let shape = |lines: &[Line]| -> Vec<(usize, f64)> { lines.iter().map(|l| (l.step(), l.seconds())).collect() };
        let first = placed(vec![epoch(1), epoch(2)], &[recovery(3, 2)], 9.0);
        assert_eq!(shape(&first), [(1, 1.0), (2, 2.0), (2, 9.0)]);
        // Placed again they keep their time, and lines that follow stay behind them.
        let followed: Vec<Line> = first.into_iter().chain([epoch(3)]).collect();
        assert_eq!(shape(&placed(followed.clone(), &[recovery(3, 2)], 99.0)), [(1, 1.0), (2, 2.0), (2, 9.0), (3, 3.0)]);
        // The next one goes back further: both stand there, in their order.
        let kept = followed.into_iter().filter(|line| line.step() <= 1).collect();
        let both = placed(kept, &[recovery(3, 2), recovery(4, 1)], 12.0);
        assert_eq!(shape(&both), [(1, 1.0), (2, 12.0), (1, 12.0)]);
    }
}
