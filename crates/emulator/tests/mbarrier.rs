//! Transaction barriers by themselves: phases, counts, order; and other instructions of sm_90 that need little.
mod common;

use common::{fault, kernel, try_run};
use sphereface_emulator::{Fault, FaultKind, Module};

/// `%r20` is the barrier, made by thread 0 for this count and known to all; `%r21` lies in a tile of 1,024 words.
fn made(count: u32, lines: &str) -> String {
    format!(
        ".shared .align 8 .b8 bar[32];\n.shared .align 16 .b8 tile[4096];\nmov.u32 %r20, bar;\nmov.u32 %r21, tile;\n\
         mad.lo.u32 %r21, %thread, 4, %r21;\nsetp.ne.u32 %p0, %thread, 0;\n@%p0 bra MADE;\n\
         mbarrier.init.shared::cta.b64 [%r20], {count};\nMADE:\nbar.sync 0;\n{lines}"
    )
}

fn run(count: u32, lines: &str, threads: u32) -> Result<Vec<[u32; 4]>, Fault> {
    try_run(&made(count, lines), &vec![[0; 4]; threads as usize], threads, 1)
}

#[track_caller]
fn says(outcome: Result<Vec<[u32; 4]>, Fault>, words: &str) {
    let fault = outcome.expect_err("a fault was planted");
    assert!(fault.to_string().contains(words), "{fault}");
}

const WAIT: &str = "AGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 %p1, [%r20], %r1;\n@!%p1 bra AGAIN;\n";

#[test]
fn a_phase_ends_with_its_last_arrival_and_orders_what_was_before() {
    // Every thread writes, arrives, waits, and reads what the last thread wrote; twice.
    let lines = format!(
        "mov.u32 %r1, 0;\nmov.u32 %r2, 0;\nROUND:\nadd.u32 %r3, %thread, %r2;\nst.shared.u32 [%r21], %r3;\n\
         mbarrier.arrive.shared::cta.b64 %d1, [%r20];\n{WAIT}ld.shared.u32 %r4, [tile+380];\n\
         mbarrier.arrive.shared::cta.b64 _, [%r20];\nxor.b32 %r1, %r1, 1;\n{}xor.b32 %r1, %r1, 1;\nadd.u32 %r2, %r2, 100;\n\
         setp.lt.u32 %p2, %r2, 200;\n@%p2 bra ROUND;\nst.global.u32 [%out], %r4;",
        WAIT.replace("AGAIN", "MORE")
    );
    let out = run(96, &lines, 96).unwrap();
    assert!(out.iter().all(|four| four[0] == 195), "{out:?}");
    // Without the second arrival and wait, threads overwrite what others still read.
    let (before, after) = lines.split_once("mbarrier.arrive.shared::cta.b64 _, [%r20];\n").unwrap();
    let (_, after) = after.split_once("bra MORE;\n").unwrap();
    says(run(96, &format!("{before}{after}"), 96), "write after read");
}

#[test]
fn states_and_tests_know_their_phase() {
    // The state of an arrival has passed once the other thread has arrived as well.
    let lines = "mbarrier.arrive.shared::cta.b64 %d1, [%r20];\n\
                 mbarrier.test_wait.shared::cta.b64 %p1, [%r20], %d1;\nselp.u32 %r1, 1, 0, %p1;\n\
                 mbarrier.arrive.release.cta.shared::cta.b64 %d2, [%r20], 1;\n\
                 mbarrier.test_wait.acquire.cta.shared::cta.b64 %p1, [%r20], %d1;\nselp.u32 %r2, 1, 0, %p1;\n\
                 mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r20], 0;\nselp.u32 %r3, 1, 0, %p1;\n\
                 mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r20], 1;\nselp.u32 %r4, 1, 0, %p1;\n\
                 st.global.v4.u32 [%out], {%r1, %r2, %r3, %r4};";
    assert_eq!(run(2, lines, 1).unwrap()[0], [0, 1, 1, 0]);
    // Before the first phase has ended, the one before it is taken as passed.
    let first = "mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r20], 1;\nselp.u32 %r1, 1, 0, %p1;\n\
                 mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r20], 1, 1000;\nselp.u32 %r2, 1, 0, %p1;\n\
                 st.global.v2.u32 [%out], {%r1, %r2};";
    assert_eq!(run(2, first, 1).unwrap()[0][..2], [1, 1]);
}

#[test]
fn bytes_hold_a_phase_open() {
    let lines = "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r20], 48;\n\
                 mbarrier.arrive.expect_tx.shared::cta.b64 %d1, [%r20], 16;\n\
                 mbarrier.test_wait.shared::cta.b64 %p1, [%r20], %d1;\nselp.u32 %r1, 1, 0, %p1;\n\
                 mbarrier.complete_tx.shared::cta.b64 [%r20], 60;\n\
                 mbarrier.test_wait.shared::cta.b64 %p1, [%r20], %d1;\nselp.u32 %r2, 1, 0, %p1;\n\
                 mbarrier.complete_tx.shared::cta.b64 [%r20], 4;\n\
                 mbarrier.test_wait.shared::cta.b64 %p1, [%r20], %d1;\nselp.u32 %r3, 1, 0, %p1;\n\
                 st.global.v4.u32 [%out], {%r1, %r2, %r3, %r3};";
    assert_eq!(run(1, lines, 1).unwrap()[0][..3], [0, 0, 1]);
}

#[test]
fn a_wait_may_fail_and_the_thread_go_on() {
    // Nobody arrives before the first try has failed, as hardware lets it after a while. The arrival depends on that: an
    // H200 let the try succeed with the thread's own later arrival.
    let lines = "mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r20], 0;\nselp.u32 %r1, 1, 0, %p1;\n\
                 @!%p1 mbarrier.arrive.shared::cta.b64 _, [%r20];\n\
                 mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r20], 0;\nselp.u32 %r2, 1, 0, %p1;\n\
                 st.global.v2.u32 [%out], {%r1, %r2};";
    assert_eq!(run(1, lines, 1).unwrap()[0][..2], [0, 1]);
}

#[test]
fn lanes_of_a_warp_may_wait_for_each_other() {
    // Lane 0 waits in a loop of its own for what the others do behind it.
    let lines = format!(
        "mov.u32 %r1, 0;\n@%p0 bra OTHERS;\n{WAIT}bra DONE;\nOTHERS:\nmbarrier.arrive.shared::cta.b64 _, [%r20];\nDONE:\n"
    );
    run(31, &lines, 32).unwrap();
}

#[test]
fn wrong_counts_are_found() {
    says(
        run(2, "mov.u32 %r1, 0;\nmbarrier.arrive.shared::cta.b64 _, [%r20], 3;", 1),
        "3 arrivals at offset 0, of 2 expected in phase 0 only 2 are missing",
    );
    says(
        run(
            1,
            "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r20], 16;\nmbarrier.arrive.shared::cta.b64 _, [%r20];",
            1,
        ),
        "only 0 are missing",
    );
    says(run(1, "mbarrier.arrive.shared::cta.b64 _, [%r20], 0;", 1), "0 arrivals");
    says(run(0, "", 1), "init with 0 arrivals");
    says(run(1, "mbarrier.expect_tx.shared::cta.b64 [%r20], 1048576;", 1), "1048576 bytes outstanding");
    let wait = format!("mov.u32 %r1, 0;\nmbarrier.arrive.shared::cta.b64 _, [%r20];\n{WAIT}");
    says(run(65, &wait, 64), "deadlock: warps 0, 1 wait at PTX line");
    says(run(65, &wait, 64), "for the mbarrier at offset 0, phase 0: 1 of 65 arrivals missing");
}

#[test]
fn a_barrier_must_be_one() {
    says(run(1, "mbarrier.arrive.shared::cta.b64 _, [%r20+8];", 1), "read of uninitialised shared memory");
    says(
        run(1, "st.shared.u32 [%r20], 7;\nmbarrier.arrive.shared::cta.b64 _, [%r20];", 1),
        "none is at offset 0, or it was overwritten",
    );
    says(run(1, "mbarrier.init.shared::cta.b64 [%r20], 1;", 1), "init where a valid one is");
    says(
        run(1, "mbarrier.inval.shared::cta.b64 [%r20];\nmbarrier.arrive.shared::cta.b64 _, [%r20];", 1),
        "none is at offset 0",
    );
    run(1, "mbarrier.inval.shared::cta.b64 [%r20];\nmbarrier.init.shared::cta.b64 [%r20], 1;", 1).unwrap();
    says(run(1, "mbarrier.arrive.shared::cta.b64 _, [%r20+4];", 1), "no multiple of the access's 8 bytes");
    // Nothing between its making and its use by another warp.
    let lines = made(64, "mbarrier.arrive.shared::cta.b64 _, [%r20];").replace("bar.sync 0;", "");
    let error = fault(&lines, 64);
    assert!(matches!(error.kind, FaultKind::SharedRace { .. }), "{error}");
}

#[test]
fn a_relaxed_arrival_orders_nothing() {
    let lines = format!(
        "mov.u32 %r1, 0;\nst.shared.u32 [%r21], %thread;\nmbarrier.arrive.shared::cta.b64 _, [%r20];\n{WAIT}\
         xor.b32 %r3, %thread, 32;\nmov.u32 %r4, tile;\nmad.lo.u32 %r4, %r3, 4, %r4;\nld.shared.u32 %r3, [%r4];\nst.global.u32 [%out], %r3;"
    );
    let out = run(64, &lines, 64).unwrap();
    assert!(out.iter().enumerate().all(|(thread, four)| four[0] == thread as u32 ^ 32));
    says(
        run(64, &lines.replace("mbarrier.arrive.shared", "mbarrier.arrive.relaxed.cta.shared"), 64),
        "read after write",
    );
}

#[test]
fn one_lane_is_elected() {
    let lines = "elect.sync %r1|%p1, 0xffffffff;\nselp.u32 %r2, 1, 0, %p1;\nmov.u32 %r3, 9;\n\
                 setp.lt.u32 %p2, %thread, 5;\n@%p2 bra DONE;\nelect.sync %r3|%p3, 0xffffffe0;\nselp.u32 %r2, 2, %r2, %p3;\n\
                 DONE:\nst.global.v4.u32 [%out], {%r1, %r2, %r3, %r3};";
    for (lane, four) in try_run(lines, &[[0; 4]; 32], 32, 1).unwrap().iter().enumerate() {
        let chosen = match lane {
            0 => 1,
            5 => 2,
            _ => 0,
        };
        assert_eq!(four[..3], [0, chosen, if lane < 5 { 9 } else { 5 }], "lane {lane}");
    }
}

#[test]
fn matrices_are_stored_as_they_are_loaded() {
    // What stmatrix writes, ldmatrix reads back, transposed or not; and a word by itself.
    for trans in ["", ".trans"] {
        for (count, list) in [(1, "{%r1}"), (2, "{%r1, %r2}"), (4, "{%r1, %r2, %r3, %r4}")] {
            let lines = format!(
                ".shared .align 16 .b8 tile[512];\nmov.u32 %r20, tile;\nmad.lo.u32 %r20, %thread, 16, %r20;\n\
                 ld.global.v4.u32 {{%r1, %r2, %r3, %r4}}, [%in];\n\
                 stmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 [%r20], {list};\nbar.sync 0;\n\
                 mov.u32 %r2, 0;\nmov.u32 %r3, 0;\nmov.u32 %r4, 0;\n\
                 ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {list}, [%r20];\nld.shared.u16 %h1, [tile+18];\n\
                 cvt.u32.u16 %r5, %h1;\nst.global.v4.u32 [%out], {{%r1, %r2, %r3, %r5}};"
            );
            let input: Vec<[u32; 4]> = (0..32)
                .map(|lane| [0, 1, 2, 3].map(|matrix| (256 * matrix + 2 * lane) | (256 * matrix + 2 * lane + 1) << 16))
                .collect();
            let out = try_run(&lines, &input, 32, 1).unwrap();
            // Row 1, column 1 of the first matrix: element 9, or 1 row and 1 column the other way round, the same;
            // element (1, 1) belongs to lane 4, second half.
            let corner = if trans.is_empty() { 9 } else { input[4][0] >> 16 };
            for lane in 0..32 {
                let kept = |matrix: usize| if matrix < count { input[lane][matrix] } else { 0 };
                assert_eq!(out[lane], [kept(0), kept(1), kept(2), corner], "x{count}{trans} lane {lane}");
            }
        }
    }
    // Element (row 0, column 2) is lane 1's first half; transposed it lies in row 2, column 0.
    let lines = ".shared .align 16 .b8 tile[512];\nmov.u32 %r20, tile;\nmad.lo.u32 %r20, %thread, 16, %r20;\n\
                 mov.u32 %r1, %thread;\nstmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%r20], {%r1};\nbar.sync 0;\n\
                 ld.shared.u16 %h1, [tile+32];\ncvt.u32.u16 %r5, %h1;\nst.global.u32 [%out], %r5;";
    assert_eq!(try_run(lines, &[[0; 4]; 32], 32, 1).unwrap()[0][0], 1);
}

#[test]
fn dependent_launches_and_prefetches_of_maps_change_nothing() {
    let lines =
        "griddepcontrol.wait;\nprefetch.tensormap [%in];\ngriddepcontrol.launch_dependents;\nst.global.u32 [%out], 5;";
    assert_eq!(try_run(lines, &[[0; 4]], 1, 1).unwrap()[0][0], 5);
}

#[test]
fn forms_that_are_not_known_are_refused() {
    for body in [
        "mbarrier.arrive.noComplete.shared::cta.b64 %d1, [%r1], 1;",
        "mbarrier.pending_count.b64 %r1, %d1;",
        "mbarrier.init.shared::cta.b32 [%r1], 1;",
        "fence.proxy.alias;",
        "cp.async.bulk.tensor.6d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%in, {%r1}], [%r2];",
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%in, {%r1}], [%r2];",
        "cp.async.bulk.tensor.2d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%r1], [%in, {%r1, %r2}], [%r2];",
        "wgmma.mma_async.sync.aligned.m64n12k16.f32.bf16.bf16 {%r1}, %d1, %d2, 1, 1, 1, 0, 0;",
        "wgmma.mma_async.sync.aligned.m64n8k16.f16.f16.f16 {%r1, %r2}, %d1, %d2, 1, 1, 1, 0, 0;",
        "wgmma.mma_async.sync.aligned.m64n8k8.f32.tf32.tf32 {%r1, %r2, %r3, %r4}, %d1, %d2, 1, 1, 1, 0, 0;",
        "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%r1, %r2, %r3}, %d1, %d2, 1, 1, 1, 0, 0;",
        "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%r1, %r2, %r3, %r4}, %d1, %d2, 1, 2, 1, 0, 0;",
        "setmaxnreg.inc.sync.aligned.u32 100;",
        "setmaxnreg.inc.sync.aligned.u32 128;",
    ] {
        assert!(Module::load(&kernel(body)).is_err(), "{body}");
    }
    // What the target does not have.
    let refused = |text: &str| Module::load(text).unwrap_err().to_string();
    let older = kernel("mbarrier.inval.shared::cta.b64 [%r1];").replace("sm_90", "sm_80");
    assert!(
        refused(&older).ends_with("instruction `mbarrier.inval.shared::cta.b64` of sm_90 for sm_80 is not supported")
    );
    let portable = refused(&kernel("wgmma.fence.sync.aligned;"));
    assert!(portable.ends_with("instruction `wgmma.fence.sync.aligned` of sm_90a for sm_90 is not supported"));
}
