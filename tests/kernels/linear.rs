//! The fully connected layer, in f32 and bf16.

use crate::check_portable;
use sphereface_testkit::cases::{self, Case};

#[test]
fn linear_matches_reference() {
    let cases = cases::linear();
    let bf16: Vec<Case> = cases.iter().filter_map(Case::in_bf16).collect();
    check_portable(cases.into_iter().chain(bf16).collect());
}

#[test]
fn long_sums_of_linear_keep_their_digits() {
    let mut cases = cases::long_sums();
    cases.retain(|case| case.name.contains("linear"));
    check_portable(cases);
}
