//! Whether the order of the losses is more than chance: a paired t-test over seeds.
//!
//! Trainings of one seed begin with the same network and see the same images in the same order, so the difference of
//! two losses at one seed is free of what they share. All pairs of an embedding size are tested together and corrected
//! by Holm's procedure.

use serde::{Deserialize, Serialize};

use crate::statistics::{FEWEST_PAIRS, holm, paired_test};
use crate::summary::Group;

/// The probability of an error that is accepted.
const LEVEL: f64 = 0.05;

/// Two losses at one embedding size, compared by test accuracy over the seeds they share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Numbers in an embedding.
    pub embedding_dim: usize,
    /// Title of the loss with the higher mean accuracy.
    pub higher: String,
    /// Title of the other one.
    pub lower: String,
    /// Seeds that both were trained with.
    pub seeds: usize,
    /// Mean difference of their accuracies over these seeds, not negative.
    pub difference: f64,
    /// Probability of such a difference without any, two-sided, corrected for all pairs of this embedding size; `None`
    /// with fewer than three seeds, or where all differences are the same.
    pub p: Option<f64>,
    /// Whether that is below 0.05.
    pub significant: bool,
}

/// All pairs of losses, by embedding size.
pub(crate) fn comparisons(groups: &[Group<'_>]) -> Vec<Comparison> {
    groups.chunk_by(|a, b| a.dim == b.dim).flat_map(of_one_size).collect()
}

fn of_one_size(groups: &[Group<'_>]) -> Vec<Comparison> {
    let pairs = groups.iter().enumerate().flat_map(|(i, a)| groups[i + 1..].iter().map(move |b| (a, b)));
    let mut found = Vec::new();
    let mut tests = Vec::new();
    for (a, b) in pairs {
        let differences = differences(a, b);
        let mean = differences.iter().sum::<f64>() / differences.len().max(1) as f64;
        let (higher, lower) = if mean < 0.0 { (b, a) } else { (a, b) };
        if let Some(test) = paired_test(&differences) {
            tests.push((found.len(), test.p));
        }
        found.push(Comparison {
            embedding_dim: a.dim,
            higher: higher.title.to_string(),
            lower: lower.title.to_string(),
            seeds: differences.len(),
            difference: mean.abs(),
            p: None,
            significant: false,
        });
    }
    let corrected = holm(&tests.iter().map(|&(_, p)| p).collect::<Vec<_>>());
    for ((at, _), p) in tests.into_iter().zip(corrected) {
        found[at].p = Some(p);
        found[at].significant = p < LEVEL;
    }
    found
}

/// Test accuracy of `a` minus that of `b`, for each seed that both have.
fn differences(a: &Group<'_>, b: &Group<'_>) -> Vec<f64> {
    let of_seed = |seed| b.runs.iter().find(|training| training.seed == seed);
    a.runs.iter().filter_map(|ours| Some(ours.test_accuracy - of_seed(ours.seed)?.test_accuracy)).collect()
}

/// Pairs that do not differ significantly are told one by one up to this many.
const MOST_TOLD: usize = 6;

/// What may be said about the order of the losses, one sentence an embedding size, or for all of them if seeds are too few
/// everywhere; empty with a single loss.
pub(crate) fn sentences(groups: &[Group<'_>]) -> Vec<String> {
    let all = comparisons(groups);
    let most = all.iter().map(|pair| pair.seeds).max();
    if let Some(most) = most.filter(|&most| most < FEWEST_PAIRS) {
        return vec![too_few(most)];
    }
    let mut sentences: Vec<String> = all.chunk_by(|a, b| a.embedding_dim == b.embedding_dim).map(sentence).collect();
    if all.iter().any(|pair| pair.p.is_some()) {
        sentences.push(
            "p is that of a paired t-test over seeds (same seed: same first network, same order of images), two-sided, \
             corrected for all pairs of an embedding size (Holm); significant means p < 0.05."
                .to_string(),
        );
    }
    sentences
}

/// What fewer seeds than [`FEWEST_PAIRS`] say.
fn too_few(seeds: usize) -> String {
    let seeds = match seeds {
        0 => "No common seed says",
        1 => "One seed says",
        _ => "Two seeds say",
    };
    format!(
        "{seeds} nothing about how much another would differ, so no order between the losses is claimed (three seeds can: \
         --seeds 3)."
    )
}

fn sentence(pairs: &[Comparison]) -> String {
    let dim = pairs[0].embedding_dim;
    let (fewest, most) = pairs.iter().fold((usize::MAX, 0), |(low, high), p| (low.min(p.seeds), high.max(p.seeds)));
    if most < FEWEST_PAIRS {
        return format!("{dim}-D: {}", too_few(most));
    }
    let seeds = if fewest < most { format!("{fewest} to {most}") } else { most.to_string() };
    let told = |wanted: bool| -> Vec<String> {
        let pairs = pairs.iter().filter(|pair| pair.significant == wanted);
        pairs.map(|p| format!("{} above {} by {:.4} ({})", p.higher, p.lower, p.difference, probability(p))).collect()
    };
    let (significant, others) = (told(true), told(false));
    // Of many losses there are too many pairs to read.
    let others = if others.len() > MOST_TOLD { format!("{} pairs", others.len()) } else { others.join("; ") };
    let mut text = format!("{dim}-D, {seeds} seeds: ");
    if significant.is_empty() {
        text += &format!("not significant: {others}. No order between the losses is claimed.");
    } else {
        text += &format!("significant: {}.", significant.join("; "));
        if !others.is_empty() {
            text += &format!(" Not significant: {others}.");
        }
    }
    text
}

fn probability(pair: &Comparison) -> String {
    match pair.p {
        None if pair.seeds < FEWEST_PAIRS => "too few common seeds".to_string(),
        None => "the same at every seed, so it cannot be tested".to_string(),
        Some(p) if p < 0.0001 => "p < 0.0001".to_string(),
        Some(p) if p < 0.1 => format!("p = {p:.4}"),
        Some(p) => format!("p = {p:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Training;
    use crate::statistics::Estimate;

    fn training(seed: u64, test_accuracy: f64) -> Training {
        Training {
            loss: String::new(),
            title: String::new(),
            embedding_dim: 2,
            seed,
            epochs: 1,
            seconds: 1.0,
            train_accuracy: 1.0,
            test_accuracy,
            test_accuracy_cosines: test_accuracy,
            final_train_loss: 0.0,
            steps: Vec::new(),
            epochs_log: Vec::new(),
            embeddings: None,
            film: None,
            guard: Vec::new(),
        }
    }

    /// What is said of losses a, b, … with these accuracies at seeds 1, 2, ….
    fn said(losses: &[&[f64]]) -> (Vec<Comparison>, Vec<String>) {
        let trainings: Vec<Vec<Training>> = losses
            .iter()
            .map(|all| (1..).zip(*all).map(|(seed, &accuracy)| training(seed, accuracy)).collect())
            .collect();
        let groups: Vec<Group<'_>> = trainings
            .iter()
            .zip(["a", "b", "c", "d", "e"])
            .map(|(runs, title)| Group {
                info: None,
                title,
                colour: 0,
                dim: 2,
                runs: runs.iter().collect(),
                accuracy: Estimate::of_fractions(&[0.5], 10),
                accuracy_by_angle: 0.5,
                train_accuracy: 0.5,
                seconds: 1.0,
            })
            .collect();
        (comparisons(&groups), sentences(&groups))
    }

    const A: &[f64] = &[0.9893, 0.9901, 0.9887, 0.9899, 0.9895];
    const B: &[f64] = &[0.9889, 0.9890, 0.9880, 0.9897, 0.9885];
    const C: &[f64] = &[0.9890, 0.9902, 0.9885, 0.9901, 0.9893];

    #[test]
    fn pairs_are_tested_and_corrected_together() {
        // p of scipy.stats.ttest_rel: a-b 0.016596, a-c 0.455660, b-c 0.032678; by Holm times 3, 2 and 1.
        let (found, sentences) = said(&[A, B, C]);
        let p: Vec<f64> = found.iter().filter_map(|pair| pair.p).collect();
        for (found, expected) in p.iter().zip([0.016_596_318 * 3.0, 0.455_659_540, 0.032_677_923 * 2.0]) {
            assert!((found - expected).abs() < 1e-8, "{found} is not {expected}");
        }
        assert_eq!(found.iter().map(|pair| pair.significant).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!((found[2].higher.as_str(), found[2].lower.as_str(), found[2].seeds), ("c", "b", 5));
        assert_eq!(
            sentences[0],
            "2-D, 5 seeds: significant: a above b by 0.0007 (p = 0.0498). Not significant: a above c by 0.0001 (p = 0.46); \
             c above b by 0.0006 (p = 0.0654)."
        );
        assert!(sentences[1].contains("paired t-test") && sentences.len() == 2);
    }

    #[test]
    fn what_is_not_significant_is_called_so() {
        let (_, sentences) = said(&[A, C]);
        assert_eq!(
            sentences[0],
            "2-D, 5 seeds: not significant: a above b by 0.0001 (p = 0.46). No order between the losses is claimed."
        );
    }

    #[test]
    fn fewer_than_three_seeds_say_nothing() {
        for seeds in [1, 2] {
            let (found, sentences) = said(&[&A[..seeds], &B[..seeds]]);
            assert!(found.iter().all(|pair| pair.p.is_none() && !pair.significant));
            assert!(sentences.len() == 1 && sentences[0].contains("no order"), "{sentences:?}");
        }
        assert!(said(&[A]).1.is_empty());
        // Only seeds that both have are compared: two here.
        let (found, sentences) = said(&[A, &B[..2]]);
        assert!(found[0].seeds == 2 && sentences[0].starts_with("Two seeds say nothing"), "{sentences:?}");
    }

    #[test]
    fn many_pairs_are_counted() {
        let (found, sentences) = said(&[A, B, A, B, A]);
        assert!(found.len() == 10 && sentences[0].contains("10 pairs"), "{sentences:?}");
    }

    #[test]
    fn equal_differences_cannot_be_tested() {
        let (found, sentences) = said(&[&[0.98, 0.97, 0.99], &[0.97, 0.96, 0.98]]);
        assert_eq!(found[0].p, None);
        assert!(sentences[0].contains("not significant") && sentences[0].contains("cannot be tested"), "{sentences:?}");
    }
}
