//! What the guard found in the trainings, and what was done about it.

use std::fmt::Write as _;

use crate::model::{Report, Training};
use crate::text::{escape, thousands, title};

/// A list for each training that did not go straight; empty if all did.
pub(super) fn section(report: &Report) -> String {
    let guarded: Vec<&Training> = report.trainings.iter().filter(|training| !training.guard.is_empty()).collect();
    if guarded.is_empty() {
        return String::new();
    }
    let mut html = String::from(
        "<p>A guard watches loss, gradient and embeddings of every step. A training that goes wrong goes back to its last \
         good state and on from there more gently; its curves show the course that it took in the end, and its results \
         are those of the eased schedules.</p>\n",
    );
    for training in guarded {
        let (name, dim, seed) = (title(&training.title), training.embedding_dim, training.seed);
        let _ = writeln!(html, "<h3>{name}, {dim}-D, seed {seed}</h3>\n<ol class=\"guard\">");
        for event in &training.guard {
            let (step, found, done) = (thousands(event.found_at), escape(&event.found), escape(&event.done));
            let _ = writeln!(html, "<li>Step {step}: {found} {done}</li>");
        }
        html.push_str("</ol>\n");
    }
    html
}
