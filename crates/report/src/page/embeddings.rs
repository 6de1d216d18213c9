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
    let mut html = geometry(report);
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
            let separation = separation(drawn.embeddings, dim);
            html.push_str(&picture(drawn, &histogram::inline(&separation, drawn.colour)));
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
    if drawn.iter().any(|d| d.training.scores_by_norms()) {
        html.push_str(
            " Among raw points of the original softmax the lines to the discs are as long as the class weights, relative to the longest.",
        );
    }
    html.push_str(
        "</p>\n<noscript><p class=\"warning\">The moving pictures need JavaScript; the same embeddings are in the SVG files \
         beside this page.</p></noscript>\n",
    );
    html
}

/// What is measured of a group's runs: means over its seeds.
struct Measured {
    own: f64,
    other: f64,
    fisher: f64,
    margin: f64,
    margin_99: f64,
    margin_95: f64,
}

impl Measured {
    fn new(group: &Group<'_>) -> Self {
        let kept: Vec<_> = group.runs.iter().filter_map(|t| t.embeddings.as_ref()).collect();
        let angles: Vec<Angles> = kept.iter().map(|e| angles(e, group.dim)).collect();
        let separations: Vec<Separation> = kept.iter().map(|e| separation(e, group.dim)).collect();
        let over = |value: fn(&Separation) -> f64| mean(&separations.iter().map(value).collect::<Vec<_>>());
        Self {
            own: mean(&angles.iter().map(|a| a.own_mean).collect::<Vec<_>>()),
            other: mean(&angles.iter().map(|a| a.other_mean).collect::<Vec<_>>()),
            fisher: over(|s| s.fisher),
            margin: over(|s| s.margin),
            margin_99: over(|s| s.margin_99),
            margin_95: over(|s| s.margin_95),
        }
    }
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
    let all: Vec<Measured> = groups.iter().map(Measured::new).collect();
    let of = |group: &Group<'_>| groups.iter().position(|g| (g.loss, g.dim) == (group.loss, group.dim));
    let cell = |decimals: usize, unit: &'static str, value: fn(&Measured) -> f64| {
        let (of, all) = (&of, &all);
        move |group: &Group<'_>| {
            let value = of(group).map_or(f64::NAN, |i| value(&all[i]));
            format!("{}{unit}", measured(value, decimals)).replace('-', "−")
        }
    };
    let columns = [
        Column::new("To own class", cell(1, "°", |m| m.own)),
        Column::new("To nearest other", cell(1, "°", |m| m.other)),
        Column::new("Fisher score", cell(3, "", |m| m.fisher)),
        Column::new("Margin of 95%", cell(1, "°", |m| m.margin_95)),
        Column::new("of 99%", cell(1, "°", |m| m.margin_99)),
        Column::new("of all", cell(1, "°", |m| m.margin)),
        Column::new("Length ‖w‖", |group| norms(&group.runs)),
    ];
    let seeds = if groups.iter().any(|g| g.runs.len() > 1) { " Values are means over the seeds." } else { "" };
    format!(
        "<p>A margin is meant to change where embeddings stand: closer to their own class, further from the others. Does it?{seeds}</p>\n\
         <div class=\"geometry\">\n{}</div>\n\
         <dl class=\"terms\">\n\
         <div><dt>To own class, to nearest other</dt><dd>Mean angle of a test image to the weight of its own class, and to the nearest \
         of the other weights.</dd></div>\n\
         <div><dt>Fisher score</dt><dd>Scatter of the images around the mean direction of their class, divided by the scatter of these \
         means, both as 1 − cos (angular Fisher score): the smaller, the better separated.</dd></div>\n\
         <div><dt>Margin of 95%, of 99%</dt><dd>Angle that 95% (99%) of the pairs of different classes exceed, minus the angle that as many \
         pairs of one class stay within, among up to 2,000 images: above 0°, classes stand apart.</dd></div>\n\
         <div><dt>Margin of all</dt><dd>Smallest angle between two images of different classes minus the largest within one: one wrongly \
         placed image makes it very negative, and no loss is without.</dd></div>\n\
         <div><dt>Length ‖w‖</dt><dd>From the shortest to the longest class weight, as the loss uses them.</dd></div>\n\
         </dl>\n",
        table(&groups, &columns)
    )
}

/// Shortest and longest class weight as the classifier uses them.
fn norms(runs: &[&Training]) -> String {
    if !runs.iter().any(|t| t.scores_by_norms()) {
        return "1".to_string();
    }
    let weights = runs.iter().filter_map(|t| Some((t.embeddings.as_ref()?, t.embedding_dim)));
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
    let Drawn { training, embeddings, colour } = drawn;
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
