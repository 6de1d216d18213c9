//! Element-wise operators and reductions, in f32 and, where they take it, in bf16.

use crate::check;
use sphereface_testkit::cases::{self, Case};

/// The cases, and those of them that there are in bf16.
fn both(cases: Vec<Case>) -> Vec<Case> {
    let bf16: Vec<Case> = cases.iter().filter_map(Case::in_bf16).collect();
    cases.into_iter().chain(bf16).collect()
}

#[test]
fn elementwise_operators_match_reference() {
    check(both(cases::elementwise()));
}

#[test]
fn prelu_matches_reference() {
    check(both(cases::prelu()));
}

#[test]
fn gather_batch_matches_reference() {
    check(cases::gather_batch());
}

#[test]
fn metrics_match_reference() {
    check(cases::metrics());
}

#[test]
fn optimizer_matches_reference() {
    check(cases::optimizer());
}
