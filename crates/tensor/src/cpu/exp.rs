//! The exponential function without branches or tables, so that a loop over it becomes vectors.

/// Below it even half of the smallest subnormal is more than the result: 0.
const LOWEST: f32 = -104.0;
/// Above it the result is infinite.
const HIGHEST: f32 = 89.0;
/// Adding and subtracting it rounds to a whole number, which stands in the low bits of the sum.
const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³
/// ln 2 in two parts: a product of the first with a whole number below 2⁹ is exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// `(eʳ − 1 − r) / r²` for `|r| ≤ ln 2 / 2`, highest power first (Moshier, Cephes `expf`).
const POLYNOMIAL: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

/// `eˣ`, wrong by less than 1.1 units in the last place, for results below the smallest normal number by less than 1.1 of
/// the smallest one; the same bits on every machine, as it needs no fused multiply-add.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let x = x.clamp(LOWEST, HIGHEST); // NaN stays
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2[0]) - n * LN_2[1];
    let polynomial = POLYNOMIAL.iter().fold(0.0, |sum, coefficient| sum * r + coefficient);
    let power = polynomial * (r * r) + r + 1.0;
    // 2ⁿ in two factors, as n may be beyond what one exponent holds.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    let two_to = |n: i32| f32::from_bits((n.wrapping_add(127) << 23) as u32);
    power * two_to(half) * two_to(n.wrapping_sub(half))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance from the exact value, in units of the last place of the nearest float.
    fn error(x: f32) -> f64 {
        let exact = f64::from(x).exp();
        let nearest = (exact as f32).max(f32::MIN_POSITIVE);
        let unit = f64::from(nearest.next_up()) - f64::from(nearest);
        (f64::from(exp(x)) - exact).abs() / unit
    }

    /// Every 101st float whose exponential is neither 0 nor infinite, of either sign.
    #[test]
    fn results_are_within_the_stated_error() {
        let worst = |to: f32, sign: f32| {
            (0..=to.to_bits()).step_by(101).map(|bits| error(sign * f32::from_bits(bits))).fold(0.0, f64::max)
        };
        let (above, below) = (worst(88.722_83, 1.0), worst(103.97, -1.0));
        assert!(above < 1.1 && below < 1.1, "{above} {below}");
    }

    #[test]
    fn ends_of_the_range_are_zero_and_infinity() {
        for zero in [-103.98, -104.0, -1e4, f32::MIN, f32::NEG_INFINITY] {
            assert_eq!(exp(zero), 0.0, "{zero}");
        }
        for infinite in [88.723, 89.0, 1e4, f32::MAX, f32::INFINITY] {
            assert_eq!(exp(infinite), f32::INFINITY, "{infinite}");
        }
        assert_eq!((exp(0.0), exp(-0.0)), (1.0, 1.0));
        assert!(exp(88.722_83).is_finite() && exp(-103.97) > 0.0);
        assert!(exp(f32::NAN).is_nan() && exp(-f32::NAN).is_nan());
    }
}
