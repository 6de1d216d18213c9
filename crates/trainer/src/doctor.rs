//! The command `doctor`: what happened in a run, and what to change, from its log and its summary alone.

use crate::cli::DoctorArgs;
use crate::event::{Cause, Event, Finding, Found, sentence};
use crate::folder::{Folder, Line, METRICS, SUMMARY, Summary, TrainingSummary, events, records};
use crate::guard::{Guard, short};
use anyhow::{Context, Result, ensure};
use sphereface_models::loss_and_gradient;
use sphereface_report::StepRecord;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// Accuracy below which a class counts as missing.
const MISSING: f64 = 0.05;
/// A loss that repeats so often, to so many digits, is held there by a bound and not by the images.
const REPEATED: usize = 30;
const SAME: f64 = 1e-4;
/// The negative logarithm of fp32's smallest normal number, at which other programs clamp a loss.
const CLAMP: f64 = 87.3365;
/// Embeddings below this length have all but lost their logits.
const SHRUNK: f64 = 2.0;
/// How near ln(classes) a loss must stand to be called stuck there.
const NEAR: f64 = 0.1;
/// Embeddings beyond this length are on the way out.
const LONG: f64 = 1e4;
/// Steps at the end of a log that are judged.
const LAST: usize = 50;

/// What happened, and what to do.
#[derive(Clone, Debug, PartialEq)]
struct Verdict {
    happened: String,
    advice: String,
}

impl Verdict {
    fn new(happened: impl Into<String>, advice: impl Into<String>) -> Verdict {
        Verdict { happened: happened.into(), advice: advice.into() }
    }
}

/// Prints a sentence or two on every training of a run.
pub(crate) fn doctor(args: &DoctorArgs) -> Result<()> {
    for (name, verdict) in examine(&args.run)? {
        tell!("{name}: {}", verdict.happened);
        tell!("  {}", verdict.advice);
    }
    Ok(())
}

/// Every training of a run with its verdict.
fn examine(path: &Path) -> Result<Vec<(String, Verdict)>> {
    let folder = Folder::any(path);
    let entries = fs::read_dir(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let mut inside: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|name| folder.inside(name).file(METRICS).is_file())
        .collect();
    inside.sort();
    ensure!(
        !inside.is_empty() || folder.file(METRICS).is_file(),
        "{}: expected the folder of a run, found no {METRICS} in it",
        path.display()
    );
    let whole = path.display().to_string();
    let command = if inside.is_empty() { "train" } else { "compare" };
    let resume = format!("to go on: trainer {command} --resume {whole}");
    if inside.is_empty() {
        let summary = read_summary(&folder)?.and_then(|summary| summary.runs.into_iter().next());
        return Ok(vec![(whole, verdict(&folder.whole_log()?, summary.as_ref(), &resume))]);
    }
    let examine = |name: String| {
        let folder = folder.inside(&name);
        let summary = read_summary(&folder)?.and_then(|summary| summary.runs.into_iter().next());
        Ok((name, verdict(&folder.whole_log()?, summary.as_ref(), &resume)))
    };
    inside.into_iter().map(examine).collect()
}

fn read_summary(folder: &Folder) -> Result<Option<Summary>> {
    let path = folder.file(SUMMARY);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("{}: cannot be read", path.display()))?,
    };
    let summary = serde_json::from_str(&text);
    summary.map(Some).with_context(|| format!("{}: expected a run's summary", path.display()))
}

/// Whether λ takes part in a loss, whatever its gradient.
fn is_annealed(key: &str) -> bool {
    loss_and_gradient(key).is_some_and(|(loss, _)| loss.annealed)
}

/// The verdict on one training, from its log and, if it has ended, its summary.
fn verdict(lines: &[Line], summary: Option<&TrainingSummary>, resume: &str) -> Verdict {
    let (steps, _) = records(lines);
    let annealed =
        steps.iter().any(|step| step.lambda > 0.0) || summary.is_some_and(|summary| is_annealed(&summary.loss));
    let Some(last) = steps.last() else {
        return Verdict::new("The training stopped before its first step.", sentence(resume));
    };
    let found = events(lines);
    if let Some(Event::Stopped(stopped)) = found.last() {
        let advice = format!("Try {}.", stopped.cause.advice(annealed));
        return Verdict::new(sentence(&stopped.sentence), advice);
    }
    let tail = &steps[steps.len().saturating_sub(LAST)..];
    if let Some(verdict) = held_at_a_bound(tail, summary) {
        return verdict;
    }
    if let Some(finding) = judged(lines, &steps, annealed, summary) {
        return Verdict::new(sentence(&finding.sentence), format!("Try {}.", finding.cause.advice(annealed)));
    }
    let warned = found.iter().find_map(|event| if let Event::Warned(found) = event { Some(found) } else { None });
    let verdict = warned
        .map(|warned| ignored(warned, annealed))
        .or_else(|| shrunk(tail, summary).filter(|_| annealed))
        .or_else(|| long(tail))
        .or_else(|| brief(summary).filter(|_| found.is_empty()))
        .or_else(|| missing(summary));
    if let Some(verdict) = verdict {
        return verdict;
    }
    let Some(summary) = summary else {
        let happened = format!(
            "The run was interrupted at step {}; nothing was wrong with it: loss {}, accuracy {}.",
            last.step,
            short(last.loss),
            short(last.accuracy)
        );
        return Verdict::new(happened, sentence(resume));
    };
    recovered(&found, summary)
}

/// A loss that does not move in its fifth digit, anywhere but where a network that knows nothing has it.
fn held_at_a_bound(tail: &[StepRecord], summary: Option<&TrainingSummary>) -> Option<Verdict> {
    let last = tail.last()?;
    let repeated = tail.iter().rev().take_while(|step| (step.loss - last.loss).abs() <= SAME * last.loss.abs());
    let first = repeated.clone().last()?;
    let guessing = classes(tail, summary).is_some_and(|classes| (last.loss - (classes as f64).ln()).abs() < 0.01);
    if repeated.count() < REPEATED || last.loss == 0.0 || guessing {
        return None;
    }
    let clamp = (last.loss - CLAMP).abs() < 0.01;
    let why = if clamp {
        " = −ln(smallest fp32 number), where a logarithm is clamped and its gradient is lost"
    } else {
        ""
    };
    Some(Verdict::new(
        format!("The loss has not moved from {:.4}{why} since step {} or before.", last.loss, first.step),
        format!("Begin again with {}, and with a loss computed by log-sum-exp.", Cause::Exploded.advice(true)),
    ))
}

/// What the guard says of the whole log, if its last judgement is a bad one.
fn judged(lines: &[Line], steps: &[StepRecord], annealed: bool, summary: Option<&TrainingSummary>) -> Option<Finding> {
    let mut guard = Guard::of_log(classes(steps, summary)?, annealed, warm_up(steps), steps.last()?.step);
    let mut found = None;
    for line in lines.iter().filter(|line| !matches!(line, Line::Epoch { .. })) {
        found = guard.observe(line);
    }
    found
}

/// How many classes there are: as the summary says, else by the loss of a network that knows nothing, else by what the
/// first steps got right.
fn classes(steps: &[StepRecord], summary: Option<&TrainingSummary>) -> Option<usize> {
    if let Some(summary) = summary.filter(|summary| !summary.class_accuracy.is_empty()) {
        return Some(summary.class_accuracy.len());
    }
    let mean =
        |steps: &[StepRecord], value: fn(&StepRecord) -> f64| steps.iter().map(value).sum::<f64>() / steps.len() as f64;
    let tail = &steps[steps.len().saturating_sub(LAST)..];
    let by_loss = mean(tail, |step| step.loss).exp().round();
    if (2.0..1e7).contains(&by_loss) && (mean(tail, |step| step.accuracy) * by_loss - 1.0).abs() < 0.5 {
        return Some(by_loss as usize);
    }
    let first = &steps[..steps.len().min(8)];
    let chance = mean(first, |step| step.accuracy);
    (chance > 0.0).then(|| (1.0 / chance).round().max(2.0) as usize)
}

/// The step at which the rate is largest.
fn warm_up(steps: &[StepRecord]) -> usize {
    let largest = steps.iter().max_by(|a, b| a.rate.total_cmp(&b.rate));
    largest.map_or(0, |step| if step.rate > steps[0].rate { step.step } else { 0 })
}

/// Embeddings so short that the loss is that of a guess.
fn shrunk(tail: &[StepRecord], summary: Option<&TrainingSummary>) -> Option<Verdict> {
    let classes = classes(tail, summary)?;
    let log_classes = (classes as f64).ln();
    let count = tail.len() as f64;
    let loss = tail.iter().map(|step| step.loss).sum::<f64>() / count;
    let norm = tail.iter().map(|step| step.feature_norm).sum::<f64>() / count;
    if tail.len() < LAST || (loss - log_classes).abs() > NEAR * log_classes || norm > SHRUNK {
        return None;
    }
    Some(Verdict::new(
        format!(
            "The loss hangs at {}, near ln({classes}) = {}, because the network shrank its embeddings to a mean length of {} to escape the margin.",
            short(loss),
            short(log_classes),
            short(norm)
        ),
        format!("Try {}.", Cause::Stuck.advice(true)),
    ))
}

fn long(tail: &[StepRecord]) -> Option<Verdict> {
    let last = tail.last().filter(|step| step.feature_norm > LONG)?;
    Some(Verdict::new(
        format!("The embeddings grew to a mean length of {} by step {}.", short(last.feature_norm), last.step),
        format!("Try {}.", Cause::NormsExploded.advice(false)),
    ))
}

fn accuracy(summary: &TrainingSummary) -> String {
    format!("test accuracy {:.4} after {} steps", summary.test_accuracy, summary.steps)
}

/// A training so short that it says nothing about its settings.
fn brief(summary: Option<&TrainingSummary>) -> Option<Verdict> {
    let accuracy = accuracy(summary.filter(|summary| summary.epochs < 1.0)?);
    Some(Verdict::new(
        format!("Nothing went wrong, but the training ended before it had seen every image once: {accuracy}."),
        "Train longer: --epochs 5 is the default.",
    ))
}

/// Classes that no test image is taken for.
fn missing(summary: Option<&TrainingSummary>) -> Option<Verdict> {
    let accuracies = &summary?.class_accuracy;
    let is_missing = |accuracy: &Option<f64>| accuracy.is_some_and(|accuracy| accuracy < MISSING);
    let missing: Vec<usize> = (0..accuracies.len()).filter(|&class| is_missing(&accuracies[class])).collect();
    let (first, rest) = missing.split_first()?;
    let listed = rest.iter().fold(first.to_string(), |listed, class| format!("{listed}, {class}"));
    let (noun, pronoun) = if rest.is_empty() { ("Class", "it") } else { ("Classes", "them") };
    Some(Verdict::new(
        format!("{noun} {listed} got lost: hardly any of the test images are taken for {pronoun}."),
        "Try more steps, another training.seed, a larger embedding, or a margin that sets in later (training.lambda_until); see that the class has training images.",
    ))
}

/// A training whose guard only warned.
fn ignored(warned: &Found, annealed: bool) -> Verdict {
    let advice = format!("Try --guard recover, or {}.", warned.cause.advice(annealed));
    Verdict::new(format!("At step {} the guard warned: {}.", warned.found_at, warned.sentence), advice)
}

/// A training that ended well.
fn recovered(found: &[Event], summary: &TrainingSummary) -> Verdict {
    let accuracy = accuracy(summary);
    let recoveries: Vec<_> = found
        .iter()
        .filter_map(|event| if let Event::Recovered(recovery) = event { Some(recovery) } else { None })
        .collect();
    if let [first, ..] = recoveries[..] {
        let factor: f64 = recoveries.iter().map(|recovery| recovery.rate_factor).product();
        let lambda = recoveries.iter().filter_map(|recovery| recovery.lambda).next_back();
        let lambda = lambda.map_or_else(String::new, |lambda| format!(", and training.lambda {}", short(lambda)));
        let times = if recoveries.len() == 1 { "once".to_owned() } else { format!("{} times", recoveries.len()) };
        return Verdict::new(
            format!(
                "The guard sent the training back {times}, at first because {}; then it ended well: {accuracy}.",
                first.sentence
            ),
            format!("To begin where it ended up: {} of training.rate{lambda}.", short(factor)),
        );
    }
    Verdict::new(format!("The training ended well: {accuracy}."), "Nothing to change.")
}
