//! Estimates with their 95% intervals.

/// 97.5% point of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// 97.5% points of Student's t for 1 to 30 degrees of freedom.
const STUDENT: [f64; 30] = [
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788, 2.1604, 2.1448,
    2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484,
    2.0452, 2.0423,
];

/// A fraction with its two-sided 95% interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) mean: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// Runs behind it; at one, the interval is that of the test set's size.
    pub(crate) runs: usize,
}

impl Estimate {
    /// Of `fractions`, one a run, each measured on `trials` images.
    pub(crate) fn of_fractions(fractions: &[f64], trials: usize) -> Self {
        let runs = fractions.len();
        let centre = mean(fractions);
        if runs < 2 {
            let (low, high) = wilson(centre, trials);
            return Self { mean: centre, low, high, runs };
        }
        let squares: f64 = fractions.iter().map(|f| (f - centre).powi(2)).sum();
        let deviation = (squares / (runs - 1) as f64).sqrt();
        let half = student(runs - 1) * deviation / (runs as f64).sqrt();
        Self { mean: centre, low: centre - half, high: centre + half, runs }
    }

    /// Half the interval's width.
    pub(crate) fn half_width(&self) -> f64 {
        (self.high - self.low) / 2.0
    }

    /// Whether the two intervals share a value.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.low <= other.high && other.low <= self.high
    }
}

/// Arithmetic mean; NaN of nothing.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The value below which the fraction `q` of the finite values lies; `None` if there is none.
pub(crate) fn quantile(values: impl Iterator<Item = f64>, q: f64) -> Option<f64> {
    let mut finite: Vec<f64> = values.filter(|v| v.is_finite()).collect();
    finite.sort_by(f64::total_cmp);
    let last = finite.len().checked_sub(1)?;
    finite.get((q * last as f64).round() as usize).copied()
}

/// 97.5% point of Student's t: a table, then the expansion in 1/ν (Abramowitz & Stegun 26.7.5).
fn student(degrees: usize) -> f64 {
    if let Some(&t) = degrees.checked_sub(1).and_then(|i| STUDENT.get(i)) {
        return t;
    }
    let v = degrees as f64;
    let first = (Z.powi(3) + Z) / 4.0;
    let second = (5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z) / 96.0;
    Z + first / v + second / (v * v)
}

/// Wilson's score interval of a fraction measured on `trials` images.
fn wilson(fraction: f64, trials: usize) -> (f64, f64) {
    let n = trials.max(1) as f64;
    let z2 = Z * Z;
    let centre = (fraction + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let spread = (fraction * (1.0 - fraction) / n + z2 / (4.0 * n * n)).max(0.0).sqrt();
    let half = Z * spread / (1.0 + z2 / n);
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} is not within {tolerance} of {b}");
    }

    #[test]
    fn student_matches_published_quantiles() {
        for (degrees, t) in [(1, 12.7062), (2, 4.3027), (9, 2.2622), (40, 2.0211), (120, 1.9799)] {
            close(student(degrees), t, 1e-4);
        }
    }

    #[test]
    fn wilson_bounds_solve_their_equation() {
        // Roots of (p − q)² = z² q (1 − q) / n, found by bisection.
        let (low, high) = wilson(0.99, 10_000);
        close(low, 0.987_853, 1e-6);
        close(high, 0.991_771, 1e-6);
        let (low, high) = wilson(1.0, 10);
        close(low, 0.722_47, 1e-5);
        close(high, 1.0, 1e-12);
    }

    #[test]
    fn several_runs_give_the_student_interval() {
        // Mean 0.99, deviation 0.001, three runs: 4.3027 * 0.001 / sqrt(3).
        let estimate = Estimate::of_fractions(&[0.989, 0.990, 0.991], 10_000);
        close(estimate.mean, 0.99, 1e-12);
        close(estimate.half_width(), 0.002_484_2, 1e-7);
        assert_eq!(estimate.runs, 3);
    }

    #[test]
    fn intervals_overlap_when_they_share_a_value() {
        let at = |low, high| Estimate { mean: (low + high) / 2.0, low, high, runs: 2 };
        assert!(at(0.1, 0.3).overlaps(&at(0.3, 0.5)));
        assert!(at(0.1, 0.5).overlaps(&at(0.2, 0.3)));
        assert!(!at(0.1, 0.2).overlaps(&at(0.3, 0.5)));
    }

    #[test]
    fn quantile_ignores_gaps() {
        let values = [f64::NAN, 3.0, 1.0, 2.0, f64::INFINITY];
        assert_eq!(quantile(values.into_iter(), 0.5), Some(2.0));
        assert_eq!(quantile([f64::NAN].into_iter(), 0.5), None);
    }
}
