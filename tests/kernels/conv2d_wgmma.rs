//! Convolutions of the Hopper tier in bf16.

use crate::check_on;
use crate::device::TestDevice;
use sphereface_cuda::nvrtc::Architecture;
use sphereface_cuda::{CudaBackend, Options, Precision};
use sphereface_testkit::cases::{self, Case};
use sphereface_testkit::check_case;

/// Checks the cases of a pass in bf16 on a device of compute capability 9.0; whether all, or else none, of them launch a
/// kernel with this in its name must be as `taken` says.
fn check(pass: &str, sizes: &[[usize; 8]], kernel: &str, taken: bool) {
    let cases = sizes.iter().flat_map(|&sizes| cases::conv2d_passes(sizes));
    let cases = cases.filter(|case| case.name.starts_with(pass)).filter_map(|case| case.in_bf16());
    let cases: Vec<Case> = cases.map(Case::on_tensor_cores).collect();
    let Some(device) = TestDevice::of(Architecture::specific(90)) else { return };
    let options = Options { precision: Precision::Bf16, ..Options::default() };
    let launches = check_on(CudaBackend::new(device, options), &cases, check_case);
    let count: u64 = launches.iter().filter(|(name, _)| name.contains(kernel)).map(|(_, count)| count).sum();
    assert_eq!(count, if taken { cases.len() as u64 } else { 0 }, "{launches:?}");
}

/// 64 to 64 channels: an image of one row, one of an odd number of rows, of which the last is half a tile; rows of one
/// pixel more than two tiles, and less than one; batches that no tile divides.
const HALO: [[usize; 8]; 4] = [
    [1, 16, 8, 64, 64, 3, 1, 1],
    [3, 15, 15, 64, 64, 3, 1, 1],
    [5, 33, 8, 64, 64, 3, 1, 1],
    [2, 14, 23, 64, 64, 3, 1, 1],
];

/// As much, but for one thing that the kernel of 64 channels does not know.
const OTHERS: [[usize; 8]; 6] = [
    [2, 16, 3, 64, 64, 3, 1, 1],
    [3, 33, 8, 64, 64, 3, 2, 1],
    [4, 18, 8, 64, 64, 3, 1, 0],
    [2, 16, 8, 64, 64, 5, 1, 2],
    [2, 16, 8, 64, 72, 3, 1, 1],
    [2, 16, 8, 56, 64, 3, 1, 1],
];

#[test]
fn conv2d_forward_wgmma_matches_reference() {
    check("conv2d_forward", &HALO, "wgmma", true);
}

#[test]
fn conv2d_backward_data_wgmma_matches_reference() {
    check("conv2d_backward_data", &HALO, "wgmma", true);
}

#[test]
fn other_convolutions_take_another_tier() {
    check("conv2d_forward", &OTHERS, "wgmma", false);
    check("conv2d_backward_data", &OTHERS, "wgmma", false);
}
