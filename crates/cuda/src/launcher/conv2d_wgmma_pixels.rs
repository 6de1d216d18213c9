//! Convolutions of the Hopper tier whose tiles are images of one pixel, or of a few: small images, and strides.

use super::Context;
use super::conv2d::{TapAxis, TapProduct};
use super::conv2d_wgmma::{
    CLUSTERED_BLOCKS, FORCED_BLOCKS, LINE_BYTES, LINES_BYTES, TIER, activations, exchanged, knows, line_channels,
};
use super::epilogue::{PreluEpilogue, PreluGradientEpilogue, slope_sum};
use super::mma::PROCESSORS;
use crate::driver::{Access, Swizzle, TensorMap};
use crate::launch::{Io, Kernel, Launch, Slice};
use bytemuck::{Pod, Zeroable};
use sphereface_tensor::DType;
use sphereface_tensor::op::{Conv2dBackwardData, Conv2dGeometry};

/// Threads of a block: a warpgroup that copies, two that multiply, and their warps.
const THREADS: u32 = 384;
const CONSUMER_WARPS: usize = 8;
/// Rows of a tile.
const ROWS: usize = 128;
/// The tiles there are. Where the tier is forced, the first that fits.
const TILES: [Tile; 7] = [
    Tile { columns: 128, stages: 6, pair: true, splits: 4 },
    Tile { columns: 128, stages: 6, pair: true, splits: 2 },
    Tile { columns: 128, stages: 6, pair: true, splits: 1 },
    Tile { columns: 128, stages: 6, pair: false, splits: 4 },
    Tile { columns: 128, stages: 6, pair: false, splits: 2 },
    Tile { columns: 128, stages: 6, pair: false, splits: 1 },
    Tile { columns: 64, stages: 8, pair: false, splits: 1 },
];
/// Fewest steps that are worth a block of their own.
const STEPS_OF_PART: usize = 4;
/// Bytes of a warp to exchange results.
const EXCHANGE_BYTES: usize = 4096;

/// `PixelClass` of kernels/conv2d.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct PixelClass {
    pub(super) vertical: TapAxis,
    pub(super) horizontal: TapAxis,
    pub(super) across: u32,
    pub(super) first_tile: u32,
}

/// `PixelProduct` of kernels/conv2d.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct PixelProduct {
    pub(super) classes: [PixelClass; 4],
    pub(super) class_count: u32,
    pub(super) batch: i32,
    pub(super) length: i32,
    pub(super) columns: i32,
    pub(super) filter_width: i32,
    pub(super) result_width: i32,
    pub(super) image_bits: u32,
    pub(super) pixel_bits: u32,
    pub(super) row_bits: u32,
    pub(super) image_tiles: u32,
    pub(super) column_tiles: u32,
    pub(super) tiles: u32,
}

/// A tile of 128 images, or pixels.
#[derive(Clone, Copy, Debug)]
struct Tile {
    columns: usize,
    /// Of its ring.
    stages: usize,
    /// Whether two blocks of a cluster have neighbouring images and share the filter.
    pair: bool,
    /// Parts of a reduction, each of a block of the cluster.
    splits: usize,
}

impl Tile {
    /// Blocks that copy a part of the filter each.
    fn shared(self) -> usize {
        if self.pair { 2 } else { 1 }
    }

    /// As the names of kernels have it.
    fn name(self) -> String {
        let pair = if self.pair { "_pair" } else { "" };
        let split = if self.splits > 1 { format!("_split{}", self.splits) } else { String::new() };
        format!("128x{}{pair}{split}", self.columns)
    }
}

/// How this tier makes the products of taps of a convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pixels {
    dtype: DType,
    tile: Tile,
    /// Whether the lines of the filter that are copied lie along the reduction.
    along: bool,
    /// The most blocks.
    blocks: usize,
    product: PixelProduct,
}

impl Pixels {
    /// For these products of taps, one for each class of pixels modulo the stride, and about how many cycles they take.
    pub(super) fn of(
        context: &Context,
        dtype: DType,
        g: &Conv2dGeometry,
        products: &[TapProduct],
        backward: bool,
    ) -> Option<(Pixels, usize)> {
        let first = products.first()?;
        let (length, results) = (first.length as usize, first.columns as usize);
        let channels = length.is_multiple_of(line_channels(dtype)) && results.is_multiple_of(64);
        if !knows(context, dtype, g) || !channels || products.len() > 4 {
            return None;
        }
        let along = backward || dtype == DType::F32;
        let blocks = if context.options.forced { FORCED_BLOCKS } else { PROCESSORS };
        let candidates = TILES.into_iter().filter(|tile| results.is_multiple_of(tile.columns)).flat_map(|tile| {
            shapes(g.batch).map(move |shape| {
                let product = product(g, products, tile.columns, shape);
                Pixels { dtype, tile, along, blocks, product }
            })
        });
        let candidates = candidates.filter(Pixels::fits).map(|found| (found, found.cycles()));
        candidates.min_by_key(|(found, cycles)| if context.options.forced { found.steps()[1] } else { *cycles })
    }

    /// Tiles of rows.
    fn row_tiles(&self) -> usize {
        (self.product.tiles / self.product.column_tiles) as usize
    }

    /// Parts of the gradient of the slopes: of each tile of rows, or of its halves, which different blocks finish.
    fn slope_parts(&self) -> usize {
        self.row_tiles() * self.tile.splits.div_ceil(2)
    }

    fn grid(&self) -> usize {
        let PixelProduct { tiles, .. } = self.product;
        if self.tile.splits > 1 { tiles as usize * self.tile.splits } else { self.blocks.min(tiles as usize) }
    }

    /// The most steps of a tile, lines of channels of a tap each, and those of all tiles.
    fn steps(&self) -> [usize; 2] {
        let PixelProduct { classes, class_count, column_tiles, image_tiles, length, row_bits, pixel_bits, .. } =
            self.product;
        let (mut most, mut all) = (0, 0);
        for class in &classes[..class_count as usize] {
            let [vertical, horizontal] = [seen(class.vertical, 1 << row_bits), seen(class.horizontal, 1 << pixel_bits)];
            most = most.max(vertical[0] * horizontal[0]);
            all += vertical[1] * horizontal[1];
        }
        let lines = length as usize / line_channels(self.dtype);
        [most * lines, all * lines * (column_tiles * image_tiles) as usize]
    }

    /// Whether clusters have pairs of tiles, and parts of steps enough, all at the same time.
    fn fits(&self) -> bool {
        let Tile { pair, splits, .. } = self.tile;
        let divides = self.steps()[0] >= splits * STEPS_OF_PART && self.grid() <= CLUSTERED_BLOCKS;
        (!pair || self.product.image_tiles.is_multiple_of(2)) && (splits == 1 || divides)
    }

    /// Bounded by what tensor cores multiply, by shared memory, by what the second-level cache gives a multiprocessor, or by
    /// what it gives all of them, in bytes a cycle of an H100; then blocks of a cluster add up their parts.
    fn cycles(&self) -> usize {
        const MULTIPLY_ADDS: usize = 2048;
        const CACHE_BYTES: usize = 3200;
        const CACHE_BYTES_OF_ONE: usize = 60;
        const CLUSTER_BYTES: usize = 14;
        let Tile { columns, splits, .. } = self.tile;
        let [most, all] = self.steps();
        // TF32 has half the channels in a line, and half the rate.
        let multiplied = ROWS * columns * (LINE_BYTES / 2) / MULTIPLY_ADDS;
        // Lines that are written, and read by two warpgroups, one in a cycle.
        let lines = ROWS + columns + ROWS + 2 * columns;
        let bytes = (ROWS + columns / self.tile.shared()) * LINE_BYTES;
        let rounds = (self.product.tiles as usize * splits).div_ceil(PROCESSORS);
        let of_one = rounds * most.div_ceil(splits) * multiplied.max(lines).max(bytes / CACHE_BYTES_OF_ONE);
        let parts = 4 * ROWS * columns * (splits - 1) / splits;
        of_one.max(all * bytes / CACHE_BYTES) + parts / CLUSTER_BYTES
    }

    fn launch(&self, pass: &str, source: Slice, filter: Slice) -> Launch {
        let PixelProduct { classes: [PixelClass { vertical, horizontal, .. }, ..], batch, length, columns, .. } =
            self.product;
        let PixelProduct { row_bits, pixel_bits, image_bits, .. } = self.product;
        let sizes = [vertical.source, horizontal.source, batch, length].map(|size| size as usize);
        let [length, results] = [length, columns].map(|channels| channels as usize);
        let [lines, row] = if self.along { [results, length] } else { [length, results] };
        let filter_map = TensorMap {
            element: self.dtype,
            extents: vec![row as u64, (9 * lines) as u64],
            strides_bytes: vec![(row * self.dtype.bytes()) as u64],
            box_extents: vec![
                line_channels(self.dtype) as u64,
                if self.along && !self.tile.pair { self.tile.columns as u64 } else { 64 },
            ],
            steps: vec![],
            swizzle: Swizzle::Bytes128,
        };
        let ring = self.tile.stages * (ROWS + self.tile.columns) * LINE_BYTES;
        let shared = ring + CONSUMER_WARPS * EXCHANGE_BYTES + LINES_BYTES;
        let source_map = TensorMap {
            steps: [1, 1, horizontal.step, vertical.step].map(|step| step as u64).to_vec(),
            ..activations(self.dtype, sizes, [row_bits, pixel_bits, image_bits].map(|bits| 1 << bits))
        };
        let element = if self.dtype == DType::Bf16 { "bf16" } else { "tf32" };
        Launch::new("conv2d", format!("conv2d_{pass}_wgmma_{}_{element}", self.tile.name()))
            .define(TIER.to_owned())
            .grid([self.grid() as u32, 1, 1])
            .block(THREADS)
            .shared(shared as u32)
            .tensor(Some(source), Access::Read, &source_map)
            .tensor(Some(filter), Access::Read, &filter_map)
    }

    /// Bytes of the filter with inputs and outputs exchanged, which the forward pass in TF32 reads.
    pub(super) fn forward_workspace_bytes(&self) -> u64 {
        if self.dtype == DType::Bf16 { 0 } else { 4 * 9 * self.product.length as u64 * self.product.columns as u64 }
    }

    pub(super) fn forward(&self, io: &Io, epilogue: PreluEpilogue) -> Vec<Launch> {
        let (x, filter) = (io.reads[0], io.reads[1]);
        let sizes = [self.product.length, self.product.columns].map(|channels| channels as usize);
        let exchange = (self.dtype == DType::F32).then(|| exchanged(filter, io.workspace, sizes));
        let filter = if exchange.is_some() { io.workspace } else { filter };
        let product = epilogue.arguments(self.launch("forward", x, filter)).value(self.product);
        exchange.into_iter().chain([product]).collect()
    }

    pub(super) fn backward_data(self, op: Conv2dBackwardData) -> Kernel {
        let kernel = Kernel::new(0, move |io| {
            let launch = self.launch("backward_data", io.reads[0], io.reads[1]);
            vec![PreluGradientEpilogue::of(op, io).arguments(launch, true).value(self.product)]
        });
        kernel.with_sums(slope_sum(op, self.slope_parts(), self.product.columns as usize))
    }
}

/// Along an axis, for tiles of so many pixels: the most taps through which one of them sees the source, and those of all.
fn seen(axis: TapAxis, pixels: i32) -> [usize; 2] {
    let of = |pixel: i32| {
        let sees = |tap: &i32| {
            let first = pixel * axis.step + axis.origin + axis.direction * tap;
            first < axis.source && first + (pixels - 1) * axis.step >= 0
        };
        (0..axis.taps).filter(sees).count()
    };
    let taps = (0..axis.pixels).step_by(pixels as usize).map(of);
    [taps.clone().max().unwrap_or(0), taps.sum()]
}

/// Bits of the numbers of images, pixels and rows that a tile may have.
fn shapes(batch: usize) -> impl Iterator<Item = [u32; 3]> {
    let bits = ROWS.ilog2();
    let most = bits.min(batch.next_power_of_two().ilog2());
    (0..=most).rev().flat_map(move |images| (0..=bits - images).map(move |rows| [images, bits - images - rows, rows]))
}

/// These products of taps in tiles of so many columns, those with most taps first.
fn product(g: &Conv2dGeometry, products: &[TapProduct], columns: usize, shape: [u32; 3]) -> PixelProduct {
    let [image_bits, pixel_bits, row_bits] = shape;
    let [images, pixels, rows] = shape.map(|bits| 1 << bits);
    let (image_tiles, column_tiles) = (g.batch.div_ceil(images), products[0].columns as usize / columns);
    let mut sorted = products.to_vec();
    sorted.sort_by_key(|taps| std::cmp::Reverse(taps.taps()));
    let mut product = PixelProduct {
        class_count: sorted.len() as u32,
        batch: g.batch as i32,
        length: sorted[0].length,
        columns: sorted[0].columns,
        filter_width: sorted[0].filter_width,
        result_width: sorted[0].result_width,
        image_bits,
        pixel_bits,
        row_bits,
        image_tiles: image_tiles as u32,
        column_tiles: column_tiles as u32,
        ..Zeroable::zeroed()
    };
    for (class, taps) in product.classes.iter_mut().zip(&sorted) {
        let TapProduct { vertical, horizontal, .. } = *taps;
        let [across, down] = [(horizontal.pixels, pixels), (vertical.pixels, rows)]
            .map(|(pixels, of_tile)| (pixels as usize).div_ceil(of_tile));
        *class = PixelClass { vertical, horizontal, across: across as u32, first_tile: product.tiles };
        product.tiles += (down * across * image_tiles * column_tiles) as u32;
    }
    product
}
