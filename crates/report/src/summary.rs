//! Trainings grouped by loss and embedding size, and what may be said about them.

use crate::loss::LossInfo;
use crate::model::{Report, Training};
use crate::statistics::{Estimate, mean};
use crate::text::listed;

/// All seeds of one loss at one embedding size.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    /// What is known of the loss; a checked report knows all of them.
    pub(crate) info: Option<&'a LossInfo>,
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
    /// The published accuracy of this loss, if there is one: those that are known are of two dimensions.
    pub(crate) fn published(&self) -> Option<f64> {
        self.info.and_then(|loss| loss.published).filter(|_| self.dim == 2)
    }

    /// Whether the lengths of the class weights take part in the logits.
    pub(crate) fn scores_by_norms(&self) -> bool {
        self.info.is_some_and(LossInfo::scores_by_norms)
    }
}

/// A loss of the report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loss<'a> {
    pub(crate) key: &'a str,
    /// As in the trainings, with the margin they have.
    pub(crate) title: &'a str,
    pub(crate) info: Option<&'a LossInfo>,
    /// Index of its colour: its place among all losses, so that reports look alike.
    pub(crate) colour: usize,
}

/// Losses in the order they first appear.
pub(crate) fn losses(report: &Report) -> Vec<Loss<'_>> {
    let mut found: Vec<Loss<'_>> = Vec::new();
    for training in &report.trainings {
        if found.iter().any(|seen| seen.key == training.loss) {
            continue;
        }
        let colour = report.losses.iter().position(|loss| loss.key == training.loss).unwrap_or_default();
        let info = report.loss_of(training);
        found.push(Loss { key: &training.loss, title: &training.title, info, colour });
    }
    found
}

/// Titles of the losses that ran and are annealed by λ, as a sentence lists them; nothing if there are none.
pub(crate) fn annealed(report: &Report) -> Option<String> {
    let annealed = losses(report).into_iter().filter_map(|loss| loss.info.filter(|info| info.annealed));
    let titles: Vec<String> = annealed.map(|info| info.title.clone()).collect();
    (!titles.is_empty()).then(|| listed(&titles))
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
                info: loss.info,
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
