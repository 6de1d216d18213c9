//! Distribution of angles within the class and to the nearest other class.

use std::fmt::Write as _;

use super::svg::{Paint, Svg, short};
use crate::geometry::{Angles, BIN_DEGREES, BINS};

const SIZE: [f64; 2] = [360.0, 116.0];
const LEFT: f64 = 8.0;
const BASE: f64 = 92.0;
const HEIGHT: f64 = 66.0;

/// Both histograms over 0° to 180° as an element of the page, each scaled to its own highest bin.
pub(crate) fn inline(angles: &Angles, loss: usize) -> String {
    let mut svg = Svg::default();
    let width = SIZE[0] - 2.0 * LEFT;
    let paint = Paint::loss(loss);
    let ink = Paint::muted();
    svg.fill(&steps(&angles.other, width), &ink, "fill-opacity=\"0.38\"");
    svg.fill(&steps(&angles.own, width), &paint, "fill-opacity=\"0.75\"");
    svg.line([LEFT, BASE, LEFT + width, BASE], &ink, 1.0);
    for degrees in (0..=180).step_by(30) {
        let x = LEFT + width * f64::from(degrees) / 180.0;
        let anchor = match degrees {
            0 => "start",
            180 => "end",
            _ => "middle",
        };
        svg.line([x, BASE, x, BASE + 4.0], &ink, 1.0);
        svg.text([x, BASE + 17.0], anchor, &ink, 11.0, &format!("{degrees}°"));
    }
    svg.fill("M8 4h9v9h-9z", &paint, "fill-opacity=\"0.75\"");
    svg.text([22.0, 12.5], "start", &ink, 11.0, "to own class");
    svg.fill("M112 4h9v9h-9z", &ink, "fill-opacity=\"0.38\"");
    svg.text([126.0, 12.5], "start", &ink, 11.0, "to nearest other class");
    let label = format!(
        "Histogram of angles: to the own class {:.1}° on average, to the nearest other class {:.1}°",
        angles.own_mean, angles.other_mean
    );
    svg.inline(SIZE, &label, "class=\"histogram\"")
}

fn steps(fractions: &[f64], width: f64) -> String {
    let highest = fractions.iter().copied().fold(0.0, f64::max).max(1e-9);
    let bin = width * BIN_DEGREES as f64 / 180.0;
    let mut path = format!("M{LEFT} {BASE}");
    for (i, fraction) in fractions.iter().enumerate().take(BINS) {
        let y = BASE - HEIGHT * fraction / highest;
        let _ = write!(path, "V{}H{}", short(y), short(LEFT + bin * (i + 1) as f64));
    }
    let _ = write!(path, "V{BASE}z");
    path
}
