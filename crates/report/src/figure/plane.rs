//! Two-dimensional embeddings on paper.

use super::svg::{Paint, Svg, circle_path};
use super::{dot, sample};
use crate::geometry::{norm, rays, unit};
use crate::statistics::quantile;

/// Embeddings of size two, and how they are drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plane<'a> {
    /// Not normalised. Shape `[N, 2]`.
    pub(crate) points: &'a [f32],
    /// True classes. Shape `[N]`.
    pub(crate) labels: &'a [u8],
    /// Shape `[C, 2]`.
    pub(crate) class_weights: &'a [f32],
    /// Whether rays are as long as their weights.
    pub(crate) by_norms: bool,
    /// Length of an embedding that stands near the edge.
    pub(crate) reach: f64,
    /// Points drawn at most.
    pub(crate) limit: usize,
}

/// Length that all but the outermost 0.1% of embeddings of size two stay below.
pub(crate) fn reach(points: &[f32]) -> f64 {
    quantile(points.chunks(2).map(norm), 0.999).unwrap_or(1.0).max(1e-9)
}

/// Raw embeddings with the class weights as rays; those beyond the frame are left out.
pub(crate) fn draw(svg: &mut Svg, plane: &Plane<'_>, [left, top, side]: [f64; 3]) {
    let half = side / 2.0;
    let (cx, cy) = (left + half, top + half);
    let scale = half * 0.86 / plane.reach;
    let rays = rays(plane.class_weights, 2, plane.by_norms);
    let mut dots = vec![Vec::new(); rays.len()];
    for i in sample(plane.labels.len(), plane.limit) {
        let (x, y) = (f64::from(plane.points[2 * i]), f64::from(plane.points[2 * i + 1]));
        if x.abs() * scale < half && y.abs() * scale < half {
            dots[usize::from(plane.labels[i])].push([cx + x * scale, cy - y * scale]);
        }
    }
    let diameter = dot(side, plane.labels.len().min(plane.limit));
    for (class, points) in dots.iter().enumerate() {
        svg.dots(points, &Paint::class(class), diameter, 0.75);
    }
    let reach = half * 0.87;
    let end = |ray: &[f64]| [cx + ray[0] * reach, cy - ray[1] * reach];
    for (class, ray) in rays.iter().enumerate() {
        let [x, y] = end(ray);
        svg.line([cx, cy, x, y], &Paint::ink(), 0.75);
        disc(svg, [x, y], class, 1.0);
    }
    let mut taken: Vec<[f64; 2]> = Vec::new();
    for (class, ray) in rays.iter().enumerate() {
        let (direction, [x, y]) = (unit(ray), end(ray));
        let at = |beyond: f64| [x + direction[0] * beyond, y - direction[1] * beyond];
        // A name that would lie on another stands before its disc instead of beyond it.
        let clear = |place: [f64; 2]| taken.iter().all(|[x, y]| (x - place[0]).hypot(y - place[1]) >= 12.0);
        let place = if clear(at(13.0)) { at(13.0) } else { at(-13.0) };
        taken.push(place);
        label(svg, place, class, 1.0);
    }
}

/// A class weight's mark, of its class's colour.
pub(super) fn disc(svg: &mut Svg, [x, y]: [f64; 2], class: usize, opacity: f64) {
    let circle = circle_path([x, y, 3.6]);
    svg.fill(&circle, &Paint::class(class), &format!("opacity=\"{opacity}\""));
    svg.stroke(&circle, &Paint::ink(), 1.1, &format!("opacity=\"{opacity}\""));
}

/// A class's name, legible on points.
pub(super) fn label(svg: &mut Svg, [x, y]: [f64; 2], class: usize, opacity: f64) {
    let attributes = format!(
        "font-weight=\"700\" opacity=\"{opacity}\" stroke=\"#ffffff\" stroke-width=\"3\" paint-order=\"stroke\""
    );
    svg.styled_text([x, y + 4.6], "middle", &Paint::ink(), 13.0, &class.to_string(), &attributes);
}
