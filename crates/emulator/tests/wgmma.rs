//! `wgmma` by itself: where the PTX ISA puts the elements of registers and of shared memory, for every width, both
//! orders and every swizzle.
mod common;

use common::{download, random, words};
use sphereface_emulator::{Argument, Device, Fault, FaultKind, Module};

/// A format: its name, K of a product, bytes of an element, the bits of a number and their value.
struct Format {
    name: &'static str,
    k: usize,
    bytes: usize,
    bits: fn(f32) -> u32,
    value: fn(f32) -> f64,
}

const FORMATS: [Format; 3] = [
    Format {
        name: "bf16",
        k: 16,
        bytes: 2,
        bits: |value| value.to_bits() >> 16,
        value: |value| f64::from(f32::from_bits(value.to_bits() & 0xffff_0000)),
    },
    // Random numbers are multiples of 2^-23; those of 2^-10 below 1 are exact in f16.
    Format {
        name: "f16",
        k: 16,
        bytes: 2,
        bits: f16_bits,
        value: |value| f64::from((value * 1024.0).trunc() / 1024.0),
    },
    // The lowest 13 bits are cut, not rounded.
    Format {
        name: "tf32",
        k: 8,
        bytes: 4,
        bits: f32::to_bits,
        value: |value| f64::from(f32::from_bits(value.to_bits() & !0x1fff)),
    },
];

fn f16_bits(value: f32) -> u32 {
    let cut = (value * 1024.0).trunc() / 1024.0;
    if cut == 0.0 {
        return 0;
    }
    let bits = cut.to_bits();
    (bits >> 16 & 0x8000) | (((bits >> 23 & 0xff) - 112) << 10) | (bits >> 13 & 0x3ff)
}

/// Which piece of 16 bytes lies where in the lines of 128 bytes of a pattern: the figures of the PTX ISA.
const SWIZZLE_128: [[usize; 8]; 8] = [
    [0, 1, 2, 3, 4, 5, 6, 7],
    [1, 0, 3, 2, 5, 4, 7, 6],
    [2, 3, 0, 1, 6, 7, 4, 5],
    [3, 2, 1, 0, 7, 6, 5, 4],
    [4, 5, 6, 7, 0, 1, 2, 3],
    [5, 4, 7, 6, 1, 0, 3, 2],
    [6, 7, 4, 5, 2, 3, 0, 1],
    [7, 6, 5, 4, 3, 2, 1, 0],
];

/// How an operand lies in shared memory. All in bytes.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// The length inside of which pieces are exchanged, 16 for none.
    span: usize,
    /// Not K but the other index is contiguous.
    mn_major: bool,
    start: usize,
    leading: usize,
    stride: usize,
}

impl Layout {
    fn descriptor(&self) -> u64 {
        let mode = match self.span {
            16 => 0_u64,
            128 => 1,
            64 => 2,
            _ => 3,
        };
        let field = |bytes: usize| bytes as u64 >> 4;
        field(self.start) | field(self.leading) << 16 | field(self.stride) << 32 | mode << 62
    }

    /// Where an element of so many bytes lies.
    fn place(&self, mn: usize, k: usize, bytes: usize) -> usize {
        let (along, groups, rows) =
            if self.mn_major { (mn * bytes, k / 8, k % 8) } else { (k * bytes, mn / 8, mn % 8) };
        let offset = match (self.span, self.mn_major) {
            // Core matrices of eight rows of 16 bytes.
            (16, false) => groups * self.stride + rows * 16 + along / 16 * self.leading + along % 16,
            (16, true) => groups * self.leading + rows * 16 + along / 16 * self.stride + along % 16,
            (span, _) => groups * self.stride + rows * span + along / span * self.leading + along % span,
        };
        let address = self.start + offset;
        let lines = self.span / 16;
        address / 128 * 128 + SWIZZLE_128[address / 128 % lines][address / 16 % 8] * 16 + address % 16
    }
}

/// One product: formats, N, how A lies (registers without a layout), how B lies.
struct Case<'a> {
    format: &'a Format,
    n: usize,
    a: Option<Layout>,
    b: Layout,
    accumulate: bool,
    negate: [bool; 2],
}

const SHARED: usize = 48 * 1024;

/// The PTX of a product: shared memory comes from `image`, A from `fragments`, the sums begin with the thread's number.
/// Descriptors come relative to `tile`. Each block stores sums of its own.
fn text(case: &Case<'_>, before: &str, after: &str) -> String {
    let Format { name, k, .. } = case.format;
    let registers = |count: usize, prefix: &str| {
        let names: Vec<String> = (0..count).map(|index| format!("%{prefix}{index}")).collect();
        format!("{{{}}}", names.join(", "))
    };
    let count = case.n / 2;
    let begin: String = (0..count).map(|index| format!("cvt.rn.f32.u32 %s{index}, %thread;\n")).collect();
    let end: String = (0..count).map(|index| format!("st.global.f32 [%out+{}], %s{index};\n", 4 * index)).collect();
    let a = if case.a.is_some() { "%a".to_owned() } else { registers(4, "f") };
    let scale = |negative: bool| if negative { -1 } else { 1 };
    let transposes = match (case.format.bytes, case.a) {
        (4, _) => String::new(),
        (_, None) => format!(", {}", u8::from(case.b.mn_major)),
        (_, Some(a)) => format!(", {}, {}", u8::from(a.mn_major), u8::from(case.b.mn_major)),
    };
    format!(
        ".version 9.0\n.target sm_90a\n.address_size 64\n\
         .visible .entry test(.param .u64 out, .param .u64 image, .param .u64 fragments, .param .u64 a, .param .u64 b)\n\
         {{\n.reg .pred %p<4>;\n.reg .b32 %f<4>, %thread, %block, %tile, %at, %end, %word;\n.reg .f32 %s<128>;\n\
         .reg .b64 %out, %image, %fragments, %a, %b, %from;\n.shared .align 1024 .b8 tile[{SHARED}];\n\
         ld.param.u64 %out, [out];\nld.param.u64 %image, [image];\nld.param.u64 %fragments, [fragments];\n\
         ld.param.u64 %a, [a];\nld.param.u64 %b, [b];\nmov.u32 %thread, %tid.x;\n\
         mul.wide.u32 %from, %thread, 16;\nadd.s64 %fragments, %fragments, %from;\n\
         mov.u32 %block, %ctaid.x;\nmad.lo.u32 %at, %block, 128, %thread;\n\
         mul.wide.u32 %from, %at, {};\nadd.s64 %out, %out, %from;\n\
         mul.wide.u32 %from, %thread, 4;\nadd.s64 %image, %image, %from;\n\
         mov.u32 %tile, tile;\nmad.lo.u32 %at, %thread, 4, %tile;\nadd.u32 %end, %tile, {SHARED};\n\
         COPY:\nld.global.u32 %word, [%image];\nst.shared.u32 [%at], %word;\nadd.s64 %image, %image, 512;\n\
         add.u32 %at, %at, 512;\nsetp.lt.u32 %p0, %at, %end;\n@%p0 bra COPY;\n\
         {MASK}\nshr.u32 %tile, %tile, 4;\ncvt.u64.u32 %from, %tile;\n\
         add.s64 %a, %a, %from;\nadd.s64 %b, %b, %from;\n\
         ld.global.v4.b32 {}, [%fragments];\n{begin}setp.eq.u32 %p1, {}, 1;\n\
         {before}\n\
         wgmma.mma_async.sync.aligned.m64n{}k{k}.f32.{name}.{name} {}, {a}, %b, %p1, {}, {}{transposes};\n\
         {after}\n{end}ret;\n}}\n",
        4 * count,
        registers(4, "f"),
        u8::from(case.accumulate),
        case.n,
        registers(count, "s"),
        scale(case.negate[0]),
        scale(case.negate[1]),
    )
}

/// What a descriptor takes of an address.
const MASK: &str = "and.b32 %tile, %tile, 0x3ffff;";
const BEFORE: &str = "fence.proxy.async;\nbar.sync 0;\nwgmma.fence.sync.aligned;";
const AFTER: &str = "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;";

/// Numbers of A [64, K] and B [N, K].
fn numbers(case: &Case<'_>) -> (Vec<f32>, Vec<f32>) {
    (random(64 * case.format.k, 11), random(case.n * case.format.k, 12))
}

fn launch(case: &Case<'_>, text: &str) -> Result<Vec<f32>, Fault> {
    launch_blocks(case, text, 1)
}

/// The sums of every block.
fn launch_blocks(case: &Case<'_>, text: &str, blocks: u32) -> Result<Vec<f32>, Fault> {
    let Format { k, bytes, bits, .. } = *case.format;
    let (a, b) = numbers(case);
    // Whatever is read beside the operands is no number.
    let mut image = vec![0xff_u8; SHARED];
    let mut put = |layout: &Layout, values: &[f32], extent: usize| {
        for mn in 0..extent {
            for step in 0..k {
                let at = layout.place(mn, step, bytes);
                image[at..at + bytes].copy_from_slice(&bits(values[mn * k + step]).to_le_bytes()[..bytes]);
            }
        }
    };
    case.a.iter().for_each(|layout| put(layout, &a, 64));
    put(&case.b, &b, case.n);
    // Of each thread four registers of A.
    let mut fragments = vec![0_u32; 4 * 128];
    for thread in 0..128 {
        let (warp, lane) = (thread / 32, thread % 32);
        for element in 0..16 / bytes {
            let (row, column) = match bytes {
                2 => (lane / 4 + element / 2 % 2 * 8, lane % 4 * 2 + element % 2 + element / 4 * 8),
                _ => (lane / 4 + element % 2 * 8, lane % 4 + element / 2 * 4),
            };
            let value = bits(a[(16 * warp + row) * k + column]);
            fragments[4 * thread + element * bytes / 4] |= value << (8 * (element * bytes % 4));
        }
    }
    let module = Module::load(text).unwrap_or_else(|error| panic!("{error}"));
    let mut device = Device::new();
    let (image, fragments) = (device.allocate_with(&image), device.allocate_with(&words(&fragments)));
    let count = 64 * case.n * blocks as usize;
    let out = device.allocate(4 * count as u64);
    let descriptor = |layout: &Layout| Argument::U64(layout.descriptor());
    let of_a = case.a.as_ref().map_or(Argument::U64(0), descriptor);
    let pointers = [out, image, fragments].map(Argument::Pointer);
    let arguments = [pointers.as_slice(), &[of_a, descriptor(&case.b)]].concat();
    let counters = device.launch(&module, "test", [blocks, 1, 1], [128, 1, 1], 0, &arguments)?;
    assert_eq!(counters.wgmma_flops, 2 * (count * k) as u64);
    Ok(download(&device, out, count))
}

fn check(case: &Case<'_>) {
    let Format { name, k, value, .. } = *case.format;
    let found = launch(case, &text(case, BEFORE, AFTER)).unwrap_or_else(|fault| panic!("{name} n{}: {fault}", case.n));
    let (a, b) = numbers(case);
    let sign = if case.negate[0] == case.negate[1] { 1.0 } else { -1.0 };
    for thread in 0..128 {
        for index in 0..case.n / 2 {
            let (warp, lane) = (thread / 32, thread % 32);
            let (row, column) = (16 * warp + lane / 4 + index / 2 % 2 * 8, index / 4 * 8 + lane % 4 * 2 + index % 2);
            let sum: f64 = (0..k).map(|step| value(a[row * k + step]) * value(b[column * k + step])).sum();
            let expected = sign * sum + if case.accumulate { thread as f64 } else { 0.0 };
            let actual = f64::from(found[thread * case.n / 2 + index]);
            let what = format!("{name} n{}, A {:?}, B {:?}: ({row}, {column})", case.n, case.a, case.b);
            assert!(
                (actual - expected).abs() <= 1e-7 * (expected.abs() + 8.0),
                "{what}: {actual}, expected {expected}"
            );
        }
    }
}

/// A layout of `extent` rows or columns from `start` on, with gaps between its parts.
fn layout(span: usize, mn_major: bool, start: usize, extent: usize, bytes: usize) -> Layout {
    let pattern = 8 * span;
    let (leading, stride) = match (span, mn_major) {
        // Groups of eight rows follow each other, the second half of K comes behind all of them.
        (16, false) => (128 * (extent / 8) + 16, 128),
        (16, true) => (128 * (extent * bytes / 16) + 128, 128),
        (_, false) => (16, pattern),
        // Eight k of a span are a pattern; the other eight of K come next, then the next span.
        (_, true) => (2 * pattern, pattern),
    };
    Layout { span, mn_major, start, leading, stride }
}

#[test]
fn products_of_every_width_follow_the_tables() {
    for format in &FORMATS {
        for n in (8..=256).step_by(8) {
            let a = layout(128, false, 0, 64, format.bytes);
            let b = layout(128, false, 8192, n, format.bytes);
            check(&Case { format, n, a: Some(a), b, accumulate: n % 16 == 0, negate: [false; 2] });
        }
    }
}

#[test]
fn operands_of_every_layout_are_read() {
    for format in &FORMATS {
        for n in [8, 72, 192] {
            for span in [16, 32, 64, 128] {
                for [mn_a, mn_b] in [[false, false], [false, true], [true, false], [true, true]] {
                    // TF32 is K-major only, and an MN-major operand fills its spans here.
                    let fills = n * format.bytes % span == 0;
                    if format.bytes == 4 && (mn_a || mn_b) || mn_b && !fills {
                        continue;
                    }
                    let a = layout(span, mn_a, 0, 64, format.bytes);
                    let b = layout(span, mn_b, 16_384, n, format.bytes);
                    check(&Case { format, n, a: Some(a), b, accumulate: true, negate: [false; 2] });
                    if !mn_a {
                        check(&Case { format, n, a: None, b, accumulate: false, negate: [false; 2] });
                    }
                }
            }
        }
    }
}

#[test]
fn k_advances_inside_of_a_span() {
    for span in [32, 64, 128] {
        for part in 0..span / 32 {
            let at = |start: usize, extent: usize| layout(span, false, start + 32 * part, extent, 2);
            let (a, b) = (Some(at(0, 64)), at(16_384, 40));
            check(&Case { format: &FORMATS[0], n: 40, a, b, accumulate: false, negate: [false; 2] });
        }
    }
}

#[test]
fn descriptors_of_a_cluster_need_a_mask() {
    let b = layout(128, true, 16_384, 128, 2);
    let case = Case { format: &FORMATS[0], n: 128, a: None, b, accumulate: false, negate: [false; 2] };
    let plain = text(&case, BEFORE, AFTER);
    let clustered = plain.replace(")\n{", ")\n.explicitcluster\n.reqnctapercluster 2, 1, 1\n{");
    let alone = launch(&case, &plain).unwrap();
    assert_eq!(launch_blocks(&case, &clustered, 2).unwrap(), alone.repeat(2));
    // The rank of the second block gets into the leading offset.
    let found = launch_blocks(&case, &clustered.replace(MASK, ""), 2).unwrap();
    assert_eq!(found[..alone.len()], alone);
    assert_ne!(found[alone.len()..], alone);
}

#[test]
fn scales_of_minus_one_negate() {
    for negate in [[true, false], [false, true], [true, true]] {
        let (a, b) = (Some(layout(128, false, 0, 64, 2)), layout(128, false, 8192, 16, 2));
        check(&Case { format: &FORMATS[0], n: 16, a, b, accumulate: true, negate });
    }
}

/// A product with other instructions around it.
fn planted(a: Option<Layout>, before: &str, after: &str) -> FaultKind {
    let b = layout(128, false, 8192, 16, 2);
    let case = Case { format: &FORMATS[0], n: 16, a, b, accumulate: true, negate: [false; 2] };
    launch(&case, &text(&case, before, after)).expect_err("a fault was planted").kind
}

fn in_shared() -> Option<Layout> {
    Some(layout(128, false, 0, 64, 2))
}

#[test]
fn registers_belong_to_the_product_until_the_wait() {
    let product = "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {%s0, %s1, %s2, %s3, %s4, %s5, %s6, %s7}, ";
    // Read, write and use as A before the wait; a use of A before the wait.
    for (a, early) in [
        (in_shared(), "mov.f32 %s100, %s3;"),
        (in_shared(), "mov.f32 %s3, 0f00000000;"),
        (None, "mov.b32 %f2, 7;"),
        (None, "mov.b32 %word, %f2;"),
        (in_shared(), &format!("mov.b32 %f0, %s0;\n{product}{{%s0, %s1, %s2, %s3}}, %b, 1, 1, 1, 0;")),
    ] {
        assert_eq!(planted(a, BEFORE, &format!("{early}\n{AFTER}")), FaultKind::OperandPending, "{early}");
    }
    // As A of a second product while the first still adds to it.
    let late = "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%s8, %s9, %s10, %s11}, {%s0, %s1, %s2, %s3}, %b, 0, 1, 1, 0;";
    assert_eq!(planted(in_shared(), BEFORE, &format!("{late}\n{AFTER}")), FaultKind::OperandPending);
    // Another shape in the same registers.
    let other = "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%s0, %s1, %s2, %s3}, %a, %b, 1, 1, 1, 0, 0;";
    assert_eq!(planted(in_shared(), BEFORE, &format!("{other}\n{AFTER}")), FaultKind::OperandPending);
    // A group that is not the one.
    let open = "wgmma.wait_group.sync.aligned 0;\nwgmma.commit_group.sync.aligned;";
    assert_eq!(planted(in_shared(), BEFORE, open), FaultKind::OperandPending);
}

#[test]
fn registers_that_were_touched_need_a_fence() {
    let no_fence = "fence.proxy.async;\nbar.sync 0;";
    assert_eq!(planted(in_shared(), no_fence, AFTER), FaultKind::MissingProductFence);
    for touched in ["mov.f32 %s3, 0f00000000;", "mov.f32 %s100, %s3;"] {
        let before = format!("{BEFORE}\n{touched}");
        assert_eq!(planted(in_shared(), &before, AFTER), FaultKind::MissingProductFence, "{touched}");
    }
    assert_eq!(planted(None, &format!("{BEFORE}\nmov.b32 %f1, 0;"), AFTER), FaultKind::MissingProductFence);
    // After a wait the next product needs one only where registers were touched.
    let again = "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {%s0, %s1, %s2, %s3, %s4, %s5, %s6, %s7}, %a, %b, 1, 1, 1, 0, 0;";
    let read = format!("{AFTER}\nmov.f32 %s100, %s3;\n{again}\n{AFTER}");
    assert_eq!(planted(in_shared(), BEFORE, &read), FaultKind::MissingProductFence);
}

#[test]
fn shared_memory_must_be_written_fenced_and_ordered() {
    let barrier_only = "bar.sync 0;\nwgmma.fence.sync.aligned;";
    assert!(matches!(planted(in_shared(), barrier_only, AFTER), FaultKind::ProxyFence { writer: Some(_), .. }));
    let fence_only = "fence.proxy.async;\nwgmma.fence.sync.aligned;";
    assert!(matches!(planted(in_shared(), fence_only, AFTER), FaultKind::SharedRace { .. }));
    // A write behind the fence.
    let late = "fence.proxy.async;\nbar.sync 0;\nmov.u32 %at, tile;\nst.shared.u32 [%at], 1;\nbar.sync 0;\nwgmma.fence.sync.aligned;";
    assert!(matches!(planted(in_shared(), late, AFTER), FaultKind::ProxyFence { offset: 0, .. }));
    // A write while the product reads.
    let over = "mov.u32 %at, tile;\nst.shared.u32 [%at+16], 1;";
    let kind = planted(in_shared(), BEFORE, &format!("{over}\n{AFTER}"));
    assert_eq!(kind, FaultKind::ProductPending { offset: 16, group: 0 });
}

#[test]
fn the_warps_of_a_group_must_do_the_same() {
    let says = |kind: FaultKind, words: &str| assert!(kind.to_string().contains(words), "{kind}");
    let different =
        format!("{BEFORE}\nshr.u32 %word, %thread, 5;\nsetp.eq.u32 %p2, %word, 2;\n@%p2 add.s64 %a, %a, 2;");
    says(planted(in_shared(), &different, AFTER), "do not agree on the descriptor of A");
    says(
        planted(in_shared(), &different.replace("%a, %a, 2", "%b, %b, 2"), AFTER),
        "do not agree on the descriptor of B",
    );
    let absent = format!("{BEFORE}\nshr.u32 %word, %thread, 5;\nsetp.eq.u32 %p2, %word, 2;\n@%p2 bra DONE;");
    says(planted(in_shared(), &absent, &format!("DONE:\n{AFTER}")), "warps 0, 1, 3 wait at PTX line");
    let b = layout(128, false, 8192, 16, 2);
    let case = Case { format: &FORMATS[0], n: 16, a: in_shared(), b, accumulate: true, negate: [false; 2] };
    let module = Module::load(&text(&case, BEFORE, AFTER)).unwrap();
    let mut device = Device::new();
    let memory = device.allocate_with(&vec![0; SHARED]);
    let arguments = [[memory; 3].map(Argument::Pointer).as_slice(), &[Argument::U64(0), Argument::U64(0)]].concat();
    let half = device.launch(&module, "test", [1; 3], [64, 1, 1], 0, &arguments).unwrap_err();
    says(half.kind, "warpgroup 0 of a block of 2 warps is not whole");
    let lane = format!("{BEFORE}\nsetp.eq.u32 %p2, %thread, 5;\n@%p2 bra DONE;");
    says(planted(in_shared(), &lane, &format!("DONE:\n{AFTER}")), "an exchange needs lane 5");
}
