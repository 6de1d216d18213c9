//! Figures: drawn once, put into the page and into files of their own.

pub(crate) mod axis;
pub(crate) mod chart;
pub(crate) mod curves;
pub(crate) mod forest;
pub(crate) mod histogram;
pub(crate) mod network;
mod overview;
mod plane;
mod sphere;
pub(crate) mod svg;

use crate::model::{Embeddings, Report, Training};
use crate::summary::{Loss, groups};
use svg::{Paint, Svg};

/// Points drawn of one training at most.
pub(crate) const SHOWN_POINTS: usize = 4000;

/// The figure files of a checked report: names and contents.
pub(crate) fn files(report: &Report) -> Vec<(String, String)> {
    let mut files = vec![
        ("loss.svg".to_string(), overview::loss(report)),
        ("accuracy.svg".to_string(), overview::accuracy(report)),
    ];
    let drawn = drawable(report);
    for picture in &drawn {
        let Training { embedding_dim, loss, .. } = picture.training;
        files.push((format!("embedding-{embedding_dim}d-{loss}.svg"), overview::single(report, picture)));
    }
    if !drawn.is_empty() {
        files.push(("embeddings.svg".to_string(), overview::grid(report, &drawn)));
    }
    let network = &report.network;
    if !network.layers.is_empty() {
        files.extend([
            ("network.svg".to_string(), network::file(network)),
            ("network.dot".to_string(), network.dot()),
            ("network.txt".to_string(), network.table()),
        ]);
    }
    files
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

/// Draws embeddings into the square of side `side` whose corner is `(left, top)`.
fn embedding(svg: &mut Svg, picture: &Drawn<'_>, square: [f64; 3], limit: usize) {
    if picture.training.embedding_dim == 2 {
        plane::draw(svg, picture, square, limit);
    } else {
        sphere::draw(svg, picture.embeddings, square, limit);
    }
}

/// The coloured names of the losses in one line, from `left`.
fn legend(svg: &mut Svg, losses: &[Loss<'_>], left: f64, baseline: f64) {
    let mut x = left;
    for loss in losses {
        svg.line([x, baseline - 4.0, x + 18.0, baseline - 4.0], &Paint::loss(loss.colour), 2.5);
        svg.text([x + 24.0, baseline], "start", &Paint::ink(), 12.0, loss.title);
        x += 24.0 + 22.0 + 6.6 * loss.title.chars().count() as f64;
    }
}
