//! Curves of the trainings.

use std::fmt::Write as _;

use crate::figure::chart::SMOOTHED;
use crate::figure::curves::{CURVE_RUNS, charts};
use crate::model::Report;
use crate::summary::{annealed, dims, groups, losses};
use crate::text::title;

/// All charts, by embedding size; empty if nothing was measured.
pub(super) fn section(report: &Report) -> String {
    let by_dim: Vec<_> = dims(report).into_iter().map(|dim| (dim, charts(report, dim))).collect();
    if by_dim.iter().all(|(_, charts)| charts.is_empty()) {
        return String::new();
    }
    let mut html = format!(
        "<p>Batches are noisy: their values lie pale behind a running mean over {SMOOTHED} points. Test accuracy is shown, \
         nothing was chosen by it. Point at a chart, or focus it and use the arrow keys, to read its values."
    );
    if groups(report).iter().any(|g| g.runs.len() > 1) {
        let _ = write!(
            html,
            " Strong lines are the first seed, pale ones further seeds; at most {CURVE_RUNS} a loss are drawn."
        );
    }
    html.push_str("</p>\n");
    if let Some(annealed) = annealed(report) {
        let _ = write!(
            html,
            "<p><strong>The training loss of {} is on a scale of its own</strong>: as λ falls it contains more of the \
             margin, so it may rise while the network gets better.",
            title(&annealed)
        );
        if losses(report).len() > 1 {
            html.push_str(" Compare losses by accuracy.");
        }
        html.push_str("</p>\n");
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
