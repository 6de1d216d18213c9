//! Loads and stores of whole warps.

use crate::FaultKind;
use crate::block::Block;
use crate::cluster::Remote;
use crate::instruction::{Address, Base, Value, Values};
use crate::lanes::{Row64, lanes_of};
use crate::launch::Launch;
use crate::memory::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, WINDOW_BYTES, Writer};
use crate::ptx::Space;
use crate::warp::Warp;

use super::LaneFault;
use super::bulk::located;

/// The space in which a generic address lies, and the address there.
pub(super) fn space_of(address: u64) -> (Space, u64) {
    let inside = |window: u64| address.checked_sub(window).filter(|offset| *offset < WINDOW_BYTES);
    match (inside(SHARED_WINDOW), inside(LOCAL_WINDOW), inside(PARAM_WINDOW)) {
        (Some(offset), _, _) => (Space::Shared, offset),
        (_, Some(offset), _) => (Space::Local, offset),
        (_, _, Some(offset)) => (Space::Param, offset),
        _ => (Space::Global, address),
    }
}

/// The addresses of all lanes.
#[inline(always)]
pub(super) fn addresses(warp: &Warp, address: &Address) -> Row64 {
    let mut row = match address.base {
        Base::Long(base) => warp.longs[usize::from(base)],
        Base::Short(base) => warp.shorts[usize::from(base)].map(u64::from),
    };
    if address.offset != 0 {
        row.iter_mut().for_each(|at| *at = at.wrapping_add_signed(address.offset));
    }
    row
}

/// The space of an access. Generic addresses must be in one space for the whole warp, which real kernels keep to;
/// mixed ones are taken lane by lane.
fn resolve(space: Space, addresses: &mut Row64, lanes: u32) -> Space {
    if space != Space::Generic {
        return space;
    }
    let first = space_of(addresses[lanes.trailing_zeros() as usize & 31]).0;
    if lanes_of(lanes).any(|lane| space_of(addresses[lane]).0 != first) {
        return Space::Generic;
    }
    lanes_of(lanes).for_each(|lane| addresses[lane] = space_of(addresses[lane]).1);
    first
}

impl Block {
    pub(super) fn load(
        &mut self,
        launch: &Launch<'_>,
        warp: &mut Warp,
        values: &Values,
        address: &Address,
        mask: u32,
    ) -> Result<(), LaneFault> {
        let mut at = addresses(warp, address);
        let bytes = u32::from(values.bytes) * u32::from(values.count);
        match resolve(address.space, &mut at, mask) {
            Space::Shared => {
                self.own(&mut at, mask)?;
                self.count_shared(&at, bytes, mask);
                let mut last = (u64::MAX, [0; 4]);
                for lane in lanes_of(mask) {
                    if at[lane] == last.0 {
                        self.shared.read_again(at[lane], bytes);
                    } else {
                        let by = self.toucher(warp, lane);
                        last = (at[lane], self.shared.load(at[lane], bytes, by).map_err(|kind| (lane, kind))?);
                    }
                    deliver(warp, values, lane, &last.1);
                }
            }
            Space::Global | Space::Const => {
                check_awaited(launch, warp, &at, mask)?;
                self.count_global(&at, bytes, mask);
                self.counters.global_read_bytes += u64::from(bytes * mask.count_ones());
                for lane in lanes_of(mask) {
                    let words = fetch_global(launch, &mut warp.hint, at[lane], bytes).map_err(|kind| (lane, kind))?;
                    deliver(warp, values, lane, &words);
                }
            }
            Space::Param => {
                for lane in lanes_of(mask) {
                    let words = fetch("parameter", &launch.parameters, at[lane], bytes).map_err(|kind| (lane, kind))?;
                    deliver(warp, values, lane, &words);
                }
            }
            Space::Local => {
                for lane in lanes_of(mask) {
                    let words = fetch("local", local(warp, lane), at[lane], bytes).map_err(|kind| (lane, kind))?;
                    deliver(warp, values, lane, &words);
                }
            }
            Space::Generic => {
                for lane in lanes_of(mask) {
                    self.load(launch, warp, values, address, 1 << lane)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn store(
        &mut self,
        launch: &Launch<'_>,
        warp: &mut Warp,
        values: &Values,
        address: &Address,
        mask: u32,
    ) -> Result<(), LaneFault> {
        let mut at = addresses(warp, address);
        let bytes = u32::from(values.bytes) * u32::from(values.count);
        match resolve(address.space, &mut at, mask) {
            Space::Shared => {
                self.own(&mut at, mask)?;
                self.count_shared(&at, bytes, mask);
                for lane in lanes_of(mask) {
                    let words = collect(warp, values, lane);
                    let by = self.toucher(warp, lane);
                    self.shared.store(at[lane], bytes, &words, by).map_err(|kind| (lane, kind))?;
                }
            }
            Space::Global => {
                check_awaited(launch, warp, &at, mask)?;
                self.count_global(&at, bytes, mask);
                self.counters.global_written_bytes += u64::from(bytes * mask.count_ones());
                for lane in lanes_of(mask) {
                    let words = collect(warp, values, lane);
                    let failed = |kind| (lane, kind);
                    aligned(at[lane], bytes).map_err(failed)?;
                    let found = launch.memory.find(at[lane], bytes, "write", &mut warp.hint);
                    let (allocation, offset) = found.map_err(failed)?;
                    launch.check_declared(at[lane], bytes, true).map_err(failed)?;
                    let writer = Writer {
                        launch: launch.number,
                        block: self.linear,
                        thread: 32 * warp.index + lane as u32,
                        time: self.time,
                        known: &warp.order.own.known,
                    };
                    // Whether an earlier lane of this instruction wrote to the word.
                    let again = |word: u64| {
                        let earlier = lanes_of(mask & ((1 << lane) - 1));
                        earlier.into_iter().any(|other| at[other] < word + 4 && word < at[other] + u64::from(bytes))
                    };
                    allocation.store(offset, bytes, &words, writer, again).map_err(failed)?;
                }
            }
            Space::Local => {
                for lane in lanes_of(mask) {
                    let words = collect(warp, values, lane);
                    let size = warp.local.len() / 32;
                    let begin = checked("local", size as u64, at[lane], bytes).map_err(|kind| (lane, kind))?;
                    let to = &mut warp.local[lane * size + begin..][..bytes as usize];
                    let all = words.map(u32::to_le_bytes);
                    to.iter_mut().zip(all.as_flattened()).for_each(|(to, from)| *to = *from);
                }
            }
            Space::Generic => {
                for lane in lanes_of(mask) {
                    self.store(launch, warp, values, address, 1 << lane)?;
                }
            }
            Space::Const | Space::Param => {
                let lane = mask.trailing_zeros() as usize;
                return Err((lane, FaultKind::ReadOnly { address: at[lane] }));
            }
        }
        Ok(())
    }

    /// Stores to shared memory of any block of the cluster; another one's once the turn is over.
    pub(super) fn store_to_block(
        &mut self,
        warp: &Warp,
        values: &Values,
        address: &Address,
        mask: u32,
    ) -> Result<(), LaneFault> {
        let at = addresses(warp, address);
        let bytes = u32::from(values.bytes) * u32::from(values.count);
        self.count_shared(&at, bytes, mask);
        for lane in lanes_of(mask) {
            let words = collect(warp, values, lane);
            let (to, offset) = located(at[lane]);
            if to == self.rank {
                let by = self.toucher(warp, lane);
                self.shared.store(offset, bytes, &words, by).map_err(|kind| (lane, kind))?;
            } else {
                let store = Remote::Store { offset, bytes, words, rank: self.rank, time: self.time };
                self.send(warp, lane, to, store, warp.order.clone());
            }
        }
        Ok(())
    }

    /// Counts the 32-byte sectors that the lanes touch.
    pub(super) fn count_global(&mut self, at: &Row64, bytes: u32, mask: u32) {
        let mut sectors = [0_u64; 64];
        let mut count = 0;
        let mut rising = true;
        for lane in lanes_of(mask) {
            let first = at[lane] / 32;
            let last = (at[lane].wrapping_add(u64::from(bytes) - 1)) / 32;
            for sector in [first, last] {
                if count > 0 && sectors[count - 1] == sector {
                    continue;
                }
                rising &= count == 0 || sectors[count - 1] < sector;
                sectors[count] = sector;
                count += 1;
            }
        }
        if !rising {
            let sorted = &mut sectors[..count];
            sorted.sort_unstable();
            count = 1 + sorted.windows(2).filter(|pair| pair[0] != pair[1]).count();
        }
        self.counters.global_sectors += count as u64;
    }

    /// Counts bytes, and passes beyond the first of each part of the warp that goes together.
    pub(super) fn count_shared(&mut self, at: &Row64, bytes: u32, mask: u32) {
        self.counters.shared_bytes += u64::from(bytes * mask.count_ones());
        // 32 lanes of 4 bytes go together, 16 of 8, 8 of 16.
        let together = match bytes {
            16 => 8,
            8 => 16,
            _ => 32,
        };
        for part in 0..32 / together {
            let mut lasts = [u64::MAX; 32];
            let mut passes = [0_u8; 32];
            let mut most = 0;
            for lane in lanes_of(mask & (u32::MAX >> (32 - together)) << (part * together)) {
                for index in 0..u64::from(bytes.div_ceil(4)) {
                    let word = at[lane] / 4 + index;
                    let bank = word as usize % 32;
                    if lasts[bank] != word {
                        lasts[bank] = word;
                        passes[bank] += 1;
                        most = most.max(passes[bank]);
                    }
                }
            }
            self.counters.bank_conflicts += u64::from(most.saturating_sub(1));
        }
    }
}

/// In a kernel that may begin before the launch before it has ended, lanes must have waited for that end. Constants are
/// written by nobody.
#[inline(always)]
pub(super) fn check_awaited(launch: &Launch<'_>, warp: &Warp, at: &Row64, lanes: u32) -> Result<(), LaneFault> {
    let early = lanes & !warp.awaited;
    if early == 0 {
        return Ok(());
    }
    match lanes_of(early).find(|lane| !launch.memory.is_read_only(at[*lane])) {
        Some(lane) => Err((lane, FaultKind::NotAwaited { address: at[lane] })),
        None => Ok(()),
    }
}

/// Loads from global memory.
#[inline]
pub(super) fn fetch_global(
    launch: &Launch<'_>,
    hint: &mut usize,
    address: u64,
    bytes: u32,
) -> Result<[u32; 4], FaultKind> {
    aligned(address, bytes)?;
    let (allocation, offset) = launch.memory.find(address, bytes, "read", hint)?;
    launch.check_declared(address, bytes, false)?;
    allocation.load(offset, bytes)
}

/// An address must be a multiple of the size of the access.
#[inline]
pub(super) fn aligned(address: u64, bytes: u32) -> Result<(), FaultKind> {
    if address & u64::from(bytes - 1) == 0 { Ok(()) } else { Err(FaultKind::Misaligned { address, bytes }) }
}

fn local(warp: &Warp, lane: usize) -> &[u8] {
    let size = warp.local.len() / 32;
    &warp.local[lane * size..(lane + 1) * size]
}

fn checked(space: &'static str, size: u64, offset: u64, bytes: u32) -> Result<usize, FaultKind> {
    aligned(offset, bytes)?;
    if offset.saturating_add(u64::from(bytes)) > size {
        return Err(FaultKind::OtherOutOfBounds { space, offset, size });
    }
    Ok(offset as usize)
}

pub(super) fn fetch(space: &'static str, memory: &[u8], offset: u64, bytes: u32) -> Result<[u32; 4], FaultKind> {
    let begin = checked(space, memory.len() as u64, offset, bytes)?;
    let mut all = [0; 16];
    all[..bytes as usize].copy_from_slice(&memory[begin..begin + bytes as usize]);
    Ok(std::array::from_fn(|word| {
        u32::from_le_bytes([all[4 * word], all[4 * word + 1], all[4 * word + 2], all[4 * word + 3]])
    }))
}

/// The value at an index among loaded words, zero-extended.
#[inline(always)]
fn pick(words: &[u32; 4], bytes: u8, index: usize) -> u64 {
    match bytes {
        4 => u64::from(words[index]),
        8 => u64::from(words[(2 * index) & 3]) | u64::from(words[(2 * index + 1) & 3]) << 32,
        2 => u64::from(words[index / 2] >> (index % 2 * 16) & 0xffff),
        _ => u64::from(words[0] >> (index * 8) & 0xff),
    }
}

/// Writes loaded words to the registers of a lane.
#[inline(always)]
fn deliver(warp: &mut Warp, values: &Values, lane: usize, words: &[u32; 4]) {
    for index in 0..usize::from(values.count) & 7 {
        let mut value = pick(words, values.bytes, index);
        if values.signed && values.bytes < 8 {
            let shift = 64 - 8 * u32::from(values.bytes);
            value = ((value << shift) as i64 >> shift) as u64;
        }
        match values.values[index & 3] {
            Value::Short(row, 32) => warp.shorts[usize::from(row)][lane] = value as u32,
            Value::Short(row, bits) => warp.shorts[usize::from(row)][lane] = value as u32 & ((1 << bits) - 1),
            Value::Long(row) => warp.longs[usize::from(row)][lane] = value,
            Value::Sink => {}
        }
    }
}

/// Gathers the registers of a lane as words.
#[inline(always)]
fn collect(warp: &Warp, values: &Values, lane: usize) -> [u32; 4] {
    let mut words = [0; 4];
    for index in 0..usize::from(values.count) & 7 {
        let value = match values.values[index & 3] {
            Value::Short(row, _) => u64::from(warp.shorts[usize::from(row)][lane]),
            Value::Long(row) => warp.longs[usize::from(row)][lane],
            Value::Sink => 0,
        };
        match values.bytes {
            4 => words[index & 3] = value as u32,
            8 => {
                words[(2 * index) & 3] = value as u32;
                words[(2 * index + 1) & 3] = (value >> 32) as u32;
            }
            2 => words[(index / 2) & 3] |= (value as u32 & 0xffff) << (index % 2 * 16),
            _ => words[0] |= (value as u32 & 0xff) << ((index * 8) & 31),
        }
    }
    words
}
