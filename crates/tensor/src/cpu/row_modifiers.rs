//! A number for each row of a batch.

use super::dot::dot;
use super::{Kernel, Operands};
use crate::op::{RowModifier, RowModifiers, standings};
use rayon::prelude::*;

pub(super) fn row_modifiers(op: RowModifiers, operands: &Operands<'_>) -> Kernel {
    let dimension = operands.reads[0].shape.last();
    let batch = operands.writes[0].shape.elements();
    // Lengths are f64.
    Kernel::new(2 * batch, move |mut io| {
        let [valid, step] = [1, 2].map(|read| bytemuck::cast_slice::<f32, u32>(io.reads[read])[0]);
        let valid = (valid as usize).min(batch);
        let (modifiers, past) = io.writes[0].split_at_mut(valid);
        past.fill(0.0);
        match op.of {
            RowModifier::Drawn => {
                let draw = |(n, modifier): (usize, &mut f32)| *modifier = op.drawn(step, n) as f32;
                modifiers.iter_mut().enumerate().for_each(draw);
            }
            RowModifier::Length { spread } => {
                let lengths: &mut [f64] = &mut bytemuck::cast_slice_mut(io.workspace)[..valid];
                let rows = lengths.par_iter_mut().zip(io.reads[0].par_chunks(dimension));
                rows.for_each(|(length, x)| *length = dot(x, x).sqrt());
                standings(lengths, spread);
                modifiers.iter_mut().zip(lengths).for_each(|(modifier, standing)| *modifier = *standing as f32);
            }
        }
    })
}
