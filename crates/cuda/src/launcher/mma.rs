//! The tensor-core tier: which products it takes, with which tile, in how many parts.

use super::Context;
use super::tile::{BLOCKS, Scheme, Tile};
use crate::launch::{Launch, TIERS};
use crate::options::{Precision, Tier};
use sphereface_tensor::DType;
use sphereface_tensor::op::Conv2dGeometry;

/// Tiles of kernels/mma_tile.cuh, largest first: three stages of 128 bytes for each row and column. The multiply-adds that
/// a multiprocessor of an H100 does with it in a cycle by mma.sync in bf16: smaller tiles lose by the bytes that an mma
/// needs of shared memory.
const TILES: [(Tile, usize); 3] = [
    (Tile { name: "mma_128x128", threads: 128, shared_bytes: 3 * 256 * 128, rows: 128, columns: 128 }, 1200),
    (Tile { name: "mma_128x64", threads: 128, shared_bytes: 3 * 192 * 128, rows: 128, columns: 64 }, 1000),
    (Tile { name: "mma_64x64", threads: 128, shared_bytes: 3 * 128 * 128, rows: 64, columns: 64 }, 750),
];
/// Blocks that a multiprocessor needs to get there: one alone is four warps, one for each scheduler, which waits for its
/// own last instruction. By what the emulator counts, 4 cycles each, it does 400 of 1,000 in a tile of 128 x 64.
const TOGETHER: usize = 5;
const ALONE: usize = 2;
/// Terms in whose time the pipeline of a block fills and its result is stored.
const FILL: usize = 128;

/// Most terms of a sum before it is added to others: 1,024 additions of what one TF32 instruction sums at once.
pub(super) const TERMS: usize = 8192;
/// Fewest terms that are worth a block of their own.
pub(super) const TERMS_OF_PART: usize = 256;

/// Taps of a filter along one axis, and of all of it, that a kernel can tell in the bits it has for them.
const TAPS_OF_AXIS: usize = 16;
const TAPS: usize = 64;

/// The kernels' name of the arithmetic of operands of this type, and the elements in 16 bytes; `None` where this tier
/// has nothing to offer: strict fp32, or a device without it.
fn arithmetic(context: &Context, dtype: DType) -> Option<(&'static str, usize)> {
    match dtype {
        DType::Bf16 if context.mma => Some(("bf16", 8)),
        DType::F32 if context.mma && context.options.precision == Precision::Tf32 => Some(("tf32", 4)),
        _ => None,
    }
}

/// How this tier makes `products` products of `[rows, columns]` with sums of `terms` terms, if it takes them.
///
/// `contiguous` are the dimensions that lie contiguous in an operand or in the result: whole copies of 16 bytes each.
pub(super) fn scheme(
    context: &Context,
    dtype: DType,
    products: usize,
    [rows, columns]: [usize; 2],
    terms: usize,
    contiguous: &[usize],
) -> Option<Scheme> {
    best(context, dtype, products, [rows, columns], terms, contiguous).map(|(scheme, _)| scheme)
}

/// As [`scheme`], with about how many cycles it takes: what another tier has to be faster than.
pub(super) fn best(
    context: &Context,
    dtype: DType,
    products: usize,
    [rows, columns]: [usize; 2],
    terms: usize,
    contiguous: &[usize],
) -> Option<(Scheme, usize)> {
    let (element, lanes) = arithmetic(context, dtype)?;
    if !contiguous.iter().all(|dimension| dimension.is_multiple_of(lanes)) {
        return None;
    }
    let needed = terms.div_ceil(TERMS).max(1);
    let most = (terms / TERMS_OF_PART).max(needed);
    let candidates = TILES.into_iter().flat_map(|(tile, rate)| {
        let tiles = products * tile.count(rows, columns);
        (needed..=most.min(needed.max(2 * BLOCKS / tiles))).map(move |splits| {
            let block = tile.rows * tile.columns * (terms.div_ceil(splits) + FILL) * tf32_slower(dtype) / rate;
            let cycles = cycles(block, tiles * splits, splits, products * rows * columns);
            (Scheme { tile, element, splits, blocks: None, tier: Tier::Mma }, block, tiles * splits, cycles)
        })
    });
    let (scheme, block, blocks, cycles) = candidates.min_by_key(|(.., cycles)| *cycles)?;
    let waits = if blocks <= PROCESSORS { block * TOGETHER / ALONE - block } else { 0 };
    Some((scheme, cycles + waits))
}

/// How many times the cycles of bf16 products of this type take: fp32 operands are TF32 there.
pub(super) fn tf32_slower(dtype: DType) -> usize {
    if dtype == DType::F32 { 2 } else { 1 }
}

/// Multiprocessors of an H100 or H200.
pub(super) const PROCESSORS: usize = 132;

/// About how many cycles a product takes on an H100, of `blocks` blocks of `block` cycles each, where a result of
/// `elements` is in `splits` parts. Only the order matters, and that it depends on the shape alone: the same on every
/// device, and so are the bits of a sum.
pub(super) fn cycles(block: usize, blocks: usize, splits: usize, elements: usize) -> usize {
    // Bytes of partial sums that a processor writes to the second-level cache or reads from there in a cycle of 1.35 GHz,
    // 28 of 1.83 GHz; cycles of one more launch.
    const BYTES: usize = 38;
    const LAUNCH: usize = 3000;
    let waves = blocks.div_ceil(PROCESSORS);
    let parts = if splits > 1 { 2 * 4 * splits * elements / (PROCESSORS * BYTES) + LAUNCH } else { 0 };
    waves * block + parts
}

/// About how many cycles a convolution takes here before it multiplies, and for the sum of its parts: the recorded forward
/// pass of one image has 19 of them in 621 µs, whatever their size.
const CONVOLUTION: usize = 10_000;

/// As [`best`], for convolutions: sums over the channels `length` of at most `taps` taps of the geometry's filter.
pub(super) fn convolution(
    context: &Context,
    dtype: DType,
    g: &Conv2dGeometry,
    size: [usize; 2],
    [taps, length]: [usize; 2],
) -> Option<(Scheme, usize)> {
    let few = g.taps.iter().all(|&taps| taps <= TAPS_OF_AXIS) && g.taps[0] * g.taps[1] <= TAPS;
    let (scheme, cycles) = few.then(|| best(context, dtype, 1, size, taps * length, &[g.inputs, g.outputs]))??;
    Some((scheme, cycles + CONVOLUTION))
}

/// As [`scheme`], for the gradient of a filter: a product for each tap.
pub(super) fn weight_gradient(context: &Context, dtype: DType, g: &Conv2dGeometry) -> Option<Scheme> {
    let (taps, rows) = (g.taps[0] * g.taps[1], g.output_height * g.output_width * g.batch);
    scheme(context, dtype, taps, [g.inputs, g.outputs], rows, &[g.inputs, g.outputs])
}

impl Scheme {
    /// The grid of a weight gradient.
    pub(super) fn weight_grid(&self, g: &Conv2dGeometry) -> [u32; 3] {
        let taps = g.taps[0] * g.taps[1];
        if self.tier == Tier::Mma {
            [self.tile.count(g.inputs, g.outputs) as u32, taps as u32, self.splits as u32]
        } else {
            self.tile.grid(taps * g.inputs, g.outputs, self.splits)
        }
    }

    /// A launch of `<kernel>_<tile>_<element>`, without its grid.
    pub(super) fn launch(&self, stem: &'static str, kernel: &str) -> Launch {
        Launch::new(stem, format!("{kernel}_{}_{}", self.tile.name, self.element))
            .define(TIERS[self.tier as usize].to_owned())
            .block(self.tile.threads)
            .shared(self.tile.shared_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use sphereface_tensor::Shape;

    fn context() -> Context {
        Context { options: Options { precision: Precision::Tf32, ..Options::default() }, mma: true, wgmma: false }
    }

    /// Tile and parts of the forward pass and of the gradient of the filter, of a 3×3 convolution.
    fn choices([side, batch, inputs, outputs]: [usize; 4]) -> [(&'static str, usize); 2] {
        let (x, filter) = (Shape::activation(side, side, batch, inputs), Shape::filter(3, 3, inputs, outputs));
        let g = Conv2dGeometry::new("conv2d", &x, &filter, 1, 1).unwrap();
        let forward = convolution(&context(), DType::Bf16, &g, [side * side * batch, outputs], [9, inputs]).unwrap().0;
        let gradient = weight_gradient(&context(), DType::Bf16, &g).unwrap();
        [forward, gradient].map(|scheme| (scheme.tile.name, scheme.splits))
    }

    #[test]
    fn tiles_fill_the_device_and_no_sum_is_too_long() {
        let ways = [[14, 256, 64, 64], [7, 256, 128, 128], [4, 256, 256, 256], [2, 256, 512, 512], [7, 1, 128, 128]];
        let chosen = ways.map(choices);
        assert_eq!(chosen[0][0].1, 1, "rows enough");
        for ([side, batch, inputs, _], [forward, gradient]) in ways.into_iter().zip(chosen) {
            assert!((9 * inputs).div_ceil(forward.1) <= TERMS);
            assert!((side * side * batch).div_ceil(gradient.1) <= TERMS);
        }
    }

    #[test]
    fn only_whole_copies_and_the_right_precision_are_taken() {
        let dense = |context: &Context, dtype, inner| scheme(context, dtype, 1, [64, 64], 64, &[inner, 64]).is_some();
        let strict = Context { options: Options::default(), mma: true, wgmma: false };
        let old = Context { mma: false, ..context() };
        assert!(dense(&context(), DType::F32, 12) && dense(&strict, DType::Bf16, 16));
        assert!(!dense(&context(), DType::F32, 10) && !dense(&context(), DType::Bf16, 12));
        assert!(!dense(&strict, DType::F32, 12) && !dense(&old, DType::Bf16, 16));
    }
}
