//! The commands `compare` and `train`: trainings one after the other, then summary and report.

use crate::cli::CommonArgs;
use crate::config::Config;
use crate::device::{self, Chosen};
use crate::folder::{Folder, Line, REPORT, Summary};
use crate::guard::Stopped;
use crate::losses;
use crate::network;
use crate::progress::{Verbosity, short};
use crate::session;
use crate::training::{self, Finished, Outcome};
use anyhow::{Result, bail, ensure};
use serde::Serialize;
use sphereface_data::{Choice, Dataset, ImageSet, Locations, Progress};
use sphereface_report::{DatasetInfo, Images, Report};
use std::io::Write;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// How a command ended.
pub(crate) enum Ended {
    /// With all it was asked for.
    Finished,
    /// Saved, because of Ctrl-C.
    Interrupted,
}

/// Loads the data set of a configuration and says in one line which it is.
pub(crate) fn load_data(config: &Config, verbosity: Verbosity) -> Result<Dataset> {
    let locations = Locations::from_environment(config.data.dir.clone());
    let choice = Choice::from_str(&config.data.set)?;
    let mut tenths = 0;
    let mut tell = |progress: Progress<'_>| match progress {
        Progress::Receiving { file, received_bytes, total_bytes: Some(total), .. } => {
            let now = received_bytes * 10 / total.max(1);
            if now != tenths && now > 0 {
                verbosity.say(format_args!("{file}: {}%", now * 10));
            }
            tenths = now;
        }
        Progress::Asking { file, mirror } => verbosity.say(format_args!("fetching {file} from {mirror}")),
        Progress::Refused { mirror, reason, .. } => verbosity.say(format_args!("{mirror}: {reason}")),
        _ => {}
    };
    let dataset = sphereface_data::load(choice, &locations, &mut tell)?;
    if let Some(expected) = config.data.sha256.as_ref().filter(|expected| **expected != dataset.sha256) {
        bail!(
            "data: expected the set of this run, SHA-256 {expected}, found '{}', {} (choose one with --data or --data-dir)",
            dataset.name,
            dataset.sha256
        );
    }
    let dataset = if config.data.validate { dataset.with_validation() } else { dataset };
    let dataset = match config.data.evaluate {
        Some(images) => dataset.with_first_test_images(images),
        None => dataset,
    };
    verbosity.say(format_args!("data: {}", dataset.note));
    Ok(dataset)
}

/// Where a run lives.
pub(crate) enum Place<'a> {
    /// In a new folder, the given one or one named after the time.
    New(Option<&'a Path>),
    /// In the folder in which it was begun.
    Begun(Folder),
}

/// Runs every training of `config`, whichever of them have been begun, and reports them together.
///
/// A single training lives in the folder itself, several in one folder each inside it. Nothing is written before data
/// and backend are there.
pub(crate) fn run(
    config: &Config,
    place: Place<'_>,
    command: &str,
    verbosity: Verbosity,
    stop_at: Option<usize>,
    profile: bool,
) -> Result<Ended> {
    let started = Instant::now();
    let (backend, device, instead_of) = {
        let Chosen { backend, device, instead_of } = device::backend(config, verbosity)?;
        (backend.name(), device, instead_of)
    };
    let dataset = load_data(config, verbosity)?;
    let mut config = config.clone();
    config.data.sha256 = Some(dataset.sha256.clone());
    // What goes on later does so where it began, or not at all: other backends give other bits.
    config.backend.device = device;
    let (config, trainings) = (&config, config.trainings());
    // What a model refuses, it refuses before anything is written.
    trainings.iter().try_for_each(|training| session::model(training, &dataset).map(drop))?;
    let folder = match place {
        Place::New(given) => {
            let name = if let [training] = &trainings[..] { training.training_name(false) } else { command.to_owned() };
            Folder::create(given, &name)?
        }
        Place::Begun(folder) => folder,
    };
    let folder = &folder;
    verbosity.say(format_args!("folder: {}\nbackend: {backend}", folder.path().display()));
    if let Some(reason) = instead_of {
        verbosity.say(format_args!("no GPU is used: {reason}"));
    }
    let _lock = folder.lock()?;
    folder.reopen()?;
    folder.write_config(config)?;
    let (mut finished, mut trained, mut stopped) = (Vec::new(), Vec::new(), Vec::new());
    for (index, training) in trainings.iter().enumerate() {
        let name = training.training_name(config.training.seeds > 1);
        let inside = if trainings.len() == 1 { folder.clone() } else { folder.inside(&name) };
        let title =
            if trainings.len() == 1 { name.clone() } else { format!("[{}/{}] {name}", index + 1, trainings.len()) };
        let outcome = match training::run(training, &dataset, &inside, &title, verbosity, stop_at) {
            // The others of a comparison are none the worse.
            Err(error) if trainings.len() > 1 && error.is::<Stopped>() => {
                verbosity.say(format_args!("{error}"));
                stopped.push(error.to_string());
                continue;
            }
            outcome => outcome?,
        };
        match outcome {
            Outcome::Finished(mut result) => {
                result.summary.folder = if trainings.len() == 1 { ".".into() } else { name };
                finished.push(*result);
                trained.push(training.clone());
            }
            Outcome::Paused { step, steps } => {
                tell!("{title}: saved at step {step} of {steps}");
                tell!("to continue: cargo run -p trainer --release -- {command} --resume {}", folder.path().display());
                let asked = stop_at.is_some_and(|stop_at| step >= stop_at);
                return Ok(if asked { Ended::Finished } else { Ended::Interrupted });
            }
        }
        if let (true, Some(result)) = (trainings.len() > 1, finished.last()) {
            let part = summary(training, &dataset, &inside, std::slice::from_ref(result), command, &backend)?;
            inside.write_summary(&part)?;
        }
    }
    let failure =
        format!("the guard stopped {} of {} trainings: {}", stopped.len(), trainings.len(), stopped.join("; "));
    ensure!(!finished.is_empty(), "{failure}");
    let mut summary = summary(config, &dataset, folder, &finished, command, &backend)?;
    // With what lies between and after the trainings, unless they were trained by other processes.
    summary.total_seconds = summary.total_seconds.max(started.elapsed().as_secs_f64());
    if trainings.len() > 1 {
        write_common_log(folder, &finished)?;
    }
    let profiles: Vec<String> = finished
        .iter()
        .flat_map(|result| {
            result.profile.as_ref().map(network::Profile::table).into_iter().chain(result.counts.clone())
        })
        .collect();
    let report = report(config, &trained, &dataset, &summary, finished, &backend)?;
    summary.comparisons = report.comparisons();
    report.write(folder.path())?;
    folder.write_summary(&summary)?;
    report.save(&folder.file(REPORT))?;
    tell!("{}", report.terminal_table().trim_end());
    if profile {
        profiles.iter().for_each(|table| tell!("\n{}", table.trim_end()));
    }
    tell!(
        "{} in {}",
        folder.file("report.html").display(),
        short(Duration::from_secs_f64(started.elapsed().as_secs_f64()))
    );
    ensure!(stopped.is_empty(), "{failure}");
    Ok(Ended::Finished)
}

/// The lines of all trainings in one log, each with the training it belongs to.
fn write_common_log(folder: &Folder, finished: &[Finished]) -> Result<()> {
    #[derive(Serialize)]
    struct Named<'a> {
        training: &'a str,
        #[serde(flatten)]
        line: &'a Line,
    }
    let mut text = String::new();
    for result in finished {
        for line in &result.lines {
            text.push_str(&serde_json::to_string(&Named { training: &result.summary.folder, line })?);
            text.push('\n');
        }
    }
    crate::checkpoint::replace(&folder.file("metrics.jsonl"), text.as_bytes())
}

/// The command that repeats a run from its saved configuration.
fn repeat_command(command: &str, folder: &Folder) -> String {
    format!("cargo run -p trainer --release -- {command} --config {}", folder.file("config.toml").display())
}

fn summary(
    config: &Config,
    dataset: &Dataset,
    folder: &Folder,
    finished: &[Finished],
    command: &str,
    backend: &str,
) -> Result<Summary> {
    Ok(Summary {
        dataset: dataset.name.clone(),
        dataset_sha256: dataset.sha256.clone(),
        train_images: dataset.train.len(),
        test_images: dataset.test.len(),
        evaluated_on: if config.data.validate { "validation" } else { "test" }.into(),
        network: config.model.network.clone(),
        machine: device::processor(),
        backend: backend.into(),
        command: repeat_command(command, folder),
        version: env!("CARGO_PKG_VERSION").into(),
        total_seconds: finished.iter().map(|result| result.summary.seconds).sum(),
        runs: finished.iter().map(|result| result.summary.clone()).collect(),
        comparisons: Vec::new(), // Known to the report only.
    })
}

fn report(
    config: &Config,
    trainings: &[Config],
    dataset: &Dataset,
    summary: &Summary,
    finished: Vec<Finished>,
    backend: &str,
) -> Result<Report> {
    let with_largest = trainings.iter().zip(&finished).max_by_key(|(training, _)| training.model.dims[0]);
    let Some((largest, measured)) = with_largest else { bail!("model: expected at least one training, found none") };
    let activation_bytes = if config.backend.precision == "bf16" { 2 } else { 4 };
    let mut network = network::info(config.network()?, &session::model(largest, dataset)?, activation_bytes)?;
    if let Some(profile) = &measured.profile {
        profile.note(&mut network);
    }
    let title = if finished.len() > 1 { "Margin softmax losses compared" } else { "Margin softmax training" };
    Ok(Report {
        title: format!("{title} on {}{}", dataset.name, if config.data.validate { ", held-out images" } else { "" }),
        dataset: DatasetInfo {
            name: dataset.name.clone(),
            note: dataset.note.clone(),
            train_images: dataset.train.len(),
            test_images: dataset.test.len(),
            held_out: config.data.validate,
            comparable: dataset.comparable,
            classes: dataset.classes,
            sha256: dataset.sha256.clone(),
        },
        network,
        machine: format!("{} ({backend})", summary.machine),
        command: summary.command.clone(),
        version: summary.version.clone(),
        threads: if config.backend.threads > 0 {
            config.backend.threads
        } else {
            std::thread::available_parallelism().map_or(1, usize::from)
        },
        total_seconds: summary.total_seconds,
        images: images(&dataset.test),
        losses: losses::describe(config, config.steps(dataset.train.len()))?,
        trainings: finished.into_iter().map(|result| result.report).collect(),
    })
}

/// The images for the report to show, if they are grey.
fn images(set: &ImageSet) -> Option<Images> {
    let &ImageSet { height, width, channels, ref images, .. } = set;
    (channels == 1).then(|| Images { height, width, pixels: images.clone() })
}

/// Continues the run in a folder, up to step `steps` if that is given.
///
/// Of the command line only the data's place and the number of threads count: neither changes a result.
pub(crate) fn resume(path: &Path, steps: Option<usize>, args: &CommonArgs, verbosity: Verbosity) -> Result<Ended> {
    ensure!(
        args.data.data.is_none() && !args.data.validate && args.data.evaluate.is_none(),
        "--resume: expected no other data than the run's own, found --data, --validate or --evaluate"
    );
    let folder = Folder::open(path)?;
    let mut config = folder.read_config()?;
    let sha256 = config.data.sha256.clone();
    args.data.apply(&mut config);
    config.data.sha256 = sha256;
    config.backend.threads = args.threads.unwrap_or(config.backend.threads);
    let command = if config.trainings().len() > 1 { "compare" } else { "train" };
    let mut stop_at = steps;
    if let Some(steps) = steps {
        let planned = config.steps(load_data(&config, Verbosity::Quiet)?.train.len());
        if steps > planned {
            verbosity.say(format_args!("planned for {planned} steps: the schedules are stretched to {steps}"));
            (config.training.steps, stop_at) = (Some(steps), None);
        }
    }
    run(&config, Place::Begun(folder), command, verbosity, stop_at, args.profile)
}
