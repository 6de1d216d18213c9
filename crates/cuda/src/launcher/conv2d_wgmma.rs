//! Convolutions of the Hopper tier: which it takes, and how they are launched.

use super::Context;
use super::column_sum::ColumnSum;
use super::epilogue::{PreluEpilogue, PreluGradientEpilogue};
use crate::driver::{Access, Swizzle, TensorMap};
use crate::launch::{Io, Kernel, Launch, Slice};
use bytemuck::{Pod, Zeroable};
use sphereface_tensor::DType;
use sphereface_tensor::op::{Conv2dBackwardData, Conv2dGeometry};

/// Channels of source and result.
const CHANNELS: usize = 64;
/// Images, pixels of a row and rows of a tile.
const IMAGES: usize = 8;
const PIXELS: usize = 16;
const ROWS: usize = 2;
const THREADS: u32 = 384;
/// Rows of a box of the filter.
const FILTER_ROWS: u64 = 192;
/// Bytes of 64 channels of the images of a tile, a pixel: a pattern of the swizzle.
const PIXEL_BYTES: usize = IMAGES * CHANNELS * 2;
/// Two patches, and two rows of results for each consumer; what it takes to align them.
const SHARED_BYTES: usize = (2 * (ROWS + 2) * (PIXELS + 2) + 2 * ROWS * PIXELS + 1) * PIXEL_BYTES;
/// The most blocks: a constant, so that every device sums in the same order.
const BLOCKS: usize = 132;

/// `HaloProduct` of kernels/conv2d.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct HaloProduct {
    pub(super) height: i32,
    pub(super) width: i32,
    pub(super) tiles: u32,
    pub(super) addend: u32,
    pub(super) pre: u32,
    pub(super) kept: u32,
}

/// A convolution that keeps its filters in registers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Halo {
    height: usize,
    width: usize,
    batch: usize,
}

impl Halo {
    /// The convolution as this tier makes it, if it takes it: at least half of what it multiplies must be of use.
    pub(super) fn of(context: &Context, dtype: DType, g: &Conv2dGeometry) -> Option<Halo> {
        let fits = [g.inputs, g.outputs] == [CHANNELS; 2] && g.taps == [3; 2] && (g.stride, g.padding) == (1, 1);
        let halo = Halo { height: g.height, width: g.width, batch: g.batch };
        let worth = 2 * g.height * g.width * g.batch >= halo.tiles() * ROWS * PIXELS * IMAGES;
        (context.wgmma && dtype == DType::Bf16 && fits && worth).then_some(halo)
    }

    fn tiles(&self) -> usize {
        self.width.div_ceil(PIXELS) * self.height.div_ceil(ROWS) * self.batch.div_ceil(IMAGES)
    }

    fn blocks(&self) -> usize {
        self.tiles().min(BLOCKS)
    }

    /// Activations in boxes of so many rows and pixels.
    fn activations(&self, rows: usize, pixels: usize) -> TensorMap {
        let pixel_bytes = (CHANNELS * 2 * self.batch) as u64;
        TensorMap {
            element: DType::Bf16,
            extents: [CHANNELS, self.batch, self.width, self.height].map(|extent| extent as u64).to_vec(),
            strides_bytes: vec![(CHANNELS * 2) as u64, pixel_bytes, pixel_bytes * self.width as u64],
            box_extents: [CHANNELS, IMAGES, pixels, rows].map(|extent| extent as u64).to_vec(),
            swizzle: Swizzle::Bytes128,
        }
    }

    /// A launch with what both passes read first.
    fn launch(&self, kernel: &str, source: Slice, filter: Slice) -> Launch {
        let filter_map = TensorMap {
            element: DType::Bf16,
            extents: vec![CHANNELS as u64, (9 * CHANNELS) as u64],
            strides_bytes: vec![(CHANNELS * 2) as u64],
            box_extents: vec![CHANNELS as u64, FILTER_ROWS],
            swizzle: Swizzle::Bytes128,
        };
        Launch::new("conv2d", kernel)
            .define("TIER_WGMMA".to_owned())
            .grid([self.blocks() as u32, 1, 1])
            .block(THREADS)
            .shared(SHARED_BYTES as u32)
            .tensor(Some(source), Access::Read, &self.activations(ROWS + 2, PIXELS + 2))
            .tensor(Some(filter), Access::Read, &filter_map)
    }

    fn product(&self, [addend, pre, kept]: [bool; 3]) -> HaloProduct {
        HaloProduct {
            height: self.height as i32,
            width: self.width as i32,
            tiles: self.tiles() as u32,
            addend: addend.into(),
            pre: pre.into(),
            kept: kept.into(),
        }
    }

    pub(super) fn forward(&self, io: &Io, epilogue: PreluEpilogue) -> Launch {
        let row = self.activations(1, PIXELS);
        self.launch("conv2d_forward_wgmma_64_bf16", io.reads[0], io.reads[1])
            .read_if(epilogue.bias)
            .read_if(epilogue.slope)
            .tensor(epilogue.addend, Access::Read, &row)
            .tensor(epilogue.kept, Access::Write, &row)
            .tensor(Some(epilogue.out), Access::Write, &row)
            .value(self.product([epilogue.addend.is_some(), false, epilogue.kept.is_some()]))
    }

    pub(super) fn backward_data(self, op: Conv2dBackwardData) -> Kernel {
        // Every consumer of every block leaves its part of the gradient of the slopes.
        let slopes = ColumnSum { rows: self.blocks() * ROWS, columns: CHANNELS };
        let sums_bytes = if op.slope { 4 * (slopes.rows * CHANNELS) as u64 } else { 0 };
        let chunk_bytes = if op.slope { slopes.workspace_bytes() } else { 0 };
        Kernel::new(sums_bytes + chunk_bytes, move |io| {
            let column_sums = io.workspace.part(0, sums_bytes);
            let epilogue = PreluGradientEpilogue::of(op, io, column_sums);
            let row = self.activations(1, PIXELS);
            let launch = self
                .launch("conv2d_backward_data_wgmma_64_bf16", io.reads[0], io.reads[1])
                .tensor(epilogue.addend, Access::Read, &row)
                .tensor(epilogue.pre, Access::Read, &row)
                .read_if(epilogue.slope)
                .tensor(epilogue.kept, Access::Write, &row)
                .tensor(Some(epilogue.out), Access::Write, &row)
                .write(column_sums)
                .value(self.product([epilogue.addend.is_some(), epilogue.pre.is_some(), epilogue.kept.is_some()]));
            let mut launches = vec![launch];
            if op.slope {
                let d_slope = io.writes[1 + usize::from(op.keep)];
                let slices = [column_sums, io.workspace.part(sums_bytes, chunk_bytes), d_slope];
                launches.extend(slopes.launches("conv2d", DType::F32, slices));
            }
            launches
        })
    }
}
