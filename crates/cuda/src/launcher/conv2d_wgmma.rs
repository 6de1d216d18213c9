//! Convolutions of the Hopper tier: which it takes, and how they are launched.

use super::Context;
use super::epilogue::{PreluEpilogue, PreluGradientEpilogue, slope_sum};
use crate::driver::{Access, Swizzle, TensorMap};
use crate::launch::{Io, Kernel, Launch, Slice};
use crate::options::Precision;
use bytemuck::{Pod, Zeroable};
use sphereface_tensor::DType;
use sphereface_tensor::op::{Conv2dBackwardData, Conv2dGeometry};

/// What the kernels are compiled with.
pub(super) const TIER: &str = "TIER_WGMMA";
/// Threads of a block: a warpgroup that copies, and two that multiply.
const THREADS: u32 = 384;
/// The most blocks: a constant, so that every device sums in the same order.
pub(super) const BLOCKS: usize = 132;
/// The most in clusters that add up sums of theirs, all at the same time: graphics processing clusters of 16 or 18
/// multiprocessors have room for that many.
pub(super) const CLUSTERED_BLOCKS: usize = 128;
/// The most where the tier is forced.
pub(super) const FORCED_BLOCKS: usize = 2;
/// About how many cycles of an H100 a tile takes, its share of the rest included: of 64 to 64 channels; of 64 channels for
/// each row of taps and line of channels of the source.
const HALO_CYCLES: usize = 8000;
const WIDE_CYCLES: usize = 1333;
/// Rows of a tile of 64 to 64 channels.
const HALO_ROWS: usize = 2;
/// Columns of a tile of many channels, channels of half of it, blocks of a cluster, and clusters where the tier is forced.
const WIDE_COLUMNS: usize = 192;
const WIDE_HALF: usize = 64;
const WIDE_CLUSTER: usize = 2;
const WIDE_FORCED_CLUSTERS: usize = 2;
/// Slots that its ring of rows may have; its barriers and those of filters and results; these, filters, results and room to
/// align them.
const WIDE_MOST_SLOTS: usize = 8;
const WIDE_BARRIER_BYTES: usize = 16 * (WIDE_MOST_SLOTS + 8 + 2);
const WIDE_OTHER_BYTES: usize = WIDE_BARRIER_BYTES + (8 * WIDE_HALF + 2 * WIDE_COLUMNS) * LINE_BYTES + LINES_BYTES;
/// Bytes of a line in shared memory, 64 channels, and of the eight that a swizzle's pattern has.
pub(super) const LINE_BYTES: usize = 128;
pub(super) const LINES_BYTES: usize = 8 * LINE_BYTES;
/// What a block may have of shared memory on an H100.
pub(super) const MOST_SHARED_BYTES: usize = 227 * 1024;

/// `HaloProduct` of kernels/conv2d.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct HaloProduct {
    pub(super) height: i32,
    pub(super) width: i32,
    pub(super) tiles: u32,
    pub(super) operands: WgmmaOperands,
}

/// `WideProduct` of kernels/conv2d.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct WideProduct {
    pub(super) height: i32,
    pub(super) pixels: i32,
    pub(super) images: i32,
    pub(super) across: u32,
    pub(super) image_tiles: u32,
    pub(super) parts: u32,
    pub(super) inputs: i32,
    pub(super) results: u32,
    pub(super) channels: u32,
    pub(super) last_round: u32,
    pub(super) halved: u32,
    pub(super) wholes: u32,
    pub(super) count: u32,
    pub(super) slots: u32,
    pub(super) slot_bytes: u32,
    pub(super) operands: WgmmaOperands,
}

/// `WgmmaOperands` of kernels/conv2d.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct WgmmaOperands {
    pub(super) addend: u32,
    pub(super) pre: u32,
    pub(super) kept: u32,
}

/// How a kernel goes about a convolution.
#[derive(Clone, Copy, Debug)]
enum Product {
    /// 64 to 64 channels, filters in registers.
    Halo(HaloProduct),
    /// 128 or 64 channels of the result at a time, filters in shared memory.
    Wide(WideProduct),
}

/// Whether kernels of this tier know the filter, type and device, if they know the stride.
pub(super) fn knows(context: &Context, dtype: DType, g: &Conv2dGeometry) -> bool {
    let arithmetic = dtype == DType::Bf16 || context.options.precision == Precision::Tf32;
    context.wgmma && arithmetic && g.taps == [3; 2] && g.padding == 1
}

/// Channels of a line in shared memory.
pub(super) fn line_channels(dtype: DType) -> usize {
    LINE_BYTES / dtype.bytes()
}

/// Activations `[H, W, N, C]` in boxes of so many rows, pixels and images, and a line of channels.
pub(super) fn activations(
    dtype: DType,
    [height, width, batch, channels]: [usize; 4],
    [rows, pixels, images]: [usize; 3],
) -> TensorMap {
    let (row, pixel_bytes) = ((channels * dtype.bytes()) as u64, (channels * dtype.bytes() * batch) as u64);
    TensorMap {
        element: dtype,
        extents: [channels, batch, width, height].map(|extent| extent as u64).to_vec(),
        strides_bytes: vec![row, pixel_bytes, pixel_bytes * width as u64],
        box_extents: [line_channels(dtype), images, pixels, rows].map(|extent| extent as u64).to_vec(),
        steps: vec![],
        swizzle: Swizzle::Bytes128,
    }
}

/// A forward pass or a data gradient, as this tier makes it. Sizes are those of source and result.
#[derive(Clone, Copy, Debug)]
pub(super) struct Convolution {
    dtype: DType,
    height: usize,
    width: usize,
    batch: usize,
    /// Channels of the source and of the result.
    inputs: usize,
    results: usize,
    /// Of a row of a tile.
    pixels: usize,
    images: usize,
    /// Blocks of the launch.
    blocks: usize,
    product: Product,
}

impl Convolution {
    /// The forward pass of this convolution, or its data gradient, and about how many cycles it takes.
    pub(super) fn of(
        context: &Context,
        dtype: DType,
        g: &Conv2dGeometry,
        backward: bool,
    ) -> Option<(Convolution, usize)> {
        if !knows(context, dtype, g) || g.stride != 1 {
            return None;
        }
        let [inputs, results] = if backward { [g.outputs, g.inputs] } else { [g.inputs, g.outputs] };
        let forced = context.options.forced;
        // Where the tier is forced, some channels are left to tiles of images.
        let channels = if forced && dtype == DType::Bf16 { 2 * WIDE_HALF } else { WIDE_HALF };
        if dtype == DType::Bf16 && [inputs, results] == [64; 2] {
            let (found, rounds) = Convolution::halo(g, if forced { FORCED_BLOCKS } else { BLOCKS });
            Some((found, rounds * HALO_CYCLES))
        } else if inputs.is_multiple_of(line_channels(dtype)) && results.is_multiple_of(channels) {
            let clusters = if forced { WIDE_FORCED_CLUSTERS } else { BLOCKS / WIDE_CLUSTER };
            let (found, halves) = Convolution::wide(dtype, g, [inputs, results], clusters);
            let lines = inputs / line_channels(dtype) * g.height.min(3);
            Some((found, halves * lines * WIDE_CYCLES))
        } else {
            None
        }
    }

    /// 64 to 64 channels, with the number of tiles of the busiest block.
    fn halo(g: &Conv2dGeometry, most_blocks: usize) -> (Convolution, usize) {
        let &Conv2dGeometry { height, width, batch, .. } = g;
        let (pixels, images) = (16, 8);
        let tiles = width.div_ceil(pixels) * height.div_ceil(HALO_ROWS) * batch.div_ceil(images);
        let product = HaloProduct {
            height: height as i32,
            width: width as i32,
            tiles: tiles as u32,
            operands: WgmmaOperands::default(),
        };
        let product = Product::Halo(product);
        let (dtype, inputs, results, blocks) = (DType::Bf16, 64, 64, tiles.min(most_blocks));
        let found = Convolution { dtype, height, width, batch, inputs, results, pixels, images, blocks, product };
        (found, tiles.div_ceil(most_blocks))
    }

    /// Many channels, with the halves of tiles of the busiest block.
    fn wide(
        dtype: DType,
        g: &Conv2dGeometry,
        [inputs, results]: [usize; 2],
        most_clusters: usize,
    ) -> (Convolution, usize) {
        let &Conv2dGeometry { height, width, batch, .. } = g;
        // The row of columns that fits best; of those, the one with the smallest border.
        let columns = |pixels: &usize| width.next_multiple_of(*pixels) * batch.next_multiple_of(WIDE_COLUMNS / pixels);
        let pixels = [24, 12, 8, 6, 4, 3, 2].into_iter().min_by_key(columns).unwrap_or(24);
        let images = WIDE_COLUMNS / pixels;
        let [across, image_tiles] = [width.div_ceil(pixels), batch.div_ceil(images)];
        let parts = height * across * image_tiles;
        let whole = results.is_multiple_of(2 * WIDE_HALF);
        let channels = if whole { 2 * WIDE_HALF } else { WIDE_HALF };
        let items = parts.div_ceil(WIDE_CLUSTER) * (results / channels);
        // Of the last round's tiles as many become two as clusters would be idle.
        let last = if whole { items % most_clusters } else { 0 };
        let halved = last.min(most_clusters - last);
        let (wholes, count) = (if whole { items - halved } else { 0 }, items + halved);
        let halves = (0..count).step_by(most_clusters).map(|at| if at < wholes { 2 } else { 1 }).sum();
        let slot_bytes = (pixels + 2) * images * LINE_BYTES;
        let slots = ((MOST_SHARED_BYTES - WIDE_OTHER_BYTES) / slot_bytes).min(WIDE_MOST_SLOTS);
        let product = WideProduct {
            height: height as i32,
            pixels: pixels as i32,
            images: images as i32,
            across: across as u32,
            image_tiles: image_tiles as u32,
            parts: parts as u32,
            inputs: inputs as i32,
            results: results as u32,
            channels: channels as u32,
            last_round: (items - last) as u32,
            halved: halved as u32,
            wholes: wholes as u32,
            count: count as u32,
            slots: slots as u32,
            slot_bytes: slot_bytes as u32,
            operands: WgmmaOperands::default(),
        };
        let product = Product::Wide(product);
        let blocks = count.min(most_clusters) * WIDE_CLUSTER;
        (Convolution { dtype, height, width, batch, inputs, results, pixels, images, blocks, product }, halves)
    }

    /// Parts of the gradient of the slopes: of each row of a block, or of a tile.
    fn slope_parts(&self) -> usize {
        match self.product {
            Product::Halo(_) => self.blocks * HALO_ROWS,
            Product::Wide(wide) => wide.parts as usize,
        }
    }

    fn shared_bytes(&self) -> usize {
        match self.product {
            // Two patches, and two rows of results for each consumer.
            Product::Halo(_) => {
                (2 * (HALO_ROWS + 2) * (self.pixels + 2) + 2 * HALO_ROWS * self.pixels + 1) * LINES_BYTES
            }
            Product::Wide(wide) => (wide.slots * wide.slot_bytes) as usize + WIDE_OTHER_BYTES - WIDE_BARRIER_BYTES,
        }
    }

    /// Activations in boxes of so many rows and pixels.
    fn activations(&self, channels: usize, rows: usize, pixels: usize) -> TensorMap {
        activations(self.dtype, [self.height, self.width, self.batch, channels], [rows, pixels, self.images])
    }

    /// A launch with what both passes read first: the filter as `[9 · lines, row]`.
    fn launch(&self, pass: &str, [source, filter]: [Slice; 2], [lines, row]: [usize; 2]) -> Launch {
        // The kernel's name, rows of the source and of the filter that one copy brings.
        let (kernel, rows, filter_rows) = match self.product {
            Product::Halo(_) => ("64", HALO_ROWS + 2, 192),
            Product::Wide(_) => ("wide", 1, WIDE_HALF as u64),
        };
        let filter_map = TensorMap {
            element: self.dtype,
            extents: vec![row as u64, (9 * lines) as u64],
            strides_bytes: vec![(row * self.dtype.bytes()) as u64],
            box_extents: vec![line_channels(self.dtype) as u64, filter_rows],
            steps: vec![],
            swizzle: Swizzle::Bytes128,
        };
        let element = if self.dtype == DType::Bf16 { "bf16" } else { "tf32" };
        Launch::new("conv2d", format!("conv2d_{pass}_wgmma_{kernel}_{element}"))
            .define(TIER.to_owned())
            .grid([self.blocks as u32, 1, 1])
            .block(THREADS)
            .shared(self.shared_bytes() as u32)
            .tensor(Some(source), Access::Read, &self.activations(self.inputs, rows, self.pixels + 2))
            .tensor(Some(filter), Access::Read, &filter_map)
    }

    /// Adds the sizes, and which operands there are.
    fn sizes(&self, launch: Launch, [addend, pre, kept]: [bool; 3]) -> Launch {
        let operands = WgmmaOperands { addend: addend.into(), pre: pre.into(), kept: kept.into() };
        match self.product {
            Product::Halo(halo) => launch.value(HaloProduct { operands, ..halo }),
            Product::Wide(wide) => launch.value(WideProduct { operands, ..wide }),
        }
    }

    /// Bytes of the filter with inputs and outputs exchanged, which the forward pass in TF32 reads.
    pub(super) fn forward_workspace_bytes(&self) -> u64 {
        if self.dtype == DType::Bf16 { 0 } else { (4 * 9 * self.inputs * self.results) as u64 }
    }

    pub(super) fn forward(&self, io: &Io, epilogue: PreluEpilogue) -> Vec<Launch> {
        let &Convolution { inputs, results, .. } = self;
        let (x, filter) = (io.reads[0], io.reads[1]);
        let row = self.activations(results, 1, self.pixels);
        let finished = |launch: Launch| {
            let launch = launch
                .read_if(epilogue.bias)
                .read_if(epilogue.slope)
                .tensor(epilogue.addend, Access::Read, &row)
                .tensor(epilogue.kept, Access::Write, &row)
                .tensor(Some(epilogue.out), Access::Write, &row);
            self.sizes(launch, [epilogue.addend.is_some(), false, epilogue.kept.is_some()])
        };
        if self.dtype == DType::Bf16 {
            return vec![finished(self.launch("forward", [x, filter], [inputs, results]))];
        }
        vec![
            exchanged(filter, io.workspace, [inputs, results]),
            finished(self.launch("forward", [x, io.workspace], [results, inputs])),
        ]
    }

    pub(super) fn backward_data(self, op: Conv2dBackwardData) -> Kernel {
        let kernel = Kernel::new(0, move |io| {
            let epilogue = PreluGradientEpilogue::of(op, io);
            let row = self.activations(self.results, 1, self.pixels);
            let launch = self
                .launch("backward_data", [io.reads[0], io.reads[1]], [self.results, self.inputs])
                .tensor(epilogue.addend, Access::Read, &row)
                .tensor(epilogue.pre, Access::Read, &row)
                .read_if(epilogue.slope)
                .tensor(epilogue.kept, Access::Write, &row)
                .tensor(Some(epilogue.out), Access::Write, &row)
                .write(epilogue.column_sums);
            let operands = [epilogue.addend.is_some(), epilogue.pre.is_some(), epilogue.kept.is_some()];
            vec![self.sizes(launch, operands)]
        });
        kernel.with_sums(slope_sum(op, self.slope_parts(), self.results))
    }
}

/// Writes a filter in fp32 with inputs and outputs exchanged, rounded to TF32.
pub(super) fn exchanged(filter: Slice, to: Slice, [inputs, results]: [usize; 2]) -> Launch {
    Launch::new("conv2d", "conv2d_exchange_wgmma_tf32")
        .define(TIER.to_owned())
        .grid([(inputs / 32) as u32, (results / 32) as u32, 9])
        .block(256)
        .read(filter)
        .write(to)
        .value(inputs as u32)
        .value(results as u32)
}
