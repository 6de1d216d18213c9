//! The case `mnist to 99%`: how long a training takes until the test images are classified that well.

use crate::interrupt;
use crate::record::{CaseRecord, PeerInfo, Rival};
use crate::session::Settings;
use crate::statistics::{Spread, significant};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use sphereface_data::{Choice, Error, ImageSet, Locations};
use sphereface_models::{DIGITS, ImageSource, Model, Training, loss, named_network};
use sphereface_tensor::op::METRICS;
use sphereface_tensor::{Backend, Program};
use sphereface_testkit::TrainingCase;
use sphereface_testkit::workload::Arithmetic;
use std::time::Instant;

/// Name of the case.
pub const NAME: &str = "mnist to 99%";
/// Its group.
pub const GROUP: &str = "wall-clock";

/// Share of the test images that are to be right, by the logits without margin.
const GOAL: f64 = 0.99;
/// How often the test images are evaluated in an epoch; the clock stands still meanwhile.
const EVALUATIONS: usize = 4;
const LOSS: &str = "sphereface";
const EMBEDDING: usize = 3;

/// Where a training stopped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stopped {
    /// Steps until then.
    pub steps: usize,
    /// Seconds that these steps took.
    pub seconds: f64,
    /// Share of the test images that were right.
    pub accuracy: f64,
}

/// Trains on MNIST until the goal is reached. Where full MNIST is not on this machine, the record says so; nothing is
/// fetched.
///
/// # Errors
/// When the device fails.
pub fn measure(settings: &Settings, peers: &[PeerInfo]) -> Result<CaseRecord> {
    let places = Locations { mirrors: Vec::new(), ..Locations::from_environment(None) };
    let mut record = blank();
    let dataset = match sphereface_data::load(Choice::Mnist, &places, &mut |_| {}) {
        Ok(dataset) => dataset,
        Err(error) => {
            record.skipped = Some(match error {
                Error::NoMnist { .. } => "full MNIST is not here; SPHEREFACE_DATA may name its folder".into(),
                damaged => damaged.to_string(),
            });
            return Ok(record);
        }
    };
    let case = recipe(dataset.train, dataset.classes)?;
    let (_, plan) = case.plan()?;
    let mut device = settings.device.open(Arithmetic::F32, settings.threads)?;
    let interval = |evaluation: usize| (evaluation * case.training.source.images).div_ceil(EVALUATIONS * DIGITS.batch);
    let stopped = train(&case, &dataset.test, GOAL, interval, device.backend()).context(NAME)?;
    let Stopped { steps, seconds, accuracy } = stopped;
    if accuracy < GOAL {
        record.skipped = Some(format!("has {accuracy:.4} after {} epochs", DIGITS.epochs));
        return Ok(record);
    }
    let (cost, count) = (plan.total_cost(), steps as u64);
    record.case["steps"] = steps.into();
    record.case["reached"] = accuracy.into();
    record.items = Some((count * DIGITS.batch as u64, "images".into()));
    record.flops_nominal = count * cost.flops.nominal;
    record.flops_useful = count * cost.flops.useful;
    record.bytes = count * cost.bytes;
    record.predicted_s = settings.ceilings.predict(&plan)?.map(|seconds| significant(seconds * steps as f64));
    record.ours = Spread::of(&[seconds]);
    let not_measured = |peer: &PeerInfo| Rival {
        name: peer.name.clone(),
        variant: String::new(),
        precision: peer.precision.clone(),
        seconds: None,
        ratio: None,
        difference: None,
        missing: Some(peer.missing.clone().unwrap_or_else(|| "not measured".into())),
    };
    record.peers = peers.iter().map(not_measured).collect();
    Ok(record)
}

/// The record of a training that is not measured, with the reason.
pub fn skip(reason: String) -> CaseRecord {
    CaseRecord { skipped: Some(reason), ..blank() }
}

/// What is known beforehand.
fn blank() -> CaseRecord {
    CaseRecord {
        name: NAME.into(),
        group: GROUP.into(),
        case: json!({
            "kind": "training_to_accuracy", "network": DIGITS.network, "loss": LOSS, "embedding": EMBEDDING,
            "batch": DIGITS.batch, "epochs": DIGITS.epochs, "seed": DIGITS.seed, "accuracy": GOAL, "dtype": Arithmetic::F32.name(),
        }),
        headline: false,
        items: None,
        flops_nominal: 0,
        flops_useful: 0,
        bytes: 0,
        error: None,
        predicted_s: None,
        memory: None,
        ours: None,
        skipped: None,
        peers: Vec::new(),
    }
}

/// One of the trainings of `trainer compare`, unless it is told otherwise: its schedules are those of their full length,
/// wherever it reaches the goal.
fn recipe(train: ImageSet, classes: usize) -> Result<TrainingCase> {
    let network = named_network(DIGITS.network).with_context(|| format!("expected a network {}", DIGITS.network))?;
    let loss = loss(LOSS).with_context(|| format!("expected a loss {LOSS}"))?;
    let steps = DIGITS.steps(train.len());
    let table = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
    Ok(TrainingCase {
        model: Model {
            network: network.network([train.height, train.width, train.channels], EMBEDDING),
            head: (loss.make)(classes, &[f64::from(DIGITS.m)]),
        },
        training: Training { log_rows: 1, ..DIGITS.training(train.len()) },
        rates: table(DIGITS.rate().table(steps)),
        lambdas: table(DIGITS.lambda().table(steps)),
        images: train.images,
        labels: train.labels,
    })
}

/// Trains until the test images reach the goal, or to the end; they are evaluated when `interval(1)`, `interval(2)` …
/// steps are done, and at the end.
///
/// # Errors
/// When the backend refuses something or fails.
pub fn train(
    case: &TrainingCase,
    test: &ImageSet,
    goal: f64,
    interval: impl Fn(usize) -> usize,
    backend: &mut dyn Backend,
) -> Result<Stopped> {
    let Training { batch, steps, .. } = case.training;
    let (parameters, plan) = case.plan()?;
    let source = ImageSource { name: "test", images: test.len() };
    let training = backend.lower(&plan)?;
    let evaluation = backend.lower(&case.model.evaluation_plan(&parameters, source, batch, steps)?)?;
    case.upload(&parameters, backend)?;
    backend.upload(&source.images_buffer(), &test.images)?;
    backend.upload(&source.labels_buffer(), &test.labels)?;
    let (mut done, mut seconds, mut evaluations) = (0, 0.0, 0);
    loop {
        evaluations += 1;
        let next = interval(evaluations).min(steps);
        let start = Instant::now();
        backend.run(training, next - done)?;
        backend.sync()?;
        seconds += start.elapsed().as_secs_f64();
        done = next;
        ensure!(!interrupt::requested(), "interrupted");
        let accuracy = accuracy(source, batch, evaluation, backend)?;
        if accuracy >= goal || done == steps {
            return Ok(Stopped { steps: done, seconds, accuracy });
        }
    }
}

/// Share of a set's images that are right.
fn accuracy(source: ImageSource, batch: usize, evaluation: Program, backend: &mut dyn Backend) -> Result<f64> {
    let batches = source.batches(batch);
    backend.upload(&source.counter_buffer(), &[0; 4])?;
    backend.run(evaluation, batches)?;
    let mut log = vec![0.0f32; batches * METRICS.len()];
    backend.download(&source.log_buffer(), bytemuck::cast_slice_mut(&mut log))?;
    let sum = |metric: &str| -> f64 {
        let column = METRICS.iter().position(|name| *name == metric).unwrap_or(0);
        log.chunks(METRICS.len()).map(|row| f64::from(row[column])).sum()
    };
    Ok(sum("hits_logits") / sum("rows"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sphereface_models::Network;
    use sphereface_tensor::cpu::CpuBackend;

    /// A training on patterns of three classes, and its images as those of a test.
    fn patterns() -> (TrainingCase, ImageSet) {
        let network = Network::input([9, 8, 1]).stage(8, 0).linear(8);
        let mut case = TrainingCase::new(network, loss(LOSS).unwrap(), 3, 48, 12);
        let steps = 60;
        case.training = Training { steps, log_rows: 1, clip: Some(5.0), ..case.training };
        (case.rates, case.lambdas) = (vec![0.02; steps], vec![20.0; steps]);
        let (images, labels) = (case.images.clone(), case.labels.clone());
        (case, ImageSet { height: 9, width: 8, channels: 1, images, labels })
    }

    #[test]
    fn a_training_stops_at_the_first_evaluation_that_reaches_its_goal() {
        let (case, test) = patterns();
        let train = |goal: f64| train(&case, &test, goal, |evaluation| 2 * evaluation, &mut CpuBackend::new(1)?);
        let at_once = train(0.0).unwrap();
        assert!(at_once.steps == 2 && at_once.seconds > 0.0, "{at_once:?}");
        let learned = train(0.9).unwrap();
        assert!(learned.steps > 2 && learned.steps < 60 && learned.steps % 2 == 0, "{learned:?}");
        assert!((0.9..=1.0).contains(&learned.accuracy), "{learned:?}");
        // More than all cannot be right.
        assert_eq!(train(1.1).unwrap().steps, 60);
    }
}
