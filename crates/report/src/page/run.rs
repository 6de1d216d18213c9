//! How it was run: data, network, machine, command.

use std::fmt::{Display, Write as _};

use crate::model::{Report, Training};
use crate::summary::{dims, losses};
use crate::text::{duration, escape, listed, plural, short_count, thousands, title};

/// The lines under the heading.
pub(super) fn intro(report: &Report) -> String {
    let titles: Vec<String> = losses(report).iter().map(|l| title(l.title)).collect();
    let name = escape(&report.dataset.name);
    let what = if titles.len() > 1 {
        format!("The same network trained on {name} with {} losses", titles.len())
    } else {
        format!("A network trained on {name} with one loss")
    };
    let embedded = report.trainings.iter().any(|t| t.embeddings.is_some());
    let sizes: Vec<String> = dims(report).iter().map(|dim| format!("{dim}-D")).collect();
    let [seeds, epochs] = [distinct(report, |t| t.seed), distinct(report, |t| t.epochs)];
    format!(
        "<p class=\"lead\">{what}: {}. How often is the answer right{}?</p>\n<p class=\"byline\">{} training and {} test images · {} embeddings · {} · {} · <a href=\"#run\">how it was run</a></p>\n",
        listed(&titles),
        if embedded { ", and at what angles do the embeddings of the classes stand" } else { "" },
        thousands(report.dataset.train_images as u64),
        thousands(report.dataset.test_images as u64),
        listed(&sizes),
        if epochs == ["1"] { "1 epoch".to_string() } else { format!("{} epochs", epochs.join(" or ")) },
        if seeds.len() > 1 { format!("seeds {}", listed(&seeds)) } else { format!("seed {}", listed(&seeds)) },
    )
}

/// Data, network, machine and the command to repeat it.
pub(super) fn section(report: &Report) -> String {
    let (data, network) = (&report.dataset, &report.network);
    let mut html = String::from("<dl class=\"facts\">\n");
    let mut fact = |term: &str, description: String| {
        let _ = writeln!(html, "<div><dt>{term}</dt><dd>{description}</dd></div>");
    };
    let mut dataset = format!("{}, {} classes: {}.", escape(&data.name), data.classes, escape(data.described()));
    if !data.sha256.is_empty() {
        let _ = write!(dataset, "<br><small>SHA-256 <code class=\"hash\">{}</code></small>", escape(&data.sha256));
    }
    fact("Data", dataset);
    fact(
        "Network",
        format!(
            "{}, {}. {} parameters, {} multiply-adds an image{}.",
            escape(&network.name),
            escape(network.summary.trim_end_matches('.')),
            short_count(network.parameters),
            short_count(network.multiply_adds),
            if dims(report).len() > 1 { " with the largest embedding" } else { "" }
        ),
    );
    fact("Machine", escape(&report.machine));
    let (seeds, same) = (distinct(report, |t| t.seed), report.trainings.len() > 1);
    let fair = if same {
        "; trainings of one seed start from the same weights and see the same images in the same order"
    } else {
        ""
    };
    fact(if seeds.len() > 1 { "Seeds" } else { "Seed" }, format!("{}{fair}", listed(&seeds)));
    let runs = plural(report.trainings.len(), "training");
    let threads = if report.threads > 0 { format!(" on {}", plural(report.threads, "thread")) } else { String::new() };
    fact("Time", format!("{} for {runs}{threads}", duration(report.total_seconds)));
    fact("Version", escape(&report.version));
    let command = escape(&report.command);
    fact(
        "To repeat it",
        format!(
            "<div class=\"copied\"><pre class=\"command\" tabindex=\"0\"><code>{command}</code></pre>\
             <button type=\"button\" data-copy hidden>Copy</button></div>"
        ),
    );
    html.push_str("</dl>\n");
    html
}

/// The different values of a setting among the trainings, from low to high.
fn distinct<T: Ord + Display>(report: &Report, setting: fn(&Training) -> T) -> Vec<String> {
    let mut values: Vec<T> = report.trainings.iter().map(setting).collect();
    values.sort_unstable();
    values.dedup();
    values.iter().map(T::to_string).collect()
}
