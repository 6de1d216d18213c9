//! The fused head: logits exist one tile of classes at a time.
//!
//! A tile lies as `[classes, N]`: class weights are read in place and once for the whole batch, and a vector holds one class
//! of sixteen rows of the batch, so that nothing has to be summed across its lanes. `pitch` is N, rounded up to whole
//! vectors.

mod energy;
mod lanes;
mod scalar;

use super::dot::dot;
use super::product::{Into, Matrix, product};
use super::{Kernel, LINE, Operands};
use crate::cosine::Cosine;
use crate::op::margin_softmax::NORM_FLOOR;
use crate::op::{Bent, Gradient, Hit, Link, Logits, MarginSoftmax, Scale};
use bytemuck::{Pod, Zeroable};
use energy::Charges;
use half::bf16;
use lanes::{Accumulate, LANES, LOWEST, PARTIALS, Slopes, merge};
use pulp::Arch;
use rayon::prelude::*;
use scalar::{Others, sigmoid, softplus};

/// Classes of a tile.
const TILE: usize = 1024;
/// Classes, or elements of an embedding, that one task handles.
const ROWS: usize = 64;

/// What the head knows of one row of the batch, in f64 from the f32 operands.
#[derive(Clone, Copy, Zeroable, Pod)]
#[repr(C)]
struct Row {
    /// `‖x‖`.
    norm: f64,
    label: u64,
    /// Of the target, as is all up to `pull`.
    cosine: f64,
    /// Its logit before the scale.
    value: f64,
    /// The derivative of `value` that is followed.
    slope: f64,
    /// What `value` adds to the derivative along the embedding, beyond what `slope` gives.
    bent: f64,
    /// What is added of the class's direction to the derivative with respect to the embedding.
    pull: f64,
    /// What multiplies cosines, for this row and the target's class.
    scale: f64,
    /// Inner product becomes logit: `κ / ‖x‖` (times `1 / ‖w‖` where weights are normalised).
    factor: f64,
}

/// Sizes of a head, and of its scratch memory in floats; all of those are multiples of [`LINE`].
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    dimension: usize,
    pitch: usize,
    /// What [`Head::new`] takes: of each row what is known, and the embeddings rounded and transposed.
    head: [usize; 3],
    /// The logits of a tile.
    tile: usize,
    /// The weights of a tile, where they are rounded.
    weights: usize,
}

impl Sizes {
    fn new(spec: &MarginSoftmax, operands: &Operands<'_>) -> Self {
        let mut sizes = operands.reads[0].shape.sizes();
        let (batch, dimension) = (sizes.next().unwrap_or(0), sizes.next().unwrap_or(0));
        let pitch = batch.next_multiple_of(LANES);
        let tile = TILE.min(spec.classes);
        let rounded = |rows: usize| if spec.rounded { (rows * dimension).next_multiple_of(LINE) } else { 0 };
        let rows = (batch * size_of::<Row>() / 4).next_multiple_of(LINE);
        let head = [rows, rounded(batch), dimension * pitch];
        Sizes { batch, dimension, pitch, head, tile: tile * pitch, weights: rounded(tile) }
    }
}

/// Takes places of these lengths from the front of a block.
fn take<'a, const COUNT: usize>(block: &mut &'a mut [f32], lengths: [usize; COUNT]) -> [&'a mut [f32]; COUNT] {
    lengths.map(|length| {
        let (place, rest) = std::mem::take(block).split_at_mut(length);
        *block = rest;
        place
    })
}

fn norm(vector: &[f32]) -> f64 {
    dot(vector, vector).sqrt().max(f64::from(NORM_FLOOR))
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

/// Operands, and what both passes make of them first.
struct Head<'a> {
    spec: &'a MarginSoftmax,
    sizes: Sizes,
    weight: &'a [f32],
    embedding: &'a [f32],
    rows: &'a [Row],
    /// The embeddings as products take them, `[N, D]`.
    x: &'a [f32],
    /// The same, `[D, pitch]`, filled up with zeros.
    x_transposed: &'a [f32],
}

impl<'a> Head<'a> {
    fn new(spec: &'a MarginSoftmax, sizes: Sizes, reads: &[&'a [f32]], scratch: &mut &'a mut [f32]) -> Self {
        let Sizes { batch, dimension, pitch, head, .. } = sizes;
        let (embedding, weight, modifiers) = (reads[0], reads[1], reads[4]);
        let labels: &[u32] = bytemuck::cast_slice(reads[2]);
        let step = bytemuck::cast_slice::<f32, u32>(reads[5])[0] as usize;
        let [rows, rounded, x_transposed] = take(scratch, head);
        let rows: &mut [Row] = bytemuck::cast_slice_mut(&mut rows[..batch * size_of::<Row>() / 4]);
        let of_rows = rows.par_iter_mut().zip(embedding.par_chunks(dimension)).zip(labels);
        of_rows.enumerate().for_each(|(n, ((row, x), &label))| {
            let w = &weight[label as usize * dimension..][..dimension];
            *row = Row::new(spec, f64::from(spec.modifier_of(modifiers, step, n)), label, x, w);
        });
        let x = if spec.rounded {
            round_directions(embedding, dimension, &mut rounded[..batch * dimension]);
            rounded
        } else {
            embedding
        };
        x_transposed.par_chunks_mut(LANES * pitch).enumerate().for_each(|(block, out)| {
            out.fill(0.0);
            for (n, x) in x[..batch * dimension].chunks_exact(dimension).enumerate() {
                let x = &x[block * LANES..];
                out[n..].iter_mut().step_by(pitch).zip(x).for_each(|(out, x)| *out = *x);
            }
        });
        Head { spec, sizes, weight, embedding, rows, x, x_transposed }
    }

    /// The weights of a tile as products take them; `scratch` is for those that are rounded.
    fn weights<'b>(&self, tile: &Classes, scratch: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        let dimension = self.sizes.dimension;
        let weights = &self.weight[tile.first * dimension..][..tile.length * dimension];
        if !self.spec.rounded {
            return weights;
        }
        let scratch = &mut scratch[..weights.len()];
        round_directions(weights, dimension, scratch);
        scratch
    }

    /// Inner products of some classes with all rows, `[classes, pitch]`.
    fn inner_products(&self, weights: &[f32], out: &mut [f32]) {
        let Sizes { dimension, pitch, .. } = self.sizes;
        let weights = Matrix::new(weights, weights.len() / dimension, dimension);
        product(out, pitch, Into::Overwrite, weights, Matrix::new(self.x_transposed, dimension, pitch));
    }

    /// Leaves the cosines of a tile with all rows to the backward pass: `[N, classes]`, rows `kept_pitch` apart.
    fn keep(&self, tile: &Classes, inverse_norm: &[f32], products: &[f32], kept: &mut [Cosine]) {
        let (pitch, kept_pitch) = (self.sizes.pitch, kept_pitch(self.spec));
        let blocks = kept.par_chunks_mut(LANES * kept_pitch).zip(self.rows.par_chunks(LANES));
        blocks.enumerate().for_each(|(block, (kept, rows))| {
            for (at, (products, inverse)) in products.chunks_exact(pitch).zip(inverse_norm).enumerate() {
                let kept = kept[tile.first + at..].iter_mut().step_by(kept_pitch);
                for ((kept, row), product) in kept.zip(rows).zip(&products[block * LANES..]) {
                    *kept = Cosine::new(product * inverse / row.norm as f32);
                }
            }
        });
    }

    /// The inner products again of which [`keep`](Self::keep) has left the cosines.
    fn restore(&self, classes: &Classes, inverse_norm: &[f32], kept: &[Cosine], out: &mut [f32]) {
        let pitch = self.sizes.pitch;
        out.fill(0.0);
        for (i, (row, kept)) in self.rows.iter().zip(kept.chunks_exact(kept_pitch(self.spec))).enumerate() {
            let cosines = kept[classes.first..].iter().zip(inverse_norm);
            for (out, (cosine, inverse)) in out[i..].iter_mut().step_by(pitch).zip(cosines) {
                *out = cosine.value() * (row.norm as f32 / inverse);
            }
        }
    }
}

/// Distance of the rows of kept cosines.
fn kept_pitch(spec: &MarginSoftmax) -> usize {
    spec.classes.next_multiple_of(8)
}

impl Row {
    fn new(spec: &MarginSoftmax, modifier: f64, label: u32, x: &[f32], w: &[f32]) -> Self {
        let (norm, w_norm) = (norm(x), norm(w));
        let cosine = (dot(x, w) / (norm * w_norm)).clamp(-1.0, 1.0);
        let (factor, scale) = match spec.scale {
            Scale::InnerProduct => (1.0, norm * w_norm),
            Scale::FeatureNorm => (1.0, norm),
            Scale::Constant(scale) => (f64::from(scale) / norm, f64::from(scale)),
        };
        let bent = spec.margin.target(cosine, modifier);
        let [slope, along, pull] = match spec.gradient {
            Gradient::True => [bent.slope, bent.value - bent.slope * cosine, 0.0],
            Gradient::Detached => [1.0, bent.value - cosine, 0.0],
            Gradient::Caffe => {
                let [pull, along] = normalised(bent, cosine, norm, modifier);
                [1.0, along, pull]
            }
        };
        Row { norm, label: u64::from(label), cosine, value: bent.value, slope, bent: along, pull, scale, factor }
    }

    /// The target's logit with the margin.
    fn logit(&self) -> f64 {
        self.scale * self.value
    }

    /// Gradient of the loss with respect to the target's logit: `softmax − 1`, or that of its own yes or no.
    fn error(&self, spec: &MarginSoftmax, log_sum_exp: f32, bias: f64) -> f64 {
        let error = match spec.link {
            Link::Softmax => (self.logit() - f64::from(log_sum_exp)).exp_m1(),
            Link::Binary { positive, .. } => -f64::from(positive) * sigmoid(-self.logit() - bias),
        };
        f64::from(spec.loss_factor) * error
    }

    /// What the bending of the target's logit adds to the gradient along the embedding's direction, where that is not
    /// normalised; `error` is that of the row's loss.
    fn radial(&self, error: f64) -> f64 {
        self.scale / self.norm * error * self.bent
    }

    /// Place of the target among some classes.
    fn target(&self, classes: &Classes) -> Option<usize> {
        (self.label as usize).checked_sub(classes.first).filter(|&at| at < classes.length)
    }
}

/// The derivative of a target's logit that [`Gradient::Caffe`] takes: along the class's direction, beyond that of a plain
/// logit, and along the embedding's.
fn normalised(bent: Bent, cosine: f64, norm: f64, lambda: f64) -> [f64; 2] {
    let (value, slope) = ((1.0 + lambda) * bent.value - lambda * cosine, (1.0 + lambda) * bent.slope - lambda);
    let along = (value - cosine * slope) / norm;
    let length = (slope * slope + along * along).sqrt();
    [(slope / length - 1.0) / (1.0 + lambda), along / length * norm / (1.0 + lambda)]
}

/// Classes `first .. first + length`.
struct Classes {
    first: usize,
    length: usize,
}

fn tiles(classes: usize) -> impl Iterator<Item = Classes> {
    (0..classes).step_by(TILE).map(move |first| Classes { first, length: TILE.min(classes - first) })
}

fn partials(pitch: usize, block: &mut [f32]) -> [&mut [f32]; PARTIALS] {
    take(&mut &mut *block, [pitch; PARTIALS])
}

pub(super) fn forward(spec: MarginSoftmax, operands: &Operands<'_>) -> Kernel {
    let sizes = Sizes::new(&spec, operands);
    let Sizes { dimension, pitch, .. } = sizes;
    let tasks = TILE.min(spec.classes).div_ceil(ROWS);
    let energies = if spec.energy == 0.0 { 0 } else { energy::WORDS * spec.classes };
    let lengths = [sizes.tile, sizes.weights, PARTIALS * pitch, tasks * PARTIALS * pitch, pitch, pitch, energies];
    let workspace = sizes.head.iter().chain(&lengths).sum();
    Kernel::new(workspace, move |mut io| {
        let mut scratch = io.workspace;
        let head = Head::new(&spec, sizes, &io.reads, &mut scratch);
        let [products, rounded, total, partial, factor, label, energies] = take(&mut scratch, lengths);
        let count = bytemuck::cast_slice::<f32, u32>(io.reads[3])[0] as usize;
        let bias = io.reads.get(6).map_or(0.0, |bias| f64::from(bias[0]));
        let others = (!spec.is_plain()).then_some(Others { spec: &spec, rows: head.rows, pitch, bias });
        let [loss, log_sum_exp, target_cosine, norms, inverse_norm, hits, kept @ ..] = &mut io.writes[..] else {
            return;
        };
        let mut kept: Option<&mut [Cosine]> = kept.first_mut().map(|kept| bytemuck::cast_slice_mut(kept));
        if let Some(kept) = &mut kept {
            kept.fill(Cosine::default());
        }
        factor.fill(0.0);
        factor.iter_mut().zip(head.rows).for_each(|(factor, row)| *factor = row.factor as f32);
        let label: &mut [u32] = bytemuck::cast_slice_mut(label);
        label.fill(0);
        label.iter_mut().zip(head.rows).for_each(|(label, row)| *label = row.label as u32);
        let (factor, label) = (&*factor, &*label);
        let mut total = partials(pitch, total);
        for (total, start) in total.iter_mut().zip([LOWEST, 0.0, if spec.has_bias() { 0.0 } else { LOWEST }]) {
            total.fill(start);
        }
        for tile in tiles(spec.classes) {
            let inverse_norm = &mut inverse_norm[tile.first..][..tile.length];
            let products = &mut products[..tile.length * pitch];
            let weights = head.weights(&tile, rounded).par_chunks(ROWS * dimension);
            let classes = weights.zip(inverse_norm.par_chunks_mut(ROWS));
            let results = products.par_chunks_mut(ROWS * pitch).zip(partial.par_chunks_mut(PARTIALS * pitch));
            classes.zip(results).enumerate().for_each(|(task, ((weights, inverse_norm), (products, partial)))| {
                let first = tile.first + task * ROWS;
                for (inverse, w) in inverse_norm.iter_mut().zip(head.weight[first * dimension..].chunks(dimension)) {
                    *inverse = (1.0 / norm(w)) as f32;
                }
                head.inner_products(weights, products);
                let inner_product = spec.scale == Scale::InnerProduct;
                let out = partials(pitch, partial);
                if let Some(others) = &others {
                    return others.accumulate(first, inverse_norm, products, out);
                }
                let first = first as u32;
                Arch::new().dispatch(Accumulate { first, inner_product, inverse_norm, factor, label, products, out });
            });
            for partial in partial.chunks_exact_mut(PARTIALS * pitch).take(tile.length.div_ceil(ROWS)) {
                match spec.link {
                    Link::Softmax => merge(&mut total, partials(pitch, partial)),
                    Link::Binary { .. } => scalar::merge(&mut total, partials(pitch, partial)),
                }
            }
            if let Some(kept) = &mut kept {
                head.keep(&tile, inverse_norm, products, kept);
            }
        }
        let of_weights = match spec.energy {
            0.0 => 0.0,
            share => f64::from(share) * Charges { weight: head.weight, inverse_norm }.energy(energies),
        };
        let hits: &mut [u32] = bytemuck::cast_slice_mut(hits);
        let [rival, sum, third] = total;
        for (i, row) in head.rows.iter().enumerate() {
            // Bent cosines are in the order of the cosines, which share their scale: one rival stands for both.
            let straight = if spec.is_plain() { row.cosine } else { spec.margin.other(row.cosine).value };
            let by_logits = (row.scale * straight) as f32 > rival[i];
            let by_cosines = if spec.is_plain() { (row.norm * row.cosine) as f32 > third[i] } else { by_logits };
            let wins =
                [(by_logits, Hit::Logits), (by_cosines, Hit::Cosines), (row.logit() as f32 > rival[i], Hit::Penalised)];
            let bits: u32 = wins.iter().map(|&(win, hit)| if win { hit as u32 } else { 0 }).sum();
            let of_logits;
            (of_logits, log_sum_exp[i]) = match spec.link {
                Link::Softmax => {
                    let largest = f64::from(rival[i]).max(row.logit());
                    let sum = f64::from(sum[i]) * (f64::from(rival[i]) - largest).exp() + (row.logit() - largest).exp();
                    let logarithm = largest + sum.ln();
                    (logarithm - row.logit(), logarithm as f32)
                }
                Link::Binary { positive, .. } => {
                    let share = f64::from(positive);
                    (share * softplus(-row.logit() - bias) + (1.0 - share) * f64::from(sum[i]), third[i])
                }
            };
            target_cosine[i] = row.cosine as f32;
            norms[i] = row.norm as f32;
            let of_norm = f64::from(spec.penalty.weight) * (row.norm - f64::from(spec.penalty.norm)).abs();
            let value = (f64::from(spec.loss_factor) * of_logits + of_norm + of_weights) as f32;
            (loss[i], hits[i]) = if i < count { (value, bits) } else { (0.0, 0) };
        }
    })
}

pub(super) fn backward(spec: MarginSoftmax, operands: &Operands<'_>) -> Kernel {
    let sizes = Sizes::new(&spec, operands);
    let Sizes { dimension, pitch, .. } = sizes;
    let lengths = [sizes.tile, sizes.weights, dimension * pitch, pitch, pitch, pitch];
    let workspace = sizes.head.iter().chain(&lengths).sum();
    Kernel::new(workspace, move |mut io| {
        let mut scratch = io.workspace;
        let head = Head::new(&spec, sizes, &io.reads, &mut scratch);
        let [gradients, rounded, d_transposed, factor, share, shift] = take(&mut scratch, lengths);
        let kept: Option<&[Cosine]> = (spec.logits == Logits::Kept).then(|| bytemuck::cast_slice(io.reads[10]));
        let count = bytemuck::cast_slice::<f32, u32>(io.reads[3])[0] as usize;
        let (log_sum_exp, inverse_norm) = (io.reads[6], io.reads[9]);
        let bias = io.reads.last().filter(|_| spec.has_bias()).map_or(0.0, |bias| f64::from(bias[0]));
        let others = (!spec.is_plain()).then(|| Others { spec: &spec, rows: &head.rows[..count], pitch, bias });
        let error = |i: usize| head.rows[i].error(&spec, log_sum_exp[i], bias) / count as f64;
        let [d_embedding, d_weight, d_bias @ ..] = &mut io.writes[..] else { return };
        // Rows past the count have no share in anything.
        factor.fill(0.0);
        share.fill(0.0);
        shift.fill(0.0);
        for (i, row) in head.rows[..count].iter().enumerate() {
            factor[i] = row.factor as f32;
            share[i] = row.factor as f32 / count as f32 * spec.loss_factor;
            shift[i] = log_sum_exp[i];
        }
        let (factor, share, shift) = (&*factor, &*share, &*shift);
        d_transposed.fill(0.0);
        for tile in tiles(spec.classes) {
            // The gradient with respect to each inner product with a normalised weight, [classes of the tile, N].
            let weights = head.weights(&tile, rounded);
            let gradients = &mut gradients[..tile.length * pitch];
            let d_tile = &mut d_weight[tile.first * dimension..][..tile.length * dimension];
            let tasks = gradients.par_chunks_mut(ROWS * pitch).zip(d_tile.par_chunks_mut(ROWS * dimension));
            tasks.zip(weights.par_chunks(ROWS * dimension)).enumerate().for_each(|(task, ((g, d_w), weights))| {
                let classes = Classes { first: tile.first + task * ROWS, length: weights.len() / dimension };
                let inverse_norm = &inverse_norm[classes.first..][..classes.length];
                match kept {
                    Some(kept) => head.restore(&classes, inverse_norm, kept, g),
                    None => head.inner_products(weights, g),
                }
                let inner_product = spec.scale == Scale::InnerProduct;
                match &others {
                    Some(others) => others.slopes(inverse_norm, log_sum_exp, g),
                    None => Arch::new().dispatch(Slopes {
                        inner_product,
                        inverse_norm,
                        factor,
                        share,
                        log_sum_exp: shift,
                        products: g,
                    }),
                }
                for (i, row) in head.rows[..count].iter().enumerate() {
                    if let Some(at) = row.target(&classes) {
                        let error = row.error(&spec, log_sum_exp[i], bias);
                        g[at * pitch + i] = (row.factor * error * row.slope / count as f64) as f32;
                    }
                }
                let g_rows = Matrix::strided(g, classes.length, count, pitch);
                product(d_w, dimension, Into::Overwrite, g_rows, Matrix::new(head.x, count, dimension));
                if spec.scale != Scale::InnerProduct {
                    let weights = &head.weight[classes.first * dimension..];
                    for ((d_w, w), &inverse) in
                        d_w.chunks_exact_mut(dimension).zip(weights.chunks(dimension)).zip(inverse_norm)
                    {
                        let along = match spec.gradient {
                            Gradient::Caffe => 0.0,
                            _ => f64::from(inverse * inverse) * dot(w, d_w),
                        };
                        scale_and_add(d_w, inverse, -inverse * along as f32, w);
                    }
                    for (g, &inverse) in g.chunks_exact_mut(pitch).zip(inverse_norm) {
                        g.iter_mut().for_each(|g| *g *= inverse);
                    }
                }
            });
            let (weights, gradients) =
                (Matrix::new(weights, tile.length, dimension).transposed(), Matrix::new(gradients, tile.length, pitch));
            d_transposed.par_chunks_mut(ROWS * pitch).enumerate().for_each(|(task, d_x)| {
                let first = task * ROWS;
                product(d_x, pitch, Into::Add, weights.rows(first..first + d_x.len() / pitch), gradients);
            });
        }
        let d_rows = d_embedding.par_chunks_mut(dimension).zip(head.rows);
        d_rows.enumerate().for_each(|(i, (d_x, row))| {
            if i >= count {
                return d_x.fill(0.0);
            }
            d_x.iter_mut().zip(d_transposed[i..].iter().step_by(pitch)).for_each(|(d, from)| *d = *from);
            let x = &head.embedding[i * dimension..][..dimension];
            // With a constant scale the loss does not change along the embedding, else not only by the angle.
            let along = match spec.scale {
                Scale::Constant(_) => -dot(d_x, x) / row.norm / row.norm,
                _ => row.radial(error(i)) / row.norm,
            };
            let beyond = row.norm - f64::from(spec.penalty.norm);
            let outwards = f64::from(spec.penalty.weight) * f64::from((beyond > 0.0) as i8 - (beyond < 0.0) as i8);
            scale_and_add(d_x, 1.0, (along + outwards / count as f64 / row.norm) as f32, x);
            if spec.gradient == Gradient::Caffe {
                let label = row.label as usize;
                let pull = error(i) * row.pull * f64::from(inverse_norm[label]);
                scale_and_add(d_x, 1.0, pull as f32, &head.weight[label * dimension..][..dimension]);
            }
        });
        if spec.energy != 0.0 {
            Charges { weight: head.weight, inverse_norm }.add_gradient(spec.energy.into(), d_weight);
        }
        if let ([d_bias], Some(others)) = (d_bias, &others) {
            let of_targets: f64 = (0..count).map(error).sum();
            d_bias[0] = (of_targets + others.bias_error(log_sum_exp)) as f32;
        }
        if spec.scale == Scale::InnerProduct {
            for (i, row) in head.rows[..count].iter().enumerate() {
                let (label, w) = (row.label as usize, inverse_norm[row.label as usize]);
                let at = label * dimension..(label + 1) * dimension;
                let along = row.radial(error(i)) as f32 * row.norm as f32 * w * w;
                scale_and_add(&mut d_weight[at.clone()], 1.0, along, &head.weight[at]);
            }
        }
    })
}

/// `out = scale · out + factor · added`.
fn scale_and_add(out: &mut [f32], scale: f32, factor: f32, added: &[f32]) {
    out.iter_mut().zip(added).for_each(|(out, added)| *out = scale * *out + factor * added);
}
