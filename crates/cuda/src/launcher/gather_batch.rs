//! Takes the images of one batch from the data set.

use crate::launch::{Kernel, Launch, MOST_BLOCKS_Y, Operands, blocks};
use bytemuck::{Pod, Zeroable};
use sphereface_tensor::op::GatherBatch;

const THREADS: u32 = 256;
/// Rows of the batch that a block takes: a lane each.
const ROWS: u32 = 32;

/// `struct Gather` of gather_batch.cu.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Gather {
    pub(super) seed: u64,
    pub(super) images: u32,
    pub(super) height: u32,
    pub(super) width: u32,
    pub(super) channels: u32,
    pub(super) batch: u32,
    pub(super) shuffle: u32,
    pub(super) shift: u32,
    pub(super) mirror: u32,
    pub(super) offset: f32,
    pub(super) factor: f32,
}

pub(super) fn gather_batch(op: GatherBatch, operands: &Operands<'_>) -> Kernel {
    let [height, width, channels] = op.image.map(|size| size as u32);
    let gather = Gather {
        seed: op.seed,
        images: operands.reads[1].shape.elements() as u32,
        height,
        width,
        channels,
        batch: op.batch as u32,
        shuffle: op.shuffle.into(),
        shift: op.augmentation.shift,
        mirror: op.augmentation.mirror.into(),
        offset: op.offset,
        factor: op.factor,
    };
    Kernel::new(0, move |io| {
        let rows = gather.batch.div_ceil(ROWS);
        // About four pixels a warp: the order's permutation costs as much.
        let pixels = blocks((gather.height * gather.width) as usize, THREADS / ROWS * 4, MOST_BLOCKS_Y);
        let launch = Launch::new("gather_batch", "gather_batch")
            .grid([rows, pixels, 1])
            .block(THREADS)
            .read(io.reads[0])
            .read(io.reads[1])
            .read(io.reads[2])
            .write(io.writes[0])
            .write(io.writes[1])
            .write(io.writes[2])
            .value(gather);
        vec![launch]
    })
}
