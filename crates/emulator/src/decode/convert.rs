//! `cvt`: between whole numbers and floating point of every width, with the rounding asked for.

use super::{Decoder, Modifiers};
use crate::LoadError;
use crate::instruction::Op;
use crate::lanes::{Map1, Map2, map};
use crate::number::{
    CANONICAL_NAN, Rounding, bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16, f32_to_tf32, f32_to_tf32_away,
    f64_to_f32, f64_to_f32_odd, flush,
};
use crate::ptx::{Operand, Type};

/// A function from any width to any width, chosen by the files of its operands.
enum Conversion {
    Short(Map1<u32, u32>),
    Widen(Map1<u64, u32>),
    Narrow(Map1<u32, u64>),
    Long(Map1<u64, u64>),
}

use Conversion::{Long, Narrow, Short, Widen};

/// Decodes `cvt`.
pub(super) fn decode(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Op, LoadError> {
    let to = m.kind()?;
    let from = m.kind()?;
    if matches!(to, Type::Bf16x2 | Type::F16x2) {
        return packed(decoder, m, to, from, operands);
    }
    // A source register may be wider than the type it is read as; the compiler narrows 64-bit registers so.
    let wide = operands.get(1).and_then(|a| decoder.type_of(a)).is_some_and(|register| register.bits() == 64);
    let conversion = match (to.is_float(), from.is_float()) {
        (false, false) if wide && from.bits() == 32 => of_lower_half(m, to, from)?,
        (false, false) => between_integers(m, to, from)?,
        (true, false) => to_float(m, to, from)?,
        (false, true) => to_integer(m, to, from)?,
        (true, true) => between_floats(m, to, from)?,
    };
    let [d, a] = decoder.exactly(operands)?;
    // A byte with a sign is kept as a 16-bit number; the compiler never asks for a wider register.
    if to == Type::S8 && decoder.type_of(d).is_some_and(|register| register.bits() != 16) {
        return Err(m.unknown());
    }
    Ok(match conversion {
        Short(f) => Op::Map1 { f, a: decoder.short(a, from)?, d: decoder.written_short(d)? },
        Widen(f) => Op::Widen { f, a: decoder.short(a, from)?, d: decoder.written_long(d)? },
        Narrow(f) => Op::Narrow { f, a: decoder.long(a)?, d: decoder.written_short(d)? },
        Long(f) => Op::Long1 { f, a: decoder.long(a)?, d: decoder.written_long(d)? },
    })
}

fn identity() -> Map1<u32, u32> {
    map!(|a: u32| a)
}

/// Rounding of a result that does not fit, by the modifier.
fn rounding(m: &mut Modifiers<'_>) -> Option<Rounding> {
    m.take_as(|name| {
        Some(match name {
            "rn" => Rounding::Nearest,
            "rz" => Rounding::Zero,
            "rm" => Rounding::Down,
            "rp" => Rounding::Up,
            _ => return None,
        })
    })
}

fn between_integers(m: &mut Modifiers<'_>, to: Type, from: Type) -> Result<Conversion, LoadError> {
    let saturate = m.take("sat");
    if saturate {
        let f: Map1<u32, u32> = match (to, from) {
            (Type::U8, Type::S32) => map!(|a: u32| (a as i32).clamp(0, 255) as u32),
            (Type::S8, Type::S32) => map!(|a: u32| (a as i32).clamp(-128, 127) as u32),
            (Type::U8, Type::U32) => map!(|a: u32| a.min(255)),
            (Type::U16, Type::S32) => map!(|a: u32| (a as i32).clamp(0, 65_535) as u32),
            (Type::S16, Type::S32) => map!(|a: u32| (a as i32).clamp(-32_768, 32_767) as u32 & 0xffff),
            (Type::U16, Type::U32) => map!(|a: u32| a.min(65_535)),
            (Type::U32, Type::S32) => map!(|a: u32| (a as i32).max(0) as u32),
            (Type::S32, Type::U32) => map!(|a: u32| a.min(i32::MAX as u32)),
            (Type::S32, Type::S64) => {
                return Ok(Narrow(map!(|a: u64| (a as i64).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as u32)));
            }
            (Type::U32, Type::U64) => return Ok(Narrow(map!(|a: u64| a.min(u64::from(u32::MAX)) as u32))),
            _ => return Err(m.unknown()),
        };
        return Ok(Short(f));
    }
    // The narrower of both decides what is kept; its sign is that of the source if the source is narrower,
    // and of the destination otherwise, because a register is wider than a byte.
    let (kept, signed) =
        if from.bits() < to.bits() { (from.bits(), from.is_signed()) } else { (to.bits(), to.is_signed()) };
    let (from_long, to_long) = (from.bits() == 64, to.bits() == 64);
    Ok(match (from_long, to_long, kept, signed) {
        (true, true, _, _) => Long(map!(|a: u64| a)),
        (true, false, 32, _) => Narrow(map!(|a: u64| a as u32)),
        (true, false, 16, _) => Narrow(map!(|a: u64| a as u32 & 0xffff)),
        (true, false, _, false) => Narrow(map!(|a: u64| a as u32 & 0xff)),
        (true, false, _, true) => Narrow(map!(|a: u64| a as i8 as i16 as u16 as u32)),
        (false, true, 32, false) => Widen(map!(|a: u32| u64::from(a))),
        (false, true, 32, true) => Widen(map!(|a: u32| i64::from(a as i32) as u64)),
        (false, true, 16, false) => Widen(map!(|a: u32| u64::from(a as u16))),
        (false, true, 16, true) => Widen(map!(|a: u32| i64::from(a as i16) as u64)),
        (false, true, _, false) => Widen(map!(|a: u32| u64::from(a as u8))),
        (false, true, _, true) => Widen(map!(|a: u32| i64::from(a as i8) as u64)),
        (false, false, 32, _) => Short(identity()),
        (false, false, 16, true) if to.bits() == 32 => Short(map!(|a: u32| i32::from(a as i16) as u32)),
        (false, false, 16, _) => Short(map!(|a: u32| a & 0xffff)),
        (false, false, _, true) if to.bits() == 32 => Short(map!(|a: u32| i32::from(a as i8) as u32)),
        (false, false, _, true) => Short(map!(|a: u32| i32::from(a as i8) as u32 & 0xffff)),
        (false, false, _, false) => Short(map!(|a: u32| a & 0xff)),
    })
}

/// From the lower half of a register of 64 bits.
fn of_lower_half(m: &mut Modifiers<'_>, to: Type, from: Type) -> Result<Conversion, LoadError> {
    match (to.bits() == 64, from.is_signed()) {
        (true, true) => Ok(Long(map!(|a: u64| i64::from(a as i32) as u64))),
        (true, false) => Ok(Long(map!(|a: u64| a & 0xffff_ffff))),
        (false, signed) if !m.take("sat") => between_integers(m, to, if signed { Type::S64 } else { Type::U64 }),
        _ => Err(m.unknown()),
    }
}

/// A whole number of a short type as `i64`.
fn whole(bits: u32, kind: Type) -> i64 {
    match kind {
        Type::S8 => i64::from(bits as i8),
        Type::S16 => i64::from(bits as i16),
        Type::S32 => i64::from(bits as i32),
        Type::U8 => i64::from(bits as u8),
        Type::U16 => i64::from(bits as u16),
        _ => i64::from(bits),
    }
}

/// One function for every type in the list.
macro_rules! for_kinds {
    ($kind:expr, [$($name:ident),+], |$a:ident, $k:ident| $body:expr) => {
        match $kind {
            $(Type::$name => {
                let f: Map1<_, u32> = map!(|$a: u32| { const $k: Type = Type::$name; $body });
                Some(f)
            })+
            _ => None,
        }
    };
}

fn to_float(m: &mut Modifiers<'_>, to: Type, from: Type) -> Result<Conversion, LoadError> {
    let rounding = rounding(m).ok_or_else(|| m.unknown())?;
    let nearest = rounding == Rounding::Nearest;
    if from.bits() == 64 {
        return match (to, from) {
            (Type::F32, Type::S64) if nearest => Ok(Narrow(map!(|a: u64| (a as i64 as f32).to_bits()))),
            (Type::F32, Type::U64) if nearest => Ok(Narrow(map!(|a: u64| (a as f32).to_bits()))),
            (Type::F64, Type::S64) if nearest => Ok(Long(map!(|a: u64| (a as i64 as f64).to_bits()))),
            (Type::F64, Type::U64) if nearest => Ok(Long(map!(|a: u64| (a as f64).to_bits()))),
            _ => Err(m.unknown()),
        };
    }
    // A short whole number is exact in f64.
    let short: Option<Map1<u32, u32>> = match (to, rounding) {
        (Type::F64, _) => {
            let f = for_kinds!(from, [S8, S16, S32, U8, U16, U32], |a, K| (whole(a, K) as f64).to_bits());
            return f.map(Widen).ok_or_else(|| m.unknown());
        }
        (Type::F32, Rounding::Nearest) => {
            for_kinds!(from, [S8, S16, S32, U8, U16, U32], |a, K| (whole(a, K) as f32).to_bits())
        }
        (Type::F32, Rounding::Zero) => {
            for_kinds!(from, [S32, U32], |a, K| f64_to_f32(whole(a, K) as f64, Rounding::Zero).to_bits())
        }
        (Type::F32, Rounding::Down) => {
            for_kinds!(from, [S32, U32], |a, K| f64_to_f32(whole(a, K) as f64, Rounding::Down).to_bits())
        }
        (Type::F32, Rounding::Up) => {
            for_kinds!(from, [S32, U32], |a, K| f64_to_f32(whole(a, K) as f64, Rounding::Up).to_bits())
        }
        (Type::F16, Rounding::Nearest) => for_kinds!(from, [S8, S16, S32, U8, U16, U32], |a, K| {
            f32_to_f16(f64_to_f32_odd(whole(a, K) as f64), Rounding::Nearest)
        }),
        (Type::Bf16, Rounding::Nearest) => for_kinds!(from, [S8, S16, S32, U8, U16, U32], |a, K| {
            f32_to_bf16(f64_to_f32_odd(whole(a, K) as f64), Rounding::Nearest)
        }),
        _ => None,
    };
    short.map(Short).ok_or_else(|| m.unknown())
}

/// A number rounded to a whole one.
fn integral(value: f64, mode: u8) -> f64 {
    match mode {
        b'n' => value.round_ties_even(),
        b'z' => value.trunc(),
        b'm' => value.floor(),
        _ => value.ceil(),
    }
}

/// A whole number in `f64` as the bits of the type: out of range it saturates, NaN becomes 0.
fn saturating(value: f64, kind: Type) -> u32 {
    match kind {
        Type::S8 => u32::from(i16::from(value as i8) as u16),
        Type::U8 => u32::from(value as u8),
        Type::S16 => u32::from(value as i16 as u16),
        Type::U16 => u32::from(value as u16),
        Type::S32 => value as i32 as u32,
        _ => value as u32,
    }
}

/// The functions of one source, for each way of rounding and each short destination.
macro_rules! to_short {
    ($mode:expr, $to:expr, $bits:ty, $view:expr) => {{
        macro_rules! kinds {
            ($m:literal) => {
                match $to {
                    Type::S8 => map!(|a: $bits| saturating(integral($view(a), $m), Type::S8)),
                    Type::U8 => map!(|a: $bits| saturating(integral($view(a), $m), Type::U8)),
                    Type::S16 => map!(|a: $bits| saturating(integral($view(a), $m), Type::S16)),
                    Type::U16 => map!(|a: $bits| saturating(integral($view(a), $m), Type::U16)),
                    Type::S32 => map!(|a: $bits| saturating(integral($view(a), $m), Type::S32)),
                    _ => map!(|a: $bits| saturating(integral($view(a), $m), Type::U32)),
                }
            };
        }
        let f: Map1<u32, $bits> = match $mode {
            b'n' => kinds!(b'n'),
            b'z' => kinds!(b'z'),
            b'm' => kinds!(b'm'),
            _ => kinds!(b'p'),
        };
        f
    }};
}

/// As `to_short`, for destinations of 64 bits.
macro_rules! to_long {
    ($mode:expr, $to:expr, $bits:ty, $view:expr) => {{
        let f: Map1<u64, $bits> = match ($mode, $to) {
            (b'n', Type::S64) => map!(|a: $bits| integral($view(a), b'n') as i64 as u64),
            (b'z', Type::S64) => map!(|a: $bits| integral($view(a), b'z') as i64 as u64),
            (b'm', Type::S64) => map!(|a: $bits| integral($view(a), b'm') as i64 as u64),
            (_, Type::S64) => map!(|a: $bits| integral($view(a), b'p') as i64 as u64),
            (b'n', _) => map!(|a: $bits| integral($view(a), b'n') as u64),
            (b'z', _) => map!(|a: $bits| integral($view(a), b'z') as u64),
            (b'm', _) => map!(|a: $bits| integral($view(a), b'm') as u64),
            _ => map!(|a: $bits| integral($view(a), b'p') as u64),
        };
        f
    }};
}

fn to_integer(m: &mut Modifiers<'_>, to: Type, from: Type) -> Result<Conversion, LoadError> {
    let mode = whole_rounding(m).ok_or_else(|| m.unknown())?;
    let ftz = m.take("ftz");
    // Conversions to whole numbers saturate with and without the modifier.
    m.take("sat");
    if !matches!(to, Type::S8 | Type::U8 | Type::S16 | Type::U16 | Type::S32 | Type::U32 | Type::S64 | Type::U64) {
        return Err(m.unknown());
    }
    let long = to.bits() == 64;
    Ok(match (from, long) {
        (Type::F32, false) if ftz => Short(to_short!(mode, to, u32, (|a| f64::from(flush(f32::from_bits(a)))))),
        (Type::F32, false) => Short(to_short!(mode, to, u32, (|a| f64::from(f32::from_bits(a))))),
        (Type::F32, true) if !ftz => Widen(to_long!(mode, to, u32, (|a| f64::from(f32::from_bits(a))))),
        (Type::F16, false) if !ftz => Short(to_short!(mode, to, u32, (|a| f64::from(f16_to_f32(a))))),
        (Type::Bf16, false) if !ftz => Short(to_short!(mode, to, u32, (|a| f64::from(bf16_to_f32(a))))),
        (Type::F64, false) if !ftz => Narrow(to_short!(mode, to, u64, f64::from_bits)),
        (Type::F64, true) if !ftz => Long(to_long!(mode, to, u64, f64::from_bits)),
        _ => return Err(m.unknown()),
    })
}

/// `.rni` and its kin, by their second letter.
fn whole_rounding(m: &mut Modifiers<'_>) -> Option<u8> {
    m.take_any(&["rni", "rzi", "rmi", "rpi"]).map(|name| name.as_bytes()[1])
}

fn between_floats(m: &mut Modifiers<'_>, to: Type, from: Type) -> Result<Conversion, LoadError> {
    let whole_mode = whole_rounding(m);
    let away = m.take("rna");
    let rounding = rounding(m);
    let (ftz, saturate) = (m.take("ftz"), m.take("sat"));
    let plain = !ftz && !saturate && whole_mode.is_none();
    let short: Map1<u32, u32> = match (to, from) {
        (Type::F32, Type::F32) => match (whole_mode, ftz, saturate) {
            (None, false, false) => identity(),
            (None, true, false) => map!(|a: u32| flush(f32::from_bits(a)).to_bits()),
            (None, false, true) => map!(|a: u32| clamped(f32::from_bits(a))),
            (None, true, true) => map!(|a: u32| clamped(flush(f32::from_bits(a)))),
            (Some(b'n'), _, false) => map!(|a: u32| f32::from_bits(a).round_ties_even().to_bits()),
            (Some(b'z'), _, false) => map!(|a: u32| f32::from_bits(a).trunc().to_bits()),
            (Some(b'm'), false, false) => map!(|a: u32| f32::from_bits(a).floor().to_bits()),
            (Some(b'p'), false, false) => map!(|a: u32| f32::from_bits(a).ceil().to_bits()),
            (Some(b'm'), true, false) => map!(|a: u32| flush(f32::from_bits(a)).floor().to_bits()),
            (Some(b'p'), true, false) => map!(|a: u32| flush(f32::from_bits(a)).ceil().to_bits()),
            _ => return Err(m.unknown()),
        },
        (Type::Tf32, Type::F32) if plain && away => map!(|a: u32| f32_to_tf32_away(f32::from_bits(a))),
        (Type::Tf32, Type::F32) if plain => match rounding {
            Some(Rounding::Nearest) => map!(|a: u32| f32_to_tf32(f32::from_bits(a), Rounding::Nearest)),
            Some(Rounding::Zero) => map!(|a: u32| f32_to_tf32(f32::from_bits(a), Rounding::Zero)),
            _ => return Err(m.unknown()),
        },
        (Type::F32, Type::F16) if plain => map!(|a: u32| f16_to_f32(a).to_bits()),
        (Type::F32, Type::Bf16) if plain => map!(|a: u32| a << 16),
        (Type::F16, Type::F32) if plain => match rounding {
            Some(Rounding::Nearest) => map!(|a: u32| f32_to_f16(f32::from_bits(a), Rounding::Nearest)),
            Some(Rounding::Zero) => map!(|a: u32| f32_to_f16(f32::from_bits(a), Rounding::Zero)),
            Some(Rounding::Down) => map!(|a: u32| f32_to_f16(f32::from_bits(a), Rounding::Down)),
            Some(Rounding::Up) => map!(|a: u32| f32_to_f16(f32::from_bits(a), Rounding::Up)),
            None => return Err(m.unknown()),
        },
        (Type::Bf16, Type::F32) if plain => match rounding {
            Some(Rounding::Nearest) => map!(|a: u32| f32_to_bf16(f32::from_bits(a), Rounding::Nearest)),
            Some(Rounding::Zero) => map!(|a: u32| f32_to_bf16(f32::from_bits(a), Rounding::Zero)),
            _ => return Err(m.unknown()),
        },
        (Type::F64, Type::F32) if plain => return Ok(Widen(map!(|a: u32| f64::from(f32::from_bits(a)).to_bits()))),
        (Type::F64, Type::F16) if plain => return Ok(Widen(map!(|a: u32| f64::from(f16_to_f32(a)).to_bits()))),
        (Type::F32, Type::F64) if plain => {
            return Ok(Narrow(match rounding {
                Some(Rounding::Nearest) => map!(|a: u64| (f64::from_bits(a) as f32).to_bits()),
                Some(Rounding::Zero) => map!(|a: u64| f64_to_f32(f64::from_bits(a), Rounding::Zero).to_bits()),
                Some(Rounding::Down) => map!(|a: u64| f64_to_f32(f64::from_bits(a), Rounding::Down).to_bits()),
                Some(Rounding::Up) => map!(|a: u64| f64_to_f32(f64::from_bits(a), Rounding::Up).to_bits()),
                None => return Err(m.unknown()),
            }));
        }
        (Type::F64, Type::F64) if !ftz && !saturate => {
            return Ok(Long(match whole_mode {
                Some(b'n') => map!(|a: u64| integral(f64::from_bits(a), b'n').to_bits()),
                Some(b'z') => map!(|a: u64| integral(f64::from_bits(a), b'z').to_bits()),
                Some(b'm') => map!(|a: u64| integral(f64::from_bits(a), b'm').to_bits()),
                Some(_) => map!(|a: u64| integral(f64::from_bits(a), b'p').to_bits()),
                None => map!(|a: u64| a),
            }));
        }
        _ => return Err(m.unknown()),
    };
    Ok(Short(short))
}

/// Between 0 and 1; NaN becomes 0.
fn clamped(value: f32) -> u32 {
    if value > 0.0 { value.min(1.0).to_bits() } else { 0 }
}

/// `cvt.rn.bf16x2.f32 d, a, b`: `a` in the upper half.
fn packed(
    decoder: &mut Decoder<'_>,
    m: &mut Modifiers<'_>,
    to: Type,
    from: Type,
    operands: &[Operand],
) -> Result<Op, LoadError> {
    let rounding = rounding(m);
    let relu = m.take("relu");
    let f: Map2<u32, u32, u32> = match (to, from, rounding, relu) {
        (Type::Bf16x2, Type::F32, Some(Rounding::Nearest), false) => map!(|a: u32, b: u32| {
            f32_to_bf16(f32::from_bits(a), Rounding::Nearest) << 16 | f32_to_bf16(f32::from_bits(b), Rounding::Nearest)
        }),
        (Type::Bf16x2, Type::F32, Some(Rounding::Zero), false) => map!(|a: u32, b: u32| {
            f32_to_bf16(f32::from_bits(a), Rounding::Zero) << 16 | f32_to_bf16(f32::from_bits(b), Rounding::Zero)
        }),
        (Type::Bf16x2, Type::F32, Some(Rounding::Nearest), true) => map!(|a: u32, b: u32| {
            f32_to_bf16(positive(f32::from_bits(a)), Rounding::Nearest) << 16
                | f32_to_bf16(positive(f32::from_bits(b)), Rounding::Nearest)
        }),
        (Type::F16x2, Type::F32, Some(Rounding::Nearest), false) => map!(|a: u32, b: u32| {
            f32_to_f16(f32::from_bits(a), Rounding::Nearest) << 16 | f32_to_f16(f32::from_bits(b), Rounding::Nearest)
        }),
        _ => return Err(m.unknown()),
    };
    let [d, a, b] = decoder.exactly(operands)?;
    Ok(Op::Map2 { f, a: decoder.short(a, from)?, b: decoder.short(b, from)?, d: decoder.written_short(d)? })
}

/// `.relu`: negative numbers become zero, NaN stays.
fn positive(value: f32) -> f32 {
    if value.is_nan() {
        f32::from_bits(CANONICAL_NAN)
    } else if value > 0.0 {
        value
    } else {
        0.0
    }
}
