//! Distribution of angles to the own class and to the nearest other class.

use std::fmt::Write as _;

use super::svg::{Paint, Svg, short};
use crate::geometry::{Angles, BIN_DEGREES, BINS};

/// Sides of a panel.
pub(crate) const SIZE: [f64; 2] = [360.0, 132.0];
const LEFT: f64 = 8.0;
const BASE: f64 = 92.0;
const HEIGHT: f64 = 66.0;

/// Degrees that histograms shown side by side reach to: those that hold 99.5% of every distribution, in steps of 30.
pub(crate) fn span(angles: &[Angles]) -> usize {
    let held = |fractions: &[f64], degrees: usize| fractions.iter().skip(degrees / BIN_DEGREES).sum::<f64>() <= 0.005;
    let all_held = |degrees: &usize| angles.iter().all(|a| held(&a.own, *degrees) && held(&a.other, *degrees));
    (30..180).step_by(30).find(all_held).unwrap_or(180)
}

/// Both histograms as an element of the page.
pub(crate) fn inline(angles: &Angles, loss: usize, span: usize) -> String {
    let label = format!(
        "Histogram of angles: to the own class {:.1}° on average, to the nearest other class {:.1}°",
        angles.own_mean, angles.other_mean
    );
    panel(angles, loss, span).inline(SIZE, &label, "class=\"histogram\"")
}

/// Both histograms from 0° to `span` degrees, on one vertical scale.
pub(crate) fn panel(angles: &Angles, loss: usize, span: usize) -> Svg {
    let mut svg = Svg::default();
    let width = SIZE[0] - 2.0 * LEFT;
    let (own, other) = (Paint::loss(loss), Paint::muted());
    let bins = (span / BIN_DEGREES).min(BINS);
    let highest = angles.own.iter().chain(&angles.other).copied().fold(1e-9, f64::max);
    let outline = |fractions: &[f64]| {
        let mut path = format!("M{LEFT} {BASE}");
        for (i, fraction) in fractions.iter().enumerate().take(bins) {
            let right = LEFT + width * (i + 1) as f64 / bins as f64;
            let _ = write!(path, "V{}H{}", short(BASE - HEIGHT * fraction / highest), short(right));
        }
        path + &format!("V{BASE}z")
    };
    svg.fill(&outline(&angles.other), &other, "fill-opacity=\"0.38\"");
    svg.fill(&outline(&angles.own), &own, "fill-opacity=\"0.75\"");
    svg.line([LEFT, BASE, LEFT + width, BASE], &other, 1.0);
    let step = if span > 90 { 30 } else { 10 };
    for degrees in (0..=span).step_by(step) {
        let x = LEFT + width * degrees as f64 / span as f64;
        let anchor = match degrees {
            0 => "start",
            _ if degrees == span => "end",
            _ => "middle",
        };
        svg.line([x, BASE, x, BASE + 4.0], &other, 1.0);
        svg.text([x, BASE + 17.0], anchor, &other, 11.0, &format!("{degrees}°"));
    }
    svg.text([LEFT + width / 2.0, BASE + 33.0], "middle", &other, 11.0, "angle of a test image to a class weight");
    svg.fill("M8 4h9v9h-9z", &own, "fill-opacity=\"0.75\"");
    svg.text([22.0, 12.5], "start", &other, 11.0, "own class");
    svg.fill("M96 4h9v9h-9z", &other, "fill-opacity=\"0.38\"");
    svg.text([110.0, 12.5], "start", &other, 11.0, "nearest other class");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_holds_nearly_all_of_every_distribution() {
        let at = |degrees: usize, fraction: f64| {
            let mut fractions = vec![0.0; BINS];
            fractions[0] = 1.0 - fraction;
            fractions[degrees / BIN_DEGREES] += fraction;
            Angles { own_mean: 0.0, other_mean: 0.0, spread: 0.0, own: fractions.clone(), other: fractions }
        };
        assert_eq!(span(&[at(10, 0.5)]), 30);
        assert_eq!(span(&[at(10, 0.5), at(70, 0.01)]), 90);
        assert_eq!(span(&[at(178, 0.004)]), 30);
        assert_eq!(span(&[at(178, 0.5)]), 180);
    }
}
