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
    let penalised = report.trainings.iter().any(|t| t.embedding_dim == dim && is_penalised(t));
    let all_penalised = report.trainings.iter().all(|t| t.embedding_dim != dim || is_penalised(t));
    // Losses with a margin measure something else: they have an axis of their own.
    let mut charts = if penalised && !all_penalised {
        vec![
            only(report, loss(report, dim), "Training loss without a margin (log scale)", |t| !is_penalised(t)),
            only(report, margin_loss(report, dim), "Training loss with its margin (log scale)", is_penalised),
        ]
    } else {
        vec![loss(report, dim)]
    };
    let by_margin: Field = |s| s.accuracy_penalised;
    charts.extend([
        accuracy(report, dim),
        steps(report, dim, "accuracy", "Training accuracy, plain logits", Spread::Fraction(0.1), |s| s.accuracy),
        only(
            report,
            steps(report, dim, "penalised", "Training accuracy, penalised logits", Spread::Fraction(0.1), by_margin),
            "Training accuracy, penalised logits",
            is_penalised,
        ),
        gradient_norm(report, dim),
        feature_norm(report, dim),
        steps(report, dim, "lambda", "λ: weight of cos θ beside ψ(θ)", Spread::Linear, lambda),
        steps(report, dim, "rate", "Learning rate", Spread::Linear, |s| s.rate),
    ]);
    charts.retain(Chart::has_curve);
    charts
}

/// Charts of what the gradient changes, with the curves of these losses only; `prefix` tells them from those of all.
pub(crate) fn of_losses(report: &Report, dim: usize, colours: &[usize], prefix: &str) -> Vec<Chart> {
    let mut charts =
        vec![loss(report, dim), accuracy(report, dim), gradient_norm(report, dim), feature_norm(report, dim)];
    for chart in &mut charts {
        chart.series.retain(|s| colours.contains(&s.colour));
        chart.id = format!("{prefix}-{}", chart.id);
    }
    charts.retain(Chart::has_curve);
    charts
}

/// Whether the loss is measured with a margin on the target's logit: then some batch has another accuracy by it.
pub(crate) fn is_penalised(training: &Training) -> bool {
    training.steps.iter().any(|s| s.accuracy_penalised != s.accuracy && s.accuracy.is_finite())
}

/// The chart with the curves of some trainings only.
fn only(report: &Report, mut chart: Chart, title: &str, which: fn(&Training) -> bool) -> Chart {
    let belongs = |colour: usize| {
        losses(report)
            .iter()
            .any(|l| l.colour == colour && report.trainings.iter().any(|t| t.loss == l.key && which(t)))
    };
    chart.series.retain(|s| belongs(s.colour));
    chart.title = title.to_string();
    chart
}

fn margin_loss(report: &Report, dim: usize) -> Chart {
    steps(report, dim, "margin-loss", "", Spread::Log, |s| s.loss)
}

/// Training loss.
pub(crate) fn loss(report: &Report, dim: usize) -> Chart {
    steps(report, dim, "loss", "Training loss (log scale)", Spread::Log, |s| s.loss)
}

fn gradient_norm(report: &Report, dim: usize) -> Chart {
    steps(report, dim, "gradient", "Norm of the gradient (log scale)", Spread::Log, |s| s.gradient_norm)
}

fn feature_norm(report: &Report, dim: usize) -> Chart {
    steps(report, dim, "norm", "Mean length of the embeddings (log scale)", Spread::Log, |s| s.feature_norm)
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
