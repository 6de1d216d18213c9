//! Typed launchers: one file for each operator, of the stem of its `.cu`.

mod add;
mod advance;
mod margin_softmax;

use crate::backend::Options;
use crate::launch::{Kernel, Operands};
use sphereface_tensor::Error;
use sphereface_tensor::op::Op;

/// What launchers choose by, besides shapes.
pub(crate) struct Context {
    pub(crate) options: Options,
    /// Whether the device has `mma.sync` with fp32 sums, and `cp.async`.
    pub(crate) mma: bool,
}

/// The launches of an operator with these operands.
pub(crate) fn kernel(op: &Op, operands: &Operands<'_>, _context: &Context) -> Result<Kernel, Error> {
    match op {
        Op::Add(_) => Ok(add::add(operands)),
        Op::Advance(_) => Ok(advance::advance()),
        Op::MarginSoftmaxForward(op) => margin_softmax::forward(&op.0, operands),
        Op::MarginSoftmaxBackward(op) => margin_softmax::backward(&op.0, operands),
        other => Err(Error::Attribute { op: other.name(), message: "has no CUDA kernel".into() }),
    }
}
