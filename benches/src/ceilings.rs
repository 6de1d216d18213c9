//! What the processor can do at best, measured: fused multiply-adds in registers, and copies of memory.

use crate::device::Device;
use anyhow::Result;
use pulp::{Arch, Simd, WithSimd};
use serde::{Deserialize, Serialize};
use sphereface_tensor::op::Add;
use sphereface_tensor::{Shape, Type};
use sphereface_testkit::cases::{Case, Fill};
use sphereface_testkit::{Tolerance, prepare_case};
use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

/// Measured limits of a device.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// Fused multiply-adds in fp32 of one thread, in FLOP/s; unknown for a GPU.
    pub one_thread_flops: Option<f64>,
    /// The same of all threads in use.
    pub flops: Option<f64>,
    /// Bytes a second that a copy reads and writes.
    pub bytes: f64,
}

/// Independent sums: enough for the latency of two units, and with two operands more they fit 16 registers.
const CHAINS: usize = 12;
/// Samples, the best of which counts: a ceiling is what nothing disturbs.
const SAMPLES: usize = 7;
/// Multiply-adds of a chain in one sample: some tens of milliseconds.
const LENGTH: usize = 10_000_000;
/// Floats that each thread copies: past any cache, both arrays together 128 MiB.
const COPIED: usize = 16 << 20;

/// Floats of an array on a GPU: 256 MiB, past any cache.
const ADDED: usize = 64 << 20;

/// Measures the ceilings of this many threads.
pub fn cpu(threads: usize) -> Ceilings {
    Ceilings {
        one_thread_flops: Some(best(1, || || multiply_adds(LENGTH))),
        flops: Some(best(threads, || || multiply_adds(LENGTH))),
        bytes: best(threads, || {
            let (from, mut to) = (vec![1.0f32; COPIED], vec![0.0f32; COPIED]);
            move || {
                to.copy_from_slice(black_box(&from));
                black_box(&to);
                2.0 * size_of_val(from.as_slice()) as f64
            }
        }),
    }
}

/// Measures the ceiling of a GPU: a sum of two arrays, of which two are read and one is written.
///
/// # Errors
/// When the device fails.
pub fn gpu(device: &mut dyn Device) -> Result<Ceilings> {
    let x = || (Type::f32(Shape::activation(1, 1, ADDED / 1024, 1024)), Fill::Constant(1.0));
    let case = Case {
        name: "ceiling".into(),
        op: Add.into(),
        reads: vec![x(), x()],
        updates: vec![],
        tolerance: Tolerance::Largest(1e-6),
    };
    let prepared = prepare_case(&case, device.backend())?;
    let bytes = prepared.plan.total_cost().bytes as f64;
    device.seconds(&[prepared.program], 3)?; // Kernels are compiled, graphs captured, clocks up.
    let mut best = 0.0f64;
    for _ in 0..SAMPLES {
        best = best.max(10.0 * bytes / device.seconds(&[prepared.program], 10)?);
    }
    Ok(Ceilings { one_thread_flops: None, flops: None, bytes: best })
}

/// The highest rate of all threads together; each prepares its work, then all do it at the same time.
fn best<W: FnMut() -> f64>(threads: usize, prepare: impl Fn() -> W + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    let run = || {
        let mut work = prepare();
        let sample = |_| {
            barrier.wait();
            let start = Instant::now();
            let done = work();
            done / start.elapsed().as_secs_f64()
        };
        (0..SAMPLES).map(sample).collect::<Vec<f64>>()
    };
    let rates: Vec<Vec<f64>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        handles.into_iter().filter_map(|handle| handle.join().ok()).collect()
    });
    let together = |sample: usize| rates.iter().map(|rates| rates[sample]).sum::<f64>();
    (0..SAMPLES).map(together).fold(0.0, f64::max)
}

/// Multiply-adds in registers, and nothing else; returns how many operations they were.
fn multiply_adds(length: usize) -> f64 {
    let lanes = Arch::new().dispatch(Chains { length });
    (2 * CHAINS * length * lanes) as f64
}

struct Chains {
    length: usize,
}

impl WithSimd for Chains {
    /// Lanes of a vector.
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        // The compiler must not know the numbers, or it would find the sums to be equal.
        let (factor, addend) = (simd.splat_f32s(black_box(0.999)), simd.splat_f32s(black_box(0.001)));
        let mut sums: [S::f32s; CHAINS] = std::array::from_fn(|chain| simd.splat_f32s(black_box(chain as f32)));
        for _ in 0..self.length {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(*sum, factor, addend);
            }
        }
        let total = sums.into_iter().fold(simd.splat_f32s(0.0), |total, sum| simd.add_f32s(total, sum));
        black_box(simd.reduce_sum_f32s(total));
        S::F32_LANES
    }
}
