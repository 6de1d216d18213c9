//! What a launch takes, from what one of its blocks does.

use super::sample::{Compiled, HOPPER, Kernels};
use crate::record::Run;
use anyhow::{Context, Result};
use sphereface_cuda::driver::{Access, Argument, Counters, Sample};
use sphereface_cuda::resources::occupancy;
use sphereface_tensor::Plan;
use sphereface_tensor::roofline::{MACHINES, Machine, Precision};

/// Multiprocessors of an H100 or H200 SXM, and floating-point operations that the tensor cores of one do in a cycle in bf16.
///
/// # Source
/// NVIDIA, H100 Tensor Core GPU architecture white paper.
const PROCESSORS: f64 = 132.0;
const TENSOR_FLOPS: f64 = 4096.0;
/// The share of these that `mma.sync` reaches.
///
/// # Source
/// Luo et al. 2024, Benchmarking and dissecting the Nvidia Hopper GPU architecture: 62.9% on average.
const MMA_SHARE: f64 = 0.629;
/// Instructions that the four schedulers of a multiprocessor issue in a cycle, and bytes that its shared memory moves.
///
/// # Source
/// CUDA C++ Programming Guide, compute capability 9.0.
const ISSUES: f64 = 4.0;
const SHARED_BYTES: f64 = 128.0;
/// Bytes that a multiprocessor gets from the second-level cache in a cycle.
///
/// # Source
/// Chips and Cheese 2023, Nvidia's H100: Funny L2, and Tons of Bandwidth: 5.5 to 5.7 TB/s on 114 at 1,755 MHz.
const L2_BYTES: f64 = 28.0;
/// Warps that a multiprocessor can keep.
const MOST_WARPS: f64 = 64.0;
/// Cycles from one instruction of a warp to the next, where nothing else is in its way.
const DEPENDENT: f64 = 4.0;
/// Seconds from the end of a launch's blocks to the first work of the next one's, and until its pipeline is full. An
/// assumption, the same for all.
const START: f64 = 2.0e-6;

/// What a launch waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Its start.
    Start,
    /// Tensor cores.
    Tensor,
    /// Shared memory.
    Shared,
    /// Slots in which schedulers issue.
    Issue,
    /// One instruction of a warp after the other.
    Latency,
    /// The second-level cache.
    L2,
    /// Memory.
    Memory,
}

impl Limit {
    /// All.
    pub const ALL: [Limit; 7] =
        [Limit::Start, Limit::Tensor, Limit::Shared, Limit::Issue, Limit::Latency, Limit::L2, Limit::Memory];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Tensor => "tensor cores",
            Limit::Shared => "shared memory",
            Limit::Issue => "issue",
            Limit::Latency => "latency",
            Limit::L2 => "L2",
            Limit::Memory => "memory",
            Limit::Start => "start",
        }
    }
}

/// A launch with its time.
#[derive(Clone, Debug)]
pub struct Timed {
    /// Name of the kernel.
    pub kernel: String,
    /// What the compiler made of it, if that is known.
    pub compiled: Option<Compiled>,
    /// Seconds for which it would wait for each if there were nothing else.
    pub limits: [f64; Limit::ALL.len()],
    /// Blocks over those that all multiprocessors get if each gets as many as the busiest.
    pub balance: f64,
    /// Multiplications and additions of all blocks on tensor cores.
    pub multiplied: f64,
}

impl Timed {
    /// What it waits for the longest, but for its start.
    pub fn limit(&self) -> Limit {
        let longest = Limit::ALL[1..]
            .iter()
            .max_by(|left, right| self.limits[**left as usize].total_cmp(&self.limits[**right as usize]));
        *longest.unwrap_or(&Limit::Start)
    }

    /// Seconds: the start, then the longest of the others, beside which there is time for these.
    pub fn seconds(&self) -> f64 {
        self.limits[Limit::Start as usize] + self.limits[self.limit() as usize]
    }

    /// Seconds that are this limit's.
    pub fn waits(&self, limit: Limit) -> f64 {
        if [Limit::Start, self.limit()].contains(&limit) { self.limits[limit as usize] } else { 0.0 }
    }
}

/// The machine that a run was recorded on, at its best and as it was seen.
#[derive(Clone, Debug)]
pub struct Chip {
    /// By its data sheet.
    pub machine: Machine,
    /// Operations a second of the run's fastest product in bf16: what the card's power allows.
    pub sustained: f64,
    /// Bytes a second of the run's copies.
    pub bytes: f64,
}

impl Chip {
    /// The chip of a run on a GPU.
    ///
    /// # Errors
    /// When the run is of another machine, or timed no product in bf16.
    pub fn of(run: &Run) -> Result<Chip> {
        let name = run.machine.gpu.as_deref().unwrap_or_default();
        let known =
            MACHINES.into_iter().find(|(key, _)| ["h100", "h200"].contains(key) && name.contains(&key.to_uppercase()));
        let (_, machine) = known.with_context(|| format!("{}: expected a run on an H100 or H200", run.name))?;
        let products = run.cases.iter().filter(|case| case.group == "gemm" && case.name.ends_with("bf16"));
        let rates = products.filter_map(|case| {
            let [ours, best] = [case.ours, case.best().and_then(|rival| rival.seconds)];
            let seconds = [ours, best].into_iter().flatten().map(|spread| spread.median).reduce(f64::min)?;
            Some(case.flops_nominal as f64 / seconds)
        });
        let sustained = rates.reduce(f64::max).with_context(|| format!("{}: expected gemm in bf16", run.name))?;
        Ok(Chip { machine, sustained, bytes: run.ceilings.bytes })
    }

    /// Cycles a second that the data sheet's rate means, and those at which tensor cores are kept busy.
    pub fn clocks(&self) -> [f64; 2] {
        let peak = self.machine.bf16.unwrap_or(self.sustained);
        [peak, self.sustained].map(|rate| rate / (PROCESSORS * TENSOR_FLOPS))
    }

    /// Seconds of a plan at best, step by step, by the data sheet.
    ///
    /// # Errors
    /// As [`Plan::predict`].
    pub fn floor(&self, plan: &Plan, precision: Precision) -> Result<f64> {
        Ok(plan.predict(&Machine { overhead: 0.0, ..self.machine.clone() }, precision)?.seconds())
    }

    /// Seconds of a launch.
    pub(super) fn time(&self, launch: &Sample, kernels: &Kernels) -> Timed {
        let Sample { kernel, extent, arguments, block } = launch;
        let threads: u32 = extent.block.iter().product();
        let warps = f64::from(threads.div_ceil(32));
        // Blocks of a multiprocessor; one, of a kernel that is not in the table.
        let compiled = kernels.get(kernel).copied();
        let resident = compiled.map_or(1.0, |compiled| {
            (occupancy(HOPPER, threads, compiled.registers, extent.shared_bytes) * MOST_WARPS / warps).round().max(1.0)
        });
        let blocks: f64 = extent.grid.iter().map(|&extent| f64::from(extent)).product();
        // Of the busiest multiprocessor.
        let own = (blocks / PROCESSORS).ceil();
        let is_tf32 = kernel.contains("tf32");
        let per_cycle = if is_tf32 { TENSOR_FLOPS / 2.0 } else { TENSOR_FLOPS };
        let tensor = (block.wgmma_flops as f64 + block.mma_flops as f64 / MMA_SHARE) / per_cycle;
        let shared = [block.wgmma_shared_bytes, block.shared_bytes, block.bulk_read_bytes, block.bulk_written_bytes];
        let shared = shared.iter().sum::<u64>() as f64 / SHARED_BYTES + block.bank_conflicts as f64;
        let instructions = block.instructions() as f64;
        let clock = self.clocks()[usize::from(tensor > 0.0)];
        let of_processor = |cycles: f64| own * cycles / clock;
        let moved = blocks * global_bytes(block);
        let limits = [
            START,
            of_processor(tensor),
            of_processor(shared),
            of_processor(instructions / ISSUES),
            (own / resident).ceil() * DEPENDENT * instructions / warps / clock,
            moved / (PROCESSORS * L2_BYTES * self.clocks()[0]),
            operand_bytes(arguments).min(moved) / self.bytes,
        ];
        Timed {
            kernel: kernel.clone(),
            compiled,
            limits,
            balance: blocks / (own * PROCESSORS),
            multiplied: blocks * (block.wgmma_flops + block.mma_flops) as f64,
        }
    }
}

/// Bytes between a block and the second-level cache.
fn global_bytes(block: &Counters) -> f64 {
    (32 * block.global_sectors + block.bulk_read_bytes + block.bulk_written_bytes) as f64
}

/// Bytes of the operands of a launch, each moved once, or twice where it is updated.
fn operand_bytes(arguments: &[Argument]) -> f64 {
    let moved = |argument: &Argument| match argument {
        Argument::Memory { bytes, access, .. } | Argument::Tensor { bytes, access, .. } => {
            bytes * if *access == Access::Update { 2 } else { 1 }
        }
        Argument::Value(_) => 0,
    };
    arguments.iter().map(moved).sum::<u64>() as f64
}
