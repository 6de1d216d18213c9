//! The page's data: one JSON block for its script.

use std::collections::BTreeMap;

use serde::Serialize;

use super::gradients;
use super::mathematics;
use super::pictures::{self, Digits, EmbeddingData};
use crate::error::Error;
use crate::figure::chart::Chart;
use crate::figure::{curves, drawable};
use crate::model::{Report, Training};
use crate::summary::dims;

#[derive(Serialize)]
struct Data {
    charts: BTreeMap<String, ChartData>,
    embeddings: BTreeMap<String, EmbeddingData>,
    mathematics: mathematics::Data,
    digits: Option<Digits>,
}

#[derive(Serialize)]
struct ChartData {
    /// Horizontal frame: left and right in drawing units, low and high in values.
    frame: [f64; 4],
    x_label: &'static str,
    series: Vec<SeriesData>,
}

#[derive(Serialize)]
struct SeriesData {
    label: String,
    /// Index of the loss's colour.
    colour: usize,
    x: Vec<Option<f64>>,
    y: Vec<Option<f64>>,
}

/// The block's content, safe inside a `<script>` element.
pub(super) fn json(report: &Report) -> Result<String, Error> {
    let mut charts = BTreeMap::new();
    let of_all = dims(report).into_iter().flat_map(|dim| curves::charts(report, dim));
    for chart in of_all.chain(gradients::charts(report)) {
        charts.insert(chart.id.clone(), chart_data(&chart));
    }
    let key = |t: &Training| format!("{}-{}", t.embedding_dim, t.loss);
    let drawn = drawable(report);
    let shown = pictures::shown(&drawn);
    let embeddings = drawn.iter().map(|drawn| (key(drawn.training), pictures::embedding(drawn, &shown))).collect();
    let images = report.images.as_ref().filter(|_| !shown.is_empty());
    let digits = images.map(|images| pictures::digits(images, &shown)).transpose()?;
    let mathematics = mathematics::data(report);
    let text = serde_json::to_string(&Data { charts, embeddings, mathematics, digits }).map_err(Error::Encode)?;
    // `<` occurs in strings only; escaped there, no `</script>` or `<!--` can end or bend the block.
    Ok(text.replace('<', "\\u003c"))
}

fn chart_data(chart: &Chart) -> ChartData {
    let series = chart.series.iter().map(|s| SeriesData {
        label: s.label.clone(),
        colour: s.colour,
        x: s.x.iter().map(|&v| rounded(v)).collect(),
        y: s.y.iter().map(|&v| rounded(v)).collect(),
    });
    ChartData { frame: chart.frame(), x_label: chart.x_label, series: series.collect() }
}

/// Five significant digits: a pointer shows four.
pub(super) fn rounded(value: f64) -> Option<f64> {
    if !value.is_finite() {
        return None;
    }
    format!("{value:.4e}").parse().ok()
}
