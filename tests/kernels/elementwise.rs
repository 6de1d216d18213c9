//! Element-wise operators and reductions.

use crate::check;
use sphereface_testkit::cases::{self, Case};

fn named(cases: Vec<Case>, name: &str) -> Vec<Case> {
    cases.into_iter().filter(|case| case.name.starts_with(name)).collect()
}

#[test]
fn add_matches_reference() {
    check(named(cases::elementwise(), "add"));
}

#[test]
fn advance_matches_reference() {
    check(named(cases::elementwise(), "advance"));
}
