//! Two-dimensional embeddings on paper.

use super::svg::{Paint, Svg, circle_path};
use super::{Drawn, sample};
use crate::geometry::{norm, rays, unit};
use crate::statistics::quantile;

/// Raw embeddings with the class weights as rays; the outermost 0.1% may lie outside the frame.
pub(super) fn draw(svg: &mut Svg, picture: &Drawn<'_>, [left, top, side]: [f64; 3], limit: usize) {
    let Drawn { embeddings, .. } = *picture;
    let half = side / 2.0;
    let (cx, cy) = (left + half, top + half);
    let reach = quantile(embeddings.points.chunks(2).map(norm), 0.999).unwrap_or(1.0).max(1e-9);
    let scale = half * 0.86 / reach;
    let rays = rays(&embeddings.class_weights, 2, picture.by_norms);
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
