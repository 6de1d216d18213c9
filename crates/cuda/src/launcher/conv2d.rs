//! Convolution and its gradients.

use super::column_sum::ColumnSum;
use super::conv2d_wgmma::Convolution;
use super::conv2d_wgmma_pixels::Pixels;
use super::conv2d_wgmma_weight::WeightGradient;
use super::epilogue::{PreluEpilogue, PreluGradientEpilogue, SUM_ROWS, slope_sum, sum_splits};
use super::tile::{Scheme, fours};
use super::{Context, mma};
use crate::launch::{Kernel, Launch, Operands, PartSum, Slice, suffix};
use bytemuck::{Pod, Zeroable};
use sphereface_tensor::op::{Conv2dBackwardData, Conv2dBackwardWeight, Conv2dForward, Conv2dGeometry, Operator};
use sphereface_tensor::{DType, Error, Type};

/// `Conv2d` of kernels/conv2d.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct Conv2d {
    pub(super) height: u32,
    pub(super) width: u32,
    pub(super) batch: u32,
    pub(super) inputs: u32,
    pub(super) filter_height: u32,
    pub(super) filter_width: u32,
    pub(super) outputs: u32,
    pub(super) output_height: u32,
    pub(super) output_width: u32,
    pub(super) stride: u32,
    pub(super) padding: u32,
}

impl From<&Conv2dGeometry> for Conv2d {
    fn from(g: &Conv2dGeometry) -> Self {
        Conv2d {
            height: g.height as u32,
            width: g.width as u32,
            batch: g.batch as u32,
            inputs: g.inputs as u32,
            filter_height: g.taps[0] as u32,
            filter_width: g.taps[1] as u32,
            outputs: g.outputs as u32,
            output_height: g.output_height as u32,
            output_width: g.output_width as u32,
            stride: g.stride as u32,
            padding: g.padding as u32,
        }
    }
}

/// `TapAxis` of kernels/conv2d.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct TapAxis {
    pub(super) pixels: i32,
    pub(super) step: i32,
    pub(super) origin: i32,
    pub(super) direction: i32,
    pub(super) source: i32,
    pub(super) taps: i32,
    pub(super) first_tap: i32,
    pub(super) tap_step: i32,
    pub(super) first_pixel: i32,
    pub(super) pixel_step: i32,
}

impl TapAxis {
    /// Outputs that see an input of this size.
    fn forward(size: usize, outputs: usize, taps: usize, stride: usize, padding: usize) -> Self {
        TapAxis {
            pixels: outputs as i32,
            step: stride as i32,
            origin: -(padding as i32),
            direction: 1,
            source: size as i32,
            taps: taps as i32,
            first_tap: 0,
            tap_step: 1,
            first_pixel: 0,
            pixel_step: 1,
        }
    }

    /// Inputs that are `class` modulo the stride, seen by the outputs: input `class + stride · i` meets output
    /// `(class + stride · i + padding − tap) / stride`, for the taps that make it whole.
    fn backward(size: usize, outputs: usize, taps: usize, stride: usize, padding: usize, class: usize) -> Self {
        let first_tap = (class + padding) % stride;
        TapAxis {
            pixels: size.saturating_sub(class).div_ceil(stride) as i32,
            step: 1,
            origin: ((class + padding - first_tap) / stride) as i32,
            direction: -1,
            source: outputs as i32,
            taps: taps.saturating_sub(first_tap).div_ceil(stride) as i32,
            first_tap: first_tap as i32,
            tap_step: stride as i32,
            first_pixel: class as i32,
            pixel_step: stride as i32,
        }
    }
}

/// `TapProduct` of kernels/conv2d.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct TapProduct {
    pub(super) vertical: TapAxis,
    pub(super) horizontal: TapAxis,
    pub(super) batch: i32,
    pub(super) length: i32,
    pub(super) columns: i32,
    pub(super) filter_width: i32,
    pub(super) result_width: i32,
    pub(super) result_rows: i32,
    pub(super) splits: i32,
    pub(super) left_vectors: i32,
    pub(super) right_vectors: i32,
    pub(super) out_vectors: i32,
}

impl TapProduct {
    pub(super) fn rows(&self) -> usize {
        self.vertical.pixels as usize * self.horizontal.pixels as usize * self.batch as usize
    }

    pub(super) fn taps(&self) -> usize {
        self.vertical.taps as usize * self.horizontal.taps as usize
    }

    /// A product that is not split yet.
    fn new(g: &Conv2dGeometry, [vertical, horizontal]: [TapAxis; 2], result: Result2d) -> Self {
        TapProduct {
            vertical,
            horizontal,
            batch: g.batch as i32,
            length: result.length as i32,
            columns: result.columns as i32,
            filter_width: g.taps[1] as i32,
            result_width: result.width as i32,
            result_rows: (result.height * result.width * g.batch) as i32,
            splits: 1,
            left_vectors: fours(result.length).into(),
            right_vectors: fours(g.outputs).into(),
            out_vectors: fours(result.columns).into(),
        }
    }
}

/// What a [`TapProduct`] makes: an image of `columns` channels, by sums over `length` channels of each tap.
#[derive(Clone, Copy)]
struct Result2d {
    height: usize,
    width: usize,
    columns: usize,
    length: usize,
}

/// `WeightProduct` of kernels/conv2d.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct WeightProduct {
    pub(super) sizes: Conv2d,
    pub(super) splits: i32,
    pub(super) left_vectors: i32,
    pub(super) right_vectors: i32,
    pub(super) out_vectors: i32,
}

/// Inputs of at most so many channels, with a filter of at most so many bytes a block, are convolved directly.
const DIRECT_CHANNELS: usize = 4;
const DIRECT_FILTER_BYTES: usize = 48 * 1024;
/// Rows and columns of a block of the direct convolution.
const DIRECT_TILE: usize = 64;
const DIRECT_THREADS: u32 = 128;
/// Input channels for which there is a direct gradient of the filter, and threads of its blocks.
const DIRECT_GRADIENTS: [usize; 2] = [1, 3];
const GRADIENT_THREADS: u32 = 256;
/// The most blocks of it, each of which leaves a part.
const GRADIENT_BLOCKS: usize = 256;

/// Kernels count elements and pixels in 31 bits, offsets of taps in 15.
pub(super) fn check_sizes(op: &dyn Operator, kinds: &[&Type]) -> Result<(), Error> {
    for kind in kinds {
        let (elements, side) = (kind.shape.elements(), kind.shape.sizes().take(2).max().unwrap_or(0));
        if elements >= 1 << 31 || kind.shape.sizes().count() == 4 && side >= 1 << 15 {
            let message = format!("{kind}: expected fewer than 2^31 elements and height and width below 2^15");
            return Err(Error::Attribute { op: op.name(), message });
        }
    }
    Ok(())
}

/// The faster way of Hopper's tier for these products of taps, if it is faster than another tier's, or forced.
fn hopper(
    context: &Context,
    dtype: DType,
    g: &Conv2dGeometry,
    products: &[TapProduct],
    backward: bool,
    rival: Option<usize>,
) -> (Option<Convolution>, Option<Pixels>) {
    let convolution = Convolution::of(context, dtype, g, backward);
    let pixels = Pixels::of(context, dtype, g, products, backward);
    let cycles = [convolution.map(|(_, cycles)| cycles), pixels.map(|(_, cycles)| cycles)];
    let wins = |own: Option<usize>, rivals: [Option<usize>; 2]| {
        own.is_some_and(|own| context.options.forced || rivals.into_iter().flatten().all(|rival| own <= rival))
    };
    let convolution = convolution.filter(|_| wins(cycles[0], [cycles[1], rival])).map(|(found, _)| found);
    let pixels = pixels.filter(|_| convolution.is_none() && wins(cycles[1], [cycles[0], rival]));
    (convolution, pixels.map(|(found, _)| found))
}

pub(super) fn forward(op: Conv2dForward, operands: &Operands<'_>, context: &Context) -> Result<Kernel, Error> {
    check_sizes(&op, &[&operands.reads[..], &operands.writes].concat())?;
    let g = Conv2dGeometry::new(op.name(), &operands.reads[0].shape, &operands.reads[1].shape, op.stride, op.padding)?;
    let dtype = operands.reads[0].dtype;
    let epilogue = move |reads: &[Slice], writes: &[Slice]| {
        let mut rest = reads[2..].iter().copied();
        PreluEpilogue {
            bias: if op.bias { rest.next() } else { None },
            slope: if op.slope { rest.next() } else { None },
            addend: if op.residual { rest.next() } else { None },
            kept: op.keep.then(|| writes[0]),
            out: writes[usize::from(op.keep)],
        }
    };
    let filter_bytes = g.taps[0] * g.taps[1] * g.inputs * DIRECT_TILE * 4;
    if g.inputs <= DIRECT_CHANNELS && filter_bytes <= DIRECT_FILTER_BYTES {
        return Ok(Kernel::new(0, move |io| {
            let rows = g.output_height * g.output_width * g.batch;
            let launch = Launch::new("conv2d", format!("conv2d_forward_direct_{}", suffix(dtype)))
                .grid([rows.div_ceil(DIRECT_TILE) as u32, g.outputs.div_ceil(DIRECT_TILE) as u32, 1])
                .block(DIRECT_THREADS)
                .shared(filter_bytes as u32)
                .read(io.reads[0])
                .read(io.reads[1]);
            let launch = epilogue(&io.reads, &io.writes).arguments(launch);
            vec![launch.value(Conv2d::from(&g)).value(u32::from(fours(g.outputs)))]
        }));
    }
    let axes = [0, 1].map(|axis| {
        let (size, outputs) = [(g.height, g.output_height), (g.width, g.output_width)][axis];
        TapAxis::forward(size, outputs, g.taps[axis], g.stride, g.padding)
    });
    let result = Result2d { height: g.output_height, width: g.output_width, columns: g.outputs, length: g.inputs };
    let mut product = TapProduct::new(&g, axes, result);
    let (rows, columns) = (product.rows(), g.outputs);
    let terms = [product.taps(), g.inputs];
    let mma = mma::convolution(context, dtype, &g, [rows, columns], terms);
    let (convolution, pixels) = hopper(context, dtype, &g, &[product], false, mma.map(|(_, cycles)| cycles));
    if let Some(found) = convolution {
        return Ok(Kernel::new(found.forward_workspace_bytes(), move |io| {
            found.forward(io, epilogue(&io.reads, &io.writes))
        }));
    }
    if let Some(found) = pixels {
        return Ok(Kernel::new(found.forward_workspace_bytes(), move |io| {
            found.forward(io, epilogue(&io.reads, &io.writes))
        }));
    }
    let portable = || Scheme::portable(dtype, 1, [rows, columns], terms, fours(g.inputs) && fours(g.outputs));
    let scheme = mma.map_or_else(portable, |(scheme, _)| scheme);
    let Scheme { tile, splits, .. } = scheme;
    product.splits = splits as i32;
    let workspace = if splits > 1 { 4 * splits * rows * columns } else { 0 };
    Ok(Kernel::new(workspace as u64, move |io| {
        let epilogue = epilogue(&io.reads, &io.writes);
        let launch = scheme
            .launch("conv2d", "conv2d_forward")
            .grid(tile.grid(rows, columns, splits))
            .read(io.reads[0])
            .read(io.reads[1]);
        let whole = if splits == 1 { epilogue } else { PreluEpilogue::default() };
        let mut launches = vec![whole.arguments(launch).write(io.workspace).value(product)];
        launches.extend((splits > 1).then(|| sum(dtype, io.workspace, epilogue, [rows, columns, splits])));
        launches
    }))
}

/// Adds up parts of a forward pass.
fn sum(dtype: DType, partial: Slice, epilogue: PreluEpilogue, sizes: [usize; 3]) -> Launch {
    let kernel = format!("conv2d_sum_{}", suffix(dtype));
    sum_splits("conv2d", kernel, partial, sizes, |launch| epilogue.arguments(launch))
}

pub(super) fn backward_data(
    op: Conv2dBackwardData,
    operands: &Operands<'_>,
    context: &Context,
) -> Result<Kernel, Error> {
    check_sizes(&op, &[&operands.reads[..], &operands.writes].concat())?;
    let g = op.geometry(&operands.reads[0].shape, &operands.reads[1].shape)?;
    let dtype = operands.reads[0].dtype;
    let (rows, columns) = (g.height * g.width * g.batch, g.inputs);
    // One product for each class of pixels modulo the stride.
    let result = Result2d { height: g.height, width: g.width, columns, length: g.outputs };
    let axis = |axis: usize, class: usize| {
        let (size, outputs) = [(g.height, g.output_height), (g.width, g.output_width)][axis];
        TapAxis::backward(size, outputs, g.taps[axis], g.stride, g.padding, class)
    };
    let mut products: Vec<TapProduct> = (0..g.stride * g.stride)
        .map(|class| [axis(0, class / g.stride), axis(1, class % g.stride)])
        .map(|axes| TapProduct::new(&g, axes, result))
        .filter(|product| product.rows() > 0)
        .collect();
    let size = [products[0].rows(), columns];
    let terms = [products.iter().map(TapProduct::taps).max().unwrap_or(0), g.outputs];
    let mma = mma::convolution(context, dtype, &g, size, terms);
    // A launch for each class.
    let rival = mma.map(|(_, cycles)| cycles * products.len());
    let (convolution, pixels) = hopper(context, dtype, &g, &products, true, rival);
    if let Some(found) = convolution {
        return Ok(found.backward_data(op));
    }
    if let Some(found) = pixels {
        return Ok(found.backward_data(op));
    }
    let portable = || Scheme::portable(dtype, 1, size, terms, fours(g.inputs) && fours(g.outputs));
    let scheme = mma.map_or_else(portable, |(scheme, _)| scheme);
    let Scheme { tile, splits, .. } = scheme;
    products.iter_mut().for_each(|product| product.splits = splits as i32);
    let partial_bytes = if splits > 1 { 4 * (splits * rows * columns) as u64 } else { 0 };
    // Every tile of rows leaves its part of the gradient of the slopes.
    let row_tiles = |rows: usize| rows.div_ceil(if splits > 1 { SUM_ROWS } else { tile.rows });
    let row_tiles_of: Vec<usize> = products.iter().map(|product| row_tiles(product.rows())).collect();
    let all_tiles = if splits > 1 { row_tiles(rows) } else { row_tiles_of.iter().sum() };
    let bytes_of_tiles = move |tiles: usize| if op.slope { 4 * (tiles * columns) as u64 } else { 0 };
    let kernel = Kernel::new(partial_bytes, move |io| {
        let (partial, epilogue) = (io.workspace, PreluGradientEpilogue::of(op, io));
        let mut tiles_before = 0;
        let launch = |(index, product): (usize, &TapProduct)| {
            let launch = scheme
                .launch("conv2d", "conv2d_backward_data")
                .grid(tile.grid(product.rows(), columns, splits))
                .read(io.reads[0])
                .read(io.reads[1]);
            // The pixels of one class lie between those of the others: only the first launch finds nothing written.
            let first = index == 0;
            if splits > 1 {
                let launch = PreluGradientEpilogue::default().arguments(launch, first);
                return if first { launch.write(partial) } else { launch.update(partial) }.value(*product);
            }
            let (before, tiles) = (bytes_of_tiles(tiles_before), row_tiles_of[index]);
            tiles_before += tiles;
            let column_sums = epilogue.column_sums.part(before, bytes_of_tiles(tiles));
            let epilogue = PreluGradientEpilogue { column_sums, ..epilogue };
            epilogue.arguments(launch, first).write(partial).value(*product)
        };
        let mut launches: Vec<Launch> = products.iter().enumerate().map(launch).collect();
        if splits > 1 {
            let kernel = format!("conv2d_backward_data_sum_{}", suffix(dtype));
            let arguments = |launch| epilogue.arguments(launch, true);
            launches.push(sum_splits("conv2d", kernel, partial, [rows, columns, splits], arguments));
        }
        launches
    });
    Ok(kernel.with_sums(slope_sum(op, all_tiles, columns)))
}

pub(super) fn backward_weight(
    op: Conv2dBackwardWeight,
    operands: &Operands<'_>,
    context: &Context,
) -> Result<Kernel, Error> {
    check_sizes(&op, &[&operands.reads[..], &operands.writes].concat())?;
    let g = op.geometry(&operands.reads[0].shape, &operands.reads[1].shape)?;
    let dtype = operands.reads[0].dtype;
    let (rows, columns) = (g.taps[0] * g.taps[1] * g.inputs, g.outputs);
    let pixels = g.output_height * g.output_width;
    if g.taps == [3; 2] && DIRECT_GRADIENTS.contains(&g.inputs) {
        return Ok(direct_gradient(op, &g, dtype));
    }
    let hopper = WeightGradient::of(context, dtype, &g);
    let scheme = mma::weight_gradient(context, dtype, &g).unwrap_or_else(|| {
        Scheme::portable(dtype, 1, [rows, columns], [pixels, g.batch], fours(g.inputs) && fours(g.outputs))
    });
    let splits = hopper.map_or(scheme.splits, |found| found.splits);
    let filter = (splits > 1).then_some(PartSum { parts: splits, columns: rows * columns, write: 0 });
    let bias = ColumnSum { rows: pixels * g.batch, columns };
    let bias_parts = if op.bias { hopper.map_or_else(|| bias.parts(1), |found| found.bias_parts(1)) } else { None };
    let kernel = Kernel::new(0, move |io| {
        let (x, d_y, mut parts) = (io.reads[0], io.reads[1], io.parts.iter().copied());
        let mut to = |sum: Option<PartSum>, whole: usize| {
            let parts = sum.and_then(|_| parts.next());
            parts.unwrap_or_else(|| io.writes[whole])
        };
        let out = to(filter, 0);
        let bias_out = op.bias.then(|| to(bias_parts, 1));
        let product = WeightProduct {
            sizes: Conv2d::from(&g),
            splits: splits as i32,
            left_vectors: fours(g.inputs).into(),
            right_vectors: fours(columns).into(),
            out_vectors: fours(columns).into(),
        };
        let launch = || {
            let launch = scheme.launch("conv2d", "conv2d_backward_weight").grid(scheme.weight_grid(&g));
            launch.read(x).read(d_y).write(out).value(product)
        };
        if let Some(found) = hopper {
            return vec![found.launch(io, out, bias_out)];
        }
        [launch()].into_iter().chain(bias_out.map(|out| bias.launch("conv2d", dtype, d_y, out))).collect()
    });
    Ok(kernel.with_sums([filter, bias_parts].into_iter().flatten()))
}

/// The gradients of filter and bias for few input channels, in parts.
fn direct_gradient(op: Conv2dBackwardWeight, g: &Conv2dGeometry, dtype: DType) -> Kernel {
    let g = *g;
    let blocks = (g.output_height * g.output_width).min(GRADIENT_BLOCKS);
    let filter = PartSum { parts: blocks, columns: 9 * g.inputs * g.outputs, write: 0 };
    let bias = op.bias.then_some(PartSum { parts: blocks, columns: g.outputs, write: 1 });
    let kernel = Kernel::new(0, move |io| {
        vec![
            Launch::new("conv2d", format!("conv2d_backward_weight_direct_{}_{}", g.inputs, suffix(dtype)))
                .grid([blocks as u32, g.outputs.div_ceil(DIRECT_TILE) as u32, 1])
                .block(GRADIENT_THREADS)
                .read(io.reads[0])
                .read(io.reads[1])
                .write(io.parts[0])
                .write_if(io.parts.get(1).copied())
                .value(Conv2d::from(&g))
                .value(u32::from(fours(g.outputs))),
        ]
    });
    kernel.with_sums([Some(filter), bias].into_iter().flatten())
}
