//! The figure files: charts and embeddings side by side, for a README or a paper.

use super::chart::{Chart, SIZE};
use super::svg::{Paint, Svg};
use super::{Drawn, SHOWN_POINTS, curves, embedding, forest, histogram, legend, psi};
use crate::model::{Report, Training};
use crate::separation::separation;
use crate::summary::{annealed, dims, groups, losses, runs, shows_published};
use crate::text::thousands;

const MARGIN: f64 = 16.0;
const CELL: f64 = 300.0;
const HEAD: f64 = 44.0;
/// Points of one cell of the grid, which readers see small.
const CELL_POINTS: usize = 2000;

/// `loss.svg`.
pub(super) fn loss(report: &Report) -> String {
    let note = annealed(report).map_or_else(String::new, |title| {
        format!(
            "The loss of {title} contains more of its margin the smaller λ is: it is not on the scale of the others."
        )
    });
    side_by_side(report, "Training loss", &note, curves::loss)
}

/// `accuracy.svg`.
pub(super) fn accuracy(report: &Report) -> String {
    let note = "Test images, each by the classifier’s own logits without margin; nothing was chosen by it.";
    side_by_side(report, "Test accuracy after each epoch", note, curves::accuracy)
}

/// One chart an embedding size under a common legend.
fn side_by_side(report: &Report, title: &str, note: &str, chart: fn(&Report, usize) -> Chart) -> String {
    let dims = dims(report);
    let mut svg = Svg::default();
    legend(&mut svg, &losses(report), MARGIN + 4.0, MARGIN + 14.0);
    for (column, &dim) in dims.iter().enumerate() {
        let mut chart = chart(report, dim);
        chart.title = format!("{}, {dim}-D", chart.title);
        chart.draw(&mut svg, MARGIN + column as f64 * (SIZE[0] + MARGIN), MARGIN + 28.0);
    }
    if !note.is_empty() {
        let baseline = MARGIN + 28.0 + SIZE[1] + 14.0;
        svg.text([MARGIN + 4.0, baseline], "start", &Paint::muted(), 11.5, note);
    }
    let columns = dims.len().max(2) as f64;
    let width = MARGIN + columns * (SIZE[0] + MARGIN);
    svg.file([width, SIZE[1] + 2.0 * MARGIN + 36.0], &format!("{}: {title}", report.title))
}

/// `embedding-<D>d-<loss>`.
pub(super) fn single(report: &Report, picture: &Drawn<'_>) -> String {
    let side = 328.0;
    let Drawn { training, embeddings, .. } = picture;
    let Training { title, embedding_dim, seed, test_accuracy, .. } = training;
    let count = embeddings.labels.len();
    let label = format!("{title}, {embedding_dim}-D embedding");
    let form = if *embedding_dim == 3 { "normalised · " } else { "" };
    let details = [
        format!("{form}{}, seed {seed}, test accuracy {test_accuracy:.4}", report.dataset.name),
        format!(
            "{} of {} test images; numbered discs are class weights",
            thousands(count.min(SHOWN_POINTS) as u64),
            thousands(count as u64)
        ),
    ];
    let mut svg = Svg::default();
    heading(&mut svg, &label);
    for (detail, baseline) in details.iter().zip([43.0, 58.0]) {
        svg.text([MARGIN, baseline], "start", &Paint::muted(), 11.0, detail);
    }
    embedding(&mut svg, picture, [MARGIN, 64.0, side], SHOWN_POINTS);
    svg.file([side + 2.0 * MARGIN, side + 64.0 + 8.0], &label)
}

/// `intervals`: accuracies as a forest plot.
pub(super) fn intervals(report: &Report) -> String {
    let groups = groups(report);
    let published = shows_published(report);
    let (panel, [width, height]) = forest::panel(&groups, published);
    let mut svg = Svg::default();
    heading(&mut svg, "Test accuracy with 95% intervals");
    svg.place(&panel, [0.0, 34.0]);
    let mut height = 34.0 + height + 8.0;
    let (fewest, most) = runs(&groups);
    let seeds = match (fewest, most) {
        (_, 1) => format!("one seed: interval of {} test images", thousands(report.dataset.test_images as u64)),
        (fewest, most) if fewest < most => format!("means of {fewest} to {most} seeds"),
        (_, most) => format!("means of {most} seeds"),
    };
    let note = format!("{seeds}{}", if published { "; open diamonds: published" } else { "" });
    svg.text([MARGIN, height + 6.0], "start", &Paint::muted(), 11.0, &note);
    height += MARGIN + 4.0;
    svg.file([width, height], "Test accuracy of every loss with its 95% interval")
}

/// `psi`: what a margin puts in place of cos θ.
pub(super) fn psi(report: &Report) -> String {
    let mut svg = Svg::default();
    psi::chart(&report.losses).draw(&mut svg, 12.0, 4.0);
    svg.file([SIZE[0] + MARGIN, SIZE[1] + 8.0], "The shape of the margin: psi of theta")
}

/// `angles`: a histogram of angles between test images for each training; rows are losses, columns embedding sizes.
pub(super) fn angles(report: &Report, drawn: &[Drawn<'_>]) -> String {
    let mut rows: Vec<&str> = Vec::new();
    let mut columns: Vec<usize> = Vec::new();
    let [width, height] = histogram::SIZE;
    let (width, height) = (width + MARGIN, height + 40.0);
    let mut svg = Svg::default();
    for picture in drawn {
        let Training { loss, title, embedding_dim, .. } = picture.training;
        let left = MARGIN + place(&mut columns, *embedding_dim) as f64 * width;
        let top = 8.0 + place(&mut rows, loss.as_str()) as f64 * height;
        let name = format!("{title}, {embedding_dim}-D");
        svg.styled_text([left + 8.0, top + 18.0], "start", &Paint::ink(), 13.0, &name, "font-weight=\"600\"");
        let found = separation(picture.embeddings, *embedding_dim);
        svg.place(&histogram::panel(&found, picture.colour), [left, top + 28.0]);
    }
    let bottom = 8.0 + rows.len() as f64 * height;
    let note = format!("Pairs of test images of {}; each histogram is as high as its panel.", report.dataset.name);
    svg.text([MARGIN + 8.0, bottom + 12.0], "start", &Paint::muted(), 11.0, &note);
    let width = MARGIN + columns.len().max(2) as f64 * width;
    svg.file([width, bottom + 12.0 + MARGIN], "Angles between test images, by loss and embedding size")
}

/// A figure's title.
fn heading(svg: &mut Svg, title: &str) {
    svg.styled_text([MARGIN, 24.0], "start", &Paint::ink(), 14.0, title, "font-weight=\"600\"");
}

/// `embeddings.svg`: rows are embedding sizes, columns losses.
pub(super) fn grid(report: &Report, drawn: &[Drawn<'_>]) -> String {
    let mut columns: Vec<&str> = Vec::new();
    let mut rows: Vec<usize> = Vec::new();
    let lengths = drawn.iter().any(|d| d.by_norms && d.training.embedding_dim == 2);
    let mut svg = Svg::default();
    for picture in drawn {
        let Training { loss, title, embedding_dim, test_accuracy, .. } = picture.training;
        let column = place(&mut columns, loss.as_str()) as f64;
        let row = place(&mut rows, *embedding_dim) as f64;
        let (left, top) = (MARGIN + column * (CELL + MARGIN), MARGIN + row * (CELL + HEAD));
        let form = if *embedding_dim == 2 { "2-D" } else { "3-D, normalised" };
        let detail = format!("{form} · test accuracy {test_accuracy:.4}");
        let middle = left + CELL / 2.0;
        svg.styled_text([middle, top + 16.0], "middle", &Paint::ink(), 14.0, title, "font-weight=\"600\"");
        svg.text([middle, top + 33.0], "middle", &Paint::muted(), 12.0, &detail);
        embedding(&mut svg, picture, [left, top + HEAD - 4.0, CELL], CELL_POINTS);
    }
    let width = MARGIN + columns.len().max(2) as f64 * (CELL + MARGIN);
    let bottom = MARGIN + rows.len() as f64 * (CELL + HEAD);
    let note = format!(
        "Test images of {}, coloured by class. Numbered discs are the class weights{}.",
        report.dataset.name,
        if lengths { ", as long as they are where their lengths count" } else { "" }
    );
    svg.text([MARGIN, bottom + 8.0], "start", &Paint::muted(), 12.0, &note);
    let height = bottom + 8.0 + MARGIN;
    svg.file([width, height], "Embeddings of the test images, by loss and embedding size")
}

/// Where `value` stands in `values`, which take it up at their end if they lack it.
fn place<T: PartialEq>(values: &mut Vec<T>, value: T) -> usize {
    values.iter().position(|known| *known == value).unwrap_or_else(|| {
        values.push(value);
        values.len() - 1
    })
}
