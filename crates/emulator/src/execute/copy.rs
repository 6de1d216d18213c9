//! Asynchronous copies from global to shared memory. The data is moved at once, but nobody may touch it before the wait.

use crate::FaultKind;
use crate::block::Block;
use crate::instruction::{Address, Row};
use crate::lanes::lanes_of;
use crate::launch::Launch;
use crate::warp::{Copy, Warp};

use super::LaneFault;
use super::access::{addresses, aligned, check_awaited, fetch_global};

impl Block {
    #[expect(clippy::too_many_arguments, reason = "the parts of one instruction")]
    pub(super) fn copy(
        &mut self,
        launch: &Launch<'_>,
        warp: &mut Warp,
        to: &Address,
        from: &Address,
        bytes: u32,
        size: Option<Row>,
        mask: u32,
    ) -> Result<(), LaneFault> {
        let (mut to, from) = (addresses(warp, to), addresses(warp, from));
        self.own(&mut to, mask)?;
        let sizes = size.map(|row| warp.shorts[usize::from(row)]);
        self.count_shared(&to, bytes, mask);
        let reading = lanes_of(mask).filter(|lane| sizes.is_none_or(|sizes| sizes[*lane] > 0));
        let reading = reading.fold(0, |lanes, lane| lanes | 1 << lane);
        check_awaited(launch, warp, &from, reading)?;
        if reading != 0 {
            self.count_global(&from, bytes, reading);
            self.counters.global_read_bytes += u64::from(bytes * reading.count_ones());
        }
        for lane in lanes_of(mask) {
            let failed = |kind| (lane, kind);
            // What lies behind `size` is filled with zeros.
            let size = sizes.map_or(bytes, |sizes| sizes[lane]);
            if size > bytes {
                let what = format!("cp.async reads {size} bytes for {bytes}");
                return Err((lane, FaultKind::Arguments(what)));
            }
            aligned(from[lane], bytes).map_err(failed)?;
            let mut words = [0; 4];
            for word in 0..size.div_ceil(4) {
                let rest = size - 4 * word;
                let at = from[lane].wrapping_add(u64::from(4 * word));
                if rest >= 4 {
                    words[word as usize] = fetch_global(launch, &mut warp.hint, at, 4).map_err(failed)?[0];
                    continue;
                }
                for byte in 0..rest {
                    let one =
                        fetch_global(launch, &mut warp.hint, at.wrapping_add(u64::from(byte)), 1).map_err(failed)?[0];
                    words[word as usize] |= one << (8 * byte);
                }
            }
            let by = self.toucher(warp, lane);
            self.shared.begin_copy(to[lane], bytes, &words, by).map_err(failed)?;
            let group = warp.committed[lane];
            warp.copies.push(Copy { lane: lane as u8, bytes: bytes as u8, group, offset: to[lane] as u32 });
        }
        Ok(())
    }

    /// Waits until at most `keep` of each lane's latest groups are under way, or none and no loose copy either.
    pub(super) fn wait_for_copies(&mut self, warp: &mut Warp, keep: Option<u32>, mask: u32) {
        let mut copies = std::mem::take(&mut warp.copies);
        copies.retain(|copy| {
            let lane = usize::from(copy.lane);
            let awaited = keep.is_none_or(|keep| copy.group < warp.committed[lane].saturating_sub(keep));
            let done = awaited && mask >> lane & 1 == 1;
            if done {
                let by = self.toucher(warp, lane);
                self.shared.end_copy(u64::from(copy.offset), u32::from(copy.bytes), by);
            }
            !done
        });
        warp.copies = copies;
    }
}
