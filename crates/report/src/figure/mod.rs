//! Figures: drawn once, put into the page and into files of their own.

pub(crate) mod axis;
pub(crate) mod chart;
pub(crate) mod curves;
pub(crate) mod forest;
pub(crate) mod histogram;
pub(crate) mod network;
mod overview;
pub(crate) mod plane;
mod psi;
pub(crate) mod sphere;
pub(crate) mod svg;

use crate::model::{Embeddings, Report, Training};
use crate::summary::{Loss, groups};
use plane::Plane;
use sphere::Sphere;
use svg::{Paint, Svg};

/// Points drawn of one training at most.
pub(crate) const SHOWN_POINTS: usize = 4000;

/// A drawing that becomes `<name>.svg` and `<name>.png`.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) name: String,
    /// How wide it is printed.
    pub(crate) width: Width,
    /// A whole SVG file.
    pub(crate) svg: String,
}

/// Width of a figure in a paper of two columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// One column, 89 mm.
    Column,
    /// Both columns, 183 mm.
    Page,
}

impl Width {
    /// In millimetres.
    pub(crate) fn millimetres(self) -> f64 {
        match self {
            Self::Column => 89.0,
            Self::Page => 183.0,
        }
    }
}

/// All figures of a checked report: a new one is one entry here.
pub(crate) fn figures(report: &Report) -> Vec<Figure> {
    let figure = |name: &str, width, svg| Figure { name: name.to_string(), width, svg };
    let mut figures = vec![
        figure("loss", Width::Page, overview::loss(report)),
        figure("accuracy", Width::Page, overview::accuracy(report)),
        figure("intervals", Width::Column, overview::intervals(report)),
    ];
    if report.losses.iter().any(|loss| loss.margin.is_some()) {
        figures.push(figure("psi", Width::Column, overview::psi(report)));
    }
    let drawn = drawable(report);
    for picture in &drawn {
        let Training { embedding_dim, loss, .. } = picture.training;
        let name = format!("embedding-{embedding_dim}d-{loss}");
        figures.push(figure(&name, Width::Column, overview::single(report, picture)));
    }
    if !drawn.is_empty() {
        figures.push(figure("embeddings", Width::Page, overview::grid(report, &drawn)));
        figures.push(figure("angles", Width::Page, overview::angles(report, &drawn)));
    }
    if !report.network.layers.is_empty() {
        figures.push(figure("network", Width::Column, network::file(&report.network)));
    }
    figures
}

/// A training whose embeddings are drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drawn<'a> {
    pub(crate) training: &'a Training,
    pub(crate) embeddings: &'a Embeddings,
    /// Whether the lengths of the class weights take part in the logits.
    pub(crate) by_norms: bool,
    /// Index of the loss's colour.
    pub(crate) colour: usize,
}

/// One training a loss and embedding size of two or three: the first that kept its embeddings.
pub(crate) fn drawable(report: &Report) -> Vec<Drawn<'_>> {
    let flat_or_solid = groups(report).into_iter().filter(|group| matches!(group.dim, 2 | 3));
    let drawn = flat_or_solid.filter_map(|group| {
        let (by_norms, colour) = (group.scores_by_norms(), group.colour);
        group.runs.into_iter().find_map(|training| {
            let embeddings = training.embeddings.as_ref()?;
            Some(Drawn { training, embeddings, by_norms, colour })
        })
    });
    drawn.collect()
}

/// Indices of at most `limit` of `count` points, one from each of as many equal stretches, at a scrambled place in it:
/// a plain stride would miss whole classes of a test set whose labels repeat.
pub(crate) fn sample(count: usize, limit: usize) -> impl Iterator<Item = usize> {
    let shown = count.min(limit);
    (0..shown).map(move |i| {
        let (start, end) = (i * count / shown, (i + 1) * count / shown);
        let scrambled = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        start + scrambled as usize % (end - start)
    })
}

/// Diameter of the dots of a picture: the fewer, the larger.
fn dot(side: f64, count: usize) -> f64 {
    side / 140.0 * (2000.0 / count.max(1) as f64).powf(0.25).clamp(0.8, 1.3)
}

/// Draws embeddings into the square of side `side` whose corner is `(left, top)`.
fn embedding(svg: &mut Svg, picture: &Drawn<'_>, square: [f64; 3], limit: usize) {
    let Embeddings { points, labels, class_weights, .. } = picture.embeddings;
    if picture.training.embedding_dim == 2 {
        let (by_norms, reach) = (picture.by_norms, plane::reach(points));
        plane::draw(svg, &Plane { points, labels, class_weights, by_norms, reach, limit }, square);
    } else {
        sphere::draw(svg, &Sphere { points, labels, class_weights, yaw: sphere::YAW, limit }, square);
    }
}

/// The coloured names of the losses in one line, from `left`.
fn legend(svg: &mut Svg, losses: &[Loss<'_>], left: f64, baseline: f64) {
    let mut x = left;
    for loss in losses {
        let paint = Paint::loss(loss.colour);
        svg.line([x, baseline - 4.0, x + 22.0, baseline - 4.0], &paint, 2.0);
        svg.fill(&chart::marker(loss.colour, [x + 11.0, baseline - 4.0]), &paint, "");
        svg.text([x + 28.0, baseline], "start", &Paint::ink(), 12.0, loss.title);
        x += 28.0 + 22.0 + 6.6 * loss.title.chars().count() as f64;
    }
}
