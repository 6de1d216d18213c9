//! Conversion between f32 and bf16.

use crate::launch::{Kernel, Launch, Operands, blocks, suffix};

const THREADS: u32 = 256;
/// Elements a thread takes at a time.
const GROUP: usize = 8;

pub(super) fn cast(operands: &Operands<'_>) -> Kernel {
    let (elements, dtype) = (operands.writes[0].shape.elements(), operands.writes[0].dtype);
    Kernel::new(0, move |io| {
        let launch = Launch::new("cast", format!("cast_{}", suffix(dtype)))
            .grid([blocks(elements.div_ceil(GROUP), THREADS, 1 << 16), 1, 1])
            .block(THREADS)
            .read(io.reads[0])
            .write(io.writes[0])
            .value(elements as u32);
        vec![launch]
    })
}
