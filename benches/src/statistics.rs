//! Medians and quartiles.

use serde::{Deserialize, Serialize};

/// The middle half of some samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Half of the samples are below.
    pub median: f64,
    /// A quarter of the samples is below.
    pub low: f64,
    /// A quarter of the samples is above.
    pub high: f64,
    /// Number of samples.
    pub samples: usize,
}

impl Spread {
    /// The spread of these samples, if there are any, to five significant digits.
    pub fn of(samples: &[f64]) -> Option<Spread> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        // Between two samples it is interpolated linearly.
        let quantile = |fraction: f64| {
            let at = fraction * last as f64;
            let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
            significant(below + (above - below) * at.fract())
        };
        Some(Spread { median: quantile(0.5), low: quantile(0.25), high: quantile(0.75), samples: sorted.len() })
    }

    /// The same samples, each multiplied by a positive factor.
    pub fn times(self, factor: f64) -> Spread {
        let Spread { median, low, high, samples } = self;
        Spread { median: median * factor, low: low * factor, high: high * factor, samples }
    }
}

/// The nearest number of five significant digits: more of them would be noise.
pub fn significant(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_those_of_the_sorted_samples() {
        let spread = Spread::of(&[5.0, 1.0, 3.0, 2.0, 4.0]).unwrap();
        assert_eq!(spread, Spread { median: 3.0, low: 2.0, high: 4.0, samples: 5 });
        let two = Spread::of(&[2.0, 1.0]).unwrap();
        assert_eq!((two.low, two.median, two.high), (1.25, 1.5, 1.75));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn five_digits_are_kept() {
        assert_eq!(significant(0.001_234_567_8), 0.001_234_6);
        assert_eq!(significant(123_456_789.0), 123_460_000.0);
    }
}
