//! The cast between f32 and bf16 against bit patterns written by hand.

use sphereface_tensor::cpu::CpuBackend;
use sphereface_tensor::op::Cast;
use sphereface_tensor::{Backend, DType, Dim, ParameterSet, PlanBuilder, Shape, Type};

/// Bits of the f32, and of the bf16 it rounds to.
const ROUNDED: [(u32, u16, &str); 21] = [
    (0x0000_0000, 0x0000, "zero"),
    (0x8000_0000, 0x8000, "negative zero"),
    (0x3F80_0000, 0x3F80, "one"),
    (0xC049_0FDB, 0xC049, "−π, rounded down"),
    (0x3F80_7FFF, 0x3F80, "just below a tie, rounded down"),
    (0x3F80_8000, 0x3F80, "a tie, to the even value below"),
    (0x3F80_8001, 0x3F81, "just above a tie, rounded up"),
    (0x3F81_8000, 0x3F82, "a tie, to the even value above"),
    (0xBF81_8000, 0xBF82, "a tie, away from zero where that is even"),
    (0x3FFF_8000, 0x4000, "a tie whose carry reaches the exponent"),
    (0x0000_0001, 0x0000, "the smallest subnormal, to zero"),
    (0x0000_8000, 0x0000, "a subnormal tie, to zero"),
    (0x0000_8001, 0x0001, "a subnormal, to the smallest of bf16"),
    (0x0001_8000, 0x0002, "a subnormal tie, to even"),
    (0x007F_FFFF, 0x0080, "the largest subnormal, to the smallest normal"),
    (0x0080_0000, 0x0080, "the smallest normal"),
    (0x8000_8001, 0x8001, "a negative subnormal"),
    (0x7F7F_0000, 0x7F7F, "the largest bf16"),
    (0x7F7F_7FFF, 0x7F7F, "what still rounds to the largest bf16"),
    (0x7F7F_FFFF, 0x7F80, "the largest f32, to infinity"),
    (0xFF80_0000, 0xFF80, "negative infinity"),
];

/// Bits of bf16 after a cast of f32 bits, and of f32 after the cast back. Any length: vectors have tails.
fn cast(input: &[u32]) -> (Vec<u16>, Vec<u32>) {
    let parameters = ParameterSet::default();
    let mut plan = PlanBuilder::new(&parameters);
    let x = plan.persistent("x", Type::f32(Shape::vector(Dim::Length, input.len())));
    let narrow = plan.push(Cast { to: DType::Bf16 }, &[x], &[]).unwrap()[0];
    let wide = plan.push(Cast { to: DType::F32 }, &[narrow], &[]).unwrap()[0];
    plan.keep(narrow, "narrow");
    plan.keep(wide, "wide");
    let mut backend = CpuBackend::new(2).unwrap();
    let program = backend.lower(&plan.finish()).unwrap();
    backend.upload("x", bytemuck::cast_slice(input)).unwrap();
    backend.run(program, 1).unwrap();
    let (mut narrow, mut wide) = (vec![0u16; input.len()], vec![0u32; input.len()]);
    backend.download("narrow", bytemuck::cast_slice_mut(&mut narrow)).unwrap();
    backend.download("wide", bytemuck::cast_slice_mut(&mut wide)).unwrap();
    (narrow, wide)
}

#[test]
fn f32_rounds_to_the_nearest_bf16_and_ties_to_even() {
    let (narrow, _) = cast(&ROUNDED.map(|(bits, ..)| bits));
    for (&(bits, expected, what), found) in ROUNDED.iter().zip(narrow) {
        assert_eq!(found, expected, "{what}: {bits:#010x} becomes {found:#06x}, expected {expected:#06x}");
    }
}

#[test]
fn each_value_rounds_alike_in_a_vector_and_in_its_tail() {
    for (bits, expected, what) in ROUNDED {
        for length in [1, 7, 33] {
            assert_eq!(cast(&vec![bits; length]).0, vec![expected; length], "{what}, {length} values");
        }
    }
}

#[test]
fn bf16_becomes_the_f32_with_its_bits_on_top() {
    let (narrow, wide) = cast(&ROUNDED.map(|(bits, ..)| bits));
    assert!(wide.iter().zip(&narrow).all(|(&wide, &narrow)| wide == u32::from(narrow) << 16));
}

#[test]
fn every_finite_bf16_survives_the_way_through_f32() {
    let all: Vec<u32> =
        (0..=u16::MAX).filter(|bits| bits & 0x7F80 != 0x7F80).map(|bits| u32::from(bits) << 16).collect();
    let (_, wide) = cast(&all);
    assert_eq!(wide, all);
}

#[test]
fn nan_stays_nan() {
    // The second is a NaN whose payload lies in the bits that are cut off.
    let (narrow, wide) = cast(&[0x7FC0_0000, 0x7F80_0001, 0xFFFF_FFFF]);
    assert!(narrow.iter().all(|bits| bits & 0x7FFF > 0x7F80), "{narrow:04x?}");
    assert!(wide.iter().all(|&bits| f32::from_bits(bits).is_nan()));
}
