//! Embeddings of the test images: their angles in a table, and pictures.

use std::fmt::Write as _;

use super::table::{Column, table};
use crate::figure::{Drawn, SHOWN_POINTS, drawable, histogram};
use crate::geometry::{Angles, angles, norm};
use crate::model::{Report, Training};
use crate::palette;
use crate::statistics::mean;
use crate::summary::{Group, groups};
use crate::text::{measured, thousands, title};

/// Angles of all groups that kept embeddings, pictures of the two- and three-dimensional ones; empty without any.
pub(super) fn section(report: &Report) -> String {
    let mut html = geometry(report);
    let drawn = drawable(report);
    if drawn.is_empty() {
        return html;
    }
    html.push_str(
        "<p>Below, every point is a test image, coloured by its true class, and every numbered disc the weight of a class. Rings mark wrongly \
         classified images. “Normalised” moves every point to length 1, so that only angles are left. Point at an \
         image to read it; in a focused picture the arrow keys step through the wrong images (2-D) or turn the sphere \
         (3-D). The histograms reach as far as 99.5% of the images.",
    );
    if let Some(by_norms) = drawn.iter().find(|d| d.by_norms) {
        let _ = write!(
            html,
            " Among raw points of {} the lines to the discs are as long as the class weights, relative to the longest.",
            title(&by_norms.training.title)
        );
    }
    html.push_str(
        "</p>\n<noscript><p class=\"warning\">The moving pictures need JavaScript; the same embeddings are in the SVG files \
         beside this page.</p></noscript>\n",
    );
    html.push_str(&class_legend(report.dataset.classes));
    for of_dim in drawn.chunk_by(|a, b| a.training.embedding_dim == b.training.embedding_dim) {
        let dim = of_dim[0].training.embedding_dim;
        let _ = writeln!(html, "<div class=\"embeddings\" data-dim=\"{dim}\">");
        html.push_str(&head(dim));
        html.push_str("<div class=\"pictures\">\n");
        let measured: Vec<Angles> = of_dim.iter().map(|d| angles(d.embeddings, dim)).collect();
        let span = histogram::span(&measured);
        for (drawn, angles) in of_dim.iter().zip(&measured) {
            html.push_str(&picture(drawn, &histogram::inline(angles, drawn.colour, span)));
        }
        html.push_str("</div>\n</div>\n");
    }
    html
}

/// The table of angles.
fn geometry(report: &Report) -> String {
    let mut groups = groups(report);
    for group in &mut groups {
        group.runs.retain(|t| t.embeddings.is_some());
    }
    groups.retain(|group| !group.runs.is_empty());
    if groups.is_empty() {
        return String::new();
    }
    let angle = |value: fn(&Angles) -> f64| {
        move |group: &Group<'_>| {
            let kept = group.runs.iter().filter_map(|t| t.embeddings.as_ref());
            let values: Vec<f64> = kept.map(|e| value(&angles(e, group.dim))).collect();
            format!("{}°", measured(mean(&values), 1))
        }
    };
    let columns = [
        Column::new("To own class", angle(|a| a.own_mean)),
        Column::new("To nearest other", angle(|a| a.other_mean)),
        Column::new("Spread in class", angle(|a| a.spread)),
        Column::new("Length ‖w‖", norms),
    ];
    let seeds = if groups.iter().any(|g| g.runs.len() > 1) { " and seeds" } else { "" };
    format!(
        "<p>A margin is meant to change where embeddings stand: closer to the weight of their own class, further from the others. \
         Mean angles over all test images{seeds} to the weight of the own class, to the nearest other weight, and to \
         the mean direction of the own class (its spread); ‖w‖ is the length of the class weights.</p>\n\
         <div class=\"geometry\">\n{}</div>\n",
        table(&groups, &columns)
    )
}

/// Shortest and longest class weight as the classifier uses them.
fn norms(group: &Group<'_>) -> String {
    if !group.scores_by_norms() {
        return "1".to_string();
    }
    let weights = group.runs.iter().filter_map(|t| Some((t.embeddings.as_ref()?, t.embedding_dim)));
    let norms: Vec<f64> = weights.flat_map(|(e, dim)| e.class_weights.chunks(dim).map(norm)).collect();
    let (low, high) = norms.iter().fold((f64::INFINITY, 0.0f64), |(low, high), &n| (low.min(n), high.max(n)));
    format!("{}–{}", measured(low, 2), measured(high, 2))
}

fn head(dim: usize) -> String {
    let (raw, unit) = if dim == 2 { ("true", "false") } else { ("false", "true") };
    let turn = "<button type=\"button\" data-turn aria-pressed=\"true\">Turn</button>";
    format!(
        "<div class=\"bar\"><h3>{dim}-D embedding</h3><div class=\"controls\">\
         <div class=\"segments\" role=\"group\" aria-label=\"Lengths\">\
         <button type=\"button\" data-view=\"raw\" aria-pressed=\"{raw}\">Raw</button>\
         <button type=\"button\" data-view=\"unit\" aria-pressed=\"{unit}\">Normalised</button></div>\
         <div class=\"segments\" role=\"group\" aria-label=\"Points\">\
         <button type=\"button\" data-mark=\"dot\" aria-pressed=\"true\">Dots</button>\
         <button type=\"button\" data-mark=\"digit\" aria-pressed=\"false\">Numbers</button></div>{}</div></div>\n",
        if dim == 3 { turn } else { "" }
    )
}

fn picture(drawn: &Drawn<'_>, histogram: &str) -> String {
    let Drawn { training, embeddings, colour, .. } = drawn;
    let Training { embedding_dim: dim, loss, seed, .. } = training;
    let count = embeddings.labels.len();
    let pairs = embeddings.labels.iter().zip(&embeddings.predictions);
    let wrong = pairs.filter(|(label, prediction)| label != prediction).count();
    let shown =
        if count > SHOWN_POINTS { format!(" · {} drawn", thousands(SHOWN_POINTS as u64)) } else { String::new() };
    let title = title(&training.title);
    format!(
        "<figure class=\"picture\">\n<figcaption><span class=\"swatch b-loss{colour}\"></span><b>{title}</b></figcaption>\n\
         <canvas tabindex=\"0\" role=\"img\" aria-label=\"{dim}-D embeddings of {title}\" \
         data-embedding=\"{dim}-{loss}\"></canvas>\n\
         <p class=\"count\">{} of {} wrong{shown} · seed {seed}</p>\n{histogram}</figure>\n",
        thousands(wrong as u64),
        thousands(count as u64),
    )
}

fn class_legend(classes: usize) -> String {
    let mut html = String::from("<div class=\"classes\" role=\"group\" aria-label=\"Show one class alone\">\n");
    for class in 0..classes {
        let _ = writeln!(
            html,
            "<button type=\"button\" data-class=\"{class}\" aria-pressed=\"false\">\
             <span class=\"dot b-class{}\"></span>{class}</button>",
            class % palette::CLASSES.len()
        );
    }
    html.push_str("</div>\n");
    html
}
