//! The head where the other classes' cosines are bent, or their logits make no softmax: one cosine after another, since a
//! margin may be any function.

use super::Row;
use super::lanes::{LOWEST, PARTIALS};
use crate::op::{Bent, Gradient, Link, MarginSoftmax};

/// `log(1 + eᵘ)`.
pub(super) fn softplus(u: f64) -> f64 {
    u.max(0.0) + (-u.abs()).exp().ln_1p()
}

/// `1 / (1 + e⁻ᵘ)`.
pub(super) fn sigmoid(u: f64) -> f64 {
    1.0 / (1.0 + (-u).exp())
}

/// All classes but the targets, at a constant scale.
pub(super) struct Others<'a> {
    pub(super) spec: &'a MarginSoftmax,
    pub(super) rows: &'a [Row],
    pub(super) pitch: usize,
    pub(super) bias: f64,
}

impl Others<'_> {
    fn bent(&self, row: &Row, inverse_norm: f32, product: f32) -> Bent {
        let cosine = f64::from(product * inverse_norm) / row.norm;
        self.spec.margin.other(cosine.clamp(-1.0, 1.0))
    }

    /// What is known of the classes from `first` on, into `out`: the largest logit of a row; of a softmax the sum of
    /// exponentials relative to it; of yes and no the sum of losses and that of their slopes.
    pub(super) fn accumulate(&self, first: usize, inverse_norm: &[f32], products: &[f32], out: [&mut [f32]; PARTIALS]) {
        let [largest_out, sum_out, slope_out] = out;
        largest_out.fill(LOWEST);
        sum_out.fill(0.0);
        slope_out.fill(0.0);
        for (i, row) in self.rows.iter().enumerate() {
            let (mut largest, mut sum, mut slopes) = (f64::NEG_INFINITY, 0.0, 0.0);
            for (at, (products, &inverse)) in products.chunks_exact(self.pitch).zip(inverse_norm).enumerate() {
                if row.label as usize == first + at {
                    continue;
                }
                let logit = row.scale * self.bent(row, inverse, products[i]).value;
                let before = largest;
                largest = largest.max(logit);
                match self.spec.link {
                    Link::Softmax => sum = sum * (before - largest).exp() + (logit - largest).exp(),
                    Link::Binary { .. } => {
                        sum += softplus(logit + self.bias);
                        slopes += sigmoid(logit + self.bias);
                    }
                }
            }
            if largest.is_finite() {
                (largest_out[i], sum_out[i], slope_out[i]) = (largest as f32, sum as f32, slopes as f32);
            }
        }
    }

    /// Turns inner products into gradients of the mean loss with respect to them, apart from the class's factor, as if no
    /// class were a target.
    pub(super) fn slopes(&self, inverse_norm: &[f32], log_sum_exp: &[f32], products: &mut [f32]) {
        let share = f64::from(self.spec.loss_factor) / self.rows.len() as f64;
        for (products, &inverse) in products.chunks_exact_mut(self.pitch).zip(inverse_norm) {
            products[self.rows.len()..].fill(0.0);
            for ((product, row), &log_sum_exp) in products.iter_mut().zip(self.rows).zip(log_sum_exp) {
                let bent = self.bent(row, inverse, *product);
                let logit = row.scale * bent.value;
                let error = match self.spec.link {
                    Link::Softmax => (logit - f64::from(log_sum_exp)).exp(),
                    Link::Binary { positive, .. } => (1.0 - f64::from(positive)) * sigmoid(logit + self.bias),
                };
                let slope = if self.spec.gradient == Gradient::True { bent.slope } else { 1.0 };
                *product = (row.factor * share * error * slope) as f32;
            }
        }
    }

    /// The gradient of the mean loss with respect to the bias, from the sums of slopes that the forward pass left.
    pub(super) fn bias_error(&self, slopes: &[f32]) -> f64 {
        let Link::Binary { positive, .. } = self.spec.link else { return 0.0 };
        let sum: f64 = slopes[..self.rows.len()].iter().map(|&slopes| f64::from(slopes)).sum();
        f64::from(self.spec.loss_factor) * (1.0 - f64::from(positive)) * sum / self.rows.len().max(1) as f64
    }
}

/// Adds what is known of more classes, of yes and no.
pub(super) fn merge([largest, sum, slopes]: &mut [&mut [f32]; PARTIALS], more: [&mut [f32]; PARTIALS]) {
    for i in 0..largest.len() {
        largest[i] = largest[i].max(more[0][i]);
        sum[i] += more[1][i];
        slopes[i] += more[2][i];
    }
}
