//! Convolutions of the Hopper tier in bf16.

use crate::check_on;
use crate::device::TestDevice;
use sphereface_cuda::{CudaBackend, Options, Precision};
use sphereface_testkit::cases::{self, Case};
use sphereface_testkit::check_case;

/// Checks the cases of a pass in bf16 on a device of compute capability 9.0, where the tier makes all it can; those that
/// launch the kernel `conv2d_<pass>_<kernel>` must be all.
fn check(pass: &str, kernel: &str, sizes: &[[usize; 8]]) {
    let pass = format!("conv2d_{pass}");
    let cases = sizes.iter().flat_map(|&sizes| cases::conv2d_passes(sizes));
    let cases = cases.filter(|case| case.name.starts_with(&pass)).filter_map(|case| case.in_bf16());
    let cases: Vec<Case> = cases.map(Case::on_tensor_cores).collect();
    let Some(device) = TestDevice::hopper() else { return };
    let options = Options { precision: Precision::Bf16, forced: true, ..Options::default() };
    let launches = check_on(CudaBackend::new(device, options), &cases, check_case);
    let taken = launches.iter().filter(|(name, _)| name.starts_with(&format!("{pass}_{kernel}")));
    assert_eq!(taken.map(|(_, count)| count).sum::<u64>(), cases.len() as u64, "{launches:?}");
}

/// 64 to 64 channels: images of one row, and of an odd number of rows, so that the last tile has one; rows of one pixel
/// more than a tile, and less; batches that no tile divides; more tiles for a block than it has stages.
const HALO: [[usize; 8]; 3] = [[1, 16, 3, 64, 64, 3, 1, 1], [9, 17, 8, 64, 64, 3, 1, 1], [2, 7, 17, 64, 64, 3, 1, 1]];

/// More channels: inputs, and outputs, in more than one part; the same edges; rings of few and of many slots.
const WIDE: [[usize; 8]; 3] =
    [[9, 7, 9, 64, 128, 3, 1, 1], [2, 2, 70, 128, 256, 3, 1, 1], [1, 25, 5, 64, 128, 3, 1, 1]];

/// As much, but for one thing that these kernels do not know.
const OTHERS: [[usize; 8]; 5] = [
    [3, 5, 8, 64, 64, 3, 2, 1],
    [3, 4, 3, 64, 64, 3, 1, 0],
    [2, 4, 3, 64, 64, 5, 1, 2],
    [2, 4, 3, 64, 72, 3, 1, 1],
    [2, 4, 3, 56, 64, 3, 1, 1],
];

/// The same with inputs and outputs exchanged, as a data gradient has them.
fn exchanged(sizes: [[usize; 8]; 3]) -> [[usize; 8]; 3] {
    sizes.map(|[h, w, n, c, k, r, stride, padding]| [h, w, n, k, c, r, stride, padding])
}

#[test]
fn conv2d_forward_of_64_channels_matches_reference() {
    check("forward", "wgmma_64_bf16", &HALO);
}

#[test]
fn conv2d_backward_data_of_64_channels_matches_reference() {
    check("backward_data", "wgmma_64_bf16", &HALO);
}

#[test]
fn conv2d_forward_of_many_channels_matches_reference() {
    check("forward", "wgmma_128_bf16", &WIDE);
}

#[test]
fn conv2d_backward_data_of_many_channels_matches_reference() {
    check("backward_data", "wgmma_128_bf16", &exchanged(WIDE));
}

/// Weight gradients: an image of one row, whose taps above and below see nothing; more channels, a batch that no step
/// divides, and parts that begin in the middle of an image; one part.
const WEIGHT: [[usize; 8]; 4] = [
    [1, 17, 9, 64, 64, 3, 1, 1],
    [9, 3, 40, 64, 128, 3, 1, 1],
    [5, 14, 8, 128, 64, 3, 1, 1],
    [2, 1, 3, 64, 64, 3, 1, 1],
];

#[test]
fn conv2d_backward_weight_matches_reference() {
    check("backward_weight", "wgmma_bf16", &WEIGHT);
}

#[test]
fn other_convolutions_take_another_tier() {
    check("forward", "mma", &OTHERS);
    check("backward_weight", "mma", &OTHERS[..3]);
}
