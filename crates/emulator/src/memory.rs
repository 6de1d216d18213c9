//! Global memory: allocations with guard zones, and of each word what was written by whom.
//!
//! Blocks run on several host threads, so words are atomics with relaxed order: plain moves on the machine.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use bytemuck::allocation::zeroed_slice_box;

use crate::FaultKind;
use crate::order::Clock;

/// Where the generic addresses of shared memory begin.
pub(crate) const SHARED_WINDOW: u64 = 0x0000_7e00_0000_0000;
/// Where the generic addresses of local memory begin.
pub(crate) const LOCAL_WINDOW: u64 = 0x0000_7d00_0000_0000;
/// Where the generic addresses of parameters begin.
pub(crate) const PARAM_WINDOW: u64 = 0x0000_7c00_0000_0000;
/// Shared memory of the block with rank r of a cluster begins at r times this, as on a GPU.
pub(crate) const BLOCK_WINDOW: u64 = 1 << 24;
/// The size of a window.
pub(crate) const WINDOW_BYTES: u64 = 1 << 32;
/// Where global memory begins.
const FIRST: u64 = 0x0000_7000_0000_0000;
/// Allocations begin at multiples of this, as on a GPU.
const ALIGN: u64 = 256;
/// At least so much lies between two allocations and belongs to none.
const GUARD: u64 = 4096;

/// Bits of a record of the last writer of a word.
const TIME_BITS: u32 = 20;
const THREAD_BITS: u32 = 10;
const BLOCK_BITS: u32 = 22;
/// Blocks a launch may have, so that a record can name them.
pub(crate) const MAX_BLOCKS: u64 = 1 << BLOCK_BITS;

/// All allocations of a device, by address.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    allocations: Vec<Allocation>,
    next: u64,
}

/// One allocation.
#[derive(Debug)]
pub(crate) struct Allocation {
    pub(crate) base: u64,
    pub(crate) bytes: u64,
    read_only: bool,
    words: Box<[AtomicU32]>,
    /// A bit for each byte of a word.
    initialised: Box<[AtomicU8]>,
    writers: Box<[AtomicU64]>,
}

/// Who writes: what a conflict needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer<'a> {
    /// Number of the launch, 1 to 255.
    pub(crate) launch: u8,
    pub(crate) block: u32,
    pub(crate) thread: u32,
    pub(crate) time: u32,
    /// Of each warp of the block, the time before which its writes are ordered before this one.
    pub(crate) known: &'a Clock,
}

impl Memory {
    /// A new allocation; `initial` fills its begin, and the rest is zero if `zeroed`, else uninitialised.
    pub(crate) fn allocate(&mut self, bytes: u64, initial: &[u8], zeroed: bool, read_only: bool) -> u64 {
        let base = self.next.max(FIRST).next_multiple_of(ALIGN);
        self.next = base + bytes + GUARD;
        let words = bytes.div_ceil(4) as usize;
        let initialised: Box<[AtomicU8]> = zeroed_slice_box(words);
        if zeroed {
            initialised.iter().for_each(|state| state.store(0xf, Relaxed));
        }
        // Zeros that the system lends: what nobody touches takes no memory.
        let (words, writers) = (zeroed_slice_box(words), zeroed_slice_box(words));
        let allocation = Allocation { base, bytes, read_only, words, initialised, writers };
        allocation.fill(0, initial);
        self.allocations.push(allocation);
        base
    }

    /// Ends an allocation; says whether there was one at this address.
    pub(crate) fn free(&mut self, base: u64) -> bool {
        let found = self.allocations.binary_search_by_key(&base, |allocation| allocation.base);
        found.map(|index| self.allocations.remove(index)).is_ok()
    }

    /// The allocation that holds the range. `hint` remembers the last one found.
    #[inline]
    pub(crate) fn find(
        &self,
        address: u64,
        bytes: u32,
        access: &'static str,
        hint: &mut usize,
    ) -> Result<(&Allocation, u64), FaultKind> {
        if let Some(allocation) = self.allocations.get(*hint)
            && let Some(offset) = allocation.contains(address, u64::from(bytes))
        {
            return Ok((allocation, offset));
        }
        let after = self.allocations.partition_point(|allocation| allocation.base <= address);
        let nearest = after.checked_sub(1).map(|index| &self.allocations[index]);
        if let Some(allocation) = nearest
            && let Some(offset) = allocation.contains(address, u64::from(bytes))
        {
            *hint = after - 1;
            return Ok((allocation, offset));
        }
        let nearest = nearest.map(|nearest| (nearest.base, address - nearest.base, nearest.bytes));
        Err(FaultKind::OutOfBounds { access, address, bytes, nearest })
    }

    /// Whether the address lies in constants.
    pub(crate) fn is_read_only(&self, address: u64) -> bool {
        self.find(address, 1, "read", &mut 0).is_ok_and(|(allocation, _)| allocation.read_only)
    }

    /// Forgets who wrote what; record numbers of launches may be used again.
    pub(crate) fn forget_writers(&self) {
        for allocation in &self.allocations {
            allocation.writers.iter().for_each(|writer| writer.store(0, Relaxed));
        }
    }
}

impl Allocation {
    fn contains(&self, address: u64, bytes: u64) -> Option<u64> {
        let offset = address.checked_sub(self.base)?;
        (offset.saturating_add(bytes) <= self.bytes).then_some(offset)
    }

    /// Writes from the host.
    pub(crate) fn fill(&self, offset: u64, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            let at = offset as usize + index;
            let (word, shift) = (at / 4, at % 4 * 8);
            let old = self.words[word].load(Relaxed);
            self.words[word].store(old & !(0xff << shift) | u32::from(*byte) << shift, Relaxed);
            self.initialised[word].fetch_or(1 << (at % 4), Relaxed);
        }
    }

    /// Makes bytes uninitialised again.
    pub(crate) fn forget(&self, offset: u64, bytes: u64) {
        for at in offset..offset + bytes {
            self.initialised[at as usize / 4].fetch_and(!(1 << (at % 4)), Relaxed);
        }
    }

    /// Reads to the host, whether written or not.
    pub(crate) fn read(&self, offset: u64, to: &mut [u8]) {
        for (index, byte) in to.iter_mut().enumerate() {
            let at = offset as usize + index;
            *byte = (self.words[at / 4].load(Relaxed) >> (at % 4 * 8)) as u8;
        }
    }

    /// The first byte of the range that was never written.
    pub(crate) fn uninitialised(&self, offset: u64, bytes: u64) -> Option<u64> {
        (offset..offset + bytes).find(|at| self.initialised[*at as usize / 4].load(Relaxed) >> (at % 4) & 1 == 0)
    }

    /// Loads 1, 2, 4, 8 or 16 aligned bytes, zero-extended.
    #[inline]
    pub(crate) fn load(&self, offset: u64, bytes: u32) -> Result<[u32; 4], FaultKind> {
        let first = offset as usize / 4;
        let mut result = [0; 4];
        if bytes >= 4 {
            for index in 0..bytes as usize / 4 {
                if self.initialised[first + index].load(Relaxed) != 0xf {
                    return Err(self.unwritten(offset, bytes));
                }
                result[index] = self.words[first + index].load(Relaxed);
            }
        } else {
            let (mask, bits) = partial(offset, bytes);
            if self.initialised[first].load(Relaxed) & mask != mask {
                return Err(self.unwritten(offset, bytes));
            }
            result[0] = self.words[first].load(Relaxed) >> (offset % 4 * 8) & bits;
        }
        Ok(result)
    }

    /// Loads bytes at any alignment.
    pub(crate) fn load_bytes(&self, offset: u64, to: &mut [u8]) -> Result<(), FaultKind> {
        if !offset.is_multiple_of(4) || !to.len().is_multiple_of(4) {
            if self.uninitialised(offset, to.len() as u64).is_some() {
                return Err(self.unwritten(offset, to.len() as u32));
            }
            self.read(offset, to);
            return Ok(());
        }
        let first = offset as usize / 4;
        let words = self.words[first..].iter().zip(&self.initialised[first..]);
        let length = to.len() as u32;
        for (four, (word, initialised)) in to.chunks_exact_mut(4).zip(words) {
            if initialised.load(Relaxed) != 0xf {
                return Err(self.unwritten(offset, length));
            }
            four.copy_from_slice(&word.load(Relaxed).to_le_bytes());
        }
        Ok(())
    }

    fn unwritten(&self, offset: u64, bytes: u32) -> FaultKind {
        let at = self.uninitialised(offset, u64::from(bytes)).unwrap_or(offset);
        FaultKind::Uninitialised { address: self.base + at }
    }

    /// Stores 1, 2, 4, 8 or 16 aligned bytes. `again` says whether another lane of this very instruction wrote here.
    #[inline]
    pub(crate) fn store(
        &self,
        offset: u64,
        bytes: u32,
        values: &[u32; 4],
        writer: Writer<'_>,
        again: impl Fn(u64) -> bool,
    ) -> Result<(), FaultKind> {
        if self.read_only {
            return Err(FaultKind::ReadOnly { address: self.base + offset });
        }
        let first = offset as usize / 4;
        if bytes >= 4 {
            for index in 0..bytes as usize / 4 {
                let word = first + index;
                let old = self.words[word].swap(values[index], Relaxed);
                self.initialised[word].store(0xf, Relaxed);
                let different = if old == values[index] { 0 } else { 0xf };
                self.record(word, 0xf, different, writer, &again)?;
            }
        } else {
            let (mask, bits) = partial(offset, bytes);
            let shift = offset % 4 * 8;
            let (bits, value) = (bits << shift, (values[0] << shift) & (bits << shift));
            let replace = |old| Some(old & !bits | value);
            let old = self.words[first].fetch_update(Relaxed, Relaxed, replace).unwrap_or(0);
            self.initialised[first].fetch_or(mask, Relaxed);
            let different = if old & bits == value { 0 } else { mask };
            self.record(first, mask, different, writer, &again)?;
        }
        Ok(())
    }

    /// Notes the writer of a word. Fails if an earlier one of this launch wrote other bytes and is not ordered.
    #[inline]
    fn record(
        &self,
        word: usize,
        mask: u8,
        different: u8,
        writer: Writer<'_>,
        again: &impl Fn(u64) -> bool,
    ) -> Result<(), FaultKind> {
        let time = writer.time.min((1 << TIME_BITS) - 1);
        let record = u64::from(writer.launch) << 56
            | u64::from(mask) << (TIME_BITS + THREAD_BITS + BLOCK_BITS)
            | u64::from(writer.block) << (TIME_BITS + THREAD_BITS)
            | u64::from(writer.thread) << TIME_BITS
            | u64::from(time);
        let old = self.writers[word].swap(record, Relaxed);
        if old >> 56 != u64::from(writer.launch) || different == 0 {
            return Ok(());
        }
        let old_time = (old & ((1 << TIME_BITS) - 1)) as u32;
        let thread = (old >> TIME_BITS) as u32 & ((1 << THREAD_BITS) - 1);
        let block = (old >> (TIME_BITS + THREAD_BITS)) as u32 & ((1 << BLOCK_BITS) - 1);
        let old_mask = (old >> (TIME_BITS + THREAD_BITS + BLOCK_BITS)) as u8 & 0xf;
        if old_mask & different == 0 || (block == writer.block && thread == writer.thread) {
            return Ok(());
        }
        let address = self.base + 4 * word as u64;
        let ordered = block == writer.block
            && if thread / 32 == writer.thread / 32 {
                // Lanes of one warp run in order, except within one instruction.
                !again(address)
            } else {
                old_time + 1 == 1 << TIME_BITS || writer.known[thread as usize / 32] > old_time
            };
        if ordered {
            return Ok(());
        }
        Err(FaultKind::GlobalRace { address, other_block: block, other_thread: thread })
    }

    /// Replaces a word or two by a function of what is there; returns what was there.
    pub(crate) fn update(&self, offset: u64, bytes: u32, f: impl Fn(u64) -> u64) -> Result<u64, FaultKind> {
        if self.read_only {
            return Err(FaultKind::ReadOnly { address: self.base + offset });
        }
        let first = offset as usize / 4;
        let words = bytes as usize / 4;
        if (first..first + words).any(|word| self.initialised[word].load(Relaxed) != 0xf) {
            return Err(self.unwritten(offset, bytes));
        }
        (first..first + words).for_each(|word| self.writers[word].store(0, Relaxed));
        if words == 1 {
            let old = self.words[first].fetch_update(Relaxed, Relaxed, |old| Some(f(u64::from(old)) as u32));
            return Ok(u64::from(old.unwrap_or(0)));
        }
        // Two words are one for everybody who comes through here.
        static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _guard = LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let old = u64::from(self.words[first].load(Relaxed)) | u64::from(self.words[first + 1].load(Relaxed)) << 32;
        let new = f(old);
        self.words[first].store(new as u32, Relaxed);
        self.words[first + 1].store((new >> 32) as u32, Relaxed);
        Ok(old)
    }
}

/// The bytes of a word that an access of 1 or 2 bytes touches, and the bits of its value.
fn partial(offset: u64, bytes: u32) -> (u8, u32) {
    let mask = (1_u8 << bytes) - 1;
    (mask << (offset % 4), (1_u32 << (8 * bytes)) - 1)
}
