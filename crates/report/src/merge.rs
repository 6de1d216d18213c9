//! Reports of several runs as one.

use std::collections::HashMap;
use std::fmt::Debug;

use crate::error::Error;
use crate::model::{DatasetInfo, Report, Training};

impl Report {
    /// The trainings of several runs side by side, each run with the name that an error calls it by. A single report
    /// stays what it is.
    ///
    /// The runs must share data, network and the meaning of each loss; what else was set is for the caller to compare.
    ///
    /// # Errors
    /// [`Error::NoTrainings`] without a report; [`Error::Unlike`] if two do not belong together, or if two hold the same
    /// loss, embedding size and seed.
    pub fn merged(reports: Vec<(String, Self)>) -> Result<Self, Error> {
        let mut reports = reports.into_iter();
        let (first_name, mut merged) = reports.next().ok_or(Error::NoTrainings)?;
        let mut machines = vec![merged.machine.clone()];
        let mut versions = vec![merged.version.clone()];
        let mut sources = vec![first_name.clone(); merged.trainings.len()];
        for (name, report) in reports {
            let pair = |field: &str| format!("{field} of {name} and {first_name}");
            same_data(&merged.dataset, &report.dataset, &pair)?;
            same(&pair("network"), &report.network.name, &merged.network.name)?;
            if report.network.parameters > merged.network.parameters {
                merged.network = report.network;
            }
            machines.push(report.machine);
            versions.push(report.version);
            merged.command = format!("{}\n{}", merged.command, report.command);
            // Of no use as one number if the runs had different ones.
            merged.threads = if report.threads == merged.threads { merged.threads } else { 0 };
            merged.total_seconds += report.total_seconds;
            for loss in report.losses {
                if !merged.losses.iter().any(|known| known.key == loss.key) {
                    merged.losses.push(loss);
                }
            }
            merged.images = merged.images.or(report.images);
            sources.resize(sources.len() + report.trainings.len(), name);
            merged.trainings.extend(report.trainings);
        }
        distinct(&merged, &sources)?;
        if sources.iter().any(|source| *source != first_name) {
            merged.title = format!("Margin softmax losses compared on {}", merged.dataset.name);
            merged.machine = listed(machines);
            merged.version = listed(versions);
            by_loss_and_seed(&mut merged.trainings);
        }
        Ok(merged)
    }
}

fn same_data(ours: &DatasetInfo, theirs: &DatasetInfo, pair: &dyn Fn(&str) -> String) -> Result<(), Error> {
    same(&pair("data"), &theirs.name, &ours.name)?;
    same(&pair("SHA-256 of the data"), &theirs.sha256, &ours.sha256)?;
    same(&pair("training images"), &theirs.train_images, &ours.train_images)?;
    same(&pair("images tested on"), &theirs.test_images, &ours.test_images)?;
    same(&pair("held-out images"), &theirs.held_out, &ours.held_out)?;
    same(&pair("classes"), &theirs.classes, &ours.classes)
}

fn same<T: PartialEq + Debug>(what: &str, found: &T, expected: &T) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Unlike { what: what.to_string(), found: format!("{found:?}"), expected: format!("{expected:?}") })
}

/// No training is there twice, and each loss is one thing.
fn distinct(report: &Report, sources: &[String]) -> Result<(), Error> {
    let mut titles: HashMap<&str, (&str, &str)> = HashMap::new();
    let mut seen: HashMap<(&str, usize, u64), &str> = HashMap::new();
    for (training, source) in report.trainings.iter().zip(sources) {
        let (title, before) = *titles.entry(&training.loss).or_insert((&training.title, source));
        same(&format!("loss {} of {source} and {before}", training.loss), &training.title.as_str(), &title)?;
        let key = (training.loss.as_str(), training.embedding_dim, training.seed);
        if let Some(before) = seen.insert(key, source).filter(|before| before != source) {
            return Err(Error::Unlike {
                what: format!("seeds of {source} and {before}"),
                expected: "different ones".to_string(),
                found: format!("{} {}-D seed {} in both", training.title, training.embedding_dim, training.seed),
            });
        }
    }
    Ok(())
}

/// Losses as they first appeared, the seeds of each in order, whichever run they came from.
fn by_loss_and_seed(trainings: &mut [Training]) {
    let mut losses: Vec<String> = Vec::new();
    for training in trainings.iter() {
        if !losses.contains(&training.loss) {
            losses.push(training.loss.clone());
        }
    }
    trainings.sort_by_key(|training| (losses.iter().position(|loss| *loss == training.loss), training.seed));
}

/// The different ones among texts, in their order.
fn listed(texts: Vec<String>) -> String {
    let mut kept: Vec<String> = Vec::new();
    for text in texts {
        if !kept.contains(&text) {
            kept.push(text);
        }
    }
    kept.join("; ")
}
