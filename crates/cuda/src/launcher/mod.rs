//! Typed launchers: one file for each operator, of the stem of its `.cu`.

mod add;
mod advance;
mod cast;
mod column_sum;
mod conv2d;
mod conv2d_wgmma;
mod conv2d_wgmma_pixels;
mod conv2d_wgmma_weight;
mod epilogue;
mod gather_batch;
mod gemm;
mod gradient_norm;
#[cfg(test)]
mod large_sizes;
#[cfg(test)]
mod layout;
mod linear;
mod margin_softmax;
mod matrix_product;
mod metrics;
mod mma;
mod optimizer;
mod part_sum;
mod prelu;
mod row_modifiers;
mod tile;
mod unit_rows;
mod wgmma;

pub(crate) use part_sum::{PlacedSum, part_sum};

use crate::launch::{Kernel, Operands};
use crate::options::Options;
use sphereface_tensor::Error;
use sphereface_tensor::op::Op;

/// What launchers choose by, besides shapes.
pub(crate) struct Context {
    pub(crate) options: Options,
    /// Whether the device has `mma.sync` with fp32 sums, and `cp.async`.
    pub(crate) mma: bool,
    /// Whether it has `wgmma` and bulk copies of tensors.
    pub(crate) wgmma: bool,
}

/// The launches of an operator with these operands.
pub(crate) fn kernel(op: &Op, operands: &Operands<'_>, context: &Context) -> Result<Kernel, Error> {
    match op {
        Op::GatherBatch(op) => Ok(gather_batch::gather_batch(*op, operands)),
        Op::Conv2dForward(op) => conv2d::forward(*op, operands, context),
        Op::Conv2dBackwardData(op) => conv2d::backward_data(*op, operands, context),
        Op::Conv2dBackwardWeight(op) => conv2d::backward_weight(*op, operands, context),
        Op::LinearForward(op) => linear::forward(*op, operands, context),
        Op::LinearBackwardData(op) => linear::backward_data(*op, operands, context),
        Op::LinearBackwardWeight(op) => linear::backward_weight(*op, operands, context),
        Op::PreluForward(_) => Ok(prelu::forward(operands)),
        Op::PreluBackward(_) => Ok(prelu::backward(operands)),
        Op::Add(_) => Ok(add::add(operands)),
        Op::GradientNorm(_) => Ok(gradient_norm::gradient_norm(operands)),
        Op::Optimizer(op) => Ok(optimizer::optimizer(op, operands)),
        Op::Metrics(_) => Ok(metrics::metrics(operands)),
        Op::Advance(_) => Ok(advance::advance()),
        Op::MarginSoftmaxForward(op) => margin_softmax::forward(&op.0, operands, context),
        Op::MarginSoftmaxBackward(op) => margin_softmax::backward(&op.0, operands, context),
        Op::Cast(_) => Ok(cast::cast(operands)),
        Op::Gemm(op) => gemm::gemm(*op, operands, context),
        Op::RowModifiers(op) => Ok(row_modifiers::row_modifiers(*op, operands)),
        Op::UnitRows(_) => Ok(unit_rows::unit_rows(operands)),
    }
}
