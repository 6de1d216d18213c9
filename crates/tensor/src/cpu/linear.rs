//! Fully connected layer: one product a pixel.

use super::conv2d::sum_rows;
use super::product::{Into, Matrix, Panels, Sum, product};
use super::{Kernel, Operands};
use crate::error::Error;
use crate::op::LinearGeometry;
use rayon::prelude::*;

/// Rows of the result that one task computes.
const ROWS: usize = 32;

/// From this batch on there are tasks enough without dividing the sum over the pixels.
const LARGE_BATCH: usize = 128;
/// Parts of that sum for smaller ones.
const PARTS: usize = 8;

pub(super) fn forward(operands: &Operands<'_>) -> Result<Kernel, Error> {
    let g = LinearGeometry::of_activation("linear_forward", &operands.reads[0].shape, &operands.writes[0].shape)?;
    let parts = if g.batch < LARGE_BATCH { g.pixels.min(PARTS) } else { 1 };
    let pixels = g.pixels.div_ceil(parts);
    let size = g.batch * g.outputs;
    Ok(Kernel::new(parts * size, move |mut io| {
        let (x, weight, bias) = (io.reads[0], io.reads[1], io.reads[2]);
        let out = &mut *io.writes[0];
        // A sum over some of the pixels for some rows is one task.
        let multiply = |part: usize, first: usize, partial: &mut [f32]| {
            let rows = partial.len() / g.outputs;
            let mut sum = Sum::new(partial, g.outputs, Into::Overwrite);
            for pixel in part * pixels..((part + 1) * pixels).min(g.pixels) {
                let x = Matrix::new(&x[(pixel * g.batch + first) * g.inputs..], rows, g.inputs);
                let weight = Matrix::new(&weight[pixel * g.inputs * g.outputs..], g.inputs, g.outputs);
                if Panels::fit(g.outputs) {
                    sum.add(x, Panels::in_place(weight));
                } else {
                    sum.add_product(x, weight);
                }
            }
            sum.flush();
        };
        io.workspace.par_chunks_mut(size).enumerate().for_each(|(part, partial)| {
            let blocks = partial.par_chunks_mut(ROWS * g.outputs).enumerate();
            blocks.for_each(|(block, partial)| multiply(part, block * ROWS, partial));
        });
        out.chunks_exact_mut(g.outputs).for_each(|row| row.copy_from_slice(bias));
        for part in io.workspace.chunks_exact(size) {
            out.iter_mut().zip(part).for_each(|(out, part)| *out += part);
        }
    }))
}

pub(super) fn backward_data(operands: &Operands<'_>) -> Result<Kernel, Error> {
    let g = LinearGeometry::of_weight("linear_backward_data", &operands.reads[0].shape, &operands.reads[1].shape)?;
    let few = g.batch < LARGE_BATCH;
    // For few images the transposed product, so that the weights are read as they lie.
    let [right, transposed] =
        if few { [Panels::packed_length(g.outputs, g.batch), g.pixels * g.inputs * g.batch] } else { [0; 2] };
    Ok(Kernel::new(right + transposed, move |mut io| {
        let (d_out, weight) = (Matrix::new(io.reads[0], g.batch, g.outputs), io.reads[1]);
        let weight = |pixel: usize| Matrix::new(&weight[pixel * g.inputs * g.outputs..], g.inputs, g.outputs);
        let d_x = io.writes[0].par_chunks_mut(g.batch * g.inputs);
        if !few {
            d_x.enumerate().for_each(|(pixel, d_x)| {
                product(d_x, g.inputs, Into::Overwrite, d_out, weight(pixel).transposed());
            });
            return;
        }
        let (right, transposed) = io.workspace.split_at_mut(right);
        Panels::pack(d_out.transposed(), right);
        let right = Panels::packed(right, g.outputs, g.batch);
        d_x.zip(transposed.par_chunks_mut(g.inputs * g.batch)).enumerate().for_each(|(pixel, (d_x, transposed))| {
            let mut sum = Sum::new(transposed, g.batch, Into::Overwrite);
            sum.add(weight(pixel), right);
            sum.flush();
            for (n, d_x) in d_x.chunks_exact_mut(g.inputs).enumerate() {
                d_x.iter_mut().zip(transposed.iter().skip(n).step_by(g.batch)).for_each(|(d_x, value)| *d_x = *value);
            }
        });
    }))
}

pub(super) fn backward_weight(operands: &Operands<'_>) -> Result<Kernel, Error> {
    let (x, d_out) = (&operands.reads[0].shape, &operands.reads[1].shape);
    let g = LinearGeometry::of_activation("linear_backward_weight", x, d_out)?;
    let workspace = g.batch.div_ceil(ROWS) * g.outputs;
    Ok(Kernel::new(workspace, move |mut io| {
        let (x, d_out) = (io.reads[0], io.reads[1]);
        io.writes[0].par_chunks_mut(g.inputs * g.outputs).enumerate().for_each(|(pixel, d_weight)| {
            let x = Matrix::new(&x[pixel * g.batch * g.inputs..], g.batch, g.inputs);
            product(d_weight, g.outputs, Into::Overwrite, x.transposed(), Matrix::new(d_out, g.batch, g.outputs));
        });
        sum_rows(d_out, ROWS, g.outputs, io.workspace, io.writes[1]);
    }))
}
