//! Parametric rectifier.

use super::column_sum::chunks;
use crate::launch::{Kernel, Launch, Operands, PartSum, blocks, suffix};

const THREADS: u32 = 256;
/// Columns that a block of a column sum takes.
const COLUMNS: usize = 32;

pub(super) fn forward(operands: &Operands<'_>) -> Kernel {
    let (kind, channels) = (operands.reads[0], operands.reads[1].shape.elements());
    let (elements, dtype) = (kind.shape.elements(), kind.dtype);
    Kernel::new(0, move |io| {
        let launch = Launch::new("prelu", format!("prelu_forward_{}", suffix(dtype)))
            .grid([blocks(elements / 4, THREADS, 1 << 16), 1, 1])
            .block(THREADS)
            .read(io.reads[0])
            .read(io.reads[1])
            .write(io.writes[0])
            .value((elements / channels) as u32)
            .value(channels as u32);
        vec![launch]
    })
}

pub(super) fn backward(operands: &Operands<'_>) -> Kernel {
    let (kind, channels) = (operands.reads[1], operands.reads[2].shape.elements());
    let (rows, dtype) = (kind.shape.elements() / channels, kind.dtype);
    let (length, chunks) = chunks(rows);
    let kernel = Kernel::new(0, move |io| {
        vec![
            Launch::new("prelu", format!("prelu_backward_{}", suffix(dtype)))
                .grid([channels.div_ceil(COLUMNS) as u32, chunks, 1])
                .block(THREADS)
                .read(io.reads[0])
                .read(io.reads[1])
                .read(io.reads[2])
                .write(io.writes[0])
                .write(io.parts[0])
                .value(rows as u32)
                .value(channels as u32)
                .value(length),
        ]
    });
    kernel.with_sums([PartSum { parts: chunks as usize, columns: channels, write: 1 }])
}
