//! The folder of a run: configuration, log, summary, checkpoint, report.

use crate::checkpoint::{self, replace};
use crate::config::Config;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sphereface_report::{EpochRecord, StepRecord};
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";
const SUMMARY: &str = "summary.json";

/// One line of `metrics.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Line {
    /// A training step.
    Step {
        /// Steps done.
        step: usize,
        /// Epochs done.
        epoch: f64,
        /// Mean loss of the batch.
        loss: f64,
        /// Accuracy of the batch by the logits without margin.
        accuracy: f64,
        /// By the logits with the margin on the target.
        accuracy_penalised: f64,
        /// Learning rate.
        rate: f64,
        /// Weight of the plain cosine beside the margin.
        lambda: f64,
        /// Norm of all gradients, before clipping.
        gradient_norm: f64,
        /// Mean norm of the embeddings.
        feature_norm: f64,
        /// Seconds of training so far.
        seconds: f64,
    },
    /// The end of an epoch.
    Epoch {
        /// Steps done.
        step: usize,
        /// Epochs done.
        epoch: usize,
        /// Accuracy on the test set by the logits without margin; nothing depends on it.
        test_accuracy: f64,
        /// Mean loss of the epoch's steps.
        train_loss: f64,
        /// Seconds of training so far.
        seconds: f64,
    },
}

impl Line {
    fn step(&self) -> usize {
        match *self {
            Line::Step { step, .. } | Line::Epoch { step, .. } => step,
        }
    }

    pub(crate) fn seconds(&self) -> f64 {
        match *self {
            Line::Step { seconds, .. } | Line::Epoch { seconds, .. } => seconds,
        }
    }
}

/// What a finished training came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrainingSummary {
    pub(crate) loss: String,
    pub(crate) embedding_dim: usize,
    pub(crate) seed: u64,
    pub(crate) test_accuracy: f64,
    pub(crate) test_accuracy_cosines: f64,
    pub(crate) train_accuracy: f64,
    pub(crate) seconds: f64,
    pub(crate) final_train_loss: f64,
    pub(crate) steps: usize,
    pub(crate) epochs: f64,
    pub(crate) folder: String,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) dataset: String,
    pub(crate) dataset_sha256: String,
    pub(crate) train_images: usize,
    pub(crate) test_images: usize,
    pub(crate) network: String,
    pub(crate) machine: String,
    pub(crate) command: String,
    pub(crate) version: String,
    pub(crate) total_seconds: f64,
    pub(crate) runs: Vec<TrainingSummary>,
}

/// A run's folder.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A new folder: the given one, which must be empty or not exist, or `runs/<time>-<name>`.
    pub(crate) fn create(given: Option<&Path>, name: &str) -> Result<Folder> {
        let path = given.map_or_else(|| default_path(name), Path::to_path_buf);
        fs::create_dir_all(&path).with_context(|| format!("{}: cannot be created", path.display()))?;
        let mut entries = fs::read_dir(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
        ensure!(
            entries.next().is_none(),
            "{}: expected a new or empty folder, found files in it (to continue a run: --resume {0})",
            path.display()
        );
        Ok(Folder { path })
    }

    /// The folder of a run that has been started.
    pub(crate) fn open(path: &Path) -> Result<Folder> {
        let folder = Folder { path: path.to_path_buf() };
        if !folder.file(CONFIG).is_file() {
            bail!("{}: expected the folder of a run, found no {CONFIG} in it", path.display());
        }
        Ok(folder)
    }

    /// A folder inside this one.
    pub(crate) fn inside(&self, name: &str) -> Folder {
        Folder { path: self.path.join(name) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.file(checkpoint::FILE)
    }

    pub(crate) fn has_checkpoint(&self) -> bool {
        self.checkpoint().is_file()
    }

    /// Saves the resolved configuration.
    pub(crate) fn write_config(&self, config: &Config) -> Result<()> {
        fs::create_dir_all(&self.path).with_context(|| format!("{}: cannot be created", self.path.display()))?;
        replace(&self.file(CONFIG), config.to_toml()?.as_bytes())
    }

    pub(crate) fn read_config(&self) -> Result<Config> {
        let config = Config::load(&self.file(CONFIG))?;
        config.check().with_context(|| format!("{}", self.file(CONFIG).display()))?;
        Ok(config)
    }

    pub(crate) fn write_summary(&self, summary: &Summary) -> Result<()> {
        let mut text = serde_json::to_string_pretty(summary)?;
        text.push('\n');
        replace(&self.file(SUMMARY), text.as_bytes())
    }

    /// Lines of the log up to a step; a line that was cut off when the process died is left out.
    pub(crate) fn read_log(&self, up_to_step: usize) -> Result<Vec<Line>> {
        let path = self.file(METRICS);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("{}: cannot be read", path.display())),
        };
        let lines = text.lines().map_while(|line| serde_json::from_str::<Line>(line).ok());
        Ok(lines.filter(|line| line.step() <= up_to_step).collect())
    }

    /// A log that goes on after these lines.
    pub(crate) fn continue_log(&self, lines: &[Line]) -> Result<Log> {
        let path = self.file(METRICS);
        let mut text = String::new();
        for line in lines {
            text.push_str(&serde_json::to_string(line)?);
            text.push('\n');
        }
        replace(&path, text.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.with_context(|| format!("{}: cannot be written", path.display()))?;
        Ok(Log { file: BufWriter::new(file), path })
    }
}

/// `metrics.jsonl` while a training writes it.
pub(crate) struct Log {
    file: BufWriter<File>,
    path: PathBuf,
}

impl Log {
    pub(crate) fn write(&mut self, line: &Line) -> Result<()> {
        let text = serde_json::to_string(line)?;
        writeln!(self.file, "{text}").with_context(|| format!("{}: cannot be written", self.path.display()))
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        self.file.flush().with_context(|| format!("{}: cannot be written", self.path.display()))
    }
}

/// Steps and epochs of a log, as the report wants them.
pub(crate) fn history(lines: &[Line]) -> (Vec<StepRecord>, Vec<EpochRecord>) {
    let (mut steps, mut epochs) = (Vec::new(), Vec::new());
    for line in lines {
        match *line {
            Line::Step { step, epoch, loss, accuracy, accuracy_penalised, rate, lambda, gradient_norm, .. } => {
                let step = step as u64;
                steps.push(StepRecord { step, epoch, loss, accuracy, accuracy_penalised, rate, lambda, gradient_norm });
            }
            Line::Epoch { epoch, test_accuracy, train_loss, .. } => {
                epochs.push(EpochRecord { epoch, test_accuracy, train_loss });
            }
        }
    }
    (steps, epochs)
}

fn default_path(name: &str) -> PathBuf {
    let now = OffsetDateTime::now_utc();
    let (date, clock) = (now.date(), now.time());
    let stamp = format!(
        "{:04}{:02}{:02}-{:02}{:02}{:02}",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    );
    Path::new("runs").join(format!("{stamp}-{name}"))
}
