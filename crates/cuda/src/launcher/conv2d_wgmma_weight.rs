//! The weight gradient of the Hopper tier.

use super::Context;
use super::conv2d_wgmma::{
    BLOCKS, CLUSTERED_BLOCKS, LINE_BYTES, LINES_BYTES, MOST_SHARED_BYTES, TIER, activations, knows,
};
use super::mma::TERMS;
use crate::driver::Access;
use crate::launch::{Io, Launch, PartSum, Slice};
use bytemuck::{Pod, Zeroable};
use sphereface_tensor::DType;
use sphereface_tensor::op::Conv2dGeometry;

/// Three warpgroups that multiply, one that copies.
const THREADS: u32 = 512;
/// Pixels times images of a step of the reduction.
const STEP: usize = 128;
/// Channels of input and output that a block has.
const CHANNELS: usize = 64;
/// Fewest steps that are worth a block of their own.
const STEPS_OF_PART: usize = 2;
/// Slots of the rings of d_y and, at most, of x; bytes of their barriers.
const D_Y_SLOTS: usize = 3;
const MOST_SLOTS: usize = 8;
const BARRIER_BYTES: usize = 16 * (D_Y_SLOTS + MOST_SLOTS);

/// `WeightTiles` of kernels/conv2d.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct WeightTiles {
    pub(super) height: i32,
    pub(super) source_height: i32,
    pub(super) stride: i32,
    pub(super) pixels: i32,
    pub(super) images: i32,
    pub(super) across: u32,
    pub(super) steps: u32,
    pub(super) steps_of_part: u32,
    pub(super) inputs: i32,
    pub(super) outputs: i32,
    pub(super) slots: u32,
}

/// Clusters whose blocks add up what they have, of parts of so many steps at most: with more, the time of a second round of
/// blocks, where a device has no room for as many clusters, outweighs that of the sum.
const CLUSTERS: [usize; 3] = [8, 4, 2];
const CLUSTERED_STEPS: usize = 8;

/// How this tier makes the gradient of a filter.
#[derive(Clone, Copy, Debug)]
pub(super) struct WeightGradient {
    /// Pixels in a row of x and of d_y.
    widths: [usize; 2],
    batch: usize,
    /// Parts that are left, each of a cluster of so many blocks.
    pub(super) splits: usize,
    cluster: usize,
    tiles: WeightTiles,
}

/// Blocks of a cluster, for so many parts of so many blocks each: as few as possible are left, and few blocks idle.
fn cluster(splits: usize, blocks: usize, steps_of_part: usize) -> usize {
    let fits = |cluster: &usize| {
        splits > 1 && steps_of_part <= CLUSTERED_STEPS && splits.next_multiple_of(*cluster) * blocks <= CLUSTERED_BLOCKS
    };
    let left_and_idle = |cluster: &usize| splits.div_ceil(*cluster) + splits.next_multiple_of(*cluster) - splits;
    CLUSTERS.into_iter().filter(fits).min_by_key(left_and_idle).unwrap_or(1)
}

impl WeightGradient {
    /// The gradient of this convolution's filter, if this tier takes it: where at least half of what is multiplied in full
    /// rounds of the device is of use, or this tier is forced.
    pub(super) fn of(context: &Context, dtype: DType, g: &Conv2dGeometry) -> Option<WeightGradient> {
        let &Conv2dGeometry { output_height: height, output_width: width, batch, inputs, outputs, .. } = g;
        if dtype != DType::Bf16
            || !knows(context, dtype, g)
            || g.stride > 2
            || ![inputs, outputs].iter().all(|channels| channels.is_multiple_of(CHANNELS))
        {
            return None;
        }
        let columns = |pixels: &usize| width.next_multiple_of(*pixels) * batch.next_multiple_of(STEP / pixels);
        // With a stride, neighbours in a step would be none in memory.
        let candidates: &[usize] = if g.stride == 1 { &[16, 8, 4, 2] } else { &[1] };
        let pixels = candidates.iter().copied().min_by_key(columns).unwrap_or(1);
        let images = STEP / pixels;
        let across = width.div_ceil(pixels);
        let steps = across * batch.div_ceil(images) * height;
        let blocks = inputs / CHANNELS * (outputs / CHANNELS);
        let needed = (steps * STEP).div_ceil(TERMS);
        let clustered = steps * blocks <= CLUSTERED_STEPS * CLUSTERED_BLOCKS;
        let most_blocks = if clustered { CLUSTERED_BLOCKS } else { BLOCKS };
        let useful = (most_blocks / blocks).min(steps / STEPS_OF_PART);
        let steps_of_part = steps.div_ceil(needed.max(useful).max(1));
        let splits = steps.div_ceil(steps_of_part);
        let multiplied = (blocks * splits).next_multiple_of(BLOCKS) * steps_of_part * STEP;
        let slots = (MOST_SHARED_BYTES - BARRIER_BYTES - LINES_BYTES - D_Y_SLOTS * STEP * LINE_BYTES)
            / ((pixels + 2) * images * LINE_BYTES);
        let tiles = WeightTiles {
            height: height as i32,
            source_height: g.height as i32,
            stride: g.stride as i32,
            pixels: pixels as i32,
            images: images as i32,
            across: across as u32,
            steps: steps as u32,
            steps_of_part: steps_of_part as u32,
            inputs: inputs as i32,
            outputs: outputs as i32,
            slots: slots.min(MOST_SLOTS) as u32,
        };
        let worth = 2 * height * width * batch * blocks >= multiplied;
        let cluster = cluster(splits, blocks, steps_of_part);
        let splits = splits.div_ceil(cluster);
        (context.options.forced || worth).then_some(WeightGradient {
            widths: [g.width, width],
            batch,
            splits,
            cluster,
            tiles,
        })
    }

    /// The gradient of the bias as parts of the written operand of this number, if there are several: one of each block.
    pub(super) fn bias_parts(&self, write: usize) -> Option<PartSum> {
        let parts = self.splits * self.cluster;
        (parts > 1).then_some(PartSum { parts, columns: self.tiles.outputs as usize, write })
    }

    /// The launch that writes the parts, `[splits, R, S, C, K]`, to `out`, and those of the gradient of the bias.
    pub(super) fn launch(&self, io: &Io, out: Slice, bias: Option<Slice>) -> Launch {
        let WeightTiles { height, source_height, pixels, images, inputs, outputs, slots, .. } = self.tiles;
        let [height, source_height, pixels, images] = [height, source_height, pixels, images].map(|size| size as usize);
        let [inputs, outputs] = [inputs, outputs].map(|channels| channels as usize);
        let map = |[height, width, channels]: [usize; 3], pixels: usize| {
            activations(DType::Bf16, [height, width, self.batch, channels], [1, pixels, images])
        };
        let [source_width, width] = self.widths;
        let row_bytes = (pixels + 2) * images * LINE_BYTES;
        let shared_bytes = slots as usize * row_bytes + D_Y_SLOTS * STEP * LINE_BYTES + LINES_BYTES;
        let algorithm = if self.cluster > 1 { format!("wgmma_cluster{}", self.cluster) } else { "wgmma".into() };
        Launch::new("conv2d", format!("conv2d_backward_weight_{algorithm}_bf16"))
            .define(TIER.to_owned())
            .grid([(inputs / CHANNELS * (outputs / CHANNELS)) as u32, (self.splits * self.cluster) as u32, 1])
            .block(THREADS)
            .shared(shared_bytes as u32)
            .tensor(Some(io.reads[0]), Access::Read, &map([source_height, source_width, inputs], pixels + 2))
            .tensor(Some(io.reads[1]), Access::Read, &map([height, width, outputs], pixels))
            .write(out)
            .write_if(bias)
            .value(self.tiles)
    }
}
