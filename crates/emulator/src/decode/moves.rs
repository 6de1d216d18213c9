//! `mov`, `cvta` and `isspacep`: values, pairs, addresses and special registers.

use super::{Decoder, Modifiers};
use crate::LoadError;
use crate::instruction::{Logic, Op};
use crate::lanes::{Map2, map};
use crate::ptx::{Operand, Space, Type, unknown};

/// Decodes moves.
pub(super) fn decode(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Op, LoadError> {
    match m.head() {
        "mov" => plain(decoder, m, operands),
        "cvta" => convert_address(decoder, m, operands),
        _ => {
            let space = m.take_as(Space::named).ok_or_else(|| m.unknown())?;
            let [d, a] = decoder.exactly(operands)?;
            let a = decoder.long(a)?;
            Ok(Op::IsSpace { space, d: decoder.written_predicate(d)?, a })
        }
    }
}

fn plain(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Op, LoadError> {
    let kind = m.kind()?;
    let [d, a] = decoder.exactly(operands)?;
    if let Operand::Special(name) = a {
        match (name.as_str(), kind.bits()) {
            ("%clock" | "%globaltimer_lo", 32) => return Ok(Op::Clock { d: decoder.written_short(d)? }),
            ("%clock64" | "%globaltimer", 64) => return Ok(Op::ClockLong { d: decoder.written_long(d)? }),
            _ => {}
        }
    }
    match (kind, d, a) {
        (Type::Pred, d, a) => {
            let a = decoder.predicate(a)?;
            Ok(Op::PredicateLogic { logic: Logic::And, d: decoder.written_predicate(d)?, a, b: a })
        }
        (Type::B64, d, Operand::Vector(parts)) => match parts.as_slice() {
            [low, high] => {
                let (low, high) = (decoder.short(low, Type::B32)?, decoder.short(high, Type::B32)?);
                Ok(Op::Pack { d: decoder.written_long(d)?, low, high })
            }
            _ => Err(unknown(decoder.line, "`mov.b64` of four parts")),
        },
        (Type::B64, Operand::Vector(parts), a) => match parts.as_slice() {
            [low, high] => {
                let a = decoder.long(a)?;
                Ok(Op::Unpack { low: decoder.written_short(low)?, high: decoder.written_short(high)?, a })
            }
            _ => Err(unknown(decoder.line, "`mov.b64` to four parts")),
        },
        (Type::B32, d, Operand::Vector(parts)) => match parts.as_slice() {
            [low, high] => {
                let (low, high) = (decoder.short(low, Type::B16)?, decoder.short(high, Type::B16)?);
                Ok(Op::PackHalves { d: decoder.written_short(d)?, low, high })
            }
            _ => Err(unknown(decoder.line, "`mov.b32` of four parts")),
        },
        (Type::B32, Operand::Vector(parts), a) => match parts.as_slice() {
            [low, high] => {
                let a = decoder.short(a, Type::B32)?;
                Ok(Op::UnpackHalves { low: decoder.written_short(low)?, high: decoder.written_short(high)?, a })
            }
            _ => Err(unknown(decoder.line, "`mov.b32` to four parts")),
        },
        _ => match kind.bits() {
            64 => Ok(Op::MoveLong { a: decoder.long(a)?, d: decoder.written_long(d)? }),
            16 | 32 => Ok(Op::Move { a: decoder.short(a, kind)?, d: decoder.written_short(d)? }),
            _ => Err(m.unknown()),
        },
    }
}

/// Generic addresses of shared and local memory lie in windows of their own; global ones are as they are.
fn convert_address(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Op, LoadError> {
    let to = m.take("to");
    let space = m.take_as(Space::named).ok_or_else(|| m.unknown())?;
    if m.kind()? != Type::U64 {
        return Err(m.unknown());
    }
    let window = Decoder::window(space).ok_or_else(|| m.unknown())?;
    let [d, a] = decoder.exactly(operands)?;
    let (a, b) = (decoder.long(a)?, decoder.long(&Operand::Integer(window))?);
    let f: Map2<u64, u64, u64> =
        if to { map!(|a: u64, b: u64| a.wrapping_sub(b)) } else { map!(|a: u64, b: u64| a.wrapping_add(b)) };
    Ok(Op::Long2 { f, d: decoder.written_long(d)?, a, b })
}
