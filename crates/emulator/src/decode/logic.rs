//! Logic, comparisons and selections.

use super::{Decoder, Modifiers};
use crate::LoadError;
use crate::instruction::{Logic, Op};
use crate::lanes::{Map1, Map2, Test2, map, test};
use crate::number::{bf16_to_f32, f16_to_f32, flush};
use crate::ptx::{Operand, Type};

/// `and`, `or`, `xor`, `not`, `lop3`, `setp`, `selp`.
pub(super) fn decode(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Op, LoadError> {
    match m.head() {
        "setp" => compare(decoder, m, operands),
        "selp" => select(decoder, m, operands),
        "lop3" => {
            if m.kind()? != Type::B32 {
                return Err(m.unknown());
            }
            let [d, a, b, c, table] = decoder.exactly(operands)?;
            let table = decoder.immediate(table)? as u8;
            let (a, b, c) = (decoder.short(a, Type::B32)?, decoder.short(b, Type::B32)?, decoder.short(c, Type::B32)?);
            Ok(Op::Logic3 { table, d: decoder.written_short(d)?, a, b, c })
        }
        "not" => not(decoder, m, operands),
        head => {
            let kind = m.kind()?;
            let [d, a, b] = decoder.exactly(operands)?;
            match kind {
                Type::Pred => {
                    let logic = logic(head).ok_or_else(|| m.unknown())?;
                    let (a, b) = (decoder.predicate(a)?, decoder.predicate(b)?);
                    Ok(Op::PredicateLogic { logic, d: decoder.written_predicate(d)?, a, b })
                }
                Type::B64 => {
                    let f: Map2<u64, u64, u64> = match head {
                        "and" => map!(|a: u64, b: u64| a & b),
                        "or" => map!(|a: u64, b: u64| a | b),
                        _ => map!(|a: u64, b: u64| a ^ b),
                    };
                    Ok(Op::Long2 { f, a: decoder.long(a)?, b: decoder.long(b)?, d: decoder.written_long(d)? })
                }
                Type::B16 | Type::B32 => {
                    let f: Map2<u32, u32, u32> = match head {
                        "and" => map!(|a: u32, b: u32| a & b),
                        "or" => map!(|a: u32, b: u32| a | b),
                        _ => map!(|a: u32, b: u32| a ^ b),
                    };
                    Ok(Op::Map2 {
                        f,
                        a: decoder.short(a, kind)?,
                        b: decoder.short(b, kind)?,
                        d: decoder.written_short(d)?,
                    })
                }
                _ => Err(m.unknown()),
            }
        }
    }
}

fn not(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Op, LoadError> {
    let kind = m.kind()?;
    let [d, a] = decoder.exactly(operands)?;
    match kind {
        Type::Pred => {
            let (row, negated) = decoder.predicate(a)?;
            let d = decoder.written_predicate(d)?;
            Ok(Op::PredicateLogic { logic: Logic::And, d, a: (row, !negated), b: (row, !negated) })
        }
        Type::B64 => {
            let f: Map1<u64, u64> = map!(|a: u64| !a);
            Ok(Op::Long1 { f, a: decoder.long(a)?, d: decoder.written_long(d)? })
        }
        Type::B32 => {
            let f: Map1<u32, u32> = map!(|a: u32| !a);
            Ok(Op::Map1 { f, a: decoder.short(a, kind)?, d: decoder.written_short(d)? })
        }
        Type::B16 => {
            let f: Map1<u32, u32> = map!(|a: u32| !a & 0xffff);
            Ok(Op::Map1 { f, a: decoder.short(a, kind)?, d: decoder.written_short(d)? })
        }
        _ => Err(m.unknown()),
    }
}

fn logic(name: &str) -> Option<Logic> {
    Some(match name {
        "and" => Logic::And,
        "or" => Logic::Or,
        "xor" => Logic::Xor,
        _ => return None,
    })
}

fn select(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Op, LoadError> {
    let kind = m.kind()?;
    let [d, a, b, p] = decoder.exactly(operands)?;
    let (p, negated) = decoder.predicate(p)?;
    match kind.bits() {
        64 => {
            let (a, b) = (decoder.long(a)?, decoder.long(b)?);
            Ok(Op::SelectLong { d: decoder.written_long(d)?, a, b, p, negated })
        }
        16 | 32 => {
            let (a, b) = (decoder.short(a, kind)?, decoder.short(b, kind)?);
            Ok(Op::Select { d: decoder.written_short(d)?, a, b, p, negated })
        }
        _ => Err(m.unknown()),
    }
}

/// The comparisons on one type; `$view` turns the bits of a lane into a number.
macro_rules! comparisons {
    ($name:expr, $bits:ty, $view:expr, $number:ty) => {{
        let f: Test2<$bits> = match $name {
            "eq" => test!(|a: $bits, b: $bits| $view(a) == $view(b)),
            "ne" => test!(|a: $bits, b: $bits| $view(a) != $view(b)),
            "lt" | "lo" => test!(|a: $bits, b: $bits| $view(a) < $view(b)),
            "le" | "ls" => test!(|a: $bits, b: $bits| $view(a) <= $view(b)),
            "gt" | "hi" => test!(|a: $bits, b: $bits| $view(a) > $view(b)),
            _ => test!(|a: $bits, b: $bits| $view(a) >= $view(b)),
        };
        f
    }};
}

/// The comparisons on a floating-point type. Ordered ones are false and unordered ones true for a NaN.
macro_rules! float_comparisons {
    ($name:expr, $bits:ty, $view:expr) => {{
        let f: Test2<$bits> = match $name {
            "eq" => test!(|a: $bits, b: $bits| $view(a) == $view(b)),
            // Ordered: not true for a NaN, unlike Rust's `!=`.
            "ne" => test!(|a: $bits, b: $bits| $view(a) < $view(b) || $view(a) > $view(b)),
            "lt" => test!(|a: $bits, b: $bits| $view(a) < $view(b)),
            "le" => test!(|a: $bits, b: $bits| $view(a) <= $view(b)),
            "gt" => test!(|a: $bits, b: $bits| $view(a) > $view(b)),
            "ge" => test!(|a: $bits, b: $bits| $view(a) >= $view(b)),
            "equ" => test!(|a: $bits, b: $bits| !($view(a) < $view(b) || $view(a) > $view(b))),
            "neu" => test!(|a: $bits, b: $bits| $view(a) != $view(b)),
            "ltu" => test!(|a: $bits, b: $bits| !($view(a) >= $view(b))),
            "leu" => test!(|a: $bits, b: $bits| !($view(a) > $view(b))),
            "gtu" => test!(|a: $bits, b: $bits| !($view(a) <= $view(b))),
            "geu" => test!(|a: $bits, b: $bits| !($view(a) < $view(b))),
            "num" => test!(|a: $bits, b: $bits| !$view(a).is_nan() && !$view(b).is_nan()),
            _ => test!(|a: $bits, b: $bits| $view(a).is_nan() || $view(b).is_nan()),
        };
        f
    }};
}

#[expect(clippy::neg_cmp_op_on_partial_ord, reason = "unordered comparisons are true for a NaN")]
fn compare(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Op, LoadError> {
    const INTEGER: &[&str] = &["eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs"];
    const FLOAT: &[&str] =
        &["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"];
    let kind = m.kind()?;
    let ftz = m.take("ftz");
    let names = if kind.is_float() { FLOAT } else { INTEGER };
    let name = m.take_any(names).ok_or_else(|| m.unknown())?;
    let combination = m.take_as(logic);
    let [to, a, b] = decoder.exactly(&operands[..operands.len().min(3)])?;
    let combine = match combination {
        Some(logic) => {
            let (row, negated) = decoder.predicate(decoder.operand(operands, 3)?)?;
            Some((logic, row, negated))
        }
        None if operands.len() > 3 => return Err(m.unknown()),
        None => None,
    };
    if ftz && kind != Type::F32 {
        return Err(m.unknown());
    }
    let long = kind.bits() == 64;
    let (a, b) =
        if long { (decoder.long(a)?, decoder.long(b)?) } else { (decoder.short(a, kind)?, decoder.short(b, kind)?) };
    let (d, inverse) = match to {
        Operand::Pair(d, inverse) => (decoder.written_predicate(d)?, Some(decoder.written_predicate(inverse)?)),
        d => (decoder.written_predicate(d)?, None),
    };
    if long {
        let f = match kind {
            Type::F64 => float_comparisons!(name, u64, f64::from_bits),
            Type::S64 => comparisons!(name, u64, (|a| a as i64), i64),
            Type::U64 | Type::B64 => comparisons!(name, u64, (|a: u64| a), u64),
            _ => return Err(m.unknown()),
        };
        return Ok(Op::CompareLong { f, d, inverse, a, b, combine });
    }
    let f = match kind {
        Type::F32 if ftz => float_comparisons!(name, u32, (|a| flush(f32::from_bits(a)))),
        Type::F32 => float_comparisons!(name, u32, f32::from_bits),
        Type::F16 => float_comparisons!(name, u32, f16_to_f32),
        Type::Bf16 => float_comparisons!(name, u32, bf16_to_f32),
        Type::S32 => comparisons!(name, u32, (|a| a as i32), i32),
        Type::S16 => comparisons!(name, u32, (|a| a as u16 as i16), i16),
        Type::U16 | Type::B16 | Type::U32 | Type::B32 => comparisons!(name, u32, (|a: u32| a), u32),
        _ => return Err(m.unknown()),
    };
    Ok(Op::Compare { f, d, inverse, a, b, combine })
}
