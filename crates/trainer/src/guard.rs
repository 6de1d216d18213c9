//! The guard: watches what every step logs and names in one sentence why a training has gone wrong.
//!
//! It judges by the training's own log alone, step by step: so a run that is resumed from its log is judged as if it had
//! never stopped, and the test set decides nothing.

use crate::config::Config;
use crate::event::{Cause, Event, Finding};
use crate::folder::Line;
use anyhow::{Result, anyhow};
use sphereface_report::StepRecord;
use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

/// What is done about what the guard finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing: only numbers that are not finite stop the training.
    Off,
    /// It is said and written down once.
    Warn,
    /// The training goes back to its last good state and on from there more gently.
    Recover,
}

/// Each mode with its name.
const MODES: [(&str, Mode); 3] = [("off", Mode::Off), ("warn", Mode::Warn), ("recover", Mode::Recover)];

impl FromStr for Mode {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Mode> {
        let found = MODES.iter().find(|(key, _)| *key == name).map(|(_, mode)| *mode);
        found.ok_or_else(|| anyhow!("training.guard: expected off, warn or recover, found '{name}'"))
    }
}

/// The name of something that holds NaN or infinity where a training needs finite numbers.
#[derive(Debug)]
pub(crate) struct NotFinite(pub(crate) String);

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected finite numbers, found NaN or infinity", self.0)
    }
}

impl std::error::Error for NotFinite {}

/// The one line of a training that the guard has stopped.
#[derive(Debug)]
pub(crate) struct Stopped(pub(crate) String);

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Stopped {}

/// Steps that a judgement on accuracy looks back on: a tenth of the training between these bounds.
const WINDOW: [usize; 2] = [100, 500];
/// The largest share of a training in which a rate that still rises excuses that nothing is learned.
const PATIENCE: f64 = 0.2;
/// Steps that a judgement on the loss, the gradient and the norms looks back on.
const SHORT: usize = 16;
/// The loss has exploded beyond this multiple of the larger of what it was at the start and ln(classes).
const EXPLODED: f64 = 10.0;
/// Mean length of embeddings beyond which a softmax has long been saturated. Losses with a constant scale, to which the
/// length means nothing, let it grow to 1e5 in trainings that go well.
const LARGEST_NORM: f64 = 1e7;
/// The loss is said to stand still where the means of a window's halves differ by less than this, relative to
/// ln(classes).
const STILL: f64 = 0.02;
/// Mean length of embeddings below which the logits of SphereFace, at most as large, hardly differ.
const SHRUNK: f64 = 1.0;
/// A loss is that of a guess beyond this share of ln(classes).
const GUESSED: f64 = 0.9;
/// What a training must have reached before a fall to chance is called a collapse, in multiples of chance.
const LEARNED: f64 = 3.0;

/// Judges a training by its steps.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    /// Share of the largest class: what a network that has learned nothing gets right.
    chance: f64,
    log_classes: f64,
    /// Steps in which the rate still rises, and nothing need be learned.
    warm_up: usize,
    window: usize,
    /// Whether the loss has a margin that λ anneals.
    annealed: bool,
    /// The first steps, as far as they have been seen.
    start: Vec<StepRecord>,
    recent: VecDeque<StepRecord>,
    /// Largest mean accuracy of a window's second half so far.
    best: f64,
}

impl Guard {
    /// A guard of a training of `steps` steps on images with these labels, by a loss with a margin that is annealed or
    /// another one.
    pub(crate) fn new(config: &Config, annealed: bool, labels: &[u8], classes: usize, steps: usize) -> Guard {
        let mut counts = vec![0_usize; classes.max(1)];
        for &label in labels {
            if let Some(count) = counts.get_mut(usize::from(label)) {
                *count += 1;
            }
        }
        let largest = counts.iter().max().copied().unwrap_or(0);
        let warm_up = match config.training.rate_schedule.as_str() {
            "cosine" => (config.training.warm_up * steps as f64).ceil() as usize,
            _ => 0,
        };
        let chance = largest as f64 / labels.len().max(1) as f64;
        Guard { chance, ..Guard::of_log(classes, annealed, warm_up, steps) }
    }

    /// A guard of a training of which only its log is known: of `classes` classes, as large as each other, with `warm_up`
    /// of `steps` steps.
    pub(crate) fn of_log(classes: usize, annealed: bool, warm_up: usize, steps: usize) -> Guard {
        Guard {
            chance: 1.0 / classes.max(1) as f64,
            log_classes: (classes.max(2) as f64).ln(),
            warm_up: warm_up.min((PATIENCE * steps as f64) as usize),
            window: window(steps),
            annealed,
            start: Vec::new(),
            recent: VecDeque::new(),
            best: 0.0,
        }
    }

    /// Takes in a line of the log; says what is wrong, if something is. Other lines than steps say nothing.
    pub(crate) fn observe(&mut self, line: &Line) -> Option<Finding> {
        let &Line::Step { record: seen, .. } = line else {
            if matches!(line, Line::Guard { event: Event::Recovered(_), .. }) {
                self.recent.clear(); // What is done about it shows in the steps after it.
            }
            return None;
        };
        let StepRecord { step, rate, loss, gradient_norm, feature_norm, .. } = seen;
        for (name, value) in [("loss", loss), ("gradient's norm", gradient_norm), ("embeddings' length", feature_norm)]
        {
            if !value.is_finite() {
                let before = self.recent.back().map_or_else(
                    || "in the first step".to_owned(),
                    |seen| {
                        format!(
                            "after a loss of {} and a gradient of norm {}",
                            short(seen.loss),
                            short(seen.gradient_norm)
                        )
                    },
                );
                let sentence =
                    format!("the {name} became {value} in step {step}, {before}, at a rate of {}", short(rate));
                return Some(Finding { cause: Cause::NotFinite, at: step, since: step, sentence });
            }
        }
        if self.start.len() < SHORT {
            self.start.push(seen);
        }
        self.recent.push_back(seen);
        if self.recent.len() > self.window {
            self.recent.pop_front();
        }
        self.exploded(rate).or_else(|| self.at_chance()).or_else(|| self.shrunk())
    }

    /// Loss or embeddings far beyond anything that a training can use.
    fn exploded(&self, rate: f64) -> Option<Finding> {
        if self.recent.len() < SHORT {
            return None;
        }
        let last = || self.recent.iter().rev().take(SHORT);
        let (since, at) = (last().next_back()?.step, last().next()?.step);
        let loss = mean(last().map(|seen| seen.loss));
        let start = mean(self.start.iter().map(|seen| seen.loss));
        if loss > EXPLODED * start.max(self.log_classes) {
            let sentence = format!(
                "the loss rose to {} by step {at}, from {} at the start, at a rate of {}",
                short(loss),
                short(start),
                short(rate)
            );
            return Some(Finding { cause: Cause::Exploded, at, since, sentence });
        }
        let norm = mean(last().map(|seen| seen.feature_norm));
        (norm > LARGEST_NORM).then(|| Finding {
            cause: Cause::NormsExploded,
            at,
            since,
            sentence: format!("the embeddings grew to a mean length of {} by step {at}", short(norm)),
        })
    }

    /// A whole window in which the network was right as often as one that has learned nothing.
    fn at_chance(&mut self) -> Option<Finding> {
        let (first, last) = (self.recent.front()?.step, self.recent.back()?.step);
        if self.recent.len() < self.window {
            return None;
        }
        let half = self.window / 2;
        let halves = [self.recent.range(..half), self.recent.range(half..)];
        let [early, late] = halves.clone().map(|half| mean(half.map(|seen| seen.loss)));
        let [accuracy_before, accuracy] = halves.map(|half| mean(half.map(|seen| seen.accuracy)));
        let is_chance = |accuracy: f64| accuracy < self.chance + (0.5 * self.chance).min(0.1 * (1.0 - self.chance));
        let learned = self.best > (LEARNED * self.chance).min(0.5 * (1.0 + self.chance));
        self.best = self.best.max(accuracy);
        if !(is_chance(accuracy_before) && is_chance(accuracy)) || first <= self.warm_up {
            return None;
        }
        let (loss, norm) = (mean([early, late].into_iter()), mean(self.recent.iter().map(|seen| seen.feature_norm)));
        let where_it_stands = if (loss - self.log_classes).abs() < 0.05 * self.log_classes {
            format!("the loss stands at ln(classes) = {}", short(self.log_classes))
        } else {
            format!("the loss is {}", short(loss))
        };
        let so = format!(
            "from step {first} to {last} the accuracy was {}, which is chance: {where_it_stands}, embeddings have a mean length of {}",
            short(accuracy),
            short(norm)
        );
        if learned {
            let sentence = format!("all classes collapsed into one, after an accuracy of {}: {so}", short(self.best));
            return Some(Finding { cause: Cause::Collapsed, at: last, since: first, sentence });
        }
        ((early - late).abs() < STILL * self.log_classes).then(|| Finding {
            cause: Cause::Stuck,
            at: last,
            since: first,
            sentence: format!("nothing is being learned: {so}"),
        })
    }

    /// A whole window in which the network escaped the margin by short embeddings, whose loss is that of a guess.
    fn shrunk(&self) -> Option<Finding> {
        let (first, last) = (self.recent.front()?.step, self.recent.back()?.step);
        if !self.annealed || self.recent.len() < self.window || first <= self.warm_up {
            return None;
        }
        let norm = mean(self.recent.iter().map(|seen| seen.feature_norm));
        let loss = mean(self.recent.iter().map(|seen| seen.loss));
        (norm < SHRUNK && loss > GUESSED * self.log_classes).then(|| Finding {
            cause: Cause::Shrunk,
            at: last,
            since: first,
            sentence: format!(
                "the network escapes the margin by short embeddings, of a mean length of {}: from step {first} to {last} the \
                 loss was {}, no better than ln(classes) = {}",
                short(norm),
                short(loss),
                short(self.log_classes)
            ),
        })
    }
}

/// Steps that a judgement on accuracy looks back on in a training of `steps` steps.
pub(crate) fn window(steps: usize) -> usize {
    (steps / 10).clamp(WINDOW[0], WINDOW[1])
}

/// A number as a sentence shows it: three significant digits.
pub(crate) fn short(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let digits = value.abs().log10().floor();
    if (-4.0..6.0).contains(&digits) {
        let decimals = (2.0 - digits).max(0.0) as usize;
        let text = format!("{value:.decimals$}");
        return if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text };
    }
    format!("{value:.2e}")
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_usize), |(sum, count), value| (sum + value, count + 1));
    sum / count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Recovery;

    /// A log of which loss, accuracy, gradient norm and embeddings' length are given for each step.
    fn log(steps: usize, at: impl Fn(usize) -> [f64; 4]) -> Vec<Line> {
        let line = |step: usize| {
            let [loss, accuracy, gradient_norm, feature_norm] = at(step);
            let record = StepRecord {
                step,
                epoch: 0.0,
                loss,
                accuracy,
                accuracy_penalised: accuracy,
                rate: 0.1,
                lambda: 5.0,
                gradient_norm,
                feature_norm,
            };
            Line::Step { record, seconds: 0.0 }
        };
        (1..=steps).map(line).collect()
    }

    /// The first finding in a log of ten classes with a warm-up of 20 steps.
    fn first(lines: &[Line]) -> Option<Finding> {
        let mut guard = Guard::of_log(10, true, 20, lines.len());
        lines.iter().find_map(|line| guard.observe(line))
    }

    /// A training that goes well: the loss of a margin rises as λ falls.
    fn well(step: usize) -> [f64; 4] {
        let done = step as f64 / 300.0;
        [2.8 * (-done * 4.0).exp() + done, 1.0 - 0.88 * (-done * 4.0).exp(), 3.0, 2.0 + 20.0 * done]
    }

    #[test]
    fn a_training_that_goes_well_is_not_complained_of() {
        assert_eq!(first(&log(300, well)), None);
        // Nor one that needs its warm-up to begin, nor one whose gradient and loss jump for a few steps.
        assert_eq!(first(&log(300, |step| if step <= 20 { [2.303, 0.1, 0.1, 1.0] } else { well(step) })), None);
        assert_eq!(first(&log(300, |step| if step % 100 < 3 { [60.0, 0.2, 900.0, 50.0] } else { well(step) })), None);
    }

    #[test]
    fn every_cause_is_named_at_the_step_that_shows_it() {
        type Case = (Cause, usize, fn(usize) -> [f64; 4], &'static str);
        let cases: [Case; 7] = [
            (
                Cause::NotFinite,
                41,
                |s| [if s > 40 { f64::NAN } else { 2.0 }, 0.5, 1.0, 1.0],
                "loss became NaN in step 41",
            ),
            (Cause::NotFinite, 7, |s| [2.0, 0.5, if s == 7 { f64::INFINITY } else { 1.0 }, 1.0], "gradient's norm"),
            (Cause::Exploded, 201, |s| if s > 200 { [1e3, 0.1, 5.0, 500.0] } else { well(s) }, "the loss rose to"),
            (Cause::NormsExploded, 208, |s| if s > 200 { [0.5, 0.9, 5.0, 2e7] } else { well(s) }, "mean length of 1"),
            (Cause::Stuck, 120, |_| [2.303, 0.11, 0.01, 5.0], "ln(classes) = 2.3"),
            (Cause::Collapsed, 298, |s| if s > 200 { [2.303, 0.1, 0.0, 9.0] } else { well(s) }, "collapsed"),
            (Cause::Shrunk, 120, |s| [2.5, 0.3, 1.0, if s > 19 { 0.2 } else { 2.0 }], "escapes the margin"),
        ];
        for (cause, at, course, words) in cases {
            let found = first(&log(300, course)).unwrap();
            assert_eq!((found.cause, found.at), (cause, at), "{found:?}");
            assert!(found.sentence.contains(words) && !found.sentence.contains('\n'), "{found:?}");
            assert!(found.since <= found.at && found.at - found.since < 100, "{found:?}");
        }
    }

    #[test]
    fn a_recovery_is_given_a_window_to_work() {
        let lines = log(300, |_| [2.303, 0.11, 0.01, 5.0]);
        let recovery = Recovery {
            cause: Cause::Stuck,
            sentence: String::new(),
            found_at: 120,
            back_to: 100,
            rate_factor: 0.5,
            lambda: Some(20.0),
        };
        let mut guard = Guard::of_log(10, true, 20, 300);
        lines[..100].iter().for_each(|line| assert_eq!(guard.observe(line), None));
        guard.observe(&Line::Guard { event: Event::Recovered(recovery), seconds: 0.0 });
        let next = lines[100..].iter().find_map(|line| guard.observe(line)).unwrap();
        assert_eq!((next.since, next.at), (101, 200));
    }

    #[test]
    fn chance_is_the_share_of_the_largest_class() {
        let mut labels = vec![3; 60];
        labels.extend([1; 40]);
        let guard = Guard::new(&Config::default(), true, &labels, 10, 1000);
        assert_eq!((guard.chance, guard.warm_up, guard.window), (0.6, 150, 100));
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in
            [(2.30159, "2.3"), (0.05, "0.05"), (1234.5, "1234"), (1.5e12, "1.50e12"), (f64::NAN, "NaN"), (100.0, "100")]
        {
            assert_eq!(short(value), text);
        }
    }
}
