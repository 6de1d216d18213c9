//! Sums of products of two vectors in f64, for norms and cosines.

use pulp::{Arch, NullaryFnOnce};

/// Sums that are kept side by side: whole vectors on every instruction set.
const LANES: usize = 16;

/// `a · b`; the order of the sum depends on the length alone.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    Arch::new().dispatch(Dot { a, b })
}

/// The work of [`dot`]. A type, not a closure, since only `call` can be inlined by force into the code that is compiled
/// for each instruction set.
struct Dot<'a> {
    a: &'a [f32],
    b: &'a [f32],
}

impl NullaryFnOnce for Dot<'_> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        let ((a, rest_a), (b, rest_b)) = (self.a.as_chunks::<LANES>(), self.b.as_chunks::<LANES>());
        let mut sums = [0.0; LANES];
        for (a, b) in a.iter().zip(b) {
            for lane in 0..LANES {
                sums[lane] += f64::from(a[lane]) * f64::from(b[lane]);
            }
        }
        let rest: f64 = rest_a.iter().zip(rest_b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        sums.iter().sum::<f64>() + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_product_is_in_the_sum_once() {
        for length in [0, 1, 2, 15, 16, 17, 50] {
            let a: Vec<f32> = (0..length).map(|i| i as f32 + 1.0).collect();
            let b: Vec<f32> = (0..length).map(|i| 3.0 - i as f32).collect();
            let expected: f64 = (0..length).map(|i| f64::from(i + 1) * f64::from(3 - i)).sum();
            assert_eq!(dot(&a, &b), expected, "{length}");
        }
    }
}
