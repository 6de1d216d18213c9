//! The film of a training: what became of the first test images' embeddings, recorded while it trains.
//!
//! It is saved right before each checkpoint. So every frame up to a checkpoint's step is on the disk with it; frames
//! beyond that step, from a process that died, are dropped and recorded again, bit for bit.

use crate::checkpoint::replace;
use crate::guard::NotFinite;
use crate::session::Session;
use anyhow::{Context, Result, anyhow, bail, ensure};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use sphereface_report::{Film, Frame};
use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Name of the file in a training's folder.
pub(crate) const FILE: &str = "film.safetensors";
/// Test images in each frame, the first ones; all of a smaller set.
pub(crate) const IMAGES: usize = 1000;
/// Frames of a training at most: a longer one has a coarser interval.
const MAX_FRAMES: usize = 100;
/// Frames an epoch, unless those were too many.
const FRAMES_AN_EPOCH: usize = 4;
/// Key of the metadata, which says what the tensors are.
const FORMAT_KEY: &str = "format";
const FORMAT: &str = "sphereface film 1: points [F, M, D] of the first M test images, class_weights [F, C, D], \
                      steps [F] and epochs [F] done";

/// The film of a training so far.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    /// Steps after which a frame is recorded, ascending; none for embeddings that cannot be shown.
    planned: Vec<usize>,
    /// Steps after which each frame was recorded.
    steps: Vec<usize>,
    film: Film,
    /// Frames that the file holds.
    saved: usize,
}

impl Recording {
    /// A film without frames of a training that is about to begin.
    pub(crate) fn new(session: &Session) -> Recording {
        let shown = (2..=3).contains(&session.model().network.embedding);
        let planned = if shown {
            planned(session.training().source.images, session.training().batch, session.steps())
        } else {
            Vec::new()
        };
        Recording { planned, ..Recording::default() }
    }

    /// The film of a training that goes on from a checkpoint, up to that checkpoint.
    ///
    /// Without a file it begins here: the training itself needs none.
    pub(crate) fn resume(path: &Path, session: &Session) -> Result<Recording> {
        let mut recording = Recording::new(session);
        let Some((steps, film)) = read(path)? else { return Ok(recording) };
        let images = session.test_images().min(IMAGES);
        let (dim, classes) = (session.model().network.embedding, session.model().head.classes);
        let fits = |frame: &Frame| [frame.points.len(), frame.class_weights.len()] == [images * dim, classes * dim];
        ensure!(
            film.frames.iter().all(fits),
            "{}: expected {images} images and {classes} classes in {dim} dimensions, found another training's",
            path.display()
        );
        // A stretched training has other moments; those of the shorter one that are not among them are left out.
        let kept = |step: usize| step <= session.steps_done() && recording.planned.binary_search(&step).is_ok();
        let frames = steps.into_iter().zip(film.frames).filter(|(step, _)| kept(*step));
        (recording.steps, recording.film.frames) = frames.unzip();
        recording.saved = recording.steps.len();
        Ok(recording)
    }

    /// The step after which the next frame is due.
    pub(crate) fn next_step(&self, steps_done: usize) -> Option<usize> {
        self.planned.iter().copied().find(|&step| step > steps_done)
    }

    /// Records a frame if one is due now.
    pub(crate) fn record(&mut self, session: &mut Session) -> Result<()> {
        let step = session.steps_done();
        let known = self.steps.last().is_some_and(|&last| last >= step);
        if known || self.planned.binary_search(&step).is_err() {
            return Ok(());
        }
        let embedded = session.embed_test(IMAGES)?;
        if !embedded.points.iter().chain(&embedded.class_weights).all(|value| value.is_finite()) {
            bail!(NotFinite("the embeddings of the test images".into()));
        }
        self.steps.push(step);
        self.film.frames.push(Frame {
            epoch: session.epochs(step),
            points: embedded.points,
            class_weights: embedded.class_weights,
        });
        Ok(())
    }

    /// Drops the frames beyond a step that the training goes back to; the next saving replaces the file.
    pub(crate) fn rewind(&mut self, step: usize) {
        let kept = self.steps.partition_point(|&frame| frame <= step);
        self.steps.truncate(kept);
        self.film.frames.truncate(kept);
        self.saved = usize::MAX;
    }

    /// Replaces the file, if its frames are not those recorded so far.
    pub(crate) fn save(&mut self, path: &Path, session: &Session) -> Result<()> {
        let (frames, dim) = (self.film.frames.len(), session.model().network.embedding);
        if frames == self.saved || frames == 0 {
            return Ok(());
        }
        let joined = |values: fn(&Frame) -> &[f32]| -> Vec<u8> {
            self.film.frames.iter().flat_map(values).flat_map(|value| value.to_le_bytes()).collect()
        };
        let (points, class_weights) = (joined(|frame| &frame.points), joined(|frame| &frame.class_weights));
        let steps: Vec<u8> = self.steps.iter().flat_map(|&step| (step as u32).to_le_bytes()).collect();
        let epochs: Vec<u8> = self.film.frames.iter().flat_map(|frame| frame.epoch.to_le_bytes()).collect();
        let rows = |bytes: &[u8]| bytes.len() / (4 * frames * dim);
        let views = [
            ("points", TensorView::new(Dtype::F32, vec![frames, rows(&points), dim], &points)?),
            ("class_weights", TensorView::new(Dtype::F32, vec![frames, rows(&class_weights), dim], &class_weights)?),
            ("steps", TensorView::new(Dtype::U32, vec![frames], &steps)?),
            ("epochs", TensorView::new(Dtype::F64, vec![frames], &epochs)?),
        ];
        let metadata = HashMap::from([(FORMAT_KEY.to_owned(), FORMAT.to_owned())]);
        replace(path, &safetensors::serialize(views, Some(metadata))?)?;
        self.saved = frames;
        Ok(())
    }

    /// The film, if it has frames.
    pub(crate) fn finish(self) -> Option<Film> {
        (!self.film.frames.is_empty()).then_some(self.film)
    }
}

/// The film of a training's folder, with the steps of its frames; none where there is no such file.
///
/// # Errors
/// One line that names the file, what was expected and what was found.
pub(crate) fn read(path: &Path) -> Result<Option<(Vec<usize>, Film)>> {
    let name = path.display();
    let file = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        found => found.with_context(|| format!("{name}: cannot be read"))?,
    };
    let tensors = SafeTensors::deserialize(&file)
        .map_err(|error| anyhow!("{name}: expected a safetensors file, found a damaged one ({error})"))?;
    let (_, metadata) = SafeTensors::read_metadata(&file)?;
    let format = metadata.metadata().as_ref().and_then(|metadata| metadata.get(FORMAT_KEY));
    ensure!(
        format.is_some_and(|format| format == FORMAT),
        "{name}: metadata '{FORMAT_KEY}': expected '{FORMAT}', found {format:?}"
    );
    let tensor = |tensor: &str, dtype: Dtype, dims: usize| {
        let view = tensors.tensor(tensor);
        let view = view.map_err(|_| anyhow!("{name}: tensor '{tensor}': expected, found none of this name"))?;
        let (found, shape) = (view.dtype(), view.shape().to_vec());
        ensure!(
            found == dtype && shape.len() == dims,
            "{name}: tensor '{tensor}': expected {dtype:?} in {dims} dimensions, found {found:?} {shape:?}"
        );
        Ok((shape, view.data()))
    };
    let (points_shape, points) = tensor("points", Dtype::F32, 3)?;
    let (weights_shape, weights) = tensor("class_weights", Dtype::F32, 3)?;
    let ((steps_shape, steps), (epochs_shape, epochs)) =
        (tensor("steps", Dtype::U32, 1)?, tensor("epochs", Dtype::F64, 1)?);
    let (frames, dim) = (points_shape[0], points_shape[2]);
    ensure!(
        weights_shape[0] == frames && weights_shape[2] == dim && steps_shape == [frames] && epochs_shape == [frames],
        "{name}: expected {frames} frames of {dim} dimensions in every tensor, found class_weights {weights_shape:?}, \
         steps {steps_shape:?}, epochs {epochs_shape:?}"
    );
    let steps: Vec<usize> = steps.chunks_exact(4).map(|b| bytemuck::pod_read_unaligned::<u32>(b) as usize).collect();
    let epochs: Vec<f64> = epochs.chunks_exact(8).map(bytemuck::pod_read_unaligned).collect();
    ensure!(
        steps.is_sorted_by(|a, b| a < b) && epochs.is_sorted_by(|a, b| a < b),
        "{name}: expected frames in the order of their steps, found {steps:?} at epochs {epochs:?}"
    );
    let [points, class_weights] = [points, weights]
        .map(|bytes| -> Vec<f32> { bytes.chunks_exact(4).map(bytemuck::pod_read_unaligned).collect() });
    ensure!(
        points.iter().chain(&class_weights).all(|value| value.is_finite()),
        "{name}: expected finite numbers, found NaN or infinity"
    );
    let frame = |(index, epoch): (usize, f64)| Frame {
        epoch,
        points: part(&points, index, frames),
        class_weights: part(&class_weights, index, frames),
    };
    let film = Film { frames: epochs.into_iter().enumerate().map(frame).collect() };
    Ok(Some((steps, film)))
}

/// One of `count` equal parts.
fn part(values: &[f32], index: usize, count: usize) -> Vec<f32> {
    let length = values.len() / count;
    values[index * length..(index + 1) * length].to_vec()
}

/// Steps with a frame: before the first, after each quarter of an epoch (or the same multiple of quarters, so that
/// there are at most [`MAX_FRAMES`]), and after the last.
fn planned(images: usize, batch: usize, steps: usize) -> Vec<usize> {
    let intervals = FRAMES_AN_EPOCH * batch * steps / images;
    let stride = intervals.div_ceil(MAX_FRAMES - 2).max(1);
    let at = |interval: usize| (interval * images).div_ceil(FRAMES_AN_EPOCH * batch);
    let inner = (0..=intervals).step_by(stride).map(at).filter(|&step| step < steps);
    let mut planned: Vec<usize> = inner.chain([steps]).collect();
    planned.dedup();
    planned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_lie_at_quarter_epochs_with_the_first_and_the_last_step() {
        assert_eq!(planned(400, 16, 30), [0, 7, 13, 19, 25, 30]);
        assert_eq!(planned(60_000, 128, 2344).len(), 21);
        assert_eq!(planned(60_000, 128, 2344)[..3], [0, 118, 235]);
        // Steps longer than a quarter: one frame each.
        assert_eq!(planned(100, 100, 3), [0, 1, 2, 3]);
        assert_eq!(planned(10, 100, 1), [0, 1]);
    }

    #[test]
    fn long_trainings_have_few_frames_at_even_intervals() {
        for (images, batch, steps) in
            [(60_000, 128, 100_000), (400, 16, 650), (1, 1, 10_000_000), (60_000, 128, 11_500)]
        {
            let planned = planned(images, batch, steps);
            assert!((40..=MAX_FRAMES).contains(&planned.len()), "{} frames", planned.len());
            assert_eq!((planned[0], planned[planned.len() - 1]), (0, steps));
            let gaps: Vec<usize> = planned.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let inner = &gaps[..gaps.len() - 1];
            let (least, most) = (inner.iter().min().unwrap(), inner.iter().max().unwrap());
            assert!(most - least <= 1 && gaps[gaps.len() - 1] <= *most, "{gaps:?}");
        }
    }
}
