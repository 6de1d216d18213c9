//! Atomic operations, lane by lane in order.

use crate::block::Block;
use crate::instruction::{Address, AtomicKind, Value};
use crate::lanes::lanes_of;
use crate::launch::Launch;
use crate::ptx::Space;
use crate::warp::Warp;

use super::LaneFault;
use super::access::{addresses, aligned, check_awaited, space_of};

impl Block {
    #[expect(clippy::too_many_arguments, reason = "the parts of one instruction")]
    pub(super) fn atomic(
        &mut self,
        launch: &Launch<'_>,
        warp: &mut Warp,
        kind: AtomicKind,
        address: &Address,
        [d, a, b]: [&Value; 3],
        bytes: u8,
        mask: u32,
    ) -> Result<(), LaneFault> {
        let at = addresses(warp, address);
        let bytes = u32::from(bytes);
        for lane in lanes_of(mask) {
            let failed = |fault| (lane, fault);
            let (space, offset) = match address.space {
                Space::Generic => space_of(at[lane]),
                space => (space, at[lane]),
            };
            let (operand, other) = (read(warp, a, lane), read(warp, b, lane));
            let f = |old: u64| apply(kind, bytes, old, operand, other);
            let old = if space == Space::Shared {
                let offset = self.own_offset(offset).map_err(failed)?;
                let by = self.toucher(warp, lane);
                self.shared.update(offset, bytes, by, f).map_err(failed)?
            } else {
                check_awaited(launch, warp, &at, 1 << lane)?;
                aligned(offset, bytes).map_err(failed)?;
                let found = launch.memory.find(offset, bytes, "write", &mut warp.hint);
                let (allocation, within) = found.map_err(failed)?;
                launch.check_declared(offset, bytes, true).map_err(failed)?;
                allocation.update(within, bytes, f).map_err(failed)?
            };
            match d {
                Value::Short(row, _) => warp.shorts[usize::from(*row)][lane] = old as u32,
                Value::Long(row) => warp.longs[usize::from(*row)][lane] = old,
                Value::Sink => {}
            }
        }
        Ok(())
    }
}

fn read(warp: &Warp, value: &Value, lane: usize) -> u64 {
    match value {
        Value::Short(row, _) => u64::from(warp.shorts[usize::from(*row)][lane]),
        Value::Long(row) => warp.longs[usize::from(*row)][lane],
        Value::Sink => 0,
    }
}

/// What an atomic operation leaves behind. Words of 32 bits come zero-extended.
pub(super) fn apply(kind: AtomicKind, bytes: u32, old: u64, a: u64, b: u64) -> u64 {
    let signed = |value: u64| if bytes == 4 { i64::from(value as u32 as i32) } else { value as i64 };
    let single = |bits: u64| f32::from_bits(bits as u32);
    match kind {
        AtomicKind::Add => old.wrapping_add(a),
        AtomicKind::AddF32 => u64::from((single(old) + single(a)).to_bits()),
        AtomicKind::AddF64 => (f64::from_bits(old) + f64::from_bits(a)).to_bits(),
        AtomicKind::Min => old.min(a),
        AtomicKind::Max => old.max(a),
        AtomicKind::MinSigned => {
            if signed(a) < signed(old) {
                a
            } else {
                old
            }
        }
        AtomicKind::MaxSigned => {
            if signed(a) > signed(old) {
                a
            } else {
                old
            }
        }
        AtomicKind::And => old & a,
        AtomicKind::Or => old | a,
        AtomicKind::Xor => old ^ a,
        AtomicKind::Exchange => a,
        AtomicKind::CompareExchange => {
            if old == a {
                b
            } else {
                old
            }
        }
        AtomicKind::Increment => {
            if old >= a {
                0
            } else {
                old + 1
            }
        }
        AtomicKind::Decrement => {
            if old == 0 || old > a {
                a
            } else {
                old - 1
            }
        }
    }
}
