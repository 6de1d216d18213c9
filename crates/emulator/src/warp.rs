//! A warp: 32 lanes with their registers and program counters. The lowest counter goes first, so lanes that took
//! different branches meet again where the branches join.

use crate::FaultKind;
use crate::decode::{Constant, Program, Special};
use crate::lanes::{Row32, Row64, lanes_of, write};
use crate::launch::Launch;
use crate::memory::BLOCK_WINDOW;
use crate::order::{AGENTS, FIRST_AGENT, Order};

/// A backward branch taken so often without a store lets others run.
const PATIENCE: u32 = 10_000;

/// The state of a warp.
#[derive(Debug)]
pub(crate) struct Warp {
    pub(crate) index: u32,
    /// The number of its block in the cluster.
    rank: u32,
    pub(crate) shorts: Vec<Row32>,
    pub(crate) longs: Vec<Row64>,
    pub(crate) predicates: Vec<u32>,
    /// The counters of lanes that are not in the running group.
    pub(crate) pcs: [u32; 32],
    /// The running group: its counter and lanes.
    pub(crate) pc: u32,
    pub(crate) mask: u32,
    /// The running group stops here to meet others.
    pub(crate) limit: u32,
    pub(crate) alive: u32,
    /// Lanes at a barrier.
    pub(crate) waiting: u32,
    /// Lanes that let others go first.
    parked: u32,
    /// Lanes at an exchange whose partners are not there yet.
    pub(crate) converging: u32,
    /// Carry bits of `add.cc`.
    pub(crate) carry: u32,
    /// Lanes that may touch global memory: all, or in a kernel that overlaps those that have waited for the launch before.
    pub(crate) awaited: u32,
    /// Number of barriers passed that order the lanes of the warp.
    pub(crate) sync: u32,
    /// What is ordered before this warp's next access.
    pub(crate) order: Order,
    /// The least time that it knows of any agent.
    pub(crate) floor: u32,
    /// Local memory, one lane behind the other.
    pub(crate) local: Vec<u8>,
    pub(crate) copies: Vec<Copy>,
    /// Groups of asynchronous copies that each lane has committed.
    pub(crate) committed: [u32; 32],
    pub(crate) beside: Beside,
    /// Waits that have failed in this turn; before one of them can succeed, there is nothing to do.
    pub(crate) sleeps: Vec<Sleep>,
    /// Lanes let others go first for another reason, too.
    restless: bool,
    /// Waits fail now instead of sleeping on, as hardware lets them after a while.
    pub(crate) timed_out: bool,
    /// Instructions executed, for `%clock`.
    pub(crate) executed: u64,
    /// So many that the kernel will not end.
    most_instructions: u64,
    branches: u32,
    /// A store happened since the end of the last turn.
    stored: bool,
    fingerprint: u64,
    /// The warp came back from its last turn exactly as it was before.
    pub(crate) stuck: bool,
    /// The allocation found last.
    pub(crate) hint: usize,
}

/// What a warp has under way in asynchronous units.
#[derive(Debug)]
pub(crate) struct Beside {
    /// Of each row of the 32-bit file, how a product uses it; empty in kernels without products.
    pub(crate) operands: Vec<Operand>,
    /// Group and time of the products that were not waited for, and groups committed.
    pub(crate) products: Vec<(u32, u32)>,
    pub(crate) product_groups: u32,
    /// Lane, group and time of the bulk copies out of shared memory that were not waited for, and each lane's groups.
    pub(crate) stores: Vec<(u8, u32, u32)>,
    pub(crate) store_groups: [u32; 32],
    /// Registers of a thread, and how often `setmaxnreg` has changed them.
    pub(crate) registers: u32,
    pub(crate) register_changes: usize,
    /// The phase of the cluster's barrier in which the warp arrived, until it waits.
    pub(crate) cluster_phase: Option<u32>,
}

/// A row that some product uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operand {
    /// Touched by another instruction since the last `wgmma.fence`.
    pub(crate) touched: bool,
    /// Columns of the product that adds to it, 0 for none.
    pub(crate) width: u16,
    /// A product reads it as A.
    pub(crate) read: bool,
    /// The latest group that uses it.
    pub(crate) group: u32,
}

impl Beside {
    fn new(program: &Program) -> Self {
        let rows = if program.watched.is_empty() { 0 } else { program.shorts };
        Beside {
            operands: vec![Operand { touched: true, width: 0, read: false, group: 0 }; rows],
            products: Vec::new(),
            product_groups: 0,
            stores: Vec::new(),
            store_groups: [0; 32],
            registers: program.registers.unwrap_or(0),
            register_changes: 0,
            cluster_phase: None,
        }
    }
}

/// What a wait that failed waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// The transaction barrier with this index leaves this phase.
    Phase(usize, u32),
    /// So many registers are free in the block.
    Registers(u32),
    /// The cluster's barrier leaves this phase.
    Cluster(u32),
}

/// An asynchronous copy that nobody has waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copy {
    pub(crate) lane: u8,
    pub(crate) bytes: u8,
    /// Which of the lane's groups it belongs to.
    pub(crate) group: u32,
    pub(crate) offset: u32,
}

impl Warp {
    /// A warp of a block before its first instruction, in its place in a cluster of so many blocks.
    pub(crate) fn new(launch: &Launch<'_>, block: [u32; 3], index: u32, [rank, blocks]: [usize; 2]) -> Self {
        let program = launch.program;
        let threads = launch.block_threads();
        let alive = match threads - 32 * index {
            0..32 => (1 << (threads - 32 * index)) - 1,
            _ => u32::MAX,
        };
        let mut warp = Warp {
            index,
            shorts: vec![[0; 32]; program.shorts],
            longs: vec![[0; 32]; program.longs],
            predicates: vec![0; program.predicates],
            pcs: [0; 32],
            pc: 0,
            mask: 0,
            limit: 0,
            alive,
            waiting: 0,
            parked: 0,
            converging: 0,
            carry: 0,
            awaited: if program.overlaps { 0 } else { u32::MAX },
            sync: 1,
            order: Order::begin(blocks),
            rank: rank as u32,
            floor: 1,
            local: vec![0; 32 * program.local_bytes as usize],
            copies: Vec::new(),
            committed: [0; 32],
            beside: Beside::new(program),
            sleeps: Vec::new(),
            restless: false,
            timed_out: false,
            executed: 0,
            most_instructions: launch.most_instructions,
            branches: 0,
            stored: false,
            fingerprint: 0,
            stuck: false,
            hint: 0,
        };
        warp.fill_constants(program, launch, block);
        warp
    }

    fn fill_constants(&mut self, program: &Program, launch: &Launch<'_>, block: [u32; 3]) {
        let window = u64::from(self.rank) * BLOCK_WINDOW;
        for (row, constant) in &program.constants {
            self.shorts[usize::from(*row)] = std::array::from_fn(|lane| match constant {
                Constant::Bits(bits) => *bits as u32,
                Constant::Shared(offset) => window.wrapping_add(*offset) as u32,
                Constant::Variable(..) => 0,
                Constant::Special(special) => self.special(*special, launch, block, lane as u32),
            });
        }
        for (row, constant) in &program.long_constants {
            let value = match constant {
                Constant::Bits(bits) => *bits,
                Constant::Shared(offset) => window.wrapping_add(*offset),
                Constant::Variable(index, offset) => launch.variables[*index].wrapping_add_signed(*offset),
                Constant::Special(_) => 0,
            };
            self.longs[usize::from(*row)] = [value; 32];
        }
        for (row, value) in &program.predicate_constants {
            self.predicates[usize::from(*row)] = if *value { u32::MAX } else { 0 };
        }
    }

    fn special(&self, special: Special, launch: &Launch<'_>, block: [u32; 3], lane: u32) -> u32 {
        match special {
            Special::Thread(axis) => launch.thread(32 * self.index + lane)[axis],
            Special::Threads(axis) => launch.block[axis],
            Special::Block(axis) => block[axis],
            Special::Blocks(axis) => launch.grid[axis],
            Special::Lane => lane,
            Special::Warp => self.index,
            Special::Warps => launch.block_threads().div_ceil(32),
            Special::MaskEqual => 1 << lane,
            Special::MaskLess => (1 << lane) - 1,
            Special::MaskLessEqual => (1 << lane) | ((1 << lane) - 1),
            Special::MaskGreater => !((1 << lane) | ((1 << lane) - 1)),
            Special::MaskGreaterEqual => !((1 << lane) - 1),
            Special::DynamicSharedBytes => launch.dynamic_shared_bytes as u32,
            Special::TotalSharedBytes => launch.shared_bytes() as u32,
            Special::ClusterBlocks(axis) => launch.cluster[axis],
            Special::ClusterBlock(axis) => block[axis] % launch.cluster[axis],
            Special::Cluster(axis) => block[axis] / launch.cluster[axis],
            Special::Clusters(axis) => launch.grid[axis] / launch.cluster[axis],
            Special::ClusterRank => self.rank,
            Special::ClusterSize => launch.cluster.iter().product(),
            Special::GridId | Special::Multiprocessor => 0,
            Special::Multiprocessors => 1,
        }
    }

    /// Makes the lanes with the lowest counter the running group. False if no lane can run.
    pub(crate) fn select(&mut self) -> bool {
        let runnable = self.alive & !self.waiting & !self.parked & !self.converging;
        self.mask = 0;
        let Some(pc) = lanes_of(runnable).map(|lane| self.pcs[lane]).min() else {
            return false;
        };
        let others = runnable | self.converging;
        self.mask = lanes_of(others).filter(|lane| self.pcs[*lane] == pc).fold(0, |mask, lane| mask | 1 << lane);
        self.converging &= !self.mask;
        self.pc = pc;
        let later = lanes_of(others & !self.mask).map(|lane| self.pcs[lane]).filter(|other| *other > pc);
        self.limit = later.min().unwrap_or(u32::MAX);
        true
    }

    /// Whether lanes outside of the running group might run or meet it.
    pub(crate) fn diverged(&self) -> bool {
        self.mask != self.alive
    }

    /// Ends the group's turn: some of its lanes go on at `pc`.
    pub(crate) fn leave(&mut self, lanes: u32, pc: u32) {
        for lane in lanes_of(lanes) {
            self.pcs[lane] = pc;
        }
    }

    /// Lets lanes that went behind others run again. False if there were none.
    pub(crate) fn unpark(&mut self) -> bool {
        let parked = self.parked;
        self.parked = 0;
        parked != 0
    }

    /// Begins a turn.
    pub(crate) fn begin(&mut self) {
        self.sleeps.clear();
        self.restless = false;
    }

    /// Whether every lane that could run has failed in a wait.
    pub(crate) fn is_asleep(&self) -> bool {
        !self.sleeps.is_empty() && !self.restless
    }

    /// Puts lanes whose wait failed behind all others; true if there are others that could run.
    pub(crate) fn sleep(&mut self, lanes: u32, until: Sleep) -> bool {
        self.sleeps.push(until);
        let restless = self.restless;
        let others = self.park(lanes);
        self.restless = restless;
        others
    }

    /// Puts the lanes behind all others of the warp; true if there are others that could run.
    pub(crate) fn park(&mut self, lanes: u32) -> bool {
        self.restless = true;
        self.parked |= lanes;
        self.alive & !self.waiting & !self.parked & !self.converging != 0
    }

    /// Counts a backward branch; true if it is time to let others run.
    pub(crate) fn tire(&mut self) -> bool {
        self.branches += 1;
        self.branches >= PATIENCE || self.is_endless()
    }

    /// Whether the warp has executed more than any kernel that ends.
    pub(crate) fn is_endless(&self) -> bool {
        self.executed >= self.most_instructions
    }

    /// An instruction that is no product touches rows that products use.
    #[inline]
    pub(crate) fn touch(&mut self, rows: &[u16]) -> Result<(), FaultKind> {
        for row in rows {
            let operand = &mut self.beside.operands[usize::from(*row)];
            if operand.width != 0 || operand.read {
                return Err(FaultKind::OperandPending);
            }
            operand.touched = true;
        }
        Ok(())
    }

    /// A store happened.
    pub(crate) fn refresh(&mut self) {
        self.branches = 0;
        self.stored = true;
    }

    /// At the end of a turn: notes whether anything in the warp has changed since the end of the one before.
    pub(crate) fn note_state(&mut self) {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut mix = |value: u64| hash = (hash ^ value).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        self.pcs.iter().for_each(|pc| mix(u64::from(*pc)));
        self.shorts.iter().flatten().for_each(|value| mix(u64::from(*value)));
        self.longs.iter().flatten().for_each(|value| mix(*value));
        self.predicates.iter().for_each(|value| mix(u64::from(*value)));
        mix(u64::from(self.alive) << 32 | u64::from(self.waiting));
        self.stuck = hash == self.fingerprint && !self.stored;
        self.stored = false;
        self.fingerprint = hash;
        self.branches = 0;
    }

    /// A barrier passes on what is ordered before this warp, in a block of so many warps and other agents.
    pub(crate) fn learn(&mut self, order: &Order, warps: usize, agents: usize) {
        // Its own arrivals come back to it: they order its lanes, too.
        let own = self.index as usize;
        self.sync += u32::from(order.own.known[own] > self.order.own.known[own]);
        self.order.join(order);
        let others = &self.order.own.known[FIRST_AGENT..][..agents.min(AGENTS - FIRST_AGENT)];
        self.floor = self.order.own.known[..warps].iter().chain(others).copied().min().unwrap_or(1);
    }

    /// Writes a row of the 32-bit file where the mask is set.
    #[inline(always)]
    pub(crate) fn put(&mut self, row: u16, values: &Row32, mask: u32) {
        write(&mut self.shorts[usize::from(row)], values, mask);
    }

    /// Writes a row of the 64-bit file where the mask is set.
    #[inline(always)]
    pub(crate) fn put_long(&mut self, row: u16, values: &Row64, mask: u32) {
        write(&mut self.longs[usize::from(row)], values, mask);
    }

    /// Writes a predicate where the mask is set.
    #[inline(always)]
    pub(crate) fn put_predicate(&mut self, row: u16, bits: u32, mask: u32) {
        let predicate = &mut self.predicates[usize::from(row)];
        *predicate = *predicate & !mask | bits & mask;
    }

    /// A predicate, negated or not.
    #[inline(always)]
    pub(crate) fn predicate(&self, (row, negated): (u16, bool)) -> u32 {
        let bits = self.predicates[usize::from(row)];
        if negated { !bits } else { bits }
    }
}
