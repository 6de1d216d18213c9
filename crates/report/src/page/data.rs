//! The page's data: one JSON block for its script.

use std::collections::BTreeMap;

use serde::Serialize;

use super::mathematics;
use crate::error::Error;
use crate::figure::chart::Chart;
use crate::figure::{Drawn, SHOWN_POINTS, curves, drawable, sample};
use crate::geometry::rays;
use crate::model::{Report, Training};
use crate::packed::base64;
use crate::summary::dims;

#[derive(Serialize)]
struct Data {
    charts: BTreeMap<String, ChartData>,
    embeddings: BTreeMap<String, EmbeddingData>,
    mathematics: mathematics::Data,
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
    x: Vec<Option<f64>>,
    y: Vec<Option<f64>>,
}

/// Embeddings as 16-bit integers times `scale`: 1/32,767 of the largest coordinate is finer than a pixel.
#[derive(Serialize)]
struct EmbeddingData {
    dim: usize,
    scale: f64,
    /// Little-endian i16 in base64. Shape `[N, D]`.
    points: String,
    /// u8 in base64. Shape `[N]`.
    labels: String,
    /// u8 in base64. Shape `[N]`.
    predictions: String,
    /// Class weights, the longest of length one. Shape `[C, D]`.
    rays: Vec<f64>,
}

/// The block's content, safe inside a `<script>` element.
pub(super) fn json(report: &Report) -> Result<String, Error> {
    let mut charts = BTreeMap::new();
    for chart in dims(report).into_iter().flat_map(|dim| curves::charts(report, dim)) {
        charts.insert(chart.id.clone(), chart_data(&chart));
    }
    let key = |t: &Training| format!("{}-{}", t.embedding_dim, t.loss);
    let embeddings = drawable(report).iter().map(|drawn| (key(drawn.training), embedding_data(drawn))).collect();
    let mathematics = mathematics::data(report);
    let text = serde_json::to_string(&Data { charts, embeddings, mathematics }).map_err(Error::Encode)?;
    // `<` occurs in strings only; escaped there, no `</script>` or `<!--` can end or bend the block.
    Ok(text.replace('<', "\\u003c"))
}

fn chart_data(chart: &Chart) -> ChartData {
    let series = chart.series.iter().map(|s| SeriesData {
        label: s.label.clone(),
        x: s.x.iter().map(|&v| rounded(v)).collect(),
        y: s.y.iter().map(|&v| rounded(v)).collect(),
    });
    ChartData { frame: chart.frame(), x_label: chart.x_label, series: series.collect() }
}

fn embedding_data(drawn: &Drawn<'_>) -> EmbeddingData {
    let (found, dim) = (drawn.embeddings, drawn.training.embedding_dim);
    let shown: Vec<usize> = sample(found.labels.len(), SHOWN_POINTS).collect();
    let coordinates = || shown.iter().flat_map(|&i| &found.points[i * dim..(i + 1) * dim]).map(|&v| f64::from(v));
    let largest = coordinates().map(f64::abs).fold(0.0, f64::max);
    let scale = if largest > 0.0 { largest / f64::from(i16::MAX) } else { 1.0 };
    let quantised: Vec<u8> = coordinates().flat_map(|v| ((v / scale).round() as i16).to_le_bytes()).collect();
    let pick = |values: &[u8]| base64(&shown.iter().map(|&i| values[i]).collect::<Vec<_>>());
    EmbeddingData {
        dim,
        scale,
        points: base64(&quantised),
        labels: pick(&found.labels),
        predictions: pick(&found.predictions),
        rays: rays(&found.class_weights, dim, drawn.by_norms).concat().into_iter().filter_map(rounded).collect(),
    }
}

/// Five significant digits: a pointer shows four.
fn rounded(value: f64) -> Option<f64> {
    if !value.is_finite() {
        return None;
    }
    format!("{value:.4e}").parse().ok()
}
