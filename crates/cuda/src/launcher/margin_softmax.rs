//! The fused head.

use crate::launch::{Io, Kernel, Launch, Operands, Slice};
use bytemuck::{Pod, Zeroable};
use sphereface_tensor::Error;
use sphereface_tensor::op::{MARGIN_PARAMETERS, MarginSoftmax, Scale};

/// `Head` of `kernels/margin_softmax.cuh`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Head {
    batch: u32,
    dimension: u32,
    classes: u32,
    steps: u32,
    scale: u32,
    constant: f32,
    parameters: [f64; MARGIN_PARAMETERS],
}

/// Bytes of `Slopes`.
const SLOPES_BYTES: u64 = 16;
/// Threads of a block of every kernel.
const THREADS: u32 = 256;
/// Rows or classes of a block that gives each a warp.
const WARPS: usize = 8;
/// The most classes that the lanes of one warp are.
const SMALL_CLASSES: usize = 32;
/// Rows whose part of the weights' gradient one block of the small head sums.
const SMALL_ROWS: usize = 16;
/// What the weights of a small head may take of shared memory.
const SMALL_WEIGHT_BYTES: usize = 40 * 1024;

/// What launches of one head share.
#[derive(Clone)]
struct Launcher {
    head: Head,
    define: String,
}

impl Launcher {
    fn new(op: &'static str, spec: &MarginSoftmax, operands: &Operands<'_>) -> Result<Launcher, Error> {
        let margin = spec.margin.name();
        let Some(header) = sphereface_kernels::margin(margin) else {
            let message = format!("margin {margin}: expected kernels/margin/{margin}.cuh, found no such header");
            return Err(Error::Attribute { op, message });
        };
        let (scale, constant) = match spec.scale {
            Scale::InnerProduct => (0, 0.0),
            Scale::FeatureNorm => (1, 0.0),
            Scale::Constant(constant) => (2, constant),
        };
        let mut sizes = operands.reads[0].shape.sizes();
        let head = Head {
            batch: sizes.next().unwrap_or(0) as u32,
            dimension: sizes.next().unwrap_or(0) as u32,
            classes: spec.classes as u32,
            steps: operands.reads[4].shape.elements() as u32,
            scale,
            constant,
            parameters: spec.margin.parameters(),
        };
        Ok(Launcher { head, define: format!("MARGIN_HEADER=\"{}\"", header.path) })
    }

    fn launch(&self, kernel: &str, blocks: usize) -> Launch {
        Launch::new("margin_softmax", kernel).define(self.define.clone()).grid([blocks as u32, 1, 1]).block(THREADS)
    }

    fn batch(&self) -> usize {
        self.head.batch as usize
    }

    fn classes(&self) -> usize {
        self.head.classes as usize
    }

    fn dimension(&self) -> usize {
        self.head.dimension as usize
    }

    /// Shared memory for the weights of a head whose classes are the lanes of a warp; none when it has too many.
    fn small_shared_bytes(&self) -> Option<u32> {
        let bytes = 4 * self.classes() * (self.dimension() | 1);
        (self.classes() <= SMALL_CLASSES && bytes <= SMALL_WEIGHT_BYTES).then_some(bytes as u32)
    }
}

/// The operands that both passes read.
fn reads(launch: Launch, io: &Io) -> Launch {
    io.reads[..6].iter().fold(launch, |launch, &read| launch.read(read))
}

pub(super) fn forward(spec: &MarginSoftmax, operands: &Operands<'_>) -> Result<Kernel, Error> {
    let launcher = Launcher::new("margin_softmax_forward", spec, operands)?;
    if let Some(shared_bytes) = launcher.small_shared_bytes() {
        return Ok(Kernel::new(0, move |io| {
            let launch = launcher.launch("margin_softmax_forward_small", launcher.batch().div_ceil(WARPS));
            let launch = reads(launch.shared(shared_bytes), io);
            vec![io.writes.iter().fold(launch, |launch, &write| launch.write(write)).value(launcher.head)]
        }));
    }
    Err(Error::Attribute { op: "margin_softmax", message: "has no CUDA kernel for this many classes".into() })
}

pub(super) fn backward(spec: &MarginSoftmax, operands: &Operands<'_>) -> Result<Kernel, Error> {
    let launcher = Launcher::new("margin_softmax_backward", spec, operands)?;
    if let Some(shared_bytes) = launcher.small_shared_bytes() {
        let parts = launcher.batch().div_ceil(SMALL_ROWS);
        let slopes_bytes = SLOPES_BYTES * launcher.batch() as u64;
        let sums_bytes = (4 * parts * launcher.classes() * launcher.dimension()) as u64;
        return Ok(Kernel::new(slopes_bytes + sums_bytes, move |io| {
            let slopes = io.workspace.part(0, slopes_bytes);
            let sums = io.workspace.part(slopes_bytes, sums_bytes);
            let launch = launcher.launch("margin_softmax_backward_small", parts).shared(shared_bytes);
            let rows = reads(launch, io)
                .read(io.reads[6])
                .read(io.reads[9])
                .write(io.writes[0])
                .write(slopes)
                .write(sums)
                .value(launcher.head);
            vec![rows, launcher.weight_gradient(io, slopes, sums, 0, launcher.classes(), parts)]
        }));
    }
    Err(Error::Attribute { op: "margin_softmax", message: "has no CUDA kernel for this many classes".into() })
}

impl Launcher {
    /// Finishes the gradient of the weights of some classes.
    fn weight_gradient(
        &self,
        io: &Io,
        slopes: Slice,
        sums: Slice,
        first: usize,
        classes: usize,
        parts: usize,
    ) -> Launch {
        let row_bytes = 4 * self.dimension() as u64;
        self.launch("margin_softmax_backward_weight", classes.div_ceil(WARPS))
            .read(io.reads[1])
            .read(io.reads[2])
            .read(io.reads[3])
            .read(io.reads[8])
            .read(io.reads[9])
            .read(slopes)
            .read(sums)
            .write(io.writes[1].part(first as u64 * row_bytes, classes as u64 * row_bytes))
            .value(self.head)
            .value(first as u32)
            .value(classes as u32)
            .value(parts as u32)
    }
}
