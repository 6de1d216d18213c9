//! Axes: what range they span, where a value stands, which ticks they carry.

/// A linear or logarithmic axis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) log: bool,
    step: f64,
}

impl Axis {
    /// From `low` to `high` exactly, with about `ticks` ticks inside.
    pub(crate) fn linear(low: f64, high: f64, ticks: usize) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, log: false, step: nice_step((high - low) / ticks.max(1) as f64) }
    }

    /// From `low` to `high` exactly, with a tick at every multiple of `step`.
    pub(crate) fn stepped(low: f64, high: f64, step: f64) -> Self {
        Self { low, high, log: false, step }
    }

    /// At least from `low` to `high`, widened to whole ticks.
    pub(crate) fn linear_rounded(low: f64, high: f64, ticks: usize) -> Self {
        let exact = Self::linear(low, high, ticks);
        let step = exact.step;
        // A thousandth of a step is rounding, not a reason for another tick.
        let low = ((exact.low / step + 1e-3).floor() * step).min(exact.low);
        let high = ((exact.high / step - 1e-3).ceil() * step).max(exact.high);
        Self { low, high, log: false, step }
    }

    /// At least from `low` to `high`, both positive, widened to 1, 2 or 5 times a power of ten.
    pub(crate) fn log(low: f64, high: f64) -> Self {
        let low = log_marks(low, low).next_back().unwrap_or(low);
        let high = log_marks(high, high * 10.0).find(|&m| m >= high).unwrap_or(high);
        let high = if high > low { high } else { low * 10.0 };
        Self { low, high, log: true, step: 0.0 }
    }

    /// Where a value stands: 0 at the low end, 1 at the high end, `None` if the axis cannot show it.
    pub(crate) fn position(&self, value: f64) -> Option<f64> {
        if !value.is_finite() || (self.log && value <= 0.0) {
            return None;
        }
        Some(if self.log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        })
    }

    /// Ticks with their labels, from low to high.
    pub(crate) fn ticks(&self) -> Vec<(f64, String)> {
        if self.log {
            let decades = (self.high / self.low).log10();
            let inside = log_marks(self.low, self.high).filter(|&m| m >= self.low * 0.999);
            let is_decade = |m: f64| (m.log10() - m.log10().round()).abs() < 1e-6;
            return inside.filter(|&m| decades < 2.2 || is_decade(m)).map(|m| (m, plain(m, 6))).collect();
        }
        let decimals = (-self.step.log10().floor()).max(0.0) as usize;
        let first = (self.low / self.step - 1e-6).ceil();
        let last = (self.high / self.step + 1e-6).floor();
        let count = (last - first).clamp(0.0, 50.0) as usize;
        (0..=count).map(|i| (first + i as f64) * self.step).map(|value| (value, fixed(value, decimals))).collect()
    }
}

/// 1, 2 and 5 times powers of ten from the last one at or below `low` up to `high`.
fn log_marks(low: f64, high: f64) -> impl DoubleEndedIterator<Item = f64> {
    let exponent = low.log10().floor() as i32;
    let last = high.log10().ceil() as i32;
    let marks: Vec<f64> = (exponent..=last)
        .flat_map(|e| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(e)))
        .filter(|&m| m <= high * 1.001)
        .collect();
    marks.into_iter()
}

fn nice_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let digit = rough / power;
    power * [1.0, 2.0, 5.0].into_iter().find(|&d| digit <= d * 1.0001).unwrap_or(10.0)
}

fn fixed(value: f64, decimals: usize) -> String {
    let text = if decimals > 5 { format!("{value:e}") } else { format!("{value:.decimals$}") };
    text.replace('-', "−")
}

/// The shortest plain form with at most `decimals` decimals.
fn plain(value: f64, decimals: usize) -> String {
    if value != 0.0 && !(1e-4..1e5).contains(&value.abs()) {
        return format!("{value:.0e}");
    }
    let text = format!("{value:.decimals$}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::Axis;

    fn labels(axis: Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn linear_ticks_are_round() {
        assert_eq!(labels(Axis::linear(0.0, 5.0, 5)), ["0", "1", "2", "3", "4", "5"]);
        let axis = Axis::linear_rounded(0.931, 1.0, 4);
        assert_eq!(labels(axis), ["0.92", "0.94", "0.96", "0.98", "1.00"]);
        assert!(axis.low <= 0.931);
        assert_eq!(labels(Axis::linear(-2.0, 2.0, 4)), ["−2", "−1", "0", "1", "2"]);
    }

    #[test]
    fn stepped_ticks_are_multiples_of_the_step() {
        assert_eq!(labels(Axis::stepped(0.0, 180.0, 45.0)), ["0", "45", "90", "135", "180"]);
    }

    #[test]
    fn log_ticks_are_round_and_cover_the_range() {
        let axis = Axis::log(0.013, 2.4);
        assert!(axis.low <= 0.013 && axis.high >= 2.4, "{axis:?}");
        assert!(labels(axis).contains(&"0.1".to_string()), "{axis:?}");
        assert_eq!(axis.position(0.0), None);
        assert_eq!(axis.position(f64::NAN), None);
    }

    #[test]
    fn a_single_value_still_has_an_axis() {
        assert!(!labels(Axis::linear_rounded(0.5, 0.5, 4)).is_empty());
        assert!(!labels(Axis::log(1.0, 1.0)).is_empty());
    }
}
