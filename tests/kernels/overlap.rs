//! From compute capability 9.0 on kernels of files that say so may begin before the launch before has ended, and wait for
//! that end before they touch global memory. The emulator finds who does not where a test runs the kernel; here is every
//! kernel.

use sphereface_cuda::cache::{Cache, Job};
use sphereface_cuda::nvrtc::{Architecture, Nvrtc, Output};
use sphereface_cuda::units;
use sphereface_testkit::skip;
use std::collections::BTreeSet;

const WAIT: &str = "griddepcontrol.wait;";
/// What a file has whose kernels overlap.
const MARKER: &str = " kernels_overlap";

/// What touches global memory, or may by a generic address. Kernels here read constants and parameters by their names.
fn touches_global(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let opcode = words.find(|word| !word.starts_with('@')).unwrap_or_default();
    let mut parts = opcode.split('.');
    match parts.next().unwrap_or_default() {
        "ld" | "ldu" | "st" | "atom" | "red" => !parts
            .any(|part| part.starts_with("shared") || part.starts_with("param") || ["local", "const"].contains(&part)),
        "cp" => parts.any(|part| part == "global"),
        _ => false,
    }
}

/// Why the text of a kernel is wrong, if it is.
fn mistake(body: &str) -> Option<String> {
    let Some((before, _)) = body.split_once(WAIT) else {
        return Some("never waits: await_previous() is missing".to_owned());
    };
    if let Some(line) = before.lines().find(|line| touches_global(line)) {
        return Some(format!("does not wait before `{}`", line.trim()));
    }
    // The assembler takes what they read for constant, and moves them before the wait.
    body.lines().find(|line| line.contains("ld.global.nc")).map(|line| format!("has `{}`", line.trim()))
}

#[test]
fn every_kernel_that_overlaps_awaits_the_launch_before() {
    if let Err(reason) = Nvrtc::find() {
        return skip(&reason);
    }
    let mut units = units();
    // One margin stands for all: it changes what a kernel computes, not where it waits.
    let is_margin = |define: &String| define.starts_with("MARGIN_HEADER=");
    let mut seen = BTreeSet::new();
    units.retain(|unit| {
        let tier: Vec<String> = unit.defines.iter().filter(|define| !is_margin(define)).cloned().collect();
        seen.insert((unit.stem, tier))
    });
    let (cache, mut kernels, mut wrong) = (Cache::of_user(), 0, Vec::new());
    for unit in &units {
        let job = Job { unit, architecture: Architecture::specific(90), output: Output::Ptx };
        let image = cache.get(job).unwrap().image;
        let text = std::str::from_utf8(&image).unwrap();
        let overlaps = text.contains(MARKER);
        for entry in text.split(".entry ").skip(1) {
            kernels += usize::from(overlaps);
            let name = entry.split('(').next().unwrap_or_default();
            let what = if overlaps {
                mistake(entry)
            } else {
                entry.contains("griddepcontrol").then(|| "waits in a file that does not say so".to_owned())
            };
            wrong.extend(what.map(|what| format!("{name} of {}.cu {:?} {what}", unit.stem, unit.defines)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(kernels > 80, "{kernels} kernels");
}

#[test]
fn a_kernel_that_does_not_wait_is_found() {
    let load = "\tld.param.u64 %rd1, [one];\n\t@%p1 ld.global.u32 %r1, [%rd1];\n";
    let shared = "\tst.shared.u32 [%r1], 0;\n\tmbarrier.init.shared::cta.b64 [%r2], 1;\n";
    let wait = "\tgriddepcontrol.launch_dependents;\ngriddepcontrol.wait;\n";
    assert_eq!(mistake(&format!("{shared}{wait}{load}")), None);
    assert_eq!(
        mistake(&format!("{load}{wait}")).as_deref(),
        Some("does not wait before `@%p1 ld.global.u32 %r1, [%rd1];`")
    );
    let constant = load.replace("ld.global", "ld.global.nc");
    assert!(mistake(&format!("{wait}{constant}")).is_some_and(|what| what.contains("has `@%p1 ld.global.nc")));
    let copy = "\tcp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1, {%r2, %r3}], [%r4];\n";
    assert!(mistake(&format!("{copy}{wait}")).is_some_and(|what| what.contains("cp.async.bulk.tensor")));
    assert_eq!(mistake(load).as_deref(), Some("never waits: await_previous() is missing"));
}
