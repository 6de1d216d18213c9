//! A cluster: its blocks take turns on one host thread, and reach each other's barriers and shared memory.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::block::{Block, Failure};
use crate::counters::Counters;
use crate::launch::Launch;
use crate::order::Order;
use crate::warp::Warp;
use crate::{Fault, FaultKind};

/// Rounds without any progress in the whole launch after which a cluster gives up.
const HOPELESS_ROUNDS: u32 = 300;
/// How long a cluster without progress sleeps before it looks again.
const NAP: Duration = Duration::from_micros(200);

/// Blocks that run together; one, if the kernel has no clusters. It is used for one cluster after the other.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    blocks: Vec<Block>,
}

/// What happened while every warp of a block had its turn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Round {
    /// Something changed.
    pub(crate) advanced: bool,
    /// Some warp ran.
    pub(crate) ran: bool,
    /// Some warp sleeps until a wait can succeed.
    pub(crate) asleep: bool,
}

/// What a warp does to another block of its cluster, after its turn.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) rank: usize,
    pub(crate) what: Remote,
    /// Who sent it, and what is ordered before, as the sender sees it.
    pub(crate) sender: (usize, usize, u32),
    pub(crate) order: Order,
}

/// The kinds of messages.
#[derive(Clone, Debug)]
pub(crate) enum Remote {
    Arrive {
        offset: u64,
        count: u32,
        bytes: Option<u32>,
        release: bool,
    },
    Receive(Rc<Delivery>),
    /// A plain store, by the block with a rank at a time of its own.
    Store {
        offset: u64,
        bytes: u32,
        words: [u32; 4],
        rank: usize,
        time: u32,
    },
}

/// Bytes of a bulk copy, in pieces of 16.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) pieces: Vec<(u64, [u32; 4])>,
    /// How the pieces are laid out.
    pub(crate) layout: u8,
    pub(crate) barrier: u64,
    /// What the copy counts for there.
    pub(crate) bytes: u64,
}

impl Cluster {
    /// Runs one cluster of a launch to its end. A fault comes with the number of its block.
    pub(crate) fn run(&mut self, launch: &Launch<'_>, number: u32) -> Result<Counters, (u32, Box<Fault>)> {
        let places = launch.cluster_blocks(number);
        self.blocks.resize_with(places.len(), Block::default);
        let mut warps: Vec<Vec<Warp>> = Vec::with_capacity(places.len());
        for (rank, (block, place)) in self.blocks.iter_mut().zip(&places).enumerate() {
            warps.push(block.begin(launch, *place, rank, places.len()));
        }
        let result = self.rounds(launch, &mut warps);
        result.map_err(|(rank, fault)| (self.blocks[rank].linear, fault))?;
        launch.progress.fetch_add(1, Relaxed);
        let mut counters = Counters::default();
        self.blocks.iter().for_each(|block| counters.add(&block.counters));
        Ok(counters)
    }

    fn rounds(&mut self, launch: &Launch<'_>, warps: &mut [Vec<Warp>]) -> Result<(), (usize, Box<Fault>)> {
        let mut hopeless = 0;
        let mut seen = launch.progress.load(Relaxed);
        let mut wake = false;
        while self.blocks.iter().any(|block| block.alive != 0) {
            let mut all = Round::default();
            for rank in 0..self.blocks.len() {
                if self.blocks[rank].alive == 0 {
                    continue;
                }
                let round = self.blocks[rank].round(launch, &mut warps[rank], wake).map_err(|fault| (rank, fault))?;
                all.advanced |= round.advanced;
                all.ran |= round.ran;
                all.asleep |= round.asleep;
                self.deliver(launch, rank, &warps[rank]).map_err(|fault| (rank, fault))?;
                all.advanced |= self.complete_barrier();
            }
            if all.advanced {
                launch.progress.fetch_add(1, Relaxed);
                hopeless = 0;
                wake = false;
                continue;
            }
            // Waits time out when nothing else can go on.
            wake = all.asleep && !wake;
            if wake {
                continue;
            }
            if !all.ran {
                return Err(self.stalled(launch, warps));
            }
            // Only a store of another block can help now.
            let now = launch.progress.load(Relaxed);
            hopeless = if now == seen { hopeless + 1 } else { 0 };
            seen = now;
            if launch.stopped.load(Relaxed) {
                return Ok(());
            }
            if hopeless > HOPELESS_ROUNDS {
                return Err(self.stalled(launch, warps));
            }
            std::thread::sleep(NAP);
        }
        for (rank, block) in self.blocks.iter().enumerate() {
            block.check_end(launch, &warps[rank]).map_err(|fault| (rank, fault))?;
        }
        Ok(())
    }

    /// Does what warps of a block have done to others.
    fn deliver(&mut self, launch: &Launch<'_>, rank: usize, warps: &[Warp]) -> Result<(), Box<Fault>> {
        for message in std::mem::take(&mut self.blocks[rank].messages) {
            let (warp, lane, pc) = message.sender;
            let failed = |kind| Failure { lane, pc, kind };
            let to = message.rank;
            let result = match self.blocks.get_mut(to) {
                Some(block) if block.alive != 0 => block.accept(message.what, message.order.seen_from(rank, to)),
                Some(_) => Err(FaultKind::Cluster(format!("block {to} of the cluster has ended"))),
                None => Err(FaultKind::Cluster(format!("there is no block {to} in the cluster"))),
            };
            result.map_err(|kind| self.blocks[rank].fault(launch, &warps[warp], failed(kind)))?;
        }
        Ok(())
    }

    /// Lets all warps pass `barrier.cluster` when each has arrived there or ended. True if they did.
    fn complete_barrier(&mut self) -> bool {
        let arrived = |block: &Block| block.cluster_arrived & block.alive == block.alive;
        if self.blocks.iter().all(|block| block.cluster_arrived == 0) || !self.blocks.iter().all(arrived) {
            return false;
        }
        let orders: Vec<Order> =
            self.blocks.iter_mut().map(|block| std::mem::take(&mut block.cluster_gathering)).collect();
        for (rank, block) in self.blocks.iter_mut().enumerate() {
            block.cluster_arrived = 0;
            block.cluster_phases += 1;
            for (other, order) in orders.iter().enumerate() {
                block.cluster_done.join(&order.clone().seen_from(other, rank));
            }
        }
        true
    }

    /// No warp can go on: what each waits for.
    fn stalled(&self, launch: &Launch<'_>, warps: &[Vec<Warp>]) -> (usize, Box<Fault>) {
        let mut lines = Vec::new();
        let mut first = None;
        for (rank, block) in self.blocks.iter().enumerate() {
            let of = if self.blocks.len() > 1 { format!("block {rank}: ") } else { String::new() };
            lines.extend(block.states(launch, &warps[rank]).into_iter().map(|line| format!("{of}{line}")));
            let stuck = warps[rank].iter().find(|warp| warp.alive != 0);
            first = first.or(stuck.map(|warp| (rank, warp)));
        }
        let kind = FaultKind::Deadlock(lines);
        let Some((rank, warp)) = first else { return (0, Box::new(kind.into())) };
        let lane = warp.alive.trailing_zeros() as usize;
        (rank, self.blocks[rank].fault(launch, warp, Failure { lane, pc: warp.pcs[lane], kind }))
    }
}
