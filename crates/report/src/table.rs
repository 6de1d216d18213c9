//! The accuracy table for a terminal.

use std::fmt::Write as _;

use crate::model::Report;
use crate::summary::{Group, groups, order_sentences};
use crate::text::duration;

const WIDTH: usize = 80;
const TITLE: usize = 23;

/// The table, with its footnotes, in at most 80 columns of plain text.
pub(crate) fn terminal(report: &Report) -> String {
    let groups = groups(report);
    let mut lines = vec![fit(&report.title, WIDTH), String::new()];
    lines.push(row(["loss", "dim", "test accuracy", "logits", "train", "time", "published"]));
    lines.push("─".repeat(WIDTH));
    lines.extend(groups.iter().map(group_row));
    let mut notes = String::new();
    if groups.iter().any(|g| g.runs.len() > 1) {
        notes.push_str("± is the 95% interval of the mean over the seeds (Student t). ");
    }
    if groups.iter().any(|g| g.runs.len() == 1) {
        let _ = write!(
            notes,
            "A value of one seed carries the 95% interval of a test set of {} images only. ",
            report.dataset.test_images
        );
    }
    for sentence in order_sentences(&groups) {
        notes.push_str(&sentence);
        notes.push(' ');
    }
    notes.push_str("Test accuracy by plain cosines. ");
    notes.push_str(if report.dataset.comparable {
        "Published: YunYang1994/SphereFace, as published."
    } else {
        "This data set is not the one the published values (YunYang1994/SphereFace) were measured \
         on: they are not comparable."
    });
    lines.push(String::new());
    lines.extend(wrap(&notes));
    lines.join("\n") + "\n"
}

fn group_row(group: &Group<'_>) -> String {
    let estimate = &group.accuracy;
    let accuracy = format!("{:.4} ± {:.4} n={}", estimate.mean, estimate.half_width(), estimate.runs);
    let published = group.published().map_or("–".to_string(), |p| format!("{p:.4}"));
    row([
        group.title,
        &format!("{}-D", group.dim),
        &accuracy,
        &format!("{:.4}", group.cosines_accuracy),
        &format!("{:.4}", group.train_accuracy),
        &duration(group.seconds).replace(" h ", "h").replace(" min", "m").replace(' ', ""),
        &published,
    ])
}

fn row([title, dim, accuracy, logits, train, time, published]: [&str; 7]) -> String {
    let title = fit(title, TITLE);
    let line = format!("{title:TITLE$} {dim:>4} {accuracy:>20} {logits:>6} {train:>6} {time:>6} {published:>9}");
    fit(line.trim_end(), WIDTH)
}

/// The text on one line, cut with an ellipsis above `width` characters.
fn fit(text: &str, width: usize) -> String {
    let one_line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if one_line.chars().count() <= width {
        return one_line;
    }
    one_line.chars().take(width - 1).collect::<String>() + "…"
}

fn wrap(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let word = fit(word, WIDTH);
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}
