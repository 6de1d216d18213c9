//! The accuracy table for a terminal.

use crate::model::Report;
use crate::significance;
use crate::summary::{Group, groups, runs, shows_published};
use crate::text::{duration, fit, thousands};

const WIDTH: usize = 80;

/// The table, with its footnotes, in at most 80 columns of plain text.
pub(crate) fn terminal(report: &Report) -> String {
    let groups = groups(report);
    let published = shows_published(report);
    let mut lines = vec![fit(&report.title, WIDTH), String::new()];
    let accuracy = if report.dataset.held_out { "held-out acc." } else { "test accuracy" };
    lines.push(row(["loss", "dim", accuracy, "by angle", "train", "time", "published"], published));
    lines.push("─".repeat(WIDTH));
    lines.extend(groups.iter().map(|group| group_row(group, published)));
    lines.push(String::new());
    lines.extend(wrap(&report.dataset.named(notes(report, &groups, published))));
    lines.join("\n") + "\n"
}

fn notes(report: &Report, groups: &[Group<'_>], published: bool) -> String {
    let (fewest, most) = runs(groups);
    let mut notes = Vec::new();
    if most > 1 {
        let seeds = if fewest < most { format!("{fewest} to {most}") } else { most.to_string() };
        notes.push(format!("Means over {seeds} seeds; ± is the 95% interval of the mean (Student t)."));
    }
    if fewest == 1 {
        notes.push(format!(
            "{} ± is the 95% interval of {} test images alone, without the differences between seeds.",
            if most > 1 { "For one seed" } else { "One seed:" },
            thousands(report.dataset.test_images as u64)
        ));
    }
    notes.extend(significance::sentences(groups));
    notes.push(
        "Test accuracy: by the classifier's own logits, without margin and label. By angle: all class weights at length 1, \
         as most losses have them anyway."
            .to_string(),
    );
    if published {
        notes.push("Published: YunYang1994/SphereFace, as published.".to_string());
    }
    if !report.dataset.comparable {
        notes.push("These accuracies are not comparable with published ones.".to_string());
    }
    notes.join(" ")
}

fn group_row(group: &Group<'_>, published: bool) -> String {
    let estimate = &group.accuracy;
    row(
        [
            group.title,
            &format!("{}-D", group.dim),
            &format!("{:.4}±{:.4}", estimate.mean, estimate.half_width()),
            &format!("{:.4}", group.accuracy_by_angle),
            &format!("{:.4}", group.train_accuracy),
            &duration(group.seconds).replace(" h ", "h").replace(" min", "m").replace(' ', ""),
            &group.published().map_or("–".to_string(), |p| format!("{p:.4}")),
        ],
        published,
    )
}

/// One line; the loss has what the other columns leave.
fn row([title, dim, accuracy, by_angle, train, time, published]: [&str; 7], with_published: bool) -> String {
    let published = if with_published { format!(" {published:>9}") } else { String::new() };
    let values = format!(" {dim:>3} {accuracy:>13} {by_angle:>8} {train:>6} {time:>6}{published}");
    let left = WIDTH.saturating_sub(values.chars().count());
    format!("{:left$}{values}", fit(title, left))
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
