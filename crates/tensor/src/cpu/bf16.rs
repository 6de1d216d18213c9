//! Kernels with operands in bf16: they are widened before, and narrowed after, a kernel that computes in f32.
//!
//! It is slower than f32, and there to show on any machine what a training with bf16 activations comes to.

use super::memory::Io;
use super::{CHUNK, Kernel, LINE, Operands};
use crate::shape::{DType, Type};
use arrayvec::ArrayVec;
use half::bf16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

/// Elements of an operand that is bf16.
fn narrow_elements(kind: &&Type) -> Option<usize> {
    (kind.dtype == DType::Bf16).then(|| kind.shape.elements())
}

/// The kernel with its bf16 operands as f32 in the workspace.
pub(super) fn staged(inner: Kernel, operands: &Operands<'_>) -> Kernel {
    let reads: Vec<Option<usize>> = operands.reads.iter().map(narrow_elements).collect();
    let writes: Vec<Option<usize>> = operands.writes.iter().map(narrow_elements).collect();
    let own = inner.workspace;
    let aligned = own.next_multiple_of(LINE);
    let staging: usize = reads.iter().chain(&writes).flatten().map(|length| length.next_multiple_of(LINE)).sum();
    Kernel::new(aligned + staging, move |io| {
        let (head, mut left) = io.workspace.split_at_mut(aligned);
        let own = &mut head[..own];
        let mut stage = |length: usize| {
            let (place, rest) = std::mem::take(&mut left).split_at_mut(length.next_multiple_of(LINE));
            left = rest;
            &mut place[..length]
        };
        let widened = io.reads.iter().zip(&reads).map(|(&read, &length)| match length {
            Some(length) => {
                let place = stage(length);
                widen(read, place);
                &*place
            }
            None => read,
        });
        let widened = widened.collect();
        let mut narrowed = ArrayVec::<_, { super::memory::MAX_PORTS }>::new();
        let mut direct = ArrayVec::<_, { super::memory::MAX_PORTS }>::new();
        for (write, &length) in io.writes.into_iter().zip(&writes) {
            match length {
                Some(length) => {
                    direct.push(stage(length));
                    narrowed.push(Some(write));
                }
                None => {
                    direct.push(write);
                    narrowed.push(None);
                }
            }
        }
        // The kernel borrows the places, and gives them back.
        let lent = direct.iter_mut().map(|write| &mut **write).collect();
        (inner.run)(Io { reads: widened, writes: lent, updates: io.updates, workspace: own });
        for (write, place) in narrowed.into_iter().zip(direct) {
            if let Some(write) = write {
                narrow_into(place, write);
            }
        }
    })
}

/// bf16 elements that lie in words, as f32.
pub(super) fn widen(words: &[f32], out: &mut [f32]) {
    let input: &[bf16] = &bytemuck::cast_slice(words)[..out.len()];
    out.par_chunks_mut(CHUNK).zip(input.par_chunks(CHUNK)).for_each(|(out, input)| input.convert_to_f32_slice(out));
}

/// f32 elements as bf16 in words, rounded to nearest, ties to even.
pub(super) fn narrow_into(input: &[f32], words: &mut [f32]) {
    narrow(input, &mut bytemuck::cast_slice_mut(words)[..input.len()]);
}

/// f32 elements as bf16, likewise.
pub(super) fn narrow(input: &[f32], out: &mut [bf16]) {
    out.par_chunks_mut(CHUNK).zip(input.par_chunks(CHUNK)).for_each(|(out, input)| out.convert_from_f32_slice(input));
}
