//! Products of matrices, in f32 and bf16.

use crate::check_portable;
use sphereface_testkit::cases::{self, Case};

#[test]
fn gemm_matches_reference() {
    let cases = cases::gemm();
    let bf16: Vec<Case> = cases.iter().filter_map(Case::in_bf16).collect();
    check_portable(cases.into_iter().chain(bf16).collect());
}
