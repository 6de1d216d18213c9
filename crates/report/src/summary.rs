//! Trainings grouped by loss and embedding size, and what may be said about them.

use crate::model::{Report, Training};
use crate::statistics::{Estimate, mean};

/// Test accuracies as YunYang1994/SphereFace publishes them for MNIST.
const PUBLISHED: [(&str, f64); 3] = [
    ("softmax", 0.9775),
    ("modified", 0.9847),
    ("sphereface", 0.9896),
];

/// All seeds of one loss at one embedding size.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    pub(crate) loss: &'a str,
    pub(crate) title: &'a str,
    pub(crate) dim: usize,
    pub(crate) runs: Vec<&'a Training>,
    /// Test accuracy by plain cosines.
    pub(crate) accuracy: Estimate,
    pub(crate) logits_accuracy: f64,
    pub(crate) train_accuracy: f64,
    /// Mean wall time of one run.
    pub(crate) seconds: f64,
}

impl Group<'_> {
    /// The published accuracy of this loss, if there is one.
    pub(crate) fn published(&self) -> Option<f64> {
        PUBLISHED
            .iter()
            .find(|(loss, _)| *loss == self.loss)
            .map(|&(_, accuracy)| accuracy)
    }
}

/// Losses in the order they first appear: the index colours them everywhere.
pub(crate) fn losses(report: &Report) -> Vec<&Training> {
    let mut found: Vec<&Training> = Vec::new();
    for training in &report.trainings {
        if found.iter().all(|seen| seen.loss != training.loss) {
            found.push(training);
        }
    }
    found
}

/// Embedding sizes, smallest first.
pub(crate) fn dims(report: &Report) -> Vec<usize> {
    let mut dims: Vec<usize> = report.trainings.iter().map(|t| t.embedding_dim).collect();
    dims.sort_unstable();
    dims.dedup();
    dims
}

/// Groups by embedding size, then in the order of the losses.
pub(crate) fn groups(report: &Report) -> Vec<Group<'_>> {
    let losses = losses(report);
    let mut groups = Vec::new();
    for dim in dims(report) {
        for loss in &losses {
            let belongs = |t: &&Training| t.embedding_dim == dim && t.loss == loss.loss;
            let runs: Vec<&Training> = report.trainings.iter().filter(belongs).collect();
            if runs.is_empty() {
                continue;
            }
            let all = |value: fn(&Training) -> f64| -> Vec<f64> {
                runs.iter().map(|t| value(t)).collect()
            };
            let accuracies = all(|t| t.test_accuracy);
            groups.push(Group {
                loss: &loss.loss,
                title: &loss.title,
                dim,
                accuracy: Estimate::of_fractions(&accuracies, report.dataset.test_images),
                logits_accuracy: mean(&all(|t| t.test_accuracy_logits)),
                train_accuracy: mean(&all(|t| t.train_accuracy)),
                seconds: mean(&all(|t| t.seconds)),
                runs,
            });
        }
    }
    groups
}

/// What the intervals allow to say about the order of the losses; empty with a single loss.
pub(crate) fn order_sentences(groups: &[Group<'_>]) -> Vec<String> {
    let mut dims: Vec<usize> = groups.iter().map(|g| g.dim).collect();
    dims.dedup();
    let sentences = dims.iter().filter_map(|&dim| {
        let of_dim: Vec<&Group<'_>> = groups.iter().filter(|g| g.dim == dim).collect();
        let pairs = || {
            of_dim
                .iter()
                .enumerate()
                .flat_map(|(i, a)| of_dim[i + 1..].iter().map(move |b| (a, b)))
        };
        let total = pairs().count();
        let overlapping: Vec<String> = pairs()
            .filter(|(a, b)| a.accuracy.overlaps(&b.accuracy))
            .map(|(a, b)| format!("{} and {}", a.title, b.title))
            .collect();
        if total == 0 {
            return None;
        }
        Some(if overlapping.len() == total && total > 1 {
            format!(
                "{dim}-D: all 95% intervals overlap, so no order between the losses is claimed."
            )
        } else if overlapping.is_empty() {
            let single = of_dim.iter().any(|g| g.runs.len() < 2);
            let limit = if single {
                ", but a single seed says nothing about how much another seed would differ"
            } else {
                ""
            };
            format!("{dim}-D: no two 95% intervals overlap{limit}.")
        } else {
            format!(
                "{dim}-D: the 95% intervals overlap for {}, so no order between them is claimed.",
                overlapping.join("; ")
            )
        })
    });
    sentences.collect()
}
