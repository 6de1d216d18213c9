//! Plans on a device: memory, launches, graphs.

use crate::copies::{Copies, Copy, Effect, effects};
use crate::driver::{Driver, Extent, FunctionId, GraphId};
use crate::launch::{Io, Kernel, Slice};
use crate::launcher::{Context, kernel};
use crate::library::{Library, Progress};
use crate::lowering::{Lowering, Operand};
use crate::nvrtc::Architecture;
use crate::options::{Arena, Options, Precision, Tier};
use sphereface_tensor::arena::{Request, assign};
use sphereface_tensor::{Backend, Buffer, Error, Lifetime, Persistent, Plan, Program, StepTime, Type};
use std::collections::BTreeSet;

/// Every buffer starts at a multiple of this.
const ALIGNMENT: usize = 256;

/// Kernels count the elements of a buffer in 32 bits, and walk past its end by less than another 2³¹.
const MAX_ELEMENTS: usize = 1 << 31;

/// A place of a buffer.
#[derive(Clone, Copy, Debug)]
enum Spot {
    /// Outside of the arena, for good.
    Fixed(Slice),
    /// In the arena.
    Arena { offset: u64, bytes: u64 },
}

impl Spot {
    fn part(self, offset: u64, bytes: u64) -> Spot {
        match self {
            Spot::Fixed(slice) => Spot::Fixed(slice.part(offset, bytes)),
            Spot::Arena { offset: first, .. } => Spot::Arena { offset: first + offset, bytes },
        }
    }
}

/// A step with its operands' places, or the sums between steps.
struct LoweredStep {
    /// The plan's step that it belongs to.
    number: usize,
    label: String,
    op: &'static str,
    kernel: Kernel,
    reads: Vec<Spot>,
    writes: Vec<Spot>,
    updates: Vec<Spot>,
    workspace: Spot,
    parts: Vec<Spot>,
    left: Spot,
    constants: Slice,
    /// What the step makes, if it may be left out where that is there.
    copy: Option<Copy>,
}

/// A launch with its function.
struct Ready {
    function: FunctionId,
    extent: Extent,
    arguments: Vec<crate::driver::Argument>,
    /// Step it belongs to.
    step: usize,
}

#[derive(Default)]
struct LoweredPlan {
    steps: Vec<LoweredStep>,
    launches: Vec<Ready>,
    effects: Vec<Effect>,
    /// Address of the arena that the launches were built for.
    arena: u64,
    runs: u64,
    graph: Option<GraphId>,
}

/// Runs plans on a device.
pub struct CudaBackend<D> {
    driver: D,
    context: Context,
    library: Library,
    persistent: Persistent<Slice>,
    /// Allocation that all plans share.
    arena: Slice,
    programs: Vec<LoweredPlan>,
    copies: Copies,
    /// Operators that use portable kernels, whatever the tier.
    refused: BTreeSet<String>,
}

/// The backend's error of a message.
fn failed(message: String) -> Error {
    Error::Backend { backend: "cuda", message }
}

impl<D: Driver> CudaBackend<D> {
    /// A backend on a device.
    pub fn new(driver: D, options: Options) -> Self {
        let mma = options.tier >= Tier::Mma && driver.architecture().number >= 80;
        let wgmma = options.tier >= Tier::Wgmma && driver.architecture() == Architecture::specific(90);
        CudaBackend {
            driver,
            context: Context { options, mma, wgmma },
            library: Library::default(),
            persistent: Persistent::default(),
            arena: Slice::default(),
            programs: Vec::new(),
            copies: Copies::default(),
            refused: BTreeSet::new(),
        }
    }

    /// Has this called while kernels are compiled, by several threads.
    pub fn on_compile(&mut self, progress: Progress) {
        self.library.progress = Some(progress);
    }

    /// Has these operators use portable kernels.
    pub(crate) fn refuse(&mut self, operators: BTreeSet<String>) {
        self.refused = operators;
    }

    /// The device.
    pub fn driver(&self) -> &D {
        &self.driver
    }

    /// The device, to record events on.
    pub fn driver_mut(&mut self) -> &mut D {
        &mut self.driver
    }

    /// Bytes of the arena that all plans share.
    pub fn arena_bytes(&self) -> u64 {
        self.arena.bytes
    }

    /// The place of every buffer but those of the arena.
    fn persistent_slices(&mut self, plan: &Plan) -> Result<Vec<Option<Slice>>, Error> {
        let CudaBackend { driver, persistent, .. } = self;
        let zeros = |buffer: &Buffer| {
            let bytes = buffer.kind.bytes();
            let slice = allocate(driver, bytes, &buffer.name)?;
            driver.upload(slice.pointer, &vec![0; bytes]).map_err(failed)?;
            Ok(slice)
        };
        let view = |block: Slice, offset: usize, kind: &Type| {
            let (start, bytes) = ((offset * kind.dtype.bytes()) as u64, kind.bytes() as u64);
            (start + bytes <= block.bytes).then(|| block.part(start, bytes))
        };
        persistent.places(plan, zeros, view)
    }

    /// Uploads the tables of a step.
    fn constants(&mut self, bytes: &[u8]) -> Result<Slice, Error> {
        if bytes.is_empty() {
            return Ok(Slice::default());
        }
        let slice = allocate(&mut self.driver, bytes.len(), "tables")?;
        self.driver.upload(slice.pointer, bytes).map_err(failed)?;
        Ok(slice)
    }

    /// A place for each buffer of the arena and each workspace, which come last.
    fn place(&mut self, requests: &[(usize, Lifetime)]) -> Result<Vec<Spot>, Error> {
        if self.context.options.arena == Arena::Separate {
            let own = |&(bytes, _): &(usize, Lifetime)| match bytes {
                0 => Ok(Spot::Fixed(Slice::default())),
                _ => allocate(&mut self.driver, bytes, "activations").map(Spot::Fixed),
            };
            return requests.iter().map(own).collect();
        }
        let aligned: Vec<Request> = requests
            .iter()
            .map(|&(bytes, lifetime)| Request { length: bytes.next_multiple_of(ALIGNMENT), lifetime })
            .collect();
        let (offsets, bytes) = assign(&aligned);
        if bytes as u64 > self.arena.bytes {
            let old = std::mem::take(&mut self.arena);
            if old.bytes > 0 {
                self.driver.sync().and_then(|()| self.driver.free(old.pointer)).map_err(failed)?;
            }
            // Nearly all of the arena grows with the batch.
            let what = match self.driver.free_bytes() {
                Some(free) => {
                    format!("activations (about {}% of this batch fits)", (100 * free / bytes as u64).min(99))
                }
                None => "activations (a smaller batch needs less)".into(),
            };
            let new = allocate(&mut self.driver, bytes, &what);
            // Where there is no room for this plan, those lowered before still run.
            self.arena = match &new {
                Ok(arena) => *arena,
                Err(_) if old.bytes > 0 => allocate(&mut self.driver, old.bytes as usize, "activations")?,
                Err(_) => Slice::default(),
            };
            new?;
        }
        let spot = |(&offset, &(bytes, _)): (&usize, &(usize, Lifetime))| Spot::Arena {
            offset: offset as u64,
            bytes: bytes as u64,
        };
        Ok(offsets.iter().zip(requests).map(spot).collect())
    }

    /// Builds the launches of a program for the arena as it is.
    fn build(&mut self, index: usize) -> Result<(), Error> {
        let arena = self.arena;
        let slice = |spot: &Spot| match *spot {
            Spot::Fixed(slice) => slice,
            Spot::Arena { bytes: 0, .. } => Slice::default(),
            Spot::Arena { offset, bytes } => arena.part(offset, bytes),
        };
        let slices = |spots: &[Spot]| spots.iter().map(slice).collect();
        let program = &mut self.programs[index];
        let mut launches = Vec::new();
        for (number, step) in program.steps.iter().enumerate() {
            let io = Io {
                reads: slices(&step.reads),
                writes: slices(&step.writes),
                updates: slices(&step.updates),
                workspace: slice(&step.workspace),
                parts: slices(&step.parts),
                left: slice(&step.left),
                constants: step.constants,
            };
            launches.extend((step.kernel.build)(&io).into_iter().map(|launch| (number, launch)));
        }
        self.library.prepare(&mut self.driver, launches.iter().map(|(_, launch)| launch)).map_err(failed)?;
        program.launches.clear();
        for (step, launch) in launches {
            let function = self.library.function(&mut self.driver, &launch).map_err(failed)?;
            program.launches.push(Ready { function, extent: launch.extent, arguments: launch.arguments, step });
        }
        if let Some(graph) = program.graph.take() {
            self.driver.forget_graph(graph);
        }
        program.arena = arena.pointer;
        program.runs = 0;
        Ok(())
    }

    /// The index of a program whose launches stand for the arena as it is.
    fn built(&mut self, program: Program) -> Result<usize, Error> {
        let index = program.index();
        if self.programs[index].arena != self.arena.pointer {
            self.build(index)?; // The arena has grown since.
        }
        Ok(index)
    }

    /// Starts the launches of these steps of a program, in order.
    fn launch(&mut self, index: usize, which: impl Fn(&LoweredStep) -> bool) -> Result<(), Error> {
        let LoweredPlan { launches, steps, .. } = &self.programs[index];
        let mut launches = launches.iter().filter(|ready| which(&steps[ready.step]));
        launches.try_for_each(|ready| start(&mut self.driver, ready, steps))
    }

    /// Runs a program by `run`, which is told the copies that hold. Where it fails, none does.
    fn run_by<T>(
        &mut self,
        index: usize,
        run: impl FnOnce(&mut Self, &Copies) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut copies = std::mem::take(&mut self.copies);
        let result = run(self, &copies)?;
        let program = &mut self.programs[index];
        copies.apply(&program.effects);
        program.runs += 1;
        self.copies = copies;
        Ok(result)
    }

    fn run_once(&mut self, index: usize, copies: &Copies) -> Result<(), Error> {
        let program = &self.programs[index];
        if program.runs == 0 || !self.context.options.graph {
            return self.launch(index, |step| !step.is_there(copies)); // Uncaptured: modules may load lazily now.
        }
        let graph = program.graph;
        self.launch(index, |step| step.copy.is_some() && !step.is_there(copies))?;
        if let Some(graph) = graph {
            self.driver.replay(graph).map_err(failed)?;
        } else {
            self.driver.begin_capture().map_err(failed)?;
            let launched = self.launch(index, |step| step.copy.is_none());
            let captured = self.driver.end_capture();
            launched?; // First: a launch that fails spoils the capture, too.
            let graph = captured.map_err(failed)?;
            self.programs[index].graph = Some(graph);
            self.driver.replay(graph).map_err(failed)?;
        }
        Ok(())
    }
}

impl LoweredStep {
    /// Whether all that the step makes is there.
    fn is_there(&self, copies: &Copies) -> bool {
        self.copy.is_some_and(|copy| copies.hold(copy))
    }
}

fn allocate(driver: &mut impl Driver, bytes: usize, what: &str) -> Result<Slice, Error> {
    let pointer = driver.allocate(bytes as u64).map_err(|error| failed(format!("{what}: {error}")))?;
    Ok(Slice { pointer, bytes: bytes as u64 })
}

fn start(driver: &mut impl Driver, ready: &Ready, steps: &[LoweredStep]) -> Result<(), Error> {
    let Ready { function, extent, arguments, step } = ready;
    driver.launch(*function, *extent, arguments).map_err(|error| failed(format!("{}: {error}", steps[*step].label)))
}

impl<D: Driver> Backend for CudaBackend<D> {
    fn name(&self) -> String {
        format!("{}, {}", self.driver.name(), self.context.options.precision)
    }

    fn lower(&mut self, plan: &Plan) -> Result<Program, Error> {
        let narrowed = match self.context.options.precision {
            Precision::Bf16 => Some(plan.narrowed()?),
            Precision::Fp32 | Precision::Tf32 => None,
        };
        let plan = narrowed.as_ref().unwrap_or(plan);
        if let Some(buffer) = plan.buffers.iter().find(|buffer| buffer.kind.shape.elements() > MAX_ELEMENTS) {
            let message = format!("expected at most {MAX_ELEMENTS} elements, found {}", buffer.kind);
            return Err(Error::Buffer { name: buffer.name.clone(), message });
        }
        let persistent = self.persistent_slices(plan)?;
        let (effects, copies) = effects(plan, |id| persistent[id.0]);
        let portable = Context { mma: false, wgmma: false, options: self.context.options };
        let context = |op: &str| if self.refused.contains(op) { &portable } else { &self.context };
        let Lowering { items, regions, left } =
            Lowering::new(plan, |op, operands| kernel(op, operands, context(op.name())))?;
        let lifetimes = plan.lifetimes();
        let buffers: Vec<(usize, Lifetime)> =
            lifetimes.iter().enumerate().filter_map(|(index, life)| Some((index, (*life)?))).collect();
        let mut requests: Vec<(usize, Lifetime)> =
            buffers.iter().map(|&(index, life)| (plan.buffers[index].kind.bytes(), life)).collect();
        requests.extend(regions.iter().chain(&left).map(|&(bytes, life)| (bytes as usize, life)));
        let at = |step| Lifetime { first: step, last: step };
        requests.extend(items.iter().map(|item| (item.kernel.workspace_bytes as usize, at(item.step))));
        let mut places = self.place(&requests)?;
        let workspaces = places.split_off(buffers.len() + regions.len() + left.len());
        let left = places.split_off(buffers.len() + regions.len());
        let regions = places.split_off(buffers.len());
        let mut spots: Vec<Option<Spot>> = persistent.into_iter().map(|slice| slice.map(Spot::Fixed)).collect();
        for ((index, _), place) in buffers.into_iter().zip(places) {
            spots[index] = Some(place);
        }
        let mut steps = Vec::with_capacity(items.len());
        for (item, workspace) in items.into_iter().zip(workspaces) {
            let spot = |operand: &Operand| match *operand {
                Operand::Buffer(id) => spots[id.0],
                Operand::Parts { region, offset, bytes } => Some(regions[region].part(offset, bytes)),
                Operand::Left(index) => Some(left[index]),
            };
            let places = |operands: &[Operand]| operands.iter().filter_map(spot).collect();
            let constants = self.constants(&item.kernel.constants)?;
            let step = &plan.steps[item.step];
            steps.push(LoweredStep {
                number: item.step,
                label: step.label.clone(),
                op: step.op.name(),
                kernel: item.kernel,
                reads: places(&item.reads),
                writes: places(&item.writes),
                updates: places(&item.updates),
                workspace,
                parts: places(&item.parts),
                left: item.left.as_ref().and_then(spot).unwrap_or(Spot::Fixed(Slice::default())),
                constants,
                copy: copies[item.step],
            });
        }
        self.programs.push(LoweredPlan { steps, effects, ..LoweredPlan::default() });
        let index = self.programs.len() - 1;
        self.build(index)?;
        Ok(Program::new(index))
    }

    fn upload(&mut self, buffer: &str, bytes: &[u8]) -> Result<(), Error> {
        let slice = self.persistent.find(buffer, bytes.len())?;
        self.copies.apply(&[Effect::Change(slice)]);
        self.driver.upload(slice.pointer, bytes).map_err(failed)
    }

    fn download(&mut self, buffer: &str, bytes: &mut [u8]) -> Result<(), Error> {
        let slice = self.persistent.find(buffer, bytes.len())?;
        self.driver.download(slice.pointer, bytes).map_err(failed)
    }

    fn run(&mut self, program: Program, times: usize) -> Result<(), Error> {
        let index = self.built(program)?;
        (0..times).try_for_each(|_| self.run_by(index, |backend, copies| backend.run_once(index, copies)))
    }

    fn run_timed(&mut self, program: Program) -> Result<Vec<StepTime>, Error> {
        let index = self.built(program)?;
        self.run_by(index, |backend, copies| {
            let CudaBackend { programs, driver, .. } = backend;
            let LoweredPlan { launches, steps, .. } = &programs[index];
            let mut launches = launches.iter().peekable();
            // What one step of the plan comes to. Event 0 is the start, event i + 1 the end of step i.
            let of_plan = || steps.chunk_by(|one, next| one.number == next.number);
            driver.record(0).map_err(failed)?;
            let mut end = 0;
            for (number, step) in of_plan().enumerate() {
                end += step.len();
                while let Some(ready) = launches.next_if(|ready| ready.step < end) {
                    if !steps[ready.step].is_there(copies) {
                        start(driver, ready, steps)?;
                    }
                }
                driver.record(number + 1).map_err(failed)?;
            }
            let timed = of_plan().enumerate().map(|(number, step)| {
                let time = driver.elapsed(number, number + 1).map_err(failed)?;
                Ok(StepTime { label: step[0].label.clone(), op: step[0].op, time })
            });
            timed.collect()
        })
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.driver.sync().map_err(failed)
    }

    fn profile(&self) -> Option<String> {
        self.driver.profile()
    }
}
