//! Cosines in 16 bits.

use bytemuck::{Pod, Zeroable};

/// A cosine, to the nearest multiple of 1/32,512: wrong by at most 1.54e-5 wherever it lies.
///
/// What counts is a logit's absolute error, as it multiplies a softmax: at a scale of 64 this one is 0.1%. bf16, with the
/// same bits, is wrong by 2⁻⁹ of a cosine near 1: 13% of the softmax, and fp16 by 2⁻¹²: 1.6%. There is room beyond ±1 for
/// directions that were rounded to bf16, whose products reach (1 + 2⁻⁸)². NaN is taken for 0: a row that has one has it in
/// its log-sum-exp, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Cosine(i16);

impl Cosine {
    /// What a cosine of 1 is a multiple of.
    pub const STEPS: u16 = 32_512;

    /// The nearest to this cosine.
    pub fn new(cosine: f32) -> Self {
        let steps = (cosine * f32::from(Self::STEPS)).round_ties_even();
        Cosine(steps.clamp(f32::from(-i16::MAX), f32::from(i16::MAX)) as i16)
    }

    /// Its value.
    pub fn value(self) -> f32 {
        f32::from(self.0) / f32::from(Self::STEPS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_come_back_within_half_a_step() {
        let half = 0.5 / f32::from(Cosine::STEPS);
        for i in -1007..=1007_i16 {
            let cosine = f32::from(i) / 1000.0;
            let error = (Cosine::new(cosine).value() - cosine).abs();
            assert!(error <= half * 1.001, "{cosine}: {error}");
        }
        assert_eq!([-1.0, 0.0, 1.0].map(|cosine| Cosine::new(cosine).value()), [-1.0, 0.0, 1.0]);
    }

    #[test]
    fn what_is_no_cosine_is_the_nearest_or_zero() {
        assert_eq!(Cosine::new(f32::INFINITY), Cosine(i16::MAX));
        assert_eq!(Cosine::new(-2.0), Cosine(-i16::MAX));
        assert_eq!(Cosine::new(f32::NAN), Cosine(0));
    }
}
