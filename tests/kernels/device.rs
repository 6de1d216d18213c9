//! The device that these tests run on, and a count of what it launched.

use sphereface_cuda::driver::{Access, Argument, Extent, FunctionId, GraphId, ModuleId};
use sphereface_cuda::nvrtc::{Architecture, Nvrtc, Output};
use sphereface_cuda::{CudaDriver, Driver, EmulatorDriver};
use sphereface_emulator::Counters;
use sphereface_testkit::skip;
use std::collections::BTreeMap;
use std::time::Duration;

/// `cuda` or `cuda:N` runs the tests on a GPU instead of the emulator.
const DEVICE: &str = "SPHEREFACE_TEST_DEVICE";

enum Device {
    Emulator(Box<EmulatorDriver>),
    Gpu(Box<CudaDriver>),
}

/// A driver with launches counted by kernel, those of graphs left out.
pub(crate) struct TestDevice {
    device: Device,
    names: Vec<String>,
    pub(crate) launches: BTreeMap<String, u64>,
    /// Kernels with this in their names write zeros, whatever lay there before: a planted mistake.
    pub(crate) broken: Option<&'static str>,
    /// Allocations of more bytes fail.
    pub(crate) most_bytes: u64,
}

impl TestDevice {
    /// The device that was asked for, or `None` after a line that says why there is none.
    pub(crate) fn new() -> Option<TestDevice> {
        TestDevice::of(Architecture::new(80))
    }

    /// As [`new`](TestDevice::new), but with the instructions of sm_90a: a GPU that lacks them is none.
    pub(crate) fn hopper() -> Option<TestDevice> {
        let hopper = Architecture::specific(90);
        let device = TestDevice::of(hopper)?;
        if device.architecture() != hopper {
            skip(&format!("{} has no wgmma", device.name()));
            return None;
        }
        Some(device)
    }

    /// The device that was asked for, or else an emulator of this architecture.
    fn of(emulated: Architecture) -> Option<TestDevice> {
        let device = match std::env::var(DEVICE) {
            // Asked for by name: one that cannot be had is a failure, not a skip.
            Ok(name) => {
                let ordinal = name.strip_prefix("cuda").map(|rest| rest.strip_prefix(':').unwrap_or("0"));
                let ordinal = ordinal.and_then(|ordinal| ordinal.parse().ok());
                let ordinal = ordinal.expect("SPHEREFACE_TEST_DEVICE is cuda or cuda:N");
                Device::Gpu(Box::new(CudaDriver::new(ordinal).unwrap()))
            }
            Err(_) => match Nvrtc::find() {
                Ok(_) => Device::Emulator(Box::new(EmulatorDriver::new(emulated))),
                Err(reason) => {
                    skip(&reason);
                    return None;
                }
            },
        };
        Some(TestDevice { device, names: Vec::new(), launches: BTreeMap::new(), broken: None, most_bytes: u64::MAX })
    }

    /// What the emulator counted of each kernel.
    pub(crate) fn counters(&self) -> impl Iterator<Item = (&String, &Counters)> {
        let emulator = match &self.device {
            Device::Emulator(emulator) => Some(emulator),
            Device::Gpu(_) => None,
        };
        emulator.into_iter().flat_map(|emulator| emulator.counters()).map(|(kernel, (_, counters))| (kernel, counters))
    }

    fn driver(&self) -> &dyn Driver {
        match &self.device {
            Device::Emulator(emulator) => &**emulator,
            Device::Gpu(gpu) => &**gpu,
        }
    }

    fn driver_mut(&mut self) -> &mut dyn Driver {
        match &mut self.device {
            Device::Emulator(emulator) => &mut **emulator,
            Device::Gpu(gpu) => &mut **gpu,
        }
    }
}

impl Driver for TestDevice {
    fn name(&self) -> String {
        self.driver().name()
    }

    fn architecture(&self) -> Architecture {
        self.driver().architecture()
    }

    fn output(&self) -> Output {
        self.driver().output()
    }

    fn load(&mut self, image: &[u8]) -> Result<ModuleId, String> {
        self.driver_mut().load(image)
    }

    fn function(&mut self, module: ModuleId, name: &str, shared_bytes: u32) -> Result<FunctionId, String> {
        let function = self.driver_mut().function(module, name, shared_bytes)?;
        self.names.resize(self.names.len().max(function.0 + 1), String::new());
        self.names[function.0] = name.to_owned();
        Ok(function)
    }

    fn allocate(&mut self, bytes: u64) -> Result<u64, String> {
        if bytes > self.most_bytes {
            return Err("out of memory".into());
        }
        self.driver_mut().allocate(bytes)
    }

    fn free(&mut self, pointer: u64) -> Result<(), String> {
        self.driver_mut().free(pointer)
    }

    fn upload(&mut self, pointer: u64, bytes: &[u8]) -> Result<(), String> {
        self.driver_mut().upload(pointer, bytes)
    }

    fn download(&mut self, pointer: u64, bytes: &mut [u8]) -> Result<(), String> {
        self.driver_mut().download(pointer, bytes)
    }

    fn launch(&mut self, function: FunctionId, extent: Extent, arguments: &[Argument]) -> Result<(), String> {
        let name = &self.names[function.0];
        if self.broken.is_some_and(|broken| name.contains(broken)) {
            return arguments.iter().try_for_each(|argument| match *argument {
                Argument::Memory { pointer, bytes, access: Access::Write } if bytes > 0 => {
                    self.upload(pointer, &vec![0; bytes as usize])
                }
                _ => Ok(()),
            });
        }
        *self.launches.entry(name.clone()).or_default() += 1;
        self.driver_mut().launch(function, extent, arguments)
    }

    fn sync(&mut self) -> Result<(), String> {
        self.driver_mut().sync()
    }

    fn begin_capture(&mut self) -> Result<(), String> {
        self.driver_mut().begin_capture()
    }

    fn end_capture(&mut self) -> Result<GraphId, String> {
        self.driver_mut().end_capture()
    }

    fn replay(&mut self, graph: GraphId) -> Result<(), String> {
        self.driver_mut().replay(graph)
    }

    fn forget_graph(&mut self, graph: GraphId) {
        self.driver_mut().forget_graph(graph);
    }

    fn record(&mut self, event: usize) -> Result<(), String> {
        self.driver_mut().record(event)
    }

    fn elapsed(&mut self, from: usize, to: usize) -> Result<Duration, String> {
        self.driver_mut().elapsed(from, to)
    }
}
