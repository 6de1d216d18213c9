//! Exchanges between the lanes of a warp that are known to be here together.

use crate::FaultKind;
use crate::block::Block;
use crate::instruction::{Op, ShuffleKind, VoteKind};
use crate::lanes::lanes_of;
use crate::warp::Warp;

use super::LaneFault;
use super::atomic::apply;

impl Block {
    pub(super) fn exchange(&mut self, warp: &mut Warp, op: &Op, mask: u32) -> Result<(), LaneFault> {
        match op {
            Op::Shuffle { kind, d, found, a, b, c, .. } => {
                let rows = [a, b, c].map(|row| warp.shorts[usize::from(*row)]);
                let mut out = [0; 32];
                let mut inside = 0;
                for lane in lanes_of(mask) {
                    let (source, valid) = source(*kind, lane as u32, rows[1][lane], rows[2][lane]);
                    if mask >> source & 1 == 0 {
                        let exited = warp.alive >> source & 1 == 0;
                        return Err((lane, FaultKind::InactiveLane { lane: source, exited }));
                    }
                    out[lane] = rows[0][source as usize];
                    inside |= u32::from(valid) << lane;
                }
                warp.put(*d, &out, mask);
                if let Some(found) = found {
                    warp.put_predicate(*found, inside, mask);
                }
            }
            Op::Vote { kind, d, p, negated, .. } => {
                let votes = warp.predicate((*p, *negated)) & mask;
                let bits = |yes: bool| if yes { u32::MAX } else { 0 };
                match kind {
                    VoteKind::Ballot => warp.put(*d, &[votes; 32], mask),
                    VoteKind::All => warp.put_predicate(*d, bits(votes == mask), mask),
                    VoteKind::Any => warp.put_predicate(*d, bits(votes != 0), mask),
                    VoteKind::Uniform => warp.put_predicate(*d, bits(votes == 0 || votes == mask), mask),
                }
            }
            Op::Reduce { kind, d, a, .. } => {
                let a = warp.shorts[usize::from(*a)];
                let mut lanes = lanes_of(mask).map(|lane| u64::from(a[lane]));
                let first = lanes.next().unwrap_or(0);
                let all = lanes.fold(first, |sum, one| apply(*kind, 4, sum, one, 0));
                warp.put(*d, &[all as u32; 32], mask);
            }
            Op::MatchAny { d, a, .. } => {
                let a = warp.shorts[usize::from(*a)];
                let mut out = [0; 32];
                for lane in lanes_of(mask) {
                    out[lane] =
                        lanes_of(mask).filter(|other| a[*other] == a[lane]).fold(0, |bits, other| bits | 1 << other);
                }
                warp.put(*d, &out, mask);
            }
            Op::Elect { d, chosen, .. } => {
                let lowest = mask.trailing_zeros();
                warp.put(*d, &[lowest; 32], mask);
                warp.put_predicate(*chosen, 1 << lowest, mask);
            }
            // `bar.warp.sync`: what lanes did before is ordered before what others do after.
            _ => warp.sync += 1,
        }
        Ok(())
    }
}

/// The lane that a shuffle reads from, and whether it lies in range.
fn source(kind: ShuffleKind, lane: u32, b: u32, c: u32) -> (u32, bool) {
    let (b, clamp, segment) = (b & 31, c & 31, c >> 8 & 31);
    let highest = (lane & segment) | (clamp & !segment);
    let lowest = lane & segment;
    let (from, valid) = match kind {
        ShuffleKind::Up => {
            let from = i64::from(lane) - i64::from(b);
            (from, from >= i64::from(highest))
        }
        ShuffleKind::Down => (i64::from(lane + b), lane + b <= highest),
        ShuffleKind::Butterfly => (i64::from(lane ^ b), lane ^ b <= highest),
        ShuffleKind::Index => {
            let from = lowest | (b & !segment);
            (i64::from(from), from <= highest)
        }
    };
    if valid { (from as u32 & 31, true) } else { (lane, false) }
}
