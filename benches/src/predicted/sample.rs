//! Full-size launches of which the emulator runs one block, and what the compiler made of kernels.

use crate::prepared::head_controls;
use anyhow::{Context, Result};
use sphereface_cuda::driver::Sample;
use sphereface_cuda::nvrtc::Architecture;
use sphereface_cuda::{CudaBackend, EmulatorDriver, Options, Precision};
use sphereface_tensor::{Backend, Plan};
use sphereface_testkit::workload::{Arithmetic, Task, Workload};
use std::collections::BTreeMap;
use std::path::Path;

/// What is predicted for.
pub(super) const HOPPER: Architecture = Architecture::specific(90);

/// What the compiler made of a kernel for sm_90a.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// Of a thread.
    pub registers: u32,
    /// In its machine code, as they stand there.
    pub instructions: u32,
    /// Those of tensor cores.
    pub products: u32,
}

/// The same of each kernel.
pub(super) type Kernels = BTreeMap<String, Compiled>;

/// Reads them from the table that `cargo xtask kernels --document` writes, for to compile all takes minutes.
pub(super) fn kernels(document: &Path) -> Result<Kernels> {
    let text = std::fs::read_to_string(document).with_context(|| document.display().to_string())?;
    let mut rows = text.lines().filter(|line| line.starts_with('|')).map(|line| line.split('|').map(str::trim).skip(1));
    let heads: Vec<&str> = rows.next().into_iter().flatten().collect();
    let column = |name: &str| {
        let found = heads.iter().position(|head| *head == name);
        found.with_context(|| format!("{}: expected a column {name}", document.display()))
    };
    let [registers, instructions, products] = [column("sm_90a")?, column("code")?, column("products")?];
    let compiled = rows.filter_map(|row| {
        let cells: Vec<&str> = row.collect();
        let number = |column: usize| cells.get(column)?.parse().ok();
        let [registers, instructions, products] = [number(registers)?, number(instructions)?, number(products)?];
        Some((cells.first()?.trim_matches('`').to_owned(), Compiled { registers, instructions, products }))
    });
    Ok(compiled.collect())
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
    // A backend narrows all but a single operator by itself.
    let plan = if work.case().is_some() { work.plan_in(arithmetic)? } else { work.plan()?.1 };
    let program = backend.lower(&plan)?;
    match (work, work.training()) {
        (Workload::Head { batch, .. }, _) => head_controls(&mut backend, 0, *batch)?,
        (Workload::Network { task: Task::Forward, .. }, Some(case)) => {
            case.upload_model(&work.plan()?.0, &mut backend)?
        }
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
