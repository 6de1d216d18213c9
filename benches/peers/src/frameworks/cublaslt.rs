//! cuBLASLt: NVIDIA's matrix products, by the fastest of the algorithms that it proposes.
#![allow(unsafe_code)] // Its functions are unsafe.

use super::gpu::{Buffer, Gpu, sets, version, width};
use crate::arrays::Inputs;
use crate::case::{self, Case, Dtype};
use crate::protocol::{Framework, Prepared};
use anyhow::{Context, Result, bail, ensure};
use cudarc::cublaslt::{result, sys};
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::from_ref;
use std::rc::Rc;

/// Memory that an algorithm may use besides: what NVIDIA advises for its largest GPUs.
const WORKSPACE_BYTES: usize = 32 << 20;
/// Algorithms that are tried.
const TRIED: usize = 16;

/// The library on a GPU.
pub(crate) struct CublasLt {
    gpu: Rc<Gpu>,
    handle: Rc<Handle>,
    version: String,
}

impl CublasLt {
    /// The library on GPU number `ordinal`.
    pub(crate) fn open(ordinal: usize) -> Result<CublasLt> {
        // SAFETY: to open the library runs no more than its initialisers.
        let gpu = Gpu::open(ordinal, ("cuBLASLt", "cublasLt", || unsafe { sys::is_culib_present() }))?;
        // SAFETY: the library is there, and the function takes nothing.
        let version = version(unsafe { sys::cublasLtGetVersion() });
        let handle = Rc::new(Handle(result::create_handle().context("cublasLtCreate")?));
        Ok(CublasLt { gpu, handle, version })
    }
}

impl Framework for CublasLt {
    fn names(&self) -> (&'static str, &'static str) {
        ("cudarc", "cuBLASLt")
    }

    fn version(&self) -> Result<String> {
        Ok(self.version.clone())
    }

    fn detail(&self) -> String {
        let megabytes = WORKSPACE_BYTES >> 20;
        format!("{}; the best of {TRIED} algorithms, {megabytes} MB of workspace, graph replay", self.gpu.name)
    }

    fn supports(&self, case: &Case) -> bool {
        matches!(case, Case::Gemm(_))
    }

    fn prepare(&self, case: &Case, inputs: &Inputs, _: &str) -> Result<Prepared> {
        let Case::Gemm(case) = case else { bail!("expected a matrix product") };
        let case::Gemm { m, n, k, dtype, .. } = *case;
        let (a, b) = (inputs.floats("a")?.values, inputs.floats("b")?.values);
        let (lengths, expected) = ([a.len(), b.len()], [m * k, k * n]);
        ensure!(lengths == expected, "operands: expected {expected:?} elements, found {lengths:?}");
        let gpu = &self.gpu;
        let bytes = (a.len() + b.len() + m * n) * width(dtype);
        let operands = (0..sets(bytes))
            .map(|_| Ok([gpu.upload(&a, dtype)?, gpu.upload(&b, dtype)?, gpu.zeros(m * n * width(dtype))?]))
            .collect::<Result<Vec<_>>>()?;
        let mut product = Product::new(Rc::clone(gpu), Rc::clone(&self.handle), case, operands)?;
        product.choose()?;
        product.launch(0)?;
        let outputs = vec![("c", gpu.download(&product.operands[0][2], dtype, &[m, n])?)];
        let count = product.operands.len();
        let seconds = Rc::clone(gpu).clock(count, move |set| product.launch(set))?;
        Ok(Prepared { outputs, seconds })
    }
}

struct Handle(sys::cublasLtHandle_t);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle was created once and goes now. A failure leaves it to the end of the process.
        let _ = unsafe { result::destroy_handle(self.0) };
    }
}

/// A product and its sets of operands `a`, `b` and `c`. cuBLASLt counts elements along columns, we along rows: our
/// `c = a · b` is its `cᵀ = bᵀ · aᵀ`, of the same bytes.
struct Product {
    gpu: Rc<Gpu>,
    handle: Rc<Handle>,
    operation: sys::cublasLtMatmulDesc_t,
    /// Of `a`, `b` and `c`.
    layouts: [sys::cublasLtMatrixLayout_t; 3],
    operands: Vec<[Buffer; 3]>,
    workspace: Buffer,
    algorithm: Option<sys::cublasLtMatmulAlgo_t>,
}

impl Product {
    fn new(gpu: Rc<Gpu>, handle: Rc<Handle>, case: &case::Gemm, operands: Vec<[Buffer; 3]>) -> Result<Product> {
        let (number, compute) = match case.dtype {
            Dtype::F32 => (sys::cudaDataType_t::CUDA_R_32F, sys::cublasComputeType_t::CUBLAS_COMPUTE_32F),
            Dtype::Tf32 => (sys::cudaDataType_t::CUDA_R_32F, sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32),
            Dtype::Bf16 => (sys::cudaDataType_t::CUDA_R_16BF, sys::cublasComputeType_t::CUBLAS_COMPUTE_32F),
        };
        let operation = result::create_matmul_desc(compute, sys::cudaDataType_t::CUDA_R_32F)?;
        let workspace = gpu.zeros(WORKSPACE_BYTES)?;
        let layouts = [std::ptr::null_mut(); 3];
        let mut product = Product { gpu, handle, operation, layouts, operands, workspace, algorithm: None };
        // Its first operand is our second, and the other way round.
        let transposes = [
            (sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA, case.transposed[1]),
            (sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSB, case.transposed[0]),
        ];
        for (attribute, is_transposed) in transposes {
            let value = i32::from(is_transposed); // CUBLAS_OP_N or CUBLAS_OP_T.
            // SAFETY: the description lives, and this attribute is an integer of 32 bits, which is copied.
            unsafe {
                let value = from_ref(&value).cast();
                result::set_matmul_desc_attribute(operation, attribute, value, size_of::<i32>())?;
            }
        }
        let turned =
            |[rows, columns]: [usize; 2], is_turned: bool| if is_turned { [columns, rows] } else { [rows, columns] };
        let (m, n, k) = (case.m, case.n, case.k);
        let shapes = [turned([m, k], case.transposed[0]), turned([k, n], case.transposed[1]), [m, n]];
        for (layout, [rows, columns]) in product.layouts.iter_mut().zip(shapes) {
            *layout = result::create_matrix_layout(number, columns as u64, rows as u64, columns as i64)?;
        }
        Ok(product)
    }

    /// Tries what the library proposes, and keeps the fastest.
    fn choose(&mut self) -> Result<()> {
        let [a, b, c] = self.layouts;
        let mut found = [MaybeUninit::<sys::cublasLtMatmulHeuristicResult_t>::zeroed(); TRIED];
        let mut count = 0;
        let preference = result::create_matmul_pref()?;
        let limit = WORKSPACE_BYTES as u64;
        // SAFETY: the preference, the description and the layouts live; the limit is a number of 64 bits and is copied;
        // there is room for as many results as are asked for. The preference goes once, and is not used after.
        let status = unsafe {
            let limited = result::set_matmul_pref_attribute(
                preference,
                sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                from_ref(&limit).cast(),
                size_of::<u64>(),
            );
            let searched = limited.and_then(|()| {
                sys::cublasLtMatmulAlgoGetHeuristic(
                    self.handle.0,
                    self.operation,
                    b,
                    a,
                    c,
                    c,
                    preference,
                    TRIED as i32,
                    found.as_mut_ptr().cast(),
                    &mut count,
                )
                .result()
            });
            result::destroy_matmul_pref(preference).and(searched)
        };
        status.context("cublasLtMatmulAlgoGetHeuristic")?;
        let mut best: Option<(f64, sys::cublasLtMatmulAlgo_t)> = None;
        for result in &found[..usize::try_from(count)?.min(TRIED)] {
            // SAFETY: it began as zeros, which are a result, and the library has written it.
            let result = unsafe { result.assume_init() };
            if result.state != sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS || result.workspaceSize > WORKSPACE_BYTES {
                continue;
            }
            self.algorithm = Some(result.algo);
            // The first run loads the kernel.
            let all = |product: &Product| (0..product.operands.len()).try_for_each(|set| product.launch(set));
            let seconds = self.launch(0).and_then(|()| self.gpu.timed(|| all(self)));
            if let Ok(seconds) = seconds
                && best.is_none_or(|(least, _)| seconds < least)
            {
                best = Some((seconds, result.algo));
            }
        }
        let (_, algorithm) = best.context("cuBLASLt has no algorithm for this product")?;
        self.algorithm = Some(algorithm);
        Ok(())
    }

    /// Puts a run on one set of operands into the stream.
    fn launch(&self, set: usize) -> Result<()> {
        let algorithm = self.algorithm.as_ref().context("no algorithm was chosen")?;
        let [a, b, c] = self.operands[set].each_ref().map(|buffer| self.gpu.address(buffer));
        let [a_layout, b_layout, c_layout] = self.layouts;
        let (alpha, beta) = (1.0_f32, 0.0_f32);
        let scale = |factor: &f32| from_ref(factor).cast::<c_void>();
        // SAFETY: every buffer is as long as its layout says and lives until the stream has ended; alpha and beta are
        // of the type of scales and are read before the call returns; the workspace is as large as was said.
        unsafe {
            result::matmul(
                self.handle.0,
                self.operation,
                scale(&alpha),
                scale(&beta),
                b,
                b_layout,
                a,
                a_layout,
                c,
                c_layout,
                c,
                c_layout,
                algorithm,
                self.gpu.address(&self.workspace),
                WORKSPACE_BYTES,
                self.gpu.stream(),
            )
        }
        .context("cublasLtMatmul")
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        // SAFETY: what was created goes once, when nothing is launched any more. A failure leaves it to the end of the
        // process.
        unsafe {
            let _ = result::destroy_matmul_desc(self.operation);
            for layout in self.layouts.into_iter().filter(|layout| !layout.is_null()) {
                let _ = result::destroy_matrix_layout(layout);
            }
        }
    }
}
