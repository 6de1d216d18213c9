//! Accuracies with their intervals, one row a group, beside the published values.

use super::axis::Axis;
use super::chart::marker;
use super::svg::{Paint, Svg};
use crate::summary::Group;

const WIDTH: f64 = 360.0;
const ROW: f64 = 30.0;
const LEFT: f64 = 22.0;
const TOP: f64 = 6.0;

/// All groups as an element of the page, with the published values or without.
pub(crate) fn inline(groups: &[Group<'_>], published: bool) -> String {
    let label = "Test accuracies with 95% intervals; the values are those of the table";
    let (svg, size) = panel(groups, published);
    svg.inline(size, label, "class=\"forest\"")
}

/// All groups, and the sides of the drawing.
pub(crate) fn panel(groups: &[Group<'_>], published: bool) -> (Svg, [f64; 2]) {
    let diamond = |g: &Group<'_>| g.published().filter(|_| published);
    let values = || groups.iter().flat_map(|g| [Some(g.accuracy.low), Some(g.accuracy.high), diamond(g)]).flatten();
    let low = values().fold(1.0, f64::min);
    let high = values().fold(0.0, f64::max);
    let axis = Axis::linear_rounded(low, high.min(1.0), 4);
    let place = |v: f64| LEFT + (WIDTH - 2.0 * LEFT) * axis.position(v).unwrap_or(0.0).clamp(0.0, 1.0);
    let bottom = TOP + ROW * groups.len() as f64;
    let mut svg = Svg::default();
    for (value, label) in axis.ticks() {
        let x = place(value);
        // Beside the marks only: a whole line would cross the rows' names.
        for row in 0..groups.len() {
            let y = TOP + ROW * row as f64 + 20.0;
            svg.line([x, y - 7.0, x, y + 7.0], &Paint::grid(), 1.0);
        }
        svg.text([x, bottom + 15.0], "middle", &Paint::muted(), 11.0, &label);
    }
    for (row, group) in groups.iter().enumerate() {
        let paint = Paint::loss(group.colour);
        let top = TOP + ROW * row as f64;
        let y = top + 20.0;
        let estimate = &group.accuracy;
        svg.text(
            [LEFT - 4.0, top + 10.0],
            "start",
            &Paint::muted(),
            11.0,
            &format!("{} · {}-D", group.title, group.dim),
        );
        svg.line([place(estimate.low), y, place(estimate.high), y], &paint, 2.0);
        svg.fill(&marker(group.colour, [place(estimate.mean), y]), &paint, "");
        if let Some(published) = diamond(group) {
            let x = place(published);
            let path = format!("M{x:.2} {:.2}l5 5l-5 5l-5 -5z", y - 5.0);
            svg.stroke(&path, &Paint::muted(), 1.5, "");
        }
    }
    (svg, [WIDTH, bottom + 22.0])
}
