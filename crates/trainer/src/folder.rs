//! The folder of a run: configuration, log, summary, checkpoint, report.

use crate::checkpoint::{self, replace};
use crate::config::Config;
use crate::event::Event;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sphereface_report::{Comparison, EpochRecord, StepRecord};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

const CONFIG: &str = "config.toml";
pub(crate) const METRICS: &str = "metrics.jsonl";
pub(crate) const SUMMARY: &str = "summary.json";
/// All that is needed to draw a finished run's report again; there while the run is finished, and only then.
pub(crate) const REPORT: &str = "report.json";
const LOCK: &str = ".lock";

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Line {
    /// A training step.
    Step {
        /// What was measured in it: accuracies of the batch, the gradient before clipping.
        #[serde(flatten)]
        record: StepRecord,
        /// Seconds of training so far.
        seconds: f64,
    },
    /// The end of an epoch.
    Epoch {
        /// Steps done.
        step: usize,
        /// What was measured then; nothing depends on it.
        #[serde(flatten)]
        record: EpochRecord,
        /// Seconds of training so far.
        seconds: f64,
    },
    /// Something that the guard found, and what it did.
    Guard {
        /// What it is.
        #[serde(flatten)]
        event: Event,
        /// Seconds of training so far.
        seconds: f64,
    },
}

impl Line {
    /// Steps done, in the course that the training took in the end.
    pub(crate) fn step(&self) -> usize {
        match self {
            Line::Step { record, .. } => record.step,
            Line::Epoch { step, .. } => *step,
            Line::Guard { event, .. } => event.step(),
        }
    }

    pub(crate) fn seconds(&self) -> f64 {
        match self {
            Line::Step { seconds, .. } | Line::Epoch { seconds, .. } | Line::Guard { seconds, .. } => *seconds,
        }
    }
}

/// What the guard did, according to a log.
pub(crate) fn events(lines: &[Line]) -> Vec<Event> {
    let event = |line: &Line| if let Line::Guard { event, .. } = line { Some(event.clone()) } else { None };
    lines.iter().filter_map(event).collect()
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
    /// Share of each class's test images that are taken for it, by the logits without margin; none for a class without
    /// images.
    #[serde(default)]
    pub(crate) class_accuracy: Vec<Option<f64>>,
    /// What the guard found on the way.
    #[serde(default)]
    pub(crate) guard: Vec<Event>,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) dataset: String,
    pub(crate) dataset_sha256: String,
    pub(crate) train_images: usize,
    pub(crate) test_images: usize,
    /// `test`, or `validation` for images held out of training.
    pub(crate) evaluated_on: String,
    pub(crate) network: String,
    pub(crate) machine: String,
    /// What computed, and in which precision.
    #[serde(default)]
    pub(crate) backend: String,
    pub(crate) command: String,
    pub(crate) version: String,
    pub(crate) total_seconds: f64,
    pub(crate) runs: Vec<TrainingSummary>,
    /// Each pair of losses at each embedding size: whether their difference is more than chance.
    #[serde(default)]
    pub(crate) comparisons: Vec<Comparison>,
}

/// A run's folder.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A new folder: the given one, which must be empty or not exist, or `runs/<time>-<name>`.
    pub(crate) fn create(given: Option<&Path>, name: &str) -> Result<Folder> {
        let path = match given {
            Some(path) => path.to_path_buf(),
            None => free_default_path(name),
        };
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

    /// A folder that may hold anything.
    pub(crate) fn any(path: &Path) -> Folder {
        Folder { path: path.to_path_buf() }
    }

    /// Keeps other processes out of the run until the lock is dropped.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.file(LOCK);
        let name = path.display();
        let file = File::create(&path).with_context(|| format!("{name}: cannot be created"))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => {
                bail!("{}: expected a run that nobody works on, found another process at it", self.path.display())
            }
            // A file system without locks: the run goes on without one.
            Err(TryLockError::Error(_)) => Ok(file),
        }
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

    /// The model of a finished training, which stands in for its checkpoint.
    pub(crate) fn model(&self) -> PathBuf {
        self.file("model.safetensors")
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
        Config::load_resolved(&self.file(CONFIG))
    }

    /// Says that the run is not finished, or not any more.
    pub(crate) fn reopen(&self) -> Result<()> {
        let path = self.file(REPORT);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{}: cannot be removed", path.display()))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn write_summary(&self, summary: &Summary) -> Result<()> {
        let mut text = serde_json::to_string_pretty(summary)?;
        text.push('\n');
        replace(&self.file(SUMMARY), text.as_bytes())
    }

    /// All lines of the log, but for a last one that was cut off when the process died. What was not finite is NaN.
    pub(crate) fn whole_log(&self) -> Result<Vec<Line>> {
        let path = self.file(METRICS);
        let name = path.display();
        let text = fs::read_to_string(&path).with_context(|| format!("{name}: cannot be read"))?;
        let count = text.lines().count();
        let mut lines = Vec::new();
        for (index, text) in text.lines().enumerate() {
            match serde_json::from_str::<Line>(text) {
                Ok(line) => lines.push(line),
                Err(_) if index + 1 == count => {}
                Err(error) => bail!("{name}: line {}: expected a line of the log, found: {error}", index + 1),
            }
        }
        Ok(lines)
    }

    /// Lines of the log up to the step of a checkpoint. What was written after it is left out.
    pub(crate) fn read_log(&self, up_to_step: usize) -> Result<Vec<Line>> {
        let mut lines = self.whole_log()?;
        lines.retain(|line| line.step() <= up_to_step);
        let steps = lines.iter().filter(|line| matches!(line, Line::Step { .. })).count();
        let name = self.file(METRICS);
        ensure!(
            steps == up_to_step,
            "{}: expected the {up_to_step} steps of the checkpoint, found {steps}",
            name.display()
        );
        Ok(lines)
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

    /// Brings the log to the disk.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().sync_data())
            .with_context(|| format!("{}: cannot be written", self.path.display()))
    }
}

/// Steps and epochs of a log.
pub(crate) fn records(lines: &[Line]) -> (Vec<StepRecord>, Vec<EpochRecord>) {
    let (mut steps, mut epochs) = (Vec::new(), Vec::new());
    for line in lines {
        match line {
            Line::Step { record, .. } => steps.push(*record),
            Line::Epoch { record, .. } => epochs.push(*record),
            Line::Guard { .. } => {}
        }
    }
    (steps, epochs)
}

/// A folder named after the time that no other run has taken.
fn free_default_path(name: &str) -> PathBuf {
    let path = default_path(name);
    let numbered = (2..).map(|number| {
        path.with_file_name(format!("{}-{number}", path.file_name().unwrap_or_default().to_string_lossy()))
    });
    std::iter::once(path.clone()).chain(numbered).find(|path| !path.exists()).unwrap_or(path)
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
