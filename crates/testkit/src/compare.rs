//! Comparing a result with the f64 reference, element by element; NaN and infinity never pass.

use sphereface_tensor::{Cosine, DType};

/// How far a result may be from the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    /// `|found − expected| ≤ factor · Σ|a·b|`, the sum of the magnitudes of the products that make up the element.
    Products(f64),
    /// `|found − expected| ≤ factor · max|expected|`.
    Largest(f64),
    /// Bit for bit what the reference says after rounding.
    Exact,
}

/// The largest error, as a multiple of what the tolerance's factor multiplies; a bf16 element may be half an ulp further
/// away, a cosine half a step.
///
/// `magnitudes` are the sums of the magnitudes of the products, or empty for the other tolerances.
///
/// # Errors
/// The first element that is not finite or outside the tolerance.
///
/// # Panics
/// When lengths differ.
pub fn largest_error(
    dtype: DType,
    found: &[f64],
    expected: &[f64],
    magnitudes: &[f64],
    tolerance: Tolerance,
) -> Result<f64, String> {
    assert_eq!(found.len(), expected.len(), "length");
    let largest = expected.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    let mut worst = 0.0f64;
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let (factor, scale) = match tolerance {
            Tolerance::Products(factor) => (factor, magnitudes[i].abs()),
            Tolerance::Largest(factor) => (factor, largest),
            Tolerance::Exact => (0.0, expected.abs()),
        };
        let smallest = if tolerance == Tolerance::Exact { 0.0 } else { f64::from(f32::MIN_POSITIVE) };
        let bound = factor * scale + smallest;
        let bound = bound
            + match dtype {
                _ if tolerance == Tolerance::Exact => 0.0,
                // Eight bits of significand: half an ulp is at most 2⁻⁸ of the value before rounding.
                DType::Bf16 => (expected.abs() + bound) / 256.0,
                DType::Cosine => 0.5 / f64::from(Cosine::STEPS),
                DType::F32 | DType::U32 | DType::U8 => 0.0,
            };
        let error = (found - expected).abs();
        if !found.is_finite() || !expected.is_finite() || error > bound {
            return Err(format!("element {i}: found {found}, expected {expected}, error {error:e} > {bound:e}"));
        }
        worst = worst.max(error / scale.max(f64::from(f32::MIN_POSITIVE)));
    }
    Ok(worst)
}

/// [`largest_error`] of values that must be close.
///
/// # Panics
/// When lengths differ, an element is not finite or outside the tolerance.
pub fn assert_close(
    name: &str,
    dtype: DType,
    found: &[f64],
    expected: &[f64],
    magnitudes: &[f64],
    tolerance: Tolerance,
) -> f64 {
    largest_error(dtype, found, expected, magnitudes, tolerance).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_values_pass() {
        assert_close("sum", DType::F32, &[1.0 + 1e-7], &[1.0], &[1.0], Tolerance::Products(1e-6));
        assert_close("largest", DType::F32, &[1e-7, 1.0], &[0.0, 1.0], &[], Tolerance::Largest(1e-6));
    }

    #[test]
    fn far_values_and_nan_fail() {
        let fails = |found: f64, expected: f64| {
            std::panic::catch_unwind(|| {
                assert_close("x", DType::F32, &[found], &[expected], &[1.0], Tolerance::Products(1e-6));
            })
            .is_err()
        };
        assert!(
            fails(1.1, 1.0) && fails(f64::NAN, 1.0) && fails(f64::NAN, f64::NAN) && fails(f64::INFINITY, f64::INFINITY)
        );
    }
}
