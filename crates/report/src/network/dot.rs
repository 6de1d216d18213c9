//! The graph in the language of Graphviz: `dot -Tpdf network.dot`.

use std::fmt::Write as _;

use super::{Sums, parts};
use crate::model::{LayerInfo, NetworkInfo};
use crate::text::thousands;

/// All layers, each stage in a frame; what a residual unit adds is a dashed edge.
pub(crate) fn text(network: &NetworkInfo) -> String {
    let mut text = format!(
        "digraph {} {{\n  rankdir=TB;\n  node [shape=box, style=rounded, fontname=\"Helvetica\", fontsize=11];\n  \
         edge [fontname=\"Helvetica\", fontsize=9];\n",
        quoted(&network.name)
    );
    let mut at = 0;
    let stages: Vec<(Option<usize>, usize)> =
        parts(network).iter().map(|part| (part.stage, part.rows.iter().map(|row| row.sums.layers).sum())).collect();
    for of_stage in stages.chunk_by(|a, b| a.0 == b.0) {
        let count: usize = of_stage.iter().map(|(_, layers)| layers).sum();
        let layers = &network.layers[at..at + count];
        at += count;
        let indent = match of_stage[0].0 {
            Some(stage) => {
                let _ =
                    write!(text, "  subgraph cluster_stage{stage} {{\n    label=\"Stage {stage}\";\n    color=gray;\n");
                "    "
            }
            None => "  ",
        };
        for layer in layers {
            let _ = writeln!(text, "{indent}{} [label={}];", quoted(&layer.name), quoted(&label(layer)));
        }
        if of_stage[0].0.is_some() {
            text.push_str("  }\n");
        }
    }
    for layer in &network.layers {
        for (place, read) in layer.reads.iter().enumerate() {
            let (from, to) = (quoted(read), quoted(&layer.name));
            let shape = network.layers.iter().find(|other| other.name == *read).map(LayerInfo::shape);
            let _ = if place == 0 {
                writeln!(text, "  {from} -> {to} [label={}];", quoted(&shape.unwrap_or_default()))
            } else {
                writeln!(text, "  {from} -> {to} [style=dashed, constraint=false];")
            };
        }
    }
    text.push_str("}\n");
    text
}

fn label(layer: &LayerInfo) -> String {
    let prelu = if layer.prelu { ", PReLU" } else { "" };
    let sum = if layer.reads.len() > 1 { ", + input of the unit" } else { "" };
    let parameters = match Sums::of([layer]).parameters {
        0 => String::new(),
        count => format!("\n{} parameters", thousands(count)),
    };
    format!("{}\n{}{prelu}{sum}{parameters}", layer.name, layer.words())
}

/// A quoted identifier; `\n` is Graphviz's own line break.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
