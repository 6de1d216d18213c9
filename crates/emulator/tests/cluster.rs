//! Clusters, compiled by NVRTC: multicast copies, arrivals at other blocks, the cluster's barrier; and their mistakes.
mod common;

use common::{download, floats, kernel, random};
use sphereface_emulator::{Argument, Counters, Device, Fault, FaultKind, Module};

const TEXT: &str = include_str!("ptx/cluster_sums.ptx");

fn run(text: &str, blocks: u32, tiles: usize) -> Result<(Vec<f32>, Vec<f32>, Counters), Fault> {
    let module = Module::load(text).unwrap_or_else(|error| panic!("{error}"));
    let mut device = Device::new();
    let x = random(64 * tiles, 21);
    let (at_x, at_y) = (device.allocate_with(&floats(&x)), device.allocate(4 * 64 * u64::from(blocks)));
    let arguments = [Argument::Pointer(at_x), Argument::Pointer(at_y), Argument::I32(tiles as i32)];
    let counters = device.launch(&module, "cluster_sums", [blocks, 1, 1], [64, 1, 1], 0, &arguments)?;
    Ok((x, download(&device, at_y, 64 * blocks as usize), counters))
}

#[test]
fn every_block_gets_what_each_of_its_cluster_loads() {
    for (blocks, tiles) in [(2, 1), (2, 2), (4, 7), (8, 32)] {
        let (x, y, counters) = run(TEXT, blocks, tiles).unwrap_or_else(|fault| panic!("{blocks} x {tiles}: {fault}"));
        for (index, sum) in y.iter().enumerate() {
            let expected: f64 = (0..tiles).map(|tile| f64::from(x[64 * tile + index % 64])).sum();
            assert!((f64::from(*sum) - expected).abs() < 1e-5, "element {index}: {sum}, expected {expected}");
        }
        // Each tile is read once for a cluster, not once for a block.
        assert_eq!(counters.bulk_read_bytes, u64::from(blocks / 2) * 256 * tiles as u64);
    }
}

/// The fault of the kernel with `from` replaced by `to` wherever it stands.
fn planted(from: &str, to: &str) -> FaultKind {
    assert!(TEXT.contains(from), "{from}");
    run(&TEXT.replace(from, to), 2, 5).expect_err("a fault was planted").kind
}

#[track_caller]
fn says(kind: FaultKind, words: &str) {
    assert!(kind.to_string().contains(words), "{kind}");
}

const ARRIVE: &str = "barrier.cluster.arrive.release.aligned;";
const WAIT: &str = "barrier.cluster.wait.acquire.aligned;";

#[test]
fn barriers_of_another_block_are_used_after_the_cluster_has_met() {
    let alone = TEXT.replacen(ARRIVE, "bar.sync 0;", 1).replacen(WAIT, "", 1);
    let kind = run(&alone, 2, 5).unwrap_err().kind;
    assert!(matches!(&kind, FaultKind::Mbarrier(_)), "{kind}");
    // A barrier that orders nothing, beside one of each block.
    let relaxed = planted(ARRIVE, "bar.sync 0;\nbarrier.cluster.arrive.relaxed.aligned;");
    says(relaxed, "the init at offset 512 is not ordered before its use by another block");
}

#[test]
fn a_stage_is_filled_again_when_both_blocks_have_read_it() {
    // Only the warps of its own block are waited for.
    let own = TEXT.replace("mbarrier.init.shared::cta.b64 [%r14], 4;", "mbarrier.init.shared::cta.b64 [%r14], 2;");
    let own = own.replace("mbarrier.init.shared::cta.b64 [%r16], 4;", "mbarrier.init.shared::cta.b64 [%r16], 2;");
    let own = own.replace("mapa.shared::cluster.u32 %r32, %r8, %r4;", "mov.u32 %r32, %r8;\nsetp.ne.u32 %p4, %r4, 0;");
    let own = own.replace(
        "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r32];",
        "@!%p4 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r32];",
    );
    let kind = run(&own, 2, 5).unwrap_err().kind;
    assert!(
        matches!(kind, FaultKind::SharedRace { order: "write after read", .. } | FaultKind::BulkLoadPending { .. }),
        "{kind}"
    );
    // Nobody is waited for.
    let kind = planted("done, [%r8], %r23;", "done, [%r8], 1;");
    assert!(!matches!(kind, FaultKind::Deadlock(_)), "{kind}");
    // An arrival that orders nothing.
    let kind = planted("mbarrier.arrive.release.cluster", "mbarrier.arrive.relaxed.cluster");
    assert!(matches!(kind, FaultKind::SharedRace { order: "write after read", .. }), "{kind}");
}

#[test]
fn blocks_that_others_reach_must_live() {
    // The last barrier keeps both blocks until nobody sends any more.
    let (before, after) = TEXT.rsplit_once(ARRIVE).unwrap();
    let early = format!("{before}{}", after.replace(WAIT, ""));
    says(run(&early, 2, 5).unwrap_err().kind, "of the cluster has ended");
    says(
        planted(
            "mapa.shared::cluster.u32 %r32, %r8, %r4;",
            "add.u32 %r32, %r4, 4;\nmapa.shared::cluster.u32 %r32, %r8, %r32;",
        ),
        "there is no block 4 in the cluster",
    );
}

#[test]
fn a_deadlock_names_the_blocks() {
    let kind = planted("_, [%r7], 256;", "_, [%r7], 384;");
    says(kind, "block 1: warps 0, 1 wait at PTX line");
}

#[test]
fn the_barrier_of_a_cluster_is_used_in_turns() {
    says(
        run(&TEXT.replace(WAIT, ""), 2, 0).unwrap_err().kind,
        "barrier.cluster.arrive again before barrier.cluster.wait",
    );
    says(planted(ARRIVE, ""), "barrier.cluster.wait without barrier.cluster.arrive");
}

#[test]
fn grids_consist_of_whole_clusters() {
    says(run(TEXT, 3, 1).unwrap_err().kind, "clusters of [2, 1, 1] blocks in a grid of [3, 1, 1]");
    let large = TEXT.replace(".reqnctapercluster 2, 1, 1", ".reqnctapercluster 16, 1, 1");
    says(run(&large, 16, 1).unwrap_err().kind, "at most 8");
}

#[test]
fn special_registers_tell_where_a_block_is() {
    let body = "mov.u32 %r1, %cluster_ctarank;\nmov.u32 %r2, %clusterid.x;\nmov.u32 %r3, %cluster_ctaid.y;\nmov.u32 %r4, %clusterid.y;\n\
                mov.u32 %r5, %ctaid.x;\nmov.u32 %r6, %ctaid.y;\nmad.lo.u32 %r5, %r6, 4, %r5;\nmul.wide.u32 %at, %r5, 16;\n\
                add.s64 %out, %out, %at;\nst.global.v4.u32 [%out], {%r1, %r2, %r3, %r4};";
    let text = kernel(body).replace(")\n{", ")\n.explicitcluster\n.reqnctapercluster 2, 2, 1\n{");
    let module = Module::load(&text).unwrap();
    let mut device = Device::new();
    let out = device.allocate(16 * 16);
    device.launch(&module, "test", [4, 4, 1], [1, 1, 1], 0, &[Argument::Pointer(out), Argument::Pointer(out)]).unwrap();
    let found = common::download_words(&device, out, 64);
    for (index, four) in found.chunks_exact(4).enumerate() {
        let (x, y) = (index as u32 % 4, index as u32 / 4);
        assert_eq!(four, [x % 2 + y % 2 * 2, x / 2, y % 2, y / 2], "block {x}, {y}");
    }
}

#[test]
fn addresses_of_shared_memory_begin_with_the_rank() {
    // Own address, there and back through the generic one, the other block's; a word through two of them.
    let body = "mov.u32 %r0, %cluster_ctarank;\nmov.u32 %r1, tile;\ncvt.u64.u32 %d0, %r1;\ncvta.shared.u64 %d0, %d0;\n\
                cvta.to.shared.u64 %d1, %d0;\ncvt.u32.u64 %r2, %d1;\nxor.b32 %r3, %r0, 1;\n\
                mapa.shared::cluster.u32 %r3, %r1, %r3;\nst.u32 [%d0+4], %r0;\nld.shared.u32 %r4, [tile+4];\n\
                mul.wide.u32 %at, %r0, 16;\nadd.s64 %out, %out, %at;\nst.global.v4.u32 [%out], {%r1, %r2, %r3, %r4};";
    let text = kernel(&format!(".shared .align 16 .b8 before[16];\n.shared .align 16 .b8 tile[16];\n{body}"));
    let text = text.replace(")\n{", ")\n.explicitcluster\n.reqnctapercluster 2, 1, 1\n{");
    let run = |text: &str| {
        let module = Module::load(text).unwrap();
        let mut device = Device::new();
        let out = device.allocate(32);
        let arguments = [Argument::Pointer(out), Argument::Pointer(out)];
        device.launch(&module, "test", [2, 1, 1], [1, 1, 1], 0, &arguments)?;
        Ok::<_, Fault>(common::download_words(&device, out, 8))
    };
    let (first, second) = (16, 1 << 24 | 16);
    assert_eq!(run(&text).unwrap(), [first, first, second, 0, second, second, first, 1]);
    // The other block's memory is not reached by a plain store, nor is the own one without the rank.
    for (from, to) in [("st.u32 [%d0+4]", "st.shared.u32 [%r3]"), ("mov.u32 %r1, tile;", "mov.u32 %r1, 16;")] {
        let kind = run(&text.replace(from, to)).unwrap_err().kind;
        assert!(matches!(kind, FaultKind::Cluster(_) | FaultKind::SharedOutOfBounds { .. }), "{kind}");
    }
}

/// Each of two blocks stores its rank, from 5 on, in the other one's memory, and reads its own.
const EXCHANGE: &str = ".shared .align 16 .b8 tile[16];\nmov.u32 %r0, %cluster_ctarank;\nmov.u32 %r1, tile;\n\
    xor.b32 %r2, %r0, 1;\nmapa.shared::cluster.u32 %r3, %r1, %r2;\nadd.u32 %r4, %r0, 5;\n\
    st.shared.v4.u32 [tile], {%r0, %r0, %r0, %r0};\nld.shared.u32 %r5, [tile+8];\n\
    barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n\
    st.shared::cluster.v2.u32 [%r3+8], {%r4, %r5};\n\
    barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n\
    ld.shared.v4.u32 {%r6, %r7, %r8, %r9}, [tile];\nmul.wide.u32 %at, %r0, 16;\nadd.s64 %out, %out, %at;\n\
    st.global.v4.u32 [%out], {%r6, %r7, %r8, %r9};";

fn exchange(body: &str) -> Result<Vec<u32>, Fault> {
    let text = kernel(body).replace(")\n{", ")\n.explicitcluster\n.reqnctapercluster 2, 1, 1\n{");
    let module = Module::load(&text).unwrap_or_else(|error| panic!("{error}"));
    let mut device = Device::new();
    let out = device.allocate(32);
    let arguments = [Argument::Pointer(out), Argument::Pointer(out)];
    device.launch(&module, "test", [2, 1, 1], [1, 1, 1], 0, &arguments)?;
    Ok(common::download_words(&device, out, 8))
}

#[test]
fn stores_reach_other_blocks_and_are_ordered_by_the_barrier_of_the_cluster() {
    assert_eq!(exchange(EXCHANGE).unwrap(), [0, 0, 6, 1, 1, 1, 5, 0]);
    let barrier = "barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n";
    let (first, second) = EXCHANGE.split_once(barrier).unwrap();
    let last = second.rfind(barrier).unwrap();
    let without_last = format!("{first}{barrier}{}{}", &second[..last], &second[last + barrier.len()..]);
    for (wrong, words) in [
        // Before the other block has read its own.
        (format!("{first}{second}"), "write after"),
        // Read before they are there, or after the other block has ended.
        (without_last, "block"),
        // Two barriers that order nothing.
        (EXCHANGE.replace("arrive.release", "arrive.relaxed"), "write after"),
        (format!("{first}{barrier}{}", second.replace("arrive.release", "arrive.relaxed")), "a store of block"),
    ] {
        let kind = exchange(&wrong).expect_err("a fault was planted").kind;
        assert!(kind.to_string().contains(words), "{kind}");
    }
    // Where there is no such block.
    says(exchange(&EXCHANGE.replace("xor.b32 %r2, %r0, 1", "add.u32 %r2, %r0, 2")).unwrap_err().kind, "no block");
}
