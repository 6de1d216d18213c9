//! The emulated device.

use super::{Access, Argument, Driver, Extent, FunctionId, GraphId, ModuleId};
use crate::nvrtc::{Architecture, Output};
use sha2::{Digest, Sha256};
use sphereface_emulator::{Counters, Device, Module, Range};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One launch, as it was asked for.
#[derive(Clone, Debug)]
struct Recorded {
    function: FunctionId,
    extent: Extent,
    arguments: Vec<Argument>,
}

/// Runs kernels on the CPU, with every check of the emulator.
pub struct EmulatorDriver {
    device: Device,
    architecture: Architecture,
    modules: Vec<Arc<Module>>,
    functions: Vec<(ModuleId, String)>,
    recording: Option<Vec<Recorded>>,
    graphs: Vec<Option<Vec<Recorded>>>,
    counters: BTreeMap<String, (u64, Counters)>,
    events: BTreeMap<usize, Instant>,
    /// Launches so far, where no more than a block of each is run.
    samples: Option<Vec<Sample>>,
}

/// A launch of which one block was run.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the kernel.
    pub kernel: String,
    /// Extent of the whole launch.
    pub extent: Extent,
    /// Its arguments; addresses are zero.
    pub arguments: Vec<Argument>,
    /// What its busiest block did.
    pub block: Counters,
}

/// Larger uploads than this hold what kernels compute with; smaller ones, what they go by.
const SAMPLED_UPLOAD: usize = 16 << 20;

impl EmulatorDriver {
    /// A device of this architecture.
    pub fn new(architecture: Architecture) -> Self {
        EmulatorDriver {
            device: Device::with_target(architecture.number),
            architecture,
            modules: Vec::new(),
            functions: Vec::new(),
            recording: None,
            graphs: Vec::new(),
            counters: BTreeMap::new(),
            events: BTreeMap::new(),
            samples: None,
        }
    }

    /// A device that runs one block of each launch, the busiest: for counts of launches that it could not run in full.
    /// Where nothing was written, memory reads as zero, and numbers that are uploaded in bulk are left out.
    pub fn sampling(architecture: Architecture) -> Self {
        EmulatorDriver { samples: Some(Vec::new()), ..EmulatorDriver::new(architecture) }
    }

    /// The launches of a [sampling](Self::sampling) device so far.
    pub fn samples(&self) -> &[Sample] {
        self.samples.as_deref().unwrap_or_default()
    }

    /// Runs a block of a launch, unless the same launch was sampled before.
    fn sample(&mut self, function: FunctionId, extent: Extent, arguments: &[Argument]) -> Result<(), String> {
        let (module, kernel) = &self.functions[function.0];
        let Extent { grid, block, shared_bytes } = extent;
        let mut sample = Sample {
            kernel: kernel.clone(),
            extent,
            arguments: arguments.iter().map(Argument::without_address).collect(),
            block: Counters::default(),
        };
        let alike = |known: &&Sample| Sample { block: sample.block, ..(*known).clone() } == sample;
        let samples = self.samples.get_or_insert_default();
        sample.block = match samples.iter().find(alike) {
            Some(known) => known.block,
            None => {
                let values = arguments.iter().map(value).collect::<Result<Vec<_>, _>>()?;
                let module = &self.modules[module.0];
                let sampled = self.device.sample(module, kernel, grid, block, u64::from(shared_bytes), &values);
                sampled.map_err(|fault| fault.to_string())?
            }
        };
        samples.push(sample);
        Ok(())
    }

    /// Launches of each kernel so far, and what they did.
    pub fn counters(&self) -> &BTreeMap<String, (u64, Counters)> {
        &self.counters
    }
}

impl Driver for EmulatorDriver {
    fn name(&self) -> String {
        format!("emulator of sm_{}", self.architecture)
    }

    fn architecture(&self) -> Architecture {
        self.architecture
    }

    fn output(&self) -> Output {
        Output::Ptx
    }

    fn load(&mut self, image: &[u8]) -> Result<ModuleId, String> {
        self.modules.push(decoded(image)?);
        Ok(ModuleId(self.modules.len() - 1))
    }

    fn function(&mut self, module: ModuleId, name: &str, shared_bytes: u32) -> Result<FunctionId, String> {
        let loaded = &self.modules[module.0];
        let own = loaded.static_shared_bytes(name).ok_or_else(|| format!("no kernel named {name}"))?;
        if own + u64::from(shared_bytes) > 48 * 1024 {
            self.device.allow_more_shared(loaded, name);
        }
        self.functions.push((module, name.to_owned()));
        Ok(FunctionId(self.functions.len() - 1))
    }

    fn allocate(&mut self, bytes: u64) -> Result<u64, String> {
        Ok(if self.samples.is_some() { self.device.allocate_zeroed(bytes) } else { self.device.allocate(bytes) })
    }

    fn free(&mut self, pointer: u64) -> Result<(), String> {
        self.device.free(pointer).map_err(|fault| fault.to_string())
    }

    fn upload(&mut self, pointer: u64, bytes: &[u8]) -> Result<(), String> {
        if self.samples.is_some() && bytes.len() > SAMPLED_UPLOAD {
            return Ok(());
        }
        self.device.upload(pointer, bytes).map_err(|fault| fault.to_string())
    }

    fn download(&mut self, pointer: u64, bytes: &mut [u8]) -> Result<(), String> {
        self.device.download(pointer, bytes).map_err(|fault| fault.to_string())
    }

    fn launch(&mut self, function: FunctionId, extent: Extent, arguments: &[Argument]) -> Result<(), String> {
        if let Some(recording) = &mut self.recording {
            recording.push(Recorded { function, extent, arguments: arguments.to_vec() });
            return Ok(());
        }
        if self.samples.is_some() {
            return self.sample(function, extent, arguments);
        }
        let (module, name) = &self.functions[function.0];
        let values = arguments.iter().map(value).collect::<Result<Vec<_>, _>>()?;
        let ranges: Vec<Range> = arguments.iter().filter_map(range).collect();
        let module = &self.modules[module.0];
        let Extent { grid, block, shared_bytes } = extent;
        let counted = self
            .device
            .launch_within(module, name, grid, block, u64::from(shared_bytes), &values, &ranges)
            .map_err(|fault| fault.to_string())?;
        let (launches, counters) = self.counters.entry(name.clone()).or_default();
        *launches += 1;
        counters.add(&counted);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn begin_capture(&mut self) -> Result<(), String> {
        self.recording = Some(Vec::new());
        Ok(())
    }

    fn end_capture(&mut self) -> Result<GraphId, String> {
        let recording = self.recording.take().ok_or("the end of a capture that was not begun")?;
        self.graphs.push(Some(recording));
        Ok(GraphId(self.graphs.len() - 1))
    }

    fn replay(&mut self, graph: GraphId) -> Result<(), String> {
        let Some(launches) = self.graphs[graph.0].take() else {
            return Err("a replay of a graph that was forgotten".into());
        };
        let outcome = launches.iter().try_for_each(|one| self.launch(one.function, one.extent, &one.arguments));
        self.graphs[graph.0] = Some(launches);
        outcome
    }

    fn forget_graph(&mut self, graph: GraphId) {
        self.graphs[graph.0] = None;
    }

    fn record(&mut self, event: usize) -> Result<(), String> {
        self.events.insert(event, Instant::now());
        Ok(())
    }

    fn elapsed(&mut self, from: usize, to: usize) -> Result<Duration, String> {
        let at =
            |event: usize| self.events.get(&event).copied().ok_or_else(|| format!("event {event} was never recorded"));
        Ok(at(to)?.saturating_duration_since(at(from)?))
    }

    /// Instructions are those of warps, math the share of them in floating point and `mma`; sectors the share of the
    /// moved 32-byte sectors that lanes asked for, more than all where lanes share bytes.
    fn profile(&self) -> Option<String> {
        let mut table = format!(
            "{:<36}{:>6}{:>8}{:>6}{:>9}{:>8}{:>7}\n",
            "kernel", "runs", "M inst", "math", "MB", "sectors", "banks"
        );
        for (kernel, (launches, counted)) in &self.counters {
            let all = counted.instructions().max(1) as f64;
            let math = 100.0 * (counted.float + counted.matrix) as f64 / all;
            let bytes = (counted.global_read_bytes + counted.global_written_bytes) as f64;
            let sectors = 100.0 * bytes / (32.0 * counted.global_sectors.max(1) as f64);
            let bulk = (counted.bulk_read_bytes + counted.bulk_written_bytes) as f64;
            let conflicts = counted.bank_conflicts as f64 * 1e-6;
            table += &format!(
                "{kernel:<36}{launches:>6}{:>8.2}{math:>5.0}%{:>9.2}{sectors:>7.0}%{conflicts:>7.2}\n",
                all * 1e-6,
                (bytes + bulk) * 1e-6,
            );
        }
        table += "M inst: millions of warp instructions. math: of these, floating point and mma.\n\
                  MB: global memory asked for, in bulk too. sectors: of those that lanes moved, what they asked for.\n\
                  banks: millions of passes that conflicts in shared memory added.\n";
        Some(table)
    }
}

/// A decoded module. Decoded once for a process: many devices may use it.
fn decoded(image: &[u8]) -> Result<Arc<Module>, String> {
    static MODULES: Mutex<BTreeMap<[u8; 32], Arc<Module>>> = Mutex::new(BTreeMap::new());
    let key: [u8; 32] = Sha256::digest(image).into();
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = modules.get(&key) {
        return Ok(module.clone());
    }
    let text = std::str::from_utf8(image).map_err(|error| format!("PTX: {error}"))?;
    let module = Arc::new(Module::load(text).map_err(|error| error.to_string())?);
    modules.insert(key, module.clone());
    Ok(module)
}

fn value(argument: &Argument) -> Result<sphereface_emulator::Argument, String> {
    Ok(match argument {
        Argument::Memory { pointer, .. } => sphereface_emulator::Argument::Pointer(*pointer),
        Argument::Tensor { pointer, bytes, map, .. } => {
            sphereface_emulator::Argument::Bytes(map.for_emulator(*pointer, *bytes)?.to_vec())
        }
        Argument::Value(bytes) => sphereface_emulator::Argument::Bytes(bytes.clone()),
    })
}

fn range(argument: &Argument) -> Option<Range> {
    let (Argument::Memory { pointer, bytes, access } | Argument::Tensor { pointer, bytes, access, .. }) = argument
    else {
        return None;
    };
    let (&pointer, &bytes) = (pointer, bytes);
    let access = match access {
        Access::Read => sphereface_emulator::Access::Read,
        Access::Write => sphereface_emulator::Access::Write,
        Access::Update => sphereface_emulator::Access::Update,
    };
    (bytes > 0).then_some(Range { pointer, bytes, access })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::{Launch, Slice};
    use crate::library::Library;
    use crate::nvrtc::Nvrtc;

    /// Three arrays of 16 floats in one allocation, as in an arena, the first two of them written.
    fn arena(driver: &mut EmulatorDriver) -> [Slice; 3] {
        let bytes = 64;
        let pointer = driver.allocate(3 * bytes).unwrap();
        driver.upload(pointer, &[0; 128]).unwrap();
        [0, 1, 2].map(|index| Slice { pointer: pointer + index * bytes, bytes })
    }

    /// What becomes of adding so many elements.
    fn add(change: impl Fn(Launch, [Slice; 3]) -> Launch) -> Option<Result<(), String>> {
        Nvrtc::find().map_err(|reason| sphereface_testkit::skip(&reason)).ok()?;
        let mut driver = EmulatorDriver::new(Architecture::new(80));
        let slices = arena(&mut driver);
        let launch = change(Launch::new("add", "add_f32").block(256), slices);
        let mut library = Library::default();
        library.prepare(&mut driver, [&launch].into_iter()).unwrap();
        let function = library.function(&mut driver, &launch).unwrap();
        Some(driver.launch(function, launch.extent, &launch.arguments))
    }

    #[test]
    fn a_sample_is_a_block_of_the_whole_launch() {
        if let Err(reason) = Nvrtc::find() {
            return sphereface_testkit::skip(&reason);
        }
        let counted = |mut driver: EmulatorDriver| {
            let bytes = 4 * 8192;
            let pointer = driver.allocate(3 * bytes).unwrap();
            driver.upload(pointer, &vec![0; 2 * bytes as usize]).unwrap();
            let [a, b, c] = [0, 1, 2].map(|index| Slice { pointer: pointer + index * bytes, bytes });
            let launch = Launch::new("add", "add_f32").grid([8, 1, 1]).block(256);
            let launch = launch.read(a).read(b).write(c).value(8192u32);
            let mut library = Library::default();
            library.prepare(&mut driver, [&launch].into_iter()).unwrap();
            let function = library.function(&mut driver, &launch).unwrap();
            (0..2).for_each(|_| driver.launch(function, launch.extent, &launch.arguments).unwrap());
            driver
        };
        let (all, sampling) = (EmulatorDriver::new, EmulatorDriver::sampling);
        let (all, sampled) = (counted(all(Architecture::new(80))), counted(sampling(Architecture::new(80))));
        let [first, second] = sampled.samples() else { panic!("two launches") };
        assert_eq!(first, second, "the same launch again");
        let mut blocks = Counters::default();
        (0..16).for_each(|_| blocks.add(&first.block));
        assert_eq!(all.counters()["add_f32"], (2, blocks));
        assert_eq!(first.block.global_written_bytes, 4 * 1024);
    }

    #[test]
    fn launches_touch_what_they_declare_and_nothing_else() {
        let right = |launch: Launch, [a, b, c]: [Slice; 3]| launch.read(a).read(b).write(c).value(16u32);
        let Some(outcome) = add(right) else { return };
        assert_eq!(outcome, Ok(()));
        let planted = |change: fn(Launch, [Slice; 3]) -> Launch, words: &str| {
            let message = add(change).unwrap().unwrap_err();
            assert!(message.contains(words) && message.contains("add.cu"), "{message}");
        };
        // One element more than there is: in an arena it is the neighbour's.
        planted(|launch, [a, b, c]| launch.read(a).read(b).write(c).value(17u32), "read");
        planted(|launch, [a, b, _]| launch.read(a).read(b).read(b).value(16u32), "read-only");
        planted(|launch, [a, b, c]| launch.read(a).read(c).write(b).value(16u32), "uninitialised");
    }
}
