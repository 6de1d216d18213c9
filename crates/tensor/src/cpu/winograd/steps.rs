//! The steps of a plan that are computed this way, with what is fused into them.

use super::super::conv2d::sum_rows;
use super::super::parts::Partition;
use super::super::prelu::{backward_pixel, rectify, rectify_in_place, sum_pixels};
use super::super::{Choice, Kernel};
use super::data::{Convolution, Direction};
use super::weight::WeightGradient;
use crate::op::{Conv2dBackwardData, Conv2dBackwardWeight, Conv2dForward, Conv2dGeometry};

/// The forward step.
pub(in super::super) fn forward(op: Conv2dForward, g: &Conv2dGeometry, choice: Choice) -> Kernel {
    let (convolution, partition) = Convolution::new(g, Direction::Forward, choice.threads);
    let again = op.keep.then(|| partition.clone());
    let channels = g.outputs;
    Kernel::new(convolution.workspace(), move |mut io| {
        let mut rest = io.reads[2..].iter().copied();
        let bias = if op.bias { rest.next() } else { None };
        let slope = if op.slope { rest.next() } else { None };
        let residual = if op.residual { rest.next() } else { None };
        let mut writes = io.writes.iter_mut();
        let (Some(y), out) = (writes.next(), writes.next()) else { return };
        let y = partition.of(y);
        let out = again.as_ref().zip(out).map(|(partition, out)| partition.of(out));
        convolution.run(io.reads[0], io.reads[1], &y, io.workspace, |pixel, block, y| {
            if let Some(bias) = bias {
                for row in y.chunks_exact_mut(channels) {
                    row.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
                }
            }
            let residual = residual.map(|residual| &residual[partition.range(pixel, block, channels)]);
            match (slope, &out) {
                (Some(slope), Some(out)) => rectify(y, slope, residual, out.take(pixel, block)),
                (Some(slope), None) => rectify_in_place(y, slope, residual),
                (None, _) => {}
            }
        });
    })
}

/// The step that makes the gradient of the input.
pub(in super::super) fn backward_data(op: Conv2dBackwardData, g: &Conv2dGeometry, choice: Choice) -> Kernel {
    let (convolution, partition) = Convolution::new(g, Direction::Backward, choice.threads);
    // Where a PReLU is fused: the gradient of its slopes from each part.
    let channels = g.inputs;
    let slopes = if op.slope { partition.len() * channels } else { 0 };
    let again = op.keep.then(|| partition.clone());
    let of_slopes = Partition::new(partition.len(), 1, 1);
    Kernel::new(slopes + convolution.workspace(), move |mut io| {
        let addend = op.addend.then(|| io.reads[2]);
        let (d_slopes, workspace) = io.workspace.split_at_mut(slopes);
        let mut writes = io.writes.iter_mut();
        let Some(d_x) = writes.next() else { return };
        let d_x = partition.of(d_x);
        let d_pre = again.as_ref().and_then(|partition| writes.next().map(|d_pre| partition.of(d_pre)));
        let sums = of_slopes.of(d_slopes);
        convolution.run(io.reads[0], io.reads[1], &d_x, workspace, |pixel, block, d_x| {
            let range = partition.range(pixel, block, channels);
            if let Some(addend) = addend {
                d_x.iter_mut().zip(&addend[range.clone()]).for_each(|(d_x, addend)| *d_x += addend);
            }
            if op.slope {
                let (pre, slope) = (&io.reads[op.pre()][range], io.reads[op.pre() + 1]);
                let sums = sums.take(partition.index(pixel, block), 0);
                match &d_pre {
                    Some(d_pre) => {
                        let d_pre = d_pre.take(pixel, block);
                        d_pre.copy_from_slice(d_x);
                        backward_pixel(d_pre, pre, slope, sums);
                    }
                    None => backward_pixel(d_x, pre, slope, sums),
                }
            }
        });
        drop(sums);
        if let Some(d_slope) = writes.next() {
            sum_pixels(d_slopes, d_slope);
        }
    })
}

/// The step that makes the gradient of the filters.
pub(in super::super) fn backward_weight(op: Conv2dBackwardWeight, g: &Conv2dGeometry) -> Kernel {
    let gradient = WeightGradient::new(g);
    let bias = if op.bias { g.output_height * g.output_width * g.outputs } else { 0 };
    let (batch, outputs) = (g.batch, g.outputs);
    Kernel::new(bias + gradient.workspace(), move |mut io| {
        let (partial, workspace) = io.workspace.split_at_mut(bias);
        gradient.run(io.reads[0], io.reads[1], workspace, io.writes[0]);
        if op.bias {
            sum_rows(io.reads[1], batch, outputs, partial, io.writes[1]);
        }
    })
}
