//! Three-dimensional embeddings on the unit sphere, on paper.

use std::fmt::Write as _;

use super::plane::{disc, label};
use super::svg::{Paint, Svg, circle_path, short};
use super::{dot, sample};
use crate::geometry::unit;

/// Turn about the vertical axis, in radians: the page's sphere starts so too.
pub(crate) const YAW: f64 = 0.6;
/// Tilt towards the reader after it.
const TILT: f64 = 0.4;

/// Embeddings of size three, and how they are drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sphere<'a> {
    /// Not normalised. Shape `[N, 3]`.
    pub(crate) points: &'a [f32],
    /// True classes. Shape `[N]`.
    pub(crate) labels: &'a [u8],
    /// Shape `[C, 3]`.
    pub(crate) class_weights: &'a [f32],
    /// Turn about the vertical axis, in radians.
    pub(crate) yaw: f64,
    /// Points drawn at most.
    pub(crate) limit: usize,
}

/// Normalised embeddings; those on the far side are pale.
pub(crate) fn draw(svg: &mut Svg, sphere: &Sphere<'_>, [left, top, side]: [f64; 3]) {
    let turned = |v: &[f64]| turned(v, sphere.yaw);
    let half = side / 2.0;
    let radius = half * 0.84;
    let place = |v: [f64; 3]| [left + half + v[0] * radius, top + half - v[1] * radius];
    svg.fill(&circle_path([left + half, top + half, radius]), &Paint::grid(), "fill-opacity=\"0.3\"");
    let weights: Vec<[f64; 3]> = sphere.class_weights.chunks(3).map(|w| turned(&unit(w))).collect();
    let mut near = vec![Vec::new(); weights.len()];
    let mut far = vec![Vec::new(); weights.len()];
    for i in sample(sphere.labels.len(), sphere.limit) {
        let point = turned(&unit(&sphere.points[3 * i..3 * i + 3]));
        let list = if point[2] >= 0.0 { &mut near } else { &mut far };
        list[usize::from(sphere.labels[i])].push(place(point));
    }
    let diameter = dot(side, sphere.labels.len().min(sphere.limit));
    for (class, points) in far.iter().enumerate() {
        svg.dots(points, &Paint::class(class), diameter, 0.16);
    }
    graticule(svg, turned, place);
    svg.circle([left + half, top + half, radius], &Paint::muted(), 1.0, "stroke-opacity=\"0.7\"");
    for (class, points) in near.iter().enumerate() {
        svg.dots(points, &Paint::class(class), diameter, 0.8);
    }
    let mut from_behind: Vec<_> = weights.iter().enumerate().collect();
    from_behind.sort_by(|(_, a), (_, b)| a[2].total_cmp(&b[2]));
    for (class, &weight) in from_behind {
        let opacity = if weight[2] >= -0.1 { 1.0 } else { 0.35 };
        disc(svg, place(weight), class, opacity);
        label(svg, beyond(place(weight), [left + half, top + half]), class, opacity);
    }
}

/// Where the name of a disc at `[x, y]` stands: away from the middle of the picture, above a disc in the middle.
fn beyond([x, y]: [f64; 2], middle: [f64; 2]) -> [f64; 2] {
    let (dx, dy) = (x - middle[0], y - middle[1]);
    let length = dx.hypot(dy);
    if length > 1.0 { [x + 13.0 * dx / length, y + 13.0 * dy / length] } else { [x, y - 13.0] }
}

/// The vector as the reader sees it: x to the right, y up, z towards the reader.
fn turned(v: &[f64], yaw: f64) -> [f64; 3] {
    let (x, z) = (v[0] * yaw.cos() + v[2] * yaw.sin(), v[2] * yaw.cos() - v[0] * yaw.sin());
    [x, v[1] * TILT.cos() - z * TILT.sin(), v[1] * TILT.sin() + z * TILT.cos()]
}

/// Meridians and parallels every 30° on the near side.
fn graticule(svg: &mut Svg, turned: impl Fn(&[f64]) -> [f64; 3], place: impl Fn([f64; 3]) -> [f64; 2]) {
    let radians = |degrees: i32| f64::from(degrees).to_radians();
    let at = |latitude: i32, longitude: i32| {
        let (latitude, longitude) = (radians(latitude), radians(longitude));
        let ring = latitude.cos();
        turned(&[ring * longitude.cos(), latitude.sin(), ring * longitude.sin()])
    };
    let mut path = String::new();
    let mut polyline = |points: Vec<[f64; 3]>| {
        let mut pen_down = false;
        for point in points {
            if point[2] < 0.0 {
                pen_down = false;
                continue;
            }
            let [x, y] = place(point);
            let _ = write!(path, "{}{} {}", if pen_down { 'L' } else { 'M' }, short(x), short(y));
            pen_down = true;
        }
    };
    for latitude in (-60..=60).step_by(30) {
        polyline((0..=360).step_by(5).map(|longitude| at(latitude, longitude)).collect());
    }
    for longitude in (0..360).step_by(30) {
        polyline((-90..=90).step_by(5).map(|latitude| at(latitude, longitude)).collect());
    }
    svg.stroke(&path, &Paint::muted(), 0.6, "stroke-opacity=\"0.28\"");
}
