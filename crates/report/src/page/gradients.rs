//! One loss trained under several of its derivatives, side by side.

use std::fmt::Write as _;

use super::table::{Column, table};
use crate::figure::chart::Chart;
use crate::figure::{curves, histogram};
use crate::geometry::norm;
use crate::model::{Embeddings, Report};
use crate::separation::separation;
use crate::statistics::{mean, quantile};
use crate::summary::{Group, groups, runs};
use crate::text::{escape, measured, title};

/// The trainings of one loss at one embedding size, a group for each derivative that they follow.
struct Family<'a> {
    key: &'a str,
    dim: usize,
    groups: Vec<Group<'a>>,
}

impl Family<'_> {
    fn charts(&self, report: &Report) -> Vec<Chart> {
        let colours: Vec<usize> = self.groups.iter().map(|group| group.colour).collect();
        curves::of_losses(report, self.dim, &colours, &format!("gradients-{}", self.key))
    }
}

/// Those with more than one derivative.
fn families(report: &Report) -> Vec<Family<'_>> {
    let mut families: Vec<Family<'_>> = Vec::new();
    for group in groups(report) {
        let Some(key) = group.info.map(|loss| loss.family()) else { continue };
        match families.iter_mut().find(|family| family.key == key && family.dim == group.dim) {
            Some(family) => family.groups.push(group),
            None => families.push(Family { key, dim: group.dim, groups: vec![group] }),
        }
    }
    families.retain(|family| family.groups.len() > 1);
    families
}

/// All charts of the section, for the page's pointer.
pub(super) fn charts(report: &Report) -> Vec<Chart> {
    families(report).iter().flat_map(|family| family.charts(report)).collect()
}

/// A table, curves and histograms for each loss and embedding size; empty unless a loss has several gradients.
pub(super) fn section(report: &Report) -> String {
    let families = families(report);
    let Some(first) = families.first() else { return String::new() };
    let mut html = String::from(
        "<p>These trainings have the same loss, network and order of images. They differ in the derivative that they \
         follow, so whatever differs below is its doing, or that of chance.</p>\n<dl class=\"measures\">\n",
    );
    for group in &first.groups {
        let words = group.info.map_or("", |loss| loss.gradient.as_str());
        let _ = writeln!(html, "<div><dt>{}</dt><dd>{}</dd></div>", title(group.title), escape(words));
    }
    html.push_str("</dl>\n");
    for family in &families {
        html.push_str(&table(&family.groups, &columns(family.groups.iter().any(has_embeddings))));
        html.push_str("<div class=\"charts\">\n");
        family.charts(report).iter().for_each(|chart| html.push_str(&chart.inline()));
        html.push_str("</div>\n<div class=\"charts\">\n");
        for group in &family.groups {
            let Some(found) = group.runs.first().and_then(|training| training.embeddings.as_ref()) else { continue };
            let _ = writeln!(
                html,
                "<figure>\n<figcaption><span class=\"swatch b-loss{}\"></span>{}</figcaption>\n{}</figure>",
                group.colour,
                title(group.title),
                histogram::inline(&separation(found, group.dim), group.colour)
            );
        }
        html.push_str("</div>\n");
    }
    let seeds = if runs(&families[0].groups).1 > 1 {
        "Values are means over the seeds; histograms are those of the first."
    } else {
        "With one seed the interval knows of the test images alone: <code>--seeds 3</code> says more."
    };
    let _ = writeln!(
        html,
        "<p>‖∇‖ is the median over the steps of the norm of all gradients, before it is clipped; ‖x‖ the mean length of the \
         test images’ embeddings. {seeds}</p>"
    );
    html
}

fn has_embeddings(group: &Group<'_>) -> bool {
    group.runs.iter().any(|training| training.embeddings.is_some())
}

fn columns<'a>(embedded: bool) -> Vec<Column<'a>> {
    let seeds = |group: &Group<'_>, value: &dyn Fn(&crate::model::Training) -> Option<f64>| {
        let values: Vec<f64> = group.runs.iter().filter_map(|training| value(training)).collect();
        mean(&values)
    };
    let of_embeddings = move |group: &Group<'_>, value: &dyn Fn(&Embeddings) -> f64| {
        seeds(group, &|training| training.embeddings.as_ref().map(value))
    };
    let mut columns = vec![
        Column::new("Test accuracy", |g| format!("<b>{:.4}</b>", g.accuracy.mean)),
        Column::new("95% interval", |g| format!("{:.4}–{:.4}", g.accuracy.low.max(0.0), g.accuracy.high.min(1.0))),
        Column::new("Loss at the end", move |g| measured(seeds(g, &|t| Some(t.final_train_loss)), 3)),
        Column::new("‖∇‖", move |g| {
            measured(seeds(g, &|t| quantile(t.steps.iter().map(|step| step.gradient_norm), 0.5)), 3)
        }),
    ];
    if embedded {
        columns.extend([
            Column::new("‖x‖", move |g| {
                let length = |e: &Embeddings| mean(&e.points.chunks(g.dim).map(norm).collect::<Vec<f64>>());
                measured(of_embeddings(g, &length), 1)
            }),
            Column::new("Margin, 95%", move |g| {
                let margin = of_embeddings(g, &|e| separation(e, g.dim).margin_95);
                format!("{}°", measured(margin, 1)).replace('-', "−")
            }),
        ]);
    }
    columns
}
