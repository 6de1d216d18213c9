//! Bulk copies by themselves: boxes of tensors of every rank, every swizzle, at and over the edges; and their mistakes.
mod common;

use common::{download_words, words};
use sphereface_emulator::{Argument, Counters, Device, Fault, FaultKind, Module, Swizzle, TensorMap};

const SWIZZLES: [Swizzle; 4] = [Swizzle::None, Swizzle::Bytes32, Swizzle::Bytes64, Swizzle::Bytes128];

/// A kernel of one warp with 16 KB of shared memory; the lines run in thread 0. `%tile` and `%bar` are offsets there,
/// `%map` the first parameter, `%c0` to `%c4` coordinates, `%bytes` a number of bytes, `%out` and `%in` pointers.
fn text(lines: &str) -> String {
    format!(
        ".version 9.0\n.target sm_90a\n.address_size 64\n\
         .visible .entry test(.param .align 64 .b8 map[128], .param .align 4 .b8 at[24], .param .u64 out, .param .u64 in)\n\
         {{\n.reg .pred %p<4>;\n.reg .b32 %tile, %bar, %c<5>, %bytes, %thread, %word, %at;\n\
         .reg .b64 %map, %out, %in, %to, %state;\n\
         .shared .align 1024 .b8 tile[16384];\n.shared .align 8 .b8 bar[16];\n\
         mov.b64 %map, map;\ncvta.param.u64 %map, %map;\nmov.u32 %tile, tile;\nmov.u32 %bar, bar;\n\
         ld.param.b32 %c0, [at];\nld.param.b32 %c1, [at+4];\nld.param.b32 %c2, [at+8];\nld.param.b32 %c3, [at+12];\n\
         ld.param.b32 %c4, [at+16];\nld.param.b32 %bytes, [at+20];\nld.param.u64 %out, [out];\nld.param.u64 %in, [in];\n\
         mov.u32 %thread, %tid.x;\nmul.lo.u32 %at, %thread, 4;\nsetp.ne.u32 %p0, %thread, 0;\n{lines}\nret;\n}}\n"
    )
}

const INIT: &str = "@%p0 bra READY;\nmbarrier.init.shared::cta.b64 [%bar], 1;\nfence.mbarrier_init.release.cluster;\n\
                    mbarrier.arrive.expect_tx.shared::cta.b64 %state, [%bar], %bytes;\n";
const WAIT: &str = "READY:\nbar.warp.sync 0xffffffff;\n\
                    WAIT:\nmbarrier.try_wait.parity.shared::cta.b64 %p1, [%bar], 0;\n@!%p1 bra WAIT;\n";
/// `%bytes` of shared memory, word by word, to `%out`.
const DUMP: &str = "DUMP:\nsetp.ge.u32 %p2, %at, %bytes;\n@%p2 bra DONE;\nadd.u32 %word, %tile, %at;\n\
                    ld.shared.u32 %word, [%word];\nmul.wide.u32 %to, %at, 1;\nadd.s64 %to, %to, %out;\n\
                    st.global.u32 [%to], %word;\nadd.u32 %at, %at, 128;\nbra DUMP;\nDONE:\n";
/// The reverse: `%bytes` from `%in` to shared memory.
const FILL: &str = "FILL:\nsetp.ge.u32 %p2, %at, %bytes;\n@%p2 bra FILLED;\nmul.wide.u32 %to, %at, 1;\nadd.s64 %to, %to, %in;\n\
                    ld.global.u32 %word, [%to];\nadd.u32 %c4, %tile, %at;\nst.shared.u32 [%c4], %word;\n\
                    add.u32 %at, %at, 128;\nbra FILL;\nFILLED:\nld.param.b32 %c4, [at+16];\n";

fn coordinates(rank: usize) -> String {
    let names: Vec<String> = (0..rank).map(|index| format!("%c{index}")).collect();
    format!("{{{}}}", names.join(", "))
}

fn load(rank: usize) -> String {
    let at = coordinates(rank);
    format!(
        "cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%tile], [%map, {at}], [%bar];\n"
    )
}

/// What a launch is given beside its text.
struct Given<'a> {
    map: [u8; 128],
    at: [i32; 5],
    bytes: u64,
    out: u64,
    input: u64,
    device: &'a mut Device,
}

impl Given<'_> {
    fn run(self, lines: &str) -> Result<Counters, Fault> {
        let module = Module::load(&text(lines)).unwrap_or_else(|error| panic!("{error}"));
        let mut numbers: Vec<u32> = self.at.iter().map(|at| *at as u32).collect();
        numbers.push(self.bytes as u32);
        let bytes = [Argument::Bytes(self.map.to_vec()), Argument::Bytes(words(&numbers))];
        let arguments = [bytes.as_slice(), &[self.out, self.input].map(Argument::Pointer)].concat();
        self.device.launch(&module, "test", [1; 3], [32, 1, 1], 0, &arguments)
    }
}

/// A tensor of odd extents with padded rows, filled with the numbers of its elements, and a box of it: of elements of 4
/// bytes one that steps over others.
fn tensor(device: &mut Device, rank: usize, element_bytes: u64, swizzle: Swizzle) -> (TensorMap, Vec<u8>) {
    let inner = if swizzle == Swizzle::None { 48 } else { swizzle.span_bytes() };
    let all = [37, 5, 4, 3, 2];
    let boxes = [inner / element_bytes, 4, 3, 2, 2];
    let mut strides = Vec::new();
    let mut bytes = (all[0] * element_bytes).next_multiple_of(16) + 16;
    for extent in &all[1..rank] {
        strides.push(bytes);
        bytes = bytes * extent + 32;
    }
    let content: Vec<u8> = (0..bytes).map(|at| (at * 7 + at / 256 * 3 + 1) as u8).collect();
    let pointer = device.allocate_with(&content);
    let (extents, box_extents) = (all[..rank].to_vec(), boxes[..rank].to_vec());
    let steps = if element_bytes == 4 { [1, 2, 1, 3, 1][..rank].to_vec() } else { vec![] };
    (TensorMap { pointer, element_bytes, extents, strides_bytes: strides, box_extents, steps, swizzle }, content)
}

/// The elements of a box in order: where each lies in shared memory, and in the tensor if it is inside.
fn elements(map: &TensorMap, at: [i32; 5]) -> Vec<(usize, Option<usize>)> {
    let bytes = map.element_bytes;
    let count: u64 = map.box_extents.iter().product();
    let of = |number: u64| {
        let (mut rest, mut inside, mut offset) = (number, true, 0_i64);
        for (dimension, extent) in map.box_extents.iter().enumerate() {
            let index = i64::from(at[dimension]) + (rest % extent * map.step(dimension)) as i64;
            rest /= extent;
            inside &= (0..map.extents[dimension] as i64).contains(&index);
            let stride = if dimension == 0 { bytes } else { map.strides_bytes[dimension - 1] };
            offset += index * stride as i64;
        }
        // Pieces of 16 bytes are exchanged inside of their span by the number of the 128-byte line.
        let place = number * bytes;
        let (line, piece) = (place / 128, place / 16 % 8);
        let piece = piece ^ (line % (map.swizzle.span_bytes() / 16));
        let shared = line * 128 + piece * 16 + place % 16;
        (shared as usize, inside.then_some(offset as usize))
    };
    (0..count).map(of).collect()
}

const PLACES: [[i32; 5]; 5] = [[0; 5], [3, 1, 1, 0, 0], [-5, -2, -1, -1, -1], [30, 3, 2, 2, 1], [-100, 50, 0, 0, 0]];

#[test]
fn boxes_of_every_rank_are_loaded_with_zeros_around() {
    for rank in 1..=5 {
        for swizzle in SWIZZLES {
            for (element_bytes, at) in [(1, 0), (2, 1), (4, 2), (8, 3), (4, 4)].map(|(bytes, at)| (bytes, PLACES[at])) {
                let mut device = Device::new();
                let (map, content) = tensor(&mut device, rank, element_bytes, swizzle);
                let bytes = map.box_bytes();
                let out = device.allocate(bytes);
                let encoded = map.encode().unwrap();
                let given = Given { map: encoded, at, bytes, out, input: out, device: &mut device };
                let what = format!("rank {rank}, {swizzle:?}, {element_bytes} bytes at {at:?}");
                let lines = format!("{INIT}{}{WAIT}{DUMP}", load(rank));
                let counters = given.run(&lines).unwrap_or_else(|fault| panic!("{what}: {fault}"));
                let found: Vec<u8> = download_words(&device, out, bytes as usize / 4)
                    .iter()
                    .flat_map(|word| word.to_le_bytes())
                    .collect();
                let mut read = 0;
                for (shared, global) in elements(&map, at) {
                    let element = element_bytes as usize;
                    let expected = global.map_or(vec![0; element], |global| content[global..global + element].to_vec());
                    read += global.map_or(0, |_| element_bytes);
                    assert_eq!(found[shared..shared + element], expected, "{what}: offset {shared}");
                }
                assert_eq!(counters.bulk_read_bytes, read, "{what}");
            }
        }
    }
}

#[test]
fn boxes_of_every_rank_are_stored_where_they_are_inside() {
    for rank in 1..=5 {
        for swizzle in SWIZZLES {
            for (element_bytes, at) in [(2, 0), (4, 1), (1, 2), (8, 3), (2, 4)].map(|(bytes, at)| (bytes, PLACES[at])) {
                let mut device = Device::new();
                let (map, mut content) = tensor(&mut device, rank, element_bytes, swizzle);
                let bytes = map.box_bytes();
                let tile: Vec<u8> = (0..bytes).map(|at| (at * 5 + at / 256) as u8 | 1).collect();
                let input = device.allocate_with(&tile);
                let encoded = map.encode().unwrap();
                let given = Given { map: encoded, at, bytes, out: input, input, device: &mut device };
                let lines = format!(
                    "{FILL}fence.proxy.async.shared::cta;\nbar.warp.sync 0xffffffff;\n@%p0 bra DONE;\n\
                     cp.async.bulk.tensor.{rank}d.global.shared::cta.bulk_group [%map, {}], [%tile];\n\
                     cp.async.bulk.commit_group;\ncp.async.bulk.wait_group.read 0;\nDONE:\n",
                    coordinates(rank)
                );
                let what = format!("rank {rank}, {swizzle:?}, {element_bytes} bytes at {at:?}");
                let counters = given.run(&lines).unwrap_or_else(|fault| panic!("{what}: {fault}"));
                let mut written = 0;
                for (shared, global) in elements(&map, at) {
                    let element = element_bytes as usize;
                    if let Some(global) = global {
                        content[global..global + element].copy_from_slice(&tile[shared..shared + element]);
                        written += element_bytes;
                    }
                }
                let mut found = vec![0; content.len()];
                device.download(map.pointer, &mut found).unwrap();
                assert!(found == content, "{what}");
                assert_eq!(counters.bulk_written_bytes, written, "{what}");
            }
        }
    }
}

/// Runs lines with 4 KB at `%in`, and an output at `%out`.
fn linear(lines: &str, bytes: u64) -> Result<Vec<u32>, Fault> {
    let mut device = Device::new();
    let content: Vec<u32> = (0..1024).collect();
    let (input, out) = (device.allocate_with(&words(&content)), device.allocate_with(&[0; 4096]));
    Given { map: [0; 128], at: [0; 5], bytes, out, input, device: &mut device }.run(lines)?;
    Ok(download_words(&device, out, 1024))
}

fn fault(lines: &str, bytes: u64) -> FaultKind {
    linear(lines, bytes).expect_err("a fault was planted").kind
}

#[track_caller]
fn says(kind: FaultKind, words: &str) {
    assert!(kind.to_string().contains(words), "{kind}");
}

const LINEAR: &str =
    "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%tile], [%in], %bytes, [%bar];\n";
const BACK: &str = "@%p0 bra DONE;\ncp.async.bulk.global.shared::cta.bulk_group [%out], [%tile], %bytes;\n\
                    cp.async.bulk.commit_group;\ncp.async.bulk.wait_group 0;\nDONE:\n";

#[test]
fn bytes_are_copied_in_and_out() {
    for bytes in [16, 4096, 1040] {
        let out = linear(&format!("{INIT}{LINEAR}{WAIT}{BACK}"), bytes).unwrap();
        let copied = |index: u32| if u64::from(4 * index) < bytes { index } else { 0 };
        assert!(out.iter().enumerate().all(|(index, word)| *word == copied(index as u32)), "{bytes}");
        // A cache policy changes nothing.
        let hinted = LINEAR.replace("bytes [%tile]", "bytes.L2::cache_hint [%tile]").replace("[%bar];", "[%bar], %in;");
        assert_eq!(linear(&format!("{INIT}{hinted}{WAIT}{BACK}"), bytes).unwrap(), out);
    }
}

#[test]
fn every_lane_may_store() {
    // Each of the 32 lanes stores and waits for its own 16 bytes.
    let lines = format!(
        "{INIT}{LINEAR}{WAIT}mul.lo.u32 %at, %thread, 16;\nadd.u32 %tile, %tile, %at;\nmul.wide.u32 %to, %at, 1;\n\
         add.s64 %out, %out, %to;\ncp.async.bulk.global.shared::cta.bulk_group [%out], [%tile], 16;\n\
         cp.async.bulk.commit_group;\ncp.async.bulk.wait_group.read 0;\nfence.proxy.async;\nst.shared.u32 [%tile], 7;\n"
    );
    assert!(linear(&lines, 512).unwrap()[..128].iter().enumerate().all(|(index, word)| *word == index as u32));
}

#[test]
fn impossible_copies_are_refused() {
    says(fault(&format!("{INIT}{LINEAR}{WAIT}"), 20), "20 bytes at");
    let moved = LINEAR.replace("[%tile]", "[%tile+8]");
    says(fault(&format!("{INIT}{moved}{WAIT}"), 16), "offset 8 of shared memory is no multiple of 16");
    assert!(matches!(fault(&format!("{INIT}{LINEAR}{WAIT}"), 8192), FaultKind::OutOfBounds { .. }));
    let far = LINEAR.replace("[%tile]", "[%tile+16400]");
    assert!(matches!(fault(&format!("{INIT}{far}{WAIT}"), 64), FaultKind::SharedOutOfBounds { .. }));
    says(fault(&format!("{INIT}{}{WAIT}", load(2)), 64), "no tensor map lies at the address");
    let mut device = Device::new();
    let (map, _) = tensor(&mut device, 2, 4, Swizzle::Bytes128);
    let given = Given { map: map.encode().unwrap(), at: [0; 5], bytes: 0, out: 0, input: 0, device: &mut device };
    let moved = load(2).replace("[%tile]", "[%tile+64]");
    says(
        given.run(&format!("{INIT}{moved}{WAIT}")).unwrap_err().kind,
        "offset 64 of shared memory is no multiple of 128",
    );
}

#[test]
fn what_a_copy_brings_may_be_touched_after_the_wait_only() {
    let pending = |kind: FaultKind| assert!(matches!(kind, FaultKind::BulkLoadPending { .. }), "{kind}");
    let read = "ld.shared.u32 %word, [%tile];\n";
    pending(fault(&format!("{INIT}{LINEAR}{read}{WAIT}"), 64));
    pending(fault(&format!("{INIT}{LINEAR}st.shared.u32 [%tile], 3;\n{WAIT}"), 64));
    // The wait for the phase before the first passes at once.
    let early = "mbarrier.try_wait.parity.shared::cta.b64 %p1, [%bar], 1;\n";
    pending(fault(&format!("{INIT}{early}{LINEAR}{read}{WAIT}"), 64));
    // A relaxed wait orders nothing.
    pending(fault(&format!("{INIT}{LINEAR}{}{read}", WAIT.replace("parity.shared", "parity.relaxed.cta.shared")), 64));
    // Two copies to one place.
    let twice = INIT.replace("%bytes;", "128;");
    pending(fault(&format!("{twice}{LINEAR}{LINEAR}{WAIT}"), 64));
    // Never waited for.
    says(
        fault(&format!("{INIT}{LINEAR}READY:\n"), 64),
        "the block ends before the copies that complete on the mbarrier",
    );
    // On another barrier than the one that is waited for.
    let other = "mbarrier.init.shared::cta.b64 [%bar+8], 1;\nfence.mbarrier_init.release.cluster;\n\
                 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%bar+8], %bytes;\nmbarrier.complete_tx.shared::cta.b64 [%bar], 64;\n";
    pending(fault(&format!("{INIT}{other}{}{WAIT}{read}", LINEAR.replace("[%bar]", "[%bar+8]")), 64));
}

#[test]
fn a_copy_comes_after_what_threads_did() {
    // Written before without a fence between the proxies.
    let write = "st.shared.u32 [%tile], 3;\n";
    let kind = fault(&format!("{}{write}{LINEAR}{WAIT}", INIT), 64);
    assert_eq!(kind, FaultKind::ProxyFence { offset: 0, writer: Some(0) });
    linear(&format!("{INIT}{write}fence.proxy.async.shared::cta;\n{LINEAR}{WAIT}"), 64).unwrap();
    let out = format!("{INIT}{LINEAR}{WAIT}@%p0 bra DONE;\n{write}{}", BACK.replacen("@%p0 bra DONE;\n", "", 1));
    assert!(matches!(fault(&out, 64), FaultKind::ProxyFence { .. }));
}

#[test]
fn the_source_of_a_store_must_stay_until_the_wait() {
    let store = "@%p0 bra DONE;\ncp.async.bulk.global.shared::cta.bulk_group [%out], [%tile], %bytes;\n";
    let commit = "cp.async.bulk.commit_group;\n";
    let over = "st.shared.u32 [%tile+4], 3;\n";
    let wait = "cp.async.bulk.wait_group.read 0;\n";
    let run =
        |lines: &str| linear(&format!("{INIT}{LINEAR}{WAIT}{store}{lines}DONE:\n"), 64).map_err(|fault| fault.kind);
    let pending = FaultKind::BulkStorePending { offset: 4, warp: 0 };
    assert_eq!(run(&format!("{over}{commit}{wait}")), Err(pending.clone()));
    assert_eq!(run(&format!("{commit}cp.async.bulk.wait_group.read 1;\n{over}{wait}")), Err(pending));
    run(&format!("{commit}{wait}{over}")).unwrap();
    says(run(commit).unwrap_err(), "the thread ends before its bulk copies have read shared memory");
}

#[test]
fn the_launch_before_is_awaited_first() {
    let early = |kind: FaultKind| assert!(matches!(kind, FaultKind::NotAwaited { .. }), "{kind}");
    let overlap = "griddepcontrol.launch_dependents;\n";
    let wait = "griddepcontrol.wait;\n";
    // Barriers may be made before; copies come after, in both directions.
    let right = format!("{overlap}{INIT}{wait}{LINEAR}{WAIT}{BACK}");
    assert!(linear(&right, 64).unwrap()[..16].iter().enumerate().all(|(index, word)| *word == index as u32));
    early(fault(&format!("{overlap}{INIT}{LINEAR}{wait}{WAIT}{BACK}"), 64));
    let write = "st.shared.v4.u32 [%tile], {%bytes, %bytes, %bytes, %bytes};\nfence.proxy.async;\n";
    let body = BACK.replacen("@%p0 bra DONE;\n", "", 1);
    early(fault(&format!("{overlap}@%p0 bra DONE;\n{write}{body}{wait}"), 16));
    linear(&format!("{overlap}@%p0 bra DONE;\n{wait}{write}{body}"), 16).unwrap();
    // By a tensor map, which is a parameter and may be read at any time.
    let tensor = |lines: String| {
        let mut device = Device::new();
        let (map, _) = tensor(&mut device, 2, 4, Swizzle::Bytes128);
        let (bytes, encoded) = (map.box_bytes(), map.encode().unwrap());
        Given { map: encoded, at: [0; 5], bytes, out: 0, input: 0, device: &mut device }.run(&lines)
    };
    tensor(format!("{overlap}{INIT}{wait}{}{WAIT}", load(2))).unwrap();
    early(tensor(format!("{overlap}{INIT}{}{wait}{WAIT}", load(2))).unwrap_err().kind);
}
