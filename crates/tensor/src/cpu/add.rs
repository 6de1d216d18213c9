//! Sum of two activations.

use super::{CHUNK, Kernel};
use pulp::Arch;
use rayon::prelude::*;

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
