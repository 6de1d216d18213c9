//! Bulk copies. The data is moved at once, but nobody may touch it before the wait.

use std::rc::Rc;

use crate::FaultKind;
use crate::asynchronous::{BulkLoad, BulkStore, Place};
use crate::block::Block;
use crate::cluster::{Delivery, Message, Remote};
use crate::instruction::Address;
use crate::lanes::{Row64, lanes_of};
use crate::launch::Launch;
use crate::memory::{BLOCK_WINDOW, Writer};
use crate::order::{AGENTS, Agent, FIRST_AGENT, Order};
use crate::ptx::Space;
use crate::shared::Toucher;
use crate::tensor_map::{Swizzle, TensorMap};
use crate::warp::Warp;

use super::LaneFault;
use super::access::{addresses, check_awaited, fetch, fetch_global, space_of};

/// A row of bytes: where it lies in global memory, where in the box, and how many of its bytes are inside of the tensor.
struct Run {
    global: u64,
    shared: u64,
    bytes: u64,
    /// The first byte inside, and the one behind the last.
    inside: [u64; 2],
}

/// What a copy moves.
struct Moved {
    runs: Vec<Run>,
    swizzle: Swizzle,
    /// How shared memory notes that swizzle; 0 for bytes that may lie in any way.
    layout: u8,
    bytes: u64,
    alignment: u64,
}

impl Block {
    /// From global to shared memory.
    pub(super) fn bulk_load(
        &mut self,
        launch: &Launch<'_>,
        warp: &mut Warp,
        load: &BulkLoad,
        lane: usize,
    ) -> Result<(), FaultKind> {
        let moved = self.moved(launch, warp, &load.from, lane)?;
        let (rank, to) = located(addresses(warp, &load.to)[lane]);
        let (rank_of_barrier, barrier) = located(addresses(warp, &load.barrier)[lane]);
        if rank != rank_of_barrier {
            let what =
                format!("the target lies in block {rank} of the cluster, the mbarrier in block {rank_of_barrier}");
            return Err(FaultKind::Cluster(what));
        }
        check_target(to, &moved)?;
        let mut pieces = Vec::new();
        let mut row = Vec::new();
        for run in &moved.runs {
            row.clear();
            row.resize(run.bytes as usize, 0);
            let [begin, end] = run.inside;
            if begin < end {
                let at = run.global.wrapping_add(begin);
                let length = (end - begin) as u32;
                let (allocation, offset) = launch.memory.find(at, length, "read", &mut warp.hint)?;
                launch.check_declared(at, length, false)?;
                allocation.load_bytes(offset, &mut row[begin as usize..end as usize])?;
                self.counters.bulk_read_bytes += end - begin;
            }
            for (index, piece) in row.chunks_exact(16).enumerate() {
                let word = |word: usize| u32::from_le_bytes(std::array::from_fn(|byte| piece[4 * word + byte]));
                let at = moved.swizzle.apply(to + run.shared + 16 * index as u64, 0);
                pieces.push((at, std::array::from_fn(word)));
            }
        }
        let (order, _) = self.issue(warp);
        let delivery = Rc::new(Delivery { pieces, layout: moved.layout, barrier, bytes: moved.bytes });
        let ranks = match load.multicast {
            Some(row) => warp.shorts[usize::from(row)][lane] & 0xffff,
            None => 1_u32.checked_shl(rank as u32).unwrap_or(0),
        };
        if ranks == 0 {
            return Err(FaultKind::Cluster("the copy goes to no block of the cluster".to_owned()));
        }
        for rank in lanes_of(ranks) {
            if rank == self.rank {
                self.receive(&delivery, &order)?;
            } else {
                self.send(warp, lane, rank, Remote::Receive(Rc::clone(&delivery)), order.clone());
            }
        }
        Ok(())
    }

    /// A bulk copy comes into this block's shared memory.
    fn receive(&mut self, delivery: &Delivery, order: &Order) -> Result<(), FaultKind> {
        let barrier = delivery.barrier;
        let index = self.mbarriers.find_from_afar(&self.shared, barrier, order)?;
        if !self.mbarriers.get(index).announced {
            let what = "no fence.mbarrier_init or fence.proxy.async after the init of the one at offset";
            return Err(FaultKind::Mbarrier(format!("{what} {barrier}")));
        }
        let agent = self.agent(self.mbarriers.agent(index))?;
        self.time += 1;
        let by = Toucher { thread: 32 * agent as u16, time: self.time, sync: 0, floor: 0, known: &order.own.known };
        for (at, words) in &delivery.pieces {
            self.shared.write_beside(*at, *words, by, &order.own.fenced, delivery.layout)?;
        }
        self.mbarriers.transfer(index, delivery.bytes, agent, self.time)
    }

    /// Does something to another block of the cluster once the turn is over.
    pub(super) fn send(&mut self, warp: &Warp, lane: usize, rank: usize, what: Remote, order: Order) {
        self.messages.push(Message { rank, what, sender: (warp.index as usize, lane, warp.pc), order });
    }

    /// What another block of the cluster does to this one.
    pub(crate) fn accept(&mut self, what: Remote, order: Order) -> Result<(), FaultKind> {
        match what {
            Remote::Receive(delivery) => self.receive(&delivery, &order),
            Remote::Store { offset, bytes, words, rank, time } => {
                let thread = 32 * (FIRST_AGENT + rank) as u16;
                let by = Toucher { thread, time, sync: 0, floor: 0, known: &order.own.known };
                self.shared.store(offset, bytes, &words, by)
            }
            Remote::Arrive { offset, count, bytes, release } => {
                let index = self.mbarriers.find_from_afar(&self.shared, offset, &order)?;
                if let Some(bytes) = bytes {
                    self.mbarriers.expect(index, bytes)?;
                }
                self.mbarriers.arrive(index, count, release.then_some(&order)).map(drop)
            }
        }
    }

    /// Makes the addresses of an access to the block's own shared memory offsets there.
    #[inline(always)]
    pub(super) fn own(&self, at: &mut Row64, mask: u32) -> Result<(), LaneFault> {
        // The offsets of rank 0 are its addresses.
        if self.rank == 0 {
            return Ok(());
        }
        lanes_of(mask).try_for_each(|lane| {
            at[lane] = self.own_offset(at[lane]).map_err(|kind| (lane, kind))?;
            Ok(())
        })
    }

    /// The offset of an address in the block's own shared memory.
    pub(super) fn own_offset(&self, address: u64) -> Result<u64, FaultKind> {
        match located(address) {
            _ if self.rank == 0 => Ok(address),
            (rank, offset) if rank == self.rank => Ok(offset),
            (rank, _) => {
                let what = format!("address {address:#x} lies in block {rank} of the cluster, not in block");
                Err(FaultKind::Cluster(format!("{what} {}, which touches it as its own", self.rank)))
            }
        }
    }

    /// From shared to global memory.
    pub(super) fn bulk_store(
        &mut self,
        launch: &Launch<'_>,
        warp: &mut Warp,
        store: &BulkStore,
        lane: usize,
    ) -> Result<(), FaultKind> {
        let moved = self.moved(launch, warp, &store.to, lane)?;
        let from = self.own_offset(addresses(warp, &store.from)[lane])?;
        check_target(from, &moved)?;
        let (order, time) = self.issue(warp);
        let agent = self.agent(Agent::Stores(warp.index))?;
        let by = Toucher { thread: 32 * agent as u16, time, sync: 0, floor: 0, known: &order.own.known };
        let writer = Writer {
            launch: launch.number,
            block: self.linear,
            thread: 32 * warp.index + lane as u32,
            time: self.time,
            known: &order.own.known,
        };
        let mut row = Vec::new();
        for run in &moved.runs {
            row.clear();
            for piece in (0..run.bytes).step_by(16) {
                let at = moved.swizzle.apply(from + run.shared + piece, 0);
                let words = self.shared.read_beside(at, by, &order.own.fenced, moved.layout)?;
                row.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            }
            let [mut at, end] = run.inside;
            self.counters.bulk_written_bytes += end.saturating_sub(at);
            while at < end {
                let address = run.global.wrapping_add(at);
                // The longest aligned piece that there is.
                let bytes = 1 << (address | 16).trailing_zeros().min((end - at).ilog2());
                let mut piece = [0; 16];
                piece[..bytes as usize].copy_from_slice(&row[at as usize..][..bytes as usize]);
                let words =
                    std::array::from_fn(|word| u32::from_le_bytes(std::array::from_fn(|byte| piece[4 * word + byte])));
                let (allocation, offset) = launch.memory.find(address, bytes, "write", &mut warp.hint)?;
                launch.check_declared(address, bytes, true)?;
                allocation.store(offset, bytes, &words, writer, |_| false)?;
                at += u64::from(bytes);
            }
        }
        warp.beside.stores.push((lane as u8, warp.beside.store_groups[lane], time));
        Ok(())
    }

    /// Waits until at most `keep` of each lane's latest groups may still read their source.
    pub(super) fn wait_for_stores(&mut self, launch: &Launch<'_>, warp: &mut Warp, keep: u32, mask: u32) {
        if warp.beside.stores.is_empty() {
            return;
        }
        let Some(agent) = self.shared.agent(Agent::Stores(warp.index)) else { return };
        let mut order = Order::default();
        let mut stores = std::mem::take(&mut warp.beside.stores);
        for lane in lanes_of(mask) {
            let waited = warp.beside.store_groups[lane].saturating_sub(keep);
            stores.retain(|&(of, group, time)| {
                let done = usize::from(of) == lane && group < waited;
                if done {
                    order.own.known[agent] = order.own.known[agent].max(time + 1);
                }
                !done
            });
        }
        warp.beside.stores = stores;
        let warps = launch.block_threads().div_ceil(32) as usize;
        warp.learn(&order, warps, self.shared.agents());
    }

    /// The time of an asynchronous operation, and what is ordered before it: all that its warp did, too.
    fn issue(&mut self, warp: &Warp) -> (Order, u32) {
        self.time += 1;
        (self.released_by(warp), self.time)
    }

    /// The number of an agent.
    pub(super) fn agent(&mut self, agent: Agent) -> Result<usize, FaultKind> {
        let most = AGENTS - FIRST_AGENT;
        let what = "barriers of bulk copies, warps that store in bulk, and warpgroups of products in a block";
        self.shared.agent(agent).ok_or_else(|| FaultKind::BulkCopy(format!("more than {most} {what}")))
    }

    /// What a copy moves: rows in global memory and in shared memory.
    fn moved(&mut self, launch: &Launch<'_>, warp: &mut Warp, place: &Place, lane: usize) -> Result<Moved, FaultKind> {
        match place {
            Place::Linear { address, bytes } => {
                let global = addresses(warp, address)[lane];
                let bytes = u64::from(warp.shorts[usize::from(*bytes)][lane]);
                if !bytes.is_multiple_of(16) || !global.is_multiple_of(16) {
                    let what = format!("{bytes} bytes at {global:#x} of global memory; both must be multiples of 16");
                    return Err(FaultKind::BulkCopy(what));
                }
                check_one_awaited(launch, warp, global, lane)?;
                let runs = vec![Run { global, shared: 0, bytes, inside: [0, bytes] }];
                Ok(Moved { runs, swizzle: Swizzle::None, layout: 0, bytes, alignment: 16 })
            }
            Place::Tensor { map, coordinates, rank } => {
                let map = self.map(launch, warp, map, lane)?;
                if map.extents.len() != usize::from(*rank) {
                    let what = format!("{rank} coordinates for a tensor of {} dimensions", map.extents.len());
                    return Err(FaultKind::BulkCopy(what));
                }
                check_one_awaited(launch, warp, map.pointer, lane)?;
                let coordinates = coordinates.map(|row| i64::from(warp.shorts[usize::from(row)][lane] as i32));
                Ok(Moved {
                    runs: runs(&map, &coordinates),
                    swizzle: map.swizzle,
                    layout: layout(map.swizzle),
                    bytes: map.box_bytes(),
                    alignment: 128,
                })
            }
        }
    }

    /// The tensor map at an address.
    fn map(
        &mut self,
        launch: &Launch<'_>,
        warp: &mut Warp,
        address: &Address,
        lane: usize,
    ) -> Result<TensorMap, FaultKind> {
        let at = addresses(warp, address)[lane];
        let (space, at) = if address.space == Space::Generic { space_of(at) } else { (address.space, at) };
        if !at.is_multiple_of(64) {
            return Err(FaultKind::BulkCopy(format!("a tensor map at {at:#x}; it must lie at a multiple of 64")));
        }
        if matches!(space, Space::Global | Space::Const) {
            check_one_awaited(launch, warp, at, lane)?;
        }
        let mut words = [0; 16];
        for (index, word) in words.iter_mut().enumerate() {
            let at = at + 8 * index as u64;
            let found = match space {
                Space::Param => fetch("parameter", &launch.parameters, at, 8)?,
                Space::Global | Space::Const => fetch_global(launch, &mut warp.hint, at, 8)?,
                _ => return Err(FaultKind::BulkCopy("a tensor map in shared or local memory".to_owned())),
            };
            *word = u64::from(found[0]) | u64::from(found[1]) << 32;
        }
        TensorMap::decode(&words)
    }
}

fn check_one_awaited(launch: &Launch<'_>, warp: &Warp, address: u64, lane: usize) -> Result<(), FaultKind> {
    check_awaited(launch, warp, &[address; 32], 1 << lane).map_err(|(_, kind)| kind)
}

/// The rank of the block in whose shared memory an address of the cluster lies, and the offset there.
pub(super) fn located(address: u64) -> (usize, u64) {
    ((address / BLOCK_WINDOW) as usize, address % BLOCK_WINDOW)
}

/// How a swizzle is noted of each word.
pub(super) fn layout(swizzle: Swizzle) -> u8 {
    1 + swizzle as u8
}

fn check_target(shared: u64, moved: &Moved) -> Result<(), FaultKind> {
    let alignment = moved.alignment;
    if shared.is_multiple_of(alignment) {
        return Ok(());
    }
    Err(FaultKind::BulkCopy(format!("offset {shared} of shared memory is no multiple of {alignment}")))
}

/// The rows of a box, and which of their bytes lie inside of the tensor.
fn runs(map: &TensorMap, coordinates: &[i64; 5]) -> Vec<Run> {
    let rank = map.extents.len();
    let bytes = map.box_extents[0] * map.element_bytes;
    let count: u64 = map.box_extents[1..].iter().product();
    let element = map.element_bytes as i64;
    let first = coordinates[0];
    let begin = (-first).clamp(0, map.box_extents[0] as i64);
    let end = (map.extents[0] as i64 - first).clamp(begin, map.box_extents[0] as i64);
    let mut runs = Vec::with_capacity(count as usize);
    for number in 0..count {
        let mut rest = number;
        let mut global = map.pointer.wrapping_add_signed(first * element);
        let mut outside = false;
        for dimension in 1..rank {
            let at = coordinates[dimension] + (rest % map.box_extents[dimension] * map.step(dimension)) as i64;
            rest /= map.box_extents[dimension];
            outside |= at < 0 || at >= map.extents[dimension] as i64;
            global = global.wrapping_add((at as u64).wrapping_mul(map.strides_bytes[dimension - 1]));
        }
        let inside = if outside { [0, 0] } else { [(begin * element) as u64, (end * element) as u64] };
        runs.push(Run { global, shared: number * bytes, bytes, inside });
    }
    runs
}
