//! Parametric rectifier.

use super::{Kernel, Operands};
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

/// Channels that are handled together: whole vectors on every instruction set.
const LANES: usize = 16;

/// `out = prelu(x) (+ residual)` for rows of `slope.len()` channels.
pub(super) fn rectify(x: &[f32], slope: &[f32], residual: Option<&[f32]>, out: &mut [f32]) {
    out.copy_from_slice(x);
    rectify_in_place(out, slope, residual);
}

/// `x = prelu(x) (+ residual)` for rows of `slope.len()` channels.
pub(super) fn rectify_in_place(x: &mut [f32], slope: &[f32], residual: Option<&[f32]>) {
    Arch::new().dispatch(Rectify { x, slope, residual });
}

/// The work of [`rectify_in_place`]. A type, not a closure, since only `call` can be inlined by force into the code
/// that is compiled for each instruction set.
struct Rectify<'a> {
    x: &'a mut [f32],
    slope: &'a [f32],
    residual: Option<&'a [f32]>,
}

impl NullaryFnOnce for Rectify<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let channels = self.slope.len();
        let (slopes, rest_slopes) = self.slope.as_chunks::<LANES>();
        for (index, row) in self.x.chunks_exact_mut(channels).enumerate() {
            let (blocks, rest) = row.as_chunks_mut::<LANES>();
            for (x, slope) in blocks.iter_mut().zip(slopes) {
                x.iter_mut().zip(slope).for_each(|(x, slope)| *x *= if *x > 0.0 { 1.0 } else { *slope });
            }
            rest.iter_mut().zip(rest_slopes).for_each(|(x, slope)| *x *= if *x > 0.0 { 1.0 } else { *slope });
            let Some(residual) = self.residual else { continue };
            let (added, rest_added) = residual[index * channels..][..channels].as_chunks::<LANES>();
            for (x, added) in blocks.iter_mut().zip(added) {
                x.iter_mut().zip(added).for_each(|(x, added)| *x += added);
            }
            rest.iter_mut().zip(rest_added).for_each(|(x, added)| *x += added);
        }
    }
}

pub(super) fn forward(operands: &Operands<'_>) -> Kernel {
    let chunk = pixel(operands);
    Kernel::new(0, move |mut io| {
        let (x, slope) = (io.reads[0], io.reads[1]);
        io.writes[0].par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(out, x)| rectify(x, slope, None, out));
    })
}

/// Values of one pixel, `N · C`.
fn pixel(operands: &Operands<'_>) -> usize {
    let mut sizes = operands.reads[0].shape.sizes().skip(2);
    sizes.next().unwrap_or(1) * sizes.next().unwrap_or(1)
}

pub(super) fn backward(operands: &Operands<'_>) -> Kernel {
    let chunk = pixel(operands);
    let channels = operands.reads[2].shape.elements();
    let pixels = operands.reads[0].shape.elements() / chunk;
    Kernel::new(pixels * channels, move |mut io| {
        let (d_out, x, slope) = (io.reads[0], io.reads[1], io.reads[2]);
        // The gradient of the slopes is summed over the images of a pixel first, then over the pixels.
        let operands = d_out.par_chunks(chunk).zip(x.par_chunks(chunk));
        let results = io.writes[0].par_chunks_mut(chunk).zip(io.workspace.par_chunks_mut(channels));
        operands.zip(results).for_each(|((d_out, x), (d, d_slope))| {
            d.copy_from_slice(d_out);
            backward_pixel(d, x, slope, d_slope);
        });
        sum_pixels(io.workspace, io.writes[1]);
    })
}

/// Turns the gradient `d` of a pixel's results into that of its inputs `x`; that of the slopes goes to `d_slope`.
pub(super) fn backward_pixel(d: &mut [f32], x: &[f32], slope: &[f32], d_slope: &mut [f32]) {
    Arch::new().dispatch(BackwardPixel { d, x, slope, d_slope });
}

/// Sums the gradients of the slopes over the pixels, in order.
pub(super) fn sum_pixels(pixels: &[f32], d_slope: &mut [f32]) {
    d_slope.fill(0.0);
    for sum in pixels.chunks_exact(d_slope.len()) {
        d_slope.iter_mut().zip(sum).for_each(|(total, sum)| *total += sum);
    }
}

/// Gradients of one pixel, whose images are summed into `d_slope`.
struct BackwardPixel<'a> {
    d: &'a mut [f32],
    x: &'a [f32],
    slope: &'a [f32],
    d_slope: &'a mut [f32],
}

impl NullaryFnOnce for BackwardPixel<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let BackwardPixel { d, x, slope, d_slope } = self;
        let channels = slope.len();
        let (slopes, rest) = slope.as_chunks::<LANES>();
        for (block, slope) in slopes.iter().enumerate() {
            let mut sums = [0.0; LANES];
            for (d, x) in d.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                // Arrays, whose length the compiler knows, become whole vectors.
                let (d, x) = (&mut d.as_chunks_mut::<LANES>().0[block], &x.as_chunks::<LANES>().0[block]);
                for c in 0..LANES {
                    sums[c] += if x[c] <= 0.0 { d[c] * x[c] } else { 0.0 };
                    d[c] *= if x[c] <= 0.0 { slope[c] } else { 1.0 };
                }
            }
            d_slope[block * LANES..][..LANES].copy_from_slice(&sums);
        }
        for (c, &slope) in (channels - rest.len()..channels).zip(rest) {
            d_slope[c] = 0.0;
            for at in (c..d.len()).step_by(channels) {
                let negative = x[at] <= 0.0;
                d_slope[c] += if negative { d[at] * x[at] } else { 0.0 };
                d[at] *= if negative { slope } else { 1.0 };
            }
        }
    }
}
