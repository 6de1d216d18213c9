//! Films of the trainings: all losses of one embedding size side by side, from noise to rays, as one GIF.

use rayon::prelude::*;

use crate::animation::{self, Palette, Picture};
use crate::error::Error;
use crate::figure::plane::{self, Plane};
use crate::figure::sphere::{self, Sphere};
use crate::figure::svg::{Paint, Svg};
use crate::figure::{Drawn, drawable};
use crate::model::{Film, Frame, Report, Training};
use crate::palette;
use crate::raster;

/// Pixels from left to right, as wide as a README is shown.
const WIDTH: u16 = 800;
/// Pictures of the moving part, and how long each is seen: 9 seconds in all.
const PICTURES: usize = 100;
const CENTISECONDS: u16 = 9;
/// How long the last picture stays.
const STILL_CENTISECONDS: u16 = 250;
/// Trainings side by side in one row.
const COLUMNS: usize = 3;
/// Largest file in bytes; with more, fewer points are drawn.
const LIMIT_BYTES: usize = 3_000_000;
/// Points of all trainings together at first, and of one.
const POINTS: [usize; 2] = [3000, 1000];
/// Steps between white and a colour: few make small files.
const SHADES: u16 = 4;
/// Radians that the sphere turns until it stands as in the figures.
const TURN: f64 = 2.2;

const MARGIN: f64 = 8.0;
const HEAD: f64 = 50.0;
const FOOT: f64 = 40.0;

/// `embedding-<D>d.gif` for the embedding sizes that were filmed.
pub(crate) fn files(report: &Report) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let drawn = drawable(report);
    let mut files = Vec::new();
    for dim in [2, 3] {
        let scenes: Vec<Scene<'_>> =
            drawn.iter().filter(|d| d.training.embedding_dim == dim).filter_map(Scene::new).collect();
        if scenes.is_empty() {
            continue;
        }
        let name = format!("embedding-{dim}d");
        match gif(&scenes) {
            Ok(file) => files.push((format!("{name}.gif"), file)),
            Err(reason) => return Err(Error::Draw { figure: name, reason }),
        }
    }
    Ok(files)
}

/// One training's part of the picture.
#[derive(Debug, Clone, Copy)]
struct Scene<'a> {
    training: &'a Training,
    film: &'a Film,
    /// Of the points of a frame. Shape `[M]`.
    labels: &'a [u8],
    by_norms: bool,
    /// Length of an embedding that ends near the edge, in two dimensions.
    reach: f64,
}

impl<'a> Scene<'a> {
    /// `None` if nothing moves.
    fn new(drawn: &Drawn<'a>) -> Option<Self> {
        let training = drawn.training;
        let film = training.film.as_ref()?;
        let (first, last) = (film.frames.first()?, film.frames.last()?);
        let labels = drawn.embeddings.labels.get(..last.points.len() / training.embedding_dim)?;
        let reach = plane::reach(&last.points);
        (first.epoch < last.epoch).then_some(Self { training, film, labels, by_norms: drawn.by_norms, reach })
    }

    fn end(&self) -> f64 {
        self.film.frames.last().map_or(0.0, |frame| frame.epoch)
    }

    /// Draws the moment `epoch` into a square.
    fn draw(&self, svg: &mut Svg, square: [f64; 3], epoch: f64, yaw: f64, limit: usize) {
        let Frame { points, class_weights, .. } = between(&self.film.frames, epoch);
        let (points, class_weights, labels) = (&points[..], &class_weights[..], self.labels);
        if self.training.embedding_dim == 2 {
            // Short embeddings are drawn short, but not so short that nothing is seen of them: their share of the
            // last length as its square root. Where they are longer than at the end, the picture shrinks.
            let reach = plane::reach(points);
            let reach = reach.max((reach * self.reach).sqrt());
            plane::draw(svg, &Plane { points, labels, class_weights, by_norms: self.by_norms, reach, limit }, square);
        } else {
            sphere::draw(svg, &Sphere { points, labels, class_weights, yaw, limit }, square);
        }
    }
}

/// The film of some trainings, with as many points as its size in bytes allows.
fn gif(scenes: &[Scene<'_>]) -> Result<Vec<u8>, String> {
    let [together, single] = POINTS;
    let mut points = (together / scenes.len().max(1)).min(single);
    loop {
        let file = draw(scenes, points)?;
        if file.len() <= LIMIT_BYTES || points < 20 {
            return Ok(file);
        }
        points = points * LIMIT_BYTES / file.len() * 4 / 5;
    }
}

fn draw(scenes: &[Scene<'_>], points: usize) -> Result<Vec<u8>, String> {
    let mut colours = vec![palette::INK, palette::MUTED, palette::GRID];
    colours.extend(palette::CLASSES);
    let palette = Palette::on_white(&colours.iter().map(|colour| components(colour)).collect::<Vec<_>>(), SHADES);
    let picture = |i: usize| {
        let pixmap = raster::pixels(&picture(scenes, i as f64 / (PICTURES - 1) as f64, points), u32::from(WIDTH))?;
        let centiseconds = if i + 1 == PICTURES { STILL_CENTISECONDS } else { CENTISECONDS };
        let pixels = palette.indices(&raster::rgb(&pixmap));
        Ok((Picture { pixels, centiseconds }, pixmap.height()))
    };
    let drawn = (0..PICTURES).into_par_iter().map(picture).collect::<Result<Vec<_>, String>>()?;
    let height = drawn.first().map_or(0, |(_, height)| *height as u16);
    let pictures: Vec<Picture> = drawn.into_iter().map(|(picture, _)| picture).collect();
    animation::gif(&palette, [WIDTH, height], &pictures)
}

/// The picture at `time`, from 0 to 1, as an SVG file.
fn picture(scenes: &[Scene<'_>], time: f64, points: usize) -> String {
    let columns = scenes.len().min(COLUMNS);
    let width = f64::from(WIDTH);
    let side = ((width - MARGIN) / columns as f64 - MARGIN).min(400.0);
    let left = (width - columns as f64 * (side + MARGIN) + MARGIN) / 2.0;
    let end = scenes.iter().map(Scene::end).fold(0.0, f64::max);
    // Most happens early: the first half of the film shows the first third of the training.
    let epoch = end * time.powf(1.6);
    let yaw = sphere::YAW - TURN * (1.0 - time);
    let mut svg = Svg::default();
    for (i, scene) in scenes.iter().enumerate() {
        let left = left + (i % COLUMNS) as f64 * (side + MARGIN);
        let top = (i / COLUMNS) as f64 * (side + HEAD);
        let middle = left + side / 2.0;
        let Training { title, test_accuracy, .. } = scene.training;
        svg.styled_text([middle, top + 22.0], "middle", &Paint::ink(), 15.0, title, "font-weight=\"600\"");
        if time >= 1.0 {
            let accuracy = format!("test accuracy {test_accuracy:.4}");
            svg.text([middle, top + 39.0], "middle", &Paint::muted(), 12.0, &accuracy);
        }
        scene.draw(&mut svg, [left, top + HEAD, side], epoch, yaw, points);
    }
    let bottom = scenes.len().div_ceil(COLUMNS) as f64 * (side + HEAD);
    let bar = [width / 2.0 - 110.0, width / 2.0 + 110.0];
    let baseline = bottom + 16.0;
    svg.text([width / 2.0, baseline], "middle", &Paint::ink(), 13.0, &format!("epoch {epoch:.1} of {end:.0}"));
    svg.line([bar[0], bottom + 27.0, bar[1], bottom + 27.0], &Paint::grid(), 4.0);
    let done = bar[0] + (bar[1] - bar[0]) * epoch / end;
    svg.line([bar[0], bottom + 27.0, done, bottom + 27.0], &Paint::muted(), 4.0);
    svg.file([width, (bottom + FOOT).ceil()], "Embeddings of test images during the training")
}

/// Embeddings and class weights at `epoch`: on a cubic through the neighbouring frames, so that nothing turns abruptly.
fn between(frames: &[Frame], epoch: f64) -> Frame {
    let after = frames.partition_point(|frame| frame.epoch <= epoch);
    let (before, last) = (after.saturating_sub(1), frames.len() - 1);
    let after = after.min(last);
    if before == after {
        return frames[after].clone();
    }
    let around = [before.saturating_sub(1), before, after, (after + 1).min(last)].map(|i| &frames[i]);
    let weights = hermite(around.map(|frame| frame.epoch), epoch);
    let mixed = |values: fn(&Frame) -> &[f32]| -> Vec<f32> {
        let [a, b, c, d] = around.map(values);
        let mix = |i: usize| [a[i], b[i], c[i], d[i]].iter().zip(weights).map(|(&v, w)| f64::from(v) * w).sum::<f64>();
        (0..b.len()).map(|i| mix(i) as f32).collect()
    };
    Frame { epoch, points: mixed(|frame| &frame.points), class_weights: mixed(|frame| &frame.class_weights) }
}

/// What four values at `times` count for at `time`, between the second and the third: a cubic through these two, whose
/// slopes there are those between their neighbours (Catmull and Rom).
fn hermite([t0, t1, t2, t3]: [f64; 4], time: f64) -> [f64; 4] {
    let span = t2 - t1;
    let u = (time - t1) / span;
    let (slope1, slope2) = (span / (t2 - t0), span / (t3 - t1));
    let rise = 3.0 * u * u - 2.0 * u * u * u;
    let (leave, arrive) = (u * (1.0 - u) * (1.0 - u) * slope1, u * u * (1.0 - u) * slope2);
    [-leave, 1.0 - rise + arrive, rise + leave, -arrive]
}

/// Red, green and blue of `#rrggbb`.
fn components(colour: &str) -> [u8; 3] {
    let number = u32::from_str_radix(colour.trim_start_matches('#'), 16).unwrap_or(0).to_be_bytes();
    [number[1], number[2], number[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Vec<Frame> {
        let at = |epoch: f64, value: f32| Frame { epoch, points: vec![value, 0.0], class_weights: vec![1.0, value] };
        vec![at(0.0, 0.0), at(0.5, 1.0), at(1.0, 2.0), at(2.0, 4.0)]
    }

    #[test]
    fn frames_are_met_and_straight_motion_stays_straight() {
        for (epoch, value) in [(0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (1.0, 2.0), (1.7, 3.4), (2.0, 4.0), (3.0, 4.0)] {
            let found = between(&frames(), epoch);
            assert!((found.points[0] - value).abs() < 1e-6, "{value} at {epoch}: {found:?}");
            assert!((found.class_weights[1] - value).abs() < 1e-6 && found.class_weights[0] == 1.0);
        }
    }

    #[test]
    fn colours_have_components() {
        assert_eq!(components("#0a10ff"), [10, 16, 255]);
    }
}
