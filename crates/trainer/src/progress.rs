//! What a person sees while a training runs: a bar on a terminal, plain lines elsewhere.

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Time between two plain lines.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// Says something on the standard error stream; nobody has to listen.
pub(crate) fn warn(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verbosity {
    /// Nothing but results and errors.
    Quiet,
    /// Lines, for files and pipes.
    Plain,
    /// A bar that is redrawn.
    Bar,
}

impl Verbosity {
    /// A bar on a terminal, else lines, unless nothing is wanted.
    pub(crate) fn detect(quiet: bool) -> Verbosity {
        match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Bar,
            (false, false) => Verbosity::Plain,
        }
    }

    /// Says something that is not part of a result.
    pub(crate) fn say(self, text: impl std::fmt::Display) {
        if self != Verbosity::Quiet {
            warn(text);
        }
    }
}

/// Progress of one training.
pub(crate) struct Progress {
    name: String,
    verbosity: Verbosity,
    bar: ProgressBar,
    steps: usize,
    started: Instant,
    first_step: usize,
    images_per_step: usize,
    said: Instant,
}

impl Progress {
    pub(crate) fn new(
        name: &str,
        verbosity: Verbosity,
        first_step: usize,
        steps: usize,
        images_per_step: usize,
    ) -> Self {
        let target = match verbosity {
            Verbosity::Bar => ProgressDrawTarget::stderr(),
            _ => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(steps as u64), target).with_position(first_step as u64);
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {percent:>3}% {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(name.to_owned());
        let now = Instant::now();
        Progress { name: name.to_owned(), verbosity, bar, steps, started: now, first_step, images_per_step, said: now }
    }

    /// After a step.
    pub(crate) fn step(&mut self, step: usize, loss: f64, accuracy: f64) {
        self.bar.set_position(step as u64);
        let seconds = self.started.elapsed().as_secs_f64();
        let done = (step - self.first_step).max(1) as f64;
        let images_per_second = done * self.images_per_step as f64 / seconds.max(1e-9);
        let left = Duration::from_secs_f64(seconds / done * (self.steps - step) as f64);
        let state = format!("loss {loss:.3}  accuracy {accuracy:.3}  {images_per_second:.0} img/s");
        self.bar.set_message(format!("{state}  {} left", short(left)));
        if self.verbosity == Verbosity::Plain && self.said.elapsed() >= PLAIN_INTERVAL {
            self.said = Instant::now();
            warn(format_args!("{}  step {step}/{}  {state}  {} left", self.name, self.steps, HumanDuration(left)));
        }
    }

    /// After an epoch.
    pub(crate) fn epoch(&mut self, epoch: usize, train_loss: f64, test_accuracy: f64, on: &str) {
        self.say(format_args!("{}  epoch {epoch}  loss {train_loss:.4}  {on} accuracy {test_accuracy:.4}", self.name));
        self.said = Instant::now();
    }

    /// A line above the bar.
    pub(crate) fn say(&self, text: impl std::fmt::Display) {
        match self.verbosity {
            Verbosity::Quiet => {}
            Verbosity::Plain => warn(text),
            Verbosity::Bar => self.bar.println(text.to_string()),
        }
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// `12:05` or `1:02:05`.
pub(crate) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}
