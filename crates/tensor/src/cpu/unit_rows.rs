//! Rows brought back to the unit sphere.

use super::dot::dot;
use super::{Kernel, Operands};
use crate::op::margin_softmax::NORM_FLOOR;
use rayon::prelude::*;

pub(super) fn unit_rows(operands: &Operands<'_>) -> Kernel {
    let columns = operands.updates[0].shape.last();
    Kernel::new(0, move |mut io| {
        io.updates[0].par_chunks_mut(columns).for_each(|row| {
            let norm = dot(row, row).sqrt().max(f64::from(NORM_FLOOR));
            row.iter_mut().for_each(|w| *w = (f64::from(*w) / norm) as f32);
        });
    })
}
