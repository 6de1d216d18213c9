//! What was run and what came of it.

use std::fmt::Write as _;

use crate::figure::forest;
use crate::model::Report;
use crate::summary::{Group, groups, losses, order_sentences};
use crate::text::{duration, escape, short_count, thousands};

/// The lines under the heading.
pub(super) fn intro(report: &Report) -> String {
    let titles: Vec<String> = losses(report).iter().map(|l| escape(l.title)).collect();
    let losses = match titles.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    };
    format!(
        "<p class=\"lead\">The same network trained on {} with {losses}, and what each makes of the embedding.</p>\n",
        escape(&report.dataset.name)
    )
}

/// The accuracy table with its figure and what may be said about it.
pub(super) fn results(report: &Report) -> String {
    let groups = groups(report);
    let mut html = String::from("<div class=\"results\">\n<div>\n");
    html.push_str(&table(report, &groups));
    html.push_str("</div>\n<figure class=\"forest-figure\">\n");
    html.push_str(&forest::inline(&groups));
    html.push_str("<figcaption>Test accuracy with its 95% interval");
    if groups.iter().any(|g| g.published().is_some()) {
        html.push_str("; diamonds are published values");
    }
    html.push_str(".</figcaption>\n</figure>\n</div>\n");
    html.push_str(&notes(report, &groups));
    html
}

fn table(report: &Report, groups: &[Group<'_>]) -> String {
    let mut html = String::from(
        "<table class=\"accuracy\">\n<thead><tr><th scope=\"col\">Loss</th>\
         <th scope=\"col\" class=\"number\">Test accuracy</th><th scope=\"col\" class=\"number\">by logits</th>\
         <th scope=\"col\" class=\"number\">Training</th><th scope=\"col\" class=\"number\">Time a run</th>\
         <th scope=\"col\" class=\"number\">Published</th></tr></thead>\n",
    );
    let mut dim = 0;
    for group in groups {
        if group.dim != dim {
            if dim != 0 {
                html.push_str("</tbody>\n");
            }
            dim = group.dim;
            let _ = write!(
                html,
                "<tbody>\n<tr class=\"dim\"><th colspan=\"6\" scope=\"rowgroup\">{dim}-D embedding</th></tr>\n"
            );
        }
        html.push_str(&row(report, group));
    }
    html.push_str("</tbody>\n</table>\n");
    html
}

fn row(report: &Report, group: &Group<'_>) -> String {
    let estimate = &group.accuracy;
    let (low, high) = (estimate.low.max(0.0), estimate.high.min(1.0));
    let (interval, tooltip) = if estimate.runs > 1 {
        (
            format!("<small>±&nbsp;{:.4}, n&nbsp;=&nbsp;{}</small>", estimate.half_width(), estimate.runs),
            format!("Mean of {} seeds; 95% interval {low:.4} to {high:.4} (Student t)", estimate.runs),
        )
    } else {
        let seed = group.runs.first().map_or(0, |t| t.seed);
        (
            "<small>n&nbsp;=&nbsp;1<a href=\"#note-one\" aria-label=\"see the note on single runs\">*</a></small>"
                .to_string(),
            format!(
                "One run, seed {seed}; 95% interval of a test set of {} images alone: {low:.4} to {high:.4}",
                report.dataset.test_images
            ),
        )
    };
    let published = group.published().map_or("–".to_string(), |p| format!("{p:.4}"));
    let colour = group.colour;
    format!(
        "<tr><th scope=\"row\"><span class=\"swatch b-loss{colour}\"></span>{}</th>\
         <td class=\"number main\" data-label=\"Test accuracy\" title=\"{}\"><b>{:.4}</b> {interval}</td>\
         <td class=\"number\" data-label=\"by logits\">{:.4}</td>\
         <td class=\"number\" data-label=\"Training\">{:.4}</td>\
         <td class=\"number\" data-label=\"Time a run\">{}</td>\
         <td class=\"number\" data-label=\"Published\">{published}</td></tr>\n",
        escape(group.title),
        escape(&tooltip),
        estimate.mean,
        group.cosines_accuracy,
        group.train_accuracy,
        duration(group.seconds),
    )
}

fn notes(report: &Report, groups: &[Group<'_>]) -> String {
    let images = thousands(report.dataset.test_images as u64);
    let mut html = String::from("<div class=\"notes\">\n");
    if !report.dataset.comparable {
        let _ = writeln!(
            html,
            "<p class=\"warning\"><strong>Not comparable.</strong> {} is not the data the published values were \
             measured on, so the two columns must not be held against each other.</p>",
            escape(&report.dataset.name)
        );
    }
    for sentence in order_sentences(groups) {
        let _ = writeln!(html, "<p>{}</p>", escape(&sentence));
    }
    if groups.iter().any(|g| g.runs.len() == 1) {
        let _ = writeln!(
            html,
            "<p id=\"note-one\">* One run. Its interval is that of a test set of {images} images (Wilson, 95%) and does \
             not hold how much another seed would differ. {}.</p>",
            groups
                .iter()
                .filter(|g| g.runs.len() == 1)
                .map(|g| format!("{}, {}-D: {:.4}–{:.4}", escape(g.title), g.dim, g.accuracy.low, g.accuracy.high))
                .collect::<Vec<_>>()
                .join("; ")
        );
    }
    if groups.iter().any(|g| g.runs.len() > 1) {
        html.push_str("<p>± is the 95% interval of the mean over n seeds (Student t).</p>\n");
    }
    let _ = writeln!(
        html,
        "<p>Test accuracy takes the class of the largest cosine: no margin, no label, no class norms, all {images} test \
         images once. “By logits” uses the loss’s own logits, without its margin.</p>"
    );
    if groups.iter().any(|g| g.published().is_some()) {
        html.push_str(
            "<p>Published values are those of the repository YunYang1994/SphereFace, shown as published, one a loss. They are measured \
             again here because that code also runs its optimiser on test batches, draws 5,120 of the 10,000 test images, \
             scores A-Softmax by logits that know the label, and, by its history at the time of the table, may have \
             trained one and the same loss in all three rows.</p>\n",
        );
    }
    html.push_str("</div>\n");
    html
}

/// Data, network, machine and the command to repeat it.
pub(super) fn facts(report: &Report) -> String {
    let data = &report.dataset;
    let mut seeds: Vec<u64> = report.trainings.iter().map(|t| t.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    let mut epochs: Vec<usize> = report.trainings.iter().map(|t| t.epochs).collect();
    epochs.sort_unstable();
    epochs.dedup();
    let epochs: Vec<String> = epochs.iter().map(usize::to_string).collect();
    let mut html = String::from("<dl class=\"facts\">\n");
    let mut fact = |term: &str, description: String| {
        let _ = writeln!(html, "<div><dt>{term}</dt><dd>{description}</dd></div>");
    };
    let mut dataset = format!(
        "{}: {} training and {} test images of {} classes. {}",
        escape(&data.name),
        thousands(data.train_images as u64),
        thousands(data.test_images as u64),
        data.classes,
        escape(&data.note)
    );
    if !data.sha256.is_empty() {
        let _ = write!(dataset, "<br><small>SHA-256 <code class=\"hash\">{}</code></small>", escape(&data.sha256));
    }
    fact("Data", dataset);
    fact("Network", escape(&report.network.name));
    fact("Machine", format!("{}, {}", escape(&report.machine), plural(report.threads, "thread")));
    let runs = format!("{}, {}", plural(report.trainings.len(), "run"), duration(report.total_seconds));
    fact(
        "Trainings",
        format!(
            "{runs} in all; {} epochs each; seed{} {}",
            epochs.join(" or "),
            if seeds.len() == 1 { "" } else { "s" },
            seeds.join(", ")
        ),
    );
    fact("Version", escape(&report.version));
    html.push_str("</dl>\n<h3>To repeat it</h3>\n");
    let _ = writeln!(html, "<pre class=\"command\" tabindex=\"0\"><code>{}</code></pre>", escape(&report.command));
    html
}

/// The network, in a line for now.
pub(super) fn network(report: &Report) -> String {
    let network = &report.network;
    format!(
        "<p><strong>{}</strong>: {}. {} parameters, {} multiply-adds an image.</p>\n",
        escape(&network.name),
        escape(network.summary.trim_end_matches('.')),
        short_count(network.parameters),
        short_count(network.multiply_adds)
    )
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
