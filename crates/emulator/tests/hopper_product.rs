//! A product with the means of sm_90, compiled by NVRTC: bulk tensor copies, transaction barriers, wgmma, a producer and
//! two consumer warpgroups. Then the same with one mistake each.
mod common;

use common::{bf16, bf16_value, random};
use sphereface_emulator::{Argument, Counters, Device, Fault, FaultKind, Module, Swizzle, TensorMap};

const TEXT: &str = include_str!("ptx/wgmma_gemm.ptx");
const STAGES: u64 = 3;
const SHARED: u64 = STAGES * 32_768 + 1024;

fn map(pointer: u64, element_bytes: u64, [rows, columns]: [u64; 2], [height, width]: [u64; 2]) -> TensorMap {
    TensorMap {
        pointer,
        element_bytes,
        extents: vec![columns, rows],
        strides_bytes: vec![columns * element_bytes],
        box_extents: vec![width, height],
        steps: vec![],
        swizzle: Swizzle::Bytes128,
    }
}

/// A, B, C and what was counted.
type Outcome = (Vec<u16>, Vec<u16>, Vec<f32>, Counters);

/// Runs C = A·Bᵀ.
fn run(text: &str, [m, n, k]: [usize; 3], change: impl Fn(&mut [TensorMap; 3])) -> Result<Outcome, Fault> {
    let module = Module::load(text).unwrap();
    let mut device = Device::new();
    device.allow_more_shared(&module, "wgmma_gemm");
    let (a, b) = (bf16(&random(m * k, 4)), bf16(&random(n * k, 5)));
    let bytes = |values: &[u16]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let (at_a, at_b) = (device.allocate_with(&bytes(&a)), device.allocate_with(&bytes(&b)));
    let at_c = device.allocate(4 * (m * n) as u64);
    let [m64, n64, k64] = [m, n, k].map(|extent| extent as u64);
    let mut maps =
        [map(at_a, 2, [m64, k64], [128, 64]), map(at_b, 2, [n64, k64], [128, 64]), map(at_c, 4, [m64, n64], [64, 32])];
    change(&mut maps);
    let mut arguments: Vec<Argument> = maps.iter().map(|map| Argument::Bytes(map.encode().unwrap().to_vec())).collect();
    arguments.push(Argument::I32(k as i32));
    let grid = [n.div_ceil(128) as u32, m.div_ceil(128) as u32, 1];
    let counters = device.launch(&module, "wgmma_gemm", grid, [384, 1, 1], SHARED, &arguments)?;
    Ok((a, b, common::download(&device, at_c, m * n), counters))
}

#[test]
fn a_warp_specialised_product_matches_reference() {
    for size @ [m, n, k] in [[128, 128, 64], [1, 4, 8], [130, 68, 72], [200, 260, 520]] {
        let (a, b, c, counters) = run(TEXT, size, |_| {}).unwrap_or_else(|fault| panic!("{size:?}: {fault}"));
        for row in 0..m {
            for column in 0..n {
                let product = |step: usize| bf16_value(a[row * k + step]) * bf16_value(b[column * k + step]);
                let (sum, size) = (0..k).map(product).fold((0.0, 0.0), |(sum, size), x: f64| (sum + x, size + x.abs()));
                let error = (f64::from(c[row * n + column]) - sum).abs();
                assert!(error <= 1e-6 * size, "({row}, {column}) of {m}x{n}x{k}: error {error}");
            }
        }
        let blocks = (m.div_ceil(128) * n.div_ceil(128)) as u64;
        let steps = k.div_ceil(64) as u64;
        assert_eq!(counters.wgmma_flops, blocks * steps * 2 * 128 * 128 * 64);
        assert_eq!(counters.bulk_written_bytes, 4 * (m * n) as u64);
        // Every block of a row reads the row's part of A, every block of a column its part of B.
        let read = 2 * k * (m * n.div_ceil(128) + n * m.div_ceil(128));
        assert_eq!(counters.bulk_read_bytes, read as u64);
        // Each consumer reads 64 rows of A and all 128 of B.
        assert_eq!(counters.wgmma_shared_bytes, blocks * steps * 2 * (64 + 128) * 128);
    }
}

/// The fault of the kernel with `from` replaced by `to` wherever it stands; the product takes seven steps.
fn planted(from: &str, to: &str) -> FaultKind {
    assert!(TEXT.contains(from), "{from}");
    fault_of(&TEXT.replace(from, to), |_| {})
}

fn fault_of(text: &str, change: impl Fn(&mut [TensorMap; 3])) -> FaultKind {
    run(text, [128, 128, 448], change).expect_err("a fault was planted").kind
}

#[track_caller]
fn says(kind: &FaultKind, words: &str) {
    assert!(kind.to_string().contains(words), "{kind}");
}

const FULL: &str = "done, [%r50], %r51;";
const DESCRIPTOR: &str = "4611686293305360384"; // 128-byte swizzle, stride 1,024, leading 16

#[test]
fn a_wrong_phase_is_found() {
    // The wait for the other parity passes before the copy has come.
    let early = TEXT.replace("and.b32  \t%r51, %r56, 1;", "not.b32 %r51, %r56;\nand.b32 %r51, %r51, 1;");
    assert!(early != TEXT && early.contains(FULL));
    // The producer has filled the stage: the other parity stands for a phase that never ends.
    says(&fault_of(&early, |_| {}), "phase 1: 1 of 1 arrivals missing");
    // The parity of the first round in every round: the stage is read before the second copy has come.
    let kind = planted(FULL, "done, [%r50], 0;");
    assert!(matches!(kind, FaultKind::BulkLoadPending { .. } | FaultKind::Deadlock(_)), "{kind}");
}

#[test]
fn a_producer_that_does_not_wait_is_found() {
    // It passes the parity of the phase before the first in every round: the stage is still being read.
    let text = TEXT
        .replace("done, [%r246], %r247;", "done, [%r246], 1;")
        .replace("done, [%r258], %r259;", "done, [%r258], 1;");
    let text = text
        .replace("done, [%r270], %r271;", "done, [%r270], 1;")
        .replace("done, [%r282], %r283;", "done, [%r282], 1;");
    let kind = fault_of(&text, |_| {});
    assert!(matches!(kind, FaultKind::ProductPending { .. } | FaultKind::BulkLoadPending { .. }), "{kind}");
}

#[test]
fn wrong_byte_counts_end_in_one_line() {
    let more = planted("mov.u32 \t%r285, 32768;", "mov.u32 \t%r285, 32784;");
    says(&more, "deadlock: warp 0 waits");
    says(&more, "phase 0: 0 of 1 arrivals and 16 bytes missing");
    let less = planted("mov.u32 \t%r285, 32768;", "mov.u32 \t%r285, 32752;");
    says(&less, "0 of 1 arrivals, and 16 bytes more came than were expected missing");
}

#[test]
fn missing_fences_are_found() {
    assert_eq!(planted("wgmma.fence.sync.aligned;", ""), FaultKind::MissingProductFence);
    assert!(matches!(planted("fence.proxy.async.shared::cta;", ""), FaultKind::ProxyFence { writer: Some(128..), .. }));
    says(&planted("fence.mbarrier_init.release.cluster;", ""), "no fence.mbarrier_init or fence.proxy.async");
}

#[test]
fn missing_waits_for_products_are_found() {
    assert_eq!(planted("wgmma.wait_group.sync.aligned 0;", ""), FaultKind::OperandPending);
    // The stage before is given back while it may still be read.
    assert!(matches!(
        planted("wgmma.wait_group.sync.aligned 1;", "wgmma.wait_group.sync.aligned 2;"),
        FaultKind::ProductPending { group: 1 | 2, .. }
    ));
    // The products of a group that was never closed are not waited for.
    assert!(matches!(
        planted("wgmma.commit_group.sync.aligned;", ""),
        FaultKind::ProductPending { .. } | FaultKind::OperandPending
    ));
}

#[test]
fn wrong_descriptors_are_found() {
    let or = |bits: u64| planted(DESCRIPTOR, &(DESCRIPTOR.parse::<u64>().unwrap() ^ bits).to_string());
    // The 64-byte swizzle, and none.
    assert_eq!(or(3 << 62), FaultKind::Swizzle { offset: 17_408, spans: [128, 64] });
    assert!(matches!(or(1 << 62), FaultKind::Swizzle { spans: [128, 16], .. }));
    says(&or(1 << 49), "lies 896 bytes behind the begin of a pattern of 1024");
    says(&or(1 << 14), "bits that must be zero");
    // 512 bytes from one group of rows to the next.
    says(&or(96 << 32), "stride offset 512 is no multiple of the swizzle's 1024");
    // Groups of rows that lie apart end behind the shared memory.
    assert!(matches!(or((64 ^ 8192) << 32), FaultKind::SharedOutOfBounds { .. }));
    says(
        &planted("selp.u32 \t%r52, 1, 0, %p5;", "and.b32 \t%r52, %tid.x, 1;"),
        "do not agree on whether it accumulates",
    );
}

#[test]
fn wrong_tensor_maps_are_found() {
    let none = |maps: &mut [TensorMap; 3]| maps[0].swizzle = Swizzle::None;
    assert!(matches!(fault_of(TEXT, none), FaultKind::Swizzle { spans: [16, 128], .. }));
    let flat = |maps: &mut [TensorMap; 3]| {
        maps[0].extents.push(1);
        maps[0].strides_bytes.push(16);
        maps[0].box_extents.push(1);
    };
    says(&fault_of(TEXT, flat), "2 coordinates for a tensor of 3 dimensions");
    // A box of half the rows brings half the bytes.
    let half = |maps: &mut [TensorMap; 3]| maps[0].box_extents[1] = 64;
    says(&fault_of(TEXT, half), "8192 bytes missing");
    // A tensor that is larger than its memory.
    let long = |maps: &mut [TensorMap; 3]| maps[1].extents[1] += 1;
    assert!(run(TEXT, [128, 100, 64], long).is_err_and(|fault| matches!(fault.kind, FaultKind::OutOfBounds { .. })));
}

#[test]
fn memory_that_bulk_copies_read_must_stay() {
    // The block ends before its result has left shared memory.
    says(&planted("cp.async.bulk.wait_group.read 0;", ""), "ends before");
    says(&planted("cp.async.bulk.commit_group;", ""), "ends before");
}

#[test]
fn register_counts_must_fit() {
    let more = planted("setmaxnreg.inc.sync.aligned.u32 232;", "setmaxnreg.inc.sync.aligned.u32 240;");
    says(&more, "for 2304 registers, ");
    says(&planted("setmaxnreg.dec.sync.aligned.u32 40;", ""), "registers, 0 are free");
    says(
        &planted("setmaxnreg.inc.sync.aligned.u32 232;", "setmaxnreg.inc.sync.aligned.u32 24;"),
        "the warp has 40 registers",
    );
    // Less than what was given back.
    assert!(run(&TEXT.replace("aligned.u32 232", "aligned.u32 176"), [128, 128, 448], |_| {}).is_ok());
    // A launch bound without blocks, which ptxas takes for none.
    assert!(
        Module::load(&TEXT.replace(".minnctapersm 1", "")).is_err_and(|error| error.to_string().contains("setmaxnreg"))
    );
    let alone = "setp.lt.u32 %p11, %r4, 32;\n@%p11 setmaxnreg.dec.sync.aligned.u32 40;";
    let text = TEXT.replace("setmaxnreg.inc.sync.aligned.u32 232;", "");
    let text = text.replace("setmaxnreg.dec.sync.aligned.u32 40;", alone);
    says(&fault_of(&text, |_| {}), "warp 1 ended after 0 of the 1 setmaxnreg of its warpgroup");
}
