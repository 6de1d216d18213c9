//! Every CUDA kernel against the f64 reference: the PTX that NVRTC makes of it, executed by the emulator.

mod conv2d;
mod conv2d_mma;
mod elementwise;
mod gemm;
mod gemm_mma;
mod linear;
mod margin_softmax;
mod training;

use sphereface_cuda::nvrtc::{Architecture, Nvrtc};
use sphereface_cuda::{CudaBackend, EmulatorDriver, Options, Tier};
use sphereface_testkit::cases::Case;
use sphereface_testkit::check_case;
use std::collections::BTreeMap;
use std::io::Write;

/// A file to which each test appends the kernels it ran and their largest errors: `cargo xtask kernels` sets it.
const ERRORS: &str = "SPHEREFACE_KERNEL_ERRORS";

/// A backend on an emulated device, or a line that says why there is none.
fn backend(options: Options) -> Option<CudaBackend<EmulatorDriver>> {
    match Nvrtc::find() {
        Ok(_) => Some(CudaBackend::new(EmulatorDriver::new(Architecture::new(80)), options)),
        Err(reason) => {
            eprintln!("skipped: {reason}");
            None
        }
    }
}

fn check(cases: Vec<Case>) {
    check_with(Options::default(), cases);
}

/// The portable tier, also where the device has a better one.
fn check_portable(cases: Vec<Case>) {
    check_with(Options { tier: Tier::Simt, ..Options::default() }, cases);
}

/// Compares each case with its reference, and notes the error of the kernels it ran.
fn check_with(options: Options, cases: Vec<Case>) {
    let Some(mut backend) = backend(options) else { return };
    let mut errors = BTreeMap::new();
    let mut launches = BTreeMap::new();
    for case in &cases {
        let error = check_case(case, &mut backend);
        for (kernel, (count, _)) in backend.driver().counters() {
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
}
