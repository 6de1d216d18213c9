//! Two-dimensional embeddings on paper.

use super::sample;
use super::svg::{Paint, Svg};
use crate::geometry::{norm, unit};
use crate::model::Embeddings;
use crate::statistics::quantile;

/// Raw embeddings with the class weights' directions as rays; the outermost 0.1% may lie outside the frame.
pub(crate) fn draw(svg: &mut Svg, embeddings: &Embeddings, [left, top, side]: [f64; 3], limit: usize) {
    let half = side / 2.0;
    let (cx, cy) = (left + half, top + half);
    let reach = quantile(embeddings.points.chunks(2).map(norm), 0.999).unwrap_or(1.0).max(1e-9);
    let scale = half * 0.86 / reach;
    let weights: Vec<Vec<f64>> = embeddings.class_weights.chunks(2).map(unit).collect();
    for weight in &weights {
        let (x, y) = (weight[0] * half * 0.88, -weight[1] * half * 0.88);
        svg.line([cx, cy, cx + x, cy + y], &Paint::grid(), 1.0);
    }
    let mut dots = vec![Vec::new(); weights.len()];
    for i in sample(embeddings.labels.len(), limit) {
        let (x, y) = (f64::from(embeddings.points[2 * i]), f64::from(embeddings.points[2 * i + 1]));
        if x.abs() * scale < half && y.abs() * scale < half {
            dots[usize::from(embeddings.labels[i])].push([cx + x * scale, cy - y * scale]);
        }
    }
    let diameter = (side / 140.0).max(1.7);
    for (class, points) in dots.iter().enumerate() {
        svg.dots(points, &Paint::class(class), diameter, 0.75);
    }
    for (class, weight) in weights.iter().enumerate() {
        let (x, y) = (weight[0] * half * 0.93, -weight[1] * half * 0.93);
        label(svg, [cx + x, cy + y], class, 1.0);
    }
}

/// A class's name, legible on points.
pub(super) fn label(svg: &mut Svg, [x, y]: [f64; 2], class: usize, opacity: f64) {
    let attributes = format!(
        "font-weight=\"700\" opacity=\"{opacity}\" stroke=\"#ffffff\" stroke-width=\"3\" paint-order=\"stroke\""
    );
    svg.styled_text([x, y + 4.6], "middle", &Paint::ink(), 13.0, &class.to_string(), &attributes);
}
