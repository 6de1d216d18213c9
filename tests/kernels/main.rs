//! Every CUDA kernel against the f64 reference: the PTX that NVRTC makes of it, executed by the emulator;
//! with SPHEREFACE_TEST_DEVICE=cuda its machine code, on a GPU.

mod conv2d;
mod conv2d_mma;
mod conv2d_wgmma;
mod device;
mod elementwise;
mod gemm;
mod gemm_mma;
mod gemm_wgmma;
mod linear;
mod margin_softmax;
mod margin_softmax_wgmma;
mod overlap;
mod self_check;
mod training;

use device::TestDevice;
use sphereface_cuda::{CudaBackend, Options, Tier};
use sphereface_tensor::Backend;
use sphereface_testkit::cases::Case;
use sphereface_testkit::check_case;
use std::collections::BTreeMap;
use std::io::Write;

/// A file to which each test appends the kernels it ran and their largest errors: `cargo xtask test` sets it,
/// `cargo xtask kernels` shows them.
const ERRORS: &str = "SPHEREFACE_KERNEL_ERRORS";

/// A backend on the tests' device, if there is one.
fn backend(options: Options) -> Option<CudaBackend<TestDevice>> {
    Some(CudaBackend::new(TestDevice::new()?, options))
}

fn check(cases: Vec<Case>) {
    check_with(Options::default(), cases);
}

/// The portable tier, also where the device has a better one.
fn check_portable(cases: Vec<Case>) {
    check_with(Options { tier: Tier::Simt, ..Options::default() }, cases);
}

fn check_with(options: Options, cases: Vec<Case>) {
    check_each(options, &cases, check_case);
}

/// Compares each case with its reference by `check`, and notes the error of the kernels it ran.
fn check_each<T>(options: Options, cases: &[T], check: impl Fn(&T, &mut dyn Backend) -> f64) {
    let Some(backend) = backend(options) else { return };
    check_on(backend, cases, check);
}

/// The same on the device of this backend; returns how often each kernel was launched.
fn check_on<T>(
    mut backend: CudaBackend<TestDevice>,
    cases: &[T],
    check: impl Fn(&T, &mut dyn Backend) -> f64,
) -> BTreeMap<String, u64> {
    let mut errors = BTreeMap::new();
    let mut launches = BTreeMap::new();
    for case in cases {
        let error = check(case, &mut backend);
        for (kernel, count) in &backend.driver().launches {
            if launches.insert(kernel.clone(), *count) != Some(*count) {
                let worst = errors.entry(kernel.clone()).or_insert(0.0f64);
                *worst = worst.max(error);
            }
        }
    }
    if let Some(path) = std::env::var_os(ERRORS) {
        let lines: String = errors.iter().map(|(kernel, error)| format!("{kernel}\t{error:e}\n")).collect();
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        file.unwrap().write_all(lines.as_bytes()).unwrap(); // In one piece: other tests write, too.
    }
    launches
}
