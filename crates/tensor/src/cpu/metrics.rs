//! One row of the log.

use super::{Kernel, Operands};
use crate::op::{Hit, METRICS};

pub(super) fn metrics(operands: &Operands<'_>) -> Kernel {
    let rows = operands.updates[0].shape.elements() / METRICS.len();
    Kernel::new(0, move |mut io| {
        let valid = bytemuck::cast_slice::<f32, u32>(io.reads[3])[0] as usize;
        let counter = bytemuck::cast_slice::<f32, u32>(io.reads[4])[0] as usize;
        let hits = &bytemuck::cast_slice::<f32, u32>(io.reads[1])[..valid];
        let count = |hit: Hit| hits.iter().filter(|&&bits| bits & hit as u32 != 0).count() as f32;
        let sum = |values: &[f32]| values[..valid].iter().map(|&value| f64::from(value)).sum::<f64>() as f32;
        let row = [
            valid as f32,
            sum(io.reads[0]),
            count(Hit::Logits),
            count(Hit::Cosines),
            count(Hit::Penalised),
            sum(io.reads[2]),
            io.reads.get(5).map_or(0.0, |norm| norm[0]),
        ];
        io.updates[0][counter % rows * row.len()..][..row.len()].copy_from_slice(&row);
    })
}
