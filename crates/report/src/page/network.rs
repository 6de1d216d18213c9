//! The network: its graph, what its parts are, and what each layer costs.

use std::fmt::Write as _;

use crate::figure::network::{inline, row_id};
use crate::model::{LayerKind, NetworkInfo, Report};
use crate::network::{Part, Row, Sums, notation, parts, timed};
use crate::text::{bytes, escape, plural, short_count, thousands};

/// Graph and layer table; empty if the layers are unknown.
pub(super) fn section(report: &Report) -> String {
    let network = &report.network;
    if network.layers.is_empty() {
        return String::new();
    }
    let parts = parts(network);
    let (graph, height) = inline(network);
    format!(
        "{}<div class=\"network-parts\">\n<figure style=\"--height:{height}px\">\n{graph}<figcaption>{}</figcaption>\n</figure>\n<div>\n{}{}{}</div>\n</div>\n",
        intro(network, &parts),
        caption(&parts),
        terms(&parts),
        table(network, &parts),
        notes(network, &parts, &report.machine),
    )
}

fn intro(network: &NetworkInfo, parts: &[Part<'_>]) -> String {
    let (Some(image), Some(embedding)) = (network.layers.first(), network.layers.iter().rev().find(is_linear)) else {
        return String::new();
    };
    let stages = parts.iter().filter_map(|part| part.stage).max().unwrap_or(0);
    let convolutions = |layer: &&crate::LayerInfo| matches!(layer.kind, LayerKind::Convolution { .. });
    let count = network.layers.iter().filter(convolutions).count();
    format!(
        "<p><strong>{}</strong> turns an image of {} numbers into an embedding of {}. {} in {} make the image smaller and \
         give it more channels: fewer places, more known about each of them.</p>\n",
        escape(&network.name),
        image.shape(),
        plural(embedding.output[2], "number"),
        capital(&plural(count, "convolution")),
        plural(stages, "stage"),
    )
}

fn is_linear(layer: &&crate::LayerInfo) -> bool {
    layer.kind == LayerKind::Linear
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

fn caption(parts: &[Part<'_>]) -> String {
    let repeated = if parts.iter().any(|part| part.times > 1) {
        " Equal residual units that follow each other are drawn once, with their number."
    } else {
        ""
    };
    format!(
        "From the image to the class weights. The blocks at the left are the size of each stage’s result, as deep as it has \
         channels.{repeated} Each box leads to its row in the table."
    )
}

/// What the words in the graph mean, as far as they occur in it.
fn terms(parts: &[Part<'_>]) -> String {
    let rows = || parts.iter().flat_map(|part| &part.rows).map(|row| row.layer);
    let convolution = rows().find_map(|layer| match layer.kind {
        LayerKind::Convolution { size, .. } => Some(size),
        _ => None,
    });
    let mut html = String::from("<dl class=\"terms\">\n");
    let mut term = |name: &str, meaning: &str| {
        let _ = writeln!(html, "<div><dt>{name}</dt><dd>{meaning}</dd></div>");
    };
    if let Some(size) = convolution {
        term(
            &format!("conv {size}×{size}"),
            &format!(
                "A convolution. A window of {size}×{size} pixels slides over the image; at each place every output channel is \
                 a weighted sum of all numbers in the window. The weights are the same everywhere."
            ),
        );
    }
    if rows().any(|layer| layer.downsamples()) {
        term(
            "stride 2",
            "The window moves by two pixels, so the result is half as high and half as wide: the tapered box.",
        );
    }
    if rows().any(|layer| layer.prelu) {
        term(
            "PReLU",
            "The bent line. Positive numbers stay; negative ones are multiplied by a slope that each channel learns. \
             Without the bend, all layers together could do no more than a single one.",
        );
    }
    if parts.iter().any(|part| part.residual) {
        term(
            "residual unit",
            "Its layers learn what to add: their result is added to what came in (⊕). The way around them carries the \
             gradient past, which lets deep networks train.",
        );
    }
    term(
        "class weights",
        "One direction for each class. The angles between them and the embedding decide the class; the losses differ in what \
         they ask of these angles.",
    );
    html.push_str("</dl>\n");
    html
}

fn table(network: &NetworkInfo, parts: &[Part<'_>]) -> String {
    let timed = timed(network);
    let mut html = String::from(
        "<table class=\"layers\">\n<thead><tr><th scope=\"col\">Layer</th><th scope=\"col\" class=\"number\">Result</th>\
         <th scope=\"col\" class=\"number\">Parameters</th><th scope=\"col\" class=\"number\">Multiply-adds</th>\
         <th scope=\"col\" class=\"number\">Memory</th>",
    );
    if timed {
        html.push_str("<th scope=\"col\" class=\"number\">Share of time</th>");
    }
    html.push_str("</tr></thead>\n");
    let columns = if timed { 6 } else { 5 };
    let longest = parts.iter().flat_map(|part| &part.rows).map(|row| row.sums.time).fold(0.0, f64::max);
    let mut number = 0;
    for of_stage in parts.chunk_by(|a, b| a.stage == b.stage) {
        html.push_str("<tbody>\n");
        if let Some(stage) = of_stage[0].stage {
            let notation: Vec<String> = of_stage.iter().map(notation).collect();
            let _ = writeln!(
                html,
                "<tr class=\"dim\"><th colspan=\"{columns}\" scope=\"rowgroup\">Stage {stage} \
                 <code>{}</code></th></tr>",
                notation.join(" &nbsp;")
            );
        }
        for part in of_stage {
            for row in &part.rows {
                html.push_str(&line(row, number, timed.then_some(longest)));
                number += 1;
            }
        }
        html.push_str("</tbody>\n");
    }
    let all = Sums::of(&network.layers);
    let _ = write!(
        html,
        "<tbody class=\"sum\">\n<tr><th scope=\"row\">All</th><td class=\"number\"></td>{}{}</tr>\n</tbody>\n</table>\n",
        costs(&all),
        if timed { time(all.time, 0.0) } else { String::new() }
    );
    html
}

fn line(row: &Row<'_>, number: usize, longest: Option<f64>) -> String {
    let layer = row.layer;
    let times = if row.sums.layers > 1 { format!(" <b>×&#8201;{}</b>", row.sums.layers) } else { String::new() };
    let prelu = if layer.prelu { ", PReLU" } else { "" };
    let sum = if layer.reads.len() > 1 { ", ⊕" } else { "" };
    format!(
        "<tr id=\"{}\" data-layer=\"{number}\"><th scope=\"row\">{}{prelu}{sum}{times}<small>{}</small></th>\
         <td class=\"number\" data-label=\"Result\">{}</td>{}{}</tr>\n",
        row_id(number),
        layer.words(),
        escape(&layer.name),
        layer.shape(),
        costs(&row.sums),
        longest.map_or_else(String::new, |longest| time(row.sums.time, longest)),
    )
}

fn costs(sums: &Sums) -> String {
    format!(
        "<td class=\"number\" data-label=\"Parameters\">{}</td><td class=\"number\" data-label=\"Multiply-adds\">{}</td>\
         <td class=\"number\" data-label=\"Memory\">{}</td>",
        thousands(sums.parameters),
        short_count(sums.multiply_adds),
        bytes(sums.bytes())
    )
}

/// A share of the time, with a bar where there is a longest one to measure it by.
fn time(share: f64, longest: f64) -> String {
    let bar = if longest > 0.0 {
        format!("<span class=\"meter\"><i style=\"width:{:.1}%\"></i></span>", 100.0 * share / longest)
    } else {
        String::new()
    };
    format!("<td class=\"number time\" data-label=\"Share of time\">{bar}<span>{:.1}%</span></td>", 100.0 * share)
}

fn notes(network: &NetworkInfo, parts: &[Part<'_>], machine: &str) -> String {
    let mut html = String::from("<div class=\"notes\">\n");
    if let Some(contrast) = contrast(network, parts) {
        let _ = writeln!(html, "<p>{contrast}</p>");
    }
    html.push_str(
        "<p><strong>Multiply-adds</strong> are those of one image’s way forward; each is two FLOPs. <strong>Memory</strong> is \
         that of the parameters and of the result for one image. Beside the stages stands what table 2 of the SphereFace \
         paper calls them: filters, channels, number of units; S2 is stride 2. Every layer is in network.txt beside this \
         page.</p>\n",
    );
    if timed(network) {
        let _ = writeln!(
            html,
            "<p><strong>Share of time</strong> was measured on {}, the shortest of a few training steps: forward, backward and update. \
             The update changes all parameters at once, so its time is shared out by their number.</p>",
            escape(machine)
        );
    }
    html.push_str("</div>\n");
    html
}

/// How unevenly time and parameters lie, where they were measured and do.
fn contrast(network: &NetworkInfo, parts: &[Part<'_>]) -> Option<String> {
    if !timed(network) {
        return None;
    }
    let all = Sums::of(&network.layers);
    let sums: Vec<(usize, f64, f64)> = parts
        .chunk_by(|a, b| a.stage == b.stage)
        .filter_map(|of_stage| {
            let rows = || of_stage.iter().flat_map(|part| &part.rows).map(|row| row.sums);
            let parameters: u64 = rows().map(|sums| sums.parameters).sum();
            let share = parameters as f64 / all.parameters.max(1) as f64;
            Some((of_stage[0].stage?, rows().map(|sums| sums.time).sum(), share))
        })
        .collect();
    let slowest = sums.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let largest = sums.iter().max_by(|a, b| a.2.total_cmp(&b.2))?;
    let percent = |share: f64| format!("{:.0}%", 100.0 * share);
    let larger = if slowest.0 < largest.0 { ", where the image is larger," } else { "" };
    Some(if slowest.0 == largest.0 {
        format!(
            "Stage {} takes {} of the time and has {} of the parameters.",
            slowest.0,
            percent(slowest.1),
            percent(slowest.2)
        )
    } else {
        format!(
            "Time and parameters lie in different places: stage {}{larger} takes {} of the time with {} of the parameters; \
             stage {} has {} of the parameters and takes {} of the time.",
            slowest.0,
            percent(slowest.1),
            percent(slowest.2),
            largest.0,
            percent(largest.2),
            percent(largest.1)
        )
    })
}
