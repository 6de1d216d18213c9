//! The layer table as plain text of 80 columns.

use super::{Sums, timed};
use crate::model::{LayerInfo, LayerKind, NetworkInfo};
use crate::text::{bytes, fit, short_count, thousands};

/// Every layer, then the sums.
pub(crate) fn text(network: &NetworkInfo) -> String {
    let total = Sums::of(&network.layers);
    let timed = timed(network);
    let heading = ["layer", "", "output", "parameters", "mul-adds", "share", "bytes", "time"];
    let mut lines = vec![row(heading.map(str::to_string), timed)];
    let rule = "─".repeat(lines[0].chars().count());
    lines.push(rule.clone());
    for layer in &network.layers {
        lines.push(values(&layer.name, &operation(layer), &layer.shape(), &Sums::of([layer]), &total, timed));
    }
    lines.push(rule);
    lines.push(values("all", "", "", &total, &total, timed));
    lines.push(String::new());
    lines.push("mul-adds: of one image, forward, and their share; a multiply-add is two FLOPs.".to_string());
    lines.push("bytes: of the parameters and of the result for one image.".to_string());
    if timed {
        lines.push("time: share of a training step (forward, backward, update), measured.".to_string());
    }
    lines.push("PReLUs belong to the convolution before them; +: adds the input of its unit.".to_string());
    lines.join("\n") + "\n"
}

/// What a layer does, in at most nine characters.
fn operation(layer: &LayerInfo) -> String {
    match layer.kind {
        LayerKind::Input => "images".to_string(),
        LayerKind::Convolution { size, .. } if layer.reads.len() > 1 => format!("{size}×{size} +"),
        LayerKind::Convolution { size, stride: 1 } => format!("{size}×{size}"),
        LayerKind::Convolution { size, stride } => format!("{size}×{size} /{stride}"),
        LayerKind::Linear => "linear".to_string(),
        LayerKind::Classifier => "weights".to_string(),
    }
}

fn values(name: &str, operation: &str, shape: &str, sums: &Sums, total: &Sums, timed: bool) -> String {
    let share = |part: f64, of: f64| if of > 0.0 { format!("{:.1}%", 100.0 * part / of) } else { "–".to_string() };
    let cells = [
        name.to_string(),
        operation.to_string(),
        shape.to_string(),
        thousands(sums.parameters),
        short_count(sums.multiply_adds),
        share(sums.multiply_adds as f64, total.multiply_adds as f64),
        bytes(sums.bytes()),
        share(sums.time, total.time),
    ];
    row(cells, timed)
}

/// One line.
fn row([name, operation, shape, parameters, multiply_adds, share, bytes, time]: [String; 8], timed: bool) -> String {
    let name = fit(&name, 19);
    let line =
        format!("{name:<19} {operation:<7} {shape:>9} {parameters:>10} {multiply_adds:>8} {share:>6} {bytes:>7}");
    // Plain spaces: here nothing breaks lines.
    let line = line.replace('\u{a0}', " ");
    if timed { format!("{line} {time:>6}") } else { line }
}
