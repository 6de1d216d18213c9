//! Times operators on a device, one JSON object a line: `timings [--device cuda:N|emulator] [--small]`.
//!
//! A case is run from several sets of operands in turn, which together are larger than the cache of the device, between
//! two events for a batch of runs; the median over batches counts. `kit/peers.py` times the same shapes in PyTorch.

use sphereface_cuda::nvrtc::Architecture;
use sphereface_cuda::{CudaBackend, CudaDriver, Driver, EmulatorDriver, Options, Precision};
use sphereface_models::margin_of;
use sphereface_tensor::op::{Op, Rule};
use sphereface_tensor::{Backend, Program};
use sphereface_testkit::cases::{self, Case};
use sphereface_testkit::prepare_case;
use std::process::ExitCode;
use std::time::Duration;

fn main() {}
