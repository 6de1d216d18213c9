//! What the device can do at best, measured, and what it would therefore take for a plan.

use crate::device::Device;
use crate::statistics::significant;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use sphereface_tensor::cpu::measure_ceilings;
use sphereface_tensor::op::Add;
use sphereface_tensor::roofline::{Machine, Precision};
use sphereface_tensor::{Error, Plan, Shape, Type};
use sphereface_testkit::cases::{Case, Fill};
use sphereface_testkit::{Tolerance, prepare_case};

/// Measured limits of a device.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// Fused multiply-adds in fp32 of one thread, in FLOP/s; unknown for a GPU.
    pub one_thread_flops: Option<f64>,
    /// The same of all threads in use.
    pub flops: Option<f64>,
    /// Bytes a second that a copy reads and writes.
    pub bytes: f64,
    /// Seconds to start a step; unknown for a GPU, and in runs of before it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead: Option<f64>,
}

/// Samples on a GPU, the best of which counts: a ceiling is what nothing disturbs.
const SAMPLES: usize = 7;
/// Floats of an array on a GPU: 256 MiB, past any cache.
const ADDED: usize = 64 << 20;

impl Ceilings {
    /// Seconds of a plan in fp32 on a machine that reaches the ceilings, by the roofline; none, where they are unknown.
    ///
    /// # Errors
    /// As [`Plan::predict`].
    pub fn predict(&self, plan: &Plan) -> Result<Option<f64>, Error> {
        let (Some(fp32), Some(overhead)) = (self.flops, self.overhead) else { return Ok(None) };
        let name = "the ceilings".into();
        let machine = Machine { name, fp32, tf32: None, bf16: None, bandwidth: self.bytes, overhead, memory: None };
        Ok(Some(significant(plan.predict(&machine, Precision::Fp32)?.seconds())))
    }
}

/// Measures the ceilings of this many threads, and of one.
///
/// # Errors
/// When threads or memory are missing.
pub fn cpu(threads: usize) -> Result<Ceilings> {
    let (one, all) = (measure_ceilings(1)?, measure_ceilings(threads)?);
    Ok(Ceilings {
        one_thread_flops: Some(significant(one.flops)),
        flops: Some(significant(all.flops)),
        bytes: significant(all.bandwidth),
        overhead: Some(significant(all.overhead)),
    })
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
    Ok(Ceilings { one_thread_flops: None, flops: None, bytes: significant(best), overhead: None })
}
