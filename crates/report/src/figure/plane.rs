//! Two-dimensional embeddings on paper.

use super::svg::{Paint, Svg};
use super::{Drawn, sample};
use crate::geometry::{norm, rays, unit};
use crate::statistics::quantile;

/// Raw embeddings with the class weights as rays; the outermost 0.1% may lie outside the frame.
pub(super) fn draw(svg: &mut Svg, picture: &Drawn<'_>, [left, top, side]: [f64; 3], limit: usize) {
    let Drawn { training, embeddings, .. } = *picture;
    let half = side / 2.0;
    let (cx, cy) = (left + half, top + half);
    let reach = quantile(embeddings.points.chunks(2).map(norm), 0.999).unwrap_or(1.0).max(1e-9);
    let scale = half * 0.86 / reach;
    let rays = rays(training, embeddings);
    let mut dots = vec![Vec::new(); rays.len()];
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
    for ray in &rays {
        let (x, y) = (ray[0] * half * 0.87, -ray[1] * half * 0.87);
        svg.line([cx, cy, cx + x, cy + y], &Paint::ink(), 0.9);
    }
    for (class, direction) in rays.iter().map(|ray| unit(ray)).enumerate() {
        let (x, y) = (direction[0] * half * 0.93, -direction[1] * half * 0.93);
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
