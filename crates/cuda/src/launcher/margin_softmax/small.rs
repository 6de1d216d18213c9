//! Heads of so few classes that they are the lanes of a warp.

use super::{Launcher, SLOPES_BYTES, WARPS};
use crate::launch::Kernel;
use sphereface_tensor::op::FEW_CLASSES;

/// Rows whose part of the weights' gradient one block sums.
const ROWS: usize = 8;
/// What the weights may take of shared memory.
const WEIGHT_BYTES: usize = 40 * 1024;

/// Shared memory for the weights; none when the head has too many classes.
pub(super) fn shared_bytes(launcher: &Launcher) -> Option<u32> {
    let bytes = 4 * launcher.classes() * (launcher.dimension() | 1);
    (launcher.classes() <= FEW_CLASSES && bytes <= WEIGHT_BYTES).then_some(bytes as u32)
}

pub(super) fn forward(launcher: Launcher, shared_bytes: u32) -> Kernel {
    Kernel::new(launcher.energy_bytes(), move |io| {
        let launch = launcher.launch("margin_softmax_forward_small", launcher.batch().div_ceil(WARPS));
        let launch = launcher.reads(launch.shared(shared_bytes), io);
        let mut launches =
            vec![io.writes.iter().fold(launch, |launch, &write| launch.write(write)).value(launcher.head)];
        launches.extend(launcher.energy(io, io.workspace));
        launches
    })
}

pub(super) fn backward(launcher: Launcher, shared_bytes: u32) -> Kernel {
    let parts = launcher.batch().div_ceil(ROWS);
    let slopes_bytes = SLOPES_BYTES * launcher.batch() as u64;
    let sums_bytes = (4 * parts * launcher.classes() * launcher.dimension()) as u64;
    Kernel::new(slopes_bytes + sums_bytes, move |io| {
        let slopes = io.workspace.part(0, slopes_bytes);
        let sums = io.workspace.part(slopes_bytes, sums_bytes);
        let launch = launcher.launch("margin_softmax_backward_small", parts).shared(shared_bytes);
        let rows = launcher
            .reads(launch, io)
            .read(io.reads[6])
            .read(io.reads[9])
            .write(io.writes[0])
            .write(slopes)
            .write(sums)
            .value(launcher.head);
        let mut launches = vec![rows, launcher.weight_gradient(io, slopes, sums, 0, launcher.classes(), parts)];
        launches.extend(launcher.last(io, slopes));
        launches
    })
}
