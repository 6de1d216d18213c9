//! The tier of Hopper's warpgroups: which products it takes, with which tile, in how many parts.

use super::Context;
use super::matrix_product::Products;
use super::mma::{PROCESSORS, TERMS, TERMS_OF_PART, cycles, tf32_slower};
use super::tile::{Scheme, Tile};
use crate::driver::{Swizzle, TensorMap};
use crate::options::{Precision, Tier};
use sphereface_tensor::DType;
use sphereface_tensor::op::Layout;

/// Threads of a block: two warpgroups that multiply, and one that copies.
const THREADS: u32 = 384;
/// Bytes of a line of an operand: what a chunk of the reduction is, or rows of one place of it.
pub(super) const LINE_BYTES: usize = 128;

/// Four stages of a line for each row and column, 4 KB for each warp to exchange results, and room to align them.
const fn shared_bytes(columns: u32) -> u32 {
    4 * (128 + columns) * LINE_BYTES as u32 + 8 * 4096 + 1024
}

/// Tiles of kernels/matrix_product_wgmma.cuh, and the multiply-adds that an H100 does with it in a cycle in bf16, of the
/// 2,048 that its tensor cores have. Estimates: the smaller tile, which blocks do not share, reads 64 bytes for as many as
/// they do in a cycle, and the second-level cache gives 38.
const TILES: [(Tile, usize); 2] = [
    (Tile { name: "wgmma_128x256", threads: THREADS, shared_bytes: shared_bytes(256), rows: 128, columns: 256 }, 1650),
    (Tile { name: "wgmma_128x128", threads: THREADS, shared_bytes: shared_bytes(128), rows: 128, columns: 128 }, 1200),
];
/// Terms in whose time the pipeline of a block fills and its result is stored.
const FILL: usize = 192;
/// The most blocks where the tier is forced: two clusters.
const FORCED_BLOCKS: usize = 4;
/// Columns of the right operand that a block copies: to all blocks of its cluster.
const COLUMNS_OF_BLOCK: usize = 128;

/// Blocks of a cluster, one below the other.
fn cluster(tile: &Tile) -> usize {
    tile.columns / COLUMNS_OF_BLOCK
}

/// Tiles that cover a result, those without a row included that fill a cluster.
fn tiles(tile: &Tile, rows: usize, columns: usize) -> usize {
    tile.count(rows.next_multiple_of(tile.rows * cluster(tile)), columns)
}

/// How this tier makes these products, if it takes them, and about how many cycles that is.
pub(super) fn best(context: &Context, dtype: DType, products: &Products) -> Option<(Scheme, usize)> {
    schemes(context, dtype, products).into_iter().min_by_key(|(_, cycles)| *cycles)
}

/// The same of what is finished where it is made: sums that are not in parts.
pub(super) fn whole(context: &Context, dtype: DType, products: &Products) -> Option<Scheme> {
    let schemes = schemes(context, dtype, products).into_iter();
    let whole = schemes.filter(|(scheme, _)| scheme.splits == 1);
    whole.min_by_key(|(_, cycles)| *cycles).map(|(scheme, _)| scheme)
}

/// All ways to make these products, with about how many cycles each takes.
///
/// Rows of operands are whole copies of 16 bytes; TF32 products have both reductions contiguous.
fn schemes(context: &Context, dtype: DType, products: &Products) -> Vec<(Scheme, usize)> {
    let element = match dtype {
        DType::Bf16 => "bf16",
        DType::F32 if context.options.precision == Precision::Tf32 && products.layout == Layout::NT => "tf32",
        _ => return vec![],
    };
    let copies = |row: usize| (row * dtype.bytes()).is_multiple_of(16);
    if !context.wgmma || !products.rows_in_memory().into_iter().all(copies) {
        return vec![];
    }
    let &Products { rows, columns, length, segments, batch, .. } = products;
    let terms = segments * length.next_multiple_of(LINE_BYTES / dtype.bytes());
    let needed = terms.div_ceil(TERMS);
    let most = (terms / TERMS_OF_PART).max(needed);
    // Where the tier is forced, it is the tile that covers the columns: both are for small products then.
    let most_blocks = if context.options.forced { FORCED_BLOCKS } else { PROCESSORS };
    let covers = |tile: &Tile| (columns > COLUMNS_OF_BLOCK) == (cluster(tile) > 1);
    let fits = |tile: &Tile| !context.options.forced || covers(tile);
    let ways = TILES.into_iter().filter(|(tile, _)| fits(tile)).flat_map(|(tile, rate)| {
        let tiles = batch * tiles(&tile, rows, columns);
        (needed..=most.min(needed.max(2 * PROCESSORS / tiles))).map(move |splits| {
            let block = tile.rows * tile.columns * (terms.div_ceil(splits) + FILL) * tf32_slower(dtype) / rate;
            let cycles = cycles(block, tiles * splits, splits, batch * rows * columns);
            let blocks = Some((tiles * splits).min(most_blocks) as u32);
            (Scheme { tile, element, splits, blocks, tier: Tier::Wgmma }, cycles)
        })
    });
    ways.collect()
}

/// The operands as the kernel copies them.
pub(super) fn maps(products: &Products, tile: &Tile, element: &str) -> [TensorMap; 2] {
    let dtype = if element == "bf16" { DType::Bf16 } else { DType::F32 };
    let &Products { layout, rows, columns, length, segments, batch, own } = products;
    let line = LINE_BYTES / dtype.bytes();
    let map = |across: usize, of_tile: usize, along: bool, own: bool| {
        let [inner, outer] = if along { [length, across] } else { [across, length] };
        let row_bytes = (inner * dtype.bytes()) as u64;
        TensorMap {
            element: dtype,
            extents: vec![inner as u64, outer as u64, if own { batch } else { segments } as u64],
            strides_bytes: vec![row_bytes, row_bytes * outer as u64],
            box_extents: vec![line as u64, if along { of_tile } else { line } as u64, 1],
            steps: vec![],
            swizzle: Swizzle::Bytes128,
        }
    };
    [map(rows, tile.rows, layout != Layout::TN, own[0]), map(columns, COLUMNS_OF_BLOCK, layout == Layout::NT, own[1])]
}
