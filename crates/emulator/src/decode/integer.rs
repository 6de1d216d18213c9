//! Arithmetic and bit operations on whole numbers.

use super::{Decoder, Modifiers};
use crate::LoadError;
use crate::instruction::Op;
use crate::lanes::{Map1, Map2, Map3, map};
use crate::ptx::{Operand, Type};

/// Sign extension of the lowest 16 bits.
fn s16(value: u32) -> i32 {
    i32::from(value as u16 as i16)
}

/// Signed division as PTX leaves it open: by zero all bits are set.
fn div_s32(a: u32, b: u32) -> u32 {
    if b == 0 { u32::MAX } else { (a as i32).wrapping_div(b as i32) as u32 }
}

fn div_s64(a: u64, b: u64) -> u64 {
    if b == 0 { u64::MAX } else { (a as i64).wrapping_div(b as i64) as u64 }
}

fn rem_s32(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { (a as i32).wrapping_rem(b as i32) as u32 }
}

fn rem_s64(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { (a as i64).wrapping_rem(b as i64) as u64 }
}

/// `add`, `sub`, `mul`, `mad`, `div`, `rem`, `abs`, `neg`, `min`, `max`, `addc`, `subc`.
pub(super) fn decode(
    decoder: &mut Decoder<'_>,
    m: &mut Modifiers<'_>,
    kind: Type,
    operands: &[Operand],
) -> Result<Op, LoadError> {
    let signed = kind.is_signed();
    let head = m.head();
    match head {
        "add" | "sub" | "addc" | "subc" if matches!(kind, Type::U32 | Type::S32) => {
            let carry_out = m.take("cc");
            let carry_in = head.ends_with('c');
            if carry_in || carry_out {
                let [d, a, b] = decoder.exactly(operands)?;
                let (a, b) = (decoder.short(a, kind)?, decoder.short(b, kind)?);
                let d = decoder.written_short(d)?;
                return Ok(Op::Carry { d, a, b, subtract: head.starts_with("sub"), carry_in, carry_out });
            }
        }
        "mad" | "madc" if head == "madc" || m.has("cc") => return multiply_carry(decoder, m, kind, operands),
        "mul" | "mad" => return multiply(decoder, m, kind, operands),
        "abs" | "neg" => {
            let [d, a] = decoder.exactly(operands)?;
            if kind.bits() == 64 {
                let f: Map1<u64, u64> = match head {
                    "abs" => map!(|a: u64| (a as i64).wrapping_abs() as u64),
                    _ => map!(|a: u64| a.wrapping_neg()),
                };
                return Ok(Op::Long1 { f, a: decoder.long(a)?, d: decoder.written_long(d)? });
            }
            let f: Map1<u32, u32> = match (head, kind.bits()) {
                ("abs", 32) => map!(|a: u32| (a as i32).wrapping_abs() as u32),
                ("abs", _) => map!(|a: u32| s16(a).unsigned_abs() & 0xffff),
                (_, 32) => map!(|a: u32| a.wrapping_neg()),
                _ => map!(|a: u32| a.wrapping_neg() & 0xffff),
            };
            return Ok(Op::Map1 { f, a: decoder.short(a, kind)?, d: decoder.written_short(d)? });
        }
        _ => {}
    }
    let [d, a, b] = decoder.exactly(operands)?;
    if kind.bits() == 64 {
        let f: Map2<u64, u64, u64> = match (head, signed) {
            ("add", _) => map!(|a: u64, b: u64| a.wrapping_add(b)),
            ("sub", _) => map!(|a: u64, b: u64| a.wrapping_sub(b)),
            ("div", false) => map!(|a: u64, b: u64| a.checked_div(b).unwrap_or(u64::MAX)),
            ("div", true) => map!(|a: u64, b: u64| div_s64(a, b)),
            ("rem", false) => map!(|a: u64, b: u64| a.checked_rem(b).unwrap_or(a)),
            ("rem", true) => map!(|a: u64, b: u64| rem_s64(a, b)),
            ("min", false) => map!(|a: u64, b: u64| a.min(b)),
            ("min", true) => map!(|a: u64, b: u64| (a as i64).min(b as i64) as u64),
            ("max", false) => map!(|a: u64, b: u64| a.max(b)),
            ("max", true) => map!(|a: u64, b: u64| (a as i64).max(b as i64) as u64),
            _ => return Err(m.unknown()),
        };
        return Ok(Op::Long2 { f, a: decoder.long(a)?, b: decoder.long(b)?, d: decoder.written_long(d)? });
    }
    let f: Map2<u32, u32, u32> = match (head, signed, kind.bits()) {
        ("add", true, 32) if m.take("sat") => map!(|a: u32, b: u32| (a as i32).saturating_add(b as i32) as u32),
        ("sub", true, 32) if m.take("sat") => map!(|a: u32, b: u32| (a as i32).saturating_sub(b as i32) as u32),
        ("add", _, 32) => map!(|a: u32, b: u32| a.wrapping_add(b)),
        ("sub", _, 32) => map!(|a: u32, b: u32| a.wrapping_sub(b)),
        ("add", _, _) => map!(|a: u32, b: u32| a.wrapping_add(b) & 0xffff),
        ("sub", _, _) => map!(|a: u32, b: u32| a.wrapping_sub(b) & 0xffff),
        ("div", false, bits) => {
            if bits == 32 {
                map!(|a: u32, b: u32| a.checked_div(b).unwrap_or(u32::MAX))
            } else {
                map!(|a: u32, b: u32| a.checked_div(b).unwrap_or(0xffff))
            }
        }
        ("div", true, 32) => map!(|a: u32, b: u32| div_s32(a, b)),
        ("div", true, _) => map!(|a: u32, b: u32| div_s32(s16(a) as u32, s16(b) as u32) & 0xffff),
        ("rem", false, _) => map!(|a: u32, b: u32| a.checked_rem(b).unwrap_or(a)),
        ("rem", true, 32) => map!(|a: u32, b: u32| rem_s32(a, b)),
        ("rem", true, _) => map!(|a: u32, b: u32| rem_s32(s16(a) as u32, s16(b) as u32) & 0xffff),
        ("min", false, _) => map!(|a: u32, b: u32| a.min(b)),
        ("max", false, _) => map!(|a: u32, b: u32| a.max(b)),
        ("min", true, 32) => map!(|a: u32, b: u32| (a as i32).min(b as i32) as u32),
        ("max", true, 32) => map!(|a: u32, b: u32| (a as i32).max(b as i32) as u32),
        ("min", true, _) => map!(|a: u32, b: u32| s16(a).min(s16(b)) as u32 & 0xffff),
        ("max", true, _) => map!(|a: u32, b: u32| s16(a).max(s16(b)) as u32 & 0xffff),
        _ => return Err(m.unknown()),
    };
    Ok(Op::Map2 { f, a: decoder.short(a, kind)?, b: decoder.short(b, kind)?, d: decoder.written_short(d)? })
}

fn multiply(
    decoder: &mut Decoder<'_>,
    m: &mut Modifiers<'_>,
    kind: Type,
    operands: &[Operand],
) -> Result<Op, LoadError> {
    let signed = kind.is_signed();
    let part = m.take_any(&["lo", "hi", "wide"]).ok_or_else(|| m.unknown())?;
    if m.head() == "mad" {
        let [d, a, b, c] = decoder.exactly(operands)?;
        match (part, kind.bits()) {
            ("wide", 32) => {
                let f: Map3<u64, u32, u32, u64> = if signed {
                    map!(|a: u32, b: u32, c: u64| (i64::from(a as i32) * i64::from(b as i32)).wrapping_add(c as i64)
                        as u64)
                } else {
                    map!(|a: u32, b: u32, c: u64| (u64::from(a) * u64::from(b)).wrapping_add(c))
                };
                let (a, b, c) = (decoder.short(a, kind)?, decoder.short(b, kind)?, decoder.long(c)?);
                return Ok(Op::MadWide { f, d: decoder.written_long(d)?, a, b, c });
            }
            ("lo" | "hi", 64) => {
                let f: Map3<u64, u64, u64, u64> = match (part, signed) {
                    ("lo", _) => map!(|a: u64, b: u64, c: u64| a.wrapping_mul(b).wrapping_add(c)),
                    (_, false) => map!(|a: u64, b: u64, c: u64| high_u64(a, b).wrapping_add(c)),
                    _ => map!(|a: u64, b: u64, c: u64| high_s64(a, b).wrapping_add(c)),
                };
                let (a, b, c) = (decoder.long(a)?, decoder.long(b)?, decoder.long(c)?);
                return Ok(Op::Long3 { f, d: decoder.written_long(d)?, a, b, c });
            }
            _ => {}
        }
        let f: Map3<u32, u32, u32, u32> = match (part, signed, kind.bits()) {
            ("lo", _, 32) => map!(|a: u32, b: u32, c: u32| a.wrapping_mul(b).wrapping_add(c)),
            ("lo", _, 16) => map!(|a: u32, b: u32, c: u32| a.wrapping_mul(b).wrapping_add(c) & 0xffff),
            ("hi", false, 32) => map!(|a: u32, b: u32, c: u32| high_u32(a, b).wrapping_add(c)),
            ("hi", true, 32) => map!(|a: u32, b: u32, c: u32| high_s32(a, b).wrapping_add(c)),
            ("wide", false, 16) => map!(|a: u32, b: u32, c: u32| (a * b).wrapping_add(c)),
            ("wide", true, 16) => map!(|a: u32, b: u32, c: u32| ((s16(a) * s16(b)) as u32).wrapping_add(c)),
            _ => return Err(m.unknown()),
        };
        let c_kind = if part == "wide" { Type::U32 } else { kind };
        let (a, b, c) = (decoder.short(a, kind)?, decoder.short(b, kind)?, decoder.short(c, c_kind)?);
        return Ok(Op::Map3 { f, d: decoder.written_short(d)?, a, b, c });
    }
    let [d, a, b] = decoder.exactly(operands)?;
    match (part, kind.bits()) {
        ("wide", 32) => {
            let f: Map2<u64, u32, u32> = if signed {
                map!(|a: u32, b: u32| (i64::from(a as i32) * i64::from(b as i32)) as u64)
            } else {
                map!(|a: u32, b: u32| u64::from(a) * u64::from(b))
            };
            Ok(Op::MulWide { f, a: decoder.short(a, kind)?, b: decoder.short(b, kind)?, d: decoder.written_long(d)? })
        }
        ("lo" | "hi", 64) => {
            let f: Map2<u64, u64, u64> = match (part, signed) {
                ("lo", _) => map!(|a: u64, b: u64| a.wrapping_mul(b)),
                (_, false) => map!(|a: u64, b: u64| high_u64(a, b)),
                _ => map!(|a: u64, b: u64| high_s64(a, b)),
            };
            Ok(Op::Long2 { f, a: decoder.long(a)?, b: decoder.long(b)?, d: decoder.written_long(d)? })
        }
        _ => {
            let f: Map2<u32, u32, u32> = match (part, signed, kind.bits()) {
                ("lo", _, 32) => map!(|a: u32, b: u32| a.wrapping_mul(b)),
                ("lo", _, 16) => map!(|a: u32, b: u32| a.wrapping_mul(b) & 0xffff),
                ("hi", false, 32) => map!(|a: u32, b: u32| high_u32(a, b)),
                ("hi", true, 32) => map!(|a: u32, b: u32| high_s32(a, b)),
                ("hi", false, 16) => map!(|a: u32, b: u32| (a * b) >> 16),
                ("hi", true, 16) => map!(|a: u32, b: u32| (s16(a) * s16(b)) as u32 >> 16),
                ("wide", false, 16) => map!(|a: u32, b: u32| a * b),
                ("wide", true, 16) => map!(|a: u32, b: u32| (s16(a) * s16(b)) as u32),
                _ => return Err(m.unknown()),
            };
            Ok(Op::Map2 { f, a: decoder.short(a, kind)?, b: decoder.short(b, kind)?, d: decoder.written_short(d)? })
        }
    }
}

fn high_u32(a: u32, b: u32) -> u32 {
    ((u64::from(a) * u64::from(b)) >> 32) as u32
}

fn high_s32(a: u32, b: u32) -> u32 {
    ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32
}

fn high_u64(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) >> 64) as u64
}

fn high_s64(a: u64, b: u64) -> u64 {
    ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64
}

/// `mad.lo.cc`, `madc.hi` and their kin.
fn multiply_carry(
    decoder: &mut Decoder<'_>,
    m: &mut Modifiers<'_>,
    kind: Type,
    operands: &[Operand],
) -> Result<Op, LoadError> {
    let (carry_in, carry_out) = (m.head() == "madc", m.take("cc"));
    let high = m.take("hi");
    if !matches!(kind, Type::U32 | Type::S32) || !high && !m.take("lo") {
        return Err(m.unknown());
    }
    let [d, a, b, c] = decoder.exactly(operands)?;
    let (a, b, c) = (decoder.short(a, kind)?, decoder.short(b, kind)?, decoder.short(c, kind)?);
    let d = decoder.written_short(d)?;
    Ok(Op::MulCarry { d, a, b, c, high, signed: kind.is_signed(), carry_in, carry_out })
}

/// `prmt`: picks four of the eight bytes of `a` and `b`.
fn permute(a: u32, b: u32, selector: u32) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    let mut result = 0;
    for index in 0..4 {
        let select = selector >> (4 * index) & 0xf;
        let mut byte = (bytes >> (8 * (select & 7)) & 0xff) as u32;
        if select & 8 != 0 {
            // The sign of the byte, eight times.
            byte = if byte & 0x80 != 0 { 0xff } else { 0 };
        }
        result |= byte << (8 * index);
    }
    result
}

fn extract(a: u64, position: u32, length: u32, width: u32, signed: bool) -> u64 {
    let (position, length) = (position & 0xff, length & 0xff);
    if length == 0 {
        return 0;
    }
    let negative = signed && a >> (position + length - 1).min(width - 1) & 1 == 1;
    let field = if position >= width { 0 } else { a >> position };
    let taken = length.min(width.saturating_sub(position));
    let mask = if taken >= 64 { u64::MAX } else { (1 << taken) - 1 };
    let value = (field & mask) | if negative { !mask } else { 0 };
    if width == 32 { value & 0xffff_ffff } else { value }
}

/// `bfi`: `length` bits of `a` into `b` at `position`, in words of `width` bits.
pub(crate) fn insert(a: u64, b: u64, position: u32, length: u32, width: u32) -> u64 {
    let (position, length) = (position & 0xff, length & 0xff);
    if length == 0 || position >= width {
        return b;
    }
    let mask = (if length >= 64 { u64::MAX } else { (1 << length) - 1 }) << position;
    (b & !mask) | (a << position & mask)
}

fn dot4(a: u32, b: u32, c: u32, signed: [bool; 2]) -> u32 {
    let byte = |value: u32, index: u32, signed: bool| {
        let byte = (value >> (8 * index)) as u8;
        if signed { i32::from(byte as i8) } else { i32::from(byte) }
    };
    (0..4).fold(c, |sum, index| sum.wrapping_add((byte(a, index, signed[0]) * byte(b, index, signed[1])) as u32))
}

/// Shifts, bit fields, counts, `prmt`, `sad`, `dp4a`.
pub(super) fn decode_bits(
    decoder: &mut Decoder<'_>,
    m: &mut Modifiers<'_>,
    operands: &[Operand],
) -> Result<Op, LoadError> {
    let head = m.head();
    if head == "shf" {
        let (left, wrap) = (m.take("l"), m.take("wrap"));
        if !left && !m.take("r") || !wrap && !m.take("clamp") || !m.take("b32") {
            return Err(m.unknown());
        }
        let f: Map3<u32, u32, u32, u32> = match (left, wrap) {
            (true, true) => {
                map!(|a: u32, b: u32, c: u32| ((u64::from(b) << 32 | u64::from(a)) << (c & 31) >> 32) as u32)
            }
            (true, false) => {
                map!(|a: u32, b: u32, c: u32| ((u64::from(b) << 32 | u64::from(a)) << c.min(32) >> 32) as u32)
            }
            (false, true) => map!(|a: u32, b: u32, c: u32| ((u64::from(b) << 32 | u64::from(a)) >> (c & 31)) as u32),
            (false, false) => map!(|a: u32, b: u32, c: u32| ((u64::from(b) << 32 | u64::from(a)) >> c.min(32)) as u32),
        };
        return short3(decoder, operands, f, [Type::U32; 3]);
    }
    let kind = m.kind()?;
    let (bits, signed) = (kind.bits(), kind.is_signed());
    match (head, bits) {
        ("shl" | "shr", 64) => {
            let f: Map2<u64, u64, u32> = match (head, signed) {
                ("shl", _) => map!(|a: u64, b: u32| a.checked_shl(b).unwrap_or(0)),
                (_, false) => map!(|a: u64, b: u32| a.checked_shr(b).unwrap_or(0)),
                _ => map!(|a: u64, b: u32| ((a as i64) >> b.min(63)) as u64),
            };
            let [d, a, b] = decoder.exactly(operands)?;
            Ok(Op::ShiftLong { f, a: decoder.long(a)?, b: decoder.short(b, Type::U32)?, d: decoder.written_long(d)? })
        }
        ("shl" | "shr", _) => {
            let f: Map2<u32, u32, u32> = match (head, signed, bits) {
                ("shl", _, 32) => map!(|a: u32, b: u32| a.checked_shl(b).unwrap_or(0)),
                ("shr", false, 32) => map!(|a: u32, b: u32| a.checked_shr(b).unwrap_or(0)),
                ("shr", true, 32) => map!(|a: u32, b: u32| ((a as i32) >> b.min(31)) as u32),
                ("shl", _, 16) => map!(|a: u32, b: u32| a.checked_shl(b).unwrap_or(0) & 0xffff),
                ("shr", false, 16) => map!(|a: u32, b: u32| a.checked_shr(b).unwrap_or(0)),
                ("shr", true, 16) => map!(|a: u32, b: u32| (s16(a) >> b.min(15)) as u32 & 0xffff),
                _ => return Err(m.unknown()),
            };
            let [d, a, b] = decoder.exactly(operands)?;
            Ok(Op::Map2 {
                f,
                a: decoder.short(a, kind)?,
                b: decoder.short(b, Type::U32)?,
                d: decoder.written_short(d)?,
            })
        }
        ("popc" | "clz" | "bfind", 64) => {
            let f: Map1<u32, u64> = match (head, signed) {
                ("popc", _) => map!(|a: u64| a.count_ones()),
                ("clz", _) => map!(|a: u64| a.leading_zeros()),
                ("bfind", false) => map!(|a: u64| 63_u32.wrapping_sub(a.leading_zeros())),
                _ => return Err(m.unknown()),
            };
            let [d, a] = decoder.exactly(operands)?;
            Ok(Op::Narrow { f, a: decoder.long(a)?, d: decoder.written_short(d)? })
        }
        ("brev", 64) => {
            let [d, a] = decoder.exactly(operands)?;
            let f: Map1<u64, u64> = map!(|a: u64| a.reverse_bits());
            Ok(Op::Long1 { f, a: decoder.long(a)?, d: decoder.written_long(d)? })
        }
        ("popc" | "clz" | "brev" | "bfind", 32) => {
            let f: Map1<u32, u32> = match (head, signed) {
                ("popc", _) => map!(|a: u32| a.count_ones()),
                ("clz", _) => map!(|a: u32| a.leading_zeros()),
                ("brev", _) => map!(|a: u32| a.reverse_bits()),
                ("bfind", false) if m.take("shiftamt") => {
                    map!(|a: u32| if a == 0 { u32::MAX } else { a.leading_zeros() })
                }
                ("bfind", false) => map!(|a: u32| 31_u32.wrapping_sub(a.leading_zeros())),
                _ => return Err(m.unknown()),
            };
            let [d, a] = decoder.exactly(operands)?;
            Ok(Op::Map1 { f, a: decoder.short(a, kind)?, d: decoder.written_short(d)? })
        }
        ("bfe", 64) => {
            let f: Map3<u64, u64, u32, u32> = if signed {
                map!(|a: u64, b: u32, c: u32| extract(a, b, c, 64, true))
            } else {
                map!(|a: u64, b: u32, c: u32| extract(a, b, c, 64, false))
            };
            let [d, a, b, c] = decoder.exactly(operands)?;
            let (a, b, c) = (decoder.long(a)?, decoder.short(b, Type::U32)?, decoder.short(c, Type::U32)?);
            Ok(Op::ExtractLong { f, d: decoder.written_long(d)?, a, b, c })
        }
        ("bfe", 32) => {
            let f: Map3<u32, u32, u32, u32> = if signed {
                map!(|a: u32, b: u32, c: u32| extract(u64::from(a), b, c, 32, true) as u32)
            } else {
                map!(|a: u32, b: u32, c: u32| extract(u64::from(a), b, c, 32, false) as u32)
            };
            short3(decoder, operands, f, [kind, Type::U32, Type::U32])
        }
        ("bfi", 32) => {
            let [d, a, b, position, length] = decoder.exactly(operands)?;
            let (a, b) = (decoder.short(a, kind)?, decoder.short(b, kind)?);
            let (position, length) = (decoder.short(position, Type::U32)?, decoder.short(length, Type::U32)?);
            Ok(Op::InsertBits { d: decoder.written_short(d)?, a, b, position, length })
        }
        ("bfi", 64) => {
            let [d, a, b, position, length] = decoder.exactly(operands)?;
            let (a, b) = (decoder.long(a)?, decoder.long(b)?);
            let (position, length) = (decoder.short(position, Type::U32)?, decoder.short(length, Type::U32)?);
            Ok(Op::InsertLong { d: decoder.written_long(d)?, a, b, position, length })
        }
        ("prmt", 32) => {
            let f: Map3<u32, u32, u32, u32> = map!(|a: u32, b: u32, c: u32| permute(a, b, c));
            short3(decoder, operands, f, [kind; 3])
        }
        ("sad", 32) => {
            let f: Map3<u32, u32, u32, u32> = if signed {
                map!(|a: u32, b: u32, c: u32| (a as i32).abs_diff(b as i32).wrapping_add(c))
            } else {
                map!(|a: u32, b: u32, c: u32| a.abs_diff(b).wrapping_add(c))
            };
            short3(decoder, operands, f, [kind; 3])
        }
        ("dp4a", 32) => {
            let f: Map3<u32, u32, u32, u32> = match (signed, m.kind()?) {
                (true, Type::S32) => map!(|a: u32, b: u32, c: u32| dot4(a, b, c, [true, true])),
                (true, Type::U32) => map!(|a: u32, b: u32, c: u32| dot4(a, b, c, [true, false])),
                (false, Type::S32) => map!(|a: u32, b: u32, c: u32| dot4(a, b, c, [false, true])),
                (false, Type::U32) => map!(|a: u32, b: u32, c: u32| dot4(a, b, c, [false, false])),
                _ => return Err(m.unknown()),
            };
            short3(decoder, operands, f, [kind; 3])
        }
        _ => Err(m.unknown()),
    }
}

/// Three sources and a destination of at most 32 bits.
pub(super) fn short3(
    decoder: &mut Decoder<'_>,
    operands: &[Operand],
    f: Map3<u32, u32, u32, u32>,
    kinds: [Type; 3],
) -> Result<Op, LoadError> {
    let [d, a, b, c] = decoder.exactly(operands)?;
    let (a, b, c) = (decoder.short(a, kinds[0])?, decoder.short(b, kinds[1])?, decoder.short(c, kinds[2])?);
    Ok(Op::Map3 { f, d: decoder.written_short(d)?, a, b, c })
}
