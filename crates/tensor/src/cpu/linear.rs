//! Fully connected layer: one product a pixel.

use super::conv2d::sum_rows;
use super::product::{Into, Matrix, product};
use super::{Kernel, Operands};
use crate::error::Error;
use crate::op::LinearGeometry;
use rayon::prelude::*;

/// Rows of the result that one task computes.
const ROWS: usize = 32;

pub(super) fn forward(operands: &Operands<'_>) -> Result<Kernel, Error> {
    let g = LinearGeometry::of_activation("linear_forward", &operands.reads[0].shape, &operands.writes[0].shape)?;
    Ok(Kernel::new(0, move |mut io| {
        let (x, weight, bias) = (io.reads[0], io.reads[1], io.reads[2]);
        io.writes[0].par_chunks_mut(ROWS * g.outputs).enumerate().for_each(|(index, out)| {
            let rows = out.len() / g.outputs;
            out.chunks_exact_mut(g.outputs).for_each(|row| row.copy_from_slice(bias));
            for pixel in 0..g.pixels {
                let x = Matrix::new(&x[(pixel * g.batch + index * ROWS) * g.inputs..], rows, g.inputs);
                let weight = Matrix::new(&weight[pixel * g.inputs * g.outputs..], g.inputs, g.outputs);
                product(out, g.outputs, Into::Add, x, weight);
            }
        });
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
