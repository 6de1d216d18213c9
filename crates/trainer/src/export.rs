//! What a finished training leaves for other tools.

use crate::checkpoint::replace;
use crate::config::Config;
use crate::folder::{Folder, Line};
use crate::session::Session;
use anyhow::{Context, Result};
use sphereface::Embedded;
use sphereface_data::Dataset;
use sphereface_export::curves::{Column, Row};
use sphereface_export::embeddings::Labelled;
use sphereface_export::{Curves, Trained, onnx, pytorch, tensorboard};
use sphereface_report::{EpochRecord, StepRecord};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Folder of TensorBoard's files in a training's folder.
const TENSORBOARD: &str = "tensorboard";

/// Writes the model as `model.onnx` and `model.safetensors`, the test set's embeddings, the curves, and a folder for
/// TensorBoard.
pub(crate) fn write(
    folder: &Folder,
    session: &mut Session,
    config: &Config,
    dataset: &Dataset,
    lines: &[Line],
    embedded: &Embedded,
) -> Result<()> {
    let values = session.values()?;
    let facts = facts(session, config, dataset)?;
    let (model, parameters) = (session.model(), session.parameters());
    let trained = Trained { model, parameters, values: &values, facts: &facts };
    replace(&folder.file("model.onnx"), &onnx::encode(&trained)?)?;
    replace(&folder.model(), &pytorch::encode(&trained)?)?;
    let dim = model.network.embedding;
    let labelled = Labelled { points: &embedded.points, dim, labels: &dataset.test.labels };
    write_npy(&folder.file("embeddings.npy"), &labelled)?;
    replace(&folder.file("embeddings.csv"), labelled.csv().as_bytes())?;
    let curves = curves(lines);
    replace(&folder.file("curves.csv"), curves.csv().as_bytes())?;
    write_tensorboard(folder, dataset, &curves, &labelled, &embedded.predictions)
}

/// Writes embeddings, and their labels beside them.
pub(crate) fn write_npy(path: &Path, labelled: &Labelled<'_>) -> Result<()> {
    replace(&labels_file(path), &labelled.labels_npy())?;
    replace(path, &labelled.npy())
}

/// `embeddings.labels.npy` for `embeddings.npy`.
fn labels_file(path: &Path) -> PathBuf {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!("{stem}.labels.npy"))
}

fn write_tensorboard(
    folder: &Folder,
    dataset: &Dataset,
    curves: &Curves,
    labelled: &Labelled<'_>,
    predictions: &[u8],
) -> Result<()> {
    let folder = folder.inside(TENSORBOARD);
    fs::create_dir_all(folder.path()).with_context(|| format!("{}: cannot be created", folder.path().display()))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let started = now - curves.rows.last().map_or(0.0, |row| row.seconds);
    replace(&folder.file(tensorboard::EVENTS), &tensorboard::events(curves, started))?;
    let test = &dataset.test;
    let sprite = tensorboard::Sprite { images: &test.images, size: [test.height, test.width, test.channels] }.png()?;
    if let Some(picture) = &sprite {
        replace(&folder.file(tensorboard::SPRITE), picture)?;
    }
    replace(&folder.file(tensorboard::TENSORS), tensorboard::tensors(labelled).as_bytes())?;
    let metadata = tensorboard::metadata(labelled.labels, predictions);
    replace(&folder.file(tensorboard::METADATA), metadata.as_bytes())?;
    // Last, since it names the others.
    let size = sprite.map(|_| [test.height, test.width]);
    let projector = tensorboard::projector_config("embeddings", labelled, size);
    replace(&folder.file(tensorboard::PROJECTOR_CONFIG), projector.as_bytes())
}

/// What a reader of the model's files should know about it.
fn facts(session: &Session, config: &Config, dataset: &Dataset) -> Result<Vec<(&'static str, String)>> {
    let choice = config.loss()?;
    let mut facts = vec![
        ("loss", choice.key.clone()),
        ("network", config.model.network.clone()),
        ("dataset", dataset.name.clone()),
        ("dataset_sha256", dataset.sha256.clone()),
        ("seed", config.training.seed.to_string()),
        ("steps", session.steps_done().to_string()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    for (parameter, &value) in choice.loss.settings().zip(&choice.values) {
        facts.extend(parameter.setting.key().map(|key| (key, parameter.setting.written(value))));
    }
    Ok(facts)
}

/// A column, and where its values stand in records of one kind.
type Of<R> = (Column, fn(&R) -> f64);

/// Columns of what is measured in a step.
const OF_STEP: [Of<StepRecord>; 7] = [
    (Column { name: "loss", tag: "train/loss" }, |step| step.loss),
    (Column { name: "accuracy", tag: "train/accuracy" }, |step| step.accuracy),
    (Column { name: "accuracy_penalised", tag: "train/accuracy_penalised" }, |step| step.accuracy_penalised),
    (Column { name: "rate", tag: "schedule/rate" }, |step| step.rate),
    (Column { name: "lambda", tag: "schedule/lambda" }, |step| step.lambda),
    (Column { name: "gradient_norm", tag: "train/gradient_norm" }, |step| step.gradient_norm),
    (Column { name: "feature_norm", tag: "train/feature_norm" }, |step| step.feature_norm),
];

/// Columns of what is measured at the end of an epoch.
const OF_EPOCH: [Of<EpochRecord>; 2] = [
    (Column { name: "train_loss", tag: "epoch/train_loss" }, |epoch| epoch.train_loss),
    (Column { name: "test_accuracy", tag: "epoch/test_accuracy" }, |epoch| epoch.test_accuracy),
];

/// The log as a table with a row for each step. What is measured at the end of an epoch stands in the row of its last
/// step.
fn curves(lines: &[Line]) -> Curves {
    let mut rows: Vec<Row> = Vec::new();
    for line in lines {
        match line {
            Line::Step { record, seconds } => {
                let measured = OF_STEP.iter().map(|(_, of)| Some(of(record)));
                let values = measured.chain([None; OF_EPOCH.len()]).collect();
                rows.push(Row { step: record.step as u64, epoch: record.epoch, seconds: *seconds, values });
            }
            Line::Epoch { record, .. } => {
                let cells = rows.last_mut().map(|row| row.values[OF_STEP.len()..].iter_mut());
                cells.into_iter().flatten().zip(OF_EPOCH).for_each(|(cell, (_, of))| *cell = Some(of(record)));
            }
            Line::Guard { .. } => {}
        }
    }
    let columns = OF_STEP.map(|(column, _)| column).into_iter().chain(OF_EPOCH.map(|(column, _)| column));
    Curves { columns: columns.collect(), rows }
}
