//! The fused head: logits exist one tile of classes at a time.

use super::product::{Into, Matrix, product};
use super::{Kernel, Operands};
use crate::cosine::Cosine;
use crate::op::margin_softmax::NORM_FLOOR;
use crate::op::{Hit, Logits, MarginSoftmax, Scale, TargetLogit};
use half::bf16;
use pulp::Arch;
use rayon::prelude::*;

/// Classes of a tile.
const TILE: usize = 1024;
/// Rows that one task handles.
const ROWS: usize = 32;

/// The most negative finite float: where a maximum starts, so that differences stay finite.
const LOWEST: f32 = f32::MIN;

/// What the head knows of one row besides its loss.
#[derive(Clone, Copy)]
struct Row {
    /// Inner product becomes logit: `κ / ‖x‖` (times `1 / ‖w‖` where weights are normalised).
    factor: f32,
    target: Target,
}

/// The target's entry of a row, in f64 from the f32 operands.
#[derive(Clone, Copy)]
struct Target {
    label: usize,
    cosine: f64,
    bent: TargetLogit,
    /// What multiplies cosines, for this row and the target's class.
    scale: f64,
}

/// Sizes and operands that both passes share.
struct Head<'a> {
    spec: &'a MarginSoftmax,
    embedding: &'a [f32],
    weight: &'a [f32],
    /// The embeddings as products take them.
    rows: &'a [f32],
    labels: &'a [u32],
    lambda: f64,
    dimension: usize,
}

fn norm(vector: &[f32]) -> f64 {
    vector.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt().max(f64::from(NORM_FLOOR))
}

/// Vectors with their directions rounded to bf16: each its norm times that.
fn round_directions(vectors: &[f32], dimension: usize, out: &mut [f32]) {
    let rows = out.par_chunks_mut(dimension).with_min_len(ROWS);
    rows.zip(vectors.par_chunks(dimension)).for_each(|(out, vector)| {
        let norm = norm(vector) as f32;
        let inverse = 1.0 / norm;
        out.iter_mut().zip(vector).for_each(|(out, v)| *out = norm * bf16::from_f32(v * inverse).to_f32());
    });
}

/// Floats of scratch memory for what is rounded: all embeddings, and the weights of a tile.
fn rounded_lengths(spec: &MarginSoftmax, batch: usize, dimension: usize) -> [usize; 2] {
    if spec.rounded { [batch * dimension, TILE.min(spec.classes) * dimension] } else { [0; 2] }
}

impl<'a> Head<'a> {
    /// `scratch` is of the first of [`rounded_lengths`].
    fn new(spec: &'a MarginSoftmax, reads: &[&'a [f32]], dimension: usize, scratch: &'a mut [f32]) -> Self {
        let lambdas = reads[4];
        let rows = if spec.rounded {
            round_directions(reads[0], dimension, scratch);
            scratch
        } else {
            reads[0]
        };
        let step = bytemuck::cast_slice::<f32, u32>(reads[5])[0] as usize;
        Head {
            spec,
            embedding: reads[0],
            weight: reads[1],
            rows,
            labels: bytemuck::cast_slice(reads[2]),
            lambda: f64::from(lambdas[step.min(lambdas.len() - 1)]),
            dimension,
        }
    }

    fn row(&self, index: usize) -> Row {
        let x = &self.embedding[index * self.dimension..][..self.dimension];
        let label = self.labels[index] as usize;
        let w = &self.weight[label * self.dimension..][..self.dimension];
        let (x_norm, w_norm) = (norm(x), norm(w));
        let dot: f64 = x.iter().zip(w).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        let cosine = (dot / (x_norm * w_norm)).clamp(-1.0, 1.0);
        let (factor, scale) = match self.spec.scale {
            Scale::InnerProduct => (1.0, x_norm * w_norm),
            Scale::FeatureNorm => (1.0, x_norm),
            Scale::Constant(scale) => (f64::from(scale) / x_norm, f64::from(scale)),
        };
        let bent = self.spec.margin.target(cosine, self.lambda);
        Row { factor: factor as f32, target: Target { label, cosine, bent, scale } }
    }

    /// What each class's inner product is multiplied with.
    fn class_factor<'b>(&self, inverse_norm: &'b [f32]) -> Option<&'b [f32]> {
        (self.spec.scale != Scale::InnerProduct).then_some(inverse_norm)
    }

    /// The weights of a tile as products take them; `scratch` is of the second of [`rounded_lengths`].
    fn weights<'b>(&self, tile: &Tile, scratch: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        let weights = &self.weight[tile.first * self.dimension..][..tile.length * self.dimension];
        if !self.spec.rounded {
            return weights;
        }
        let scratch = &mut scratch[..weights.len()];
        round_directions(weights, self.dimension, scratch);
        scratch
    }

    /// Logits without margin of some rows for the classes of a tile, apart from the row's factor: `[rows, classes]` in
    /// `out`.
    fn logits(&self, first_row: usize, tile: &Tile, weights: &[f32], inverse_norm: &[f32], out: &mut [f32]) {
        let rows = out.len() / tile.length;
        let x = Matrix::new(&self.rows[first_row * self.dimension..], rows, self.dimension);
        let w = Matrix::new(weights, tile.length, self.dimension);
        product(out, tile.length, Into::Overwrite, x, w.transposed());
        if let Some(factors) = self.class_factor(inverse_norm) {
            let factors = &factors[tile.first..][..tile.length];
            Arch::new().dispatch(|| {
                for row in out.chunks_exact_mut(tile.length) {
                    row.iter_mut().zip(factors).for_each(|(z, factor)| *z *= factor);
                }
            });
        }
    }

    /// What makes cosines of a row's [`logits`](Self::logits) for the classes of a tile: the norms they are multiples of.
    fn norms<'b>(&self, tile: &Tile, norm: f32, inverse_norm: &'b [f32]) -> impl Iterator<Item = f32> + 'b {
        let is_product = self.spec.scale == Scale::InnerProduct;
        inverse_norm[tile.first..][..tile.length]
            .iter()
            .map(move |inverse| if is_product { norm / inverse } else { norm })
    }
}

/// Classes `first .. first + length`.
struct Tile {
    first: usize,
    length: usize,
}

fn tiles(classes: usize) -> impl Iterator<Item = Tile> {
    (0..classes).step_by(TILE).map(move |first| Tile { first, length: TILE.min(classes - first) })
}

/// Largest values and sum of exponentials of a row over the tiles so far.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C)]
struct Online {
    largest: f32,
    sum: f32,
    /// Largest logit of the other classes.
    rival: f32,
    /// Largest cosine of the other classes, times the row's norm.
    rival_cosine: f32,
}

pub(super) fn forward(spec: MarginSoftmax, operands: &Operands<'_>) -> Kernel {
    let mut sizes = operands.reads[0].shape.sizes();
    let (batch, dimension) = (sizes.next().unwrap_or(0), sizes.next().unwrap_or(0));
    let classes = spec.classes;
    let tile_length = TILE.min(classes);
    let [rows_length, weights_length] = rounded_lengths(&spec, batch, dimension);
    let workspace = batch * (tile_length + size_of::<Online>() / 4) + rows_length + weights_length;
    Kernel::new(workspace, move |mut io| {
        let (scratch, workspace) = io.workspace.split_at_mut(rows_length);
        let (rounded_weights, workspace) = workspace.split_at_mut(weights_length);
        let head = Head::new(&spec, &io.reads, dimension, scratch);
        let count = bytemuck::cast_slice::<f32, u32>(io.reads[3])[0] as usize;
        let [loss, log_sum_exp, target_cosine, norms, inverse_norm, hits, kept @ ..] = &mut io.writes[..] else {
            return;
        };
        let mut kept: Option<&mut [Cosine]> = kept.first_mut().map(|kept| bytemuck::cast_slice_mut(kept));
        let pitch = classes.next_multiple_of(8);
        if let Some(kept) = &mut kept {
            kept.fill(Cosine::default());
        }
        inverse_norm.par_iter_mut().with_min_len(256).zip(head.weight.par_chunks(dimension)).for_each(
            |(inverse, w)| {
                *inverse = (1.0 / norm(w)) as f32;
            },
        );
        let inverse_norm = &**inverse_norm;
        let (online, logits) = workspace.split_at_mut(batch * size_of::<Online>() / 4);
        let online: &mut [Online] = bytemuck::cast_slice_mut(online);
        online.fill(Online { largest: LOWEST, sum: 0.0, rival: LOWEST, rival_cosine: LOWEST });
        for tile in tiles(classes) {
            let weights = head.weights(&tile, rounded_weights);
            let logits = &mut logits[..batch * tile.length];
            let chunks = logits.par_chunks_mut(ROWS * tile.length);
            chunks.enumerate().for_each(|(chunk, logits)| {
                head.logits(chunk * ROWS, &tile, weights, inverse_norm, logits);
            });
            if let Some(kept) = &mut kept {
                let rows = kept.par_chunks_mut(pitch).zip(logits.par_chunks(tile.length));
                rows.enumerate().for_each(|(row, (kept, logits))| {
                    let norm = norm(&head.embedding[row * dimension..][..dimension]) as f32;
                    let norms = head.norms(&tile, norm, inverse_norm);
                    let kept = kept[tile.first..].iter_mut().zip(logits);
                    kept.zip(norms).for_each(|((kept, z), norm)| *kept = Cosine::new(z / norm));
                });
            }
            let chunks = logits.par_chunks_mut(ROWS * tile.length);
            chunks.zip(online.par_chunks_mut(ROWS)).enumerate().for_each(|(chunk, (logits, online))| {
                for (i, (z, online)) in logits.chunks_exact_mut(tile.length).zip(online).enumerate() {
                    accumulate(&head.row(chunk * ROWS + i), &tile, &head, inverse_norm, z, online);
                }
            });
        }
        let hits: &mut [u32] = bytemuck::cast_slice_mut(hits);
        for i in 0..batch {
            let (target, online) = (head.row(i).target, online[i]);
            let x_norm = norm(&head.embedding[i * dimension..][..dimension]);
            log_sum_exp[i] = online.largest + online.sum.ln();
            target_cosine[i] = target.cosine as f32;
            norms[i] = x_norm as f32;
            loss[i] = if i < count { log_sum_exp[i] - (target.scale * target.bent.value) as f32 } else { 0.0 };
            let plain = (target.scale * target.cosine) as f32;
            let wins = [
                (plain > online.rival, Hit::Logits),
                ((x_norm * target.cosine) as f32 > online.rival_cosine, Hit::Cosines),
                ((target.scale * target.bent.value) as f32 > online.rival, Hit::Penalised),
            ];
            let bits: u32 = wins.iter().map(|&(win, hit)| if win { hit as u32 } else { 0 }).sum();
            hits[i] = if i < count { bits } else { 0 };
        }
    })
}

/// Takes the logits of one row and tile into its running maxima and sum.
fn accumulate(row: &Row, tile: &Tile, head: &Head<'_>, inverse_norm: &[f32], z: &mut [f32], online: &mut Online) {
    let target = row.target.label.checked_sub(tile.first).filter(|&at| at < tile.length);
    z.iter_mut().for_each(|z| *z *= row.factor);
    for (j, &z) in z.iter().enumerate().filter(|&(j, _)| Some(j) != target) {
        online.rival = online.rival.max(z);
        // z = κ ω cos θ; comparing ‖x‖ cos θ compares cosines.
        let cosine = match head.spec.scale {
            Scale::InnerProduct => z * inverse_norm[tile.first + j],
            Scale::FeatureNorm => z,
            Scale::Constant(_) => z / row.factor,
        };
        online.rival_cosine = online.rival_cosine.max(cosine);
    }
    if let Some(at) = target {
        z[at] = (row.target.scale * row.target.bent.value) as f32;
    }
    let largest = z.iter().copied().fold(online.largest, f32::max);
    let sum: f32 = z.iter().map(|z| (z - largest).exp()).sum();
    online.sum = online.sum * (online.largest - largest).exp() + sum;
    online.largest = largest;
}

pub(super) fn backward(spec: MarginSoftmax, operands: &Operands<'_>) -> Kernel {
    let mut sizes = operands.reads[0].shape.sizes();
    let (batch, dimension) = (sizes.next().unwrap_or(0), sizes.next().unwrap_or(0));
    let classes = spec.classes;
    let [rows_length, weights_length] = rounded_lengths(&spec, batch, dimension);
    let workspace = batch * (TILE.min(classes) + 1) + rows_length + weights_length;
    Kernel::new(workspace, move |mut io| {
        let (scratch, workspace) = io.workspace.split_at_mut(rows_length);
        let (rounded_weights, workspace) = workspace.split_at_mut(weights_length);
        let head = Head::new(&spec, &io.reads, dimension, scratch);
        let pitch = classes.next_multiple_of(8);
        let kept: Option<&[Cosine]> = (spec.logits == Logits::Kept).then(|| bytemuck::cast_slice(io.reads[10]));
        let count = bytemuck::cast_slice::<f32, u32>(io.reads[3])[0] as usize;
        let (log_sum_exp, norms, inverse_norm) = (io.reads[6], io.reads[8], io.reads[9]);
        let [d_embedding, d_weight] = &mut io.writes[..] else { return };
        let (radial, gradients) = workspace.split_at_mut(batch);
        d_embedding.fill(0.0);
        radial.fill(0.0);
        for tile in tiles(classes) {
            // The gradient with respect to each inner product, [N, classes of the tile].
            let weights = head.weights(&tile, rounded_weights);
            let gradients = &mut gradients[..batch * tile.length];
            let chunks = gradients.par_chunks_mut(ROWS * tile.length).zip(radial.par_chunks_mut(ROWS));
            chunks.enumerate().for_each(|(chunk, (gradients, radial))| {
                match kept {
                    Some(kept) => {
                        for (i, logits) in gradients.chunks_exact_mut(tile.length).enumerate() {
                            let row = chunk * ROWS + i;
                            let cosines = logits.iter_mut().zip(&kept[row * pitch + tile.first..]);
                            let norms = head.norms(&tile, norms[row], inverse_norm);
                            cosines.zip(norms).for_each(|((z, cosine), norm)| *z = cosine.value() * norm);
                        }
                    }
                    None => head.logits(chunk * ROWS, &tile, weights, inverse_norm, gradients),
                }
                for (i, z) in gradients.chunks_exact_mut(tile.length).enumerate() {
                    let row = chunk * ROWS + i;
                    if row < count {
                        radial[i] += head.slopes(row, &tile, log_sum_exp[row], norms[row], 1.0 / count as f64, z);
                    } else {
                        z.fill(0.0);
                    }
                }
            });
            let d_tile = &mut d_weight[tile.first * dimension..][..tile.length * dimension];
            head.weight_gradient(&tile, gradients, inverse_norm, d_tile);
            head.embedding_gradient(&tile, weights, gradients, inverse_norm, d_embedding);
        }
        if matches!(spec.scale, Scale::Constant(_)) {
            head.remove_radial(norms, d_embedding);
        } else {
            head.add_radial(&radial[..count], norms, inverse_norm, d_embedding, d_weight);
        }
    })
}

impl Head<'_> {
    /// Turns the [`logits`](Self::logits) of one row and tile into the gradient of the loss with respect to them; returns
    /// what the bending of the target's logit, if it is in the tile, adds to the gradient along the embedding's direction
    /// where that is not normalised.
    fn slopes(&self, index: usize, tile: &Tile, log_sum_exp: f32, norm: f32, per_row: f64, z: &mut [f32]) -> f32 {
        let Row { factor, target } = self.row(index);
        let weight = factor * per_row as f32;
        z.iter_mut().for_each(|z| *z = weight * (factor * *z - log_sum_exp).exp());
        let Some(at) = target.label.checked_sub(tile.first).filter(|&at| at < tile.length) else { return 0.0 };
        let TargetLogit { value, slope } = target.bent;
        let g = (target.scale * value - f64::from(log_sum_exp)).exp_m1() * per_row;
        z[at] = (f64::from(factor) * g * slope) as f32;
        (target.scale / f64::from(norm) * g * (value - slope * target.cosine)) as f32
    }

    /// Gradient of the class weights of a tile: `gᵀ x`, without the part along the weight where that is normalised.
    fn weight_gradient(&self, tile: &Tile, gradients: &[f32], inverse_norm: &[f32], d_tile: &mut [f32]) {
        let batch = gradients.len() / tile.length;
        let x = Matrix::new(self.rows, batch, self.dimension);
        d_tile.par_chunks_mut(ROWS * self.dimension).enumerate().for_each(|(chunk, d_w)| {
            let classes = d_w.len() / self.dimension;
            let g = Matrix::strided(&gradients[chunk * ROWS..], batch, classes, tile.length);
            product(d_w, self.dimension, Into::Overwrite, g.transposed(), x);
            let Some(factors) = self.class_factor(inverse_norm) else { return };
            for (class, d_w) in (tile.first + chunk * ROWS..).zip(d_w.chunks_exact_mut(self.dimension)) {
                let w = &self.weight[class * self.dimension..][..self.dimension];
                let factor = factors[class];
                let along = factor * factor * w.iter().zip(&*d_w).map(|(w, d)| w * d).sum::<f32>();
                d_w.iter_mut().zip(w).for_each(|(d, w)| *d = factor * (*d - along * w));
            }
        });
    }

    /// Adds a tile's part of the embeddings' gradient, `g ŵ`; multiplies `gradients` with the weights' factors.
    fn embedding_gradient(
        &self,
        tile: &Tile,
        weights: &[f32],
        gradients: &mut [f32],
        inverse_norm: &[f32],
        d_x: &mut [f32],
    ) {
        let chunks = d_x.par_chunks_mut(ROWS * self.dimension).zip(gradients.par_chunks_mut(ROWS * tile.length));
        chunks.for_each(|(d_x, g)| {
            if let Some(factors) = self.class_factor(inverse_norm) {
                let factors = &factors[tile.first..][..tile.length];
                for row in g.chunks_exact_mut(tile.length) {
                    row.iter_mut().zip(factors).for_each(|(g, factor)| *g *= factor);
                }
            }
            let rows = d_x.len() / self.dimension;
            let w = Matrix::new(weights, tile.length, self.dimension);
            product(d_x, self.dimension, Into::Add, Matrix::new(g, rows, tile.length), w);
        });
    }

    /// Takes the gradients along the embeddings' own directions away: with a constant scale the loss does not change there.
    fn remove_radial(&self, norms: &[f32], d_x: &mut [f32]) {
        let rows = d_x.par_chunks_mut(self.dimension).zip(self.embedding.par_chunks(self.dimension)).zip(norms);
        rows.for_each(|((d_x, x), norm)| {
            let along = d_x.iter().zip(x).map(|(d, x)| d * x).sum::<f32>() / norm / norm;
            d_x.iter_mut().zip(x).for_each(|(d, x)| *d -= along * x);
        });
    }

    /// Adds the gradients along the embeddings' own directions, and for the original softmax along the target weights'.
    fn add_radial(&self, radial: &[f32], norms: &[f32], inverse_norm: &[f32], d_x: &mut [f32], d_w: &mut [f32]) {
        let of = |index: usize| index * self.dimension..(index + 1) * self.dimension;
        for (i, &along) in radial.iter().enumerate().filter(|&(_, &along)| along != 0.0) {
            let factor = along / norms[i];
            d_x[of(i)].iter_mut().zip(&self.embedding[of(i)]).for_each(|(d, x)| *d += factor * x);
            if self.spec.scale == Scale::InnerProduct {
                let label = self.labels[i] as usize;
                let factor = along * norms[i] * inverse_norm[label] * inverse_norm[label];
                d_w[of(label)].iter_mut().zip(&self.weight[of(label)]).for_each(|(d, w)| *d += factor * w);
            }
        }
    }
}
