//! Planted mistakes of kernels that may begin before the launch before has ended: whoever touches global memory has
//! waited for that end.
mod common;

use common::{fault, kernel, try_run};
use sphereface_emulator::{Argument, Device, Fault, FaultKind, Module};

const LAUNCH: &str = "griddepcontrol.launch_dependents;\n";
const WAIT: &str = "griddepcontrol.wait;\n";
const TILE: &str = ".shared .align 16 .b8 tile[16];\n";

/// The access is refused before the wait, with the thread that is to blame, and passes after it.
#[track_caller]
fn needs_wait(access: &str) {
    for before in [LAUNCH.to_owned(), String::new()] {
        let early = fault(&format!("{TILE}{before}{access}\n{WAIT}"), 1);
        assert!(matches!(early.kind, FaultKind::NotAwaited { .. }), "{access}: {early}");
        try_run(&format!("{TILE}{before}{WAIT}{access}"), &[[1, 2, 3, 4]], 1, 1).unwrap();
    }
    // Kernels that cannot overlap have nothing to wait for.
    try_run(&format!("{TILE}{access}"), &[[1, 2, 3, 4]], 1, 1).unwrap();
}

#[test]
fn every_access_to_global_memory_needs_the_wait() {
    for access in [
        "ld.global.u32 %r1, [%in];",
        "ld.global.nc.v4.u32 {%r1, %r2, %r3, %r4}, [%in];",
        "ld.u32 %r1, [%in];",
        "st.global.u32 [%out], 1;",
        "st.global.v2.u32 [%out], {%thread, %thread};",
        "st.u32 [%out], 1;",
        "atom.global.add.u32 %r1, [%out], 1;",
        "red.add.u32 [%out], 1;",
        "cp.async.ca.shared.global [tile], [%in], 4;\ncp.async.wait_all;",
    ] {
        needs_wait(access);
    }
}

#[test]
fn the_message_says_what_and_where() {
    let body = format!("{LAUNCH}ld.global.u32 %r1, [%in];\n{WAIT}");
    let message = fault(&body, 2).to_string();
    let line = 1 + kernel(&body).lines().position(|line| line.starts_with("ld.global")).unwrap();
    assert!(message.starts_with("global memory is touched at 0x"), "{message}");
    let expected = format!(
        "before griddepcontrol.wait: the launch before may not have ended [kernel test, block (0, 0, 0), thread \
         (0, 0, 0), PTX line {line}: ld.global.u32]"
    );
    assert!(message.ends_with(&expected), "{message}");
}

#[test]
fn each_lane_waits_for_itself() {
    // The lanes from 16 on skip the wait, or it is not for them.
    let branch = "setp.ge.u32 %p1, %thread, 16;\n@%p1 bra SKIP;\ngriddepcontrol.wait;\nSKIP:\n";
    let guard = "setp.lt.u32 %p1, %thread, 16;\n@%p1 griddepcontrol.wait;\n";
    for wait in [branch, guard] {
        let early = fault(&format!("{LAUNCH}{wait}st.global.u32 [%out], 1;"), 32);
        assert!(matches!(early.kind, FaultKind::NotAwaited { .. }), "{early}");
        assert_eq!(early.site.unwrap().thread, [16, 0, 0]);
        let half = format!("{LAUNCH}{wait}setp.lt.u32 %p2, %thread, 16;\n@%p2 st.global.u32 [%out], 1;");
        let out = try_run(&half, &[[0; 4]; 32], 32, 1).unwrap();
        assert!(out.iter().enumerate().all(|(thread, four)| four[0] == u32::from(thread < 16)));
    }
    // Nor does one warp wait for the other, not even before a barrier.
    let first = "setp.lt.u32 %p1, %thread, 32;\n@%p1 griddepcontrol.wait;\nbar.sync 0;\n";
    assert_eq!(fault(&format!("{first}st.global.u32 [%out], 1;"), 64).site.unwrap().thread, [32, 0, 0]);
}

#[test]
fn a_launch_that_lets_others_begin_waits_too() {
    assert!(matches!(fault(&format!("{LAUNCH}st.global.u32 [%out], 1;"), 1).kind, FaultKind::NotAwaited { .. }));
}

#[test]
fn what_touches_no_global_memory_needs_no_wait() {
    // Parameters were read; shared memory, local memory and a prefetch change nothing and see nothing.
    let free = format!(
        "{TILE}.local .align 4 .b8 depot[8];\n{LAUNCH}st.shared.u32 [tile], %thread;\nst.local.u32 [depot], %thread;\n\
         cvta.shared.u64 %d1, 0;\nld.u32 %r1, [%d1];\nprefetch.global.L2 [%in];\n"
    );
    try_run(&free, &[[0; 4]], 1, 1).unwrap();
    // Threads that end early never wait.
    let some = format!("{LAUNCH}setp.ne.u32 %p1, %thread, 3;\n@%p1 ret;\n{WAIT}st.global.u32 [%out], 1;");
    assert_eq!(try_run(&some, &[[0; 4]; 32], 32, 1).unwrap()[3][0], 1);
}

#[test]
fn constants_need_no_wait() {
    let run = |load: &str| -> Result<(), Fault> {
        let text = kernel(&format!("{LAUNCH}mov.u64 %d1, table;\n{load}\n{WAIT}"));
        let module = Module::load(&text.replace(".visible", ".const .align 4 .u32 table[2] = {3, 4};\n.visible"));
        let mut device = Device::new();
        let arguments = [Argument::Pointer(device.allocate(64)), Argument::Pointer(device.allocate(64))];
        device.launch(&module.unwrap(), "test", [1; 3], [1; 3], 0, &arguments).map(drop)
    };
    run("ld.const.u32 %r1, [%d1+4];").unwrap();
    run("cvta.const.u64 %d1, %d1;\nld.u32 %r1, [%d1];").unwrap();
    assert!(matches!(run("ld.u32 %r1, [%in];").unwrap_err().kind, FaultKind::NotAwaited { .. }));
}
