//! Takes the images of one batch from the data set.

use super::{Kernel, Operands};
use crate::op::{GatherBatch, Sample};
use rayon::prelude::*;

/// Words of the workspace that describe one row of the batch.
const WORDS: usize = 4;

pub(super) fn gather_batch(op: GatherBatch, operands: &Operands<'_>) -> Kernel {
    let images = operands.reads[1].shape.elements();
    let [height, width, channels] = op.image;
    Kernel::new(op.batch * WORDS, move |mut io| {
        let bytes: &[u8] = bytemuck::cast_slice(io.reads[0]);
        let labels: &[u8] = bytemuck::cast_slice(io.reads[1]);
        let step = bytemuck::cast_slice::<f32, u32>(io.reads[2])[0];
        let samples: &mut [[u32; WORDS]] = bytemuck::cast_slice_mut(io.workspace);
        let [x, batch_labels, count] = &mut io.writes[..] else { return };
        let batch_labels: &mut [u32] = bytemuck::cast_slice_mut(batch_labels);
        let mut valid_rows = 0;
        for (n, (words, label)) in samples.iter_mut().zip(batch_labels).enumerate() {
            let (Sample { image, shift, mirror }, valid) = op.sample(step, n, images);
            *words = [image, shift[0] as u32, shift[1] as u32, u32::from(mirror)];
            *label = u32::from(labels[image as usize]);
            valid_rows += u32::from(valid);
        }
        bytemuck::cast_slice_mut::<f32, u32>(count)[0] = valid_rows;
        let samples = &*samples;
        x.par_chunks_mut(op.batch * channels).enumerate().for_each(|(pixel, x)| {
            let (h, w) = (pixel / width, pixel % width);
            for (&[image, down, right, mirror], x) in samples.iter().zip(x.chunks_exact_mut(channels)) {
                let sample = Sample { image, shift: [down as i32, right as i32], mirror: mirror == 1 };
                match op.source(sample, h, w) {
                    Some(source) => {
                        let at = (image as usize * height * width + source) * channels;
                        let pixel = &bytes[at..at + channels];
                        x.iter_mut().zip(pixel).for_each(|(x, &b)| *x = (f32::from(b) - op.offset) * op.factor);
                    }
                    None => x.fill(-op.offset * op.factor),
                }
            }
        });
    })
}
