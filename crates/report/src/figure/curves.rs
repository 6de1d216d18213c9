//! Which measurements become charts.

use super::chart::{CURVE_POINTS, Chart, Series, Spread};
use crate::model::{Report, StepRecord, Training};
use crate::summary::losses;

/// Seeds of one (loss, embedding size) drawn as curves at most.
pub(crate) const CURVE_RUNS: usize = 5;

/// A measurement of a step.
type Field = fn(&StepRecord) -> f64;

/// The charts of one embedding size in reading order; those without a curve are left out.
pub(crate) fn charts(report: &Report, dim: usize) -> Vec<Chart> {
    // λ of 0 all along means that the loss has none.
    let lambda: Field = |s| if s.lambda > 0.0 { s.lambda } else { f64::NAN };
    let mut charts = vec![
        loss(report, dim),
        steps(report, dim, "accuracy", "Training accuracy of the batches", Spread::Fraction(0.1), |s| s.accuracy),
        accuracy(report, dim),
        steps(report, dim, "lambda", "λ: weight of cos θ beside ψ(θ)", Spread::Linear, lambda),
        steps(report, dim, "rate", "Learning rate", Spread::Linear, |s| s.rate),
        steps(report, dim, "gradient", "Norm of the gradient (log scale)", Spread::Log, |s| s.gradient_norm),
    ];
    charts.retain(Chart::has_curve);
    charts
}

/// Training loss.
pub(crate) fn loss(report: &Report, dim: usize) -> Chart {
    steps(report, dim, "loss", "Training loss (log scale)", Spread::Log, |s| s.loss)
}

/// Test accuracy after each epoch.
pub(crate) fn accuracy(report: &Report, dim: usize) -> Chart {
    let series = series(report, dim, |t| {
        let log = &t.epochs_log;
        (log.iter().map(|e| e.epoch as f64).collect(), log.iter().map(|e| e.test_accuracy).collect())
    });
    Chart {
        id: format!("test-{dim}"),
        title: "Test accuracy after each epoch".to_string(),
        x_label: "epoch",
        x_step: None,
        spread: Spread::Fraction(0.0),
        smooth: false,
        named: false,
        series,
    }
}

fn steps(report: &Report, dim: usize, id: &str, title: &str, spread: Spread, field: Field) -> Chart {
    let series = series(report, dim, |t| {
        t.steps
            .iter()
            .step_by(t.steps.len().div_ceil(CURVE_POINTS).max(1))
            .map(|step| (step.epoch, field(step)))
            .unzip()
    });
    Chart {
        id: format!("{id}-{dim}"),
        title: title.to_string(),
        x_label: "epoch",
        x_step: None,
        spread,
        // λ and the learning rate follow a schedule; the rest is measured on batches.
        smooth: spread != Spread::Linear,
        named: false,
        series,
    }
}

fn series(report: &Report, dim: usize, values: impl Fn(&Training) -> (Vec<f64>, Vec<f64>)) -> Vec<Series> {
    let mut found = Vec::new();
    for loss in losses(report) {
        let belongs = |t: &&Training| t.embedding_dim == dim && t.loss == loss.key;
        let runs: Vec<&Training> = report.trainings.iter().filter(belongs).collect();
        for (i, training) in runs.iter().take(CURVE_RUNS).enumerate() {
            let seed = if runs.len() > 1 { format!(", seed {}", training.seed) } else { String::new() };
            let (x, y) = values(training);
            found.push(Series { label: format!("{}{seed}", loss.title), colour: loss.colour, strong: i == 0, x, y });
        }
    }
    found
}
