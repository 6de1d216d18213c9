//! The energy of class weights on the sphere: every pair of them, in f64.

use crate::cpu::dot::dot;
use crate::op::margin_softmax::FARTHEST;
use rayon::prelude::*;

/// Words of a workspace of f32 that hold an f64.
pub(super) const WORDS: usize = 2;

/// Class weights `[classes, D]` with what their norms are divided by.
pub(super) struct Charges<'a> {
    pub(super) weight: &'a [f32],
    /// `1 / ‖w‖`.
    pub(super) inverse_norm: &'a [f32],
}

impl Charges<'_> {
    fn dimension(&self) -> usize {
        self.weight.len() / self.inverse_norm.len()
    }

    fn rows(&self) -> impl Iterator<Item = (&[f32], f64)> {
        self.weight.chunks_exact(self.dimension()).map(|w| (w, dot(w, w).sqrt().recip()))
    }

    /// Mean of `θ⁻²` over all pairs. `sums` has [`WORDS`] for each class.
    pub(super) fn energy(&self, sums: &mut [f32]) -> f64 {
        let classes = self.inverse_norm.len();
        let of_one = |(i, w): (usize, &[f32])| -> f64 {
            let inverse = dot(w, w).sqrt().recip();
            let cosines = self.rows().take(i).map(|(other, of_other)| dot(w, other) * inverse * of_other);
            cosines.map(|c| c.clamp(-FARTHEST, FARTHEST).acos().powi(-2)).sum()
        };
        // Kept, so that the sum has one order for any number of threads.
        let weights = self.weight.par_chunks_exact(self.dimension()).enumerate();
        weights.zip(sums.par_chunks_exact_mut(WORDS)).for_each(|(class, sum)| {
            sum.copy_from_slice(bytemuck::cast_slice(&[of_one(class)]));
        });
        let sums = sums.chunks_exact(WORDS).map(|sum| bytemuck::pod_read_unaligned::<f64>(bytemuck::cast_slice(sum)));
        sums.sum::<f64>() / (classes as f64 * (classes as f64 - 1.0) / 2.0)
    }

    /// Adds `factor` times its gradient.
    pub(super) fn add_gradient(&self, factor: f64, d_weight: &mut [f32]) {
        let classes = self.inverse_norm.len() as f64;
        let share = factor * 4.0 / (classes * (classes - 1.0));
        let rows = d_weight.par_chunks_exact_mut(self.dimension()).zip(self.weight.par_chunks_exact(self.dimension()));
        rows.enumerate().for_each(|(i, (d_w, w))| {
            let inverse = dot(w, w).sqrt().recip();
            for (j, (other, of_other)) in self.rows().enumerate() {
                let c = dot(w, other) * inverse * of_other;
                if j != i && c.abs() <= FARTHEST {
                    let theta = c.acos();
                    let slope = share / (theta.powi(3) * theta.sin()) * inverse;
                    for (d_w, (w, other)) in d_w.iter_mut().zip(w.iter().zip(other)) {
                        *d_w += (slope * (f64::from(*other) * of_other - c * f64::from(*w) * inverse)) as f32;
                    }
                }
            }
        });
    }
}
