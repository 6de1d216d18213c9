//! Rows brought back to the unit sphere.

use crate::launch::{Kernel, Launch, Operands};

/// Rows of a block: a warp each.
const WARPS: usize = 8;

pub(super) fn unit_rows(operands: &Operands<'_>) -> Kernel {
    let shape = &operands.updates[0].shape;
    let columns = shape.last();
    let rows = shape.elements() / columns;
    Kernel::new(0, move |io| {
        vec![
            Launch::new("unit_rows", "unit_rows")
                .grid([rows.div_ceil(WARPS) as u32, 1, 1])
                .block(256)
                .update(io.updates[0])
                .value(rows as u32)
                .value(columns as u32),
        ]
    })
}
