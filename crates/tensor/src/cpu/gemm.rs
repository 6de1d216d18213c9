//! Product of two matrices: blocks of rows in parallel.

use super::product::{Into, Matrix, product};
use super::{Kernel, Operands};
use crate::error::Error;
use crate::op::{Gemm, GemmGeometry, Layout};
use rayon::prelude::*;

/// Rows of the result that one task computes.
const ROWS: usize = 64;

pub(super) fn gemm(op: Gemm, operands: &Operands<'_>) -> Result<Kernel, Error> {
    let GemmGeometry { rows, columns, length } = op.geometry(&operands.reads[0].shape, &operands.reads[1].shape)?;
    Ok(Kernel::new(0, move |mut io| {
        let left = match op.layout {
            Layout::NN | Layout::NT => Matrix::new(io.reads[0], rows, length),
            Layout::TN => Matrix::new(io.reads[0], length, rows).transposed(),
        };
        let right = match op.layout {
            Layout::NN | Layout::TN => Matrix::new(io.reads[1], length, columns),
            Layout::NT => Matrix::new(io.reads[1], columns, length).transposed(),
        };
        io.writes[0].par_chunks_mut(ROWS * columns).enumerate().for_each(|(index, out)| {
            let first = index * ROWS;
            product(out, columns, Into::Overwrite, left.rows(first..first + out.len() / columns), right);
        });
    }))
}
