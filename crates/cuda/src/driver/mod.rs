//! What a backend needs of a device, and the two devices there are: a GPU behind cudarc, and the emulator.

mod cuda;
mod emulator;
mod gpu;
mod tensor_map;

pub use cuda::CudaDriver;
pub use emulator::{EmulatorDriver, Sample};
pub use gpu::{Gpu, gpus};
pub use sphereface_emulator::Counters;
pub use sphereface_emulator::Swizzle;
pub use tensor_map::TensorMap;

use crate::nvrtc::{Architecture, Output};
use std::time::Duration;

/// A module that a driver has loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModuleId(pub usize);

/// A kernel of a loaded module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FunctionId(pub usize);

/// Launches that a driver has captured, to be replayed as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GraphId(pub usize);

/// What a kernel does with a range of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It only reads.
    Read,
    /// It writes, and reads only what it wrote itself.
    Write,
    /// It reads and writes.
    Update,
}

/// One parameter of a kernel.
#[derive(Clone, Debug, PartialEq)]
pub enum Argument {
    /// An address, and what the kernel does with the bytes from there on. No bytes: an operand that is absent.
    Memory {
        /// Address in device memory.
        pointer: u64,
        /// Size of the range in bytes.
        bytes: u64,
        /// What is done with it.
        access: Access,
    },
    /// A tensor at an address, which the kernel copies box by box through its map.
    Tensor {
        /// Address in device memory of the first element; a multiple of 16.
        pointer: u64,
        /// Size of the range in bytes.
        bytes: u64,
        /// What is done with it.
        access: Access,
        /// The tensor.
        map: TensorMap,
    },
    /// A number or a structure, as it lies in memory.
    Value(Vec<u8>),
}

impl Argument {
    /// The same, wherever it lies.
    fn without_address(&self) -> Argument {
        let mut argument = self.clone();
        if let Argument::Memory { pointer, .. } | Argument::Tensor { pointer, .. } = &mut argument {
            *pointer = 0;
        }
        argument
    }
}

/// Extent of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block.
    pub shared_bytes: u32,
}

/// A device: memory, modules and launches in order. Messages of failure are one line.
pub trait Driver {
    /// The device in a few words, with its driver's version: where results were judged, it stands for both.
    fn name(&self) -> String;

    /// What to compile for.
    fn architecture(&self) -> Architecture;

    /// What [`load`](Driver::load) takes.
    fn output(&self) -> Output;

    /// Loads compiled kernels.
    ///
    /// # Errors
    /// When the image is none for this device.
    fn load(&mut self, image: &[u8]) -> Result<ModuleId, String>;

    /// A kernel by its name, allowed to have this much dynamic shared memory.
    ///
    /// # Errors
    /// When there is none of this name, or the device has less shared memory.
    fn function(&mut self, module: ModuleId, name: &str, shared_bytes: u32) -> Result<FunctionId, String>;

    /// Memory at a multiple of 256 bytes; uninitialised.
    ///
    /// # Errors
    /// When there is not enough; the message says how much is free.
    fn allocate(&mut self, bytes: u64) -> Result<u64, String>;

    /// Memory that is free, where the device can say.
    fn free_bytes(&self) -> Option<u64> {
        None
    }

    /// Ends an allocation.
    ///
    /// # Errors
    /// When none begins there.
    fn free(&mut self, pointer: u64) -> Result<(), String>;

    /// Copies to the device, after everything that was launched.
    ///
    /// # Errors
    /// When the device fails.
    fn upload(&mut self, pointer: u64, bytes: &[u8]) -> Result<(), String>;

    /// Copies from the device, after everything that was launched.
    ///
    /// # Errors
    /// When the device fails, or a launch before has.
    fn download(&mut self, pointer: u64, bytes: &mut [u8]) -> Result<(), String>;

    /// Starts a kernel; may return before it has finished.
    ///
    /// # Errors
    /// When the launch does not fit the device, or the device fails.
    fn launch(&mut self, function: FunctionId, extent: Extent, arguments: &[Argument]) -> Result<(), String>;

    /// Waits for all launches.
    ///
    /// # Errors
    /// When one of them failed.
    fn sync(&mut self) -> Result<(), String>;

    /// From here on launches are recorded, not run.
    ///
    /// # Errors
    /// When the device fails.
    fn begin_capture(&mut self) -> Result<(), String>;

    /// Ends the recording.
    ///
    /// # Errors
    /// When the device fails, or nothing was begun.
    fn end_capture(&mut self) -> Result<GraphId, String>;

    /// Runs what was recorded.
    ///
    /// # Errors
    /// When the device fails.
    fn replay(&mut self, graph: GraphId) -> Result<(), String>;

    /// Forgets a recording.
    fn forget_graph(&mut self, graph: GraphId);

    /// Notes the time at which everything launched so far has finished, as this event. Events are few and used again.
    ///
    /// # Errors
    /// When the device fails.
    fn record(&mut self, event: usize) -> Result<(), String>;

    /// Time from one event to a later one; waits for it.
    ///
    /// # Errors
    /// When one of them was never recorded, or the device fails.
    fn elapsed(&mut self, from: usize, to: usize) -> Result<Duration, String>;

    /// A table of what each kernel did so far, where the device counts it.
    fn profile(&self) -> Option<String> {
        None
    }
}
