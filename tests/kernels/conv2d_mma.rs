//! Convolutions on the tensor cores: TF32 and bf16.

use crate::check_with;
use sphereface_cuda::{Options, Precision};
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

fn check_tf32(cases: &[Case]) {
    let options = Options { precision: Precision::Tf32, ..Options::default() };
    check_with(options, cases.iter().map(Case::in_tf32).collect());
}

fn check_bf16(cases: &[Case]) {
    let options = Options { precision: Precision::Bf16, ..Options::default() };
    check_with(options, cases.iter().filter_map(|case| Some(case.in_bf16()?.on_tensor_cores())).collect());
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
