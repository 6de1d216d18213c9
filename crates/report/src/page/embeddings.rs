//! Embeddings of the test images: their angles in a table, and pictures.

use std::fmt::Write as _;

use super::table::{Column, table};
use crate::figure::{Drawn, SHOWN_POINTS, drawable, histogram};
use crate::geometry::{Angles, angles, norm};
use crate::model::{Report, Training};
use crate::palette;
use crate::separation::{Separation, separation};
use crate::statistics::mean;
use crate::summary::{Group, groups};
use crate::text::{measured, thousands, title};

/// Angles of all groups that kept embeddings, pictures of the two- and three-dimensional ones; empty without any.
pub(super) fn section(report: &Report) -> String {
    let all = measurements(report);
    let mut html = geometry(report, &all);
    let drawn = drawable(report);
    if drawn.is_empty() {
        return html;
    }
    html.push_str(&how_to_read(&drawn));
    html.push_str(&class_legend(report.dataset.classes));
    for of_dim in drawn.chunk_by(|a, b| a.training.embedding_dim == b.training.embedding_dim) {
        let dim = of_dim[0].training.embedding_dim;
        let _ = writeln!(html, "<div class=\"embeddings\" data-dim=\"{dim}\">");
        html.push_str(&head(dim));
        html.push_str(&player(of_dim));
        html.push_str("<div class=\"pictures\">\n");
        for drawn in of_dim {
            let found = all.iter().find(|measured| std::ptr::eq(measured.training, drawn.training));
            let histogram = found.map(|m| histogram::inline(&m.separation, drawn.colour)).unwrap_or_default();
            html.push_str(&picture(drawn, &histogram));
        }
        html.push_str("</div>\n</div>\n");
    }
    html
}

/// What the pictures show and what a reader can do with them.
fn how_to_read(drawn: &[Drawn<'_>]) -> String {
    let mut html = String::from(
        "<p>Every point is a test image in the colour of its true class, every numbered disc the weight of a class. \
         Rings mark wrongly classified images. “Normalised” moves every point to length 1, so that only angles are \
         left. Point at an image to see the digit; the same image is marked in the other pictures. In a focused \
         picture the arrow keys step through the wrong images (2-D) or turn the sphere (3-D)",
    );
    let film = drawn.iter().find_map(|d| d.training.film.as_ref()?.frames.first().map(|f| (d, f.points.len())));
    if let Some((d, length)) = film {
        let count = thousands((length / d.training.embedding_dim) as u64);
        let _ = write!(
            html,
            ", and the space bar plays the training: the first {count} test images, from the network’s random start to \
             its end. They were embedded about every quarter of an epoch, and points glide between those moments. \
             Nothing was trained on them"
        );
    }
    html.push('.');
    if let Some(by_norms) = drawn.iter().find(|d| d.by_norms) {
        let _ = write!(
            html,
            " Among raw points of {} the lines to the discs are as long as the class weights, relative to the longest.",
            title(&by_norms.training.title)
        );
    }
    html.push_str(
        "</p>\n<noscript><p class=\"warning\">The moving pictures need JavaScript; the same embeddings are in the folder \
         <code>figures</code> beside this page.</p></noscript>\n",
    );
    html
}

/// What is measured of one training's embeddings.
struct Measurement<'a> {
    training: &'a Training,
    angles: Angles,
    separation: Separation,
}

/// Every training's, once: pairs of images are many.
fn measurements(report: &Report) -> Vec<Measurement<'_>> {
    let measured = report.trainings.iter().filter_map(|training| {
        let (found, dim) = (training.embeddings.as_ref()?, training.embedding_dim);
        Some(Measurement { training, angles: angles(found, dim), separation: separation(found, dim) })
    });
    measured.collect()
}

/// The table of angles.
fn geometry(report: &Report, all: &[Measurement<'_>]) -> String {
    let mut groups = groups(report);
    for group in &mut groups {
        group.runs.retain(|t| t.embeddings.is_some());
    }
    groups.retain(|group| !group.runs.is_empty());
    if groups.is_empty() {
        return String::new();
    }
    let cell = |decimals: usize, unit: &'static str, value: fn(&Measurement<'_>) -> f64| {
        move |group: &Group<'_>| {
            let of_group = |m: &&Measurement<'_>| group.runs.iter().any(|&run| std::ptr::eq(run, m.training));
            let values: Vec<f64> = all.iter().filter(of_group).map(value).collect();
            format!("{}{unit}", measured(mean(&values), decimals)).replace('-', "−")
        }
    };
    let columns = [
        Column::new("To own class", cell(1, "°", |m| m.angles.own_mean)),
        Column::new("To nearest other", cell(1, "°", |m| m.angles.other_mean)),
        Column::new("Fisher score", cell(3, "", |m| m.separation.fisher)),
        Column::new("Margin, 95%", cell(1, "°", |m| m.separation.margin_95)),
        Column::new("Margin, 99%", cell(1, "°", |m| m.separation.margin_99)),
        Column::new("Margin, all", cell(1, "°", |m| m.separation.margin)),
        Column::new("Length ‖w‖", norms),
    ];
    let seeds = if groups.iter().any(|g| g.runs.len() > 1) { " Values are means over the seeds." } else { "" };
    format!(
        "<p>A margin is meant to change where embeddings stand: closer to their own class, further from the others. Does it?{seeds}</p>\n\
         <div class=\"geometry\">\n{}</div>\n\
         <dl class=\"measures\">\n\
         <div><dt>To own class, to nearest other</dt><dd>Mean angle of a test image to the weight of its own class, and to the nearest \
         of the other weights.</dd></div>\n\
         <div><dt>Fisher score</dt><dd>Scatter of the images around the mean direction of their class, divided by the scatter of these \
         means, both as 1 − cos (angular Fisher score): the smaller, the better separated.</dd></div>\n\
         <div><dt>Margin, 95% and 99%</dt><dd>Angle that 95% (99%) of the pairs of different classes exceed, minus the angle that as many \
         pairs of one class stay within, among up to 2,000 images: above 0°, classes stand apart.</dd></div>\n\
         <div><dt>Margin, all</dt><dd>Smallest angle between two images of different classes minus the largest within one: one wrongly \
         placed image makes it very negative, and no loss is without.</dd></div>\n\
         <div><dt>Length ‖w‖</dt><dd>From the shortest to the longest class weight, as the loss uses them.</dd></div>\n\
         </dl>\n",
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

/// The film's controls, if one was recorded. They stand at its end.
fn player(drawn: &[Drawn<'_>]) -> String {
    let ends = drawn.iter().filter_map(|d| Some(d.training.film.as_ref()?.frames.last()?.epoch));
    let epochs = ends.fold(0.0, f64::max);
    if epochs <= 0.0 {
        return String::new();
    }
    let speed = |value: &str, pressed: bool| {
        format!("<button type=\"button\" data-speed=\"{value}\" aria-pressed=\"{pressed}\">{value}×</button>")
    };
    format!(
        "<div class=\"player\"><button type=\"button\" data-play>Play the training</button>\
         <input type=\"range\" data-time min=\"0\" max=\"{epochs}\" step=\"{}\" value=\"{epochs}\" aria-label=\"Epoch\">\
         <output></output>\
         <div class=\"segments\" role=\"group\" aria-label=\"Speed\">{}{}{}</div></div>\n",
        epochs / 400.0,
        speed("0.5", false),
        speed("1", true),
        speed("2", false)
    )
}

fn picture(drawn: &Drawn<'_>, histogram: &str) -> String {
    let Drawn { training, embeddings, colour, .. } = drawn;
    let Training { embedding_dim: dim, loss, seed, .. } = training;
    let count = embeddings.labels.len();
    let pairs = embeddings.labels.iter().zip(&embeddings.predictions);
    let wrong = pairs.filter(|(label, prediction)| label != prediction).count();
    let shown = if count > SHOWN_POINTS {
        format!(" · {} drawn, all wrong ones among them", thousands(SHOWN_POINTS as u64))
    } else {
        String::new()
    };
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
