//! Floating point, one instruction at a time: rounding, NaN rules, subnormal numbers, functions.
mod common;

use common::{long, predicate, short};

const NAN: f32 = f32::NAN;
/// The NaN of every `f32` instruction.
const CANONICAL_NAN: u32 = 0x7fff_ffff;
const INF: f32 = f32::INFINITY;
const TINY: f32 = 1e-40;

fn single(instruction: &str, sources: [f32; 3]) -> f32 {
    f32::from_bits(short(instruction, sources.map(f32::to_bits)))
}

fn check(cases: &[(&str, [f32; 3], f32)]) {
    for (instruction, sources, expected) in cases {
        let actual = single(instruction, *sources);
        assert_eq!(
            actual.to_bits(),
            expected.to_bits(),
            "{instruction} of {sources:?}: {actual:e}, expected {expected:e}"
        );
    }
}

#[test]
fn sums_and_products_round_once() {
    let step = f32::EPSILON;
    check(&[
        ("add.f32 %r0, %r1, %r2;", [1.0, step / 2.0, 0.0], 1.0),
        ("add.rn.f32 %r0, %r1, %r2;", [1.0 + step, step / 2.0, 0.0], 1.0 + 2.0 * step),
        ("add.rp.f32 %r0, %r1, %r2;", [1.0, 1e-30, 0.0], 1.0 + step),
        ("add.rm.f32 %r0, %r1, %r2;", [1.0, -1e-30, 0.0], 1.0 - step / 2.0),
        ("add.rz.f32 %r0, %r1, %r2;", [-1.0, 1e-30, 0.0], -1.0 + step / 2.0),
        ("sub.f32 %r0, %r1, %r2;", [1.0, 3.0, 0.0], -2.0),
        ("mul.f32 %r0, %r1, %r2;", [1.5, -2.0, 0.0], -3.0),
        ("mul.rz.f32 %r0, %r1, %r2;", [1.0 + step, 1.0 + step, 0.0], 1.0 + 2.0 * step),
        ("mul.rp.f32 %r0, %r1, %r2;", [1.0 + step, 1.0 + step, 0.0], 1.0 + 3.0 * step),
        ("add.sat.f32 %r0, %r1, %r2;", [1.0, 3.0, 0.0], 1.0),
        ("add.sat.f32 %r0, %r1, %r2;", [NAN, 3.0, 0.0], 0.0),
        ("neg.f32 %r0, %r1;", [0.0, 0.0, 0.0], -0.0),
        ("abs.f32 %r0, %r1;", [-2.5, 0.0, 0.0], 2.5),
        ("div.rn.f32 %r0, %r1, %r2;", [1.0, 3.0, 0.0], 1.0 / 3.0),
        ("add.f32 %r0, %r1, 0f3F800000;", [1.0, 0.0, 0.0], 2.0),
    ]);
}

#[test]
fn fma_is_exact_before_its_rounding() {
    let a = 1.0 + f32::EPSILON;
    let exact = f32::EPSILON * f32::EPSILON;
    check(&[
        ("fma.rn.f32 %r0, %r1, %r2, %r3;", [a, a, -(1.0 + 2.0 * f32::EPSILON)], exact),
        ("fma.rn.f32 %r0, %r1, %r2, %r3;", [2.0, 3.0, 4.0], 10.0),
        ("fma.rz.f32 %r0, %r1, %r2, %r3;", [a, a, 0.0], 1.0 + 2.0 * f32::EPSILON),
        ("fma.rp.f32 %r0, %r1, %r2, %r3;", [1.0, 1.0, 1e-30], 1.0 + f32::EPSILON),
        ("fma.rm.f32 %r0, %r1, %r2, %r3;", [1.0, 1.0, -1e-30], 1.0 - f32::EPSILON / 2.0),
        ("fma.rn.ftz.f32 %r0, %r1, %r2, %r3;", [TINY, 1.0, 1.0], 1.0),
    ]);
}

#[test]
fn subnormal_numbers_are_flushed_on_request_only() {
    check(&[
        ("add.f32 %r0, %r1, %r2;", [TINY, TINY, 0.0], TINY + TINY),
        ("add.ftz.f32 %r0, %r1, %r2;", [TINY, TINY, 0.0], 0.0),
        ("mul.ftz.f32 %r0, %r1, %r2;", [-1e-30, 1e-10, 0.0], -0.0),
        ("mul.f32 %r0, %r1, %r2;", [-1e-30, 1e-10, 0.0], -1e-30 * 1e-10),
        ("neg.ftz.f32 %r0, %r1;", [TINY, 0.0, 0.0], -0.0),
    ]);
    assert!(predicate("setp.gt.f32 %p0, %r1, 0f00000000;", [TINY.to_bits(), 0, 0]));
    assert!(!predicate("setp.gt.ftz.f32 %p0, %r1, 0f00000000;", [TINY.to_bits(), 0, 0]));
}

#[test]
fn minimum_and_maximum_prefer_numbers_to_nan() {
    check(&[
        ("min.f32 %r0, %r1, %r2;", [NAN, 3.0, 0.0], 3.0),
        ("max.f32 %r0, %r1, %r2;", [3.0, NAN, 0.0], 3.0),
        ("min.f32 %r0, %r1, %r2;", [0.0, -0.0, 0.0], -0.0),
        ("max.f32 %r0, %r1, %r2;", [-0.0, 0.0, 0.0], 0.0),
        ("min.f32 %r0, %r1, %r2;", [1.0, 2.0, 0.0], 1.0),
        ("max.f32 %r0, %r1, %r2;", [1.0, 2.0, 0.0], 2.0),
    ]);
    // Two registers: of one with itself ptxas makes a move.
    for (instruction, second) in [
        ("max.f32 %r0, %r1, %r2;", NAN),
        ("min.f32 %r0, %r1, %r2;", NAN),
        ("min.NaN.f32 %r0, %r1, %r2;", 3.0),
        ("max.NaN.f32 %r0, %r2, %r1;", 3.0),
    ] {
        assert_eq!(single(instruction, [NAN, second, 0.0]).to_bits(), CANONICAL_NAN, "{instruction}");
    }
}

#[test]
fn comparisons_know_unordered_numbers() {
    let bits = |a: f32, b: f32| [a.to_bits(), b.to_bits(), 0];
    for (name, less, equal, unordered) in [
        ("eq", false, true, false),
        ("ne", true, false, false),
        ("lt", true, false, false),
        ("le", true, true, false),
        ("gt", false, false, false),
        ("ge", false, true, false),
        ("equ", false, true, true),
        ("neu", true, false, true),
        ("ltu", true, false, true),
        ("leu", true, true, true),
        ("gtu", false, false, true),
        ("geu", false, true, true),
        ("num", true, true, false),
        ("nan", false, false, true),
    ] {
        let instruction = format!("setp.{name}.f32 %p0, %r1, %r2;");
        assert_eq!(predicate(&instruction, bits(1.0, 2.0)), less, "{name}");
        assert_eq!(predicate(&instruction, bits(-0.0, 0.0)), equal, "{name}");
        assert_eq!(predicate(&instruction, bits(NAN, 1.0)), unordered, "{name}");
    }
}

#[test]
fn functions_lie_within_their_documented_errors() {
    for x in [1e-3_f32, 0.3, 0.5, 1.0, 1.7, 2.0, 10.0, 87.5] {
        let wide = f64::from(x);
        for (instruction, expected, relative) in [
            ("rcp.approx.f32 %r0, %r1;", 1.0 / wide, 1.2e-7),
            ("rcp.rn.f32 %r0, %r1;", f64::from((1.0 / wide) as f32), 0.0),
            ("sqrt.rn.f32 %r0, %r1;", f64::from(wide.sqrt() as f32), 0.0),
            ("sqrt.approx.f32 %r0, %r1;", wide.sqrt(), 1.2e-7),
            ("rsqrt.approx.f32 %r0, %r1;", 1.0 / wide.sqrt(), 2.4e-7),
            ("ex2.approx.f32 %r0, %r1;", wide.exp2(), 2.4e-7),
            ("ex2.approx.ftz.f32 %r0, %r1;", wide.exp2(), 2.4e-7),
            ("lg2.approx.f32 %r0, %r1;", wide.log2(), 2.4e-7),
            ("sin.approx.f32 %r0, %r1;", wide.sin(), 1e-6),
            ("cos.approx.f32 %r0, %r1;", wide.cos(), 1e-6),
            ("tanh.approx.f32 %r0, %r1;", wide.tanh(), 5e-4),
            ("div.approx.f32 %r0, %r2, %r1;", 3.0 / wide, 2.4e-7),
            ("div.full.f32 %r0, %r2, %r1;", 3.0 / wide, 2.4e-7),
        ] {
            let error = (f64::from(single(instruction, [x, 3.0, 0.0])) - expected).abs();
            assert!(
                error <= relative * expected.abs() + f64::from(relative > 0.0) * 1e-9,
                "{instruction} of {x}: {error}"
            );
        }
    }
    check(&[
        ("rcp.approx.f32 %r0, %r1;", [-0.0, 0.0, 0.0], -INF),
        ("rsqrt.approx.f32 %r0, %r1;", [0.0, 0.0, 0.0], INF),
        ("ex2.approx.f32 %r0, %r1;", [-INF, 0.0, 0.0], 0.0),
        ("lg2.approx.f32 %r0, %r1;", [0.0, 0.0, 0.0], -INF),
        ("copysign.f32 %r0, %r1, %r2;", [-1.0, 5.0, 0.0], -5.0),
    ]);
}

#[test]
fn there_is_one_nan() {
    let other = f32::from_bits(0xffc0_1234);
    for (instruction, sources) in [
        ("add.f32 %r0, %r1, %r2;", [INF, -INF, 0.0]),
        ("add.rz.f32 %r0, %r1, %r2;", [INF, -INF, 0.0]),
        ("add.ftz.f32 %r0, %r1, %r2;", [other, 1.0, 0.0]),
        ("sub.f32 %r0, %r1, %r2;", [INF, INF, 0.0]),
        ("mul.f32 %r0, %r1, %r2;", [0.0, INF, 0.0]),
        ("mul.rp.f32 %r0, %r1, %r2;", [0.0, -INF, 0.0]),
        ("mul.f32 %r0, %r1, %r2;", [1.0, other, 0.0]),
        ("fma.rn.f32 %r0, %r1, %r2, %r3;", [0.0, INF, 1.0]),
        ("fma.rn.ftz.f32 %r0, %r1, %r2, %r3;", [1.0, INF, -INF]),
        ("fma.rm.f32 %r0, %r1, %r2, %r3;", [1.0, 1.0, other]),
        ("div.rn.f32 %r0, %r1, %r2;", [0.0, 0.0, 0.0]),
        ("div.full.f32 %r0, %r1, %r2;", [0.0, 0.0, 0.0]),
        ("div.approx.f32 %r0, %r1, %r2;", [INF, INF, 0.0]),
        ("rcp.approx.ftz.f32 %r0, %r1;", [other, 0.0, 0.0]),
        ("rcp.rn.f32 %r0, %r1;", [other, 0.0, 0.0]),
        ("sqrt.rn.f32 %r0, %r1;", [-1.0, 0.0, 0.0]),
        ("sqrt.approx.ftz.f32 %r0, %r1;", [-1.0, 0.0, 0.0]),
        ("rsqrt.approx.f32 %r0, %r1;", [-1.0, 0.0, 0.0]),
        ("lg2.approx.f32 %r0, %r1;", [-1.0, 0.0, 0.0]),
        ("ex2.approx.f32 %r0, %r1;", [other, 0.0, 0.0]),
        ("sin.approx.f32 %r0, %r1;", [INF, 0.0, 0.0]),
        ("cos.approx.f32 %r0, %r1;", [-INF, 0.0, 0.0]),
        ("tanh.approx.f32 %r0, %r1;", [other, 0.0, 0.0]),
    ] {
        let found = single(instruction, sources).to_bits();
        assert_eq!(found, CANONICAL_NAN, "{instruction} of {sources:?}: {found:#x}");
    }
}

#[test]
fn doubles_are_doubles() {
    let double = |instruction: &str, a: f64, b: f64| f64::from_bits(long(instruction, [a.to_bits(), b.to_bits()]));
    assert_eq!(double("add.f64 %d0, %d1, %d2;", 0.1, 0.2), 0.1 + 0.2);
    assert_eq!(double("sub.f64 %d0, %d1, %d2;", 0.1, 0.2), 0.1 - 0.2);
    assert_eq!(double("mul.f64 %d0, %d1, %d2;", 0.1, 0.2), 0.1 * 0.2);
    assert_eq!(double("div.rn.f64 %d0, %d1, %d2;", 0.1, 0.3), 0.1 / 0.3);
    assert_eq!(double("fma.rn.f64 %d0, %d1, %d2, %d1;", 0.1, 0.3), 0.1_f64.mul_add(0.3, 0.1));
    assert_eq!(double("sqrt.rn.f64 %d0, %d1;", 2.0, 0.0), 2.0_f64.sqrt());
    assert_eq!(double("rcp.rn.f64 %d0, %d1;", 3.0, 0.0), 1.0 / 3.0);
    assert_eq!(double("min.f64 %d0, %d1, %d2;", f64::NAN, 2.0), 2.0);
    assert_eq!(double("max.f64 %d0, %d1, %d2;", 1.0, f64::NAN), 1.0);
    assert_eq!(double("neg.f64 %d0, %d1;", 1.0, 0.0), -1.0);
    assert_eq!(double("mov.f64 %d0, 0d3FF8000000000000;", 0.0, 0.0), 1.5);
}

#[test]
fn properties_are_tested() {
    for (name, value, expected) in [
        ("finite", 1.0, true),
        ("finite", INF, false),
        ("infinite", -INF, true),
        ("number", NAN, false),
        ("notanumber", NAN, true),
        ("normal", TINY, false),
        ("subnormal", TINY, true),
    ] {
        assert_eq!(
            predicate(&format!("testp.{name}.f32 %p0, %r1;"), [value.to_bits(), 0, 0]),
            expected,
            "{name} {value}"
        );
    }
}
