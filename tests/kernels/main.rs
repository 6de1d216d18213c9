//! Every CUDA kernel against the f64 reference: the PTX that NVRTC makes of it, executed by the emulator.

use sphereface_cuda::nvrtc::{Architecture, Nvrtc};
use sphereface_cuda::{CudaBackend, EmulatorDriver, Options};
use sphereface_testkit::cases::Case;
use sphereface_testkit::check_case;

mod conv2d;
mod elementwise;
mod gemm;
mod linear;
mod margin_softmax;

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
    let Some(mut backend) = backend(Options::default()) else { return };
    cases.iter().for_each(|case| check_case(case, &mut backend));
}
