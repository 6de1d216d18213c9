//! One row of the log.

use crate::launch::{Kernel, Launch, Operands};
use sphereface_tensor::op::METRICS;

const THREADS: u32 = 256;

pub(super) fn metrics(operands: &Operands<'_>) -> Kernel {
    let rows = operands.updates[0].shape.elements() / METRICS.len();
    Kernel::new(0, move |io| {
        let launch = Launch::new("metrics", "metrics").block(THREADS);
        let launch = io.reads[..5].iter().fold(launch, |launch, &read| launch.read(read));
        vec![launch.read_if(io.reads.get(5).copied()).update(io.updates[0]).value(rows as u32)]
    })
}
