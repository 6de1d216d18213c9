//! Sum of two activations.

use crate::launch::{Kernel, Launch, Operands, blocks, suffix};

const THREADS: u32 = 256;

pub(super) fn add(operands: &Operands<'_>) -> Kernel {
    let (elements, dtype) = (operands.writes[0].shape.elements(), operands.writes[0].dtype);
    Kernel::new(0, move |io| {
        let launch = Launch::new("add", format!("add_{}", suffix(dtype)))
            .grid([blocks(elements / 4, THREADS, 1 << 16), 1, 1])
            .block(THREADS)
            .read(io.reads[0])
            .read(io.reads[1])
            .write(io.writes[0])
            .value(elements as u32);
        vec![launch]
    })
}
