//! Distribution of the angles between test images, within classes and between them.

use std::fmt::Write as _;

use super::svg::{Paint, Svg, short};
use crate::separation::{BINS, Separation};
use crate::text::measured;

/// Sides of a panel.
pub(crate) const SIZE: [f64; 2] = [360.0, 132.0];
const LEFT: f64 = 8.0;
const BASE: f64 = 92.0;
const HEIGHT: f64 = 66.0;

/// Both histograms as an element of the page.
pub(crate) fn inline(separation: &Separation, loss: usize) -> String {
    let label = format!(
        "Histogram of angles between two test images, within a class and between classes; margin reached by 95% of \
         the pairs: {}°",
        measured(separation.margin_95, 1)
    );
    panel(separation, loss).inline(SIZE, &label, "class=\"histogram\"")
}

/// Both histograms, each as high as the drawing: pairs between classes spread over many more degrees, so that on one
/// scale they would hardly be seen.
pub(crate) fn panel(separation: &Separation, loss: usize) -> Svg {
    let mut svg = Svg::default();
    let width = SIZE[0] - 2.0 * LEFT;
    let (own, other) = (Paint::loss(loss), Paint::muted());
    let outline = |fractions: &[f64]| {
        let highest = fractions.iter().copied().fold(1e-9, f64::max);
        let mut path = format!("M{LEFT} {BASE}");
        for (i, fraction) in fractions.iter().enumerate() {
            let right = LEFT + width * (i + 1) as f64 / BINS as f64;
            let _ = write!(path, "V{}H{}", short(BASE - HEIGHT * fraction / highest), short(right));
        }
        path + &format!("V{BASE}z")
    };
    svg.fill(&outline(&separation.between), &other, "fill-opacity=\"0.38\"");
    svg.fill(&outline(&separation.within), &own, "fill-opacity=\"0.75\"");
    svg.line([LEFT, BASE, LEFT + width, BASE], &other, 1.0);
    for degrees in (0..=180).step_by(30) {
        let x = LEFT + width * f64::from(degrees) / 180.0;
        let anchor = match degrees {
            0 => "start",
            180 => "end",
            _ => "middle",
        };
        svg.line([x, BASE, x, BASE + 4.0], &other, 1.0);
        svg.text([x, BASE + 17.0], anchor, &other, 11.0, &format!("{degrees}°"));
    }
    svg.text([LEFT + width / 2.0, BASE + 33.0], "middle", &other, 11.0, "angle between two test images");
    svg.fill("M8 4h9v9h-9z", &own, "fill-opacity=\"0.75\"");
    svg.text([22.0, 12.5], "start", &other, 11.0, "within a class");
    svg.fill("M116 4h9v9h-9z", &other, "fill-opacity=\"0.38\"");
    svg.text([130.0, 12.5], "start", &other, 11.0, "between classes");
    svg
}
