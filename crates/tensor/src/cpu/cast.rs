//! Conversion between f32 and bf16.

use super::bf16::{narrow_into, widen};
use super::{Kernel, Operands};
use crate::op::Cast;
use crate::shape::DType;

pub(super) fn cast(op: Cast, operands: &Operands<'_>) -> Kernel {
    let elements = operands.reads[0].shape.elements();
    Kernel::new(0, move |mut io| {
        let (input, out) = (io.reads[0], &mut *io.writes[0]);
        match op.to {
            DType::Bf16 => narrow_into(&input[..elements], out),
            _ => widen(input, &mut out[..elements]),
        }
    })
}
