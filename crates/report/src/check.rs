//! What must hold before a report can be drawn, checked once so that drawing cannot fail.

use crate::error::Error;
use crate::model::{Embeddings, LayerInfo, Report, Training};

/// Checks everything the drawing code relies on.
pub(crate) fn report(report: &Report) -> Result<(), Error> {
    if report.trainings.is_empty() {
        return Err(Error::NoTrainings);
    }
    let classes = report.dataset.classes;
    require("dataset.classes", "1 to 256 classes", (1..=256).contains(&classes), classes)?;
    let images = report.dataset.test_images;
    require("dataset.test_images", "at least one test image", images > 0, images)?;
    layers(&report.network.layers)?;
    report.trainings.iter().try_for_each(|t| training(t, classes))
}

/// Checks that layers have names of their own and read layers before them.
pub(crate) fn layers(layers: &[LayerInfo]) -> Result<(), Error> {
    for (index, layer) in layers.iter().enumerate() {
        let field = |what: &str| format!("network.layers[{index}], {:?}: {what}", layer.name);
        let before = &layers[..index];
        let own = !layer.name.is_empty() && before.iter().all(|other| other.name != layer.name);
        require(&field("name"), "a name that no other layer has", own, format!("{:?}", layer.name))?;
        let inputs = if index == 0 { 0..=0 } else { 1..=2 };
        let expected = if index == 0 { "none" } else { "one or two" };
        require(&field("reads"), expected, inputs.contains(&layer.reads.len()), layer.reads.len())?;
        if let Some(read) = layer.reads.iter().find(|read| before.iter().all(|other| other.name != **read)) {
            require(&field("reads"), "layers before it", false, format!("{read:?}"))?;
        }
        let share = layer.time.unwrap_or(0.0);
        require(&field("time"), "a share from 0 to 1", (0.0..=1.0).contains(&share), share)?;
    }
    Ok(())
}

fn training(training: &Training, classes: usize) -> Result<(), Error> {
    let name = format!("{} {}-D seed {}", training.loss, training.embedding_dim, training.seed);
    let key = &training.loss;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    require(
        &format!("{name}: loss"),
        "a key of [a-z0-9_-], 1 to 40 long",
        (1..=40).contains(&key.len()) && key.bytes().all(plain),
        format!("{key:?}"),
    )?;
    let dim = training.embedding_dim;
    require(&format!("{name}: embedding_dim"), "at least 1", dim > 0, dim)?;
    for (field, value) in [
        ("train_accuracy", training.train_accuracy),
        ("test_accuracy", training.test_accuracy),
        ("test_accuracy_cosines", training.test_accuracy_cosines),
    ] {
        let in_range = (0.0..=1.0).contains(&value);
        require(&format!("{name}: {field}"), "a fraction from 0 to 1", in_range, value)?;
    }
    match &training.embeddings {
        Some(found) => embeddings(&name, found, dim, classes),
        None => Ok(()),
    }
}

fn embeddings(name: &str, found: &Embeddings, dim: usize, classes: usize) -> Result<(), Error> {
    let count = found.labels.len();
    require(&format!("{name}: labels"), "at least one", count > 0, count)?;
    for (field, length, shape, wanted) in [
        ("predictions", found.predictions.len(), "[N]", count),
        ("points", found.points.len(), "[N, D]", count * dim),
        ("class_weights", found.class_weights.len(), "[C, D]", classes * dim),
    ] {
        let expected = format!("{wanted} values {shape}");
        require(&format!("{name}: {field}"), &expected, length == wanted, length)?;
    }
    for (field, values) in [("labels", &found.labels), ("predictions", &found.predictions)] {
        if let Some(i) = values.iter().position(|&v| usize::from(v) >= classes) {
            let expected = format!("classes below {classes}");
            require(&format!("{name}: {field}[{i}]"), &expected, false, values[i])?;
        }
    }
    for (field, values) in [("points", &found.points), ("class_weights", &found.class_weights)] {
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            require(&format!("{name}: {field}[{i}]"), "finite values", false, values[i])?;
        }
    }
    Ok(())
}

fn require(field: &str, expected: &str, holds: bool, found: impl std::fmt::Display) -> Result<(), Error> {
    if holds {
        return Ok(());
    }
    Err(Error::Invalid { field: field.to_string(), expected: expected.to_string(), found: found.to_string() })
}
