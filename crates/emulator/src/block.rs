//! A block: its warps take turns, from barrier to barrier.

use crate::cluster::{Message, Round};
use crate::counters::Counters;
use crate::execute::Scratch;
use crate::instruction::{Op, VoteKind};
use crate::lanes::lanes_of;
use crate::launch::Launch;
use crate::mbarrier::Mbarriers;
use crate::order::{Agent, Order};
use crate::shared::{Shared, Toucher};
use crate::warp::{Sleep, Warp};
use crate::{Fault, FaultKind, Site};

/// Why a warp's turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Exited,
    /// All its lanes wait at a barrier that is not complete.
    Waiting,
    /// It lets others run.
    Yielded,
}

/// What went wrong, in which lane and instruction.
pub(crate) struct Failure {
    pub(crate) lane: usize,
    pub(crate) pc: u32,
    pub(crate) kind: FaultKind,
}

/// What the warps of a block share. It is used for one block after the other.
#[derive(Debug, Default)]
pub(crate) struct Block {
    pub(crate) shared: Shared,
    pub(crate) counters: Counters,
    pub(crate) linear: u32,
    index: [u32; 3],
    /// Its number in its cluster, and what its warps have just done to the cluster's other blocks.
    pub(crate) rank: usize,
    pub(crate) messages: Vec<Message>,
    /// Warps that have arrived at `barrier.cluster`, phases that it has completed, and what is ordered before their ends.
    pub(crate) cluster_arrived: u32,
    pub(crate) cluster_phases: u32,
    pub(crate) cluster_gathering: Order,
    pub(crate) cluster_done: Order,
    /// Counts barriers completed, arrivals, fences and asynchronous operations.
    pub(crate) time: u32,
    pub(crate) barriers: [Barrier; 16],
    pub(crate) mbarriers: Mbarriers,
    /// How many warps there are.
    pub(crate) warps: usize,
    /// Warps that wait at an asynchronous product for the others of their group.
    pub(crate) gathering: u32,
    /// Registers that `setmaxnreg` has given back, and what each warpgroup asked for so far.
    pub(crate) free_registers: u32,
    pub(crate) register_changes: [Vec<u32>; 8],
    pub(crate) scratch: Scratch,
    /// Warps that have not exited.
    pub(crate) alive: u32,
    /// Warps that were released from a barrier and must go on behind it.
    pub(crate) released: u32,
}

/// A named barrier.
#[derive(Clone, Debug, Default)]
pub(crate) struct Barrier {
    /// Warps that wait.
    pub(crate) waiting: u32,
    /// Threads that have arrived, whole warps.
    pub(crate) threads: u32,
    /// How many must arrive; 0 stands for all.
    pub(crate) expected: u32,
    /// Of a barrier that votes: lanes for it, and lanes at all.
    pub(crate) votes: u32,
    pub(crate) voters: u32,
    /// What is ordered before those who leave.
    pub(crate) order: Order,
}

impl Block {
    /// Gets ready for one block of a launch, in its place in a cluster of so many blocks.
    pub(crate) fn begin(&mut self, launch: &Launch<'_>, index: [u32; 3], rank: usize, blocks: usize) -> Vec<Warp> {
        let [x, y, _] = launch.grid;
        let count = launch.block_threads().div_ceil(32);
        self.shared.reset(launch.shared_bytes());
        if blocks > 1 {
            for other in 0..blocks as u32 {
                self.shared.agent(Agent::Block(other));
            }
        }
        self.counters = Counters::default();
        self.index = index;
        self.rank = rank;
        self.linear = index[0] + x * (index[1] + y * index[2]);
        self.time = 1;
        self.barriers = Default::default();
        self.mbarriers.clear();
        self.messages.clear();
        self.cluster_arrived = 0;
        self.cluster_phases = 0;
        self.cluster_gathering = Order::default();
        self.cluster_done = Order::default();
        self.warps = count as usize;
        self.gathering = 0;
        self.free_registers = 0;
        self.register_changes.iter_mut().for_each(Vec::clear);
        self.alive = u32::MAX >> (32 - count);
        self.released = 0;
        (0..count).map(|number| Warp::new(launch, index, number, [rank, blocks])).collect()
    }

    /// Gives every warp that can run its turn; the round ends early where a barrier is complete. Waits that sleep time
    /// out if they are woken.
    pub(crate) fn round(&mut self, launch: &Launch<'_>, warps: &mut [Warp], wake: bool) -> Result<Round, Box<Fault>> {
        let mut round = Round::default();
        for warp in warps.iter_mut() {
            if self.alive >> warp.index & 1 == 0 || warp.waiting != 0 && warp.waiting == warp.alive {
                continue;
            }
            if warp.is_asleep() && warp.sleeps.iter().all(|until| self.is_pending(*until)) {
                round.asleep = true;
                if !wake {
                    continue;
                }
                warp.timed_out = true;
            }
            let timed_out = warp.timed_out;
            round.ran = true;
            let stop = self.turn(launch, warp).map_err(|failure| self.fault(launch, warp, failure))?;
            match stop {
                Stop::Exited => {
                    self.alive &= !(1 << warp.index);
                    round.advanced = true;
                }
                Stop::Waiting => round.advanced = true,
                Stop::Yielded if warp.is_endless() => {
                    let kind = FaultKind::Endless { instructions: warp.executed };
                    let failure = Failure { lane: warp.alive.trailing_zeros() as usize, pc: warp.pc, kind };
                    return Err(self.fault(launch, warp, failure));
                }
                // It was woken by what it waited for, and waits for the next.
                Stop::Yielded if warp.is_asleep() && !timed_out => round.advanced = true,
                Stop::Yielded => {
                    warp.note_state();
                    round.advanced |= !warp.stuck;
                }
            }
            warp.timed_out = false;
            self.complete_barriers();
            if self.released != 0 || self.gathered() != 0 {
                break;
            }
        }
        for group in lanes_of(self.gathered()) {
            let members = &mut warps[4 * group..4 * group + 4];
            if let Err((warp, failure)) = self.meet(launch, group as u32, members) {
                return Err(self.fault(launch, &warps[4 * group + warp], failure));
            }
            round.advanced = true;
        }
        if self.released != 0 {
            self.release(launch, warps);
            round.advanced = true;
        }
        Ok(round)
    }

    /// What must be so when all warps have ended.
    pub(crate) fn check_end(&self, launch: &Launch<'_>, warps: &[Warp]) -> Result<(), Box<Fault>> {
        let fail = |warp: &Warp, kind| Err(self.fault(launch, warp, Failure { lane: 0, pc: warp.pc, kind }));
        for warp in warps {
            // All warps of a group must have changed their registers as often.
            let group = warp.index as usize / 4;
            let (count, changes) = (warp.beside.register_changes, self.register_changes[group].len());
            if count < changes || count > 0 && warps.len() < 4 * group + 4 {
                let what = "setmaxnreg of its warpgroup";
                let what = format!("warp {} ended after {count} of the {changes} {what}", warp.index);
                return fail(warp, FaultKind::Registers(what));
            }
        }
        if let (Some(barrier), Some(warp)) = (self.mbarriers.unseen(), warps.last()) {
            let offset = barrier.offset;
            let what = format!("the block ends before the copies that complete on the mbarrier at offset {offset}");
            return fail(warp, FaultKind::BulkCopy(what));
        }
        Ok(())
    }

    /// Whether what a wait waits for has not come.
    fn is_pending(&self, until: Sleep) -> bool {
        match until {
            Sleep::Phase(index, phase) => self.mbarriers.get(index).phases == phase,
            Sleep::Registers(need) => self.free_registers < need,
            Sleep::Cluster(phase) => self.cluster_phases == phase,
        }
    }

    /// Marks the warps of complete barriers as released.
    fn complete_barriers(&mut self) {
        for barrier in &mut self.barriers {
            let complete = match barrier.expected {
                0 => barrier.waiting != 0 && barrier.waiting == self.alive,
                expected => barrier.threads >= expected,
            };
            if !complete {
                continue;
            }
            self.counters.barriers += 1;
            self.released |= barrier.waiting;
            if barrier.waiting == 0 {
                // Everybody only arrived: the barrier begins anew.
                *barrier = Barrier::default();
            }
        }
    }

    /// Lets the warps of complete barriers go on.
    fn release(&mut self, launch: &Launch<'_>, warps: &mut [Warp]) {
        let (count, agents) = (warps.len(), self.shared.agents());
        for barrier in &mut self.barriers {
            if barrier.waiting & self.released == 0 {
                continue;
            }
            // Whoever waited did nothing since it arrived, so all it ever did is ordered before what comes now.
            self.time += 1;
            for warp in lanes_of(barrier.waiting) {
                barrier.order.own.known[warp] = self.time;
            }
            for warp in warps.iter_mut().filter(|warp| barrier.waiting >> warp.index & 1 == 1) {
                let lane = warp.waiting.trailing_zeros() as usize & 31;
                warp.learn(&barrier.order, count, agents);
                if let Op::BarrierReduce { kind, d, .. } = &launch.program.code[warp.pcs[lane] as usize].op {
                    let bits = |yes: bool| if yes { u32::MAX } else { 0 };
                    match kind {
                        VoteKind::Ballot => warp.put(*d, &[barrier.votes; 32], warp.waiting),
                        VoteKind::All => {
                            warp.put_predicate(*d, bits(barrier.votes == barrier.voters), warp.waiting);
                        }
                        _ => warp.put_predicate(*d, bits(barrier.votes > 0), warp.waiting),
                    }
                }
                warp.waiting = 0;
                warp.pcs.iter_mut().for_each(|pc| *pc += 1);
            }
            *barrier = Barrier::default();
        }
        self.released = 0;
    }

    /// Who touches shared memory.
    #[inline(always)]
    pub(crate) fn toucher<'w>(&self, warp: &'w Warp, lane: usize) -> Toucher<'w> {
        Toucher {
            thread: (32 * warp.index) as u16 + lane as u16,
            time: self.time,
            sync: warp.sync,
            floor: warp.floor,
            known: &warp.order.own.known,
        }
    }

    pub(crate) fn fault(&self, launch: &Launch<'_>, warp: &Warp, failure: Failure) -> Box<Fault> {
        let linear = 32 * warp.index + failure.lane as u32;
        let program = launch.program;
        let place = program.places[failure.pc as usize];
        let source = |source: &crate::ptx::SourceLine| {
            let file = launch.module.files.get(&source.file)?;
            (source.line > 0).then(|| (file.clone(), source.line))
        };
        let site = Site {
            kernel: program.name.clone(),
            block: self.index,
            thread: launch.thread(linear),
            instruction: program.opcodes[failure.pc as usize].clone(),
            line: place.line,
            sources: place.sources.iter().filter_map(source).collect(),
        };
        Box::new(Fault { kind: failure.kind, site: Some(Box::new(site)) })
    }

    /// What the warps that have not ended do, in words.
    pub(crate) fn states(&self, launch: &Launch<'_>, warps: &[Warp]) -> Vec<String> {
        // Warps that do the same are named together.
        let mut states: Vec<(&str, String, Vec<u32>)> = Vec::new();
        for warp in warps.iter().filter(|warp| warp.alive != 0) {
            let lane = warp.alive.trailing_zeros() as usize;
            let pc = warp.pcs[lane];
            let at = launch.program.places[pc as usize].line;
            let opcode = &launch.program.opcodes[pc as usize];
            let verb = if warp.waiting != 0 || warp.is_asleep() { "wait" } else { "spin" };
            let mut place = format!("at PTX line {at} ({opcode})");
            if warp.is_asleep()
                && let Some(until) = warp.sleeps.first()
            {
                place += &match until {
                    Sleep::Phase(index, _) => format!(" for {}", self.mbarriers.get(*index).missing()),
                    Sleep::Registers(need) => format!(" for {need} registers, {} are free", self.free_registers),
                    Sleep::Cluster(_) => String::new(),
                };
            }
            match states.iter_mut().find(|state| state.0 == verb && state.1 == place) {
                Some(state) => state.2.push(warp.index),
                None => states.push((verb, place, vec![warp.index])),
            }
        }
        let line = |(verb, place, warps): (&str, String, Vec<u32>)| match warps[..] {
            [warp] => format!("warp {warp} {verb}s {place}"),
            _ => format!("warps {} {verb} {place}", warps.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")),
        };
        states.into_iter().map(line).collect()
    }
}
