//! Barriers of a block: warps arrive whole, and with the same number and count.

use crate::FaultKind;
use crate::block::{Barrier, Block};
use crate::instruction::{BarrierKind, Row};
use crate::lanes::lanes_of;
use crate::launch::Launch;
use crate::warp::Warp;

use super::{LaneFault, Next};

impl Block {
    /// Lanes arrive at a barrier of the block.
    #[expect(clippy::too_many_arguments, reason = "the parts of one instruction")]
    pub(super) fn barrier(
        &mut self,
        launch: &Launch<'_>,
        warp: &mut Warp,
        kind: BarrierKind,
        id: Row,
        count: Option<Row>,
        vote: Option<(Row, bool)>,
        mask: u32,
    ) -> Result<Next, LaneFault> {
        let lane = mask.trailing_zeros() as usize;
        let mismatch = |what: String| Err((lane, FaultKind::BarrierMismatch(what)));
        let number = warp.shorts[usize::from(id)][lane];
        let expected = count.map_or(0, |row| warp.shorts[usize::from(row)][lane]);
        if number > 15 {
            return mismatch(format!("barrier {number}; there are 0 to 15"));
        }
        if !expected.is_multiple_of(32)
            || (count.is_some() && expected == 0)
            || expected > launch.block_threads().next_multiple_of(32)
        {
            let threads = launch.block_threads();
            return mismatch(format!("a count of {expected} threads in a block of {threads}; whole warps are needed"));
        }
        if let Some(other) = lanes_of(warp.waiting).find(|other| warp.pcs[*other] != warp.pc) {
            let at = launch.program.places[warp.pcs[other] as usize].line;
            let what = format!("lane {other} of the same warp waits at PTX line {at}");
            return Err((lane, FaultKind::DivergentBarrier(what)));
        }
        if warp.waiting | mask != warp.alive {
            // Others of the warp are still on their way.
            warp.leave(warp.mask, warp.pc + 1);
            warp.leave(mask, warp.pc);
            warp.waiting |= mask;
            return Ok(Next::Select);
        }
        let barrier: &mut Barrier = &mut self.barriers[number as usize];
        if barrier.threads > 0 && barrier.expected != expected {
            let earlier = barrier.expected;
            return mismatch(format!(
                "barrier {number} expects {earlier} threads, this warp says {expected} (0 is all)"
            ));
        }
        if kind == BarrierKind::Arrive {
            // The warp goes on: what it did so far gets an earlier time than what it will do.
            self.time += 1;
            warp.order.own.known[warp.index as usize] = self.time;
        }
        barrier.expected = expected;
        barrier.threads += 32;
        barrier.order.join(&warp.order);
        let lanes = warp.waiting | mask;
        if let Some(vote) = vote {
            barrier.votes += (warp.predicate(vote) & lanes).count_ones();
            barrier.voters += lanes.count_ones();
        }
        if kind == BarrierKind::Arrive {
            warp.waiting = 0;
            warp.leave(lanes, warp.pc + 1);
            return Ok(Next::Select);
        }
        barrier.waiting |= 1 << warp.index;
        warp.waiting = lanes;
        warp.leave(lanes, warp.pc);
        Ok(Next::Select)
    }
}
