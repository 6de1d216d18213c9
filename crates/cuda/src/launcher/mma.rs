//! The tensor-core tier: which products it takes, with which tile, in how many parts.

use super::Context;
use super::tile::{BLOCKS, Scheme, Tile};
use crate::backend::Precision;
use crate::launch::Launch;
use sphereface_tensor::DType;
use sphereface_tensor::op::Conv2dGeometry;

/// Tiles of kernels/mma_tile.cuh, largest first: three stages of 128 bytes for each row and column.
const TILES: [Tile; 3] = [
    Tile { name: "mma_128x128", threads: 128, shared_bytes: 3 * 256 * 128, rows: 128, columns: 128 },
    Tile { name: "mma_128x64", threads: 128, shared_bytes: 3 * 192 * 128, rows: 128, columns: 64 },
    Tile { name: "mma_64x64", threads: 128, shared_bytes: 3 * 128 * 128, rows: 64, columns: 64 },
];

/// Most terms of a sum before it is added to others: 1,024 additions of what one TF32 instruction sums at once.
const TERMS: usize = 8192;
/// Fewest terms that are worth a block of their own: the pipeline has to fill.
const TERMS_OF_PART: usize = 512;

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
    let (element, lanes) = arithmetic(context, dtype)?;
    if !contiguous.iter().all(|dimension| dimension.is_multiple_of(lanes)) {
        return None;
    }
    let needed = terms.div_ceil(TERMS).max(1);
    let most = (terms / TERMS_OF_PART).max(needed);
    // The largest tile of which there are enough to fill a large GPU, half of it empty at worst.
    let fills = |tile: &&Tile| {
        let wasteful = tile.rows >= 2 * rows || tile.columns >= 2 * columns;
        !wasteful && products * tile.count(rows, columns) * most >= BLOCKS / 2
    };
    let tile = TILES.iter().find(fills).copied().unwrap_or(TILES[2]);
    let useful = BLOCKS / (products * tile.count(rows, columns)).max(1);
    Some(Scheme { tile, element, splits: useful.min(most).max(needed), mma: true })
}

/// As [`scheme`], for convolutions: sums over the channels `length` of at most `taps` taps of the geometry's filter.
pub(super) fn convolution(
    context: &Context,
    dtype: DType,
    g: &Conv2dGeometry,
    size: [usize; 2],
    [taps, length]: [usize; 2],
) -> Option<Scheme> {
    let few = g.taps.iter().all(|&taps| taps <= TAPS_OF_AXIS) && g.taps[0] * g.taps[1] <= TAPS;
    few.then(|| scheme(context, dtype, 1, size, taps * length, &[g.inputs, g.outputs]))?
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
        if self.mma {
            [self.tile.count(g.inputs, g.outputs) as u32, taps as u32, self.splits as u32]
        } else {
            self.tile.grid(taps * g.inputs, g.outputs, self.splits)
        }
    }

    /// A launch of `<kernel>_<tile>_<element>`, without its grid.
    pub(super) fn launch(&self, stem: &'static str, kernel: &str) -> Launch {
        Launch::new(stem, format!("{kernel}_{}_{}", self.tile.name, self.element))
            .block(self.tile.threads)
            .shared(self.tile.shared_bytes)
    }
}
