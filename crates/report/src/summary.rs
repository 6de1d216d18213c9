//! Trainings grouped by loss and embedding size, and what may be said about them.

use crate::model::{Report, Training};
use crate::palette;
use crate::statistics::{Estimate, mean};

/// Test accuracies as YunYang1994/SphereFace publishes them for MNIST.
const PUBLISHED: [(&str, f64); 3] = [("softmax", 0.9775), ("modified", 0.9847), ("sphereface", 0.9896)];

/// All seeds of one loss at one embedding size.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    pub(crate) loss: &'a str,
    pub(crate) title: &'a str,
    /// Index of the loss's colour.
    pub(crate) colour: usize,
    pub(crate) dim: usize,
    pub(crate) runs: Vec<&'a Training>,
    pub(crate) accuracy: Estimate,
    /// Test accuracy by the angle alone.
    pub(crate) accuracy_by_angle: f64,
    pub(crate) train_accuracy: f64,
    /// Mean wall time of one run.
    pub(crate) seconds: f64,
}

impl Group<'_> {
    /// The published accuracy of this loss, if there is one.
    pub(crate) fn published(&self) -> Option<f64> {
        PUBLISHED.iter().find(|(loss, _)| *loss == self.loss).map(|&(_, accuracy)| accuracy)
    }
}

/// A loss of the report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loss<'a> {
    pub(crate) key: &'a str,
    pub(crate) title: &'a str,
    pub(crate) formula: &'a str,
    /// Index of its colour: the published three always have theirs, so that reports look alike.
    pub(crate) colour: usize,
}

/// Losses in the order they first appear.
pub(crate) fn losses(report: &Report) -> Vec<Loss<'_>> {
    let mut found: Vec<Loss<'_>> = Vec::new();
    let mut others = 0;
    for training in &report.trainings {
        if found.iter().any(|seen| seen.key == training.loss) {
            continue;
        }
        let known = PUBLISHED.iter().position(|(key, _)| *key == training.loss);
        let colour = known.unwrap_or_else(|| {
            others += 1;
            PUBLISHED.len() + (others - 1) % (palette::LOSSES.len() - PUBLISHED.len())
        });
        let Training { loss, title, formula, .. } = training;
        found.push(Loss { key: loss, title, formula, colour });
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
            let belongs = |t: &&Training| t.embedding_dim == dim && t.loss == loss.key;
            let runs: Vec<&Training> = report.trainings.iter().filter(belongs).collect();
            if runs.is_empty() {
                continue;
            }
            let all = |value: fn(&Training) -> f64| -> Vec<f64> { runs.iter().map(|t| value(t)).collect() };
            let accuracies = all(|t| t.test_accuracy);
            groups.push(Group {
                loss: loss.key,
                title: loss.title,
                colour: loss.colour,
                dim,
                accuracy: Estimate::of_fractions(&accuracies, report.dataset.test_images),
                accuracy_by_angle: mean(&all(|t| t.test_accuracy_cosines)),
                train_accuracy: mean(&all(|t| t.train_accuracy)),
                seconds: mean(&all(|t| t.seconds)),
                runs,
            });
        }
    }
    groups
}

/// The fewest and the most runs of a group.
pub(crate) fn runs(groups: &[Group<'_>]) -> (usize, usize) {
    let counts = || groups.iter().map(|g| g.runs.len());
    (counts().min().unwrap_or(0), counts().max().unwrap_or(0))
}

/// Whether published values may stand beside ours: on the same data, and for one of the losses they are known of.
pub(crate) fn shows_published(report: &Report) -> bool {
    report.dataset.comparable && groups(report).iter().any(|g| g.published().is_some())
}
