//! Convolutions of every size in the cases, in f32 and bf16.

use crate::check_portable;
use sphereface_testkit::cases::{self, Case};

fn pass(name: &str) -> Vec<Case> {
    let mut cases = cases::conv2d();
    cases.retain(|case| case.name.starts_with(name));
    let bf16: Vec<Case> = cases.iter().filter_map(Case::in_bf16).collect();
    cases.into_iter().chain(bf16).collect()
}

#[test]
fn conv2d_forward_matches_reference() {
    check_portable(pass("conv2d_forward"));
}

#[test]
fn conv2d_backward_data_matches_reference() {
    check_portable(pass("conv2d_backward_data"));
}

#[test]
fn conv2d_backward_weight_matches_reference() {
    check_portable(pass("conv2d_backward_weight"));
}

#[test]
fn long_sums_of_conv2d_keep_their_digits() {
    let mut cases = cases::long_sums();
    cases.retain(|case| case.name.contains("conv2d"));
    check_portable(cases);
}
