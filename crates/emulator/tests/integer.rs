//! Whole numbers, bits and predicates, one instruction at a time, against values worked out from the PTX ISA.
mod common;

use common::{long, predicate, short};

const MIN: u32 = 0x8000_0000;
const MINUS_ONE: u32 = u32::MAX;

/// Every line: instruction on %r0 to %r3, sources, result.
fn check_short(cases: &[(&str, [u32; 3], u32)]) {
    for (instruction, sources, expected) in cases {
        let actual = short(instruction, *sources);
        assert_eq!(actual, *expected, "{instruction} of {sources:x?}: {actual:#x}, expected {expected:#x}");
    }
}

#[test]
fn sums_and_products_wrap() {
    check_short(&[
        ("add.u32 %r0, %r1, %r2;", [MINUS_ONE, 2, 0], 1),
        ("sub.s32 %r0, %r1, %r2;", [1, 2, 0], MINUS_ONE),
        ("add.sat.s32 %r0, %r1, %r2;", [0x7fff_ffff, 1, 0], 0x7fff_ffff),
        ("sub.sat.s32 %r0, %r1, %r2;", [MIN, 1, 0], MIN),
        ("mul.lo.u32 %r0, %r1, %r2;", [0x1_0001, 0x1_0001, 0], 0x2_0001),
        ("mul.hi.u32 %r0, %r1, %r2;", [MINUS_ONE, MINUS_ONE, 0], 0xffff_fffe),
        ("mul.hi.s32 %r0, %r1, %r2;", [MINUS_ONE, MINUS_ONE, 0], 0),
        ("mul.hi.s32 %r0, %r1, %r2;", [MINUS_ONE, 5, 0], MINUS_ONE),
        ("mad.lo.s32 %r0, %r1, %r2, %r3;", [3, MINUS_ONE, 10], 7),
        ("mad.hi.u32 %r0, %r1, %r2, %r3;", [MIN, 4, 1], 3),
        ("sad.s32 %r0, %r1, %r2, %r3;", [MINUS_ONE, 2, 10], 13),
        ("sad.u32 %r0, %r1, %r2, %r3;", [MINUS_ONE, 2, 10], 7),
        ("neg.s32 %r0, %r1;", [MIN, 0, 0], MIN),
        ("abs.s32 %r0, %r1;", [0xffff_fffb, 0, 0], 5),
        ("add.s32 %r0, %r1, -7;", [5, 0, 0], 0xffff_fffe),
        ("dp4a.s32.s32 %r0, %r1, %r2, %r3;", [0xff01_0203, 0x0101_0101, 10], 15),
        ("dp4a.u32.u32 %r0, %r1, %r2, %r3;", [0xff01_0203, 0x0101_0101, 10], 271),
    ]);
}

#[test]
fn division_truncates_towards_zero() {
    check_short(&[
        ("div.u32 %r0, %r1, %r2;", [7, 2, 0], 3),
        ("div.s32 %r0, %r1, %r2;", [0xffff_fff9, 2, 0], 0xffff_fffd),
        ("rem.s32 %r0, %r1, %r2;", [0xffff_fff9, 2, 0], MINUS_ONE),
        ("rem.u32 %r0, %r1, %r2;", [7, 4, 0], 3),
        ("div.s32 %r0, %r1, %r2;", [MIN, MINUS_ONE, 0], MIN),
        ("div.u32 %r0, %r1, %r2;", [7, 0, 0], MINUS_ONE),
    ]);
}

#[test]
fn minimum_and_maximum_respect_the_sign() {
    check_short(&[
        ("min.s32 %r0, %r1, %r2;", [MINUS_ONE, 1, 0], MINUS_ONE),
        ("min.u32 %r0, %r1, %r2;", [MINUS_ONE, 1, 0], 1),
        ("max.s32 %r0, %r1, %r2;", [MINUS_ONE, 1, 0], 1),
        ("max.u32 %r0, %r1, %r2;", [MINUS_ONE, 1, 0], MINUS_ONE),
    ]);
}

#[test]
fn shifts_past_the_width_clamp() {
    check_short(&[
        ("shl.b32 %r0, %r1, %r2;", [1, 31, 0], MIN),
        ("shl.b32 %r0, %r1, %r2;", [1, 32, 0], 0),
        ("shl.b32 %r0, %r1, %r2;", [1, 0x100, 0], 0),
        ("shr.u32 %r0, %r1, %r2;", [MIN, 32, 0], 0),
        ("shr.s32 %r0, %r1, %r2;", [MIN, 40, 0], MINUS_ONE),
        ("shr.s32 %r0, %r1, 4;", [MIN, 0, 0], 0xf800_0000),
        ("shf.l.wrap.b32 %r0, %r1, %r2, %r3;", [0x8000_0001, 0x1, 33], 3),
        ("shf.l.clamp.b32 %r0, %r1, %r2, %r3;", [0x8000_0001, 0x1, 33], 0x8000_0001),
        ("shf.r.wrap.b32 %r0, %r1, %r2, %r3;", [0x10, 0x1, 36], 0x1000_0001),
        ("shf.r.clamp.b32 %r0, %r1, %r2, %r3;", [0x10, 0x1, 36], 1),
    ]);
    assert_eq!(long("shl.b64 %d0, %d1, 63;", [1, 0]), 1 << 63);
    assert_eq!(long("shl.b64 %d0, %d1, 64;", [1, 0]), 0);
    assert_eq!(long("shr.s64 %d0, %d1, 64;", [1 << 63, 0]), u64::MAX);
    assert_eq!(long("shr.u64 %d0, %d1, 8;", [0x1234, 0]), 0x12);
}

#[test]
fn bit_fields_are_cut_and_set() {
    check_short(&[
        ("bfe.u32 %r0, %r1, 8, 8;", [0x1234_5678, 0, 0], 0x56),
        ("bfe.s32 %r0, %r1, 4, 4;", [0x80, 0, 0], 0xffff_fff8),
        ("bfe.s32 %r0, %r1, 28, 8;", [0x8000_0000, 0, 0], 0xffff_fff8),
        ("bfe.u32 %r0, %r1, 28, 8;", [0x8000_0000, 0, 0], 8),
        ("bfe.u32 %r0, %r1, 40, 8;", [MINUS_ONE, 0, 0], 0),
        ("bfe.s32 %r0, %r1, 40, 8;", [MINUS_ONE, 0, 0], MINUS_ONE),
        ("bfe.u32 %r0, %r1, 4, 0;", [MINUS_ONE, 0, 0], 0),
        ("bfi.b32 %r0, %r1, %r2, 8, 8;", [0xab, 0x1122_3344, 0], 0x1122_ab44),
        ("bfi.b32 %r0, %r1, %r2, 40, 8;", [0xab, 0x1122_3344, 0], 0x1122_3344),
        ("brev.b32 %r0, %r1;", [1, 0, 0], MIN),
        ("popc.b32 %r0, %r1;", [0xf0f0, 0, 0], 8),
        ("clz.b32 %r0, %r1;", [0, 0, 0], 32),
        ("clz.b32 %r0, %r1;", [1, 0, 0], 31),
        ("bfind.u32 %r0, %r1;", [0, 0, 0], MINUS_ONE),
        ("bfind.u32 %r0, %r1;", [0x100, 0, 0], 8),
        ("prmt.b32 %r0, %r1, %r2, %r3;", [0x3322_1100, 0x7766_5544, 0x6420], 0x6644_2200),
        ("prmt.b32 %r0, %r1, %r2, %r3;", [0x80, 0, 0x0018], 0x8080_00ff),
    ]);
    assert_eq!(long("bfe.u64 %d0, %d1, 60, 4;", [0xa << 60, 0]), 0xa);
    assert_eq!(long("brev.b64 %d0, %d1;", [1, 0]), 1 << 63);
}

#[test]
fn logic_follows_its_table() {
    check_short(&[
        ("and.b32 %r0, %r1, %r2;", [0b1100, 0b1010, 0], 0b1000),
        ("or.b32 %r0, %r1, %r2;", [0b1100, 0b1010, 0], 0b1110),
        ("xor.b32 %r0, %r1, %r2;", [0b1100, 0b1010, 0], 0b0110),
        ("not.b32 %r0, %r1;", [0, 0, 0], MINUS_ONE),
        // a & b | c and a ^ b ^ c, by the constants of the ISA: 0xF0, 0xCC, 0xAA.
        ("lop3.b32 %r0, %r1, %r2, %r3, 0xea;", [0xf0, 0xcc, 0xaa], 0xea),
        ("lop3.b32 %r0, %r1, %r2, %r3, 0x96;", [0xf0, 0xcc, 0xaa], 0x96),
    ]);
}

#[test]
fn sixteen_bits_stay_sixteen_bits() {
    let on_halves = |instruction: &str| {
        format!("cvt.u16.u32 %h1, %r1;\ncvt.u16.u32 %h2, %r2;\n{instruction}\ncvt.u32.u16 %r0, %h0;")
    };
    for (instruction, a, b, expected) in [
        ("add.u16 %h0, %h1, %h2;", 0xffff, 2, 1),
        ("sub.s16 %h0, %h1, %h2;", 1, 2, 0xffff),
        ("mul.lo.u16 %h0, %h1, %h2;", 0x101, 0x101, 0x201),
        ("mul.hi.s16 %h0, %h1, %h2;", 0xffff, 2, 0xffff),
        ("min.s16 %h0, %h1, %h2;", 0xffff, 2, 0xffff),
        ("max.s16 %h0, %h1, %h2;", 0xffff, 2, 2),
        ("div.s16 %h0, %h1, %h2;", 0xfff9, 2, 0xfffd),
        ("shr.s16 %h0, %h1, 20;", 0x8000, 0, 0xffff),
        ("shl.b16 %h0, %h1, 15;", 3, 0, 0x8000),
        ("not.b16 %h0, %h1;", 0, 0, 0xffff),
        ("neg.s16 %h0, %h1;", 1, 0, 0xffff),
    ] {
        assert_eq!(short(&on_halves(instruction), [a, b, 0]), expected, "{instruction}");
    }
    assert_eq!(short(&on_halves("mul.wide.s16 %r5, %h1, %h2;\nmov.u16 %h0, 0;\nmov.u32 %r6, %r5;"), [1, 1, 0]), 0);
    assert!(predicate("cvt.u16.u32 %h1, %r1;\nsetp.lt.s16 %p0, %h1, 0;", [0xffff, 0, 0]));
    assert!(!predicate("cvt.u16.u32 %h1, %r1;\nsetp.lt.u16 %p0, %h1, 1;", [0xffff, 0, 0]));
}

#[test]
fn long_numbers_are_whole() {
    let minus = |value: u64| value.wrapping_neg();
    for (instruction, sources, expected) in [
        ("add.s64 %d0, %d1, %d2;", [u64::MAX, 2], 1),
        ("sub.s64 %d0, %d1, %d2;", [0, 1], u64::MAX),
        ("mul.lo.s64 %d0, %d1, %d2;", [1 << 33, 3], 3 << 33),
        ("mul.hi.u64 %d0, %d1, %d2;", [1 << 63, 4], 2),
        ("mul.hi.s64 %d0, %d1, %d2;", [minus(1), 4], u64::MAX),
        ("div.s64 %d0, %d1, %d2;", [minus(7), 2], minus(3)),
        ("rem.u64 %d0, %d1, %d2;", [7, 4], 3),
        ("min.s64 %d0, %d1, %d2;", [minus(1), 4], minus(1)),
        ("max.u64 %d0, %d1, %d2;", [minus(1), 4], minus(1)),
        ("mad.lo.s64 %d0, %d1, %d2, %d1;", [5, 6], 35),
        ("neg.s64 %d0, %d1;", [1, 0], u64::MAX),
        ("and.b64 %d0, %d1, %d2;", [0xff << 40, 0xf0 << 40], 0xf0 << 40),
    ] {
        assert_eq!(long(instruction, sources), expected, "{instruction}");
    }
    let wide = |instruction: &str, a: u32, b: u32| {
        long(&format!("cvt.u32.u64 %r1, %d1;\ncvt.u32.u64 %r2, %d2;\n{instruction}"), [u64::from(a), u64::from(b)])
    };
    assert_eq!(wide("mul.wide.u32 %d0, %r1, %r2;", MINUS_ONE, 2), 0x1_ffff_fffe);
    assert_eq!(wide("mul.wide.s32 %d0, %r1, %r2;", MINUS_ONE, 2), minus(2));
    assert_eq!(wide("mad.wide.s32 %d0, %r1, %r2, %d2;", MINUS_ONE, 2), 0);
    assert_eq!(short("mov.b64 %d1, {%r1, %r2};\npopc.b64 %r0, %d1;", [3, 7, 0]), 5);
    assert_eq!(short("mov.b64 %d1, {%r1, %r2};\nclz.b64 %r0, %d1;", [3, 0, 0]), 62);
}

#[test]
fn carries_go_from_word_to_word() {
    let sum = "add.cc.u32 %r5, %r1, %r2;\naddc.u32 %r0, %r3, 0;";
    check_short(&[
        (sum, [MINUS_ONE, 1, 7], 8),
        (sum, [1, 1, 7], 7),
        ("sub.cc.u32 %r5, %r1, %r2;\nsubc.u32 %r0, %r3, 0;", [0, 1, 7], 6),
        ("add.cc.u32 %r5, %r1, %r2;\naddc.cc.u32 %r6, %r3, 0;\naddc.u32 %r0, 0, 0;", [MINUS_ONE, 1, MINUS_ONE], 1),
    ]);
}

#[test]
fn comparisons_respect_type_and_combine() {
    for (instruction, sources, expected) in [
        ("setp.lt.s32 %p0, %r1, %r2;", [MINUS_ONE, 1, 0], true),
        ("setp.lt.u32 %p0, %r1, %r2;", [MINUS_ONE, 1, 0], false),
        ("setp.lo.u32 %p0, %r1, %r2;", [1, 2, 0], true),
        ("setp.hs.u32 %p0, %r1, %r2;", [2, 2, 0], true),
        ("setp.ne.b32 %p0, %r1, %r2;", [2, 2, 0], false),
        ("setp.eq.s64 %p0, %d1, 8589934593;", [1, 2, 0], true),
        ("setp.eq.u32 %p1, %r3, 1;\nsetp.eq.and.u32 %p0, %r1, %r2, %p1;", [2, 2, 1], true),
        ("setp.eq.u32 %p1, %r3, 1;\nsetp.eq.and.u32 %p0, %r1, %r2, !%p1;", [2, 2, 1], false),
        ("setp.eq.u32 %p1, %r3, 1;\nsetp.eq.or.u32 %p0, %r1, %r2, %p1;", [2, 3, 1], true),
        ("setp.eq.u32 %p1, %r3, 1;\nsetp.eq.xor.u32 %p0, %r1, %r2, %p1;", [2, 2, 1], false),
        ("setp.eq.u32 %p1|%p0, %r1, %r2;", [2, 3, 0], true),
        ("setp.eq.u32 %p1, %r1, 2;\nsetp.eq.u32 %p2, %r2, 3;\nand.pred %p0, %p1, %p2;", [2, 3, 0], true),
        ("setp.eq.u32 %p1, %r1, 2;\nnot.pred %p0, %p1;", [2, 0, 0], false),
    ] {
        assert_eq!(predicate(instruction, sources), expected, "{instruction}");
    }
    check_short(&[("setp.eq.u32 %p1, %r3, 1;\nselp.b32 %r0, %r1, %r2, %p1;", [5, 6, 1], 5)]);
}

#[test]
fn guards_keep_what_was_there() {
    check_short(&[
        ("mov.u32 %r0, 9;\nsetp.eq.u32 %p1, %r1, 1;\n@%p1 mov.u32 %r0, 5;", [1, 0, 0], 5),
        ("mov.u32 %r0, 9;\nsetp.eq.u32 %p1, %r1, 1;\n@!%p1 mov.u32 %r0, 5;", [1, 0, 0], 9),
    ]);
}

#[test]
fn products_carry_into_the_next_word() {
    // (2³² − 1)² + 2³² − 1 in two words.
    let low = "mad.lo.cc.u32 %r5, %r1, %r2, %r3;\n";
    check_short(&[
        (&format!("{low}mov.u32 %r0, %r5;"), [MINUS_ONE, MINUS_ONE, MINUS_ONE], 0),
        (&format!("{low}madc.hi.u32 %r0, %r1, %r2, 0;"), [MINUS_ONE, MINUS_ONE, MINUS_ONE], MINUS_ONE),
        (&format!("{low}madc.hi.cc.s32 %r6, %r1, %r2, 0;\naddc.u32 %r0, 0, 0;"), [MINUS_ONE, 1, 1], 1),
        ("bfind.shiftamt.u32 %r0, %r1;", [0x100, 0, 0], 23),
        ("bfind.shiftamt.u32 %r0, %r1;", [0, 0, 0], MINUS_ONE),
    ]);
    assert_eq!(long("bfi.b64 %d0, %d1, %d2, 40, 8;", [0xab, 0x1122_3344]), 0xab00_1122_3344);
}
