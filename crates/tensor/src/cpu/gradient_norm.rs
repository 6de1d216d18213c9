//! Norm of all gradients.

use super::{Kernel, Operands};
use rayon::prelude::*;

/// Values whose squares are summed before the sums are.
const CHUNK: usize = 4096;

pub(super) fn gradient_norm(operands: &Operands<'_>) -> Kernel {
    let workspace = operands.reads[0].shape.elements().div_ceil(CHUNK);
    Kernel::new(workspace, |mut io| {
        io.workspace.par_iter_mut().zip(io.reads[0].par_chunks(CHUNK)).for_each(|(sum, gradients)| {
            // Sixteen sums side by side, so that they are vectors.
            let (blocks, rest) = gradients.as_chunks::<16>();
            let mut lanes = [0.0; 16];
            for block in blocks {
                lanes.iter_mut().zip(block).for_each(|(lane, g)| *lane += g * g);
            }
            *sum = lanes.iter().sum::<f32>() + rest.iter().map(|g| g * g).sum::<f32>();
        });
        let total: f64 = io.workspace.iter().map(|&sum| f64::from(sum)).sum();
        io.writes[0][0] = total.sqrt() as f32;
    })
}
