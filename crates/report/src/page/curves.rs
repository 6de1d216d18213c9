//! Curves of the trainings.

use std::fmt::Write as _;

use crate::figure::chart::SMOOTHED;
use crate::figure::curves::{CURVE_RUNS, charts};
use crate::model::Report;
use crate::summary::{dims, groups, losses};
use crate::text::escape;

/// All charts, by embedding size.
pub(super) fn section(report: &Report) -> String {
    let mut html = String::from("<p>");
    if report.trainings.iter().any(|t| t.loss == "sphereface") {
        html.push_str(
            "<strong>A-Softmax’s training loss is not on the scale of the others</strong>: the smaller λ, the more of \
             the margin it contains, so its curve may rise while the network gets better. Compare losses by accuracy. ",
        );
    }
    html.push_str(
        "Test accuracy is shown; nothing was chosen by it. Point at a chart, or focus it and use the arrow keys, to read \
         its values.</p>\n",
    );
    let _ = writeln!(
        html,
        "<p>What is measured on batches is noisy: the values lie pale behind their running mean over {SMOOTHED} points.</p>"
    );
    if groups(report).iter().any(|g| g.runs.len() > 1) {
        let _ = writeln!(
            html,
            "<p>Strong lines are the first seed, pale ones further seeds; at most {CURVE_RUNS} a loss are drawn.</p>"
        );
    }
    html.push_str(&legend(report));
    for dim in dims(report) {
        let charts = charts(report, dim);
        let _ = writeln!(html, "<h3>{dim}-D embedding</h3>");
        if charts.is_empty() {
            html.push_str("<p>No measurements were kept.</p>\n");
            continue;
        }
        html.push_str("<div class=\"charts\">\n");
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
        let _ = writeln!(html, "<li><span class=\"swatch b-loss{}\"></span>{}</li>", loss.colour, escape(loss.title));
    }
    html.push_str("</ul>\n");
    html
}
