//! What must hold before a report can be drawn, checked once so that drawing cannot fail.

use crate::error::Error;
use crate::model::{Embeddings, Film, Images, Report, Training};

/// Checks everything the drawing code relies on.
pub(crate) fn report(report: &Report) -> Result<(), Error> {
    if report.trainings.is_empty() {
        return Err(Error::NoTrainings);
    }
    let classes = report.dataset.classes;
    require("dataset.classes", "1 to 256 classes", (1..=256).contains(&classes), classes)?;
    let images = report.dataset.test_images;
    require("dataset.test_images", "at least one test image", images > 0, images)?;
    if let Some(found) = &report.images {
        self::images(found, images)?;
    }
    report.trainings.iter().try_for_each(|t| training(t, classes))
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
