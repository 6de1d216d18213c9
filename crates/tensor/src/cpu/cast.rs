//! Conversion between f32 and bf16.

use super::{CHUNK, Kernel, Operands};
use crate::op::Cast;
use crate::shape::DType;
use half::bf16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

pub(super) fn cast(op: Cast, operands: &Operands<'_>) -> Kernel {
    let elements = operands.reads[0].shape.elements();
    Kernel::new(0, move |mut io| {
        if op.to == DType::Bf16 {
            let out: &mut [bf16] = &mut bytemuck::cast_slice_mut(io.writes[0])[..elements];
            let chunks = out.par_chunks_mut(CHUNK).zip(io.reads[0].par_chunks(CHUNK));
            chunks.for_each(|(out, input)| out.convert_from_f32_slice(input));
        } else {
            let input: &[bf16] = &bytemuck::cast_slice(io.reads[0])[..elements];
            let chunks = io.writes[0].par_chunks_mut(CHUNK).zip(input.par_chunks(CHUNK));
            chunks.for_each(|(out, input)| input.convert_to_f32_slice(out));
        }
    })
}
