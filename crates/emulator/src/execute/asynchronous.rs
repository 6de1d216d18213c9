//! Instructions of sm_90: which of them does what, and what transaction barriers, fences and register counts do.

use crate::FaultKind;
use crate::asynchronous::{Asynchronous, Mbarrier, Phase};
use crate::block::Block;
use crate::cluster::Remote;
use crate::instruction::{Address, Row, Value};
use crate::lanes::lanes_of;
use crate::launch::Launch;
use crate::memory::BLOCK_WINDOW;
use crate::order::{FIRST_AGENT, Order};
use crate::ptx::Space;
use crate::shared::Toucher;
use crate::warp::{Sleep, Warp};

use super::access::{addresses, space_of};
use super::bulk::located;
use super::{LaneFault, Next, whole_warp};

impl Block {
    pub(super) fn asynchronous(
        &mut self,
        launch: &Launch<'_>,
        warp: &mut Warp,
        what: &Asynchronous,
        mask: u32,
    ) -> Result<Next, LaneFault> {
        match what {
            Asynchronous::Mbarrier { address, what } => return self.mbarrier(warp, address, what, mask),
            Asynchronous::ProxyFence => {
                self.time += 1;
                let own = warp.index as usize;
                // Whatever is ordered before the fence is seen by asynchronous units behind it.
                let known = self.released_by(warp).own.known;
                warp.order.own.fenced.iter_mut().zip(known).for_each(|(fenced, known)| *fenced = known.max(*fenced));
                for other in &mut warp.order.others {
                    other.fenced.iter_mut().zip(other.known).for_each(|(fenced, known)| *fenced = known.max(*fenced));
                }
                self.mbarriers.announce(own, &warp.order);
            }
            Asynchronous::BarrierFence => self.mbarriers.announce(warp.index as usize, &warp.order),
            Asynchronous::BulkLoad(load) => {
                lanes_of(mask)
                    .try_for_each(|lane| self.bulk_load(launch, warp, load, lane).map_err(|kind| (lane, kind)))?;
                warp.refresh();
            }
            Asynchronous::BulkStore(store) => {
                lanes_of(mask)
                    .try_for_each(|lane| self.bulk_store(launch, warp, store, lane).map_err(|kind| (lane, kind)))?;
                warp.refresh();
            }
            Asynchronous::BulkCommit => lanes_of(mask).for_each(|lane| warp.beside.store_groups[lane] += 1),
            Asynchronous::BulkWait { keep } => self.wait_for_stores(launch, warp, *keep, mask),
            Asynchronous::Product(_) => {
                whole_warp(warp, mask)?;
                let (group, warps) = (warp.index as usize / 4, self.warps);
                if warps < 4 * group + 4 {
                    let what = format!("warpgroup {group} of a block of {warps} warps is not whole");
                    return Err((0, FaultKind::Warpgroup(what)));
                }
                warp.leave(mask, warp.pc);
                warp.waiting = mask;
                self.gathering |= 1 << warp.index;
                return Ok(Next::Select);
            }
            Asynchronous::ProductFence => {
                whole_warp(warp, mask)?;
                warp.beside.operands.iter_mut().for_each(|operand| operand.touched = false);
            }
            Asynchronous::ProductCommit => {
                whole_warp(warp, mask)?;
                warp.beside.product_groups += 1;
            }
            Asynchronous::ProductWait { keep } => {
                whole_warp(warp, mask)?;
                self.wait_for_products(launch, warp, *keep);
            }
            Asynchronous::Registers { count, increase } => {
                whole_warp(warp, mask)?;
                return self.set_registers(warp, *count, *increase).map_err(|kind| (0, kind));
            }
            Asynchronous::MapAddress { d, a, rank } => {
                let (a, rank) = (warp.shorts[usize::from(*a)], warp.shorts[usize::from(*rank)]);
                let window = BLOCK_WINDOW as u32;
                let out = std::array::from_fn(|lane| rank[lane].wrapping_mul(window) | (a[lane] % window));
                warp.put(*d, &out, mask);
            }
            Asynchronous::StoreToBlock { values, address } => self.store_to_block(warp, values, address, mask)?,
            Asynchronous::ClusterArrive { release } => return self.cluster_arrive(warp, *release, mask),
            Asynchronous::ClusterWait { acquire } => return self.cluster_wait(warp, *acquire, mask),
            Asynchronous::StoreMatrix { from, count, transpose, address } => {
                whole_warp(warp, mask)?;
                self.store_matrix(warp, &from[..usize::from(*count)], *transpose, address)?;
                warp.refresh();
            }
        }
        Ok(Next::Step)
    }

    fn mbarrier(&mut self, warp: &mut Warp, address: &Address, what: &Mbarrier, mask: u32) -> Result<Next, LaneFault> {
        let mut at = addresses(warp, address);
        if address.space == Space::Generic {
            at.iter_mut().for_each(|at| *at = space_of(*at).1);
        }
        if let Mbarrier::Wait { done, phase, blocking, acquire } = *what {
            self.own(&mut at, mask)?;
            return self.wait(warp, &at, done, phase, [blocking, acquire], mask);
        }
        // What the lanes did so far comes before what they will do.
        self.time += 1;
        let before = self.released_by(warp);
        let row = |row: Row| warp.shorts[usize::from(row)];
        let mut states = [0; 32];
        for lane in lanes_of(mask) {
            let failed = |kind| (lane, kind);
            let (rank, offset) = located(at[lane]);
            if rank != self.rank {
                let Mbarrier::Arrive { count, bytes, state: Value::Sink, release } = *what else {
                    let what = "of an mbarrier of another block only arrivals without a state are possible";
                    return Err((lane, FaultKind::Cluster(what.to_owned())));
                };
                let (count, bytes) = (count.map_or(1, |count| row(count)[lane]), bytes.map(|bytes| row(bytes)[lane]));
                self.send(warp, lane, rank, Remote::Arrive { offset, count, bytes, release }, before.clone());
                continue;
            }
            let by = Toucher { time: self.time, ..self.toucher(warp, lane) };
            if let Mbarrier::Init { count } = what {
                let count = row(*count)[lane];
                self.mbarriers.init(&mut self.shared, offset, count, by).map_err(failed)?;
                continue;
            }
            let barriers = &mut self.mbarriers;
            let index = barriers.find(&mut self.shared, offset, by).map_err(failed)?;
            match *what {
                Mbarrier::Arrive { count, bytes, release, .. } => {
                    if let Some(bytes) = bytes {
                        barriers.expect(index, row(bytes)[lane]).map_err(failed)?;
                    }
                    let count = count.map_or(1, |count| row(count)[lane]);
                    let order = release.then_some(&before);
                    states[lane] = u64::from(barriers.arrive(index, count, order).map_err(failed)?);
                }
                Mbarrier::Expect { bytes } => barriers.expect(index, row(bytes)[lane]).map_err(failed)?,
                Mbarrier::Complete { bytes } => barriers.complete_bytes(index, row(bytes)[lane]).map_err(failed)?,
                _ => barriers.invalidate(index),
            }
        }
        if let Mbarrier::Arrive { state: Value::Long(state), .. } = what {
            warp.put_long(*state, &states, mask);
        }
        warp.refresh();
        Ok(Next::Step)
    }

    /// What is ordered before whoever sees that the warp has come so far; time has just moved on.
    pub(super) fn released_by(&self, warp: &Warp) -> Order {
        let mut order = warp.order.clone();
        order.own.known[warp.index as usize] = self.time;
        // Stores to other blocks are those of this block as a whole.
        for other in &mut order.others {
            other.known[FIRST_AGENT + self.rank] = self.time;
        }
        order
    }

    fn wait(
        &mut self,
        warp: &mut Warp,
        at: &[u64; 32],
        done: Row,
        phase: Phase,
        [blocking, acquire]: [bool; 2],
        mask: u32,
    ) -> Result<Next, LaneFault> {
        let mut passed = 0;
        let mut until = None;
        let mut learnt: Option<Order> = None;
        for lane in lanes_of(mask) {
            let by = self.toucher(warp, lane);
            let index = self.mbarriers.find(&mut self.shared, at[lane], by).map_err(|kind| (lane, kind))?;
            let barrier = self.mbarriers.get(index);
            let order = match phase {
                Phase::Parity(row) => barrier.passed_parity(warp.shorts[usize::from(row)][lane]),
                Phase::State(row) => barrier.passed_state(warp.longs[usize::from(row)][lane]),
            };
            match order {
                Some(order) => {
                    passed |= 1 << lane;
                    learnt.get_or_insert_default().join(order);
                    self.mbarriers.see(index);
                }
                None => until = Some(Sleep::Phase(index, barrier.phases)),
            }
        }
        if let (Some(order), true) = (learnt, acquire) {
            warp.learn(&order, self.warps, self.shared.agents());
        }
        let failed = mask & !passed;
        let Some(until) = until.filter(|_| blocking && !warp.timed_out) else {
            warp.put_predicate(done, passed, mask);
            if failed == 0 || std::mem::take(&mut warp.timed_out) {
                return Ok(Next::Step);
            }
            // A test that failed: let others run.
            warp.leave(warp.mask, warp.pc + 1);
            return Ok(if warp.park(failed) { Next::Select } else { Next::Yield });
        };
        warp.put_predicate(done, passed, passed);
        warp.leave(warp.mask, warp.pc + 1);
        warp.leave(failed, warp.pc);
        Ok(if warp.sleep(failed, until) { Next::Select } else { Next::Yield })
    }

    /// A warp arrives at the cluster's barrier and goes on.
    fn cluster_arrive(&mut self, warp: &mut Warp, release: bool, mask: u32) -> Result<Next, LaneFault> {
        let lane = mask.trailing_zeros() as usize;
        if mask != warp.alive {
            return Err((lane, FaultKind::DivergentBarrier("lanes of one warp arrive apart".to_owned())));
        }
        if warp.beside.cluster_phase.replace(self.cluster_phases).is_some() {
            let what = "barrier.cluster.arrive again before barrier.cluster.wait";
            return Err((lane, FaultKind::BarrierMismatch(what.to_owned())));
        }
        self.time += 1;
        if release {
            self.cluster_gathering.join(&self.released_by(warp));
        }
        self.cluster_arrived |= 1 << warp.index;
        warp.refresh();
        Ok(Next::Step)
    }

    /// A warp waits for all others of the cluster.
    fn cluster_wait(&mut self, warp: &mut Warp, acquire: bool, mask: u32) -> Result<Next, LaneFault> {
        let Some(phase) = warp.beside.cluster_phase else {
            let what = "barrier.cluster.wait without barrier.cluster.arrive";
            return Err((mask.trailing_zeros() as usize, FaultKind::BarrierMismatch(what.to_owned())));
        };
        if phase == self.cluster_phases {
            warp.leave(warp.mask, warp.pc + 1);
            warp.leave(mask, warp.pc);
            return Ok(if warp.sleep(mask, Sleep::Cluster(phase)) { Next::Select } else { Next::Yield });
        }
        if mask == warp.alive {
            warp.beside.cluster_phase = None;
        }
        if acquire {
            warp.learn(&self.cluster_done, self.warps, self.shared.agents());
        }
        Ok(Next::Step)
    }

    /// `setmaxnreg`: gives registers back to the block, or takes some as soon as they are free.
    fn set_registers(&mut self, warp: &mut Warp, count: u32, increase: bool) -> Result<Next, FaultKind> {
        let has = warp.beside.registers;
        let wrong = |what: String| Err(FaultKind::Registers(format!("setmaxnreg to {count}: {what}")));
        if increase && count < has || !increase && count > has {
            return wrong(format!("the warp has {has} registers a thread"));
        }
        let group = warp.index as usize / 4;
        let changes = &mut self.register_changes[group];
        match changes.get(warp.beside.register_changes) {
            Some(other) if *other != count => {
                return wrong(format!("another warp of warpgroup {group} went to {other}"));
            }
            Some(_) => {}
            None => changes.push(count),
        }
        if increase {
            let need = 32 * (count - has);
            if need > self.free_registers {
                warp.leave(warp.mask, warp.pc);
                return Ok(if warp.sleep(warp.mask, Sleep::Registers(need)) { Next::Select } else { Next::Yield });
            }
            self.free_registers -= need;
        } else {
            self.free_registers += 32 * (has - count);
        }
        warp.beside.registers = count;
        warp.beside.register_changes += 1;
        warp.refresh();
        Ok(Next::Step)
    }
}
