//! Angles between embeddings and class weights.

use crate::model::Embeddings;

/// Histogram bins are this many degrees wide.
pub(crate) const BIN_DEGREES: usize = 3;
/// Bins from 0° to 180°.
pub(crate) const BINS: usize = 180 / BIN_DEGREES;

/// Angles of all test embeddings, in degrees.
#[derive(Debug, Clone)]
pub(crate) struct Angles {
    /// Mean angle to the weight of the own class.
    pub(crate) own_mean: f64,
    /// Mean angle to the nearest weight of another class; NaN with a single class.
    pub(crate) other_mean: f64,
    /// Fraction of images in each bin of the angle to the own class.
    pub(crate) own: Vec<f64>,
    /// Fraction of images in each bin of the angle to the nearest other class.
    pub(crate) other: Vec<f64>,
}

/// Measures all embeddings against all class weights; an embedding or weight of length zero stands at 90° to all.
pub(crate) fn angles(embeddings: &Embeddings, dim: usize) -> Angles {
    let weights: Vec<Vec<f64>> = embeddings.class_weights.chunks(dim).map(unit).collect();
    let (mut own, mut other) = (vec![0.0; BINS], vec![0.0; BINS]);
    let (mut own_sum, mut other_sum) = (0.0, 0.0);
    let count = embeddings.labels.len() as f64;
    for (point, &label) in embeddings.points.chunks(dim).zip(&embeddings.labels) {
        let direction = unit(point);
        let mut nearest = f64::NAN;
        for (class, weight) in weights.iter().enumerate() {
            let degrees = angle(&direction, weight);
            if class == usize::from(label) {
                own_sum += degrees;
                own[bin(degrees)] += 1.0 / count;
            } else {
                nearest = nearest.min(degrees);
            }
        }
        other_sum += nearest;
        if nearest.is_finite() {
            other[bin(nearest)] += 1.0 / count;
        }
    }
    Angles { own_mean: own_sum / count, other_mean: other_sum / count, own, other }
}

/// The vector at length one; zeros stay zeros.
pub(crate) fn unit(vector: &[f32]) -> Vec<f64> {
    let length = norm(vector);
    let factor = if length > 0.0 { 1.0 / length } else { 0.0 };
    vector.iter().map(|&v| f64::from(v) * factor).collect()
}

/// Euclidean length.
pub(crate) fn norm(vector: &[f32]) -> f64 {
    vector.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt()
}

/// Angle between two unit vectors, in degrees; stable near 0° and 180°, where acos is not.
fn angle(a: &[f64], b: &[f64]) -> f64 {
    let length = |sign: f64| a.iter().zip(b).map(|(x, y)| (x + sign * y).powi(2)).sum::<f64>().sqrt();
    2.0 * length(-1.0).atan2(length(1.0)).to_degrees()
}

fn bin(degrees: f64) -> usize {
    ((degrees / BIN_DEGREES as f64) as usize).min(BINS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_to_own_and_nearest_other_class() {
        let embeddings = Embeddings {
            labels: vec![0, 1, 0],
            predictions: vec![0, 1, 0],
            points: vec![2.0, 0.0, 0.0, 0.5, 1.0, 1.0], // [3, 2]: 0°, 90°, 45°
            class_weights: vec![3.0, 0.0, 0.0, 1.0, -1.0, 0.0], // [3, 2]: 0°, 90°, 180°
        };
        let found = angles(&embeddings, 2);
        assert!((found.own_mean - 15.0).abs() < 1e-9, "{}", found.own_mean);
        assert!((found.other_mean - 75.0).abs() < 1e-9, "{}", found.other_mean);
        assert!((found.own.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((found.other[30] - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn a_zero_embedding_stands_at_ninety_degrees() {
        assert!((angle(&[0.0, 0.0], &[1.0, 0.0]) - 90.0).abs() < 1e-12);
    }
}
