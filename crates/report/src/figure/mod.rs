//! Figures: drawn once, put into the page and into files of their own.

pub(crate) mod axis;
pub(crate) mod chart;
pub(crate) mod curves;
pub(crate) mod forest;
pub(crate) mod histogram;
mod overview;
mod plane;
pub(crate) mod psi;
mod sphere;
pub(crate) mod svg;

use crate::model::{Report, Training};
use crate::summary::{Group, Loss, groups};
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
    for group in &drawn {
        let name = format!("embedding-{}d-{}.svg", group.dim, group.loss);
        files.push((name, overview::single(group)));
    }
    if !drawn.is_empty() {
        files.push(("embeddings.svg".to_string(), overview::grid(&drawn)));
    }
    files
}

/// The groups that have a picture: two or three numbers an embedding, and embeddings kept of one of its runs.
pub(crate) fn drawable(report: &Report) -> Vec<Group<'_>> {
    let mut groups = groups(report);
    groups.retain(|g| matches!(g.dim, 2 | 3) && shown_run(g).is_some());
    groups
}

/// The run of a group whose embeddings are drawn: the first that kept them.
pub(crate) fn shown_run<'a>(group: &Group<'a>) -> Option<&'a Training> {
    group.runs.iter().copied().find(|t| t.embeddings.is_some())
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

/// Draws a training's embeddings into the square of side `side` whose corner is `(left, top)`.
fn embedding(svg: &mut Svg, training: &Training, [left, top, side]: [f64; 3], limit: usize) {
    match (&training.embeddings, training.embedding_dim) {
        (Some(embeddings), 2) => plane::draw(svg, embeddings, [left, top, side], limit),
        (Some(embeddings), 3) => sphere::draw(svg, embeddings, [left, top, side], limit),
        _ => {}
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
