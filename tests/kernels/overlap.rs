//! From compute capability 9.0 on every kernel may begin before the launch before it has ended, and waits for that end
//! before it touches global memory. The emulator finds who does not where a test runs the kernel; here is every kernel.

use sphereface_cuda::cache::{Cache, Job};
use sphereface_cuda::nvrtc::{Architecture, Nvrtc, Output};
use sphereface_cuda::units;
use sphereface_testkit::skip;

const WAIT: &str = "griddepcontrol.wait;";

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
    before.lines().find(|line| touches_global(line)).map(|line| format!("does not wait before `{}`", line.trim()))
}

#[test]
fn every_kernel_awaits_the_launch_before() {
    if let Err(reason) = Nvrtc::find() {
        return skip(&reason);
    }
    let mut units = units();
    // One margin stands for all: it changes what a kernel computes, not where it waits.
    let is_margin = |define: &String| define.starts_with("MARGIN_HEADER=");
    units.dedup_by(|next, one| next.stem == one.stem && next.defines.iter().any(is_margin));
    let (cache, mut kernels, mut wrong) = (Cache::of_user(), 0, Vec::new());
    for unit in &units {
        let job = Job { unit, architecture: Architecture::specific(90), output: Output::Ptx };
        let image = cache.get(job).unwrap().image;
        for entry in std::str::from_utf8(&image).unwrap().split(".entry ").skip(1) {
            kernels += 1;
            let name = entry.split('(').next().unwrap_or_default();
            wrong.extend(mistake(entry).map(|what| format!("{name} of {}.cu {:?} {what}", unit.stem, unit.defines)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(kernels > 150, "{kernels} kernels");
}

#[test]
fn a_kernel_that_does_not_wait_is_found() {
    let load = "\tld.param.u64 %rd1, [one];\n\t@%p1 ld.global.nc.u32 %r1, [%rd1];\n";
    let shared = "\tst.shared.u32 [%r1], 0;\n\tmbarrier.init.shared::cta.b64 [%r2], 1;\n";
    let wait = "\tgriddepcontrol.launch_dependents;\ngriddepcontrol.wait;\n";
    assert_eq!(mistake(&format!("{shared}{wait}{load}")), None);
    assert_eq!(
        mistake(&format!("{load}{wait}")).as_deref(),
        Some("does not wait before `@%p1 ld.global.nc.u32 %r1, [%rd1];`")
    );
    let copy = "\tcp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1, {%r2, %r3}], [%r4];\n";
    assert!(mistake(&format!("{copy}{wait}")).is_some_and(|what| what.contains("cp.async.bulk.tensor")));
    assert_eq!(mistake(load).as_deref(), Some("never waits: await_previous() is missing"));
}
