//! Estimates with their 95% intervals.

/// 97.5% point of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

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

/// 97.5% point of Student's t, by bisection of its tails.
fn student(degrees: usize) -> f64 {
    let (mut low, mut high) = (0.0, 16.0); // One degree of freedom has the highest, 12.7.
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if tails(middle, degrees) > 0.05 {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// Probability that Student's t lies further from zero than `t`, at a whole number of degrees of freedom.
///
/// # Source
/// Abramowitz & Stegun 26.7.3 and 26.7.4: a finite sum, exact up to rounding (absolute, about 1e-15).
fn tails(t: f64, degrees: usize) -> f64 {
    let degrees = degrees.max(1);
    let angle = (t.abs() / (degrees as f64).sqrt()).atan();
    let (sin, cos) = angle.sin_cos();
    let odd = degrees % 2;
    // Terms cos^odd, cos^(odd + 2), … up to cos^(degrees - 2); each is the one before times cos² (i - 1) / i.
    let (mut term, mut sum) = (if odd == 1 { cos } else { 1.0 }, 0.0);
    for i in (odd + 2..=degrees).step_by(2) {
        sum += term;
        term *= cos * cos * (i - 1) as f64 / i as f64;
    }
    let inside = if odd == 1 { (angle + sin * sum) / std::f64::consts::FRAC_PI_2 } else { sin * sum };
    (1.0 - inside).clamp(0.0, 1.0)
}

/// A paired t-test: whether the differences of pairs have a mean other than zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PairedTest {
    /// Mean difference.
    pub(crate) mean: f64,
    /// Student's t of it.
    pub(crate) t: f64,
    /// Two-sided probability of such a t, or a larger one, if the mean were zero.
    pub(crate) p: f64,
}

/// Fewest pairs that are tested: two leave one degree of freedom, with which nothing can be told.
pub(crate) const FEWEST_PAIRS: usize = 3;

/// Tests differences; `None` where there are fewer than three, or where all are the same number other than zero: then
/// there is no spread to hold them against.
pub(crate) fn paired_test(differences: &[f64]) -> Option<PairedTest> {
    let count = differences.len();
    if count < FEWEST_PAIRS {
        return None;
    }
    let centre = mean(differences);
    let squares: f64 = differences.iter().map(|d| (d - centre).powi(2)).sum();
    let error = (squares / (count - 1) as f64 / count as f64).sqrt();
    // Accuracies of up to 1 are known to 1e-16; a spread below this is their rounding.
    const ROUNDING: f64 = 1e-12;
    match (centre.abs() < ROUNDING, error < ROUNDING) {
        (true, true) => Some(PairedTest { mean: 0.0, t: 0.0, p: 1.0 }),
        (false, true) => None,
        _ => Some(PairedTest { mean: centre, t: centre / error, p: tails(centre / error, count - 1) }),
    }
}

/// Holm's correction of the p-values of several tests: rejecting all below 0.05 then errs once in twenty times at most.
///
/// # Source
/// Holm 1979, A simple sequentially rejective multiple test procedure.
pub(crate) fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut corrected = vec![0.0; p.len()];
    let mut largest = 0.0_f64;
    for (rank, &at) in order.iter().enumerate() {
        largest = largest.max((p[at] * (p.len() - rank) as f64).min(1.0));
        corrected[at] = largest;
    }
    corrected
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
    fn student_matches_scipy() {
        // scipy.stats.t.ppf(0.975, degrees), SciPy 1.17.1.
        for (degrees, t) in [
            (1, 12.706_204_736_174_694),
            (2, 4.302_652_729_749_462),
            (9, 2.262_157_162_798_205),
            (40, 2.021_075_390_306_273),
            (120, 1.979_930_405_082_440_2),
        ] {
            close(student(degrees), t, 1e-11);
        }
        // 2 * scipy.stats.t.sf(t, degrees).
        for (t, degrees, p) in [
            (0.5, 1, 0.704_832_764_699_133_5),
            (2.0, 2, 0.183_503_419_072_273_97),
            (3.0, 3, 0.057_668_885_622_437_3),
            (-2.5, 4, 0.066_766_544_811_988_14),
            (1.3, 7, 0.234_767_835_392_377_25),
            (0.1, 30, 0.921_009_611_790_271_2),
            (4.0, 99, 0.000_122_251_527_571_113_13),
        ] {
            close(tails(t, degrees), p, 1e-13);
        }
    }

    #[test]
    fn paired_test_matches_scipy() {
        // scipy.stats.ttest_rel, SciPy 1.17.1.
        let a = [0.9893, 0.9901, 0.9887, 0.9899, 0.9895];
        let b = [0.9889, 0.9890, 0.9880, 0.9897, 0.9885];
        let c = [0.9890, 0.9902, 0.9885, 0.9901, 0.9893];
        for (x, y, t, p) in [
            (a, b, 3.965_840_535_934_489, 0.016_596_318_425_214_168),
            (a, c, 0.825_136_997_007_205_2, 0.455_659_539_957_884_6),
            (c, b, 3.207_134_902_949_076_3, 0.032_677_923_336_803_506),
        ] {
            let differences: Vec<f64> = x.iter().zip(y).map(|(x, y)| x - y).collect();
            let found = paired_test(&differences).expect("five pairs are enough");
            close(found.t, t, 1e-9);
            close(found.p, p, 1e-11);
        }
    }

    #[test]
    fn paired_test_says_nothing_without_a_spread() {
        assert_eq!(paired_test(&[0.1, 0.2]), None);
        assert_eq!(paired_test(&[0.99 - 0.98, 0.97 - 0.96, 0.98 - 0.97]), None);
        assert_eq!(paired_test(&[0.0; 3]).map(|test| test.p), Some(1.0));
    }

    #[test]
    fn holm_multiplies_by_the_tests_that_are_left() {
        // By hand: 0.01 * 4, 0.02 * 3, then 0.03 * 2 = 0.06 again and 0.04 * 1 raised to it.
        let corrected = holm(&[0.04, 0.01, 0.03, 0.02]);
        for (found, expected) in corrected.iter().zip([0.06, 0.04, 0.06, 0.06]) {
            close(*found, expected, 1e-15);
        }
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
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
    fn quantile_ignores_gaps() {
        let values = [f64::NAN, 3.0, 1.0, 2.0, f64::INFINITY];
        assert_eq!(quantile(values.into_iter(), 0.5), Some(2.0));
        assert_eq!(quantile([f64::NAN].into_iter(), 0.5), None);
    }
}
