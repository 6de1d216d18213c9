//! The margin's shape: what losses put in place of cos θ, from their own functions.

use super::chart::{Chart, Series, Spread};
use crate::loss::LossInfo;

/// Grey, for margins that were not trained with.
const OTHER: usize = 11;

/// What becomes of the target's cosine at the smallest λ: the cosine itself, and every margin of every loss.
pub(crate) fn chart(losses: &[LossInfo]) -> Chart {
    let mut series: Vec<Series> = Vec::new();
    for (colour, loss) in losses.iter().enumerate() {
        let mut margins: Vec<Option<u32>> = loss.targets.iter().map(|target| target.margin).collect();
        margins.dedup();
        for margin in margins {
            let of_margin = loss.targets.iter().filter(|target| target.margin == margin);
            let Some(target) = of_margin.min_by(|a, b| a.lambda.total_cmp(&b.lambda)) else { continue };
            let y: Vec<f64> = target.values.iter().map(|&value| f64::from(value)).collect();
            let x: Vec<f64> = (0..y.len()).map(|i| 180.0 * i as f64 / (y.len() - 1) as f64).collect();
            let is_cosine = y.iter().zip(&x).all(|(y, x): (&f64, &f64)| (y - x.to_radians().cos()).abs() < 1e-6);
            let name = || if is_cosine { "cos θ".to_string() } else { loss.title.clone() };
            let label = margin.map_or_else(name, |m| format!("m = {m}"));
            let trained = margin.is_none() || margin == loss.margin;
            let found = Series { label, colour: if trained { colour } else { OTHER }, strong: true, x, y };
            // Losses that leave the cosine as it is share a curve, in the colour of the last of them; a margin of 1
            // is another name for it.
            match series.iter_mut().find(|known| near(&known.y, &found.y)) {
                Some(known) if margin.is_none() => *known = found,
                Some(known) => known.label = format!("{}, {}", known.label, found.label),
                None => series.push(found),
            }
        }
    }
    Chart {
        id: "psi".to_string(),
        title: "ψ(θ), in place of cos θ".to_string(),
        x_label: "θ in degrees",
        x_step: Some(45.0),
        spread: Spread::Tight,
        smooth: false,
        named: true,
        series,
    }
}

fn near(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6)
}
