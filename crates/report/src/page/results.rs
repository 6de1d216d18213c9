//! What came out: accuracies and what may be said about them.

use std::fmt::Write as _;

use super::table::{Column, table};
use crate::figure::forest;
use crate::model::Report;
use crate::significance;
use crate::summary::{Group, groups, runs, shows_published};
use crate::text::{duration, escape, thousands, title};

/// The accuracy table, its figure where there is something to compare, and notes.
pub(super) fn section(report: &Report) -> String {
    let groups = groups(report);
    let published = shows_published(report);
    let mut html = String::from("<div class=\"results\">\n<div>\n");
    html.push_str(&table(&groups, &columns(&groups, published)));
    html.push_str("</div>\n");
    if groups.len() > 1 {
        let _ = write!(
            html,
            "<figure>\n{}<figcaption>Test accuracy with its 95% interval{}.</figcaption>\n</figure>\n",
            forest::inline(&groups, published),
            if published { "; diamonds are published values" } else { "" }
        );
    }
    html.push_str("</div>\n<div class=\"notes\">\n");
    for note in notes(report, &groups, published) {
        let _ = writeln!(html, "{note}");
    }
    html.push_str("</div>\n");
    html
}

fn columns<'a>(groups: &[Group<'_>], published: bool) -> Vec<Column<'a>> {
    let (fewest, most) = runs(groups);
    let accuracy = move |g: &Group<'_>| {
        let seeds = if fewest < most { format!(" <small>n = {}</small>", g.runs.len()) } else { String::new() };
        format!("<b>{:.4}</b>{seeds}", g.accuracy.mean)
    };
    let interval = |g: &Group<'_>| format!("{:.4}–{:.4}", g.accuracy.low.max(0.0), g.accuracy.high.min(1.0));
    let mut columns = vec![
        Column::new("Test accuracy", accuracy),
        Column::new("95% interval", interval),
        Column::new("By angle", |g| format!("{:.4}", g.accuracy_by_angle)),
        Column::new("Training accuracy", |g| format!("{:.4}", g.train_accuracy)),
        Column::new("Time a run", |g| duration(g.seconds)),
    ];
    if published {
        columns.push(Column::new("Published", |g| g.published().map_or("–".to_string(), |p| format!("{p:.4}"))));
    }
    columns
}

/// Paragraphs under the table.
fn notes(report: &Report, groups: &[Group<'_>], published: bool) -> Vec<String> {
    let images = thousands(report.dataset.test_images as u64);
    let mut notes = Vec::new();
    if !report.dataset.comparable {
        notes.push(format!(
            "<p class=\"warning\"><strong>Not comparable</strong> with published accuracies. Data: {}.</p>",
            escape(report.dataset.described())
        ));
    }
    notes.push(format!(
        "<p><strong>Test accuracy</strong> is the classifier’s own: the class of the largest logit, without margin and \
         without the label, on all {images} test images once. <strong>By angle</strong> is the same with all class weights \
         at length 1. {}</p>",
        about_angles(groups)
    ));
    let order = significance::sentences(groups);
    if !order.is_empty() {
        notes.push(format!("<p>{}</p>", escape(&order.join(" ")).replace("-D", "\u{2011}D")));
    }
    notes.push(about_intervals(groups, &images));
    if published {
        notes.push(
            "<p>Published values are those of the repository YunYang1994/SphereFace, as published. They are measured again \
             here because that code also runs its optimiser on test batches, draws 5,120 of the 10,000 test images, scores \
             A-Softmax by logits that know the label, and, by its history at the time of the table, may have trained one \
             and the same loss in all three rows.</p>"
                .to_string(),
        );
    }
    notes
}

/// What the difference of the two accuracies teaches.
fn about_angles(groups: &[Group<'_>]) -> String {
    let Some(original) = groups.iter().find(|g| g.scores_by_norms()) else {
        return "With unit-norm class weights both are the same by construction.".to_string();
    };
    let elsewhere =
        if groups.iter().all(Group::scores_by_norms) { "" } else { ", so there both are the same by construction" };
    format!(
        "{} also puts information into the lengths of its class weights, so without them it scores otherwise (here \
         {:.4} → {:.4} in {}\u{2011}D); a loss that normalises them makes the angle alone decide{elsewhere}.",
        title(original.title),
        original.accuracy.mean,
        original.accuracy_by_angle,
        original.dim
    )
}

/// What the intervals cover.
fn about_intervals(groups: &[Group<'_>], images: &str) -> String {
    let (fewest, most) = runs(groups);
    let mut text = String::from("<p>");
    if most > 1 {
        let seeds = if fewest < most { "n".to_string() } else { most.to_string() };
        let _ = write!(text, "Accuracies are means over {seeds} seeds with the 95% interval of the mean (Student t). ");
    }
    if fewest == 1 {
        let _ = write!(
            text,
            "{} interval covers the choice of {images} test images (Wilson, 95%), not how much another seed would differ.",
            if most > 1 { "At n = 1 the" } else { "The" }
        );
    }
    text.push_str("</p>");
    text
}
