//! Convolutions of the Hopper tier whose tiles are images of one pixel, or of a few: small images, and strides.

use super::Context;
use super::conv2d::{TapAxis, TapProduct};
use super::conv2d_wgmma::{FORCED_BLOCKS, LINE_BYTES, LINES_BYTES, TIER, activations, exchanged, knows, line_channels};
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
/// Columns of the tiles there are, and stages of their rings.
const TILES: [(usize, usize); 2] = [(128, 6), (64, 8)];
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
    pub(super) images: i32,
    pub(super) pixels: i32,
    pub(super) image_bits: u32,
    pub(super) image_tiles: u32,
    pub(super) column_tiles: u32,
    pub(super) tiles: u32,
}

/// How this tier makes the products of taps of a convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pixels {
    dtype: DType,
    /// Columns and stages of a tile.
    columns: usize,
    stages: usize,
    /// Whether the lines of the filter that are copied lie along the reduction.
    along: bool,
    /// The most blocks.
    blocks: usize,
    product: PixelProduct,
}

impl Pixels {
    /// For these products of taps, one for each class of pixels modulo the stride, and about how many cycles they take: if
    /// half of the rows of tiles are of use, or the tier is forced.
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
        let candidates = TILES.into_iter().filter(|(columns, _)| results.is_multiple_of(*columns));
        let candidates = candidates.map(|(columns, stages)| {
            let product = product(g, products, columns);
            let found = Pixels { dtype, columns, stages, along, blocks, product };
            (found, found.cycles())
        });
        let rows: usize = products.iter().map(TapProduct::rows).sum();
        let candidates = candidates.filter(|(found, _)| context.options.forced || 2 * rows >= found.row_tiles() * ROWS);
        // Where the tier is forced, the widest.
        candidates.min_by_key(|(_, cycles)| if context.options.forced { 0 } else { *cycles })
    }

    /// Tiles of rows, each of which leaves its part of the gradient of the slopes.
    fn row_tiles(&self) -> usize {
        (self.product.tiles / self.product.column_tiles) as usize
    }

    /// Bounded by what tensor cores multiply, by what the second-level cache gives a multiprocessor, or by what it gives all
    /// of them, in bytes a cycle of an H100.
    fn cycles(&self) -> usize {
        const MULTIPLY_ADDS: usize = 2048;
        const CACHE_BYTES: usize = 3200;
        const CACHE_BYTES_OF_ONE: usize = 60;
        let PixelProduct { classes, class_count, tiles, length, .. } = self.product;
        let tiles = tiles as usize;
        let blocks = tiles.min(PROCESSORS);
        // TF32 has half the channels in a line, and half the rate.
        let multiplied = ROWS * self.columns * (LINE_BYTES / 2) / MULTIPLY_ADDS;
        let copied = (ROWS + self.columns) * LINE_BYTES / CACHE_BYTES_OF_ONE.min(CACHE_BYTES / blocks);
        // No pixel sees more taps than the source has rows and columns.
        let of_axis = |axis: &TapAxis| axis.taps.min(axis.source);
        let taps = classes[..class_count as usize].iter();
        let taps = taps.map(|class| of_axis(&class.vertical) * of_axis(&class.horizontal));
        let lines = taps.max().unwrap_or(0) as usize * length as usize / line_channels(self.dtype);
        tiles.div_ceil(PROCESSORS) * lines * multiplied.max(copied)
    }

    fn launch(&self, pass: &str, source: Slice, filter: Slice) -> Launch {
        let PixelProduct { classes: [PixelClass { vertical, horizontal, .. }, ..], images, pixels, tiles, .. } =
            self.product;
        let PixelProduct { batch, length, columns, .. } = self.product;
        let sizes = [vertical.source, horizontal.source, batch, length].map(|size| size as usize);
        let [length, results] = [length, columns].map(|channels| channels as usize);
        let [lines, row] = if self.along { [results, length] } else { [length, results] };
        let filter_map = TensorMap {
            element: self.dtype,
            extents: vec![row as u64, (9 * lines) as u64],
            strides_bytes: vec![(row * self.dtype.bytes()) as u64],
            box_extents: vec![line_channels(self.dtype) as u64, if self.along { self.columns as u64 } else { 64 }],
            swizzle: Swizzle::Bytes128,
        };
        let shared = self.stages * (ROWS + self.columns) * LINE_BYTES + CONSUMER_WARPS * EXCHANGE_BYTES + LINES_BYTES;
        let element = if self.dtype == DType::Bf16 { "bf16" } else { "tf32" };
        Launch::new("conv2d", format!("conv2d_{pass}_wgmma_128x{}_{element}", self.columns))
            .define(TIER.to_owned())
            .grid([(tiles as usize).min(self.blocks) as u32, 1, 1])
            .block(THREADS)
            .shared(shared as u32)
            .tensor(Some(source), Access::Read, &activations(self.dtype, sizes, [1, pixels as usize, images as usize]))
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
        kernel.with_sums(slope_sum(op, self.row_tiles(), self.product.columns as usize))
    }
}

/// These products of taps in tiles of so many columns, those with most taps first.
fn product(g: &Conv2dGeometry, products: &[TapProduct], columns: usize) -> PixelProduct {
    // All images of several pixels, if they make up a tile and those see neighbours.
    let several = products[0].horizontal.step == 1 && g.batch < ROWS && ROWS.is_multiple_of(g.batch);
    let images = if several { g.batch } else { ROWS };
    let pixels = ROWS / images;
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
        images: images as i32,
        pixels: pixels as i32,
        image_bits: images.ilog2(),
        image_tiles: image_tiles as u32,
        column_tiles: column_tiles as u32,
        ..Zeroable::zeroed()
    };
    for (class, taps) in product.classes.iter_mut().zip(&sorted) {
        let TapProduct { vertical, horizontal, .. } = *taps;
        let across = (horizontal.pixels as usize).div_ceil(pixels);
        *class = PixelClass { vertical, horizontal, across: across as u32, first_tile: product.tiles };
        product.tiles += (vertical.pixels as usize * across * image_tiles * column_tiles) as u32;
    }
    product
}
