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
    Ok(Kernel::new(0, move |mut io| {
        let (d_out, weight) = (Matrix::new(io.reads[0], g.batch, g.outputs), io.reads[1]);
        io.writes[0].par_chunks_mut(g.batch * g.inputs).enumerate().for_each(|(pixel, d_x)| {
            let weight = Matrix::new(&weight[pixel * g.inputs * g.outputs..], g.inputs, g.outputs);
            product(d_x, g.inputs, Into::Overwrite, d_out, weight.transposed());
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
