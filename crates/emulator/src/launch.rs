//! A launch: its arguments checked, its blocks spread over host threads, its counts summed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use rayon::prelude::*;

use crate::cluster::Cluster;
use crate::counters::Counters;
use crate::decode::Program;
use crate::memory::{MAX_BLOCKS, Memory};
use crate::module::Module;
use crate::{Fault, FaultKind};

/// A value for a parameter of a kernel.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Argument {
    /// An address in global memory.
    Pointer(u64),
    /// A whole number of 32 bits.
    U32(u32),
    /// A signed number of 32 bits.
    I32(i32),
    /// A whole number of 64 bits.
    U64(u64),
    /// A signed number of 64 bits.
    I64(i64),
    /// A floating-point number of 32 bits.
    F32(f32),
    /// A floating-point number of 64 bits.
    F64(f64),
    /// A structure, as it lies in memory.
    Bytes(Vec<u8>),
}

impl Argument {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Argument::Pointer(value) | Argument::U64(value) => value.to_le_bytes().to_vec(),
            Argument::U32(value) => value.to_le_bytes().to_vec(),
            Argument::I32(value) => value.to_le_bytes().to_vec(),
            Argument::I64(value) => value.to_le_bytes().to_vec(),
            Argument::F32(value) => value.to_le_bytes().to_vec(),
            Argument::F64(value) => value.to_le_bytes().to_vec(),
            Argument::Bytes(bytes) => bytes.clone(),
        }
    }
}

/// Bytes of global memory that a launch may touch, and how.
///
/// Many buffers may lie in one allocation, whose bounds then say little. Ranges say what each argument stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Where it begins.
    pub pointer: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// What the kernel does with it.
    pub access: Access,
}

/// What a kernel does with a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It only reads.
    Read,
    /// It writes, and reads only what it wrote itself: the range is uninitialised when the launch begins.
    Write,
    /// It reads and writes.
    Update,
}

/// Everything that the blocks of one launch share.
pub(crate) struct Launch<'a> {
    pub(crate) module: &'a Module,
    pub(crate) program: &'a Program,
    pub(crate) memory: &'a Memory,
    /// Addresses of the module's variables.
    pub(crate) variables: &'a [u64],
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    /// Blocks of a cluster.
    pub(crate) cluster: [u32; 3],
    pub(crate) dynamic_shared_bytes: u64,
    pub(crate) parameters: Vec<u8>,
    /// What the launch may touch, by address; everything if it is not given.
    pub(crate) ranges: Option<Vec<Range>>,
    /// More instructions than a warp of a kernel that ends executes.
    pub(crate) most_instructions: u64,
    /// 1 to 255; tells writes of this launch from earlier ones.
    pub(crate) number: u8,
    /// Changes whenever a warp anywhere gets ahead.
    pub(crate) progress: AtomicU64,
    /// Some block has failed: the others stop.
    pub(crate) stopped: AtomicBool,
}

impl Launch<'_> {
    /// Whether a range allows the access.
    #[inline]
    pub(crate) fn check_declared(&self, address: u64, bytes: u32, write: bool) -> Result<(), FaultKind> {
        let Some(ranges) = &self.ranges else {
            return Ok(());
        };
        let holds = |range: &&Range| {
            address
                .checked_sub(range.pointer)
                .is_some_and(|offset| offset.saturating_add(u64::from(bytes)) <= range.bytes)
        };
        // Few ranges; a loop is as good as a search, and they may overlap.
        let mut found = ranges.iter().filter(holds).peekable();
        if found.peek().is_none() {
            let access = if write { "write" } else { "read" };
            return Err(FaultKind::Undeclared { access, address, bytes });
        }
        if write && found.all(|range| range.access == Access::Read) {
            return Err(FaultKind::ReadOnly { address });
        }
        Ok(())
    }

    /// Threads of a block.
    pub(crate) fn block_threads(&self) -> u32 {
        self.block.iter().product()
    }

    /// Static and dynamic shared memory of a block.
    pub(crate) fn shared_bytes(&self) -> u64 {
        self.program.static_shared_bytes + self.dynamic_shared_bytes
    }

    /// The index of a thread from its linear one.
    pub(crate) fn thread(&self, linear: u32) -> [u32; 3] {
        let [x, y, _] = self.block;
        [linear % x, linear / x % y, linear / (x * y)]
    }

    /// The places in the grid of a cluster's blocks, by rank.
    pub(crate) fn cluster_blocks(&self, number: u32) -> Vec<[u32; 3]> {
        let split = |number: u32, [x, y, _]: [u32; 3]| [number % x, number / x % y, number / x / y];
        let clusters: [u32; 3] = std::array::from_fn(|axis| self.grid[axis] / self.cluster[axis]);
        let first = split(number, clusters);
        let place = |rank| {
            let inside = split(rank, self.cluster);
            std::array::from_fn(|axis| first[axis] * self.cluster[axis] + inside[axis])
        };
        (0..self.cluster.iter().product()).map(place).collect()
    }

    fn clusters(&self) -> u32 {
        let pairs = self.grid.iter().zip(&self.cluster);
        pairs.map(|(blocks, cluster)| blocks / cluster).product()
    }

    /// Runs the first cluster and the middle one; the counts of the busier one, which multiplies more or else has more
    /// instructions, for one of its blocks.
    pub(crate) fn sample(&self) -> Result<Counters, Fault> {
        let clusters = self.clusters();
        let numbers: &[u32] = if clusters > 1 { &[0, clusters / 2] } else { &[0] };
        let runs: Result<Vec<Counters>, _> =
            numbers.par_iter().map(|&number| Cluster::default().run(self, number)).collect();
        let work = |counters: &Counters| (counters.mma_flops + counters.wgmma_flops, counters.instructions());
        let busiest = runs.map_err(|(_, fault)| *fault)?.into_iter().max_by_key(work);
        Ok(busiest.unwrap_or_default().divided(self.cluster.iter().product::<u32>().into()))
    }

    /// Runs all blocks. Of several faults the one of the lowest block is reported.
    pub(crate) fn run(&self) -> Result<Counters, Fault> {
        let outcome = (0..self.clusters())
            .into_par_iter()
            .map_init(Cluster::default, |cluster, number| {
                if self.stopped.load(Relaxed) {
                    return Ok(Counters::default());
                }
                let result = cluster.run(self, number);
                if result.is_err() {
                    self.stopped.store(true, Relaxed);
                }
                result
            })
            .fold(|| Ok(Counters::default()), merge)
            .reduce(|| Ok(Counters::default()), merge);
        outcome.map_err(|(_, fault)| *fault)
    }
}

type Outcome = Result<Counters, (u32, Box<Fault>)>;

fn merge(first: Outcome, second: Outcome) -> Outcome {
    match (first, second) {
        (Ok(mut sum), Ok(more)) => {
            sum.add(&more);
            Ok(sum)
        }
        (Err(first), Err(second)) => Err(if second.0 < first.0 { second } else { first }),
        (Err(first), _) => Err(first),
        (_, Err(second)) => Err(second),
    }
}

/// Checks the arguments against the parameters and lays them out.
pub(crate) fn pack(program: &Program, arguments: &[Argument]) -> Result<Vec<u8>, FaultKind> {
    let expected = program.parameters.len();
    if arguments.len() != expected {
        let what = format!("kernel `{}` has {expected} parameters, {} arguments given", program.name, arguments.len());
        return Err(FaultKind::Arguments(what));
    }
    let mut packed = Vec::new();
    for (index, (parameter, argument)) in program.parameters.iter().zip(arguments).enumerate() {
        let bytes = argument.bytes();
        if bytes.len() as u64 != parameter.bytes {
            let (name, size) = (&program.name, parameter.bytes);
            let what = format!("parameter {index} of kernel `{name}` has {size} bytes, {} given", bytes.len());
            return Err(FaultKind::Arguments(what));
        }
        packed.resize(parameter.offset as usize, 0);
        packed.extend(bytes);
    }
    Ok(packed)
}

/// Checks grid, block and shared memory against the architecture and the kernel.
pub(crate) fn check_shape(
    program: &Program,
    grid: [u32; 3],
    block: [u32; 3],
    dynamic_shared_bytes: u64,
    target: u32,
    more_shared_allowed: bool,
) -> Result<(), FaultKind> {
    let shape = |what: String| Err(FaultKind::Shape(what));
    let threads: u64 = block.iter().map(|extent| u64::from(*extent)).product();
    let blocks = grid.iter().fold(1_u64, |product, extent| product.saturating_mul(u64::from(*extent)));
    if threads == 0 || blocks == 0 {
        return shape(format!("an empty launch: grid {grid:?}, block {block:?}"));
    }
    if threads > 1024 || block[2] > 64 {
        return shape(format!("a block of {block:?} threads; at most 1024, and 64 in z"));
    }
    if blocks > MAX_BLOCKS || grid[1] > 65_535 || grid[2] > 65_535 {
        return shape(format!("a grid of {grid:?} blocks; at most {MAX_BLOCKS}, and 65535 in y and z"));
    }
    if let Some(most) = program.max_threads.filter(|most| threads > *most) {
        return shape(format!("a block of {threads} threads; kernel `{}` is bound to {most}", program.name));
    }
    if let Some(required) = program.required.filter(|required| block.map(u64::from) != *required) {
        return shape(format!("a block of {block:?} threads; kernel `{}` requires {required:?}", program.name));
    }
    let cluster = program.cluster;
    let size = cluster.iter().fold(1_u32, |size, extent| size.saturating_mul(*extent));
    if size > 8 || grid.iter().zip(&cluster).any(|(blocks, cluster)| blocks % cluster != 0) {
        return shape(format!("clusters of {cluster:?} blocks in a grid of {grid:?}; at most 8, and whole ones"));
    }
    if program.local_bytes > 512 << 10 {
        return shape(format!("{} bytes of local memory a thread; at most 512 KB", program.local_bytes));
    }
    let bytes = program.static_shared_bytes.saturating_add(dynamic_shared_bytes);
    let limit = shared_limit(target);
    if bytes > limit {
        return Err(FaultKind::SharedTooLarge { bytes, limit, target });
    }
    if bytes > 48 << 10 && !more_shared_allowed {
        return Err(FaultKind::SharedNeedsAttribute { bytes });
    }
    Ok(())
}

/// The most shared memory that kernels here may use in a block, in bytes.
///
/// sm_80 has 163 KB by itself, but its code also serves sm_86, sm_89 and sm_120, which have 99 KB.
fn shared_limit(target: u32) -> u64 {
    match target {
        90 | 100..=110 => 227 << 10,
        75 => 64 << 10,
        _ => 99 << 10,
    }
}
