//! Curves of the trainings.

use std::fmt::Write as _;

use crate::figure::chart::SMOOTHED;
use crate::figure::curves::{CURVE_RUNS, charts, is_penalised};
use crate::model::Report;
use crate::summary::{dims, groups, losses};
use crate::text::{listed, title};

/// All charts, by embedding size; empty if nothing was measured.
pub(super) fn section(report: &Report) -> String {
    let by_dim: Vec<_> = dims(report).into_iter().map(|dim| (dim, charts(report, dim))).collect();
    if by_dim.iter().all(|(_, charts)| charts.is_empty()) {
        return String::new();
    }
    let mut html = format!(
        "<p>Batches are noisy: their values lie pale behind a running mean over {SMOOTHED} points. Test accuracy is shown \
         after each epoch, and nothing depends on it: no setting, no moment to stop, no choice among the epochs. Point at a chart, or \
         focus it and use the arrow keys: all charts of that embedding size show their values at the same epoch."
    );
    if groups(report).iter().any(|g| g.runs.len() > 1) {
        let _ = write!(
            html,
            " Strong lines are the first seed, pale ones further seeds; at most {CURVE_RUNS} a loss are drawn."
        );
    }
    html.push_str("</p>\n");
    let penalised: Vec<String> = losses(report)
        .iter()
        .filter(|loss| report.trainings.iter().any(|t| t.loss == loss.key && is_penalised(t)))
        .map(|loss| title(loss.title))
        .collect();
    if !penalised.is_empty() {
        let (names, annealed) =
            (listed(&penalised), report.trainings.iter().any(|t| t.steps.iter().any(|s| s.lambda > 0.0)));
        let _ = write!(
            html,
            "<p><strong>The training loss of {names} is measured by penalised logits</strong>, from which the margin has been \
             taken{}",
            if losses(report).len() > penalised.len() {
                ": it cannot be held against the others and has an axis of its own"
            } else {
                ""
            }
        );
        if annealed {
            html.push_str(
                ". As λ falls more of the margin is taken, so the loss may rise while the network gets better",
            );
        }
        html.push_str(
            ". Accuracy by the penalised logits asks the same of the label: it counts an image only if it wins in spite of the margin.",
        );
        let advice = if losses(report).len() > 1 { " Compare losses by the accuracy of the plain logits." } else { "" };
        let _ = writeln!(html, "{advice}</p>");
    }
    if losses(report).len() > 1 {
        html.push_str(&legend(report));
    }
    for (dim, charts) in by_dim.iter().filter(|(_, charts)| !charts.is_empty()) {
        let _ = writeln!(html, "<h3>{dim}-D embedding</h3>\n<div class=\"charts\">");
        for chart in charts {
            html.push_str(&chart.inline());
        }
        html.push_str("</div>\n");
    }
    html
}

/// The losses' names in their colours.
fn legend(report: &Report) -> String {
    let mut html = String::from("<ul class=\"legend\">\n");
    for loss in losses(report) {
        let _ = writeln!(html, "<li><span class=\"swatch b-loss{}\"></span>{}</li>", loss.colour, title(loss.title));
    }
    html.push_str("</ul>\n");
    html
}
