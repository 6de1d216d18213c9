//! Convolution: for each output pixel and tap a product of dense matrices, read in place.

use super::filters::FilterLayout;
use super::prelu::{backward_pixel, rectify, sum_pixels};
use super::product::{Into, Matrix, Panels, Sum};
use super::winograd;
use super::{Choice, Kernel, Operands};
use crate::error::Error;
use crate::op::{Conv2dBackwardData, Conv2dBackwardWeight, Conv2dForward, Conv2dGeometry};
use rayon::prelude::*;
use std::ops::Range;

/// From this batch on, the images of one pixel make a matrix tall enough for the product to run at full speed, and
/// the result of all taps stays in the first-level cache; below, a row of pixels is taken together.
const BATCH_PER_PIXEL: usize = 32;

/// With fewer rows of the result than this, a task is a block of output channels, so that the filters are read once.
const FEW_ROWS: usize = 256;
/// Channels of such a block.
const BLOCK: usize = 32;

/// Input channels of a tap whose gradient is one task.
const CHANNELS: usize = 64;

/// Columns of a row that one task computes: one, or all of them.
fn span(width: usize, batch: usize) -> usize {
    if batch >= BATCH_PER_PIXEL { 1 } else { width }
}

/// The columns of task `index`, and its row.
fn place(index: usize, width: usize, span: usize) -> (usize, Range<usize>) {
    let spans = width / span;
    let first = index % spans * span;
    (index / spans, first..first + span)
}

/// Calls `body(columns of y, first column of x, distance of x columns)` for runs of columns that are one matrix.
fn for_each_run(g: &Conv2dGeometry, s: usize, columns: Range<usize>, mut body: impl FnMut(Range<usize>, usize, usize)) {
    let valid = g.columns(s);
    let columns = columns.start.max(valid.start)..columns.end.min(valid.end);
    if columns.is_empty() {
        return;
    }
    let x_column = |q: usize| q * g.stride + s - g.padding; // inside, by `valid`
    if g.stride == 1 || g.batch == 1 {
        let first = x_column(columns.start);
        body(columns, first, g.stride);
    } else {
        columns.for_each(|q| body(q..q + 1, x_column(q), 1));
    }
}

/// `columns` pixels of row `row` as one matrix `[pixels · N, channels]`; pixels are `distance` apart if N is 1.
fn pixels(
    activation: &[f32],
    [width, batch, channels]: [usize; 3],
    row: usize,
    first: usize,
    count: usize,
    distance: usize,
) -> Matrix<'_> {
    let start = (row * width + first) * batch * channels;
    Matrix::strided(&activation[start..], count * batch, channels, distance * channels)
}

pub(super) fn forward(op: Conv2dForward, operands: &Operands<'_>, choice: Choice) -> Result<Kernel, Error> {
    let g = Conv2dGeometry::new(
        "conv2d_forward",
        &operands.reads[0].shape,
        &operands.reads[1].shape,
        op.stride,
        op.padding,
    )?;
    if choice.winograd && winograd::suits(&g) {
        return Ok(winograd::forward(op, &g, choice));
    }
    let span = span(g.output_width, g.batch);
    let pixel = g.batch * g.outputs;
    let chunk = span * pixel;
    let layout = FilterLayout::forward(&g);
    let rows = g.output_height * g.output_width * g.batch;
    let narrow = span > 1 && rows < FEW_ROWS && g.outputs.is_multiple_of(BLOCK);
    let blocks = if narrow { g.outputs / BLOCK } else { 1 };
    // Of each block its sums, and a copy of its columns of one tap.
    let [sums, copies] = if narrow { [rows * g.outputs, g.inputs * g.outputs] } else { [0; 2] };
    Ok(Kernel::new(sums + copies + layout.workspace(), move |mut io| {
        let x = io.reads[0];
        let (sums, workspace) = io.workspace.split_at_mut(sums);
        let (copies, workspace) = workspace.split_at_mut(copies);
        let filters = layout.filters(io.reads[1], workspace);
        let tasks = sums.par_chunks_mut(rows * BLOCK).zip(copies.par_chunks_mut(g.inputs * BLOCK));
        tasks.enumerate().for_each(|(block, (sums, copy))| {
            sums.fill(0.0);
            for (tap, [r, s]) in g.tap_positions() {
                let filter = Matrix::new(&io.reads[1][tap * g.inputs * g.outputs..], g.inputs, g.outputs);
                Panels::pack(filter.block(0, g.inputs, block * BLOCK, BLOCK), copy);
                let filter = Panels::packed(copy, g.inputs, BLOCK);
                for (p, sums) in sums.chunks_exact_mut(g.output_width * g.batch * BLOCK).enumerate() {
                    add_tap(&g, x, filter, [r, s], p, sums);
                }
            }
        });
        let sums = &*sums;
        let mut rest = io.reads[2..].iter().copied();
        let bias = if op.bias { rest.next() } else { None };
        let slope = if op.slope { rest.next() } else { None };
        let residual = if op.residual { rest.next() } else { None };
        let convolve = |index: usize, y: &mut [f32]| {
            let (p, columns) = place(index, g.output_width, span);
            match bias {
                Some(bias) => y.chunks_exact_mut(g.outputs).for_each(|row| row.copy_from_slice(bias)),
                None => y.fill(0.0),
            }
            if span == 1 {
                // All taps of one pixel are one sum.
                let mut sum = Sum::new(y, g.outputs, Into::Add);
                for (tap, [r, s]) in g.tap_positions() {
                    if let (Some(h), Some(w)) = (g.input_row(p, r), g.input_column(columns.start, s)) {
                        sum.add(pixels(x, [g.width, g.batch, g.inputs], h, w, 1, 1), filters.tap(tap));
                    }
                }
                sum.flush();
                return;
            }
            if blocks == 1 {
                for (tap, at) in g.tap_positions() {
                    add_tap(&g, x, filters.tap(tap), at, p, y);
                }
                return;
            }
            let width = g.outputs / blocks;
            for (block, sums) in sums.chunks_exact(rows * width).enumerate() {
                let of_row = sums[p * g.output_width * g.batch * width..].chunks_exact(width);
                for (y, sum) in y.chunks_exact_mut(g.outputs).zip(of_row) {
                    y[block * width..][..width].iter_mut().zip(sum).for_each(|(y, sum)| *y += sum);
                }
            }
        };
        let residual_of = |index: usize| residual.map(|residual| &residual[index * chunk..][..chunk]);
        match (slope, &mut io.writes[..]) {
            (Some(slope), [y, out]) => {
                y.par_chunks_mut(chunk).zip(out.par_chunks_mut(chunk)).enumerate().for_each(|(index, (y, out))| {
                    convolve(index, y);
                    rectify(y, slope, residual_of(index), out);
                });
            }
            (slope, [out]) => out.par_chunks_mut(chunk).enumerate().for_each(|(index, out)| {
                convolve(index, out);
                if let Some(slope) = slope {
                    super::prelu::rectify_in_place(out, slope, residual_of(index));
                }
            }),
            _ => unreachable!("a convolution writes what its shape rule says"),
        }
    }))
}

/// Adds a tap's share of row `p` of the result to `y` `[Q, N, channels of the filter]`.
fn add_tap(g: &Conv2dGeometry, x: &[f32], filter: Panels<'_>, [r, s]: [usize; 2], p: usize, y: &mut [f32]) {
    let Some(h) = g.input_row(p, r) else { return };
    let pixel = y.len() / g.output_width;
    for_each_run(g, s, 0..g.output_width, |run, first, distance| {
        let left = pixels(x, [g.width, g.batch, g.inputs], h, first, run.len(), distance);
        let mut sum = Sum::new(&mut y[run.start * pixel..run.end * pixel], pixel / g.batch, Into::Add);
        sum.add(left, filter);
        sum.flush();
    });
}

pub(super) fn backward_data(op: Conv2dBackwardData, operands: &Operands<'_>, choice: Choice) -> Result<Kernel, Error> {
    let g = op.geometry(&operands.reads[0].shape, &operands.reads[1].shape)?;
    if choice.winograd && winograd::suits(&g) {
        return Ok(winograd::backward_data(op, &g, choice));
    }
    let span = span(g.width, g.batch);
    let pixel = g.batch * g.inputs;
    let chunk = span * pixel;
    let layout = FilterLayout::transposed(&g);
    // Where a PReLU is fused: the gradient of its slopes from each pixel.
    let slopes = if op.slope { g.height * g.width * g.inputs } else { 0 };
    Ok(Kernel::new(slopes + layout.workspace(), move |mut io| {
        let (d_y, addend) = (io.reads[0], op.addend.then(|| io.reads[2]));
        let (d_slopes, packed) = io.workspace.split_at_mut(slopes);
        let filters = layout.filters(io.reads[1], packed);
        let gradient_of = |index: usize, d_x: &mut [f32]| {
            let (h, columns) = place(index, g.width, span);
            match addend {
                Some(addend) => d_x.copy_from_slice(&addend[index * chunk..][..chunk]),
                None => d_x.fill(0.0),
            }
            let gradient =
                |p: usize, q: usize, count: usize| pixels(d_y, [g.output_width, g.batch, g.outputs], p, q, count, 1);
            if span == 1 {
                let mut sum = Sum::new(d_x, g.inputs, Into::Add);
                for (tap, [r, s]) in g.tap_positions() {
                    let output =
                        (output_of(h, r, &g, g.output_height), output_of(columns.start, s, &g, g.output_width));
                    if let (Some(p), Some(q)) = output {
                        sum.add(gradient(p, q, 1), filters.tap(tap));
                    }
                }
                sum.flush();
                return;
            }
            for (tap, [r, s]) in g.tap_positions() {
                let Some(p) = output_of(h, r, &g, g.output_height) else { continue };
                let mut add = |w: Range<usize>, q: usize| {
                    let out = &mut d_x[(w.start - columns.start) * pixel..][..w.len() * pixel];
                    let mut sum = Sum::new(out, g.inputs, Into::Add);
                    sum.add(gradient(p, q, w.len()), filters.tap(tap));
                    sum.flush();
                };
                if g.stride == 1 {
                    // Column w belongs to output column w + padding − s.
                    let first = columns.start.max(s.saturating_sub(g.padding));
                    let end = columns.end.min((g.output_width + s).saturating_sub(g.padding));
                    if first < end {
                        add(first..end, first + g.padding - s);
                    }
                } else {
                    for w in columns.clone() {
                        if let Some(q) = output_of(w, s, &g, g.output_width) {
                            add(w..w + 1, q);
                        }
                    }
                }
            }
        };
        // From the gradient of a task's pixels to that before the PReLU, and of its slopes.
        let rectify = |index: usize, d: &mut [f32], sums: &mut [f32]| {
            let (pre, slope) = (&io.reads[op.pre()][index * chunk..][..chunk], io.reads[op.pre() + 1]);
            let pixels = d.chunks_exact_mut(pixel).zip(pre.chunks_exact(pixel));
            pixels.zip(sums.chunks_exact_mut(g.inputs)).for_each(|((d, pre), sum)| backward_pixel(d, pre, slope, sum));
        };
        let sums = d_slopes.par_chunks_mut((span * g.inputs).max(1));
        match &mut io.writes[..] {
            [d_x] => d_x.par_chunks_mut(chunk).enumerate().for_each(|(index, d_x)| gradient_of(index, d_x)),
            [d_pre, d_slope] => {
                d_pre.par_chunks_mut(chunk).zip(sums).enumerate().for_each(|(index, (d_pre, sums))| {
                    gradient_of(index, d_pre);
                    rectify(index, d_pre, sums);
                });
                sum_pixels(d_slopes, d_slope);
            }
            [d_x, d_pre, d_slope] => {
                let kept = d_x.par_chunks_mut(chunk);
                d_pre.par_chunks_mut(chunk).zip(sums).zip(kept).enumerate().for_each(
                    |(index, ((d_pre, sums), d_x))| {
                        gradient_of(index, d_x);
                        d_pre.copy_from_slice(d_x);
                        rectify(index, d_pre, sums);
                    },
                );
                sum_pixels(d_slopes, d_slope);
            }
            _ => unreachable!("a convolution writes what its shape rule says"),
        }
    }))
}

/// Output position that reads input position `at` through tap `tap`, if there is one.
fn output_of(at: usize, tap: usize, g: &Conv2dGeometry, size: usize) -> Option<usize> {
    let distance = (at + g.padding).checked_sub(tap)?;
    (distance % g.stride == 0 && distance / g.stride < size).then_some(distance / g.stride)
}

pub(super) fn backward_weight(
    op: Conv2dBackwardWeight,
    operands: &Operands<'_>,
    choice: Choice,
) -> Result<Kernel, Error> {
    let g = op.geometry(&operands.reads[0].shape, &operands.reads[1].shape)?;
    if choice.winograd && winograd::suits(&g) {
        return Ok(winograd::backward_weight(op, &g));
    }
    // Blocks never straddle two taps.
    let block = if g.inputs.is_multiple_of(CHANNELS) { CHANNELS } else { g.inputs };
    let pixels_out = g.output_height * g.output_width;
    let workspace = if op.bias { pixels_out * g.outputs } else { 0 };
    Ok(Kernel::new(workspace, move |mut io| {
        let (x, d_y) = (io.reads[0], io.reads[1]);
        // One task a block of a tap's input channels; the sum over images and pixels runs inside.
        io.writes[0].par_chunks_mut(block * g.outputs).enumerate().for_each(|(index, d_filter)| {
            let (tap, first_channel) = (index * block / g.inputs, index * block % g.inputs);
            let (r, s) = (tap / g.taps[1], tap % g.taps[1]);
            d_filter.fill(0.0);
            let mut sum = Sum::new(d_filter, g.outputs, Into::Add);
            for p in 0..g.output_height {
                let Some(h) = g.input_row(p, r) else { continue };
                for_each_run(&g, s, 0..g.output_width, |run, first, distance| {
                    let x = pixels(x, [g.width, g.batch, g.inputs], h, first, run.len(), distance);
                    let x = x.transposed().rows(first_channel..first_channel + block);
                    let d_y = pixels(d_y, [g.output_width, g.batch, g.outputs], p, run.start, run.len(), 1);
                    if Panels::fit(g.outputs) {
                        sum.add(x, Panels::in_place(d_y));
                    } else {
                        sum.add_product(x, d_y);
                    }
                });
            }
            sum.flush();
        });
        if op.bias {
            sum_rows(d_y, g.batch, g.outputs, io.workspace, io.writes[1]);
        }
    }))
}

/// `sums[k] = Σ rows[i, k]`: within groups of `group` rows first, then over the groups, whose sums go to `partial`.
pub(super) fn sum_rows(rows: &[f32], group: usize, columns: usize, partial: &mut [f32], sums: &mut [f32]) {
    partial.par_chunks_mut(columns).zip(rows.par_chunks(group * columns)).for_each(|(sum, rows)| {
        sum.fill(0.0);
        for row in rows.chunks_exact(columns) {
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
    });
    sums.fill(0.0);
    for row in partial.chunks_exact(columns) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
}
