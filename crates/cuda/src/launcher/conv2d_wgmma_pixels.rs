//! Convolutions of the Hopper tier whose tiles are images of one pixel, or of a few: small images, and strides.

use super::Context;
use super::column_sum::ColumnSum;
use super::conv2d::TapProduct;
use super::conv2d_wgmma::{FORCED_BLOCKS, LINE_BYTES, LINES_BYTES, TIER, activations, exchanged, knows, line_channels};
use super::epilogue::{PreluEpilogue, PreluGradientEpilogue};
use super::mma::PROCESSORS;
use crate::driver::{Access, Swizzle, TensorMap};
use crate::launch::{Io, Kernel, Launch, Slice};
use bytemuck::{Pod, Zeroable};
use sphereface_tensor::DType;
use sphereface_tensor::op::{Conv2dBackwardData, Conv2dGeometry};

/// Threads of a block: a warpgroup that copies, two that multiply, and their warps.
const THREADS: u32 = 384;
pub(super) const CONSUMER_WARPS: usize = 8;
/// Rows of a tile.
const ROWS: usize = 128;
/// Columns of the tiles there are, and stages of their rings.
const TILES: [(usize, usize); 2] = [(128, 6), (64, 8)];
/// Bytes of a warp to exchange results.
const EXCHANGE_BYTES: usize = 4096;

/// `PixelProduct` of kernels/conv2d.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct PixelProduct {
    pub(super) taps: TapProduct,
    pub(super) images: i32,
    pub(super) pixels: i32,
    pub(super) across: u32,
    pub(super) image_tiles: u32,
    pub(super) column_tiles: u32,
    pub(super) tiles: u32,
}

/// How this tier makes a product of taps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pixels {
    dtype: DType,
    /// Columns and stages of a tile.
    columns: usize,
    stages: usize,
    images: usize,
    pixels: usize,
    /// Lines of the filter that a copy brings, and whether they lie along the reduction.
    along: bool,
    /// The most blocks.
    blocks: usize,
    /// Channels of the result.
    results: usize,
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
        if !knows(context, dtype, g) || !channels {
            return None;
        }
        // All images of several neighbours, if they make up a tile and neighbours see neighbours.
        let several = g.stride == 1 && g.batch < ROWS && ROWS.is_multiple_of(g.batch);
        let images = if several { g.batch } else { ROWS };
        let along = backward || dtype == DType::F32;
        let candidates = TILES.into_iter().filter(|(columns, _)| results.is_multiple_of(*columns));
        let candidates = candidates.map(|(columns, stages)| {
            let blocks = if context.options.forced { FORCED_BLOCKS } else { PROCESSORS };
            let found = Pixels { dtype, columns, stages, images, pixels: ROWS / images, along, blocks, results };
            (found, products.iter().map(|product| found.cycles(product)).sum())
        });
        // Where the tier is forced, the widest.
        candidates.min_by_key(|(_, cycles)| if context.options.forced { 0 } else { *cycles })
    }

    fn product(&self, taps: &TapProduct) -> PixelProduct {
        let [across, image_tiles] =
            [(taps.horizontal.pixels as usize).div_ceil(self.pixels), (taps.batch as usize).div_ceil(self.images)];
        let column_tiles = self.results / self.columns;
        PixelProduct {
            taps: *taps,
            images: self.images as i32,
            pixels: self.pixels as i32,
            across: across as u32,
            image_tiles: image_tiles as u32,
            column_tiles: column_tiles as u32,
            tiles: (taps.vertical.pixels as usize * across * image_tiles * column_tiles) as u32,
        }
    }

    /// Rows of the sums for the gradient of the slopes.
    fn slope_parts(&self, taps: &TapProduct) -> usize {
        let product = self.product(taps);
        (product.tiles / product.column_tiles) as usize * CONSUMER_WARPS
    }

    /// Bounded by what tensor cores multiply, by what the second-level cache gives a multiprocessor, or by what it gives all
    /// of them, in bytes a cycle of an H100.
    fn cycles(&self, taps: &TapProduct) -> usize {
        const MULTIPLY_ADDS: usize = 2048;
        const CACHE_BYTES: usize = 3200;
        const CACHE_BYTES_OF_ONE: usize = 60;
        const FILL: usize = 3000;
        let tiles = self.product(taps).tiles as usize;
        let blocks = tiles.min(PROCESSORS);
        // TF32 has half the channels in a line, and half the rate.
        let multiplied = ROWS * self.columns * (LINE_BYTES / 2) / MULTIPLY_ADDS;
        let copied = (ROWS + self.columns) * LINE_BYTES / CACHE_BYTES_OF_ONE.min(CACHE_BYTES / blocks);
        let lines = taps.taps() * taps.length as usize / line_channels(self.dtype);
        tiles.div_ceil(PROCESSORS) * lines * multiplied.max(copied) + FILL
    }

    fn launch(&self, pass: &str, taps: &TapProduct, source: Slice, filter: Slice) -> Launch {
        let product = self.product(taps);
        let (length, results) = (taps.length as usize, self.results);
        let sizes = [taps.vertical.source as usize, taps.horizontal.source as usize, taps.batch as usize, length];
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
            .grid([(product.tiles as usize).min(self.blocks) as u32, 1, 1])
            .block(THREADS)
            .shared(shared as u32)
            .tensor(Some(source), Access::Read, &activations(self.dtype, sizes, [1, self.pixels, self.images]))
            .tensor(Some(filter), Access::Read, &filter_map)
    }

    /// Bytes of the filter with inputs and outputs exchanged, which the forward pass in TF32 reads.
    pub(super) fn forward_workspace_bytes(&self, taps: &TapProduct) -> u64 {
        if self.dtype == DType::Bf16 { 0 } else { (4 * 9 * taps.length as usize * self.results) as u64 }
    }

    pub(super) fn forward(&self, taps: &TapProduct, io: &Io, epilogue: PreluEpilogue) -> Vec<Launch> {
        let (x, filter) = (io.reads[0], io.reads[1]);
        let exchange =
            (self.dtype == DType::F32).then(|| exchanged(filter, io.workspace, [taps.length as usize, self.results]));
        let filter = if exchange.is_some() { io.workspace } else { filter };
        let product = epilogue.arguments(self.launch("forward", taps, x, filter)).value(self.product(taps));
        exchange.into_iter().chain([product]).collect()
    }

    pub(super) fn backward_data(self, op: Conv2dBackwardData, products: Vec<TapProduct>) -> Kernel {
        let parts: Vec<usize> = products.iter().map(|taps| self.slope_parts(taps)).collect();
        let slopes = ColumnSum { rows: parts.iter().sum(), columns: self.results };
        let bytes = move |rows: usize| if op.slope { 4 * (rows * slopes.columns) as u64 } else { 0 };
        let chunk_bytes = if op.slope { slopes.workspace_bytes() } else { 0 };
        Kernel::new(bytes(slopes.rows) + chunk_bytes, move |io| {
            let column_sums = io.workspace.part(0, bytes(slopes.rows));
            let epilogue = PreluGradientEpilogue::of(op, io, column_sums);
            let mut before = 0;
            let launch = |(index, (taps, &rows)): (usize, (&TapProduct, &usize))| {
                let column_sums = column_sums.part(bytes(before), bytes(rows));
                before += rows;
                let launch = self.launch("backward_data", taps, io.reads[0], io.reads[1]);
                // The pixels of one class lie between those of the others: only the first finds nothing written.
                let epilogue = PreluGradientEpilogue { column_sums, ..epilogue };
                epilogue.arguments(launch, index == 0).value(self.product(taps))
            };
            let mut launches: Vec<Launch> = products.iter().zip(&parts).enumerate().map(launch).collect();
            if op.slope {
                let d_slope = io.writes[1 + usize::from(op.keep)];
                let chunks = io.workspace.part(bytes(slopes.rows), chunk_bytes);
                launches.extend(slopes.launches("conv2d", DType::F32, [column_sums, chunks, d_slope]));
            }
            launches
        })
    }
}
