//! The fused head: of few classes in `small`, of many in `large` and, backward, in `chunk`; of these what Hopper's
//! warpgroups do in `warpgroups`.

mod chunk;
mod large;
mod small;
mod warpgroups;

use super::Context;
use crate::launch::{Io, Kernel, Launch, Operands, Slice, with_margin};
use bytemuck::{Pod, Zeroable};
use sphereface_tensor::Error;
use sphereface_tensor::op::{Gradient, Link, Logits, MARGIN_PARAMETERS, MarginSoftmax, Scale};

/// `Head` of `kernels/margin_softmax.cuh`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Head {
    pub(super) batch: u32,
    pub(super) dimension: u32,
    pub(super) classes: u32,
    pub(super) steps: u32,
    pub(super) scale: u32,
    pub(super) constant: f32,
    pub(super) rounded: u32,
    pub(super) pitch: u32,
    pub(super) gradient: u32,
    pub(super) link: u32,
    pub(super) positive: f32,
    pub(super) loss_factor: f32,
    pub(super) penalty: f32,
    pub(super) penalty_norm: f32,
    pub(super) energy: f32,
    pub(super) of_rows: u32,
    pub(super) parameters: [f64; MARGIN_PARAMETERS],
}

/// Bytes of `Slopes`.
const SLOPES_BYTES: u64 = 32;
/// Threads of a block, where it makes no tile.
const THREADS: u32 = 256;
/// Rows or classes of a block that gives each a warp.
const WARPS: usize = 8;

/// What launches of one head share.
struct Launcher {
    head: Head,
    /// Whether the forward pass leaves all cosines to the backward pass.
    kept: bool,
    /// Which of the operands is the bias, if there is one.
    bias: Option<usize>,
    /// What is defined in the unit of its margin, and in that of its tiles.
    define: String,
    define_of_tiles: String,
}

pub(super) fn forward(spec: &MarginSoftmax, operands: &Operands<'_>, context: &Context) -> Result<Kernel, Error> {
    let launcher = Launcher::new("margin_softmax_forward", spec, operands)?;
    Ok(match small::shared_bytes(&launcher) {
        Some(shared_bytes) => small::forward(launcher, shared_bytes),
        None => large::forward(launcher, context),
    })
}

pub(super) fn backward(spec: &MarginSoftmax, operands: &Operands<'_>, context: &Context) -> Result<Kernel, Error> {
    let launcher = Launcher::new("margin_softmax_backward", spec, operands)?;
    Ok(match small::shared_bytes(&launcher) {
        Some(shared_bytes) => small::backward(launcher, shared_bytes),
        None => chunk::backward(launcher, context, operands.left),
    })
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
        let (batch, dimension) = (sizes.next().unwrap_or(0), sizes.next().unwrap_or(0));
        let head = Head {
            batch: batch as u32,
            dimension: dimension as u32,
            classes: spec.classes as u32,
            steps: operands.reads[4].shape.elements() as u32,
            scale,
            constant,
            rounded: spec.rounded.into(),
            // Copies of bf16 elements are of eight.
            pitch: if spec.rounded { dimension.next_multiple_of(8) } else { dimension } as u32,
            gradient: match spec.gradient {
                Gradient::True => 0,
                Gradient::Detached => 1,
                Gradient::Caffe => 2,
            },
            link: u32::from(spec.has_bias()),
            positive: if let Link::Binary { positive, .. } = spec.link { positive } else { 0.0 },
            loss_factor: spec.loss_factor,
            penalty: spec.penalty.weight,
            penalty_norm: spec.penalty.norm,
            energy: spec.energy,
            of_rows: spec.modifier.is_some().into(),
            parameters: spec.margin.parameters(),
        };
        let bias = spec.has_bias().then(|| operands.reads.len() - 1);
        let kept = spec.logits == Logits::Kept;
        let define_of_tiles = with_margin(sphereface_kernels::margin_of_tiles(header));
        Ok(Launcher { head, kept, bias, define: with_margin(header), define_of_tiles })
    }

    fn launch(&self, kernel: &str, blocks: usize) -> Launch {
        Launch::new("margin_softmax", kernel).define(self.define.clone()).grid([blocks as u32, 1, 1]).block(THREADS)
    }

    fn bias(&self, io: &Io) -> Option<Slice> {
        self.bias.map(|bias| io.reads[bias])
    }

    /// A launch that takes the operands which both passes read.
    fn reads(&self, launch: Launch, io: &Io) -> Launch {
        io.reads[..6].iter().fold(launch, |launch, &read| launch.read(read)).read_if(self.bias(io))
    }

    /// The gradient of the bias, if there is one.
    fn bias_gradient(&self, io: &Io, slopes: Slice) -> Option<Launch> {
        let d_bias = *io.writes.get(2)?;
        Some(self.launch("margin_softmax_backward_bias", 1).block(32).read(slopes).write(d_bias).value(self.head))
    }

    /// Bytes of the workspace for the energy of the class weights, if it counts.
    fn energy_bytes(&self) -> u64 {
        if self.head.energy == 0.0 { 0 } else { (8 * self.classes() as u64).next_multiple_of(16) }
    }

    /// Adds the energy of the class weights to the loss, if it counts.
    fn energy(&self, io: &Io, energies: Slice) -> Vec<Launch> {
        if self.head.energy == 0.0 {
            return vec![];
        }
        let of_classes = self.launch("margin_softmax_forward_energy", self.classes().div_ceil(WARPS));
        let add = self.launch("margin_softmax_forward_add_energy", 1).block(32);
        vec![
            of_classes.read(io.reads[1]).write(energies).value(self.head),
            add.read(energies).read(io.reads[3]).update(io.writes[0]).value(self.head),
        ]
    }

    /// What ends the backward pass: the gradients of the energy and of the bias, where there are.
    fn last(&self, io: &Io, slopes: Slice) -> Vec<Launch> {
        let mut launches: Vec<Launch> = self.bias_gradient(io, slopes).into_iter().collect();
        if self.head.energy != 0.0 {
            let launch = self.launch("margin_softmax_backward_energy", self.classes().div_ceil(WARPS));
            launches.push(launch.read(io.reads[1]).update(io.writes[1]).value(self.head));
        }
        launches
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

    /// Whether products are of directions rounded to bf16.
    fn rounded(&self) -> bool {
        self.head.rounded != 0
    }

    /// Elements of a row of the products' operands and of the sums of their gradients.
    fn pitch(&self) -> usize {
        self.head.pitch as usize
    }

    /// The same of a row of so many classes.
    fn lines(&self, classes: usize) -> usize {
        if self.rounded() { classes.next_multiple_of(8) } else { classes }
    }

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
