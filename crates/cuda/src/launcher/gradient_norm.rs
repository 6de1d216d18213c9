//! Norm of all gradients.

use crate::launch::{Kernel, Launch, Operands};

const THREADS: u32 = 256;
/// Values whose squares are summed before the sums are.
const CHUNK: usize = 4096;

pub(super) fn gradient_norm(operands: &Operands<'_>) -> Kernel {
    let length = operands.reads[0].shape.elements();
    let chunks = length.div_ceil(CHUNK) as u32;
    Kernel::new(4 * u64::from(chunks), move |io| {
        vec![
            Launch::new("gradient_norm", "gradient_norm_chunks")
                .grid([chunks, 1, 1])
                .block(THREADS)
                .read(io.reads[0])
                .write(io.workspace)
                .value(length as u32),
            Launch::new("gradient_norm", "gradient_norm")
                .block(THREADS)
                .read(io.workspace)
                .write(io.writes[0])
                .value(chunks),
        ]
    })
}
