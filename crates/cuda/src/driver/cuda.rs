//! A GPU, through the driver that NVIDIA installs. The library is loaded at run time: building needs none.

use super::gpu::{attribute, driver_version, gpus, installed_driver, is_of_a_kernel, named, target};
use super::{Argument, Driver, Extent, FunctionId, GraphId, ModuleId};
use crate::nvrtc::{Architecture, Nvrtc, Output};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute, CUfunction_attribute, CUresult};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, c_void};
use std::time::Duration;

/// First driver that can say how large a kernel's parameters are: 12.4.
const TELLS_PARAMETERS: i32 = 12_040;
/// First driver whose graphs let launches overlap: 12.3. First compute capability that can, and the name that the image of
/// kernels that do has in it, as PTX and as machine code: see kernels/common.cuh.
const OVERLAPS: (i32, u32, &[u8]) = (12_030, 90, b"kernels_overlap");
/// Shared memory that a block may have without asking for more.
const PLAIN_SHARED_BYTES: u32 = 48 * 1024;
/// More parameters than any kernel of ours has.
const MOST_PARAMETERS: usize = 40;
/// Launches that are named when one of them has failed.
const REMEMBERED: usize = 8;

struct Function {
    handle: sys::CUfunction,
    name: String,
    /// Sizes of the parameters, where the driver can say.
    parameters: Option<Vec<usize>>,
    /// Whether it may begin before the launch before has ended.
    overlaps: bool,
}

#[derive(Clone, Copy)]
enum Started {
    Kernel(FunctionId),
    Graph,
}

/// Runs kernels on a GPU: one stream of its own, in order.
pub struct CudaDriver {
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    name: String,
    architecture: Architecture,
    output: Output,
    version: i32,
    /// Shared memory that a block may have when it asks.
    most_shared_bytes: u32,
    allocations: BTreeSet<u64>,
    /// Each with whether its kernels may begin before the launch before has ended.
    modules: Vec<(sys::CUmodule, bool)>,
    functions: Vec<Function>,
    graphs: Vec<Option<sys::CUgraphExec>>,
    events: BTreeMap<usize, sys::CUevent>,
    /// The latest launches since the device was last known to be well; a failure shows in a later call.
    started: [Option<Started>; REMEMBERED],
    starts: usize,
}

impl CudaDriver {
    /// GPU number `ordinal`.
    ///
    /// # Errors
    /// One line: what is missing (driver, NVRTC, such a GPU) or too old, and what to install.
    pub fn new(ordinal: usize) -> Result<CudaDriver, String> {
        let gpus = gpus()?;
        let gpu = gpus.get(ordinal).ok_or_else(|| {
            let names: Vec<String> = gpus.iter().map(|gpu| format!("cuda:{} {}", gpu.ordinal, gpu.name)).collect();
            format!("cuda:{ordinal}: expected one of {}", names.join(", "))
        })?;
        let (major, minor) = gpu.capability;
        let (architecture, output) = target(major, minor)
            .ok_or_else(|| format!("{}: expected compute capability 7.5 or later, found {major}.{minor}", gpu.name))?;
        let version = driver_version()?;
        let nvrtc = Nvrtc::find()?;
        if nvrtc.version.0 > version / 1000 {
            return Err(format!(
                "NVRTC {}.{} makes code for a driver of CUDA {}, found one of CUDA {}.{}: install a newer NVIDIA driver, or \
                 name the folder of an older NVRTC in {}",
                nvrtc.version.0,
                nvrtc.version.1,
                nvrtc.version.0,
                version / 1000,
                version % 1000 / 10,
                crate::nvrtc::VARIABLE,
            ));
        }
        let device = result::device::get(ordinal as i32).map_err(|error| named("cuDeviceGet", error))?;
        // SAFETY: the device is one that cuDeviceGet gave; Drop releases the context once.
        let context = unsafe { result::primary_ctx::retain(device) }
            .map_err(|error| named(&format!("{}: cuDevicePrimaryCtxRetain", gpu.name), error))?;
        let mut driver = CudaDriver {
            device,
            context,
            stream: std::ptr::null_mut(),
            name: format!("{}, driver {}", gpu.name, installed_driver(version)),
            architecture,
            output,
            version,
            most_shared_bytes: PLAIN_SHARED_BYTES,
            allocations: BTreeSet::new(),
            modules: Vec::new(),
            functions: Vec::new(),
            graphs: Vec::new(),
            events: BTreeMap::new(),
            started: [None; REMEMBERED],
            starts: 0,
        };
        driver.bind()?;
        driver.stream = result::stream::create(result::stream::StreamKind::NonBlocking)
            .map_err(|error| named("cuStreamCreate", error))?;
        let most = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        driver.most_shared_bytes = attribute(device, most)?.max(PLAIN_SHARED_BYTES);
        Ok(driver)
    }

    /// Makes the device's context this thread's: two devices may be used from one thread.
    fn bind(&self) -> Result<(), String> {
        // SAFETY: the context is retained until Drop.
        unsafe { result::ctx::set_current(self.context) }.map_err(|error| named("cuCtxSetCurrent", error))
    }

    /// Adds to a failure what it may be the fault of: errors of kernels come with a later call.
    fn blame(&self, what: &str, error: DriverError) -> String {
        let message = named(what, error);
        if !is_of_a_kernel(error.0) {
            return message;
        }
        let latest = (0..self.starts.min(REMEMBERED)).filter_map(|back| {
            let started = self.started[(self.starts - 1 - back) % REMEMBERED]?;
            Some(match started {
                Started::Kernel(function) => self.functions[function.0].name.as_str(),
                Started::Graph => "a graph",
            })
        });
        let latest: Vec<&str> = latest.collect();
        format!(
            "{message}; a launch before has failed, the latest first: {} (CUDA_LAUNCH_BLOCKING=1 finds which)",
            latest.join(", ")
        )
    }

    fn remember(&mut self, started: Started) {
        self.started[self.starts % REMEMBERED] = Some(started);
        self.starts += 1;
    }

    /// Whether the kernels of an image wait for the launch before by themselves, where that can be made use of.
    fn overlaps(&self, image: &[u8]) -> bool {
        let (version, capability, name) = OVERLAPS;
        let can = self.version >= version && self.architecture.number >= capability;
        can && image.windows(name.len()).any(|found| found == name)
    }

    /// Sizes of a kernel's parameters, in order.
    fn parameters(&self, function: sys::CUfunction) -> Option<Vec<usize>> {
        if self.version < TELLS_PARAMETERS {
            return None;
        }
        let mut sizes = Vec::new();
        loop {
            let (mut offset, mut size) = (0, 0);
            // SAFETY: the function is loaded; both pointers are to integers of ours. Past the last parameter it fails.
            let status = unsafe { sys::cuFuncGetParamInfo(function, sizes.len(), &mut offset, &mut size) };
            if status != CUresult::CUDA_SUCCESS {
                return Some(sizes);
            }
            sizes.push(size);
        }
    }
}

/// A size as people read it.
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

impl Driver for CudaDriver {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn architecture(&self) -> Architecture {
        self.architecture
    }

    fn output(&self) -> Output {
        self.output
    }

    fn load(&mut self, image: &[u8]) -> Result<ModuleId, String> {
        self.bind()?;
        let mut terminated = image.to_vec();
        terminated.push(0); // PTX ends with a zero; a cubin knows its length.
        // SAFETY: the image lives during the call; the driver checks it and makes a copy.
        let module = unsafe { result::module::load_data(terminated.as_ptr().cast()) }
            .map_err(|error| self.blame(&format!("cuModuleLoadData for sm_{}", self.architecture), error))?;
        self.modules.push((module, self.overlaps(image)));
        Ok(ModuleId(self.modules.len() - 1))
    }

    fn function(&mut self, module: ModuleId, name: &str, shared_bytes: u32) -> Result<FunctionId, String> {
        self.bind()?;
        let failed = |what: &str, error: DriverError| named(&format!("{name}: {what}"), error);
        let text = CString::new(name).map_err(|_| format!("{name}: a name with a zero byte"))?;
        // SAFETY: the module is loaded and stays so until Drop.
        let handle = unsafe { result::module::get_function(self.modules[module.0].0, text) }
            .map_err(|error| failed("cuModuleGetFunction", error))?;
        // SAFETY: the function was just given.
        let get = |attribute| unsafe { result::function::get_function_attribute(handle, attribute) };
        let own = get(CUfunction_attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)
            .map_err(|error| failed("cuFuncGetAttribute", error))? as u32;
        let most = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        if own + shared_bytes > self.most_shared_bytes {
            return Err(format!(
                "{name}: expected at most {} bytes of shared memory a block on {}, found {own} and {shared_bytes}",
                self.most_shared_bytes, self.name
            ));
        }
        // Only ever raised: launches of one kernel with less and with more share it.
        let allowed = get(most).map_err(|error| failed("cuFuncGetAttribute", error))?;
        if own + shared_bytes > PLAIN_SHARED_BYTES && (allowed as u32) < shared_bytes {
            // SAFETY: the function was just given, and the device has that much.
            unsafe { result::function::set_function_attribute(handle, most, shared_bytes as i32) }
                .map_err(|error| failed("cuFuncSetAttribute", error))?;
        }
        let parameters = self.parameters(handle);
        let overlaps = self.modules[module.0].1;
        self.functions.push(Function { handle, name: name.to_owned(), parameters, overlaps });
        Ok(FunctionId(self.functions.len() - 1))
    }

    fn allocate(&mut self, bytes: u64) -> Result<u64, String> {
        self.bind()?;
        // An allocation of nothing is an error of CUDA's; here it is an address that nobody reads.
        // SAFETY: a context is current; the memory is freed once, by `free` or by Drop.
        match unsafe { result::malloc_sync(bytes.max(1) as usize) } {
            Ok(pointer) => {
                self.allocations.insert(pointer);
                Ok(pointer)
            }
            Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                let (free, total) = result::mem_get_info().map_err(|error| named("cuMemGetInfo", error))?;
                Err(format!(
                    "out of memory on {}: {} are wanted, {} of {} are free",
                    self.name,
                    megabytes(bytes),
                    megabytes(free as u64),
                    megabytes(total as u64)
                ))
            }
            Err(error) => Err(self.blame("cuMemAlloc", error)),
        }
    }

    fn free_bytes(&self) -> Option<u64> {
        self.bind().ok()?;
        result::mem_get_info().ok().map(|(free, _)| free as u64)
    }

    fn free(&mut self, pointer: u64) -> Result<(), String> {
        self.bind()?;
        if !self.allocations.remove(&pointer) {
            return Err(format!("no allocation begins at {pointer:#x}"));
        }
        // SAFETY: the allocation was ours and is freed only here; the driver waits for kernels that use it.
        unsafe { result::free_sync(pointer) }.map_err(|error| self.blame("cuMemFree", error))
    }

    fn upload(&mut self, pointer: u64, bytes: &[u8]) -> Result<(), String> {
        self.bind()?;
        // SAFETY: callers pass a range inside of an allocation, which the driver checks; `sync` keeps `bytes` alive.
        unsafe { result::memcpy_htod_async(pointer, bytes, self.stream) }
            .map_err(|error| self.blame("copy to the device", error))?;
        self.sync()
    }

    fn download(&mut self, pointer: u64, bytes: &mut [u8]) -> Result<(), String> {
        self.bind()?;
        // SAFETY: as for `upload`.
        unsafe { result::memcpy_dtoh_async(bytes, pointer, self.stream) }
            .map_err(|error| self.blame("copy from the device", error))?;
        self.sync()
    }

    fn launch(&mut self, function: FunctionId, extent: Extent, arguments: &[Argument]) -> Result<(), String> {
        self.bind()?;
        let Function { handle, name, parameters, overlaps } = &self.functions[function.0];
        let size = |argument: &Argument| match argument {
            Argument::Memory { pointer, .. } => size_of_val(pointer),
            Argument::Tensor { .. } => size_of::<sys::CUtensorMap>(),
            Argument::Value(bytes) => bytes.len(),
        };
        let fits = parameters.as_ref().is_none_or(|sizes| arguments.iter().map(size).eq(sizes.iter().copied()));
        if !fits || arguments.len() > MOST_PARAMETERS {
            let found: Vec<usize> = arguments.iter().map(size).collect();
            return Err(format!("{name}: expected parameters of {parameters:?} bytes, found {found:?}"));
        }
        let maps = arguments.iter().filter_map(|argument| match argument {
            Argument::Tensor { pointer, bytes, map, .. } => Some(map.for_gpu(*pointer, *bytes)),
            _ => None,
        });
        let maps = maps.collect::<Result<Vec<_>, _>>().map_err(|error| format!("{name}: {error}"))?;
        let (mut pointers, mut next) = ([std::ptr::null_mut::<c_void>(); MOST_PARAMETERS], maps.iter());
        for (pointer, argument) in pointers.iter_mut().zip(arguments) {
            *pointer = match argument {
                Argument::Memory { pointer, .. } => std::ptr::from_ref(pointer).cast_mut().cast(),
                Argument::Tensor { .. } => next.next().map_or(std::ptr::null(), std::ptr::from_ref).cast_mut().cast(),
                Argument::Value(bytes) => bytes.as_ptr().cast_mut().cast(),
            };
        }
        let [[gx, gy, gz], [bx, by, bz]] = [extent.grid, extent.block];
        let mut overlapping = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
        };
        let config = sys::CUlaunchConfig {
            gridDimX: gx,
            gridDimY: gy,
            gridDimZ: gz,
            blockDimX: bx,
            blockDimY: by,
            blockDimZ: bz,
            sharedMemBytes: extent.shared_bytes,
            hStream: self.stream,
            attrs: &mut overlapping,
            numAttrs: (*overlaps).into(),
        };
        // SAFETY: the function is loaded, and the pointers are to as many bytes as it has parameters of these sizes
        // (checked above where the driver can say); the driver only reads them and the configuration, during the call.
        // What the kernel does to memory is declared by its launcher and checked under the emulator.
        let status =
            unsafe { sys::cuLaunchKernelEx(&config, *handle, pointers.as_mut_ptr(), std::ptr::null_mut()) }.result();
        status.map_err(|error| self.blame(&format!("launch of {name}"), error))?;
        self.remember(Started::Kernel(function));
        Ok(())
    }

    fn sync(&mut self) -> Result<(), String> {
        self.bind()?;
        // SAFETY: the stream lives until Drop.
        unsafe { result::stream::synchronize(self.stream) }
            .map_err(|error| self.blame("cuStreamSynchronize", error))?;
        self.starts = 0;
        Ok(())
    }

    fn begin_capture(&mut self) -> Result<(), String> {
        self.bind()?;
        // Of this thread only: another one may allocate meanwhile.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives until Drop.
        unsafe { result::stream::begin_capture(self.stream, mode) }
            .map_err(|error| self.blame("cuStreamBeginCapture", error))
    }

    fn end_capture(&mut self) -> Result<GraphId, String> {
        self.bind()?;
        // SAFETY: the stream lives until Drop; without a capture the call fails.
        let graph = unsafe { result::stream::end_capture(self.stream) }
            .map_err(|error| self.blame("cuStreamEndCapture", error))?;
        // SAFETY: the graph was just captured; it is destroyed once, and what is instantiated from it is independent.
        let instantiated = unsafe {
            let none = sys::CUgraphInstantiate_flags(0);
            let instantiated = result::graph::instantiate(graph, none);
            result::graph::destroy(graph).map_err(|error| named("cuGraphDestroy", error))?;
            instantiated
        };
        self.graphs.push(Some(instantiated.map_err(|error| self.blame("cuGraphInstantiate", error))?));
        Ok(GraphId(self.graphs.len() - 1))
    }

    fn replay(&mut self, graph: GraphId) -> Result<(), String> {
        self.bind()?;
        let Some(executable) = self.graphs[graph.0] else {
            return Err("a replay of a graph that was forgotten".into());
        };
        // SAFETY: the graph is instantiated and not destroyed; its memory lives as long as the backend keeps it.
        unsafe { result::graph::launch(executable, self.stream) }
            .map_err(|error| self.blame("cuGraphLaunch", error))?;
        self.remember(Started::Graph);
        Ok(())
    }

    fn forget_graph(&mut self, graph: GraphId) {
        if let Some(executable) = self.graphs[graph.0].take() {
            // SAFETY: taken out, so it is destroyed once; the driver lets a running replay end.
            let _ = unsafe { result::graph::exec_destroy(executable) };
        }
    }

    fn record(&mut self, event: usize) -> Result<(), String> {
        self.bind()?;
        let handle = match self.events.get(&event) {
            Some(&handle) => handle,
            None => {
                let handle = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT)
                    .map_err(|error| named("cuEventCreate", error))?;
                self.events.insert(event, handle);
                handle
            }
        };
        // SAFETY: event and stream live until Drop.
        unsafe { result::event::record(handle, self.stream) }.map_err(|error| self.blame("cuEventRecord", error))
    }

    fn elapsed(&mut self, from: usize, to: usize) -> Result<Duration, String> {
        self.bind()?;
        let at =
            |event: usize| self.events.get(&event).copied().ok_or_else(|| format!("event {event} was never recorded"));
        let (from, to) = (at(from)?, at(to)?);
        let mut milliseconds = 0.0f32;
        // SAFETY: both events live until Drop; the function is found by name and has this type. (cudarc has
        // `cuEventElapsedTime_v2` in its place, which drivers before 12.8 lack.)
        let status = unsafe {
            type Elapsed = unsafe extern "C" fn(*mut f32, sys::CUevent, sys::CUevent) -> CUresult;
            let elapsed = sys::culib().get::<Elapsed>(b"cuEventElapsedTime").map_err(|error| error.to_string())?;
            result::event::synchronize(to).and_then(|()| elapsed(&mut milliseconds, from, to).result())
        };
        status.map_err(|error| self.blame("cuEventElapsedTime", error))?;
        Ok(Duration::from_secs_f64(f64::from(milliseconds.max(0.0)) / 1e3))
    }
}

impl Drop for CudaDriver {
    fn drop(&mut self) {
        if self.bind().is_err() {
            return; // The process ends, or the device is lost: nothing to give back.
        }
        // SAFETY: every handle here is ours and destroyed only now, after the stream's work has ended. Errors mean that
        // the device has failed; whoever used it has been told.
        unsafe {
            if !self.stream.is_null() {
                let _ = result::stream::synchronize(self.stream);
            }
            for &graph in self.graphs.iter().flatten() {
                let _ = result::graph::exec_destroy(graph);
            }
            for &event in self.events.values() {
                let _ = result::event::destroy(event);
            }
            for &(module, _) in &self.modules {
                let _ = result::module::unload(module);
            }
            for &pointer in &self.allocations {
                let _ = result::free_sync(pointer);
            }
            if !self.stream.is_null() {
                let _ = result::stream::destroy(self.stream);
            }
            let _ = result::primary_ctx::release(self.device);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::CudaDriver;

    #[test]
    fn a_missing_gpu_is_one_line_that_says_what_to_install() {
        match CudaDriver::new(usize::MAX) {
            Ok(_) => panic!("a GPU of that number"),
            Err(line) => assert!(!line.contains('\n') && line.len() > 20, "{line}"),
        }
    }
}
