//! The CPU backend: work is split over threads by shape alone, and a run allocates nothing.
//!
//! Every sum is split in a way that depends on the shapes only, so any number of threads gives the same bits.

mod add;
mod advance;
mod bf16;
mod cast;
mod ceiling;
mod conv2d;
mod dot;
mod exp;
mod filters;
mod gather_batch;
mod gemm;
mod gradient_norm;
mod linear;
mod margin_softmax;
mod memory;
mod metrics;
mod optimizer;
#[allow(unsafe_code)] // Disjoint parts of one buffer for the threads, each handed out once.
mod parts;
mod prelu;
#[allow(unsafe_code)] // The one place where the CPU backend reads through raw pointers: the innermost loop of products.
mod product;
mod row_modifiers;
mod unit_rows;
mod winograd;

pub use ceiling::{Ceilings, measure_ceilings};

use crate::arena::{Request, assign};
use crate::backend::{Backend, Program, StepTime};
use crate::error::Error;
use crate::op::Op;
use crate::persistent::Persistent;
use crate::plan::{Buffer, BufferId, Lifetime, Place, Plan, Step};
use crate::shape::{DType, Type};
use memory::{Io, Memory, Ports, Slot, Space};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::time::Instant;

/// Floats of one cache line; every buffer starts at a multiple of it.
const LINE: usize = 16;
/// Floats that one task of an element-wise kernel handles.
const CHUNK: usize = 16 * 1024;

/// A step made ready: its scratch memory and its code.
struct Kernel {
    /// Scratch memory, in floats; its contents are undefined.
    workspace: usize,
    run: Box<dyn Fn(Io<'_>) + Send + Sync>,
}

impl Kernel {
    fn new(workspace: usize, run: impl Fn(Io<'_>) + Send + Sync + 'static) -> Self {
        Kernel { workspace, run: Box::new(run) }
    }
}

/// Types of a step's operands.
struct Operands<'a> {
    reads: Vec<&'a Type>,
    writes: Vec<&'a Type>,
    updates: Vec<&'a Type>,
}

/// What kernels are chosen by, besides operator and shapes.
#[derive(Clone, Copy)]
struct Choice {
    threads: usize,
    /// Whether convolutions may take fewer products than their definition.
    winograd: bool,
}

/// The kernel for an operator with these operands.
fn kernel(op: &Op, operands: &Operands<'_>, choice: Choice) -> Result<Kernel, Error> {
    let mut kinds = operands.reads.iter().chain(&operands.writes);
    let kernel = f32_kernel(op, operands, choice)?;
    if kinds.any(|kind| kind.dtype == DType::Bf16) && !matches!(op, Op::Cast(_)) {
        return Ok(bf16::staged(kernel, operands));
    }
    Ok(kernel)
}

/// The kernel that computes on f32 words.
fn f32_kernel(op: &Op, operands: &Operands<'_>, choice: Choice) -> Result<Kernel, Error> {
    match op {
        Op::GatherBatch(op) => Ok(gather_batch::gather_batch(*op, operands)),
        Op::Conv2dForward(op) => conv2d::forward(*op, operands, choice),
        Op::Conv2dBackwardData(op) => conv2d::backward_data(*op, operands, choice),
        Op::Conv2dBackwardWeight(op) => conv2d::backward_weight(*op, operands, choice),
        Op::LinearForward(_) => linear::forward(operands),
        Op::LinearBackwardData(_) => linear::backward_data(operands),
        Op::LinearBackwardWeight(_) => linear::backward_weight(operands),
        Op::PreluForward(_) => Ok(prelu::forward(operands)),
        Op::PreluBackward(_) => Ok(prelu::backward(operands)),
        Op::Add(_) => Ok(add::add()),
        Op::MarginSoftmaxForward(op) => Ok(margin_softmax::forward(op.0.clone(), operands)),
        Op::MarginSoftmaxBackward(op) => Ok(margin_softmax::backward(op.0.clone(), operands)),
        Op::GradientNorm(_) => Ok(gradient_norm::gradient_norm(operands)),
        Op::Optimizer(op) => Ok(optimizer::optimizer(op.clone())),
        Op::Metrics(_) => Ok(metrics::metrics(operands)),
        Op::Advance(_) => Ok(advance::advance()),
        Op::Cast(op) => Ok(cast::cast(*op, operands)),
        Op::Gemm(op) => gemm::gemm(*op, operands),
        Op::RowModifiers(op) => Ok(row_modifiers::row_modifiers(*op, operands)),
        Op::UnitRows(_) => Ok(unit_rows::unit_rows(operands)),
    }
}

/// A step in its place.
struct LoweredStep {
    label: String,
    op: &'static str,
    kernel: Kernel,
    ports: Ports,
}

/// Memory of a [`CpuBackend`], in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocated {
    /// For persistent buffers.
    pub persistent: usize,
    /// For all else.
    pub arena: usize,
    /// The most scratch memory that a step has within the arena.
    pub scratch: usize,
}

/// Runs plans on the threads of this machine.
pub struct CpuBackend {
    pool: ThreadPool,
    memory: Memory,
    /// Whether activations are bf16.
    narrowed: bool,
    /// Whether convolutions are computed by their definition.
    exact_conv: bool,
    persistent: Persistent<Slot>,
    programs: Vec<Vec<LoweredStep>>,
}

impl CpuBackend {
    /// A backend with this many threads; 0 means one for each core.
    ///
    /// # Errors
    /// [`Error::Backend`], when the threads cannot be started.
    pub fn new(threads: usize) -> Result<Self, Error> {
        let pool = start_threads(threads)?;
        let memory = Memory::default();
        Ok(CpuBackend {
            pool,
            memory,
            narrowed: false,
            exact_conv: false,
            persistent: Persistent::default(),
            programs: Vec::new(),
        })
    }

    /// The same with activations and weights of products in bf16, see [`Plan::narrowed`]: slower, and there to show
    /// what that precision comes to.
    pub fn in_bf16(self) -> Self {
        CpuBackend { narrowed: true, ..self }
    }

    /// The same with convolutions computed by their definition, product by product, never by Winograd's algorithm.
    pub fn with_exact_conv(self) -> Self {
        CpuBackend { exact_conv: true, ..self }
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Memory that is allocated now.
    pub fn allocated(&self) -> Allocated {
        let [persistent, arena] = self.memory.bytes();
        let steps = self.programs.iter().flatten();
        let scratch = 4 * steps.map(|step| step.kernel.workspace).max().unwrap_or(0);
        Allocated { persistent, arena, scratch }
    }

    /// The place of every buffer but those of the arena.
    fn persistent_slots(&mut self, plan: &Plan) -> Result<Vec<Option<Slot>>, Error> {
        let CpuBackend { memory, persistent, .. } = self;
        let is_new = |b: &&Buffer| b.place == Place::Persistent && !persistent.knows(&b.name);
        let lengths = plan.buffers.iter().filter(is_new).map(|buffer| words(&buffer.kind).next_multiple_of(LINE));
        memory.reserve_persistent(lengths.sum())?;
        persistent.places(plan, |buffer| memory.grow(words(&buffer.kind)), view)
    }
}

/// This many threads; 0 means one for each core.
fn start_threads(threads: usize) -> Result<ThreadPool, Error> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("cpu-backend-{index}"))
        .build()
        .map_err(|error| Error::Backend { backend: "cpu", message: format!("threads: {error}") })
}

/// Length of a buffer in floats.
fn words(kind: &Type) -> usize {
    kind.bytes().div_ceil(4)
}

/// The part of a block that a view from element `offset` on is; none if it leaves the block or begins within a word.
fn view(block: Slot, offset: usize, kind: &Type) -> Option<Slot> {
    let bytes = offset * kind.dtype.bytes();
    let view = Slot { start: block.start + bytes / 4, length: words(kind), ..block };
    (bytes.is_multiple_of(4) && view.end() <= block.end()).then_some(view)
}

fn operands<'a>(plan: &'a Plan, step: &Step) -> Operands<'a> {
    Operands { reads: plan.kinds(&step.reads), writes: plan.kinds(&step.writes), updates: plan.kinds(&step.updates) }
}

impl Backend for CpuBackend {
    fn name(&self) -> String {
        let precision = if self.narrowed { "bf16" } else { "fp32" };
        format!("CPU, {} thread{}, {precision}", self.threads(), if self.threads() == 1 { "" } else { "s" })
    }

    fn lower(&mut self, plan: &Plan) -> Result<Program, Error> {
        let narrowed = if self.narrowed { Some(plan.narrowed()?) } else { None };
        let plan = narrowed.as_ref().unwrap_or(plan);
        let mut slots = self.persistent_slots(plan)?;
        let choice = Choice { threads: self.threads(), winograd: !self.exact_conv };
        let kernels: Vec<Kernel> =
            plan.steps.iter().map(|step| kernel(&step.op, &operands(plan, step), choice)).collect::<Result<_, _>>()?;
        // Buffers of the arena first, then one workspace a step.
        let lifetimes = plan.lifetimes();
        let buffers = lifetimes.iter().enumerate().filter_map(|(index, life)| life.map(|life| (index, life)));
        let mut requests: Vec<Request> = buffers
            .clone()
            .map(|(index, lifetime)| Request {
                length: words(&plan.buffers[index].kind).next_multiple_of(LINE),
                lifetime,
            })
            .collect();
        requests.extend(kernels.iter().enumerate().map(|(step, kernel)| Request {
            length: kernel.workspace.next_multiple_of(LINE),
            lifetime: Lifetime { first: step, last: step },
        }));
        let (offsets, arena) = assign(&requests);
        let slot = |start: usize, length: usize| Slot { space: Space::Arena, start, length };
        for ((index, _), &offset) in buffers.zip(&offsets) {
            slots[index] = Some(slot(offset, words(&plan.buffers[index].kind)));
        }
        let workspaces = &offsets[offsets.len() - kernels.len()..];
        let mut steps = Vec::with_capacity(plan.steps.len());
        for ((step, kernel), &workspace) in plan.steps.iter().zip(kernels).zip(workspaces) {
            let places = |ids: &[BufferId]| ids.iter().filter_map(|id| slots[id.0]).collect::<Vec<Slot>>();
            let workspace = slot(workspace, kernel.workspace);
            let ports = Ports::new(places(&step.reads), places(&step.writes), places(&step.updates), workspace)
                .map_err(|message| Error::Buffer {
                    name: step.label.clone(),
                    message: format!("{}: {message}", step.op.name()),
                })?;
            steps.push(LoweredStep { label: step.label.clone(), op: step.op.name(), kernel, ports });
        }
        self.memory.reserve_arena(arena)?;
        self.programs.push(steps);
        Ok(Program::new(self.programs.len() - 1))
    }

    fn upload(&mut self, buffer: &str, bytes: &[u8]) -> Result<(), Error> {
        let slot = self.persistent.find(buffer, bytes.len())?;
        self.memory.bytes_mut(slot)[..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn download(&mut self, buffer: &str, bytes: &mut [u8]) -> Result<(), Error> {
        let slot = self.persistent.find(buffer, bytes.len())?;
        bytes.copy_from_slice(&self.memory.bytes_mut(slot)[..bytes.len()]);
        Ok(())
    }

    fn run(&mut self, program: Program, times: usize) -> Result<(), Error> {
        let CpuBackend { pool, memory, programs, .. } = self;
        let steps = &programs[program.index()];
        // The loop runs on one of the threads, so that they are woken once, not once a step.
        pool.install(|| {
            for LoweredStep { kernel, ports, .. } in (0..times).flat_map(|_| steps) {
                (kernel.run)(memory.io(ports));
            }
        });
        Ok(())
    }

    fn run_timed(&mut self, program: Program) -> Result<Vec<StepTime>, Error> {
        let CpuBackend { pool, memory, programs, .. } = self;
        let steps = &programs[program.index()];
        Ok(pool.install(|| {
            let mut before = Instant::now();
            let timed = steps.iter().map(|LoweredStep { label, op, kernel, ports }| {
                (kernel.run)(memory.io(ports));
                let now = Instant::now();
                let time = now - std::mem::replace(&mut before, now);
                StepTime { label: label.clone(), op, time }
            });
            timed.collect()
        }))
    }

    fn sync(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
