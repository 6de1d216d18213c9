//! Conversions between formats: rounding, saturation, signs, and arithmetic in 16 bits.
mod common;

use common::{long, short};

fn check(cases: &[(&str, u32, u32)]) {
    for (instruction, source, expected) in cases {
        let actual = short(instruction, [*source, 0, 0]);
        assert_eq!(actual, *expected, "{instruction} of {source:#x}: {actual:#x}, expected {expected:#x}");
    }
}

fn b(value: f32) -> u32 {
    value.to_bits()
}

#[test]
fn floats_become_whole_numbers_with_saturation() {
    check(&[
        ("cvt.rzi.s32.f32 %r0, %r1;", b(-2.7), (-2_i32) as u32),
        ("cvt.rni.s32.f32 %r0, %r1;", b(2.5), 2),
        ("cvt.rni.s32.f32 %r0, %r1;", b(3.5), 4),
        ("cvt.rmi.s32.f32 %r0, %r1;", b(-2.1), (-3_i32) as u32),
        ("cvt.rpi.s32.f32 %r0, %r1;", b(2.1), 3),
        ("cvt.rzi.s32.f32 %r0, %r1;", b(3e9), 0x7fff_ffff),
        ("cvt.rzi.s32.f32 %r0, %r1;", b(-3e9), 0x8000_0000),
        ("cvt.rzi.u32.f32 %r0, %r1;", b(-1.0), 0),
        ("cvt.rzi.u32.f32 %r0, %r1;", b(3e9), 3_000_000_000),
        ("cvt.rzi.u32.f32 %r0, %r1;", b(5e9), u32::MAX),
        ("cvt.rzi.s32.f32 %r0, %r1;", b(f32::NAN), 0),
        ("cvt.rzi.u16.f32 %h0, %r1;\ncvt.u32.u16 %r0, %h0;", b(70_000.0), 0xffff),
        ("cvt.rzi.s16.f32 %h0, %r1;\ncvt.s32.s16 %r0, %h0;", b(-70_000.0), (-32_768_i32) as u32),
        ("cvt.rzi.s64.f32 %d0, %r1;\ncvt.u32.u64 %r0, %d0;", b(-2.7), (-2_i32) as u32),
    ]);
    assert_eq!(long("cvt.rzi.s64.f64 %d0, %d1;", [(-1e10_f64).to_bits(), 0]), (-10_000_000_000_i64) as u64);
}

#[test]
fn whole_numbers_become_floats_rounded() {
    check(
        &[
            ("cvt.rn.f32.s32 %r0, %r1;", (-5_i32) as u32, b(-5.0)),
            ("cvt.rn.f32.u32 %r0, %r1;", u32::MAX, b(4_294_967_296.0)),
            ("cvt.rz.f32.u32 %r0, %r1;", u32::MAX, b(4_294_967_040.0)),
            ("cvt.rp.f32.s32 %r0, %r1;", 0x0100_0001, b(16_777_218.0)),
            ("cvt.rm.f32.s32 %r0, %r1;", 0x0100_0001, b(16_777_216.0)),
            ("cvt.rn.f32.u8 %r0, %r1;", 0x1ff, b(255.0)),
            ("cvt.rn.f32.s8 %r0, %r1;", 0xff, b(-1.0)),
            ("cvt.rn.f16.s32 %h0, %r1;\ncvt.u32.u16 %r0, %h0;", 2049, 0x6800),
            ("cvt.rn.f32.s64 %r0, %d1;", 0, 0),
        ]
        .map(|(text, source, expected)| {
            if text.contains("%d1") {
                ("mov.b64 %d1, {%r1, %r1};\ncvt.rn.f32.s64 %r0, %d1;", source, expected)
            } else {
                (text, source, expected)
            }
        }),
    );
    assert_eq!(long("cvt.rn.f64.u64 %d0, %d1;", [1 << 60, 0]), (2.0_f64.powi(60)).to_bits());
}

#[test]
fn whole_numbers_change_their_width() {
    check(&[
        ("cvt.u32.u8 %r0, %r1;", 0x1234, 0x34),
        ("cvt.s32.s8 %r0, %r1;", 0xff, u32::MAX),
        ("cvt.s32.s16 %r0, %r1;", 0x8000, 0xffff_8000),
        ("cvt.u16.u32 %h0, %r1;\ncvt.u32.u16 %r0, %h0;", 0x1_2345, 0x2345),
        ("cvt.s16.s8 %h0, %r1;\ncvt.u32.u16 %r0, %h0;", 0x80, 0xff80),
        ("cvt.sat.u8.s32 %r0, %r1;", (-5_i32) as u32, 0),
        ("cvt.sat.u8.s32 %r0, %r1;", 300, 255),
        ("cvt.sat.s32.u32 %r0, %r1;", u32::MAX, 0x7fff_ffff),
    ]);
    let from_short =
        |instruction: &str, value: u32| long(&format!("cvt.u32.u64 %r1, %d1;\n{instruction}"), [u64::from(value), 0]);
    assert_eq!(from_short("cvt.s64.s32 %d0, %r1;", 0x8000_0000), 0xffff_ffff_8000_0000);
    assert_eq!(from_short("cvt.u64.u32 %d0, %r1;", 0x8000_0000), 0x8000_0000);
    assert_eq!(from_short("cvt.s64.s8 %d0, %r1;", 0xfe), u64::MAX - 1);
    // Source registers may be wider than the type they are read as.
    assert_eq!(long("cvt.s64.s32 %d0, %d1;", [0x1_8000_0000, 0]), 0xffff_ffff_8000_0000);
    assert_eq!(long("cvt.u64.u32 %d0, %d1;", [0x1_8000_0000, 0]), 0x8000_0000);
    assert_eq!(long("cvt.u16.u32 %h0, %d1;\ncvt.u64.u16 %d0, %h0;", [0x1_8001_2345, 0]), 0x2345);
}

#[test]
fn floats_round_to_shorter_formats() {
    check(
        &[
            ("cvt.rn.bf16.f32 %h0, %r1;\ncvt.u32.u16 %r0, %h0;", 0x3f80_8000, 0x3f80),
            ("cvt.rn.bf16.f32 %h0, %r1;\ncvt.u32.u16 %r0, %h0;", 0x3f81_8000, 0x3f82),
            ("cvt.rz.bf16.f32 %h0, %r1;\ncvt.u32.u16 %r0, %h0;", 0x3f81_ffff, 0x3f81),
            ("cvt.rn.f16.f32 %h0, %r1;\ncvt.u32.u16 %r0, %h0;", b(65_520.0), 0x7c00),
            ("cvt.f32.f16 %r0, %h1;", 0, 0),
            ("cvt.rna.tf32.f32 %r0, %r1;", 0x3f80_1000, 0x3f80_2000),
            ("cvt.rn.tf32.f32 %r0, %r1;", 0x3f80_1000, 0x3f80_0000),
            ("cvt.sat.f32.f32 %r0, %r1;", b(1.5), b(1.0)),
            ("cvt.sat.f32.f32 %r0, %r1;", b(f32::NAN), 0),
            ("cvt.rmi.f32.f32 %r0, %r1;", b(-1.5), b(-2.0)),
            ("cvt.rni.f32.f32 %r0, %r1;", b(2.5), b(2.0)),
            ("cvt.rzi.f32.f32 %r0, %r1;", b(-1.5), b(-1.0)),
        ]
        .map(|(text, source, expected)| {
            if text.contains("%h1") {
                ("cvt.u16.u32 %h1, %r1;\ncvt.f32.f16 %r0, %h1;", 0x3e00, b(1.5))
            } else {
                (text, source, expected)
            }
        }),
    );
    // The first source goes to the upper half.
    assert_eq!(short("cvt.rn.bf16x2.f32 %r0, %r1, %r2;", [b(1.0), b(-2.0), 0]), 0x3f80_c000);
    assert_eq!(short("cvt.rn.f16x2.f32 %r0, %r1, %r2;", [b(1.0), b(-2.0), 0]), 0x3c00_c000);
    assert_eq!(short("cvt.rn.relu.bf16x2.f32 %r0, %r1, %r2;", [b(1.0), b(-2.0), 0]), 0x3f80_0000);
    assert_eq!(long("cvt.u32.u64 %r1, %d1;\ncvt.f64.f32 %d0, %r1;", [u64::from(b(1.5)), 0]), 1.5_f64.to_bits());
    assert_eq!(
        short("mov.b64 %d1, {%r1, %r2};\ncvt.rn.f32.f64 %r0, %d1;", [0x4000_0001, 0x3ff0_0000, 0]),
        b(1.0 + 2.0 * f32::EPSILON) & !1
    );
}

#[test]
fn sixteen_bit_arithmetic_rounds_once() {
    let bf16 = |value: f32| b(value) >> 16;
    let pair = |low: u32, high: u32| high << 16 | low;
    let (one, two, half_step) = (bf16(1.0), bf16(2.0), bf16(0.003_906_25));
    for (instruction, sources, expected) in [
        ("add.rn.bf16x2 %r0, %r1, %r2;", [pair(one, two), pair(one, one), 0], pair(two, bf16(3.0))),
        // A tie: 1 + 2⁻⁸ lies between 1 and 1 + 2⁻⁷.
        ("add.rn.bf16x2 %r0, %r1, %r2;", [pair(one, one), pair(half_step, 0), 0], pair(one, one)),
        ("mul.bf16x2 %r0, %r1, %r2;", [pair(two, two), pair(two, 0x8000), 0], pair(bf16(4.0), 0x8000)),
        // The tie with a trace above it: only one rounding sees the trace.
        ("fma.rn.bf16x2 %r0, %r1, %r2, %r3;", [pair(one, one), pair(one, one), pair(half_step, one)], pair(one, two)),
        ("fma.rn.f16x2 %r0, %r1, %r2, %r3;", [0x3c00_4000, 0x4000_4000, 0x3c00_3c00], 0x4200_4500),
        ("max.bf16x2 %r0, %r1, %r2;", [pair(one, 0x7fff), pair(two, one), 0], pair(two, one)),
        ("neg.bf16x2 %r0, %r1;", [pair(one, two), 0, 0], pair(one | 0x8000, two | 0x8000)),
        ("sub.f16x2 %r0, %r1, %r2;", [0x4000_4200, 0x3c00_3c00, 0], 0x3c00_4000),
    ] {
        let actual = short(instruction, sources);
        assert_eq!(actual, expected, "{instruction} of {sources:x?}: {actual:#x}, expected {expected:#x}");
    }
    // (1 + 2⁻⁷)² − 3·2⁻⁸ = 1 + 2⁻⁸ + 2⁻¹⁴, just above a tie; a product rounded before would make it the tie.
    let body = "mov.b32 {%h1, %h5}, %r1;\nmov.b32 {%h2, %h6}, %r2;\nmov.b32 {%h3, %h7}, %r3;\n\
                fma.rn.bf16 %h0, %h1, %h2, %h3;\ncvt.u32.u16 %r0, %h0;";
    let near = bf16(1.007_812_5); // 1 + 2⁻⁷
    assert_eq!(short(body, [near, near, bf16(-0.011_718_75)]), 0x3f81);
}
