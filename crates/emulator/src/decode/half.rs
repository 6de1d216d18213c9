//! Arithmetic in f16 and bf16, single and in pairs. Every result is rounded once.

use super::{Decoder, Modifiers, integer};
use crate::LoadError;
use crate::instruction::Op;
use crate::lanes::{Map1, Map2, Map3, map};
use crate::number::{Rounding, add_to_odd, bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16, f64_to_f32_odd};
use crate::ptx::{Operand, Type};

/// `a · b + c` of 16-bit numbers, by their conversions.
fn fma(a: u32, b: u32, c: u32, from: fn(u32) -> f32, to: fn(f32, Rounding) -> u32) -> u32 {
    let wide = |bits| f64::from(from(bits & 0xffff));
    // The product is exact; both later roundings are to odd, so that the last one decides alone.
    let sum = add_to_odd(wide(a) * wide(b), wide(c));
    to(f64_to_f32_odd(sum), Rounding::Nearest)
}

fn fma_f16(a: u32, b: u32, c: u32) -> u32 {
    fma(a, b, c, f16_to_f32, f32_to_f16)
}

fn fma_bf16(a: u32, b: u32, c: u32) -> u32 {
    fma(a, b, c, bf16_to_f32, f32_to_bf16)
}

fn smaller(a: u32, b: u32, from: fn(u32) -> f32) -> u32 {
    let (a, b) = (a & 0xffff, b & 0xffff);
    let (x, y) = (from(a), from(b));
    if x.is_nan() && y.is_nan() {
        0x7fff
    } else if x.is_nan() || y < x || (y == x && y.is_sign_negative()) {
        b
    } else {
        a
    }
}

fn larger(a: u32, b: u32, from: fn(u32) -> f32) -> u32 {
    let (a, b) = (a & 0xffff, b & 0xffff);
    let (x, y) = (from(a), from(b));
    if x.is_nan() && y.is_nan() {
        0x7fff
    } else if x.is_nan() || y > x || (y == x && y.is_sign_positive()) {
        b
    } else {
        a
    }
}

/// One and minus zero, the neutral elements: `a + b = a · 1 + b` and `a · b = a · b + (−0)`.
const F16_ONE: u32 = 0x3c00;
const BF16_ONE: u32 = 0x3f80;
const MINUS_ZERO: u32 = 0x8000;

/// The operation on both halves of a register.
fn pair(low: u32, high: u32) -> u32 {
    low & 0xffff | high << 16
}

/// `$single` as it is, or on both halves.
macro_rules! one_or_pair {
    ($paired:expr, |$($x:ident),+| $single:expr) => {
        if $paired {
            map!(|$($x: u32),+| pair({ $single }, { $(let $x = $x >> 16;)+ $single }))
        } else {
            map!(|$($x: u32),+| $single)
        }
    };
}

/// `fma`, `add`, `sub`, `mul`, `min`, `max`, `abs`, `neg`.
pub(super) fn decode(
    decoder: &mut Decoder<'_>,
    m: &mut Modifiers<'_>,
    kind: Type,
    operands: &[Operand],
) -> Result<Op, LoadError> {
    let paired = matches!(kind, Type::F16x2 | Type::Bf16x2);
    let brain = matches!(kind, Type::Bf16 | Type::Bf16x2);
    let head = m.head();
    m.take("rn");
    match head {
        "fma" => {
            let f: Map3<u32, u32, u32, u32> = if brain {
                one_or_pair!(paired, |a, b, c| fma_bf16(a, b, c))
            } else {
                one_or_pair!(paired, |a, b, c| fma_f16(a, b, c))
            };
            integer::short3(decoder, operands, f, [Type::B32; 3])
        }
        "abs" | "neg" => {
            let f: Map1<u32, u32> = match (head, paired) {
                ("abs", true) => map!(|a: u32| a & 0x7fff_7fff),
                ("abs", false) => map!(|a: u32| a & 0x7fff),
                (_, true) => map!(|a: u32| a ^ 0x8000_8000),
                (_, false) => map!(|a: u32| a ^ 0x8000),
            };
            let [d, a] = decoder.exactly(operands)?;
            Ok(Op::Map1 { f, a: decoder.short(a, Type::B32)?, d: decoder.written_short(d)? })
        }
        _ => {
            let f: Map2<u32, u32, u32> = match (head, brain) {
                ("add", false) => one_or_pair!(paired, |a, b| fma_f16(a, F16_ONE, b)),
                ("add", true) => one_or_pair!(paired, |a, b| fma_bf16(a, BF16_ONE, b)),
                ("sub", false) => one_or_pair!(paired, |a, b| fma_f16(a, F16_ONE, b ^ 0x8000)),
                ("sub", true) => one_or_pair!(paired, |a, b| fma_bf16(a, BF16_ONE, b ^ 0x8000)),
                ("mul", false) => one_or_pair!(paired, |a, b| fma_f16(a, b, MINUS_ZERO)),
                ("mul", true) => one_or_pair!(paired, |a, b| fma_bf16(a, b, MINUS_ZERO)),
                ("min", false) => one_or_pair!(paired, |a, b| smaller(a, b, f16_to_f32)),
                ("min", true) => one_or_pair!(paired, |a, b| smaller(a, b, bf16_to_f32)),
                ("max", false) => one_or_pair!(paired, |a, b| larger(a, b, f16_to_f32)),
                ("max", true) => one_or_pair!(paired, |a, b| larger(a, b, bf16_to_f32)),
                _ => return Err(m.unknown()),
            };
            let [d, a, b] = decoder.exactly(operands)?;
            Ok(Op::Map2 {
                f,
                a: decoder.short(a, Type::B32)?,
                b: decoder.short(b, Type::B32)?,
                d: decoder.written_short(d)?,
            })
        }
    }
}
