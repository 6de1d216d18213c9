//! Embeddings of the test set.

use std::fmt::Write as _;

use crate::figure::{SHOWN_POINTS, drawable, histogram, shown_run};
use crate::geometry::angles;
use crate::model::{Report, Training};
use crate::palette;
use crate::summary::Group;
use crate::text::{escape, measured, thousands};

/// A picture, angles and their histogram a training, by embedding size.
pub(super) fn section(report: &Report) -> String {
    let groups = drawable(report);
    if groups.is_empty() {
        return "<p>No two- or three-dimensional embeddings were kept.</p>\n".to_string();
    }
    let mut html = String::from(
        "<p>Every point is a test image, coloured by its true class; lines and numbers mark the directions of the class \
         weights; rings are images of which another class’s cosine is larger. Point at an image to read it; in a focused picture the \
         arrow keys step through the wrongly classified images or turn the sphere.</p>\n\
         <noscript><p class=\"warning\">The moving pictures need JavaScript; the same embeddings are in the SVG files \
         beside this page.</p></noscript>\n",
    );
    html.push_str(&class_legend(report.dataset.classes));
    for dim in [2, 3] {
        let of_dim: Vec<&Group<'_>> = groups.iter().filter(|g| g.dim == dim).collect();
        if of_dim.is_empty() {
            continue;
        }
        let _ = writeln!(html, "<div class=\"embeddings\" data-dim=\"{dim}\">");
        html.push_str(&head(dim));
        html.push_str("<div class=\"pictures\">\n");
        for group in of_dim {
            if let Some(training) = shown_run(group) {
                html.push_str(&picture(training, group.colour));
            }
        }
        html.push_str("</div>\n</div>\n");
    }
    html
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

fn picture(training: &Training, colour: usize) -> String {
    let Some(embeddings) = &training.embeddings else {
        return String::new();
    };
    let dim = training.embedding_dim;
    let count = embeddings.labels.len();
    let pairs = || embeddings.labels.iter().zip(&embeddings.predictions);
    let wrong = pairs().filter(|(label, prediction)| label != prediction).count();
    let angles = angles(embeddings, dim);
    let title = escape(&training.title);
    format!(
        "<figure class=\"picture\">\n<figcaption><span><span class=\"swatch b-loss{}\"></span><b>{title}</b></span>\
         <small>seed {}</small></figcaption>\n\
         <canvas tabindex=\"0\" role=\"img\" aria-label=\"{dim}-D embeddings of {title}\" \
         data-embedding=\"{dim}-{}\"></canvas>\n\
         <p class=\"count\">{} of {} drawn · {} wrong in all</p>\n{}\
         <dl class=\"angles\"><div><dt>mean angle to own class</dt><dd>{}°</dd></div>\
         <div><dt>to nearest other class</dt><dd>{}°</dd></div></dl>\n</figure>\n",
        colour,
        training.seed,
        training.loss,
        thousands(count.min(SHOWN_POINTS) as u64),
        thousands(count as u64),
        thousands(wrong as u64),
        histogram::inline(&angles, colour),
        measured(angles.own_mean, 1),
        measured(angles.other_mean, 1),
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
