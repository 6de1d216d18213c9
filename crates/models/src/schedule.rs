//! Learning rate and λ as tables over the steps of a training, computed in f64.

/// Learning rate over a training.
#[derive(Clone, Debug, PartialEq)]
pub enum Rate {
    /// Rises linearly to `peak` over the first `warm_up` of the steps, then falls as a half cosine to 0.
    Cosine {
        /// Largest rate.
        peak: f64,
        /// Fraction of the steps in which it rises.
        warm_up: f64,
    },
    /// Starts at `start` and is multiplied by `factor` at each of the fractions of the steps.
    Steps {
        /// First rate.
        start: f64,
        /// What it is multiplied with.
        factor: f64,
        /// Fractions of the steps, ascending.
        at: Vec<f64>,
    },
}

impl Rate {
    /// The rate of each of `steps` steps.
    pub fn table(&self, steps: usize) -> Vec<f64> {
        (0..steps).map(|step| self.at(step as f64 / steps as f64, 1.0 / steps as f64)).collect()
    }

    /// The rate when `done` of the training is over; the first step is not of rate 0.
    fn at(&self, done: f64, one_step: f64) -> f64 {
        match self {
            Rate::Cosine { peak, warm_up } if done < *warm_up => peak * ((done + one_step) / warm_up).min(1.0),
            Rate::Cosine { peak, warm_up } => {
                let falling = (done - warm_up) / (1.0 - warm_up);
                peak * 0.5 * (1.0 + (std::f64::consts::PI * falling).cos())
            }
            Rate::Steps { start, factor, at } => {
                start * factor.powi(at.iter().filter(|&&at| done >= at).count() as i32)
            }
        }
    }
}

/// λ over a training: the weight of the plain cosine beside the margin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lambda {
    /// `start · (1 − done / until)²`, then 0: the pure margin.
    Quadratic {
        /// First value.
        start: f64,
        /// Fraction of the steps after which it is 0.
        until: f64,
    },
    /// `max(minimum, base · (1 + gamma · step)^−power)`, the authors' schedule; `step` is counted from `first`.
    Inverse {
        /// Value at step 0.
        base: f64,
        /// How fast it falls.
        gamma: f64,
        /// With which power.
        power: f64,
        /// Smallest value.
        minimum: f64,
        /// Number of the first step.
        first: usize,
    },
}

impl Lambda {
    /// λ of each of `steps` steps.
    pub fn table(&self, steps: usize) -> Vec<f64> {
        (0..steps)
            .map(|step| match *self {
                Lambda::Quadratic { start, until } => {
                    let left = (1.0 - step as f64 / (until * steps as f64)).max(0.0);
                    start * left * left
                }
                Lambda::Inverse { base, gamma, power, minimum, first } => {
                    (base * (1.0 + gamma * (first + step) as f64).powf(-power)).max(minimum)
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_rate_rises_to_its_peak_and_falls_to_zero() {
        let table = Rate::Cosine { peak: 0.05, warm_up: 0.1 }.table(1000);
        assert!(table[0] > 0.0 && table[0] < 0.001);
        assert!((table[99] - 0.05).abs() < 1e-12 && (table[100] - 0.05).abs() < 1e-12);
        assert!(table.windows(2).skip(100).all(|pair| pair[1] <= pair[0]));
        assert!(table[999] < 1e-5);
    }

    #[test]
    fn stepped_rate_falls_at_its_fractions() {
        let table = Rate::Steps { start: 0.1, factor: 0.1, at: vec![16.0 / 28.0, 24.0 / 28.0] }.table(28_000);
        assert_eq!(table[15_999], 0.1);
        assert!((table[16_000] - 0.01).abs() < 1e-15 && (table[24_000] - 0.001).abs() < 1e-15);
    }

    #[test]
    fn lambda_ends_at_zero_or_at_its_minimum() {
        let quadratic = Lambda::Quadratic { start: 20.0, until: 0.6 }.table(100);
        assert_eq!((quadratic[0], quadratic[60], quadratic[99]), (20.0, 0.0, 0.0));
        let from = |first| Lambda::Inverse { base: 1000.0, gamma: 0.12, power: 1.0, minimum: 5.0, first }.table(2000);
        let official = from(0);
        assert_eq!(from(1)[..1999], official[1..]);
        assert_eq!((official[0], official[1999]), (1000.0, 5.0));
        assert!((official[1] - 1000.0 / 1.12).abs() < 1e-9);
    }
}
