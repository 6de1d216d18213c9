//! Updates all parameters.

use crate::launch::{Kernel, Launch, Operands};
use bytemuck::{Pod, Zeroable};
use sphereface_tensor::op::{Group, Optimizer, Rule};

const THREADS: u32 = 256;
/// Most elements of a tile.
const TILE: usize = 1024;

/// `struct Tile` of optimizer.cu: neighbouring elements of one group.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Tile {
    pub(super) start: u32,
    pub(super) length: u32,
    pub(super) decay: f32,
    pub(super) rate: f32,
}

/// `struct Copy` of optimizer.cu.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Copy {
    pub(super) first: u32,
    pub(super) length: u32,
}

/// `struct Sgd` of optimizer.cu.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Sgd {
    pub(super) momentum: f32,
    pub(super) nesterov: u32,
}

/// `struct Adam` of optimizer.cu.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Adam {
    pub(super) beta1: f32,
    pub(super) beta2: f32,
    pub(super) epsilon: f32,
    pub(super) decoupled: u32,
}

fn tiles(groups: &[Group]) -> Vec<Tile> {
    let tile = |group: &Group, start: usize| Tile {
        start: start as u32,
        length: TILE.min(group.range.end - start) as u32,
        decay: group.decay,
        rate: group.rate,
    };
    groups.iter().flat_map(|group| group.range.clone().step_by(TILE).map(move |start| tile(group, start))).collect()
}

pub(super) fn optimizer(op: &Optimizer, operands: &Operands<'_>) -> Kernel {
    let tiles = tiles(&op.groups);
    let (rule, clip) = (op.rule, op.clip.unwrap_or(0.0));
    let (blocks, copied) = (1 + rule.states().len(), op.copied.clone().unwrap_or_default());
    let copied = Copy { first: copied.start as u32, length: copied.len() as u32 };
    let (count, steps) = (tiles.len() as u32, operands.reads[2].shape.elements() as u32);
    let build = move |kernel: &str, io: &crate::launch::Io| {
        let launch = Launch::new("optimizer", kernel).grid([count, 1, 1]).block(THREADS);
        let launch = io.reads.iter().fold(launch, |launch, &read| launch.read(read));
        let launch = io.updates[..blocks].iter().fold(launch, |launch, &update| launch.update(update));
        let launch = launch.update(io.updates.get(blocks).copied().unwrap_or_default());
        launch.read(io.constants).value(steps).value(clip).value(copied)
    };
    let kernel = Kernel::new(0, move |io| {
        if count == 0 {
            return vec![];
        }
        vec![match rule {
            Rule::Sgd { momentum, nesterov } => {
                build("optimizer_sgd", io).value(Sgd { momentum, nesterov: nesterov.into() })
            }
            Rule::Adam { beta1, beta2, epsilon, decoupled } => {
                build("optimizer_adam", io).value(Adam { beta1, beta2, epsilon, decoupled: decoupled.into() })
            }
        }]
    });
    kernel.with_constants(bytemuck::cast_slice(&tiles))
}
