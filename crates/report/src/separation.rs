//! How far apart classes stand: angles between pairs of embeddings, and what is measured by them.

use crate::geometry::unit;
use crate::model::Embeddings;

/// Histogram bins are this many degrees wide.
const BIN_DEGREES: usize = 2;
/// Bins from 0° to 180°.
pub(crate) const BINS: usize = 180 / BIN_DEGREES;
/// Embeddings whose pairs are measured at most: two million pairs, some hundredths of a second.
const MEASURED: usize = 2000;
/// Steps in which quantiles are counted, in degrees.
const FINE_DEGREES: f64 = 0.1;
const FINE_BINS: usize = 1801;

/// Angles between all pairs of test embeddings, in degrees.
#[derive(Debug, Clone)]
pub(crate) struct Separation {
    /// Fraction of the pairs of one class in each bin.
    pub(crate) within: Vec<f64>,
    /// Fraction of the pairs of two classes in each bin.
    pub(crate) between: Vec<f64>,
    /// Smallest angle between two classes minus largest within one; NaN without such pairs.
    pub(crate) margin: f64,
    /// The same without the widest 1% of pairs within classes and the narrowest 1% between them.
    pub(crate) margin_99: f64,
    /// The same without 5% of either.
    pub(crate) margin_95: f64,
    /// Angular Fisher score: scatter within classes over scatter between them; the smaller, the better.
    pub(crate) fisher: f64,
}

/// Angles of the pairs of one kind.
struct Pairs {
    counts: Vec<u64>,
    low: f64,
    high: f64,
}

impl Pairs {
    fn new() -> Self {
        Self { counts: vec![0; FINE_BINS], low: f64::INFINITY, high: f64::NEG_INFINITY }
    }

    fn add(&mut self, degrees: f64) {
        self.counts[(degrees / FINE_DEGREES) as usize] += 1;
        self.low = self.low.min(degrees);
        self.high = self.high.max(degrees);
    }

    /// The angle that `fraction` of the pairs do not exceed; NaN without pairs.
    fn quantile(&self, fraction: f64) -> f64 {
        let total: u64 = self.counts.iter().sum();
        let wanted = (fraction * total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bin = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        bin.map_or(f64::NAN, |bin| (bin as f64 + 0.5) * FINE_DEGREES)
    }

    fn fractions(&self) -> Vec<f64> {
        let total = self.counts.iter().sum::<u64>().max(1) as f64;
        let mut fractions = vec![0.0; BINS];
        for (i, &count) in self.counts.iter().enumerate() {
            fractions[((i as f64 * FINE_DEGREES) as usize / BIN_DEGREES).min(BINS - 1)] += count as f64 / total;
        }
        fractions
    }
}

/// Measures all pairs, of an even sample if there are many embeddings. Those of length zero have no direction and are
/// left out.
pub(crate) fn separation(embeddings: &Embeddings, dim: usize) -> Separation {
    let points: Vec<(u8, Vec<f64>)> = crate::figure::sample(embeddings.labels.len(), MEASURED)
        .map(|i| (embeddings.labels[i], unit(&embeddings.points[i * dim..(i + 1) * dim])))
        .filter(|(_, point)| point.iter().any(|&v| v != 0.0))
        .collect();
    let (mut within, mut between) = (Pairs::new(), Pairs::new());
    for (i, (label, point)) in points.iter().enumerate() {
        for (other_label, other) in &points[..i] {
            let degrees = dot(point, other).clamp(-1.0, 1.0).acos().to_degrees();
            if label == other_label { within.add(degrees) } else { between.add(degrees) }
        }
    }
    let margin = between.low - within.high;
    Separation {
        within: within.fractions(),
        between: between.fractions(),
        margin: if margin.is_finite() { margin } else { f64::NAN },
        margin_99: between.quantile(0.01) - within.quantile(0.99),
        margin_95: between.quantile(0.05) - within.quantile(0.95),
        fisher: fisher(&points, dim),
    }
}

/// Angular Fisher score of labelled directions: Σ (1 − cos⟨x, mᵢ⟩) over the images, by Σ nᵢ (1 − cos⟨mᵢ, m⟩) over the
/// classes, with the mean mᵢ of each class and the mean m of all. NaN with a single class.
///
/// # Source
/// Liu et al., CVPR 2017 (SphereFace), angular Fisher score.
fn fisher(points: &[(u8, Vec<f64>)], dim: usize) -> f64 {
    let mut sums = vec![(0.0, vec![0.0; dim]); 256];
    let mut all = vec![0.0; dim];
    for (label, point) in points {
        let (count, sum) = &mut sums[usize::from(*label)];
        *count += 1.0;
        sum.iter_mut().zip(&mut all).zip(point).for_each(|((sum, all), v)| {
            *sum += v;
            *all += v;
        });
    }
    let all = unit(&all);
    let means: Vec<(f64, Vec<f64>)> = sums.iter().map(|(count, sum)| (*count, unit(sum))).collect();
    let scatter: f64 = points.iter().map(|(label, point)| 1.0 - dot(point, &means[usize::from(*label)].1)).sum();
    let apart: f64 = means.iter().map(|(count, mean)| count * (1.0 - dot(mean, &all))).sum();
    if means.iter().filter(|(count, _)| *count > 0.0).count() < 2 { f64::NAN } else { scatter / apart }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(degrees: &[(u8, f64)]) -> Separation {
        let points = degrees.iter().flat_map(|(_, d)| [d.to_radians().cos() as f32, d.to_radians().sin() as f32]);
        let labels: Vec<u8> = degrees.iter().map(|&(label, _)| label).collect();
        let class_weights = vec![1.0; 4];
        separation(&Embeddings { predictions: labels.clone(), labels, points: points.collect(), class_weights }, 2)
    }

    #[test]
    fn margin_is_the_smallest_angle_between_minus_the_largest_within() {
        let found = at(&[(0, 0.0), (0, 10.0), (1, 70.0), (1, 90.0)]);
        assert!((found.margin - (60.0 - 20.0)).abs() < 1e-3, "{}", found.margin);
        assert_eq!(found.within[10 / BIN_DEGREES - 1] + found.within[10 / BIN_DEGREES], 0.5);
        assert!((found.between.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(at(&[(0, 0.0), (0, 10.0)]).margin.is_nan());
    }

    #[test]
    fn a_stray_image_hides_the_margin_from_the_extremes_only() {
        let mut points: Vec<(u8, f64)> =
            (0..1000).map(|i| ((i % 2) as u8, 90.0 * f64::from(i % 2) + f64::from(i % 7))).collect();
        let clean = at(&points);
        points.push((0, 90.0));
        let strayed = at(&points);
        assert!(clean.margin > 70.0 && strayed.margin < -80.0, "{} {}", clean.margin, strayed.margin);
        assert!((clean.margin_99 - strayed.margin_99).abs() < 1.0, "{}", strayed.margin_99);
        assert!(strayed.margin_95 >= strayed.margin_99, "{}", strayed.margin_95);
    }

    #[test]
    fn fisher_score_is_the_papers() {
        // Classes of two images each, 10° on either side of 0° and of 90°; the mean of all is at 45°.
        let expected = (1.0 - 10f64.to_radians().cos()) / (1.0 - 45f64.to_radians().cos());
        let found = at(&[(0, -10.0), (0, 10.0), (1, 80.0), (1, 100.0)]).fisher;
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        assert!(at(&[(3, 0.0), (3, 1.0)]).fisher.is_nan());
    }

    #[test]
    fn embeddings_of_length_zero_have_no_angles() {
        let zero = Embeddings {
            labels: vec![0, 1],
            predictions: vec![0, 1],
            points: vec![0.0; 4],
            class_weights: vec![0.0; 4],
        };
        let found = separation(&zero, 2);
        assert!(found.margin.is_nan() && found.fisher.is_nan());
    }
}
