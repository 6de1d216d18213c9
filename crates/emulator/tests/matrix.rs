//! `mma` and `ldmatrix`: fragments as the tables of the PTX ISA lay them out, against a plain product.
mod common;

use common::{bf16, random, run_words};

/// Runs a body on one warp; a thread finds 16 words of input at [%d1] and leaves 4 words at [%out].
fn warp(body: &str, input: &[[u32; 16]; 32]) -> Vec<u32> {
    let own = "ld.param.u64 %d1, [in];\nmul.wide.u32 %d2, %thread, 64;\nadd.u64 %d1, %d1, %d2;";
    run_words(&format!("{own}\n{body}"), input.as_flattened(), 32, 1).unwrap()
}

/// Where the ISA puts element `i` of a fragment: (row, column).
type Place = fn(usize, usize) -> (usize, usize);

/// A shape, a format and its layout, as in the section on matrix fragments.
struct Case {
    instruction: &'static str,
    k: usize,
    /// Elements of a lane in A and B, and how many fit a register.
    a: (usize, Place),
    b: (usize, Place),
    packed: usize,
    /// From a random number to the operand's bits, and to the value the tensor core sees.
    bits: fn(f32) -> u32,
    value: fn(f32) -> f64,
}

fn f16_bits(value: f32) -> u32 {
    // Multiples of 1/16 below 2 are exact in f16.
    let scaled = (value.abs() * 16.0).floor();
    if scaled == 0.0 {
        return 0;
    }
    let exponent = scaled.log2().floor();
    let fraction = (scaled / exponent.exp2() - 1.0) * 1024.0;
    (u32::from(value < 0.0) << 15) | ((exponent as i32 - 4 + 15) as u32) << 10 | fraction as u32
}

const CASES: [Case; 6] = [
    Case {
        instruction: "m16n8k16.row.col.f32.bf16.bf16.f32",
        k: 16,
        a: (8, |lane, i| {
            (lane / 4 + if i / 2 % 2 == 1 { 8 } else { 0 }, lane % 4 * 2 + i % 2 + if i >= 4 { 8 } else { 0 })
        }),
        b: (4, |lane, i| (lane % 4 * 2 + i % 2 + if i >= 2 { 8 } else { 0 }, lane / 4)),
        packed: 2,
        bits: |value| u32::from(bf16(&[value])[0]),
        value: |value| common::bf16_value(bf16(&[value])[0]),
    },
    Case {
        instruction: "m16n8k16.row.col.f32.f16.f16.f32",
        k: 16,
        a: (8, |lane, i| {
            (lane / 4 + if i / 2 % 2 == 1 { 8 } else { 0 }, lane % 4 * 2 + i % 2 + if i >= 4 { 8 } else { 0 })
        }),
        b: (4, |lane, i| (lane % 4 * 2 + i % 2 + if i >= 2 { 8 } else { 0 }, lane / 4)),
        packed: 2,
        bits: f16_bits,
        value: |value| f64::from((value * 16.0).trunc() / 16.0),
    },
    Case {
        instruction: "m16n8k8.row.col.f32.bf16.bf16.f32",
        k: 8,
        a: (4, |lane, i| (lane / 4 + if i >= 2 { 8 } else { 0 }, lane % 4 * 2 + i % 2)),
        b: (2, |lane, i| (lane % 4 * 2 + i, lane / 4)),
        packed: 2,
        bits: |value| u32::from(bf16(&[value])[0]),
        value: |value| common::bf16_value(bf16(&[value])[0]),
    },
    Case {
        instruction: "m16n8k8.row.col.f32.f16.f16.f32",
        k: 8,
        a: (4, |lane, i| (lane / 4 + if i >= 2 { 8 } else { 0 }, lane % 4 * 2 + i % 2)),
        b: (2, |lane, i| (lane % 4 * 2 + i, lane / 4)),
        packed: 2,
        bits: f16_bits,
        value: |value| f64::from((value * 16.0).trunc() / 16.0),
    },
    Case {
        instruction: "m16n8k8.row.col.f32.tf32.tf32.f32",
        k: 8,
        a: (4, |lane, i| (lane / 4 + if i == 1 || i == 3 { 8 } else { 0 }, lane % 4 + if i >= 2 { 4 } else { 0 })),
        b: (2, |lane, i| (lane % 4 + if i == 1 { 4 } else { 0 }, lane / 4)),
        packed: 1,
        bits: f32::to_bits,
        // The lowest 13 bits are cut, not rounded.
        value: |value| f64::from(f32::from_bits(value.to_bits() & !0x1fff)),
    },
    Case {
        instruction: "m16n8k4.row.col.f32.tf32.tf32.f32",
        k: 4,
        a: (2, |lane, i| (lane / 4 + if i == 1 { 8 } else { 0 }, lane % 4)),
        b: (1, |lane, _| (lane % 4, lane / 4)),
        packed: 1,
        bits: f32::to_bits,
        value: |value| f64::from(f32::from_bits(value.to_bits() & !0x1fff)),
    },
];

#[test]
fn products_follow_the_fragment_tables() {
    for case in &CASES {
        let k = case.k;
        let (a, b, c) = (random(16 * k, 7), random(k * 8, 8), random(16 * 8, 9));
        let (of_a, of_b) = (case.a.0 / case.packed, case.b.0 / case.packed);
        // Words 0 to 3 of a lane: A, 4 and 5: B, 8 to 11: C.
        let mut input = [[0_u32; 16]; 32];
        for lane in 0..32 {
            for i in 0..case.a.0 {
                let (row, column) = case.a.1(lane, i);
                input[lane][i / case.packed] |= (case.bits)(a[row * k + column]) << (16 * (i % case.packed));
            }
            for i in 0..case.b.0 {
                let (row, column) = case.b.1(lane, i);
                input[lane][4 + i / case.packed] |= (case.bits)(b[row * 8 + column]) << (16 * (i % case.packed));
            }
            for i in 0..4 {
                let (row, column) = (lane / 4 + if i >= 2 { 8 } else { 0 }, lane % 4 * 2 + i % 2);
                input[lane][8 + i] = c[row * 8 + column].to_bits();
            }
        }
        let list = |first: usize, count: usize| {
            let names: Vec<String> = (first..first + count).map(|index| format!("%r{index}")).collect();
            format!("{{{}}}", names.join(", "))
        };
        let body = format!(
            "ld.global.v4.b32 {}, [%d1];\nld.global.v2.b32 {}, [%d1+16];\nld.global.v4.b32 {}, [%d1+32];\n\
             mma.sync.aligned.{} {}, {}, {}, {};\nst.global.v4.b32 [%out], {};",
            list(1, 4),
            list(5, 2),
            list(9, 4),
            case.instruction,
            list(13, 4),
            list(1, of_a),
            list(5, of_b),
            list(9, 4),
            list(13, 4)
        );
        let output = warp(&body, &input);
        for lane in 0..32 {
            for i in 0..4 {
                let (row, column) = (lane / 4 + if i >= 2 { 8 } else { 0 }, lane % 4 * 2 + i % 2);
                let sum: f64 =
                    (0..k).map(|step| (case.value)(a[row * k + step]) * (case.value)(b[step * 8 + column])).sum();
                let expected = sum + f64::from(c[row * 8 + column]);
                let actual = f64::from(f32::from_bits(output[4 * lane + i]));
                assert!(
                    (actual - expected).abs() < 1e-6,
                    "{} ({row}, {column}): {actual}, {expected}",
                    case.instruction
                );
            }
        }
    }
}

#[test]
fn matrices_are_loaded_as_the_isa_says() {
    // Element (row, column) of matrix m is 256 m + 16 row + column; rows lie 48 bytes apart.
    let prepare = ".shared .align 16 .b8 tile[1536];\nmov.u32 %r1, tile;\nshr.u32 %r2, %thread, 3;\nand.b32 %r3, %thread, 7;\n\
                   mul.lo.u32 %r4, %thread, 48;\nadd.u32 %r1, %r1, %r4;\nshl.b32 %r5, %r2, 8;\nshl.b32 %r6, %r3, 4;\n\
                   add.u32 %r5, %r5, %r6;\nmad.lo.u32 %r5, %r5, 65537, 65536;\n\
                   st.shared.u32 [%r1], %r5;\nadd.u32 %r5, %r5, 131074;\nst.shared.u32 [%r1+4], %r5;\n\
                   add.u32 %r5, %r5, 131074;\nst.shared.u32 [%r1+8], %r5;\nadd.u32 %r5, %r5, 131074;\n\
                   st.shared.u32 [%r1+12], %r5;\nbar.sync 0;\n";
    let input = [[0; 16]; 32];
    let element = |matrix: usize, row: usize, column: usize| (256 * matrix + 16 * row + column) as u32;
    for (count, list) in [(1, "{%r10}"), (2, "{%r10, %r11}"), (4, "{%r10, %r11, %r12, %r13}")] {
        for transposed in [false, true] {
            let trans = if transposed { ".trans" } else { "" };
            let body = format!(
                "{prepare}mov.u32 %r11, 0;\nmov.u32 %r12, 0;\nmov.u32 %r13, 0;\n\
                 ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {list}, [%r1];\n\
                 st.global.v4.b32 [%out], {{%r10, %r11, %r12, %r13}};"
            );
            let output = warp(&body, &input);
            for lane in 0..32 {
                for matrix in 0..count {
                    let (row, column) = (lane / 4, lane % 4 * 2);
                    let pair = if transposed {
                        element(matrix, column, row) | element(matrix, column + 1, row) << 16
                    } else {
                        element(matrix, row, column) | element(matrix, row, column + 1) << 16
                    };
                    assert_eq!(output[4 * lane + matrix], pair, "x{count}{trans}, lane {lane}, matrix {matrix}");
                }
            }
        }
    }
}

#[test]
fn the_tensor_core_needs_the_whole_warp() {
    let body = "mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32 {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%r7}, {%r1, %r2, %r3, %r4};";
    let fault = common::fault(body, 31);
    assert!(fault.to_string().starts_with("an exchange needs lane 31, which has exited"), "{fault}");
}
