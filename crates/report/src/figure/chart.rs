//! One line chart: the curves of a measurement, one a training.

use std::fmt::Write as _;

use super::axis::Axis;
use super::svg::{Paint, Svg, short};
use crate::statistics::{mean, quantile};

/// Points a running mean is taken over.
pub(crate) const SMOOTHED: usize = 9;

/// Points of one curve drawn at most.
pub(crate) const CURVE_POINTS: usize = 400;

/// Sides of a chart in the page and in figure files.
pub(crate) const SIZE: [f64; 2] = [360.0, 224.0];

const LEFT: f64 = 46.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 34.0;

/// How values are spread along the vertical axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Spread {
    /// From 0.
    Linear,
    /// Fractions up to 1; the lowest `0..1` part of the values may fall below the frame.
    Fraction(f64),
    /// Logarithmic.
    Log,
}

/// One curve.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) label: String,
    /// Index of the loss's colour.
    pub(crate) colour: usize,
    /// Whether it is drawn in full strength: the first seed of its loss.
    pub(crate) strong: bool,
    pub(crate) x: Vec<f64>,
    pub(crate) y: Vec<f64>,
}

/// One chart.
#[derive(Debug, Clone)]
pub(crate) struct Chart {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) x_label: &'static str,
    /// Distance of the horizontal ticks, where it is not for the chart to choose.
    pub(crate) x_step: Option<f64>,
    pub(crate) spread: Spread,
    /// Whether noisy values lie pale behind their running mean.
    pub(crate) smooth: bool,
    /// Whether curves carry their labels at their right ends.
    pub(crate) named: bool,
    pub(crate) series: Vec<Series>,
}

impl Chart {
    /// Whether any series has two values to join: a single one stands in the table already.
    pub(crate) fn has_curve(&self) -> bool {
        self.series.iter().any(|s| s.y.iter().filter(|v| v.is_finite()).count() > 1)
    }

    /// The horizontal frame for the page's pointer: `[left, right]` in drawing units and `[low, high]` in values.
    pub(crate) fn frame(&self) -> [f64; 4] {
        let x = self.x_axis();
        [LEFT, SIZE[0] - RIGHT, x.low, x.high]
    }

    /// Draws the chart with its corner at `(left, top)`.
    pub(crate) fn draw(&self, svg: &mut Svg, left: f64, top: f64) {
        let [width, height] = SIZE;
        let (x0, x1) = (left + LEFT, left + width - RIGHT);
        let (y0, y1) = (top + height - BOTTOM, top + TOP);
        let (x_axis, y_axis) = (self.x_axis(), self.y_axis());
        svg.styled_text([left + 4.0, top + 16.0], "start", &Paint::ink(), 13.0, &self.title, "font-weight=\"600\"");
        for (value, label) in y_axis.ticks() {
            let y = y0 + (y1 - y0) * y_axis.position(value).unwrap_or(0.0);
            svg.line([x0, y, x1, y], &Paint::grid(), 1.0);
            svg.text([x0 - 6.0, y + 3.8], "end", &Paint::muted(), 11.0, &label);
        }
        for (value, label) in x_axis.ticks() {
            let x = x0 + (x1 - x0) * x_axis.position(value).unwrap_or(0.0);
            svg.line([x, y0, x, y0 + 4.0], &Paint::muted(), 1.0);
            svg.text([x, y0 + 16.0], "middle", &Paint::muted(), 11.0, &label);
        }
        svg.line([x0, y0, x1, y0], &Paint::muted(), 1.0);
        svg.text([x1, y0 + 29.0], "end", &Paint::muted(), 11.0, self.x_label);
        // The frame clips what lies below it; marks at its ends have room.
        let (room, headroom) = (5.0, 3.0);
        svg.raw(&format!(
            "<svg x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\">\n",
            x0 - room,
            y1 - headroom,
            x1 - x0 + 2.0 * room,
            y0 - y1 + 2.0 * headroom
        ));
        // Later seeds first, so that the strong curves lie on top.
        for strong in [false, true] {
            for series in self.series.iter().filter(|s| s.strong == strong) {
                let place = |x: f64, y: f64| {
                    let x = room + (x1 - x0) * x_axis.position(x)?;
                    Some([x, headroom + (y0 - y1) * (1.0 - y_axis.position(y)?)])
                };
                series.draw(svg, place, self.smooth);
            }
        }
        svg.raw("</svg>\n");
        if self.named {
            for series in &self.series {
                let end = series.y.last().and_then(|&y| y_axis.position(y));
                let y = y0 + (y1 - y0) * end.unwrap_or(0.0);
                svg.text([x1 - 2.0, y + 12.0], "end", &Paint::muted(), 11.0, &series.label);
            }
        }
    }

    /// As an element of the page, with room for the pointer's cursor.
    pub(crate) fn inline(&self) -> String {
        let mut svg = Svg::default();
        self.draw(&mut svg, 0.0, 0.0);
        let [_, height] = SIZE;
        svg.raw(&format!(
            "<path class=\"cursor\" d=\"M0 {TOP}V{}\" fill=\"none\" stroke=\"none\"/>\n",
            height - BOTTOM
        ));
        let attributes = format!("class=\"chart\" tabindex=\"0\" data-chart=\"{}\"", self.id);
        svg.inline(SIZE, &format!("Chart: {}", self.title), &attributes)
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        self.series.iter().flat_map(|s| s.y.iter().copied())
    }

    fn x_axis(&self) -> Axis {
        let all = || self.series.iter().flat_map(|s| s.x.iter().copied()).filter(|x| x.is_finite());
        let (low, high) = (all().fold(0.0, f64::min), all().fold(0.0, f64::max));
        if let Some(step) = self.x_step {
            return Axis::stepped(low, high, step);
        }
        let whole = (2.0..=8.0).contains(&high);
        Axis::linear(low, high, if whole { high.ceil() as usize } else { 6 })
    }

    fn y_axis(&self) -> Axis {
        let finite = || self.values().filter(|v| v.is_finite());
        let high = finite().fold(f64::NEG_INFINITY, f64::max);
        let low = finite().fold(f64::INFINITY, f64::min);
        if !high.is_finite() {
            return Axis::linear(0.0, 1.0, 4);
        }
        match self.spread {
            Spread::Linear => Axis::linear_rounded(low.min(0.0), high, 4),
            Spread::Fraction(hidden) => {
                let low = quantile(self.values(), hidden).unwrap_or(low);
                Axis::linear_rounded(low.min(0.99), 1.0, 4)
            }
            Spread::Log => {
                let positive = || finite().filter(|&v| v > 0.0);
                let high = positive().fold(0.0, f64::max);
                // A single tiny batch loss must not stretch the axis over many decades.
                let low = quantile(positive(), 0.01).unwrap_or(1.0);
                if high > 0.0 { Axis::log(low, high) } else { Axis::log(0.1, 1.0) }
            }
        }
    }
}

impl Series {
    fn draw(&self, svg: &mut Svg, place: impl Fn(f64, f64) -> Option<[f64; 2]>, smooth: bool) {
        let paint = Paint::loss(self.colour);
        let opacity = if self.strong { 1.0 } else { 0.4 };
        let few = self.x.len() <= 40;
        let smooth = smooth && !few;
        if smooth && self.strong {
            line(svg, &path(&self.x, &self.y, &place), &paint, 1.0, 0.22);
        }
        let width = if few { 2.0 } else { 1.5 };
        let values = if smooth { &running_mean(&self.y) } else { &self.y };
        line(svg, &path(&self.x, values, &place), &paint, width, opacity);
        if few {
            let placed = self.x.iter().zip(&self.y).filter_map(|(&x, &y)| place(x, y));
            let marks: String = placed.map(|at| marker(self.colour, at)).collect();
            svg.fill(&marks, &paint, &format!("fill-opacity=\"{opacity}\""));
        }
    }
}

fn line(svg: &mut Svg, path: &str, paint: &Paint, width: f64, opacity: f64) {
    let attributes = format!("stroke-linejoin=\"round\" stroke-linecap=\"round\" stroke-opacity=\"{opacity}\"");
    svg.stroke(path, paint, width, &attributes);
}

/// Path data through the points; those without a place leave a gap.
fn path(x: &[f64], y: &[f64], place: impl Fn(f64, f64) -> Option<[f64; 2]>) -> String {
    let mut path = String::new();
    let mut pen_down = false;
    for (&x, &y) in x.iter().zip(y) {
        let placed = place(x, y);
        if let Some([x, y]) = placed {
            let command = if pen_down { 'L' } else { 'M' };
            let _ = write!(path, "{command}{} {}", short(x), short(y));
        }
        pen_down = placed.is_some();
    }
    path
}

/// Each value's mean with up to [`SMOOTHED`]` / 2` neighbours on either side; gaps stay gaps.
fn running_mean(values: &[f64]) -> Vec<f64> {
    let reach = SMOOTHED / 2;
    let around = |i: usize| {
        // As many neighbours on one side as on the other, so that the ends do not lag.
        let reach = reach.min(i).min(values.len() - 1 - i);
        let window: Vec<f64> = values[i - reach..=i + reach].iter().copied().filter(|v| v.is_finite()).collect();
        mean(&window)
    };
    (0..values.len()).map(|i| if values[i].is_finite() { around(i) } else { f64::NAN }).collect()
}

/// A mark of the loss's own shape: circle, square, diamond or triangle.
fn marker(colour: usize, [x, y]: [f64; 2]) -> String {
    let (x, y) = (short(x), short(y));
    let shape = match colour % 4 {
        0 => "m-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0 -6.4 0z",
        1 => "m-2.9 -2.9h5.8v5.8h-5.8z",
        2 => "m0 -4.2l4.2 4.2l-4.2 4.2l-4.2 -4.2z",
        _ => "m0 -3.8l4 6.6h-8z",
    };
    format!("M{x} {y}{shape}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_mean_keeps_gaps_and_straight_lines() {
        let mut values: Vec<f64> = (0..20).map(f64::from).collect();
        let smoothed = running_mean(&values);
        assert!(values.iter().zip(&smoothed).all(|(a, b)| (a - b).abs() < 1e-12));
        values[7] = f64::NAN;
        let smoothed = running_mean(&values);
        assert!(smoothed[7].is_nan() && smoothed[6].is_finite() && smoothed[8].is_finite());
    }

    #[test]
    fn a_gap_lifts_the_pen() {
        let place = |x: f64, y: f64| y.is_finite().then_some([x, y]);
        let drawn = path(&[0.0, 1.0, 2.0, 3.0], &[0.0, 1.0, f64::NAN, 3.0], place);
        assert_eq!(drawn, "M0 0L1 1M3 3");
    }
}
