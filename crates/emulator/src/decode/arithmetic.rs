//! The four operations and their kin: which type goes to which file.

use super::{Decoder, Modifiers, float, half, integer};
use crate::LoadError;
use crate::instruction::{Class, Op};
use crate::ptx::{Operand, Type};

/// Decodes an instruction that exists for whole numbers and for floating point.
pub(super) fn decode(
    decoder: &mut Decoder<'_>,
    m: &mut Modifiers<'_>,
    operands: &[Operand],
) -> Result<(Op, Class), LoadError> {
    let kind = m.kind()?;
    Ok(match kind {
        Type::F32 | Type::F64 => (float::decode(decoder, m, kind, operands)?, Class::Float),
        Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2 => {
            (half::decode(decoder, m, kind, operands)?, Class::Float)
        }
        Type::U16 | Type::S16 | Type::U32 | Type::S32 | Type::U64 | Type::S64 => {
            (integer::decode(decoder, m, kind, operands)?, Class::Integer)
        }
        _ => return Err(m.unknown()),
    })
}
