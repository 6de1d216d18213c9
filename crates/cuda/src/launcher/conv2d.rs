//! Convolution and its gradients.

use super::tile::{Scheme, fours};
use super::{Context, mma};
use crate::launch::{Io, Kernel, Launch, Operands, Slice, blocks, suffix};
use crate::launcher::prelu::chunks;
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
    fn rows(&self) -> usize {
        self.vertical.pixels as usize * self.horizontal.pixels as usize * self.batch as usize
    }

    fn taps(&self) -> usize {
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
/// Threads of a block that adds up splits.
const SUM_THREADS: u32 = 128;

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

/// What follows a sum of products, as `Epilogue` of kernels/tile.cuh has it.
#[derive(Clone, Copy, Default)]
struct Finish {
    bias: Option<Slice>,
    slope: Option<Slice>,
    addend: Option<Slice>,
    kept: Option<Slice>,
    out: Slice,
}

/// Adds up partial sums `[splits, rows, columns]`.
fn sum(dtype: DType, partial: Slice, finish: &Finish, [rows, columns, splits]: [usize; 3]) -> Launch {
    Launch::new("conv2d", format!("conv2d_sum_{}", suffix(dtype)))
        .grid([blocks(rows * columns.div_ceil(4), SUM_THREADS, 1 << 16), 1, 1])
        .block(SUM_THREADS)
        .read(partial)
        .read_if(finish.bias)
        .read_if(finish.slope)
        .read_if(finish.addend)
        .write_if(finish.kept)
        .write(finish.out)
        .value(rows as u32)
        .value(columns as u32)
        .value(splits as u32)
        .value(u32::from(fours(columns)))
}

pub(super) fn forward(op: Conv2dForward, operands: &Operands<'_>, context: &Context) -> Result<Kernel, Error> {
    check_sizes(&op, &[&operands.reads[..], &operands.writes].concat())?;
    let g = Conv2dGeometry::new(op.name(), &operands.reads[0].shape, &operands.reads[1].shape, op.stride, op.padding)?;
    let dtype = operands.reads[0].dtype;
    let finish = move |reads: &[Slice], writes: &[Slice]| {
        let mut rest = reads[2..].iter().copied();
        Finish {
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
            let finish = finish(&io.reads, &io.writes);
            let rows = g.output_height * g.output_width * g.batch;
            let launch = Launch::new("conv2d", format!("conv2d_forward_direct_{}", suffix(dtype)))
                .grid([rows.div_ceil(DIRECT_TILE) as u32, g.outputs.div_ceil(DIRECT_TILE) as u32, 1])
                .block(DIRECT_THREADS)
                .shared(filter_bytes as u32)
                .read(io.reads[0])
                .read(io.reads[1])
                .read_if(finish.bias)
                .read_if(finish.slope)
                .read_if(finish.addend)
                .write_if(finish.kept)
                .write(finish.out)
                .value(Conv2d::from(&g))
                .value(u32::from(fours(g.outputs)));
            vec![launch]
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
    let scheme = mma::convolution(context, dtype, &g, [rows, columns], terms)
        .unwrap_or_else(|| Scheme::portable(dtype, 1, [rows, columns], terms, fours(g.inputs) && fours(g.outputs)));
    let Scheme { tile, splits, .. } = scheme;
    product.splits = splits as i32;
    let workspace = if splits > 1 { 4 * splits * rows * columns } else { 0 };
    Ok(Kernel::new(workspace as u64, move |io| {
        let finish = finish(&io.reads, &io.writes);
        let now = (splits == 1).then_some(finish);
        let launch = scheme
            .launch("conv2d", "conv2d_forward")
            .grid(tile.grid(rows, columns, splits))
            .read(io.reads[0])
            .read(io.reads[1])
            .read_if(now.and_then(|finish| finish.bias))
            .read_if(now.and_then(|finish| finish.slope))
            .read_if(now.and_then(|finish| finish.addend))
            .write_if(now.and_then(|finish| finish.kept))
            .write_if(now.map(|finish| finish.out))
            .write(io.workspace)
            .value(product);
        let mut launches = vec![launch];
        launches.extend((splits > 1).then(|| sum(dtype, io.workspace, &finish, [rows, columns, splits])));
        launches
    }))
}

pub(super) fn backward_data(
    op: Conv2dBackwardData,
    operands: &Operands<'_>,
    context: &Context,
) -> Result<Kernel, Error> {
    if op.slope {
        return backward_data_then_prelu(op, operands, context);
    }
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
    let scheme = mma::convolution(context, dtype, &g, size, terms)
        .unwrap_or_else(|| Scheme::portable(dtype, 1, size, terms, fours(g.inputs) && fours(g.outputs)));
    let Scheme { tile, splits, .. } = scheme;
    products.iter_mut().for_each(|product| product.splits = splits as i32);
    let workspace = if splits > 1 { 4 * splits * rows * columns } else { 0 };
    Ok(Kernel::new(workspace as u64, move |io| {
        let finish = Finish { addend: io.reads.get(2).copied(), out: io.writes[0], ..Finish::default() };
        let now = (splits == 1).then_some(finish);
        let launch = |(index, product): (usize, &TapProduct)| {
            let launch = scheme
                .launch("conv2d", "conv2d_backward_data")
                .grid(tile.grid(product.rows(), columns, splits))
                .read(io.reads[0])
                .read(io.reads[1])
                .read_if(now.and_then(|finish| finish.addend));
            // The pixels of one class lie between those of the others: only the first launch finds nothing written.
            let (out, partial) = (now.map(|finish| finish.out).unwrap_or_default(), io.workspace);
            let launch = if index == 0 { launch.write(out).write(partial) } else { launch.update(out).update(partial) };
            launch.value(*product)
        };
        let mut launches: Vec<Launch> = products.iter().enumerate().map(launch).collect();
        launches.extend((splits > 1).then(|| sum(dtype, io.workspace, &finish, [rows, columns, splits])));
        launches
    }))
}

/// The gradient of the input, then that of the PReLU before it.
fn backward_data_then_prelu(
    op: Conv2dBackwardData,
    operands: &Operands<'_>,
    context: &Context,
) -> Result<Kernel, Error> {
    let (conv_reads, prelu_reads) = operands.reads.split_at(2 + usize::from(op.addend));
    let (conv_reads, prelu_reads) = (conv_reads.to_vec(), prelu_reads.to_vec());
    let [.., d_pre, d_slope] = operands.writes[..] else { unreachable!("what the shape rule says") };
    let plain = Conv2dBackwardData::plain(op.stride, op.padding, op.size, op.addend);
    let pre = conv_reads.len();
    let conv = backward_data(plain, &Operands { reads: conv_reads, writes: vec![d_pre], updates: vec![] }, context)?;
    let reads = vec![d_pre, prelu_reads[0], prelu_reads[1]];
    let prelu = super::prelu::backward(&Operands { reads, writes: vec![d_pre, d_slope], updates: vec![] });
    let scratch = conv.workspace_bytes.max(prelu.workspace_bytes).next_multiple_of(16);
    let d_x_bytes = if op.keep { 0 } else { d_pre.bytes() as u64 };
    Ok(Kernel::new(scratch + d_x_bytes, move |io| {
        let d_x = if op.keep { io.writes[0] } else { io.workspace.part(scratch, d_x_bytes) };
        let results = &io.writes[usize::from(op.keep)..];
        let part = |kernel: &Kernel, reads: Vec<Slice>, writes: Vec<Slice>| {
            let workspace = io.workspace.part(0, kernel.workspace_bytes);
            (kernel.build)(&Io { reads, writes, updates: vec![], workspace, constants: Slice::default() })
        };
        let mut launches = part(&conv, io.reads[..pre].to_vec(), vec![d_x]);
        launches.extend(part(&prelu, vec![d_x, io.reads[pre], io.reads[pre + 1]], results.to_vec()));
        launches
    }))
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
    let scheme = mma::weight_gradient(context, dtype, &g).unwrap_or_else(|| {
        Scheme::portable(dtype, 1, [rows, columns], [pixels, g.batch], fours(g.inputs) && fours(g.outputs))
    });
    let splits = scheme.splits;
    let partial_bytes = if splits > 1 { 4 * (splits * rows * columns) as u64 } else { 0 };
    let (chunk_rows, chunks) = chunks(pixels * g.batch);
    let bias_bytes = if op.bias { 4 * u64::from(chunks) * columns as u64 } else { 0 };
    Ok(Kernel::new(partial_bytes + bias_bytes, move |io| {
        let (x, d_y, d_filter) = (io.reads[0], io.reads[1], io.writes[0]);
        let partial = io.workspace.part(0, partial_bytes);
        let out = if splits > 1 { partial } else { d_filter };
        let product = WeightProduct {
            sizes: Conv2d::from(&g),
            splits: splits as i32,
            left_vectors: fours(g.inputs).into(),
            right_vectors: fours(columns).into(),
            out_vectors: fours(columns).into(),
        };
        let launch = scheme
            .launch("conv2d", "conv2d_backward_weight")
            .grid(scheme.weight_grid(&g))
            .read(x)
            .read(d_y)
            .write(out)
            .value(product);
        let mut launches = vec![launch];
        let finish = Finish { out: d_filter, ..Finish::default() };
        launches.extend((splits > 1).then(|| sum(DType::F32, partial, &finish, [rows, columns, splits])));
        if op.bias {
            let sums = io.workspace.part(partial_bytes, bias_bytes);
            let sizes = [pixels * g.batch, columns, chunk_rows as usize, chunks as usize];
            launches.extend(column_sum("conv2d", dtype, [d_y, sums, io.writes[1]], sizes));
        }
        launches
    }))
}

/// The gradient of a bias: columns of `d_y` summed in chunks, then the chunks. `rows`, `columns`, rows of a chunk, chunks.
pub(super) fn column_sum(
    stem: &'static str,
    dtype: DType,
    [d_y, sums, d_bias]: [Slice; 3],
    [rows, columns, chunk_rows, chunks]: [usize; 4],
) -> [Launch; 2] {
    const THREADS: u32 = 256;
    [
        Launch::new(stem, format!("{stem}_backward_weight_bias_{}", suffix(dtype)))
            .grid([columns.div_ceil(32) as u32, chunks as u32, 1])
            .block(THREADS)
            .read(d_y)
            .write(sums)
            .value(rows as u32)
            .value(columns as u32)
            .value(chunk_rows as u32),
        Launch::new(stem, format!("{stem}_backward_weight_bias_sum"))
            .grid([blocks(columns, THREADS, 1 << 16), 1, 1])
            .block(THREADS)
            .read(sums)
            .write(d_bias)
            .value(chunks as u32)
            .value(columns as u32),
    ]
}
