//! Takes the images of one batch from the data set, normalises and augments them.

use super::{Array, Flops, Operator, operands};
use crate::builder::Tape;
use crate::error::Error;
use crate::plan::Step;
use crate::random::{Stream, permute, philox};
use crate::shape::{DType, Dim, Shape, Type};

/// Random changes of an image; each is a pure function of seed, step and place in the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Augmentation {
    /// Images move by `-shift..=shift` pixels in each direction; what enters is background (byte 0).
    pub shift: u32,
    /// Whether images are mirrored left to right, every other one.
    pub mirror: bool,
}

/// Gathers rows `counter · N ..` of the data set in the order of the epoch.
///
/// Shuffled batches run on over the end of an epoch, so they are always full; unshuffled ones stop at the end of the
/// data, and `count` says how many rows are valid (the others repeat the last image).
///
/// # Shapes
/// Reads `images` `u8 [images, H·W·C]` (each `[H, W, C]`), `labels` `u8 [images]`, `counter` `u32 [1]`; writes `x`
/// `[H, W, N, C]` as `(byte − offset) · factor`, `labels` `u32 [N]`, `count` `u32 [1]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GatherBatch {
    /// Height, width and channels of an image.
    pub image: [usize; 3],
    /// Images in a batch, `N`.
    pub batch: usize,
    /// Seed of order and augmentation.
    pub seed: u64,
    /// Whether each epoch has a random order.
    pub shuffle: bool,
    /// Random changes of the images.
    pub augmentation: Augmentation,
    /// Subtracted from each byte.
    pub offset: f32,
    /// Multiplied with the difference.
    pub factor: f32,
}

/// Where one row of a batch comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Image of the data set.
    pub image: u32,
    /// Pixels by which the image moves down and right.
    pub shift: [i32; 2],
    /// Whether it is mirrored.
    pub mirror: bool,
}

impl GatherBatch {
    /// Row `n` of batch `step`, and whether it is valid, for a data set of `images`.
    pub fn sample(&self, step: u32, n: usize, images: usize) -> (Sample, bool) {
        let position = u64::from(step) * self.batch as u64 + n as u64;
        let images = images as u64;
        let (image, valid) = if self.shuffle {
            let epoch = (position / images) as u32;
            (permute(self.seed, epoch, (position % images) as u32, images as u32), true)
        } else {
            (position.min(images - 1) as u32, position < images)
        };
        let Augmentation { shift, mirror } = self.augmentation;
        if shift == 0 && !mirror {
            return (Sample { image, ..Sample::default() }, valid);
        }
        let random = philox(self.seed, [step, n as u32, 0, Stream::Augmentation as u32]);
        let moved = |bits: u32| (bits % (2 * shift + 1)) as i32 - shift as i32;
        let sample =
            Sample { image, shift: [moved(random[0]), moved(random[1])], mirror: mirror && random[2] & 1 == 1 };
        (sample, valid)
    }

    /// Input pixel of the row's image at output pixel `(h, w)`, unless it is background.
    pub fn source(&self, sample: Sample, h: usize, w: usize) -> Option<usize> {
        let [height, width, _] = self.image;
        let inside = |at: usize, shift: i32, size: usize| {
            (at as i64 - i64::from(shift)).try_into().ok().filter(|&at: &usize| at < size)
        };
        let row = inside(h, sample.shift[0], height)?;
        let column = inside(w, sample.shift[1], width)?;
        Some(row * width + if sample.mirror { width - 1 - column } else { column })
    }
}

impl Operator for GatherBatch {
    fn name(&self) -> &'static str {
        "gather_batch"
    }

    fn outputs(&self, reads: &[&Type], _updates: &[&Type]) -> Result<Vec<Type>, Error> {
        let op = self.name();
        let [images, labels, counter] = operands(op, reads)?;
        images.expect_dtype(op, "images", DType::U8)?;
        labels.expect_dtype(op, "labels", DType::U8)?;
        counter.expect_dtype(op, "counter", DType::U32)?;
        let [count, bytes] = images.shape.expect(op, "images", [Dim::Images, Dim::Length])?;
        let [height, width, channels] = self.image;
        if bytes != height * width * channels || self.batch == 0 {
            let expected = format!("[images, length {height}·{width}·{channels}] and a batch above 0");
            return Err(Error::Shape { op, operand: "images", expected, found: Box::new(images.shape.clone()) });
        }
        labels.shape.expect_equal(op, "labels", &Shape::vector(Dim::Images, count))?;
        counter.shape.expect_equal(op, "counter", &Shape::vector(Dim::Length, 1))?;
        Ok(vec![
            Type::f32(Shape::activation(height, width, self.batch, channels)),
            Type::u32(Shape::vector(Dim::N, self.batch)),
            Type::u32(Shape::vector(Dim::Length, 1)),
        ])
    }

    fn flops(&self, _reads: &[&Type], writes: &[&Type]) -> Flops {
        Flops::exactly(2 * writes[0].shape.elements())
    }

    fn reference(&self, reads: &[&Array], _updates: &mut [Array]) -> Vec<Array> {
        let [images, bytes] = reads[0].sizes();
        let [height, width, channels] = self.image;
        let mut x = Array::zeros(Shape::activation(height, width, self.batch, channels));
        let mut labels = Array::zeros(Shape::vector(Dim::N, self.batch));
        let mut count = Array::zeros(Shape::vector(Dim::Length, 1));
        for n in 0..self.batch {
            let (sample, valid) = self.sample(reads[2].values[0] as u32, n, images);
            labels.values[n] = reads[1].values[sample.image as usize];
            count.values[0] += f64::from(valid);
            for (h, w) in (0..height).flat_map(|h| (0..width).map(move |w| (h, w))) {
                for c in 0..channels {
                    let byte = self
                        .source(sample, h, w)
                        .map_or(0.0, |pixel| reads[0].values[sample.image as usize * bytes + pixel * channels + c]);
                    x.values[((h * width + w) * self.batch + n) * channels + c] =
                        (byte - f64::from(self.offset)) * f64::from(self.factor);
                }
            }
        }
        vec![x, labels, count]
    }

    fn adjoint(&self, _step: &Step, _tape: &mut Tape<'_, '_>) -> Result<(), Error> {
        Ok(()) // Images are data: no gradient flows into them.
    }
}
