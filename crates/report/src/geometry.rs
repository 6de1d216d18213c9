//! Angles between embeddings and class weights, and lengths of class weights.

use crate::model::Embeddings;

/// Angles of all test embeddings to class weights, in degrees.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Angles {
    /// Mean angle to the weight of the own class.
    pub(crate) own_mean: f64,
    /// Mean angle to the nearest weight of another class; NaN with a single class.
    pub(crate) other_mean: f64,
}

/// Measures all embeddings against all class weights; an embedding or weight of length zero stands at 90° to all.
pub(crate) fn angles(embeddings: &Embeddings, dim: usize) -> Angles {
    let weights: Vec<Vec<f64>> = embeddings.class_weights.chunks(dim).map(unit).collect();
    let (mut own_sum, mut other_sum) = (0.0, 0.0);
    let count = embeddings.labels.len() as f64;
    for (point, &label) in embeddings.points.chunks(dim).zip(&embeddings.labels) {
        let direction = unit(point);
        let mut nearest = f64::NAN;
        for (class, weight) in weights.iter().enumerate() {
            let degrees = angle(&direction, weight);
            if class == usize::from(label) { own_sum += degrees } else { nearest = nearest.min(degrees) }
        }
        other_sum += nearest;
    }
    Angles { own_mean: own_sum / count, other_mean: other_sum / count }
}

/// Class weights as rays to draw, the longest of length one: as long as they were trained where the loss scores by
/// their norms, all of length one elsewhere. Shape `[C][D]`.
pub(crate) fn rays(class_weights: &[f32], dim: usize, by_norms: bool) -> Vec<Vec<f64>> {
    let weights = class_weights.chunks(dim);
    let longest = weights.clone().map(norm).fold(0.0, f64::max);
    let length = |weight| if by_norms && longest > 0.0 { norm(weight) / longest } else { 1.0 };
    weights.map(|weight| unit(weight).iter().map(|v| v * length(weight)).collect()).collect()
}

/// The vector at length one; zeros stay zeros.
pub(crate) fn unit<T: Copy + Into<f64>>(vector: &[T]) -> Vec<f64> {
    let length = norm(vector);
    let factor = if length > 0.0 { 1.0 / length } else { 0.0 };
    vector.iter().map(|&v| v.into() * factor).collect()
}

/// Euclidean length.
pub(crate) fn norm<T: Copy + Into<f64>>(vector: &[T]) -> f64 {
    vector.iter().map(|&v| v.into().powi(2)).sum::<f64>().sqrt()
}

/// Angle between two unit vectors, in degrees; stable near 0° and 180°, where acos is not.
fn angle(a: &[f64], b: &[f64]) -> f64 {
    let length = |sign: f64| a.iter().zip(b).map(|(x, y)| (x + sign * y).powi(2)).sum::<f64>().sqrt();
    2.0 * length(-1.0).atan2(length(1.0)).to_degrees()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn angles_to_own_and_nearest_other_class() {
        let embeddings = Embeddings {
            labels: vec![0, 1, 0],
            predictions: vec![0, 1, 0],
            points: vec![2.0, 0.0, 0.0, 0.5, 1.0, 1.0], // [3, 2]: 0°, 90°, 45°
            class_weights: vec![3.0, 0.0, 0.0, 1.0, -1.0, 0.0], // [3, 2]: 0°, 90°, 180°
        };
        let found = angles(&embeddings, 2);
        near(found.own_mean, 15.0); // (0° + 0° + 45°) / 3
        near(found.other_mean, 75.0); // (90° + 90° + 45°) / 3
    }

    #[test]
    fn a_zero_embedding_stands_at_ninety_degrees() {
        near(angle(&[0.0, 0.0], &[1.0, 0.0]), 90.0);
    }
}
