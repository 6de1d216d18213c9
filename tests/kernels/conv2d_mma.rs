//! Convolutions on the tensor cores: TF32 and bf16.

use crate::gemm_mma::{check_bf16, check_tf32};
use sphereface_testkit::cases::{self, Case};

/// Height, width, batch, inputs, outputs, filter, stride, padding: channels of one copy, of tails of a tile and of more
/// than one; one image and many; every stride and padding; filters that lie partly, or for some pixels wholly, outside.
const SIZES: [[usize; 8]; 11] = [
    [5, 4, 33, 24, 40, 3, 1, 1],
    [4, 4, 1, 8, 8, 3, 2, 1],
    [5, 3, 33, 8, 24, 3, 2, 1],
    [7, 6, 1, 64, 136, 3, 1, 1],
    [3, 2, 65, 136, 72, 3, 1, 1],
    [6, 5, 3, 16, 24, 5, 2, 2],
    [9, 8, 3, 8, 16, 5, 2, 0],
    [7, 5, 2, 24, 8, 1, 2, 0],
    [3, 3, 2, 8, 8, 3, 1, 3],
    [2, 2, 9, 512, 8, 3, 1, 1],
    [1, 1, 5, 40, 8, 1, 1, 0],
];

fn pass(name: &str, sizes: &[[usize; 8]]) -> Vec<Case> {
    let cases = sizes.iter().flat_map(|&sizes| cases::conv2d_passes(sizes));
    cases.filter(|case| case.name.starts_with(name)).collect()
}

/// Sizes for the larger tiles, of which there must be enough to fill a device: few terms, many rows.
fn large(name: &str, sizes: &[[usize; 8]]) -> Vec<Case> {
    sizes.iter().filter_map(|&sizes| pass(name, &[sizes]).pop()).collect()
}

#[test]
fn conv2d_forward_tf32_matches_reference() {
    check_tf32(&pass("conv2d_forward", &SIZES));
}

#[test]
fn conv2d_forward_bf16_matches_reference() {
    check_bf16(&pass("conv2d_forward", &SIZES));
}

#[test]
fn conv2d_backward_data_tf32_matches_reference() {
    check_tf32(&pass("conv2d_backward_data", &SIZES));
}

#[test]
fn conv2d_backward_data_bf16_matches_reference() {
    check_bf16(&pass("conv2d_backward_data", &SIZES));
}

#[test]
fn conv2d_backward_weight_tf32_matches_reference() {
    check_tf32(&pass("conv2d_backward_weight", &SIZES));
}

#[test]
fn conv2d_backward_weight_bf16_matches_reference() {
    check_bf16(&pass("conv2d_backward_weight", &SIZES));
}

#[test]
fn larger_tiles_of_conv2d_match_reference() {
    let cases: Vec<Case> = [
        large("conv2d_forward", &[[127, 1, 131, 8, 72, 3, 1, 1], [127, 1, 131, 8, 40, 3, 1, 1]]),
        large("conv2d_backward_data", &[[127, 1, 131, 72, 8, 3, 1, 1], [127, 1, 131, 40, 8, 3, 1, 1]]),
        large("conv2d_backward_weight", &[[1, 1, 3080, 72, 72, 5, 1, 2], [1, 1, 3080, 72, 40, 5, 1, 2]]),
    ]
    .concat();
    check_tf32(&cases);
    check_bf16(&cases);
}
