//! Sum of two activations.

use super::Kernel;
use pulp::Arch;
use rayon::prelude::*;

/// Floats that one task of an element-wise kernel handles.
pub(super) const CHUNK: usize = 16 * 1024;

pub(super) fn add() -> Kernel {
    Kernel::new(0, |mut io| {
        let (left, right) = (io.reads[0], io.reads[1]);
        let chunks = left.par_chunks(CHUNK).zip(right.par_chunks(CHUNK));
        io.writes[0].par_chunks_mut(CHUNK).zip(chunks).for_each(|(out, (left, right))| {
            Arch::new().dispatch(|| {
                out.iter_mut().zip(left).zip(right).for_each(|((out, left), right)| *out = left + right);
            });
        });
    })
}
