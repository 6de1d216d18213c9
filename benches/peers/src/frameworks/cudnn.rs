//! cuDNN: NVIDIA's convolutions, by the fastest algorithm that its own search finds.
#![allow(unsafe_code)] // Its functions are unsafe.

use super::cudnn_layout::{LAYOUTS, Layout};
use super::gpu::{Buffer, Gpu, sets, version, width};
use crate::arrays::{ACTIVATION, Array, FILTER, Inputs};
use crate::case::{Case, Convolution, Dtype};
use crate::protocol::{Framework, Prepared};
use anyhow::{Context, Result, bail, ensure};
use cudarc::cudnn::{result, sys};
use std::ffi::c_void;
use std::mem::transmute;
use std::ptr::from_ref;
use std::rc::Rc;

/// The most memory that an algorithm may use besides.
const WORKSPACE_BYTES: usize = 1 << 30;
/// More than there are algorithms in all kinds of arithmetic.
const MOST_FOUND: usize = 32;

/// What is computed, as the place of the result among `x`, the filter and `y`.
#[derive(Clone, Copy, PartialEq)]
enum Pass {
    BackwardData = 0,
    BackwardWeight = 1,
    Forward = 2,
}

fn pass(case: &Case) -> Option<(Pass, &Convolution)> {
    match case {
        Case::Conv2dForward(case) => Some((Pass::Forward, case)),
        Case::Conv2dBackwardData(case) => Some((Pass::BackwardData, case)),
        Case::Conv2dBackwardWeight(case) => Some((Pass::BackwardWeight, case)),
        _ => None,
    }
}

/// The library on a GPU.
pub(crate) struct Cudnn {
    gpu: Rc<Gpu>,
    handle: Rc<Handle>,
}

impl Cudnn {
    /// The library on GPU number `ordinal`.
    pub(crate) fn open(ordinal: usize) -> Result<Cudnn> {
        // SAFETY: to open the library runs no more than its initialisers.
        let gpu = Gpu::open(ordinal, ("cuDNN", "cudnn", || unsafe { sys::is_culib_present() }))?;
        let handle = Rc::new(Handle(result::create_handle().context("cudnnCreate")?));
        // SAFETY: handle and stream live; the stream outlives the handle's last use.
        unsafe { result::set_stream(handle.0, gpu.stream()) }.context("cudnnSetStream")?;
        Ok(Cudnn { gpu, handle })
    }
}

impl Framework for Cudnn {
    fn names(&self) -> (&'static str, &'static str) {
        ("cudarc", "cuDNN")
    }

    fn version(&self) -> Result<String> {
        Ok(version(result::get_version()))
    }

    fn detail(&self) -> String {
        format!("{}; the best that cudnnFind…Ex finds, with up to 1 GiB of workspace; graph replay", self.gpu.name)
    }

    fn supports(&self, case: &Case) -> bool {
        pass(case).is_some()
    }

    fn variants(&self) -> &'static [&'static str] {
        const VARIANTS: &[&str] = &[LAYOUTS[0].variant, LAYOUTS[1].variant];
        VARIANTS
    }

    fn prepare(&self, case: &Case, inputs: &Inputs, variant: &str) -> Result<Prepared> {
        let (pass, case) = pass(case).context("expected a bare pass of a convolution")?;
        let layout = LAYOUTS.iter().find(|layout| layout.variant == variant);
        let layout = layout.with_context(|| format!("variant: expected NHWC or NCHW, found '{variant}'"))?;
        let (gpu, dtype, result) = (&self.gpu, case.dtype, pass as usize);
        let [x, filter, y] = operands(pass, case, inputs)?;
        let shape = [&x, &filter, &y][result].shape.clone();
        let mut convolution = Running::new(Rc::clone(gpu), Rc::clone(&self.handle), case, layout, [&x, &filter, &y])?;
        let arrays =
            [x.permuted(&layout.activation[0]), filter.permuted(&layout.filter[0]), y.permuted(&layout.activation[0])];
        drop([x, filter, y]);
        let elements = arrays.iter().map(|array| array.values.len()).sum::<usize>();
        for _ in 0..sets(elements * width(dtype)) {
            let [x, filter, y] = arrays.each_ref().map(|array| gpu.upload(&array.values, dtype));
            convolution.operands.push([x?, filter?, y?]);
        }
        convolution.choose(pass)?;
        convolution.launch(0)?;
        // In its layout, the result's dimensions have the order of its array here.
        let computed = gpu.download(&convolution.operands[0][result], dtype, &arrays[result].shape)?;
        let back = if pass == Pass::BackwardWeight { layout.filter[1] } else { layout.activation[1] };
        let computed = computed.permuted(&back);
        ensure!(computed.shape == shape, "result: expected shape {shape:?}, found {:?}", computed.shape);
        let name = match pass {
            Pass::Forward => "y",
            Pass::BackwardData => "d_x",
            Pass::BackwardWeight => "d_filter",
        };
        let count = convolution.operands.len();
        let seconds = Rc::clone(gpu).clock(count, move |set| convolution.launch(set))?;
        Ok(Prepared { outputs: vec![(name, computed)], seconds })
    }
}

/// `x`, the filter and `y` in our layout; the one that is computed is zeros.
fn operands(pass: Pass, case: &Convolution, inputs: &Inputs) -> Result<[Array; 3]> {
    let zeros = |shape: [usize; 4]| Array { shape: shape.to_vec(), values: vec![0.0; shape.iter().product()] };
    let sizes = |array: &Array, name: &str| -> Result<[usize; 4]> {
        let shape = array.shape.as_slice();
        shape.try_into().with_context(|| format!("{name}: expected 4 dimensions, found {shape:?}"))
    };
    let (height, width, taps) = (case.height, case.width, case.taps);
    let output = |input: usize| -> Result<usize> {
        let room = (input + 2 * case.padding).checked_sub(taps);
        Ok(room.with_context(|| format!("expected at most {input} taps, found {taps}"))? / case.stride.max(1) + 1)
    };
    let (p, q) = (output(height)?, output(width)?);
    let arrays = match pass {
        Pass::Forward => {
            let (x, filter) = (inputs.floats("x")?, inputs.floats("filter")?);
            let y = zeros([p, q, sizes(&x, "x")?[2], sizes(&filter, "filter")?[3]]);
            [x, filter, y]
        }
        Pass::BackwardData => {
            let (filter, d_y) = (inputs.floats("filter")?, inputs.floats("d_y")?);
            [zeros([height, width, sizes(&d_y, "d_y")?[2], sizes(&filter, "filter")?[2]]), filter, d_y]
        }
        Pass::BackwardWeight => {
            let (x, d_y) = (inputs.floats("x")?, inputs.floats("d_y")?);
            let filter = zeros([taps, taps, sizes(&x, "x")?[3], sizes(&d_y, "d_y")?[3]]);
            [x, filter, d_y]
        }
    };
    let [x, filter, y] = &arrays;
    let ([_, _, n, c], [_, _, _, k]) = (sizes(x, "x")?, sizes(filter, "filter")?);
    let expected = [vec![height, width, n, c], vec![taps, taps, c, k], vec![p, q, n, k]];
    let found = [&x.shape, &filter.shape, &y.shape];
    ensure!(expected.iter().eq(found), "x, filter and y: expected shapes {expected:?}, found {found:?}");
    Ok(arrays)
}

struct Handle(sys::cudnnHandle_t);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle was created once and goes now. A failure leaves it to the end of the process.
        let _ = unsafe { result::destroy_handle(self.0) };
    }
}

/// What a search found: `cudnnConvolution…AlgoPerf_t` of all three passes, which differ in the type of the first number
/// only. Numbers here, since a newer library may know values that are in no enumeration of ours.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Found {
    algorithm: u32,
    status: u32,
    milliseconds: f32,
    workspace: usize,
    determinism: u32,
    arithmetic: u32,
    reserved: [i32; 3],
}

const _: () = assert!(size_of::<Found>() == size_of::<sys::cudnnConvolutionFwdAlgoPerf_t>());
const _: () = assert!(size_of::<Found>() == size_of::<sys::cudnnConvolutionBwdDataAlgoPerf_t>());
const _: () = assert!(size_of::<Found>() == size_of::<sys::cudnnConvolutionBwdFilterAlgoPerf_t>());

#[derive(Clone, Copy)]
enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    BackwardData(sys::cudnnConvolutionBwdDataAlgo_t),
    BackwardWeight(sys::cudnnConvolutionBwdFilterAlgo_t),
}

impl Algorithm {
    /// The algorithm of this number, if this program knows it.
    fn of(pass: Pass, number: u32) -> Option<Algorithm> {
        let known = match pass {
            Pass::Forward => sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_COUNT as u32,
            Pass::BackwardData => sys::cudnnConvolutionBwdDataAlgo_t::CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT as u32,
            Pass::BackwardWeight => {
                sys::cudnnConvolutionBwdFilterAlgo_t::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT as u32
            }
        };
        // SAFETY: these enumerations are of 32 bits and have every number below their count.
        (number < known).then(|| unsafe {
            match pass {
                Pass::Forward => Algorithm::Forward(transmute::<u32, sys::cudnnConvolutionFwdAlgo_t>(number)),
                Pass::BackwardData => {
                    Algorithm::BackwardData(transmute::<u32, sys::cudnnConvolutionBwdDataAlgo_t>(number))
                }
                Pass::BackwardWeight => {
                    Algorithm::BackwardWeight(transmute::<u32, sys::cudnnConvolutionBwdFilterAlgo_t>(number))
                }
            }
        })
    }
}

/// A convolution and its sets of operands `x`, filter and `y`.
struct Running {
    gpu: Rc<Gpu>,
    handle: Rc<Handle>,
    x: sys::cudnnTensorDescriptor_t,
    filter: sys::cudnnFilterDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    convolution: sys::cudnnConvolutionDescriptor_t,
    operands: Vec<[Buffer; 3]>,
    chosen: Option<(Algorithm, Buffer, usize)>,
    dtype: Dtype,
}

impl Running {
    /// Describes the convolution of arrays in our layout.
    fn new(
        gpu: Rc<Gpu>,
        handle: Rc<Handle>,
        case: &Convolution,
        layout: &Layout,
        [x, filter, y]: [&Array; 3],
    ) -> Result<Running> {
        let mut running = Running {
            gpu,
            handle,
            x: std::ptr::null_mut(),
            filter: std::ptr::null_mut(),
            y: std::ptr::null_mut(),
            convolution: std::ptr::null_mut(),
            operands: Vec::new(),
            chosen: None,
            dtype: case.dtype,
        };
        running.x = result::create_tensor_descriptor()?;
        running.filter = result::create_filter_descriptor()?;
        running.y = result::create_tensor_descriptor()?;
        running.convolution = result::create_convolution_descriptor()?;
        // cuDNN is told [N, C, H, W] and [K, C, R, S] whatever the layout.
        let sizes = |array: &Array, order: [usize; 4]| -> Result<[i32; 4]> {
            let [a, b, c, d] = order.map(|dimension| i32::try_from(array.shape[dimension]));
            Ok([a?, b?, c?, d?])
        };
        let number = match case.dtype {
            Dtype::F32 | Dtype::Tf32 => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
            Dtype::Bf16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
        };
        let (padding, stride) = (i32::try_from(case.padding)?, i32::try_from(case.stride)?);
        // SAFETY: the four descriptions were just created and live until Drop.
        unsafe {
            result::set_tensor4d_descriptor(running.x, layout.format, number, sizes(x, ACTIVATION)?)?;
            result::set_filter4d_descriptor(running.filter, number, layout.format, sizes(filter, FILTER)?)?;
            result::set_tensor4d_descriptor(running.y, layout.format, number, sizes(y, ACTIVATION)?)?;
            result::set_convolution2d_descriptor(
                running.convolution,
                padding,
                padding,
                stride,
                stride,
                1,
                1,
                sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
                sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
            )?;
        }
        running.allow(match case.dtype {
            Dtype::F32 => sys::cudnnMathType_t::CUDNN_FMA_MATH, // No TF32.
            Dtype::Tf32 => sys::cudnnMathType_t::CUDNN_DEFAULT_MATH,
            Dtype::Bf16 => sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
        })?;
        Ok(running)
    }

    /// Says which arithmetic the convolution may use.
    fn allow(&self, arithmetic: sys::cudnnMathType_t) -> Result<()> {
        // SAFETY: the description lives until Drop.
        let status = unsafe { sys::cudnnSetConvolutionMathType(self.convolution, arithmetic) };
        status.result().context("cudnnSetConvolutionMathType")
    }

    /// Has the library time its algorithms, and keeps the fastest.
    fn choose(&mut self, pass: Pass) -> Result<()> {
        let workspace = self.gpu.zeros(WORKSPACE_BYTES)?;
        let [x, filter, y] = self.operands[0].each_ref().map(|buffer| self.gpu.address(buffer));
        let (handle, room) = (self.handle.0, self.gpu.address(&workspace));
        let mut found = [Found::default(); MOST_FOUND];
        let (asked, mut count, place) = (MOST_FOUND as i32, 0, found.as_mut_ptr());
        let (x_is, filter_is, y_is, convolution) = (self.x, self.filter, self.y, self.convolution);
        // SAFETY: handle and descriptions live; every buffer is as long as its description says, the workspace as was
        // said; there is room for as many results as are asked for, each of the size and alignment of the library's.
        let status = unsafe {
            match pass {
                Pass::Forward => sys::cudnnFindConvolutionForwardAlgorithmEx(
                    handle,
                    x_is,
                    x,
                    filter_is,
                    filter,
                    convolution,
                    y_is,
                    y,
                    asked,
                    &mut count,
                    place.cast(),
                    room,
                    WORKSPACE_BYTES,
                ),
                Pass::BackwardData => sys::cudnnFindConvolutionBackwardDataAlgorithmEx(
                    handle,
                    filter_is,
                    filter,
                    y_is,
                    y,
                    convolution,
                    x_is,
                    x,
                    asked,
                    &mut count,
                    place.cast(),
                    room,
                    WORKSPACE_BYTES,
                ),
                Pass::BackwardWeight => sys::cudnnFindConvolutionBackwardFilterAlgorithmEx(
                    handle,
                    x_is,
                    x,
                    y_is,
                    y,
                    convolution,
                    filter_is,
                    filter,
                    asked,
                    &mut count,
                    place.cast(),
                    room,
                    WORKSPACE_BYTES,
                ),
            }
        };
        status.result().context("cudnnFindConvolution…AlgorithmEx")?;
        drop(workspace);
        let count = usize::try_from(count)?.min(MOST_FOUND);
        let right = found[..count].iter().filter(|found| found.status == 0 && found.workspace <= WORKSPACE_BYTES);
        let best = right.min_by(|left, right| left.milliseconds.total_cmp(&right.milliseconds));
        let best = best.context("cuDNN has no algorithm for this convolution in this layout")?;
        let algorithm = Algorithm::of(pass, best.algorithm);
        let algorithm = algorithm.with_context(|| format!("cuDNN chose algorithm {}, unknown here", best.algorithm))?;
        // In strict f32 its proposal is not followed: it may name what permits TF32.
        if self.dtype != Dtype::F32 {
            self.allow(match best.arithmetic {
                0 => sys::cudnnMathType_t::CUDNN_DEFAULT_MATH,
                1 => sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
                2 => sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION,
                3 => sys::cudnnMathType_t::CUDNN_FMA_MATH,
                other => bail!("cuDNN chose arithmetic {other}, unknown here"),
            })?;
        }
        self.chosen = Some((algorithm, self.gpu.zeros(best.workspace)?, best.workspace));
        Ok(())
    }

    /// Puts a run on one set of operands into the stream.
    fn launch(&self, set: usize) -> Result<()> {
        let (algorithm, workspace, bytes) = self.chosen.as_ref().context("no algorithm was chosen")?;
        let [x, filter, y] = self.operands[set].each_ref().map(|buffer| self.gpu.address(buffer));
        let (handle, room, bytes) = (self.handle.0, self.gpu.address(workspace), *bytes);
        let (x_is, filter_is, y_is, convolution) = (self.x, self.filter, self.y, self.convolution);
        let (one, zero) = (1.0_f32, 0.0_f32);
        let (alpha, beta): (*const c_void, *const c_void) = (from_ref(&one).cast(), from_ref(&zero).cast());
        // SAFETY: handle and descriptions live; every buffer is as long as its description says and lives until the
        // stream has ended; the workspace is as large as the algorithm asked for; alpha and beta are read before the call
        // returns.
        unsafe {
            match *algorithm {
                Algorithm::Forward(algorithm) => result::convolution_forward(
                    handle,
                    alpha,
                    x_is,
                    x,
                    filter_is,
                    filter,
                    convolution,
                    algorithm,
                    room,
                    bytes,
                    beta,
                    y_is,
                    y,
                ),
                Algorithm::BackwardData(algorithm) => result::convolution_backward_data(
                    handle,
                    alpha,
                    filter_is,
                    filter,
                    y_is,
                    y,
                    convolution,
                    algorithm,
                    room,
                    bytes,
                    beta,
                    x_is,
                    x,
                ),
                Algorithm::BackwardWeight(algorithm) => result::convolution_backward_filter(
                    handle,
                    alpha,
                    x_is,
                    x,
                    y_is,
                    y,
                    convolution,
                    algorithm,
                    room,
                    bytes,
                    beta,
                    filter_is,
                    filter,
                ),
            }
        }
        .context("cudnnConvolution…")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: what was created goes once, when nothing is launched any more. A failure leaves it to the end of the
        // process.
        unsafe {
            let _ = self.x.as_mut().map(|it| result::destroy_tensor_descriptor(it));
            let _ = self.y.as_mut().map(|it| result::destroy_tensor_descriptor(it));
            let _ = self.filter.as_mut().map(|it| result::destroy_filter_descriptor(it));
            let _ = self.convolution.as_mut().map(|it| result::destroy_convolution_descriptor(it));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_below_the_count_is_an_algorithm() {
        for (pass, count) in [(Pass::Forward, 8), (Pass::BackwardData, 6), (Pass::BackwardWeight, 7)] {
            assert!((0..count).all(|number| Algorithm::of(pass, number).is_some()));
            assert!(Algorithm::of(pass, count).is_none());
        }
    }
}
