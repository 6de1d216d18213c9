//! Exchanges between lanes, special registers, divergence, and branches by index.
mod common;

use common::try_run;

/// One word of each thread's output.
fn lanes(body: &str, threads: u32) -> Vec<u32> {
    let inputs = vec![[0; 4]; threads as usize];
    try_run(&format!("{body}\nst.global.u32 [%out], %r0;"), &inputs, threads, 1)
        .unwrap()
        .iter()
        .map(|four| four[0])
        .collect()
}

#[test]
fn shuffles_move_values_and_say_where_they_end() {
    let flagged = |shuffle: &str| lanes(&format!("{shuffle}\nselp.u32 %r5, 100, 0, %p1;\nadd.u32 %r0, %r0, %r5;"), 32);
    let up = flagged("shfl.sync.up.b32 %r0|%p1, %thread, 3, 0, 0xffffffff;");
    let down = flagged("shfl.sync.down.b32 %r0|%p1, %thread, 3, 31, 0xffffffff;");
    let butterfly = flagged("shfl.sync.bfly.b32 %r0|%p1, %thread, 5, 31, 0xffffffff;");
    let index = flagged("shfl.sync.idx.b32 %r0|%p1, %thread, 9, 31, 0xffffffff;");
    // Segments of eight lanes: clamp and segment mask as `__shfl_down_sync(…, 2, 8)` sets them.
    let segments = flagged("shfl.sync.down.b32 %r0|%p1, %thread, 2, 0x181f, 0xffffffff;");
    for lane in 0..32_u32 {
        let at = lane as usize;
        assert_eq!(up[at], if lane >= 3 { lane - 3 + 100 } else { lane });
        assert_eq!(down[at], if lane <= 28 { lane + 3 + 100 } else { lane });
        assert_eq!(butterfly[at], (lane ^ 5) + 100);
        assert_eq!(index[at], 109);
        assert_eq!(segments[at], if lane % 8 < 6 { lane + 2 + 100 } else { lane });
    }
}

#[test]
fn votes_count_the_members() {
    let body = "setp.lt.u32 %p1, %thread, 5;\nvote.sync.ballot.b32 %r0, %p1, 0xffffffff;";
    assert_eq!(lanes(body, 32), [31; 32]);
    let negated = "setp.lt.u32 %p1, %thread, 5;\nvote.sync.ballot.b32 %r0, !%p1, 0xffffffff;";
    assert_eq!(lanes(negated, 32), [!31; 32]);
    for (mode, limit, expected) in
        [("all", 32, 1), ("all", 5, 0), ("any", 5, 1), ("any", 0, 0), ("uni", 0, 1), ("uni", 5, 0)]
    {
        let body = format!(
            "setp.lt.u32 %p1, %thread, {limit};\nvote.sync.{mode}.pred %p2, %p1, 0xffffffff;\nselp.u32 %r0, 1, 0, %p2;"
        );
        assert_eq!(lanes(&body, 32), [expected; 32], "{mode} {limit}");
    }
    let matched = lanes("and.b32 %r1, %thread, 1;\nmatch.any.sync.b32 %r0, %r1, 0xffffffff;", 32);
    assert!(matched.iter().enumerate().all(|(lane, bits)| *bits == 0x5555_5555 << (lane % 2)));
    let active = "setp.lt.u32 %p1, %thread, 5;\nmov.u32 %r0, 0;\n@%p1 activemask.b32 %r0;";
    assert_eq!(lanes(active, 32)[..6], [31, 31, 31, 31, 31, 0]);
}

#[test]
fn special_registers_tell_the_place() {
    for (register, expected) in [
        ("%laneid", (|thread| thread % 32) as fn(u32) -> u32),
        ("%warpid", |thread| thread / 32),
        ("%ntid.x", |_| 64),
        ("%nctaid.x", |_| 1),
        ("%ctaid.y", |_| 0),
        ("%tid.y", |_| 0),
        ("%lanemask_lt", |thread| (1 << (thread % 32)) - 1),
        ("%lanemask_ge", |thread| u32::MAX << (thread % 32)),
        ("%lanemask_eq", |thread| 1 << (thread % 32)),
    ] {
        let actual = lanes(&format!("mov.u32 %r0, {register};"), 64);
        assert!((0..64).all(|thread| actual[thread as usize] == expected(thread)), "{register}: {actual:?}");
    }
    let clocks = lanes("mov.u32 %r1, %clock;\nadd.u32 %r2, %r1, 1;\nmov.u32 %r3, %clock;\nsub.u32 %r0, %r3, %r1;", 32);
    assert!(clocks.iter().all(|ticks| *ticks > 0));
}

#[test]
fn lanes_part_and_meet_again() {
    // Each lane loops as often as its index says; then all are together for a ballot.
    let body = "mov.u32 %r0, 0;\nmov.u32 %r1, 0;\nL:\nsetp.ge.u32 %p1, %r1, %thread;\n@%p1 bra E;\n\
                add.u32 %r0, %r0, %r1;\nadd.u32 %r1, %r1, 1;\nbra L;\nE:\nactivemask.b32 %r2;\n\
                setp.ne.u32 %p2, %r2, 0xffffffff;\n@%p2 trap;";
    let sums = lanes(body, 32);
    assert!((0..32_u32).all(|lane| sums[lane as usize] == lane * lane.saturating_sub(1) / 2));
}

#[test]
fn branches_by_index_go_to_their_label() {
    let body = "and.b32 %r1, %thread, 3;\nT: .branchtargets A, B, C, D;\nbrx.idx %r1, T;\n\
                A: mov.u32 %r0, 10;\nbra E;\nB: mov.u32 %r0, 11;\nbra E;\nC: mov.u32 %r0, 12;\nbra E;\nD: mov.u32 %r0, 13;\nE:";
    assert!(lanes(body, 32).iter().enumerate().all(|(lane, value)| *value == 10 + lane as u32 % 4));
}

#[test]
fn labels_and_registers_belong_to_their_braces() {
    let part = "{ .reg .pred p; .reg .u32 x; mov.u32 x, %thread; setp.gt.u32 p, x, 3; @p bra DONE; add.u32 %r0, %r0, 1; DONE: }\n";
    let body = format!("mov.u32 %r0, 0;\n{part}{part}");
    assert!(lanes(&body, 32).iter().enumerate().all(|(lane, value)| *value == if lane > 3 { 0 } else { 2 }));
}

#[test]
fn barriers_and_lanes_reduce_what_they_are_given() {
    let body = "setp.lt.u32 %p1, %thread, 40;\nbar.red.popc.u32 %r1, 0, %p1;\nbar.red.or.pred %p2, 0, !%p1;\n\
                bar.red.and.pred %p3, 0, %p1;\nselp.u32 %r2, 100, 0, %p2;\nselp.u32 %r3, 1000, 0, %p3;\n\
                add.u32 %r0, %r1, %r2;\nadd.u32 %r0, %r0, %r3;";
    assert_eq!(lanes(body, 64), [140; 64]);
    for (operation, expected) in
        [("add.u32", 496), ("min.s32", 0), ("max.u32", 31), ("and.b32", 0), ("or.b32", 31), ("xor.b32", 0)]
    {
        assert_eq!(
            lanes(&format!("redux.sync.{operation} %r0, %thread, 0xffffffff;"), 32),
            [expected; 32],
            "{operation}"
        );
    }
}
