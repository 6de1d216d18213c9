//! Conversions and rounding of the number formats that PTX knows and Rust does not.

/// How a result that fits between two numbers is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    Nearest,
    Zero,
    Down,
    Up,
}

/// The NaN that GPU instructions return for `f32`.
pub(crate) const CANONICAL_NAN: u32 = 0x7fff_ffff;

/// The bits of a result in `f32`.
#[inline(always)]
pub(crate) fn result(value: f32) -> u32 {
    if value.is_nan() { CANONICAL_NAN } else { value.to_bits() }
}

/// `f32` of bf16 bits; exact.
pub(crate) fn bf16_to_f32(bits: u32) -> f32 {
    f32::from_bits(bits << 16)
}

/// bf16 bits of an `f32`.
pub(crate) fn f32_to_bf16(value: f32, rounding: Rounding) -> u32 {
    if value.is_nan() {
        return 0x7fff;
    }
    let bits = value.to_bits();
    let half_up = 0x7fff + ((bits >> 16) & 1);
    match rounding {
        Rounding::Nearest => (bits + half_up) >> 16,
        Rounding::Zero => bits >> 16,
        Rounding::Up => (bits + if value > 0.0 { 0xffff } else { 0 }) >> 16,
        Rounding::Down => (bits + if value < 0.0 { 0xffff } else { 0 }) >> 16,
    }
}

/// `f32` of f16 bits; exact.
pub(crate) fn f16_to_f32(bits: u32) -> f32 {
    let sign = (bits & 0x8000) << 16;
    let exponent = (bits >> 10) & 0x1f;
    let fraction = bits & 0x3ff;
    match exponent {
        // Subnormal: the fraction counts units of 2⁻²⁴.
        0 => f32::from_bits(sign | (fraction as f32 * f32::from_bits(0x3380_0000)).to_bits()),
        31 => f32::from_bits(sign | 0x7f80_0000 | (fraction << 13)),
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (fraction << 13)),
    }
}

/// f16 bits of an `f32`.
pub(crate) fn f32_to_f16(value: f32, rounding: Rounding) -> u32 {
    if value.is_nan() {
        return 0x7fff;
    }
    let sign = (value.to_bits() >> 16) & 0x8000;
    let magnitude = f64::from(value.abs());
    // Towards larger magnitudes?
    let away = match rounding {
        Rounding::Up => value > 0.0,
        Rounding::Down => value < 0.0,
        _ => false,
    };
    if magnitude.is_infinite() {
        return sign | 0x7c00;
    }
    // The spacing of f16 numbers around the value: 2^(e-10), at least 2⁻²⁴.
    let exponent = (((magnitude.to_bits() >> 52) as i32) - 1023).max(-14);
    let unit = f64::from_bits(((exponent - 10 + 1023) as u64) << 52);
    let steps = magnitude / unit;
    let whole = match rounding {
        Rounding::Nearest => steps.round_ties_even(),
        _ if away => steps.ceil(),
        _ => steps.floor(),
    } as u32;
    // `whole` carries the hidden bit, so a carry moves into the exponent by itself.
    let bits = if exponent == -14 && whole < 1024 { whole } else { (((exponent + 15) as u32) << 10) + whole - 1024 };
    if bits >= 0x7c00 {
        let infinite = rounding == Rounding::Nearest || away;
        return sign | if infinite { 0x7c00 } else { 0x7bff };
    }
    sign | bits
}

/// `cvt.rna.tf32.f32`: nearest, ties away from zero, to 10 bits of fraction.
pub(crate) fn f32_to_tf32_away(value: f32) -> u32 {
    if value.is_nan() {
        return CANONICAL_NAN;
    }
    if value.is_infinite() {
        return value.to_bits();
    }
    value.to_bits().wrapping_add(0x1000) & 0xffff_e000
}

/// `cvt.rn.tf32.f32` and `cvt.rz.tf32.f32`.
pub(crate) fn f32_to_tf32(value: f32, rounding: Rounding) -> u32 {
    if value.is_nan() {
        return CANONICAL_NAN;
    }
    let bits = value.to_bits();
    match rounding {
        Rounding::Nearest if value.is_finite() => (bits + 0xfff + ((bits >> 13) & 1)) & 0xffff_e000,
        _ => bits & 0xffff_e000,
    }
}

/// What the tensor core reads of a TF32 operand: the lowest 13 bits are cut.
pub(crate) fn tf32_operand(bits: u32) -> f32 {
    f32::from_bits(bits & 0xffff_e000)
}

/// `f32` nearest to an `f64`, or the neighbour that the rounding asks for.
pub(crate) fn f64_to_f32(value: f64, rounding: Rounding) -> f32 {
    let nearest = value as f32;
    let error = f64::from(nearest) - value;
    if value.is_nan() || error == 0.0 {
        return nearest;
    }
    let lower = |value: f32| if value.is_infinite() && value > 0.0 { f32::MAX } else { value.next_down() };
    let upper = |value: f32| if value.is_infinite() && value < 0.0 { f32::MIN } else { value.next_up() };
    match rounding {
        Rounding::Zero if value > 0.0 && error > 0.0 => lower(nearest),
        Rounding::Zero if value < 0.0 && error < 0.0 => upper(nearest),
        Rounding::Down if error > 0.0 => lower(nearest),
        Rounding::Up if error < 0.0 => upper(nearest),
        _ => nearest,
    }
}

/// Subnormal numbers become zero and keep their sign.
pub(crate) fn flush(value: f32) -> f32 {
    if value.is_subnormal() { f32::from_bits(value.to_bits() & 0x8000_0000) } else { value }
}

/// `a + b` rounded to odd: a later rounding to a shorter format is then right, as if done once.
pub(crate) fn add_to_odd(a: f64, b: f64) -> f64 {
    let sum = a + b;
    if !sum.is_finite() {
        return sum;
    }
    // Knuth's two-sum: the exact error of the addition.
    let back = sum - a;
    let error = (a - (sum - back)) + (b - back);
    if error == 0.0 || sum.to_bits() & 1 == 1 {
        return sum;
    }
    if error > 0.0 { sum.next_up() } else { sum.next_down() }
}

/// An `f64` rounded to odd at `f32` precision, for a second rounding to 16 bits.
pub(crate) fn f64_to_f32_odd(value: f64) -> f32 {
    let cut = f64_to_f32(value, Rounding::Zero);
    if f64::from(cut) == value || !value.is_finite() { cut } else { f32::from_bits(cut.to_bits() | 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_survives_the_way_to_f32_and_back() {
        for bits in 0..=0xffff_u32 {
            let value = f16_to_f32(bits);
            for rounding in [Rounding::Nearest, Rounding::Zero, Rounding::Down, Rounding::Up] {
                let expected = if value.is_nan() { 0x7fff } else { bits };
                assert_eq!(f32_to_f16(value, rounding), expected, "{bits:#x}");
            }
        }
    }

    #[test]
    fn f16_rounds_to_even_and_to_infinity() {
        let f16 = |value| f32_to_f16(value, Rounding::Nearest);
        assert_eq!(f16(1.0 + 1.0 / 2048.0), 0x3c00);
        assert_eq!(f16(1.0 + 3.0 / 2048.0), 0x3c02);
        assert_eq!(f16(65519.9), 0x7bff);
        assert_eq!(f16(65520.0), 0x7c00);
        assert_eq!(f32_to_f16(1e9, Rounding::Zero), 0x7bff);
        assert_eq!(f16(2.0_f32.powi(-25)), 0);
        assert_eq!(f16(-1.5 * 2.0_f32.powi(-25)), 0x8001);
    }

    #[test]
    fn bf16_rounds_to_even() {
        let bf16 = |bits| f32_to_bf16(f32::from_bits(bits), Rounding::Nearest);
        assert_eq!(bf16(0x3f80_8000), 0x3f80);
        assert_eq!(bf16(0x3f81_8000), 0x3f82);
        assert_eq!(bf16(0x3f80_8001), 0x3f81);
        assert_eq!(bf16(0x7f7f_ffff), 0x7f80);
        assert_eq!(bf16(0x7f80_0001), 0x7fff);
    }

    #[test]
    fn tf32_rounds_ties_away_from_zero() {
        assert_eq!(f32_to_tf32_away(f32::from_bits(0x3f80_1000)), 0x3f80_2000);
        assert_eq!(f32_to_tf32_away(f32::from_bits(0xbf80_1000)), 0xbf80_2000);
        assert_eq!(f32_to_tf32_away(f32::from_bits(0x3f80_0fff)), 0x3f80_0000);
        assert_eq!(f32_to_tf32(f32::from_bits(0x3f80_1000), Rounding::Nearest), 0x3f80_0000);
        assert_eq!(tf32_operand(0x3f80_1fff), 1.0);
    }

    #[test]
    fn doubles_round_in_every_direction() {
        let value = 1.0 + 1e-9;
        assert_eq!(f64_to_f32(value, Rounding::Nearest), 1.0);
        assert_eq!(f64_to_f32(value, Rounding::Up), 1.0_f32.next_up());
        assert_eq!(f64_to_f32(-value, Rounding::Down), -1.0_f32.next_up());
        assert_eq!(f64_to_f32(1.0 - 1e-9, Rounding::Zero), 1.0_f32.next_down());
        assert_eq!(f64_to_f32(1e300, Rounding::Zero), f32::MAX);
    }
}
