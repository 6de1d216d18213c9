//! The fully connected layer and its gradients.

use super::Context;
use super::column_sum::ColumnSum;
use super::conv2d::check_sizes;
use super::epilogue::sum_splits;
use super::matrix_product::Products;
use super::tile::{Scheme, fours};
use crate::launch::{Kernel, Launch, MOST_BLOCKS_Y, Operands, PartSum, Slice, blocks, suffix};
use bytemuck::{Pod, Zeroable};
use sphereface_tensor::op::{Layout, LinearBackwardData, LinearBackwardWeight, LinearForward, Operator};
use sphereface_tensor::{DType, Error};

/// Layers of at most so many outputs have kernels of their own.
const FEW: usize = 4;
/// Threads of a block of these.
const DIRECT_THREADS: u32 = 256;

/// `Linear` of kernels/linear.cu.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct Linear {
    pub(super) pixels: u32,
    pub(super) batch: u32,
    pub(super) inputs: u32,
    pub(super) outputs: u32,
}

/// Sizes of a layer, by the shape of its input or of the input's gradient, and the outputs.
struct Sizes {
    pixels: usize,
    batch: usize,
    inputs: usize,
    outputs: usize,
}

impl Sizes {
    fn of(activation: &sphereface_tensor::Shape, outputs: usize) -> Self {
        let mut sizes = activation.sizes();
        let mut next = || sizes.next().unwrap_or(1);
        let (height, width, batch, inputs) = (next(), next(), next(), next());
        Sizes { pixels: height * width, batch, inputs, outputs }
    }

    /// A product for each pixel is a layer of the grid.
    fn check_pixels(&self, op: &'static str) -> Result<(), Error> {
        if self.pixels > MOST_BLOCKS_Y as usize {
            let message = format!("expected at most {MOST_BLOCKS_Y} pixels, found {}", self.pixels);
            return Err(Error::Attribute { op, message });
        }
        Ok(())
    }

    fn few(&self) -> Option<Linear> {
        (self.outputs <= FEW).then_some(Linear {
            pixels: self.pixels as u32,
            batch: self.batch as u32,
            inputs: self.inputs as u32,
            outputs: self.outputs as u32,
        })
    }
}

/// Adds up the partial sums of products.
fn sum(dtype: DType, products: &Products, splits: usize, partial: Slice, bias: Option<Slice>, out: Slice) -> Launch {
    let sizes = [products.batch * products.rows, products.columns, splits];
    let kernel = format!("linear_sum_{}", suffix(dtype));
    sum_splits("linear", kernel, partial, sizes, |launch| launch.read_if(bias).write(out))
}

/// A product, and the sum of its parts if it has several.
fn product(
    pass: &str,
    (products, scheme): (Products, Scheme),
    [left, right, out, partial]: [Slice; 4],
    bias: Option<Option<Slice>>,
    result: DType,
) -> Vec<Launch> {
    let whole = scheme.splits == 1;
    let mut launch = products.launch(&scheme, "linear", &format!("linear_{pass}"), [left, right]);
    if let Some(bias) = bias {
        launch = launch.read_if(bias.filter(|_| whole));
    }
    launch = launch.write_if(whole.then_some(out)).write(partial).value(products.structure(&scheme));
    let mut launches = vec![launch];
    launches.extend((!whole).then(|| sum(result, &products, scheme.splits, partial, bias.flatten(), out)));
    launches
}

pub(super) fn forward(op: LinearForward, operands: &Operands<'_>, context: &Context) -> Result<Kernel, Error> {
    check_sizes(&op, &[&operands.reads[..], &operands.writes].concat())?;
    let dtype = operands.reads[0].dtype;
    let sizes = Sizes::of(&operands.reads[0].shape, operands.writes[0].shape.last());
    if let Some(few) = sizes.few() {
        return Ok(Kernel::new(0, move |io| {
            let launch = Launch::new("linear", format!("linear_forward_direct_{}", suffix(dtype)))
                .grid([few.batch, 1, 1])
                .block(DIRECT_THREADS)
                .read(io.reads[0])
                .read(io.reads[1])
                .read(io.reads[2])
                .write(io.writes[0])
                .value(few);
            vec![launch]
        }));
    }
    let products = Products {
        layout: Layout::NN,
        rows: sizes.batch,
        columns: sizes.outputs,
        length: sizes.inputs,
        segments: sizes.pixels,
        batch: 1,
        own: [false; 2],
    };
    let scheme = products.scheme(context, dtype);
    Ok(Kernel::new(products.partial_bytes(&scheme), move |io| {
        let slices = [io.reads[0], io.reads[1], io.writes[0], io.workspace];
        product("forward", (products, scheme), slices, Some(Some(io.reads[2])), DType::F32)
    }))
}

pub(super) fn backward_data(
    op: LinearBackwardData,
    operands: &Operands<'_>,
    context: &Context,
) -> Result<Kernel, Error> {
    check_sizes(&op, &[&operands.reads[..], &operands.writes].concat())?;
    let dtype = operands.reads[0].dtype;
    let sizes = Sizes::of(&operands.writes[0].shape, operands.reads[0].shape.last());
    if let Some(few) = sizes.few() {
        let fours_of_all = sizes.pixels * sizes.batch * sizes.inputs.div_ceil(4);
        return Ok(Kernel::new(0, move |io| {
            let launch = Launch::new("linear", format!("linear_backward_data_direct_{}", suffix(dtype)))
                .grid([blocks(fours_of_all, DIRECT_THREADS, 1 << 16), 1, 1])
                .block(DIRECT_THREADS)
                .read(io.reads[0])
                .read(io.reads[1])
                .write(io.writes[0])
                .value(few)
                .value(u32::from(fours(few.inputs as usize)));
            vec![launch]
        }));
    }
    sizes.check_pixels(op.name())?;
    // A product for each pixel, with the same d_out.
    let products = Products {
        layout: Layout::NT,
        rows: sizes.batch,
        columns: sizes.inputs,
        length: sizes.outputs,
        segments: 1,
        batch: sizes.pixels,
        own: [false, true],
    };
    let scheme = products.scheme(context, dtype);
    Ok(Kernel::new(products.partial_bytes(&scheme), move |io| {
        let slices = [io.reads[0], io.reads[1], io.writes[0], io.workspace];
        product("backward_data", (products, scheme), slices, None, dtype)
    }))
}

pub(super) fn backward_weight(
    op: LinearBackwardWeight,
    operands: &Operands<'_>,
    context: &Context,
) -> Result<Kernel, Error> {
    check_sizes(&op, &[&operands.reads[..], &operands.writes].concat())?;
    let dtype = operands.reads[0].dtype;
    let sizes = Sizes::of(&operands.reads[0].shape, operands.reads[1].shape.last());
    let few = sizes.few();
    if few.is_none() {
        sizes.check_pixels(op.name())?;
    }
    // A product for each pixel, with the same d_out.
    let products = Products {
        layout: Layout::TN,
        rows: sizes.inputs,
        columns: sizes.outputs,
        length: sizes.batch,
        segments: 1,
        batch: sizes.pixels,
        own: [true, false],
    };
    let scheme = products.scheme(context, dtype);
    let (splits, elements) = (scheme.splits, products.batch * products.rows * products.columns);
    let weight = PartSum { parts: splits, columns: elements, write: 0 };
    let weight_parts = (few.is_none() && splits > 1).then_some(weight);
    let bias = ColumnSum { rows: sizes.batch, columns: sizes.outputs };
    let bias_parts = if few.is_none() { bias.parts(1) } else { None };
    let kernel = Kernel::new(0, move |io| {
        let (x, d_out, d_weight, mut parts) = (io.reads[0], io.reads[1], io.writes[0], io.parts.iter().copied());
        let partial = weight_parts.and_then(|_| parts.next());
        if let Some(few) = few {
            let launch = Launch::new("linear", format!("linear_backward_weight_direct_{}", suffix(dtype)))
                .grid([(few.pixels * few.inputs + 1).div_ceil(32), 1, 1])
                .block(DIRECT_THREADS)
                .read(x)
                .read(d_out)
                .write(d_weight)
                .write(io.writes[1])
                .value(few);
            return vec![launch];
        }
        let launch = products
            .launch(&scheme, "linear", "linear_backward_weight", [x, d_out])
            .write_if(partial.is_none().then_some(d_weight))
            .write_if(partial)
            .value(products.structure(&scheme));
        vec![launch, bias.launch("linear", dtype, d_out, parts.next().unwrap_or(io.writes[1]))]
    });
    Ok(kernel.with_sums([weight_parts, bias_parts].into_iter().flatten()))
}
