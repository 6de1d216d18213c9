//! Full-size launches of which the emulator runs one block, and registers from the compiler.

use crate::prepared::head_controls;
use anyhow::{Context, Result, anyhow};
use sphereface_cuda::cache::{Cache, Job};
use sphereface_cuda::driver::Sample;
use sphereface_cuda::nvrtc::{Architecture, Nvrtc, Output};
use sphereface_cuda::resources::{Resources, read_log};
use sphereface_cuda::{CudaBackend, EmulatorDriver, Options, Precision, units};
use sphereface_tensor::{Backend, Plan};
use sphereface_testkit::plan_of_case;
use sphereface_testkit::workload::{Arithmetic, Workload};
use std::collections::BTreeMap;

/// What is predicted for.
pub(super) const HOPPER: Architecture = Architecture::specific(90);

/// What each kernel takes of a multiprocessor; of those that units share a name of, the hungriest.
pub(super) type Registers = BTreeMap<String, Resources>;

/// What the compiler says of every kernel.
pub(super) fn registers() -> Result<Registers> {
    Nvrtc::find().map_err(|error| anyhow!("prediction: {error}"))?;
    let cache = Cache::of_user();
    let mut registers = Registers::new();
    for unit in &units() {
        let compiled =
            cache.get(Job { unit, architecture: HOPPER, output: Output::Cubin }).map_err(anyhow::Error::msg)?;
        for kernel in read_log(&compiled.log).0 {
            let known = registers.entry(kernel.kernel.clone()).or_insert_with(|| kernel.clone());
            if known.registers < kernel.registers {
                *known = kernel;
            }
        }
    }
    Ok(registers)
}

/// A workload as a GPU would be given it.
pub(super) struct Sampled {
    /// The plan, before it is narrowed.
    pub(super) plan: Plan,
    /// Launches of a run that is not the first, in order.
    pub(super) launches: Vec<Sample>,
    /// All that lives within a run, and scratch memory.
    pub(super) arena_bytes: u64,
}

/// Lowers a workload at its full size and runs a block of each launch.
pub(super) fn sampled(work: &Workload, arithmetic: Arithmetic) -> Result<Sampled> {
    let precision = if arithmetic == Arithmetic::Tf32 { Precision::Tf32 } else { Precision::Bf16 };
    let options = Options { precision, ..Options::default() };
    let mut backend = CudaBackend::new(EmulatorDriver::sampling(HOPPER), options);
    let plan = match work.case() {
        Some((case, _)) if arithmetic == Arithmetic::Bf16 => plan_of_case(&case.in_bf16().unwrap_or(case))?,
        _ => work.plan()?.1,
    };
    let program = backend.lower(&plan)?;
    match (work, work.training()) {
        (Workload::Head { batch, .. }, _) => head_controls(&mut backend, 0, *batch)?,
        (_, Some(case)) => case.upload(&work.plan()?.0, &mut backend)?,
        _ => {}
    }
    backend.run(program, 1)?; // It makes the copies of parameters that later runs keep up.
    let first = backend.driver().samples().len();
    backend.run(program, 1)?;
    let launches = backend.driver().samples()[first..].to_vec();
    let arena_bytes = backend.arena_bytes();
    (!launches.is_empty()).then_some(()).context("expected launches, found none")?;
    Ok(Sampled { plan, launches, arena_bytes })
}
