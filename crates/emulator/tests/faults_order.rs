//! Planted mistakes of order: missing barriers, barriers that not all reach, copies without wait, absent lanes.
mod common;

use common::{fault, kernel, try_run};
use sphereface_emulator::{Argument, Device, FaultKind, Module};

const TILE: &str = ".shared .align 16 .b8 tile[4096];\nmul.lo.u32 %r10, %thread, 4;\nmov.u32 %r11, tile;\n\
                    add.u32 %r12, %r11, %r10;\n";

/// A body that writes its own word, does `between`, and reads the word of another thread.
fn exchange(between: &str, distance: u32) -> String {
    format!(
        "{TILE}st.shared.u32 [%r12], 0;\nbar.sync 0;\nst.shared.u32 [%r12], %thread;\n{between}\nxor.b32 %r13, %r10, {};\nadd.u32 %r13, %r11, %r13;\n\
         ld.shared.u32 %r14, [%r13];\nst.global.u32 [%out], %r14;",
        4 * distance
    )
}

fn order(kind: &FaultKind) -> &'static str {
    match kind {
        FaultKind::SharedRace { order, .. } => order,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_missing_barrier_between_warps_is_found() {
    // Warps run one after the other: the first reads, then the second writes what was read.
    assert_eq!(order(&fault(&exchange("", 32), 64).kind), "write after read");
    assert_eq!(order(&fault(&exchange("bar.warp.sync 0xffffffff;", 32), 64).kind), "write after read");
    let out = try_run(&exchange("bar.sync 0;", 32), &[[0; 4]; 64], 64, 1).unwrap();
    assert!(out.iter().enumerate().all(|(thread, four)| four[0] == thread as u32 ^ 32));
}

#[test]
fn a_missing_barrier_inside_a_warp_is_found() {
    assert_eq!(order(&fault(&exchange("", 1), 32).kind), "read after write");
    let out = try_run(&exchange("bar.warp.sync 0xffffffff;", 1), &[[0; 4]; 32], 32, 1).unwrap();
    assert!(out.iter().enumerate().all(|(thread, four)| four[0] == thread as u32 ^ 1));
}

#[test]
fn a_missing_barrier_after_reading_is_found() {
    let again = exchange("bar.sync 0;", 32) + "\nadd.u32 %r15, %thread, 7;\nst.shared.u32 [%r12], %r15;";
    assert_eq!(order(&fault(&again, 64).kind), "read after write");
    let fine = exchange("bar.sync 0;", 32) + "\nbar.sync 0;\nadd.u32 %r15, %thread, 7;\nst.shared.u32 [%r12], %r15;";
    try_run(&fine, &[[0; 4]; 64], 64, 1).unwrap();
}

#[test]
fn unordered_writes_of_different_values_are_found() {
    let body = format!("{TILE}st.shared.u32 [tile], %thread;");
    assert_eq!(order(&fault(&body, 64).kind), "write after write");
    try_run(&format!("{TILE}st.shared.u32 [tile], 3;"), &[[0; 4]; 64], 64, 1).unwrap();
    // Neighbours write the two halves of a word.
    let halves = format!("{TILE}mul.lo.u32 %r13, %thread, 2;\nadd.u32 %r13, %r13, %r11;\nst.shared.u16 [%r13], %h1;");
    try_run(&halves, &[[0; 4]; 64], 64, 1).unwrap();
}

#[test]
fn named_barriers_order_those_who_take_part() {
    // Warp 0 writes and arrives; warp 1 waits and reads. Barrier 1 has 64 threads.
    let body = format!(
        "{TILE}setp.lt.u32 %p1, %thread, 32;\n@!%p1 bra CONSUMER;\nst.shared.u32 [%r12], %thread;\nbar.arrive 1, 64;\nret;\n\
         CONSUMER:\nbar.sync 1, 64;\nld.shared.u32 %r14, [%r12+-128];\nst.global.u32 [%out], %r14;"
    );
    let out = try_run(&body, &[[0; 4]; 64], 64, 1).unwrap();
    assert!((32..64).all(|thread| out[thread][0] == thread as u32 - 32));
    // What the producer writes after it arrived is not ordered.
    let late = body.replace("bar.arrive 1, 64;\nret;", "bar.arrive 1, 64;\nst.shared.u32 [%r12], 9;\nret;");
    assert!(order(&fault(&late, 64).kind).contains("after write"));
}

#[test]
fn a_barrier_that_half_a_warp_reaches_is_found() {
    let body = "setp.lt.u32 %p1, %thread, 16;\n@%p1 bar.sync 0;";
    assert!(matches!(fault(body, 32).kind, FaultKind::DivergentBarrier(_)), "{}", fault(body, 32));
    let two = "setp.lt.u32 %p1, %thread, 16;\n@%p1 bra A;\nbar.sync 0;\nbra B;\nA:\nbar.sync 0;\nB:";
    assert!(matches!(fault(two, 32).kind, FaultKind::DivergentBarrier(_)));
    // Lanes that parted and met again arrive together.
    let met = "setp.lt.u32 %p1, %thread, 16;\n@%p1 bra A;\nadd.u32 %r1, %thread, 1;\nA:\nbar.sync 0;";
    try_run(met, &[[0; 4]; 64], 64, 1).unwrap();
}

#[test]
fn warps_that_have_exited_are_not_waited_for() {
    let body = "setp.ge.u32 %p1, %thread, 32;\n@%p1 ret;\nbar.sync 0;\nst.global.u32 [%out], 1;";
    assert_eq!(try_run(body, &[[0; 4]; 64], 64, 1).unwrap()[0][0], 1);
}

#[test]
fn barriers_that_can_never_be_complete_are_found() {
    let mismatch = "setp.lt.u32 %p1, %thread, 32;\n@%p1 bra A;\nbar.sync 1, 64;\nret;\nA:\nbar.sync 1, 96;";
    assert!(matches!(fault(mismatch, 96).kind, FaultKind::BarrierMismatch(_)));
    assert!(matches!(fault("bar.sync 1, 48;", 64).kind, FaultKind::BarrierMismatch(_)));
    assert!(matches!(fault("bar.sync 16;", 32).kind, FaultKind::BarrierMismatch(_)));
    let apart = "setp.lt.u32 %p1, %thread, 32;\n@%p1 bra A;\nbar.sync 1;\nret;\nA:\nbar.sync 2;";
    let error = fault(apart, 64);
    let FaultKind::Deadlock(warps) = &error.kind else { panic!("{error}") };
    assert_eq!(warps.len(), 2);
    assert!(warps[0].starts_with("warp 0 waits at PTX line"), "{error}");
}

#[test]
fn a_spin_that_nobody_ends_is_a_deadlock() {
    let body = "L:\nld.global.u32 %r1, [%in];\nsetp.eq.u32 %p1, %r1, 1;\n@%p1 bra L;";
    let error = fault(body, 1);
    assert!(matches!(error.kind, FaultKind::Deadlock(_)), "{error}");
}

#[test]
fn a_spin_that_sleeps_is_a_deadlock_too() {
    let body = "L:\nnanosleep.u32 100;\nld.global.u32 %r1, [%in];\nsetp.eq.u32 %p1, %r1, 1;\n@%p1 bra L;";
    assert!(matches!(fault(body, 33).kind, FaultKind::Deadlock(_)));
}

#[test]
fn two_barriers_may_be_complete_at_once() {
    // Warps 0 and 1 wait at barrier 1, warps 2 and 3 at barrier 2; arrivals alone do not hold a barrier up.
    let body = "bar.arrive 3, 128;\nshr.u32 %r1, %thread, 6;\nadd.u32 %r1, %r1, 1;\nbar.sync %r1, 64;\nbar.sync 0;\n\
                st.global.u32 [%out], %r1;";
    let out = try_run(body, &[[0; 4]; 128], 128, 1).unwrap();
    assert!(out.iter().enumerate().all(|(thread, four)| four[0] == 1 + thread as u32 / 64));
}

#[test]
fn a_spin_that_another_warp_ends_goes_on() {
    // Warp 0 spins on what warp 1 stores.
    let body = "ld.param.u64 %d1, [in];\nsetp.lt.u32 %p1, %thread, 32;\n@!%p1 bra SET;\n\
                L:\nld.volatile.global.u32 %r1, [%d1];\nsetp.ne.u32 %p2, %r1, 5;\n@%p2 bra L;\nst.global.u32 [%out], %r1;\n\
                ret;\nSET:\nst.volatile.global.u32 [%d1], 5;";
    assert_eq!(try_run(body, &[[0; 4]; 64], 64, 1).unwrap()[31][0], 5);
    // Lanes of one warp: the lower counter spins on what the higher one stores.
    let lanes = body.replace("%thread, 32", "%thread, 16");
    assert_eq!(try_run(&lanes, &[[0; 4]; 32], 32, 1).unwrap()[0][0], 5);
}

#[test]
fn a_long_loop_without_stores_is_no_deadlock() {
    let body = "mov.u32 %r1, 0;\nL:\nadd.u32 %r1, %r1, 1;\nsetp.lt.u32 %p1, %r1, 300000;\n@%p1 bra L;\n\
                st.global.u32 [%out], %r1;";
    assert_eq!(try_run(body, &[[0; 4]; 32], 32, 1).unwrap()[31][0], 300_000);
}

#[test]
fn a_loop_without_end_is_found_although_it_stores_and_counts() {
    let body = "mov.u32 %r1, 0;\nL:\nadd.u32 %r1, %r1, 1;\nst.global.u32 [%out], %r1;\nbra L;";
    let module = Module::load(&kernel(body)).unwrap();
    let mut device = Device::new();
    let out = device.allocate(64 * 16);
    let arguments = [Argument::Pointer(out), Argument::Pointer(out)];
    device.limit_instructions(1_000_000);
    let error = device.launch(&module, "test", [1; 3], [64, 1, 1], 0, &arguments).unwrap_err();
    assert!(matches!(error.kind, FaultKind::Endless { instructions } if instructions < 1_000_100), "{error}");
    assert!(error.to_string().starts_with("no end after 1000"), "{error}");
}

const COPY: &str = "mul.lo.u32 %r13, %thread, 16;\nadd.u32 %r13, %r13, %r11;\n\
                    cp.async.ca.shared.global [%r13], [%in], 16;\ncp.async.commit_group;\n";

#[test]
fn an_asynchronous_copy_without_wait_is_found() {
    let body = format!("{TILE}{COPY}ld.shared.u32 %r1, [%r13];");
    assert_eq!(fault(&body, 32).kind, FaultKind::AsyncCopyPending { offset: 0 });
    let body = format!("{TILE}{COPY}cp.async.wait_group 1;\nld.shared.u32 %r1, [%r13];");
    assert_eq!(fault(&body, 32).kind, FaultKind::AsyncCopyPending { offset: 0 });
    let overwrite = format!("{TILE}{COPY}st.shared.u32 [%r13], 1;");
    assert_eq!(fault(&overwrite, 32).kind, FaultKind::AsyncCopyPending { offset: 0 });
    for wait in ["cp.async.wait_group 0;", "cp.async.wait_all;"] {
        let fine = format!("{TILE}{COPY}{wait}\nld.shared.u32 %r1, [%r13+8];\nst.global.u32 [%out], %r1;");
        assert_eq!(try_run(&fine, &[[1, 2, 3, 4]; 32], 32, 1).unwrap()[5][0], 3);
    }
}

#[test]
fn a_wait_is_no_barrier() {
    let read = "xor.b32 %r13, %r13, 512;\nld.shared.u32 %r1, [%r13];";
    let body = format!("{TILE}{COPY}cp.async.wait_all;\n{read}");
    assert!(matches!(
        fault(&body, 64).kind,
        FaultKind::AsyncCopyPending { .. } | FaultKind::SharedUninitialised { .. }
    ));
    let warp = format!("{TILE}{COPY}cp.async.wait_all;\nxor.b32 %r13, %r13, 16;\nld.shared.u32 %r1, [%r13];");
    assert_eq!(order(&fault(&warp, 32).kind), "read after write");
    try_run(&format!("{TILE}{COPY}cp.async.wait_all;\nbar.sync 0;\n{read}"), &[[0; 4]; 64], 64, 1).unwrap();
}

#[test]
fn a_shuffle_from_an_absent_lane_is_found() {
    let exited = "setp.eq.u32 %p1, %thread, 3;\n@%p1 ret;\nshfl.sync.idx.b32 %r1, %thread, 3, 31, 0xffffffff;";
    assert!(matches!(fault(exited, 32).kind, FaultKind::InactiveLane { lane: 3, exited: true }));
    let apart = "setp.eq.u32 %p1, %thread, 3;\n@%p1 bra A;\nshfl.sync.idx.b32 %r1, %thread, 0, 31, 0xffffffff;\nbra B;\n\
                 A:\nshfl.sync.idx.b32 %r1, %thread, 0, 31, 0xffffffff;\nB:";
    assert!(matches!(fault(apart, 32).kind, FaultKind::InactiveLane { exited: false, .. }));
    let outside = "shfl.sync.idx.b32 %r1, %thread, 0, 31, 0x0000ffff;";
    assert!(matches!(fault(outside, 32).kind, FaultKind::NotAMember { members: 0xffff }));
    let source = "setp.lt.u32 %p1, %thread, 16;\n@%p1 shfl.sync.idx.b32 %r1, %thread, 20, 31, 0x0000ffff;";
    assert!(matches!(fault(source, 32).kind, FaultKind::InactiveLane { lane: 20, exited: false }));
}

#[test]
fn lanes_wait_for_their_partners_in_an_exchange() {
    // Lane 0 takes a longer way to the same shuffle.
    let body = "setp.ne.u32 %p1, %thread, 0;\nmov.u32 %r2, %thread;\n@%p1 bra A;\nadd.u32 %r2, %r2, 100;\nA:\n\
                shfl.sync.idx.b32 %r1, %r2, 0, 31, 0xffffffff;\nst.global.u32 [%out], %r1;";
    assert!(try_run(body, &[[0; 4]; 32], 32, 1).unwrap().iter().all(|four| four[0] == 100));
}

#[test]
fn a_trap_stops_the_launch() {
    assert_eq!(fault("trap;", 1).kind, FaultKind::Trap);
}

#[test]
fn launches_that_no_gpu_would_take_are_refused() {
    let text = kernel("mov.u32 %r1, dynamic;")
        .replace("sm_90", "sm_80")
        .replace(".visible", ".extern .shared .align 16 .b8 dynamic[];\n.visible");
    let module = Module::load(&text).unwrap();
    let mut device = Device::new();
    let arguments = [Argument::Pointer(device.allocate(16)), Argument::Pointer(device.allocate(16))];
    let mut launch = |block: [u32; 3], shared: u64| {
        device.launch(&module, "test", [1, 1, 1], block, shared, &arguments).map(drop).map_err(|fault| fault.kind)
    };
    assert_eq!(launch([1, 1, 1], 48 << 10), Ok(()));
    assert_eq!(launch([1, 1, 1], (48 << 10) + 1), Err(FaultKind::SharedNeedsAttribute { bytes: 49_153 }));
    let too_large = FaultKind::SharedTooLarge { bytes: (99 << 10) + 1, limit: 99 << 10, target: 80 };
    assert_eq!(launch([1, 1, 1], (99 << 10) + 1), Err(too_large));
    assert!(matches!(launch([1025, 1, 1], 0), Err(FaultKind::Shape(_))));
    assert!(matches!(launch([0, 1, 1], 0), Err(FaultKind::Shape(_))));
    assert!(matches!(
        device.launch(&module, "other", [1; 3], [1; 3], 0, &[]).unwrap_err().kind,
        FaultKind::NoKernel(_)
    ));
    let few = device.launch(&module, "test", [1; 3], [1; 3], 0, &arguments[..1]).unwrap_err();
    assert_eq!(few.to_string(), "kernel `test` has 2 parameters, 1 arguments given");
    let short = [Argument::U32(1), Argument::Pointer(0)];
    assert!(matches!(
        device.launch(&module, "test", [1; 3], [1; 3], 0, &short).unwrap_err().kind,
        FaultKind::Arguments(_)
    ));
    device.allow_more_shared(&module, "test");
    device.launch(&module, "test", [1; 3], [1; 3], 99 << 10, &arguments).unwrap();
    let mut hopper = Device::with_target(90);
    hopper.allow_more_shared(&module, "test");
    hopper.launch(&module, "test", [1; 3], [1; 3], 227 << 10, &arguments).unwrap();
}
