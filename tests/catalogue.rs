//! The small shape of everything that the bench times, on the CPU backend against the f64 reference.

use sphereface_tensor::cpu::CpuBackend;
use sphereface_testkit::catalogue::catalogue;
use sphereface_testkit::workload::Arithmetic;

/// Checks each shape of some groups once; says which groups there are.
fn check(of: impl Fn(&str) -> bool) -> usize {
    let mut seen = Vec::new();
    for entry in catalogue(&[Arithmetic::F32]).into_iter().filter(|entry| of(entry.group)) {
        if !seen.contains(&entry.check) {
            let mut backend = CpuBackend::new(2).unwrap();
            let error = entry.check.error(entry.arithmetic, &mut backend);
            assert!(error.as_ref().is_ok_and(|error| error.is_finite()), "{}: {error:?}", entry.name);
            seen.push(entry.check);
        }
    }
    seen.len()
}

#[test]
fn every_timed_operator_matches_the_reference() {
    assert!(check(|group| !["training step", "forward"].contains(&group)) > 20);
}

#[test]
fn every_timed_network_matches_the_reference() {
    assert!(check(|group| ["training step", "forward"].contains(&group)) >= 8);
}
