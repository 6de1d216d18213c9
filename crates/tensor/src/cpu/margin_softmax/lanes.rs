//! The head's loops over inner products `[classes, pitch]`: a vector holds one class of [`LANES`] rows of the batch.

use crate::cpu::LINE;
use crate::cpu::exp::exp;
use pulp::NullaryFnOnce;

/// Rows of the batch that are handled together: whole vectors on every instruction set.
pub(super) const LANES: usize = LINE;

/// The most negative finite float: where a maximum starts, so that differences stay finite.
pub(super) const LOWEST: f32 = f32::MIN;

/// Places for what is known of classes, the targets left out, one value a row: the largest logit, the sum of exponentials
/// relative to it, and the largest cosine times `‖x‖`.
pub(super) const PARTIALS: usize = 3;

/// What is known of some classes but the targets, into `out`.
pub(super) struct Accumulate<'a> {
    pub(super) first: u32,
    /// Whether logits are the inner products.
    pub(super) inner_product: bool,
    pub(super) inverse_norm: &'a [f32],
    pub(super) factor: &'a [f32],
    pub(super) label: &'a [u32],
    /// `[classes, pitch]`.
    pub(super) products: &'a [f32],
    pub(super) out: [&'a mut [f32]; PARTIALS],
}

impl NullaryFnOnce for Accumulate<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Accumulate { first, inner_product, inverse_norm, factor, label, products, out } = self;
        let pitch = label.len();
        let [largest_out, sum_out, cosine_out] = out;
        for block in 0..pitch / LANES {
            // Arrays, whose length the compiler knows, become whole vectors.
            let (factor, label) = (&factor.as_chunks::<LANES>().0[block], &label.as_chunks::<LANES>().0[block]);
            let classes = || {
                let products = products.chunks_exact(pitch).map(|row| &row.as_chunks::<LANES>().0[block]);
                (first..).zip(products).zip(inverse_norm).map(|((class, products), &inverse)| {
                    (class, products, if inner_product { 1.0 } else { inverse }, inverse)
                })
            };
            let (mut largest, mut largest_cosine, mut sum) = ([LOWEST; LANES], [LOWEST; LANES], [0.0; LANES]);
            for (class, products, scale, inverse) in classes() {
                for lane in 0..LANES {
                    let (z, cosine) = (factor[lane] * (scale * products[lane]), inverse * products[lane]);
                    let other = label[lane] != class;
                    largest[lane] = if other & (z > largest[lane]) { z } else { largest[lane] };
                    largest_cosine[lane] =
                        if other & (cosine > largest_cosine[lane]) { cosine } else { largest_cosine[lane] };
                }
            }
            for (class, products, scale, _) in classes() {
                for lane in 0..LANES {
                    let power = exp(factor[lane] * (scale * products[lane]) - largest[lane]);
                    sum[lane] += if label[lane] != class { power } else { 0.0 };
                }
            }
            largest_out.as_chunks_mut().0[block] = largest;
            sum_out.as_chunks_mut().0[block] = sum;
            cosine_out.as_chunks_mut().0[block] = largest_cosine;
        }
    }
}

/// Adds what is known of more classes.
pub(super) fn merge([largest, sum, cosine]: &mut [&mut [f32]; PARTIALS], more: [&mut [f32]; PARTIALS]) {
    for i in 0..largest.len() {
        let both = largest[i].max(more[0][i]);
        sum[i] = sum[i] * exp(largest[i] - both) + more[1][i] * exp(more[0][i] - both);
        largest[i] = both;
        cosine[i] = cosine[i].max(more[2][i]);
    }
}

/// Turns inner products into gradients of the mean loss with respect to them, apart from the class's factor, as if no class
/// were a target.
pub(super) struct Slopes<'a> {
    /// Whether logits are the inner products.
    pub(super) inner_product: bool,
    pub(super) inverse_norm: &'a [f32],
    pub(super) factor: &'a [f32],
    /// The factor over the number of rows.
    pub(super) share: &'a [f32],
    pub(super) log_sum_exp: &'a [f32],
    /// `[classes, pitch]`.
    pub(super) products: &'a mut [f32],
}

impl NullaryFnOnce for Slopes<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (row, &inverse) in self.products.chunks_exact_mut(self.factor.len()).zip(self.inverse_norm) {
            let scale = if self.inner_product { 1.0 } else { inverse };
            let rows = self.factor.as_chunks::<LANES>().0.iter().zip(self.share.as_chunks::<LANES>().0);
            let rows = rows.zip(self.log_sum_exp.as_chunks::<LANES>().0);
            for (products, ((factor, share), log_sum_exp)) in row.as_chunks_mut::<LANES>().0.iter_mut().zip(rows) {
                for lane in 0..LANES {
                    let z = factor[lane] * (scale * products[lane]);
                    products[lane] = share[lane] * exp(z - log_sum_exp[lane]);
                }
            }
        }
    }
}
