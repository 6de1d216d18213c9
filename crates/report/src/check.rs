//! What must hold before a report can be drawn, checked once so that drawing cannot fail.

use crate::error::Error;
use crate::loss::LossInfo;
use crate::model::{Embeddings, Film, Images, LayerInfo, Report, Training};

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
    if let Some(found) = &report.images {
        self::images(found, images)?;
    }
    losses(&report.losses)?;
    let known: Vec<&str> = report.losses.iter().map(|loss| loss.key.as_str()).collect();
    report.trainings.iter().try_for_each(|t| training(t, classes, &known))
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

fn images(found: &Images, test_images: usize) -> Result<(), Error> {
    let Images { height, width, pixels } = found;
    let (size, length) = (height.saturating_mul(*width), pixels.len());
    require(
        "images: height and width",
        "1 to 256 pixels",
        (1..=256).contains(height) && (1..=256).contains(width),
        format!("{height} × {width}"),
    )?;
    let count = length / size;
    let whole = length > 0 && length.is_multiple_of(size);
    require("images: pixels", &format!("whole images of {height} × {width}"), whole, length)?;
    require("images: pixels", &format!("at most the {test_images} test images"), count <= test_images, count)
}

fn losses(losses: &[LossInfo]) -> Result<(), Error> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    for (i, loss) in losses.iter().enumerate() {
        let key = &loss.key;
        let is_key = (1..=40).contains(&key.len()) && key.bytes().all(plain);
        require(&format!("losses[{i}].key"), "a key of [a-z0-9_-], 1 to 40 long", is_key, format!("{key:?}"))?;
        let first = losses.iter().position(|other| other.key == *key);
        require(&format!("losses[{i}].key"), "each loss once", first == Some(i), format!("{key:?} again"))?;
        require(&format!("{key}: targets"), "at least one table", !loss.targets.is_empty(), "none")?;
        for curve in &loss.targets {
            let (name, count) = (format!("{key}: targets"), curve.values.len());
            require(&name, "at least two angles", count > 1, count)?;
            require(&name, &format!("{count} slopes, one a value"), curve.slopes.len() == count, curve.slopes.len())?;
            let mut all = curve.values.iter().chain(&curve.slopes);
            require(&name, "finite values", all.all(|v| v.is_finite()), "one that is not")?;
        }
        for curve in &loss.effective_margins {
            let count = curve.factors.len();
            require(&format!("{key}: effective_margins"), "at least two angles", count > 1, count)?;
        }
        for schedule in &loss.schedules {
            let count = schedule.lambdas.len();
            require(&format!("{key}: schedules"), "at least two moments", count > 1, count)?;
        }
    }
    Ok(())
}

fn training(training: &Training, classes: usize, losses: &[&str]) -> Result<(), Error> {
    let name = format!("{} {}-D seed {}", training.loss, training.embedding_dim, training.seed);
    let expected = format!("one of the losses described: {}", losses.join(", "));
    let known = losses.contains(&training.loss.as_str());
    require(&format!("{name}: loss"), &expected, known, format!("{:?}", training.loss))?;
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
    if let Some(found) = &training.embeddings {
        embeddings(&name, found, dim, classes)?;
    }
    let images = training.embeddings.as_ref().map_or(0, |found| found.labels.len());
    training.film.as_ref().map_or(Ok(()), |found| film(&name, found, dim, classes, images))
}

/// Every frame holds the same images, the first of those that were embedded at the end.
fn film(name: &str, found: &Film, dim: usize, classes: usize, images: usize) -> Result<(), Error> {
    let Some(first) = found.frames.first() else {
        return require(&format!("{name}: film"), "at least one frame", false, 0);
    };
    let shown = first.points.len();
    let fits = shown > 0 && shown.is_multiple_of(dim) && shown <= images.saturating_mul(dim);
    require(&format!("{name}: film: points"), &format!("1 to {images} points of {dim} numbers"), fits, shown)?;
    let mut before = f64::NEG_INFINITY;
    for (i, frame) in found.frames.iter().enumerate() {
        let name = format!("{name}: film: frame {i}");
        let later = frame.epoch.is_finite() && frame.epoch > before;
        require(&format!("{name}: epoch"), &format!("a number above {before}"), later, frame.epoch)?;
        before = frame.epoch;
        for (field, values, wanted) in
            [("points", &frame.points, shown), ("class_weights", &frame.class_weights, classes.saturating_mul(dim))]
        {
            let length = values.len();
            require(&format!("{name}: {field}"), &format!("{wanted} values"), length == wanted, length)?;
            finite(&format!("{name}: {field}"), values)?;
        }
    }
    Ok(())
}

fn embeddings(name: &str, found: &Embeddings, dim: usize, classes: usize) -> Result<(), Error> {
    let count = found.labels.len();
    require(&format!("{name}: labels"), "at least one", count > 0, count)?;
    for (field, length, shape, wanted) in [
        ("predictions", found.predictions.len(), "[N]", count),
        ("points", found.points.len(), "[N, D]", count.saturating_mul(dim)),
        ("class_weights", found.class_weights.len(), "[C, D]", classes.saturating_mul(dim)),
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
        finite(&format!("{name}: {field}"), values)?;
    }
    Ok(())
}

fn finite(field: &str, values: &[f32]) -> Result<(), Error> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(i) => require(&format!("{field}[{i}]"), "finite values", false, values[i]),
        None => Ok(()),
    }
}

fn require(field: &str, expected: &str, holds: bool, found: impl std::fmt::Display) -> Result<(), Error> {
    if holds {
        return Ok(());
    }
    Err(Error::Invalid { field: field.to_string(), expected: expected.to_string(), found: found.to_string() })
}
