//! The head in f64, as the formulas say it.

use super::{Bent, FARTHEST, Gradient, Hit, Link, Logits, MarginSoftmax, NORM_FLOOR, Scale};
use crate::op::Array;
use crate::shape::{Dim, Shape};
use half::bf16;

/// Rows of a matrix as norms and directions.
struct Vectors {
    norms: Vec<f64>,
    directions: Vec<Vec<f64>>,
    /// Directions as products take them.
    operands: Vec<Vec<f64>>,
}

impl Vectors {
    fn new(matrix: &Array, rounded: bool) -> Vectors {
        let [_, columns] = matrix.sizes();
        let norm_of = |v: &[f64]| v.iter().map(|a| a * a).sum::<f64>().sqrt().max(f64::from(NORM_FLOOR));
        let norms: Vec<f64> = matrix.values.chunks(columns).map(norm_of).collect();
        let rows = || matrix.values.chunks(columns).zip(&norms);
        let directions = rows().map(|(v, norm)| v.iter().map(|a| a / norm).collect()).collect();
        let narrow = |(v, &norm): (&[f64], &f64)| {
            let inverse = 1.0 / norm as f32;
            v.iter().map(|&a| bf16::from_f32(a as f32 * inverse).to_f64()).collect()
        };
        let operands = if rounded { rows().map(narrow).collect() } else { Vec::clone(&directions) };
        Vectors { norms, directions, operands }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `log(1 + eᵘ)`.
fn softplus(u: f64) -> f64 {
    u.max(0.0) + (-u.abs()).exp().ln_1p()
}

/// `1 / (1 + e⁻ᵘ)`.
fn sigmoid(u: f64) -> f64 {
    1.0 / (1.0 + (-u).exp())
}

/// One row of the head.
struct Row {
    label: usize,
    lambda: f64,
    cosines: Vec<f64>,
    /// Cosines as they are bent.
    bent: Vec<Bent>,
    /// Logits without margin.
    plain: Vec<f64>,
    logits: Vec<f64>,
}

impl Row {
    /// `kept` are the row's cosines, if it need not compute them.
    fn new(head: &MarginSoftmax, reads: &[&Array], [x, w]: [&Vectors; 2], row: usize, kept: Option<&[f64]>) -> Row {
        let product = |j: usize| dot(&x.operands[row], &w.operands[j]);
        let mut cosines: Vec<f64> = match kept {
            Some(kept) => kept[..head.classes].to_vec(),
            None => (0..head.classes).map(product).collect(),
        };
        let label = reads[2].values[row] as usize;
        cosines[label] = dot(&x.directions[row], &w.directions[label]).clamp(-1.0, 1.0);
        let lambda = head.modifier_of(&reads[4].values, reads[5].values[0] as usize, row);
        let mut bent: Vec<Bent> = cosines.iter().map(|c| head.margin.other(c.clamp(-1.0, 1.0))).collect();
        if !head.margin.bends_others() {
            bent = cosines.iter().map(|&c| Bent::straight(c)).collect();
        }
        bent[label] = head.margin.target(cosines[label], lambda);
        let scaled = |(j, h): (usize, f64)| {
            let (row, class) = head.factors(x.norms[row], w.norms[j]);
            row * class * h
        };
        let plain: Vec<f64> = cosines.iter().copied().enumerate().map(scaled).collect();
        let logits: Vec<f64> = bent.iter().map(|h| h.value).enumerate().map(scaled).collect();
        Row { label, lambda, cosines, bent, plain, logits }
    }

    fn wins(&self, values: &[f64]) -> bool {
        values.iter().enumerate().all(|(j, &value)| j == self.label || value < values[self.label])
    }

    /// The loss, and what the backward pass needs of it.
    fn loss(&self, link: Link, bias: f64) -> (f64, f64) {
        let target = self.logits[self.label];
        match link {
            Link::Softmax => {
                let largest = self.logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let log_sum_exp = largest + self.logits.iter().map(|z| (z - largest).exp()).sum::<f64>().ln();
                (log_sum_exp - target, log_sum_exp)
            }
            Link::Binary { positive, .. } => {
                let share = f64::from(positive);
                let others = || self.logits.iter().enumerate().filter(|&(j, _)| j != self.label).map(|(_, z)| z + bias);
                let loss = share * softplus(-target - bias) + (1.0 - share) * others().map(softplus).sum::<f64>();
                (loss, others().map(sigmoid).sum())
            }
        }
    }

    /// The derivative of the loss with respect to logit `j`.
    fn error(&self, link: Link, bias: f64, statistic: f64, j: usize) -> f64 {
        let is_target = j == self.label;
        match link {
            Link::Softmax => (self.logits[j] - statistic).exp() - f64::from(is_target),
            Link::Binary { positive, .. } if is_target => -f64::from(positive) * sigmoid(-self.logits[j] - bias),
            Link::Binary { positive, .. } => (1.0 - f64::from(positive)) * sigmoid(self.logits[j] + bias),
        }
    }
}

/// Mean of `θ⁻²` over all pairs of class weights.
fn energy(w: &Vectors) -> f64 {
    let mut sum = 0.0;
    for (i, a) in w.directions.iter().enumerate() {
        for b in &w.directions[..i] {
            sum += dot(a, b).clamp(-FARTHEST, FARTHEST).acos().powi(-2);
        }
    }
    let classes = w.directions.len() as f64;
    sum / (classes * (classes - 1.0) / 2.0)
}

/// Its gradient with respect to class weight `i`.
fn energy_gradient(w: &Vectors, i: usize) -> Vec<f64> {
    let (own, classes) = (&w.directions[i], w.directions.len() as f64);
    let mut gradient = vec![0.0; own.len()];
    for (j, other) in w.directions.iter().enumerate() {
        let c = dot(own, other);
        if j != i && c.abs() <= FARTHEST {
            let theta = c.acos();
            let slope = 2.0 / (classes * (classes - 1.0)) * 2.0 / (theta.powi(3) * theta.sin());
            for (gradient, (other, own)) in gradient.iter_mut().zip(other.iter().zip(own)) {
                *gradient += slope * (other - c * own) / w.norms[i];
            }
        }
    }
    gradient
}

/// See [`MarginSoftmaxForward`](super::MarginSoftmaxForward).
pub(super) fn forward(head: &MarginSoftmax, reads: &[&Array]) -> Vec<Array> {
    let [batch, _] = reads[0].sizes();
    let row_shape = Shape::vector(Dim::N, batch);
    let mut rows: [Array; 5] = std::array::from_fn(|_| Array::zeros(row_shape.clone()));
    let [x, w] = [0, 1].map(|read| Vectors::new(reads[read], head.rounded));
    let mut inverse_norm = Array::zeros(Shape::vector(Dim::Classes, head.classes));
    inverse_norm.values = w.norms.iter().map(|norm| 1.0 / norm).collect();
    let mut cosines = Array::zeros(head.cosines(batch).shape);
    let [_, pitch] = cosines.sizes();
    let bias = reads.get(6).map_or(0.0, |bias| bias.values[0]);
    let of_weights = if head.energy == 0.0 { 0.0 } else { f64::from(head.energy) * energy(&w) };
    for i in 0..batch {
        let row = Row::new(head, reads, [&x, &w], i, None);
        let kept = &mut cosines.values[i * pitch..][..head.classes];
        kept.copy_from_slice(&row.cosines);
        kept[row.label] = dot(&x.operands[i], &w.operands[row.label]);
        let [loss, statistic, target_cosine, norm, hits] = &mut rows;
        let of_logits;
        (of_logits, statistic.values[i]) = row.loss(head.link, bias);
        target_cosine.values[i] = row.cosines[row.label];
        norm.values[i] = x.norms[i];
        if (i as f64) < reads[3].values[0] {
            let of_norm = f64::from(head.penalty.weight) * (x.norms[i] - f64::from(head.penalty.norm)).abs();
            loss.values[i] = f64::from(head.loss_factor) * of_logits + of_norm + of_weights;
            hits.values[i] = [(&row.plain, Hit::Logits), (&row.cosines, Hit::Cosines), (&row.logits, Hit::Penalised)]
                .iter()
                .map(|&(values, hit)| f64::from(if row.wins(values) { hit as u32 } else { 0 }))
                .sum();
        }
    }
    let [loss, statistic, target_cosine, norm, hits] = rows;
    let mut written = vec![loss, statistic, target_cosine, norm, inverse_norm, hits];
    written.extend((head.logits == Logits::Kept).then_some(cosines));
    written
}

/// See [`MarginSoftmaxBackward`](super::MarginSoftmaxBackward).
pub(super) fn backward(head: &MarginSoftmax, reads: &[&Array]) -> Vec<Array> {
    let [_, columns] = reads[0].sizes();
    let (mut d_x, mut d_w) = (Array::zeros(reads[0].shape.clone()), Array::zeros(reads[1].shape.clone()));
    let mut d_bias = Array::zeros(Shape::vector(Dim::Length, 1));
    let count = reads[3].values[0];
    let bias = reads.last().filter(|_| head.has_bias()).map_or(0.0, |bias| bias.values[0]);
    let [x, w] = [0, 1].map(|read| Vectors::new(reads[read], head.rounded));
    // Derivatives of the two factors of the scale with respect to the two norms.
    let d_row = f64::from(!matches!(head.scale, Scale::Constant(_)));
    let d_class = f64::from(head.scale == Scale::InnerProduct);
    for i in 0..count as usize {
        let kept = reads.get(10).filter(|_| head.logits == Logits::Kept);
        let kept = kept.map(|cosines| &cosines.values[i * cosines.shape.last()..]);
        let row = Row::new(head, reads, [&x, &w], i, kept);
        let x_hat = &x.directions[i];
        let d_x = &mut d_x.values[i * columns..][..columns];
        for j in 0..head.classes {
            let g = f64::from(head.loss_factor) / count * row.error(head.link, bias, reads[6].values[i], j);
            d_bias.values[0] += g;
            let (c, h) = (row.cosines[j], row.bent[j]);
            let (kappa, omega) = head.factors(x.norms[i], w.norms[j]);
            let w_hat = &w.directions[j];
            let (x_operand, w_operand) = (&x.operands[i], &w.operands[j]);
            let d_w = &mut d_w.values[j * columns..][..columns];
            if head.gradient == Gradient::Caffe {
                let [pull, push] = if j == row.label { caffe(h, c, x.norms[i], row.lambda) } else { [0.0; 2] };
                for d in 0..columns {
                    d_x[d] += g * (w_operand[d] + pull * w_hat[d] + push * x_hat[d]);
                    d_w[d] += g * x.norms[i] * x_operand[d] / w.norms[j];
                }
                continue;
            }
            let slope = if head.gradient == Gradient::Detached { 1.0 } else { h.slope };
            // A normalised vector has no gradient along itself, however its product was rounded.
            let along_x = if d_row == 0.0 { dot(x_hat, w_operand) } else { c };
            let along_w = if d_class == 0.0 { dot(x_operand, w_hat) } else { c };
            for d in 0..columns {
                d_x[d] += omega
                    * g
                    * (kappa * slope * (w_operand[d] - along_x * x_hat[d]) / x.norms[i] + d_row * h.value * x_hat[d]);
                d_w[d] += kappa
                    * g
                    * (omega * slope * (x_operand[d] - along_w * w_hat[d]) / w.norms[j] + d_class * h.value * w_hat[d]);
            }
        }
        let beyond = x.norms[i] - f64::from(head.penalty.norm);
        let outwards = f64::from(head.penalty.weight) / count * if beyond == 0.0 { 0.0 } else { beyond.signum() };
        d_x.iter_mut().zip(x_hat).for_each(|(d_x, x_hat)| *d_x += outwards * x_hat);
    }
    if head.energy != 0.0 {
        for (j, d_w) in d_w.values.chunks_exact_mut(columns).enumerate() {
            let of_weight = energy_gradient(&w, j);
            d_w.iter_mut().zip(of_weight).for_each(|(d_w, g)| *d_w += f64::from(head.energy) * g);
        }
    }
    let mut written = vec![d_x, d_w];
    written.extend(head.has_bias().then_some(d_bias));
    written
}

/// What [`Gradient::Caffe`] takes for the derivative of the target's logit with respect to the embedding, in parts along
/// `ŵ`, beyond the 1 of a plain logit, and along `x̂`.
fn caffe(h: Bent, c: f64, norm: f64, lambda: f64) -> [f64; 2] {
    let psi = Bent { value: (1.0 + lambda) * h.value - lambda * c, slope: (1.0 + lambda) * h.slope - lambda };
    let (of_weight, of_embedding) = (psi.slope, (psi.value - c * psi.slope) / norm);
    let length = of_weight.hypot(of_embedding);
    [(of_weight / length + lambda) / (1.0 + lambda) - 1.0, of_embedding / length * norm / (1.0 + lambda)]
}
