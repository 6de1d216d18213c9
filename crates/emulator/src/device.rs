//! The device: memory, modules' variables, and launches.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::counters::Counters;
use crate::launch::{Access, Argument, Launch, Range, check_shape, pack};
use crate::memory::Memory;
use crate::module::Module;
use crate::ptx::Space;
use crate::{Fault, FaultKind};

/// An emulated GPU.
#[derive(Debug, Default)]
pub struct Device {
    memory: Memory,
    /// Addresses of the variables of each module used here.
    variables: HashMap<u64, Vec<u64>>,
    /// Kernels that may have more than 48 KB of shared memory.
    more_shared: HashSet<(u64, String)>,
    target: Option<u32>,
    most_instructions: Option<u64>,
    launches: u8,
}

/// Instructions of one warp after which a launch is taken for endless: minutes of work.
const MOST_INSTRUCTIONS: u64 = 1 << 32;

impl Device {
    /// A device of the architecture that each module names.
    pub fn new() -> Self {
        Device::default()
    }

    /// A device of one architecture: 80 for `sm_80`. It limits the shared memory of a block.
    pub fn with_target(target: u32) -> Self {
        Device { target: Some(target), ..Device::default() }
    }

    /// Ends every later launch with [`FaultKind::Endless`] once a warp has executed so many instructions (2³² by default).
    pub fn limit_instructions(&mut self, most: u64) {
        self.most_instructions = Some(most);
    }

    /// Uninitialised global memory; its address is a multiple of 256.
    pub fn allocate(&mut self, bytes: u64) -> u64 {
        self.memory.allocate(bytes, &[], false, false)
    }

    /// Global memory full of zeros; what nobody touches takes little of the host's.
    pub fn allocate_zeroed(&mut self, bytes: u64) -> u64 {
        self.memory.allocate(bytes, &[], true, false)
    }

    /// Global memory with the bytes.
    pub fn allocate_with(&mut self, bytes: &[u8]) -> u64 {
        self.memory.allocate(bytes.len() as u64, bytes, false, false)
    }

    /// Ends an allocation.
    ///
    /// # Errors
    /// If none begins at this address.
    pub fn free(&mut self, pointer: u64) -> Result<(), Fault> {
        if self.memory.free(pointer) {
            return Ok(());
        }
        Err(FaultKind::OutOfBounds { access: "free", address: pointer, bytes: 0, nearest: None }.into())
    }

    /// Copies bytes to global memory.
    ///
    /// # Errors
    /// If the range is not inside of one allocation.
    pub fn upload(&mut self, pointer: u64, bytes: &[u8]) -> Result<(), Fault> {
        let (allocation, offset) = self.memory.find(pointer, length(bytes.len()), "upload", &mut 0)?;
        allocation.fill(offset, bytes);
        Ok(())
    }

    /// Copies bytes from global memory.
    ///
    /// # Errors
    /// If the range is not inside of one allocation, or was never written.
    pub fn download(&self, pointer: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        let (allocation, offset) = self.memory.find(pointer, length(bytes.len()), "download", &mut 0)?;
        if let Some(at) = allocation.uninitialised(offset, bytes.len() as u64) {
            return Err(FaultKind::Uninitialised { address: allocation.base + at }.into());
        }
        allocation.read(offset, bytes);
        Ok(())
    }

    /// Makes bytes of global memory uninitialised again: a buffer's life begins anew.
    ///
    /// # Errors
    /// If the range is not inside of one allocation.
    pub fn forget(&mut self, pointer: u64, bytes: u64) -> Result<(), Fault> {
        let size = u32::try_from(bytes).unwrap_or(u32::MAX);
        let (allocation, offset) = self.memory.find(pointer, size, "range", &mut 0)?;
        allocation.forget(offset, bytes);
        Ok(())
    }

    /// Address and size of a variable of a module.
    pub fn global(&mut self, module: &Module, name: &str) -> Option<(u64, u64)> {
        let index = module.variables.iter().position(|one| one.name == name && Module::in_memory(one))?;
        Some((self.install(module)[index], module.variables[index].bytes))
    }

    /// Sets the attribute that lets a kernel have more than 48 KB of shared memory.
    pub fn allow_more_shared(&mut self, module: &Module, kernel: &str) {
        self.more_shared.insert((module.number, kernel.to_owned()));
    }

    /// Runs a kernel to its end.
    ///
    /// # Units
    /// `grid` in blocks, `block` in threads, `shared_bytes` of dynamic shared memory.
    ///
    /// # Errors
    /// If the launch does not fit the kernel or the architecture, and at the first thing the kernel does wrong.
    pub fn launch(
        &mut self,
        module: &Module,
        kernel: &str,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: u64,
        arguments: &[Argument],
    ) -> Result<Counters, Fault> {
        self.run(module, kernel, [grid, block], shared_bytes, arguments, None, false)
    }

    /// Runs the first cluster of a launch and the one in the middle of its grid, and returns what a block of the busier one
    /// did, which multiplies more or else has more instructions. Where blocks share out the work, the first has the most;
    /// where each has a tile, the middle one has no border.
    ///
    /// # Errors
    /// As [`launch`](Self::launch).
    pub fn sample(
        &mut self,
        module: &Module,
        kernel: &str,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: u64,
        arguments: &[Argument],
    ) -> Result<Counters, Fault> {
        self.run(module, kernel, [grid, block], shared_bytes, arguments, None, true)
    }

    /// Runs a kernel that may touch only the ranges, each as it says.
    ///
    /// # Errors
    /// As [`launch`](Self::launch), and at the first access that no range allows. A range outside of every allocation is
    /// an error too.
    #[expect(clippy::too_many_arguments, reason = "a launch and its ranges")]
    pub fn launch_within(
        &mut self,
        module: &Module,
        kernel: &str,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: u64,
        arguments: &[Argument],
        ranges: &[Range],
    ) -> Result<Counters, Fault> {
        let mut ranges = ranges.to_vec();
        for range in ranges.iter().filter(|range| range.bytes > 0) {
            let bytes = u32::try_from(range.bytes).unwrap_or(u32::MAX);
            let (allocation, offset) = self.memory.find(range.pointer, bytes, "range", &mut 0)?;
            if range.access == Access::Write {
                allocation.forget(offset, range.bytes);
            }
        }
        let addresses = self.install(module).to_vec();
        for (variable, pointer) in module.variables.iter().zip(addresses).filter(|(one, _)| Module::in_memory(one)) {
            let access = if variable.space == Space::Const { Access::Read } else { Access::Update };
            ranges.push(Range { pointer, bytes: variable.bytes, access });
        }
        self.run(module, kernel, [grid, block], shared_bytes, arguments, Some(ranges), false)
    }

    #[expect(clippy::too_many_arguments, reason = "a launch, its ranges, and whether it is a sample")]
    fn run(
        &mut self,
        module: &Module,
        kernel: &str,
        [grid, block]: [[u32; 3]; 2],
        shared_bytes: u64,
        arguments: &[Argument],
        ranges: Option<Vec<Range>>,
        is_sample: bool,
    ) -> Result<Counters, Fault> {
        let program = module.program(kernel).ok_or_else(|| FaultKind::NoKernel(kernel.to_owned()))?;
        let more_shared = self.more_shared.contains(&(module.number, kernel.to_owned()));
        let target = self.target.unwrap_or(module.target);
        check_shape(program, grid, block, shared_bytes, target, more_shared)?;
        let parameters = pack(program, arguments)?;
        let variables = self.install(module).to_vec();
        if self.launches == u8::MAX {
            self.memory.forget_writers();
            self.launches = 0;
        }
        self.launches += 1;
        let launch = Launch {
            module,
            program,
            memory: &self.memory,
            variables: &variables,
            grid,
            block,
            cluster: program.cluster,
            dynamic_shared_bytes: shared_bytes,
            parameters,
            ranges,
            number: self.launches,
            most_instructions: self.most_instructions.unwrap_or(MOST_INSTRUCTIONS),
            progress: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        };
        if is_sample { launch.sample() } else { launch.run() }
    }

    /// Gives a module's variables their memory, once.
    fn install(&mut self, module: &Module) -> &[u64] {
        let memory = &mut self.memory;
        self.variables.entry(module.number).or_insert_with(|| {
            let place = |variable: &crate::ptx::Variable| {
                if !Module::in_memory(variable) {
                    return 0;
                }
                memory.allocate(variable.bytes, &variable.initial, true, variable.space == Space::Const)
            };
            module.variables.iter().map(place).collect()
        })
    }
}

/// A length that an access can have; a longer one fits no allocation.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
