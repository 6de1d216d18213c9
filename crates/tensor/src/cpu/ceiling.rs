//! What this machine can do at best: fused multiply-adds in registers, copies beyond the caches, waking all threads.

use super::start_threads;
use crate::error::Error;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::hint::black_box;
use std::time::Instant;

/// What was measured, on all of some threads together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ceilings {
    /// Floating-point operations a second in fp32; a multiply-add is two.
    pub flops: f64,
    /// Bytes read and written a second by copying what no cache holds.
    pub bandwidth: f64,
    /// Seconds until all threads have begun and ended a task.
    pub overhead: f64,
}

/// Sums that do not wait for each other: enough to hide an addition's latency, and few enough for 16 registers.
const SUMS: usize = 12;
/// Multiply-adds of each sum in a trial.
const LENGTH: usize = 1 << 21;
/// Floats that are copied: 64 MiB.
const COPIED: usize = 1 << 24;
/// Trials, of which the best counts: others may use the machine, too.
const TRIALS: usize = 32;
/// Times that all threads are woken in a trial.
const WAKES: u32 = 100;

/// Measures the ceilings with this many threads (0: one for each core) in about a second.
///
/// # Errors
/// [`Error::Backend`], when the threads cannot be started or there are no 128 MiB of memory.
pub fn measure_ceilings(threads: usize) -> Result<Ceilings, Error> {
    let pool = start_threads(threads)?;
    let lanes = pool.install(|| Arch::new().dispatch(MultiplyAdds { length: 1 }));
    let operations = (2 * SUMS * LENGTH * lanes * pool.current_num_threads()) as f64;
    let arithmetic = best_of(|| {
        pool.broadcast(|_| black_box(Arch::new().dispatch(MultiplyAdds { length: LENGTH })));
    });
    let mut blocks = [Vec::new(), Vec::new()];
    for block in &mut blocks {
        block.try_reserve_exact(COPIED).map_err(|_| Error::Backend {
            backend: "cpu",
            message: "expected 128 MiB of memory to measure its bandwidth, found less".into(),
        })?;
        block.resize(COPIED, 1.0f32);
    }
    let [from, to] = &mut blocks;
    let part = COPIED.div_ceil(pool.current_num_threads());
    let copy = best_of(|| {
        pool.install(|| {
            to.par_chunks_mut(part).zip(from.par_chunks(part)).for_each(|(to, from)| to.copy_from_slice(from))
        });
        black_box(&*to);
    });
    let wake = best_of(|| pool.install(|| (0..WAKES).for_each(|_| drop(rayon::broadcast(|_| ())))));
    let bytes = (2 * COPIED * size_of::<f32>()) as f64;
    Ok(Ceilings { flops: operations / arithmetic, bandwidth: bytes / copy, overhead: wake / f64::from(WAKES) })
}

/// Seconds of the shortest of some trials.
fn best_of(mut trial: impl FnMut()) -> f64 {
    let seconds = (0..TRIALS).map(|_| {
        let start = Instant::now();
        trial();
        start.elapsed().as_secs_f64()
    });
    seconds.fold(f64::INFINITY, f64::min)
}

/// Multiply-adds on vectors in registers; returns how many lanes a vector has.
struct MultiplyAdds {
    length: usize,
}

impl WithSimd for MultiplyAdds {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        // Not known to the compiler, and such that sums stay finite.
        let [factor, addend] = black_box([0.5, 1.0]).map(|value| simd.splat_f32s(value));
        let mut sums = [simd.splat_f32s(0.0); SUMS];
        for _ in 0..self.length {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(*sum, factor, addend);
            }
        }
        black_box(sums);
        S::F32_LANES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_are_those_of_a_machine() {
        let ceilings = measure_ceilings(1).unwrap();
        for value in [ceilings.flops, ceilings.bandwidth, 1.0 / ceilings.overhead] {
            assert!(value.is_finite() && value > 1.0, "{ceilings:?}");
        }
    }
}
