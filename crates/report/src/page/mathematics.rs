//! The mathematics: what the losses compute, in words and formulas, and the data of the pictures that show it.

use std::fmt::Write as _;

use serde::Serialize;

use super::{fill, mathml};
use crate::loss::{HeadSample, LossInfo, Scale};
use crate::model::Report;
use crate::packed::base64;
use crate::palette;
use crate::summary::losses;
use crate::text::{escape, title};

const TEMPLATE: &str = include_str!("../../assets/mathematics.html");

/// The section; empty without a loss to explain.
pub(super) fn section(report: &Report) -> String {
    if report.losses.is_empty() {
        return String::new();
    }
    let ran: Vec<&str> = losses(report).iter().map(|loss| loss.key).collect();
    let cards: String = report.losses.iter().enumerate().map(|(i, loss)| card(i, loss, &ran)).collect();
    let bends = report.losses.iter().find(|loss| !loss.effective_margins.is_empty());
    let bends = bends.map_or_else(|| "a margin".to_string(), |loss| title(&loss.title));
    let parts = [("cards", cards.as_str()), ("bends", &bends)];
    fill(TEMPLATE, &parts)
}

/// One loss in formulas and words.
fn card(index: usize, loss: &LossInfo, ran: &[&str]) -> String {
    let mut html = format!(
        "<article class=\"loss-card\">\n<h3><span class=\"swatch b-loss{}\"></span>{}</h3>\n",
        index % palette::LOSSES.len(),
        title(&loss.title)
    );
    for formula in &loss.formulas {
        let _ = writeln!(html, "<p class=\"formula\">{}</p>", mathml::markup(&formula.mathml));
    }
    let _ = writeln!(html, "<p>{}</p>", escape(&loss.explanation));
    for parameter in &loss.parameters {
        let _ = writeln!(
            html,
            "<p class=\"parameter\"><b>{}</b> {} (default: {})</p>",
            escape(&parameter.symbol),
            escape(&parameter.meaning),
            escape(&parameter.default)
        );
    }
    let not_run = if ran.contains(&loss.key.as_str()) { "" } else { " Not trained in this run." };
    let _ = writeln!(html, "<p class=\"source\">{}.{not_run}</p>\n</article>", escape(&loss.source));
    html
}

/// What the pictures are drawn from.
#[derive(Serialize)]
pub(super) struct Data {
    /// Number of classes of the data set.
    classes: usize,
    losses: Vec<LossData>,
}

/// Tables are little-endian f32 in base64; NaN where there is nothing.
#[derive(Serialize)]
struct LossData {
    key: String,
    title: String,
    colour: usize,
    /// Whether logits are multiplied by the norms of class weights.
    by_norms: bool,
    /// The constant that takes the place of `‖x‖`, if one does.
    constant: Option<f64>,
    annealed: bool,
    margin: Option<u32>,
    targets: Vec<TargetData>,
    effective_margins: Vec<EffectiveData>,
    schedules: Vec<ScheduleData>,
    samples: Vec<HeadSample>,
}

#[derive(Serialize)]
struct TargetData {
    margin: Option<u32>,
    lambda: f64,
    values: String,
    slopes: String,
}

#[derive(Serialize)]
struct EffectiveData {
    margin: Option<u32>,
    lambda: f64,
    factors: String,
}

#[derive(Serialize)]
struct ScheduleData {
    title: String,
    lambdas: String,
}

/// The tables of all losses.
pub(super) fn data(report: &Report) -> Data {
    // What is no softmax of cosines of which one is bent has no samples, and no pictures.
    let drawn = report.losses.iter().enumerate().filter(|(_, loss)| !loss.samples.is_empty());
    let losses = drawn.map(|(i, loss)| LossData {
        key: loss.key.clone(),
        title: loss.title.clone(),
        colour: i % palette::LOSSES.len(),
        by_norms: loss.scores_by_norms(),
        constant: if let Scale::Constant(s) = loss.scale { Some(s) } else { None },
        annealed: loss.annealed,
        margin: loss.margin,
        targets: loss
            .targets
            .iter()
            .map(|curve| TargetData {
                margin: curve.margin,
                lambda: curve.lambda,
                values: table(curve.values.iter().copied()),
                slopes: table(curve.slopes.iter().copied()),
            })
            .collect(),
        effective_margins: loss
            .effective_margins
            .iter()
            .map(|curve| EffectiveData {
                margin: curve.margin,
                lambda: curve.lambda,
                factors: table(curve.factors.iter().map(|factor| factor.unwrap_or(f32::NAN))),
            })
            .collect(),
        schedules: loss
            .schedules
            .iter()
            .map(|schedule| ScheduleData {
                title: schedule.title.clone(),
                lambdas: table(schedule.lambdas.iter().copied()),
            })
            .collect(),
        samples: loss.samples.clone(),
    });
    Data { classes: report.dataset.classes, losses: losses.collect() }
}

fn table(values: impl Iterator<Item = f32>) -> String {
    base64(&values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>())
}
