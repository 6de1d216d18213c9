//! Arithmetic and functions in `f32` and `f64`.
//!
//! `.approx` instructions return the `f32` nearest to the function's value, which lies within every documented error.

use super::{Decoder, Modifiers};
use crate::LoadError;
use crate::instruction::Op;
use crate::lanes::{Map1, Map2, Map3, Test1, fma_f32, fma_f64, map, test};
use crate::number::{CANONICAL_NAN, Rounding, add_to_odd, f64_to_f32, flush, result};
use crate::ptx::{Operand, Type};

/// A lane's bits as a number.
fn f(bits: u32) -> f32 {
    f32::from_bits(bits)
}

/// The same, subnormal numbers flushed.
fn z(bits: u32) -> f32 {
    flush(f32::from_bits(bits))
}

/// A result, subnormal numbers flushed.
fn zb(value: f32) -> u32 {
    result(flush(value))
}

/// A result between 0 and 1; NaN becomes 0.
fn saturated(value: f32) -> u32 {
    if value > 0.0 { value.min(1.0).to_bits() } else { 0 }
}

fn min_f32(a: f32, b: f32) -> u32 {
    if a.is_nan() && b.is_nan() {
        CANONICAL_NAN
    } else if a.is_nan() || (b < a) || (b == a && b.is_sign_negative()) {
        b.to_bits()
    } else {
        a.to_bits()
    }
}

fn max_f32(a: f32, b: f32) -> u32 {
    if a.is_nan() && b.is_nan() {
        CANONICAL_NAN
    } else if a.is_nan() || (b > a) || (b == a && b.is_sign_positive()) {
        b.to_bits()
    } else {
        a.to_bits()
    }
}

/// `min.NaN` and `max.NaN`: a NaN wins.
fn or_nan(a: f32, b: f32, other: u32) -> u32 {
    if a.is_nan() || b.is_nan() { CANONICAL_NAN } else { other }
}

fn min_f64(a: u64, b: u64) -> u64 {
    let (x, y) = (f64::from_bits(a), f64::from_bits(b));
    if x.is_nan() || (y < x) || (y == x && y.is_sign_negative()) { b } else { a }
}

fn max_f64(a: u64, b: u64) -> u64 {
    let (x, y) = (f64::from_bits(a), f64::from_bits(b));
    if x.is_nan() || (y > x) || (y == x && y.is_sign_positive()) { b } else { a }
}

/// `add`, `sub`, `mul`, `fma`, `mad`, `div`, `min`, `max`, `abs`, `neg`.
pub(super) fn decode(
    decoder: &mut Decoder<'_>,
    m: &mut Modifiers<'_>,
    kind: Type,
    operands: &[Operand],
) -> Result<Op, LoadError> {
    if kind == Type::F64 {
        return double(decoder, m, operands);
    }
    let ftz = m.take("ftz");
    let head = m.head();
    match head {
        "abs" | "neg" => {
            let f: Map1<u32, u32> = match (head, ftz) {
                ("abs", false) => map!(|a: u32| a & 0x7fff_ffff),
                ("abs", true) => map!(|a: u32| zb(f(a).abs())),
                (_, false) => map!(|a: u32| a ^ 0x8000_0000),
                (_, true) => map!(|a: u32| zb(-f(a))),
            };
            unary(decoder, operands, f)
        }
        "fma" | "mad" => fused(decoder, m, ftz, operands),
        "min" | "max" => {
            let f: Map2<u32, u32, u32> = match (head, m.take("NaN"), ftz) {
                ("min", false, false) => map!(|a: u32, b: u32| min_f32(f(a), f(b))),
                ("min", false, true) => map!(|a: u32, b: u32| min_f32(z(a), z(b))),
                ("min", true, false) => map!(|a: u32, b: u32| or_nan(f(a), f(b), min_f32(f(a), f(b)))),
                ("min", true, true) => map!(|a: u32, b: u32| or_nan(f(a), f(b), min_f32(z(a), z(b)))),
                (_, false, false) => map!(|a: u32, b: u32| max_f32(f(a), f(b))),
                (_, false, true) => map!(|a: u32, b: u32| max_f32(z(a), z(b))),
                (_, true, false) => map!(|a: u32, b: u32| or_nan(f(a), f(b), max_f32(f(a), f(b)))),
                (_, true, true) => map!(|a: u32, b: u32| or_nan(f(a), f(b), max_f32(z(a), z(b)))),
            };
            binary(decoder, operands, f)
        }
        "div" => {
            // `.approx` and `.full` promise less than the exact quotient.
            m.take_any(&["approx", "full", "rn"]).ok_or_else(|| m.unknown())?;
            binary(
                decoder,
                operands,
                if ftz { map!(|a: u32, b: u32| zb(z(a) / z(b))) } else { map!(|a: u32, b: u32| result(f(a) / f(b))) },
            )
        }
        "add" | "sub" | "mul" => {
            let saturate = m.take("sat");
            let rounding = m.take_any(&["rn", "rz", "rm", "rp"]).unwrap_or("rn");
            let f: Map2<u32, u32, u32> = match (head, rounding, ftz, saturate) {
                ("add", "rn", false, false) => map!(|a: u32, b: u32| result(f(a) + f(b))),
                ("sub", "rn", false, false) => map!(|a: u32, b: u32| result(f(a) - f(b))),
                ("mul", "rn", false, false) => map!(|a: u32, b: u32| result(f(a) * f(b))),
                ("add", "rn", true, false) => map!(|a: u32, b: u32| zb(z(a) + z(b))),
                ("sub", "rn", true, false) => map!(|a: u32, b: u32| zb(z(a) - z(b))),
                ("mul", "rn", true, false) => map!(|a: u32, b: u32| zb(z(a) * z(b))),
                ("add", "rn", false, true) => map!(|a: u32, b: u32| saturated(f(a) + f(b))),
                ("sub", "rn", false, true) => map!(|a: u32, b: u32| saturated(f(a) - f(b))),
                ("mul", "rn", false, true) => map!(|a: u32, b: u32| saturated(f(a) * f(b))),
                ("add", "rz", false, false) => map!(|a: u32, b: u32| directed(f(a), 1.0, f(b), Rounding::Zero)),
                ("add", "rm", false, false) => map!(|a: u32, b: u32| directed(f(a), 1.0, f(b), Rounding::Down)),
                ("add", "rp", false, false) => map!(|a: u32, b: u32| directed(f(a), 1.0, f(b), Rounding::Up)),
                ("sub", "rz", false, false) => map!(|a: u32, b: u32| directed(f(a), 1.0, -f(b), Rounding::Zero)),
                ("sub", "rm", false, false) => map!(|a: u32, b: u32| directed(f(a), 1.0, -f(b), Rounding::Down)),
                ("sub", "rp", false, false) => map!(|a: u32, b: u32| directed(f(a), 1.0, -f(b), Rounding::Up)),
                ("mul", "rz", false, false) => map!(|a: u32, b: u32| product(f(a), f(b), Rounding::Zero)),
                ("mul", "rm", false, false) => map!(|a: u32, b: u32| product(f(a), f(b), Rounding::Down)),
                ("mul", "rp", false, false) => map!(|a: u32, b: u32| product(f(a), f(b), Rounding::Up)),
                _ => return Err(m.unknown()),
            };
            binary(decoder, operands, f)
        }
        _ => Err(m.unknown()),
    }
}

/// `a · b + c`, rounded once in any direction. The product is exact in `f64`, the sum is rounded to odd.
fn directed(a: f32, b: f32, c: f32, rounding: Rounding) -> u32 {
    result(f64_to_f32(add_to_odd(f64::from(a) * f64::from(b), f64::from(c)), rounding))
}

fn product(a: f32, b: f32, rounding: Rounding) -> u32 {
    result(f64_to_f32(f64::from(a) * f64::from(b), rounding))
}

fn fused(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, ftz: bool, operands: &[Operand]) -> Result<Op, LoadError> {
    let saturate = m.take("sat");
    let rounding = m.take_any(&["rn", "rz", "rm", "rp"]).ok_or_else(|| m.unknown())?;
    let f: Map3<u32, u32, u32, u32> = match (rounding, ftz, saturate) {
        ("rn", false, false) => fma_f32,
        ("rn", true, false) => map!(|a: u32, b: u32, c: u32| zb(z(a).mul_add(z(b), z(c)))),
        ("rn", false, true) => map!(|a: u32, b: u32, c: u32| saturated(f(a).mul_add(f(b), f(c)))),
        ("rn", true, true) => map!(|a: u32, b: u32, c: u32| saturated(flush(z(a).mul_add(z(b), z(c))))),
        ("rz", false, false) => map!(|a: u32, b: u32, c: u32| directed(f(a), f(b), f(c), Rounding::Zero)),
        ("rm", false, false) => map!(|a: u32, b: u32, c: u32| directed(f(a), f(b), f(c), Rounding::Down)),
        ("rp", false, false) => map!(|a: u32, b: u32, c: u32| directed(f(a), f(b), f(c), Rounding::Up)),
        ("rm", true, false) => map!(|a: u32, b: u32, c: u32| zb(f(directed(z(a), z(b), z(c), Rounding::Down)))),
        ("rz", true, false) => map!(|a: u32, b: u32, c: u32| zb(f(directed(z(a), z(b), z(c), Rounding::Zero)))),
        ("rp", true, false) => map!(|a: u32, b: u32, c: u32| zb(f(directed(z(a), z(b), z(c), Rounding::Up)))),
        _ => return Err(m.unknown()),
    };
    super::integer::short3(decoder, operands, f, [Type::F32; 3])
}

fn double(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Op, LoadError> {
    let head = m.head();
    match head {
        "abs" | "neg" => {
            let f: Map1<u64, u64> =
                if head == "abs" { map!(|a: u64| a & !(1 << 63)) } else { map!(|a: u64| a ^ (1 << 63)) };
            let [d, a] = decoder.exactly(operands)?;
            return Ok(Op::Long1 { f, a: decoder.long(a)?, d: decoder.written_long(d)? });
        }
        "fma" | "mad" => {
            if !m.take("rn") {
                return Err(m.unknown());
            }
            let [d, a, b, c] = decoder.exactly(operands)?;
            let (a, b, c) = (decoder.long(a)?, decoder.long(b)?, decoder.long(c)?);
            return Ok(Op::Long3 { f: fma_f64, d: decoder.written_long(d)?, a, b, c });
        }
        _ => {}
    }
    if !matches!(head, "min" | "max") && !m.take("rn") && head == "div" {
        return Err(m.unknown());
    }
    let f: Map2<u64, u64, u64> = match head {
        "add" => map!(|a: u64, b: u64| (f64::from_bits(a) + f64::from_bits(b)).to_bits()),
        "sub" => map!(|a: u64, b: u64| (f64::from_bits(a) - f64::from_bits(b)).to_bits()),
        "mul" => map!(|a: u64, b: u64| (f64::from_bits(a) * f64::from_bits(b)).to_bits()),
        "div" => map!(|a: u64, b: u64| (f64::from_bits(a) / f64::from_bits(b)).to_bits()),
        "min" => map!(|a: u64, b: u64| min_f64(a, b)),
        "max" => map!(|a: u64, b: u64| max_f64(a, b)),
        _ => return Err(m.unknown()),
    };
    let [d, a, b] = decoder.exactly(operands)?;
    Ok(Op::Long2 { f, a: decoder.long(a)?, b: decoder.long(b)?, d: decoder.written_long(d)? })
}

/// `rcp`, `sqrt`, `rsqrt`, `ex2`, `lg2`, `sin`, `cos`, `tanh`, `copysign`, `testp`.
pub(super) fn decode_function(
    decoder: &mut Decoder<'_>,
    m: &mut Modifiers<'_>,
    operands: &[Operand],
) -> Result<Op, LoadError> {
    let kind = m.kind()?;
    match m.head() {
        "testp" => return property(decoder, m, kind, operands),
        "copysign" if kind == Type::F32 => {
            // The sign of `a`, the magnitude of `b`.
            return binary(decoder, operands, map!(|a: u32, b: u32| (a & 0x8000_0000) | (b & 0x7fff_ffff)));
        }
        "copysign" if kind == Type::F64 => {
            let [d, a, b] = decoder.exactly(operands)?;
            let f: Map2<u64, u64, u64> = map!(|a: u64, b: u64| (a & (1 << 63)) | (b & !(1 << 63)));
            return Ok(Op::Long2 { f, a: decoder.long(a)?, b: decoder.long(b)?, d: decoder.written_long(d)? });
        }
        _ => {}
    }
    let ftz = m.take("ftz");
    let approximate = m.take("approx");
    let exact = !approximate && matches!(m.head(), "rcp" | "sqrt") && m.take("rn");
    if !approximate && !exact {
        return Err(m.unknown());
    }
    if kind == Type::F64 && ftz && approximate {
        // Only the upper half of source and result counts.
        let f: Map1<u64, u64> = match m.head() {
            "rcp" => map!(|a: u64| upper(1.0 / f64::from_bits(upper(f64::from_bits(a))))),
            "rsqrt" => map!(|a: u64| upper(1.0 / f64::from_bits(upper(f64::from_bits(a))).sqrt())),
            _ => return Err(m.unknown()),
        };
        let [d, a] = decoder.exactly(operands)?;
        return Ok(Op::Long1 { f, a: decoder.long(a)?, d: decoder.written_long(d)? });
    }
    if kind == Type::F64 && !ftz && !approximate {
        let f: Map1<u64, u64> = match m.head() {
            "rcp" => map!(|a: u64| (1.0 / f64::from_bits(a)).to_bits()),
            _ => map!(|a: u64| f64::from_bits(a).sqrt().to_bits()),
        };
        let [d, a] = decoder.exactly(operands)?;
        return Ok(Op::Long1 { f, a: decoder.long(a)?, d: decoder.written_long(d)? });
    }
    if kind != Type::F32 {
        return Err(m.unknown());
    }
    let f: Map1<u32, u32> = match (m.head(), ftz) {
        ("rcp", false) => map!(|a: u32| result(1.0 / f(a))),
        ("rcp", true) => map!(|a: u32| zb(1.0 / z(a))),
        ("sqrt", false) => map!(|a: u32| result(f(a).sqrt())),
        ("sqrt", true) => map!(|a: u32| zb(z(a).sqrt())),
        ("rsqrt", false) => map!(|a: u32| result(reciprocal_root(f(a)))),
        ("rsqrt", true) => map!(|a: u32| zb(reciprocal_root(z(a)))),
        ("ex2", false) => map!(|a: u32| result(f64::from(f(a)).exp2() as f32)),
        ("ex2", true) => map!(|a: u32| zb(f64::from(z(a)).exp2() as f32)),
        ("lg2", false) => map!(|a: u32| result(f64::from(f(a)).log2() as f32)),
        ("lg2", true) => map!(|a: u32| zb(f64::from(z(a)).log2() as f32)),
        ("sin", false) => map!(|a: u32| result(f64::from(f(a)).sin() as f32)),
        ("sin", true) => map!(|a: u32| zb(f64::from(z(a)).sin() as f32)),
        ("cos", false) => map!(|a: u32| result(f64::from(f(a)).cos() as f32)),
        ("cos", true) => map!(|a: u32| zb(f64::from(z(a)).cos() as f32)),
        ("tanh", false) => map!(|a: u32| result(f64::from(f(a)).tanh() as f32)),
        _ => return Err(m.unknown()),
    };
    unary(decoder, operands, f)
}

/// The upper half of an `f64`, subnormal numbers flushed.
fn upper(value: f64) -> u64 {
    (if value.is_subnormal() { 0.0_f64.copysign(value) } else { value }).to_bits() & !0xffff_ffff
}

fn reciprocal_root(value: f32) -> f32 {
    // −0 gives −∞, as 1/√(−0) does.
    (1.0 / f64::from(value).sqrt()) as f32
}

fn property(
    decoder: &mut Decoder<'_>,
    m: &mut Modifiers<'_>,
    kind: Type,
    operands: &[Operand],
) -> Result<Op, LoadError> {
    let name = m.take_any(&["finite", "infinite", "number", "notanumber", "normal", "subnormal"]);
    let name = name.ok_or_else(|| m.unknown())?;
    let [d, a] = decoder.exactly(operands)?;
    match kind {
        Type::F32 => {
            let f: Test1<u32> = match name {
                "finite" => test!(|a: u32| f(a).is_finite()),
                "infinite" => test!(|a: u32| f(a).is_infinite()),
                "number" => test!(|a: u32| !f(a).is_nan()),
                "notanumber" => test!(|a: u32| f(a).is_nan()),
                "normal" => test!(|a: u32| f(a).is_normal()),
                _ => test!(|a: u32| f(a).is_subnormal()),
            };
            Ok(Op::Property { f, a: decoder.short(a, kind)?, d: decoder.written_predicate(d)? })
        }
        Type::F64 => {
            let f: Test1<u64> = match name {
                "finite" => test!(|a: u64| f64::from_bits(a).is_finite()),
                "infinite" => test!(|a: u64| f64::from_bits(a).is_infinite()),
                "number" => test!(|a: u64| !f64::from_bits(a).is_nan()),
                "notanumber" => test!(|a: u64| f64::from_bits(a).is_nan()),
                "normal" => test!(|a: u64| f64::from_bits(a).is_normal()),
                _ => test!(|a: u64| f64::from_bits(a).is_subnormal()),
            };
            Ok(Op::PropertyLong { f, a: decoder.long(a)?, d: decoder.written_predicate(d)? })
        }
        _ => Err(m.unknown()),
    }
}

fn unary(decoder: &mut Decoder<'_>, operands: &[Operand], f: Map1<u32, u32>) -> Result<Op, LoadError> {
    let [d, a] = decoder.exactly(operands)?;
    Ok(Op::Map1 { f, a: decoder.short(a, Type::F32)?, d: decoder.written_short(d)? })
}

fn binary(decoder: &mut Decoder<'_>, operands: &[Operand], f: Map2<u32, u32, u32>) -> Result<Op, LoadError> {
    let [d, a, b] = decoder.exactly(operands)?;
    Ok(Op::Map2 { f, a: decoder.short(a, Type::F32)?, b: decoder.short(b, Type::F32)?, d: decoder.written_short(d)? })
}
