//! Parametric rectifier.

use super::{Kernel, Operands};
use pulp::Arch;
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
    let channels = slope.len();
    Arch::new().dispatch(|| {
        for (index, row) in x.chunks_exact_mut(channels).enumerate() {
            // Blocks of a fixed length become whole vectors.
            let (blocks, rest) = row.as_chunks_mut::<LANES>();
            let (slopes, rest_slopes) = slope.as_chunks::<LANES>();
            for (x, slope) in blocks.iter_mut().zip(slopes) {
                x.iter_mut().zip(slope).for_each(|(x, slope)| *x *= if *x > 0.0 { 1.0 } else { *slope });
            }
            rest.iter_mut().zip(rest_slopes).for_each(|(x, slope)| *x *= if *x > 0.0 { 1.0 } else { *slope });
            if let Some(residual) = residual {
                let (added, rest_added) = residual[index * channels..][..channels].as_chunks::<LANES>();
                let (blocks, rest) = row.as_chunks_mut::<LANES>();
                for (x, added) in blocks.iter_mut().zip(added) {
                    x.iter_mut().zip(added).for_each(|(x, added)| *x += added);
                }
                rest.iter_mut().zip(rest_added).for_each(|(x, added)| *x += added);
            }
        }
    });
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
        operands.zip(results).for_each(|((d_out, x), (d_x, d_slope))| {
            Arch::new().dispatch(|| backward_pixel(d_out, x, slope, d_x, d_slope));
        });
        io.writes[1].fill(0.0);
        for sum in io.workspace.chunks_exact(channels) {
            io.writes[1].iter_mut().zip(sum).for_each(|(total, sum)| *total += sum);
        }
    })
}

#[inline(always)] // into the closure that is compiled for each instruction set
fn backward_pixel(d_out: &[f32], x: &[f32], slope: &[f32], d_x: &mut [f32], d_slope: &mut [f32]) {
    let channels = slope.len();
    let (blocks, rest) = slope.as_chunks::<LANES>();
    for (block, slope) in blocks.iter().enumerate() {
        let mut sums = [0.0; LANES];
        let columns = block * LANES..(block + 1) * LANES;
        let rows = d_out.chunks_exact(channels).zip(x.chunks_exact(channels)).zip(d_x.chunks_exact_mut(channels));
        for ((d_out, x), d_x) in rows {
            let (d_out, x, d_x) = (&d_out[columns.clone()], &x[columns.clone()], &mut d_x[columns.clone()]);
            for c in 0..LANES {
                let negative = x[c] <= 0.0;
                sums[c] += if negative { d_out[c] * x[c] } else { 0.0 };
                d_x[c] = d_out[c] * if negative { slope[c] } else { 1.0 };
            }
        }
        d_slope[columns].copy_from_slice(&sums);
    }
    for (c, &slope) in (channels - rest.len()..channels).zip(rest) {
        d_slope[c] = 0.0;
        for at in (c..d_out.len()).step_by(channels) {
            let negative = x[at] <= 0.0;
            d_slope[c] += if negative { d_out[at] * x[at] } else { 0.0 };
            d_x[at] = d_out[at] * if negative { slope } else { 1.0 };
        }
    }
}
