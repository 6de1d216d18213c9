//! A number for each row of a batch.

use crate::launch::{Kernel, Launch, Operands};
use sphereface_tensor::op::{RowModifier, RowModifiers};

const DRAWN_THREADS: u32 = 256;
const LENGTH_THREADS: u32 = 1024;

pub(super) fn row_modifiers(op: RowModifiers, operands: &Operands<'_>) -> Kernel {
    let dimension = operands.reads[0].shape.last();
    let batch = operands.writes[0].shape.elements();
    let launch = |kernel: &str| Launch::new("row_modifiers", format!("row_modifiers_{kernel}"));
    match op.of {
        RowModifier::Drawn => Kernel::new(0, move |io| {
            let blocks = (batch as u32).div_ceil(DRAWN_THREADS);
            let launch = launch("drawn").grid([blocks, 1, 1]).block(DRAWN_THREADS);
            vec![launch.read(io.reads[1]).read(io.reads[2]).write(io.writes[0]).value(batch as u32).value(op.seed)]
        }),
        RowModifier::Length { spread } => Kernel::new(8 * batch as u64, move |io| {
            let launch = launch("length").grid([1, 1, 1]).block(LENGTH_THREADS);
            let launch = launch.read(io.reads[0]).read(io.reads[1]).write(io.writes[0]).write(io.workspace);
            vec![launch.value(batch as u32).value(dimension as u32).value(spread)]
        }),
    }
}
