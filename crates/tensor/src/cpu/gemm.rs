//! Product of two matrices: blocks of rows in parallel, with one copy of the right operand in panels.

use super::prelu::rectify_in_place;
use super::product::{Into, Matrix, Panels, WIDTH, sum_of_products};
use super::{Kernel, Operands};
use crate::error::Error;
use crate::op::{Gemm, GemmGeometry, Layout};
use rayon::prelude::*;

/// Rows of the result that one task computes.
const ROWS: usize = 64;
/// Products that are summed before they are added to the result.
const DEPTH: usize = 256;

pub(super) fn gemm(op: Gemm, operands: &Operands<'_>) -> Result<Kernel, Error> {
    let GemmGeometry { rows, columns, length } = op.geometry(&operands.reads[0].shape, &operands.reads[1].shape)?;
    Ok(Kernel::new(Panels::packed_length(length, columns), move |mut io| {
        let left = match op.layout {
            Layout::NN | Layout::NT => Matrix::new(io.reads[0], rows, length),
            Layout::TN => Matrix::new(io.reads[0], length, rows).transposed(),
        };
        let right = match op.layout {
            Layout::NN | Layout::TN => Matrix::new(io.reads[1], length, columns),
            Layout::NT => Matrix::new(io.reads[1], columns, length).transposed(),
        };
        io.workspace.par_chunks_mut((length * WIDTH).max(1)).enumerate().for_each(|(panel, out)| {
            let first = panel * WIDTH;
            Panels::pack(right.block(0, length, first, WIDTH.min(columns - first)), out);
        });
        let panels = Panels::packed(io.workspace, length, columns);
        let mut rest = io.reads[2..].iter().copied();
        let bias = if op.bias { rest.next() } else { None };
        let slope = if op.slope { rest.next() } else { None };
        let residual = if op.residual { rest.next() } else { None };
        io.writes[0].par_chunks_mut(ROWS * columns).enumerate().for_each(|(index, out)| {
            let first = index * ROWS;
            let into = match bias {
                Some(bias) => {
                    out.chunks_exact_mut(columns).for_each(|row| row.copy_from_slice(bias));
                    Into::Add
                }
                None => Into::Overwrite,
            };
            let left = left.rows(first..first + out.len() / columns);
            let mut copy = [0.0; (ROWS + WIDTH) * (DEPTH + WIDTH)];
            for depth in (0..length).step_by(DEPTH) {
                let depth = depth..(depth + DEPTH).min(length);
                let into = if depth.start == 0 { into } else { Into::Add };
                let left = left.columns(depth.clone()).copied(&mut copy);
                sum_of_products(out, columns, into, &[(left, panels.rows(depth))]);
            }
            let residual = residual.map(|residual| &residual[first * columns..][..out.len()]);
            match (slope, residual) {
                (Some(slope), residual) => rectify_in_place(out, slope, residual),
                (None, Some(residual)) => out.iter_mut().zip(residual).for_each(|(out, added)| *out += added),
                (None, None) => {}
            }
        });
    }))
}
