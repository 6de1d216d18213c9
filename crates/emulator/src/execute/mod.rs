//! Execution of one warp until it exits, waits or yields.

mod access;
mod asynchronous;
mod atomic;
mod barrier;
mod bulk;
mod copy;
mod exchange;
mod matrix;
mod product;

use crate::FaultKind;
use crate::block::{Block, Failure, Stop};
use crate::decode::Program;
use crate::instruction::{BarrierKind, Instruction, Logic, Op, Row};
use crate::lanes::lanes_of;
use crate::launch::Launch;
use crate::warp::Warp;
pub(crate) use product::Scratch;

/// A fault of one lane; the instruction is known to the caller.
pub(crate) type LaneFault = (usize, FaultKind);

/// How a warp goes on after an instruction.
enum Next {
    /// With the following instruction.
    Step,
    /// With whichever group has the lowest counter.
    Select,
    /// Not before others have run.
    Yield,
}

impl Block {
    /// Runs a warp as long as it can.
    pub(crate) fn turn(&mut self, launch: &Launch<'_>, warp: &mut Warp) -> Result<Stop, Failure> {
        warp.begin();
        loop {
            if !warp.select() {
                if warp.alive == 0 {
                    return Ok(Stop::Exited);
                }
                if warp.unpark() {
                    return Ok(Stop::Yielded);
                }
                if let Some(lane) = lanes_of(warp.converging).next() {
                    return Err(self.absent_partner(launch.program, warp, lane));
                }
                return Ok(Stop::Waiting);
            }
            match self.group(launch, warp) {
                Ok(false) => {}
                Ok(true) => {
                    warp.unpark();
                    return Ok(Stop::Yielded);
                }
                Err((lane, kind)) => return Err(Failure { lane, pc: warp.pc, kind }),
            }
        }
    }

    /// Runs the selected group until lanes part or meet. True if the warp should let others run.
    fn group(&mut self, launch: &Launch<'_>, warp: &mut Warp) -> Result<bool, LaneFault> {
        let code = &launch.program.code;
        loop {
            let instruction = &code[warp.pc as usize];
            let mut mask = warp.mask;
            if let Some(guard) = instruction.guard {
                mask &= warp.predicate(guard);
            }
            self.counters.count(instruction.class);
            warp.executed += 1;
            if mask != 0 {
                if let Some(rows) = launch.program.watched.get(warp.pc as usize) {
                    warp.touch(rows).map_err(|kind| (mask.trailing_zeros() as usize, kind))?;
                }
                match self.execute(launch, warp, instruction, mask)? {
                    Next::Step => {}
                    Next::Select => return Ok(false),
                    Next::Yield => return Ok(true),
                }
            }
            warp.pc += 1;
            if warp.pc >= warp.limit {
                warp.leave(warp.mask, warp.pc);
                return Ok(false);
            }
        }
    }

    #[inline(always)]
    fn execute(
        &mut self,
        launch: &Launch<'_>,
        warp: &mut Warp,
        instruction: &Instruction,
        mask: u32,
    ) -> Result<Next, LaneFault> {
        let s = usize::from;
        match &instruction.op {
            Op::Map3 { f, d, a, b, c } => {
                let mut out = [0; 32];
                f(&mut out, &warp.shorts[s(*a)], &warp.shorts[s(*b)], &warp.shorts[s(*c)]);
                warp.put(*d, &out, mask);
            }
            Op::Map2 { f, d, a, b } => {
                let mut out = [0; 32];
                f(&mut out, &warp.shorts[s(*a)], &warp.shorts[s(*b)]);
                warp.put(*d, &out, mask);
            }
            Op::Map1 { f, d, a } => {
                let mut out = [0; 32];
                f(&mut out, &warp.shorts[s(*a)]);
                warp.put(*d, &out, mask);
            }
            Op::Move { d, a } => {
                let out = warp.shorts[s(*a)];
                warp.put(*d, &out, mask);
            }
            Op::Long1 { f, d, a } => {
                let mut out = [0; 32];
                f(&mut out, &warp.longs[s(*a)]);
                warp.put_long(*d, &out, mask);
            }
            Op::Long2 { f, d, a, b } => {
                let mut out = [0; 32];
                f(&mut out, &warp.longs[s(*a)], &warp.longs[s(*b)]);
                warp.put_long(*d, &out, mask);
            }
            Op::Long3 { f, d, a, b, c } => {
                let mut out = [0; 32];
                f(&mut out, &warp.longs[s(*a)], &warp.longs[s(*b)], &warp.longs[s(*c)]);
                warp.put_long(*d, &out, mask);
            }
            Op::MoveLong { d, a } => {
                let out = warp.longs[s(*a)];
                warp.put_long(*d, &out, mask);
            }
            Op::Widen { f, d, a } => {
                let mut out = [0; 32];
                f(&mut out, &warp.shorts[s(*a)]);
                warp.put_long(*d, &out, mask);
            }
            Op::Narrow { f, d, a } => {
                let mut out = [0; 32];
                f(&mut out, &warp.longs[s(*a)]);
                warp.put(*d, &out, mask);
            }
            Op::MulWide { f, d, a, b } => {
                let mut out = [0; 32];
                f(&mut out, &warp.shorts[s(*a)], &warp.shorts[s(*b)]);
                warp.put_long(*d, &out, mask);
            }
            Op::MadWide { f, d, a, b, c } => {
                let mut out = [0; 32];
                f(&mut out, &warp.shorts[s(*a)], &warp.shorts[s(*b)], &warp.longs[s(*c)]);
                warp.put_long(*d, &out, mask);
            }
            Op::ShiftLong { f, d, a, b } => {
                let mut out = [0; 32];
                f(&mut out, &warp.longs[s(*a)], &warp.shorts[s(*b)]);
                warp.put_long(*d, &out, mask);
            }
            Op::Compare { f, d, inverse, a, b, combine } => {
                let bits = f(&warp.shorts[s(*a)], &warp.shorts[s(*b)]);
                compared(warp, bits, *d, *inverse, *combine, mask);
            }
            Op::CompareLong { f, d, inverse, a, b, combine } => {
                let bits = f(&warp.longs[s(*a)], &warp.longs[s(*b)]);
                compared(warp, bits, *d, *inverse, *combine, mask);
            }
            Op::PredicateLogic { logic, d, a, b } => {
                let bits = combined(*logic, warp.predicate(*a), warp.predicate(*b));
                warp.put_predicate(*d, bits, mask);
            }
            Op::Select { d, a, b, p, negated } => {
                let chosen = warp.predicate((*p, *negated));
                let (a, b) = (&warp.shorts[s(*a)], &warp.shorts[s(*b)]);
                let out = std::array::from_fn(|lane| if chosen >> lane & 1 == 1 { a[lane] } else { b[lane] });
                warp.put(*d, &out, mask);
            }
            Op::SelectLong { d, a, b, p, negated } => {
                let chosen = warp.predicate((*p, *negated));
                let (a, b) = (&warp.longs[s(*a)], &warp.longs[s(*b)]);
                let out = std::array::from_fn(|lane| if chosen >> lane & 1 == 1 { a[lane] } else { b[lane] });
                warp.put_long(*d, &out, mask);
            }
            Op::Load { values, address } => self.load(launch, warp, values, address, mask)?,
            Op::Store { values, address } => {
                self.store(launch, warp, values, address, mask)?;
                warp.refresh();
            }
            Op::Branch { target } => return Ok(branch(warp, mask, *target)),
            Op::Mma(mma) => {
                whole_warp(warp, mask)?;
                self.multiply(warp, mma);
            }
            _ => return self.rare(launch, warp, instruction, mask),
        }
        Ok(Next::Step)
    }

    /// Instructions that are not worth a place in the hot loop.
    #[inline(never)]
    fn rare(
        &mut self,
        launch: &Launch<'_>,
        warp: &mut Warp,
        instruction: &Instruction,
        mask: u32,
    ) -> Result<Next, LaneFault> {
        let s = usize::from;
        match &instruction.op {
            Op::ExtractLong { f, d, a, b, c } => {
                let mut out = [0; 32];
                f(&mut out, &warp.longs[s(*a)], &warp.shorts[s(*b)], &warp.shorts[s(*c)]);
                warp.put_long(*d, &out, mask);
            }
            Op::InsertLong { d, a, b, position, length } => {
                let (a, b) = (&warp.longs[s(*a)], &warp.longs[s(*b)]);
                let (position, length) = (&warp.shorts[s(*position)], &warp.shorts[s(*length)]);
                let insert = crate::decode::insert;
                let out = std::array::from_fn(|lane| insert(a[lane], b[lane], position[lane], length[lane], 64));
                warp.put_long(*d, &out, mask);
            }
            Op::MulCarry { d, a, b, c, high, signed, carry_in, carry_out } => {
                let [a, b, c] = [a, b, c].map(|row| warp.shorts[s(*row)]);
                let mut out = [0; 32];
                let mut carries = 0;
                for lane in 0..32 {
                    let wide = if *signed {
                        (i64::from(a[lane] as i32) * i64::from(b[lane] as i32)) as u64
                    } else {
                        u64::from(a[lane]) * u64::from(b[lane])
                    };
                    let half = if *high { wide >> 32 } else { wide & 0xffff_ffff };
                    let sum = half + u64::from(c[lane]) + u64::from(*carry_in && warp.carry >> lane & 1 == 1);
                    out[lane] = sum as u32;
                    carries |= u32::from(sum >> 32 != 0) << lane;
                }
                if *carry_out {
                    warp.carry = (warp.carry & !mask) | (carries & mask);
                }
                warp.put(*d, &out, mask);
            }
            Op::InsertBits { d, a, b, position, length } => {
                let row = |row: &Row| &warp.shorts[s(*row)];
                let (a, b, position, length) = (row(a), row(b), row(position), row(length));
                let insert = crate::decode::insert;
                let out = std::array::from_fn(|lane| {
                    insert(a[lane].into(), b[lane].into(), position[lane], length[lane], 32) as u32
                });
                warp.put(*d, &out, mask);
            }
            Op::Logic3 { table, d, a, b, c } => {
                let (a, b, c) = (&warp.shorts[s(*a)], &warp.shorts[s(*b)], &warp.shorts[s(*c)]);
                let mut out = [0; 32];
                for minterm in (0..8_u32).filter(|minterm| table >> minterm & 1 == 1) {
                    let side = |value: u32, bit: u32| if minterm >> bit & 1 == 1 { value } else { !value };
                    for lane in 0..32 {
                        out[lane] |= side(a[lane], 2) & side(b[lane], 1) & side(c[lane], 0);
                    }
                }
                warp.put(*d, &out, mask);
            }
            Op::Carry { d, a, b, subtract, carry_in, carry_out } => {
                let (a, b) = (warp.shorts[s(*a)], warp.shorts[s(*b)]);
                let mut out = [0; 32];
                let mut carries = 0;
                for lane in 0..32 {
                    let carry = u64::from(*carry_in && warp.carry >> lane & 1 == 1);
                    let (a, b) = (u64::from(a[lane]), u64::from(b[lane]));
                    let wide = if *subtract { a.wrapping_sub(b).wrapping_sub(carry) } else { a + b + carry };
                    out[lane] = wide as u32;
                    carries |= u32::from(wide >> 32 != 0) << lane;
                }
                if *carry_out {
                    warp.carry = warp.carry & !mask | carries & mask;
                }
                warp.put(*d, &out, mask);
            }
            Op::Property { f, d, a } => {
                let bits = f(&warp.shorts[s(*a)]);
                warp.put_predicate(*d, bits, mask);
            }
            Op::PropertyLong { f, d, a } => {
                let bits = f(&warp.longs[s(*a)]);
                warp.put_predicate(*d, bits, mask);
            }
            Op::Pack { d, low, high } => {
                let (low, high) = (&warp.shorts[s(*low)], &warp.shorts[s(*high)]);
                let out = std::array::from_fn(|lane| u64::from(high[lane]) << 32 | u64::from(low[lane]));
                warp.put_long(*d, &out, mask);
            }
            Op::Unpack { low, high, a } => {
                let a = warp.longs[s(*a)];
                warp.put(*low, &a.map(|value| value as u32), mask);
                warp.put(*high, &a.map(|value| (value >> 32) as u32), mask);
            }
            Op::PackHalves { d, low, high } => {
                let (low, high) = (&warp.shorts[s(*low)], &warp.shorts[s(*high)]);
                let out = std::array::from_fn(|lane| high[lane] << 16 | low[lane] & 0xffff);
                warp.put(*d, &out, mask);
            }
            Op::UnpackHalves { low, high, a } => {
                let a = warp.shorts[s(*a)];
                warp.put(*low, &a.map(|value| value & 0xffff), mask);
                warp.put(*high, &a.map(|value| value >> 16), mask);
            }
            Op::Clock { d } => {
                let clock = warp.executed as u32;
                warp.put(*d, &[clock; 32], mask);
            }
            Op::ClockLong { d } => {
                let clock = warp.executed;
                warp.put_long(*d, &[clock; 32], mask);
            }
            Op::ActiveMask { d } => warp.put(*d, &[mask; 32], mask),
            Op::IsSpace { space, d, a } => {
                let a = &warp.longs[s(*a)];
                let inside = lanes_of(u32::MAX).filter(|lane| access::space_of(a[*lane]).0 == *space);
                let bits = inside.fold(0, |bits, lane| bits | 1 << lane);
                warp.put_predicate(*d, bits, mask);
            }
            Op::Atomic { kind, address, d, a, b, bytes } => {
                self.atomic(launch, warp, *kind, address, [d, a, b], *bytes, mask)?;
                warp.refresh();
            }
            Op::Shuffle { members, .. }
            | Op::Vote { members, .. }
            | Op::MatchAny { members, .. }
            | Op::Reduce { members, .. }
            | Op::Elect { members, .. }
            | Op::WarpBarrier { members } => {
                if !converged(warp, *members, mask)? {
                    return Ok(Next::Select);
                }
                self.exchange(warp, &instruction.op, mask)?;
            }
            Op::Barrier { kind, id, count } => return self.barrier(launch, warp, *kind, *id, *count, None, mask),
            Op::BarrierReduce { id, count, p, negated, .. } => {
                return self.barrier(launch, warp, BarrierKind::Sync, *id, *count, Some((*p, *negated)), mask);
            }
            Op::BranchIndexed { index, targets } => {
                let table = &launch.program.tables[s(*targets)];
                let indices = warp.shorts[s(*index)];
                warp.leave(warp.mask, warp.pc + 1);
                for lane in lanes_of(mask) {
                    let target = table.get(indices[lane] as usize);
                    warp.pcs[lane] = *target.ok_or((lane, FaultKind::BranchIndex(indices[lane])))?;
                }
                return Ok(Next::Select);
            }
            Op::Exit => {
                if let Some(&(lane, ..)) = warp.beside.stores.iter().find(|store| mask >> store.0 & 1 == 1) {
                    let what = "the thread ends before its bulk copies have read shared memory";
                    return Err((usize::from(lane), FaultKind::BulkCopy(what.to_owned())));
                }
                if let Some(lane) = lanes_of(mask).next().filter(|_| warp.waiting != 0) {
                    let at = launch.program.places[warp.pcs[warp.waiting.trailing_zeros() as usize] as usize].line;
                    let what = format!("the lane exits while others of its warp wait at PTX line {at}");
                    return Err((lane, FaultKind::DivergentBarrier(what)));
                }
                warp.leave(warp.mask, warp.pc + 1);
                warp.alive &= !mask;
                return Ok(Next::Select);
            }
            Op::AwaitPrevious => warp.awaited |= mask,
            Op::Trap => return Err((mask.trailing_zeros() as usize, FaultKind::Trap)),
            Op::Yield => {
                warp.leave(warp.mask, warp.pc + 1);
                let others = warp.park(mask);
                return Ok(if others { Next::Select } else { Next::Yield });
            }
            Op::AsyncCopy { to, from, bytes, size } => {
                self.copy(launch, warp, to, from, u32::from(*bytes), *size, mask)?;
            }
            Op::AsyncCommit => lanes_of(mask).for_each(|lane| warp.committed[lane] += 1),
            Op::AsyncWait { keep } => self.wait_for_copies(warp, Some(*keep), mask),
            Op::AsyncWaitAll => self.wait_for_copies(warp, None, mask),
            Op::LoadMatrix { d, count, transpose, address } => {
                whole_warp(warp, mask)?;
                self.load_matrix(warp, &d[..s(u16::from(*count))], *transpose, address)?;
            }
            Op::Asynchronous(what) => return self.asynchronous(launch, warp, what, mask),
            // `Op::Nothing`; everything else is in the hot loop.
            _ => {}
        }
        Ok(Next::Step)
    }

    /// Lanes wait for partners that can no longer come.
    fn absent_partner(&self, program: &Program, warp: &Warp, lane: usize) -> Failure {
        let pc = warp.pcs[lane];
        let members = match &program.code[pc as usize].op {
            Op::Shuffle { members, .. }
            | Op::Vote { members, .. }
            | Op::MatchAny { members, .. }
            | Op::Reduce { members, .. }
            | Op::Elect { members, .. }
            | Op::WarpBarrier { members } => warp.shorts[usize::from(*members)][lane],
            _ => u32::MAX,
        };
        let here =
            lanes_of(warp.converging).filter(|other| warp.pcs[*other] == pc).fold(0, |bits, lane| bits | 1 << lane);
        let absent = (members & warp.alive & !here).trailing_zeros();
        Failure { lane, pc, kind: FaultKind::InactiveLane { lane: absent & 31, exited: false } }
    }
}

/// Sends some lanes of the running group to the target.
#[inline(always)]
fn branch(warp: &mut Warp, mask: u32, target: u32) -> Next {
    let backward = target <= warp.pc;
    let tired = backward && warp.tire();
    if mask == warp.alive && !tired {
        // The whole warp branches: nobody to meet.
        warp.pc = target.wrapping_sub(1);
        return Next::Step;
    }
    if mask != warp.mask {
        warp.leave(warp.mask & !mask, warp.pc + 1);
    }
    warp.leave(mask, target);
    if tired && !(warp.diverged() && warp.park(mask)) {
        return Next::Yield;
    }
    Next::Select
}

/// Whether all members are here. If not, the lanes wait for them.
fn converged(warp: &mut Warp, members: Row, mask: u32) -> Result<bool, LaneFault> {
    let lane = mask.trailing_zeros() as usize;
    let members = warp.shorts[usize::from(members)][lane];
    if let Some(lane) = lanes_of(mask & !members).next() {
        return Err((lane, FaultKind::NotAMember { members }));
    }
    if members & warp.alive & !mask == 0 {
        return Ok(true);
    }
    warp.leave(warp.mask, warp.pc + 1);
    warp.leave(mask, warp.pc);
    warp.converging |= mask;
    Ok(false)
}

/// The instructions of the tensor cores need every lane.
fn whole_warp(warp: &Warp, mask: u32) -> Result<(), LaneFault> {
    if mask == u32::MAX {
        return Ok(());
    }
    let absent = (!mask).trailing_zeros();
    let exited = warp.alive >> absent & 1 == 0;
    Err((mask.trailing_zeros() as usize, FaultKind::InactiveLane { lane: absent, exited }))
}

fn combined(logic: Logic, a: u32, b: u32) -> u32 {
    match logic {
        Logic::And => a & b,
        Logic::Or => a | b,
        Logic::Xor => a ^ b,
    }
}

#[inline(always)]
fn compared(warp: &mut Warp, bits: u32, d: Row, inverse: Option<Row>, combine: Option<(Logic, Row, bool)>, mask: u32) {
    let (mut to, mut to_inverse) = (bits, !bits);
    if let Some((logic, row, negated)) = combine {
        let with = warp.predicate((row, negated));
        to = combined(logic, bits, with);
        to_inverse = combined(logic, !bits, with);
    }
    warp.put_predicate(d, to, mask);
    if let Some(inverse) = inverse {
        warp.put_predicate(inverse, to_inverse, mask);
    }
}
