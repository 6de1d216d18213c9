//! Shared memory of a block, and of each word who wrote it and who read it since.
//!
//! Time counts completed barriers. Each warp knows, for every other warp, the time before which that warp's accesses
//! are ordered before its own; barriers pass this knowledge on. Lanes of one warp are ordered by `bar.warp.sync`.

use crate::FaultKind;

/// No thread.
const NOBODY: u16 = u16::MAX;
/// More than one thread.
const SEVERAL: u16 = u16::MAX - 1;

/// The memory of one block.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    words: Vec<u32>,
    shadow: Vec<Shadow>,
    bytes: u64,
}

/// What is known of a word.
#[derive(Clone, Copy, Debug)]
struct Shadow {
    /// A bit for each byte that was written.
    initialised: u8,
    /// A bit for each byte that an asynchronous copy may still write.
    pending: u8,
    /// The bytes of the last write, and of the reads since.
    written: u8,
    read: u8,
    writer: u16,
    reader: u16,
    write_time: u32,
    write_sync: u32,
    read_time: u32,
    read_sync: u32,
    /// Warps that read since the last write.
    readers: u32,
}

const FRESH: Shadow = Shadow {
    initialised: 0,
    pending: 0,
    written: 0,
    read: 0,
    writer: NOBODY,
    reader: NOBODY,
    write_time: 0,
    write_sync: 0,
    read_time: 0,
    read_sync: 0,
    readers: 0,
};

/// Who touches shared memory, and what is ordered before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Toucher<'a> {
    /// Linear index in the block.
    pub(crate) thread: u16,
    pub(crate) time: u32,
    /// Number of warp barriers the warp has passed.
    pub(crate) sync: u32,
    /// The least of `known`.
    pub(crate) floor: u32,
    pub(crate) known: &'a [u32; 32],
}

impl Shared {
    /// Fresh memory for a new block.
    pub(crate) fn reset(&mut self, bytes: u64) {
        let words = bytes.div_ceil(4) as usize;
        self.bytes = bytes;
        self.words.clear();
        self.words.resize(words, 0);
        self.shadow.clear();
        self.shadow.resize(words, FRESH);
    }

    /// Alignment and bounds.
    #[inline]
    pub(crate) fn check(&self, offset: u64, bytes: u32, access: &'static str) -> Result<(), FaultKind> {
        if offset & u64::from(bytes - 1) != 0 {
            return Err(FaultKind::Misaligned { address: offset, bytes });
        }
        if offset.saturating_add(u64::from(bytes)) > self.bytes {
            return Err(FaultKind::SharedOutOfBounds { access, offset, bytes, size: self.bytes });
        }
        Ok(())
    }

    /// Loads 1, 2, 4, 8 or 16 bytes, zero-extended.
    #[inline]
    pub(crate) fn load(&mut self, offset: u64, bytes: u32, by: Toucher<'_>) -> Result<[u32; 4], FaultKind> {
        self.check(offset, bytes, "read")?;
        let first = offset as usize / 4;
        let mut result = [0; 4];
        if bytes >= 4 {
            let count = bytes as usize / 4;
            let words = &self.words[first..first + count];
            let shadow = &mut self.shadow[first..first + count];
            for index in 0..count {
                shadow[index].read(0xf, by).map_err(|what| what.fault(first + index))?;
                result[index] = words[index];
            }
        } else {
            let shift = offset % 4;
            let mask = ((1_u8 << bytes) - 1) << shift;
            self.shadow[first].read(mask, by).map_err(|what| what.fault(first))?;
            result[0] = self.words[first] >> (8 * shift) & ((1_u32 << (8 * bytes)) - 1);
        }
        Ok(result)
    }

    /// Notes that one more lane read what the lane before it read.
    #[inline]
    pub(crate) fn read_again(&mut self, offset: u64, bytes: u32) {
        let first = offset as usize / 4;
        for shadow in &mut self.shadow[first..first + bytes.div_ceil(4) as usize] {
            shadow.reader = SEVERAL;
        }
    }

    /// Stores 1, 2, 4, 8 or 16 bytes.
    #[inline]
    pub(crate) fn store(
        &mut self,
        offset: u64,
        bytes: u32,
        values: &[u32; 4],
        by: Toucher<'_>,
    ) -> Result<(), FaultKind> {
        self.check(offset, bytes, "write")?;
        let first = offset as usize / 4;
        if bytes >= 4 {
            for index in 0..bytes as usize / 4 {
                let word = first + index;
                let same = self.words[word] == values[index];
                self.shadow[word].write(0xf, same, by).map_err(|what| what.fault(word))?;
                self.words[word] = values[index];
            }
        } else {
            let shift = offset % 4;
            let mask = ((1_u8 << bytes) - 1) << shift;
            let bits = ((1_u32 << (8 * bytes)) - 1) << (8 * shift);
            let value = values[0] << (8 * shift) & bits;
            let same = self.words[first] & bits == value;
            self.shadow[first].write(mask, same, by).map_err(|what| what.fault(first))?;
            self.words[first] = self.words[first] & !bits | value;
        }
        Ok(())
    }

    /// An asynchronous copy begins: the data is there, but nobody may touch it before the wait.
    pub(crate) fn begin_copy(
        &mut self,
        offset: u64,
        bytes: u32,
        values: &[u32; 4],
        by: Toucher<'_>,
    ) -> Result<(), FaultKind> {
        self.store(offset, bytes, values, by)?;
        let first = offset as usize / 4;
        self.shadow[first..first + bytes as usize / 4].iter_mut().for_each(|shadow| shadow.pending = 0xf);
        Ok(())
    }

    /// The thread has waited for its copy: it counts as written now.
    pub(crate) fn end_copy(&mut self, offset: u64, bytes: u32, by: Toucher<'_>) {
        let first = offset as usize / 4;
        for shadow in &mut self.shadow[first..first + bytes as usize / 4] {
            shadow.pending = 0;
            shadow.writer = by.thread;
            shadow.write_time = by.time;
            shadow.write_sync = by.sync;
        }
    }

    /// Replaces a word or two by a function of what is there; returns what was there.
    pub(crate) fn update(
        &mut self,
        offset: u64,
        bytes: u32,
        by: Toucher<'_>,
        f: impl Fn(u64) -> u64,
    ) -> Result<u64, FaultKind> {
        let old = self.load(offset, bytes, by)?;
        let old = u64::from(old[0]) | u64::from(old[1]) << 32;
        let new = f(old);
        let first = offset as usize / 4;
        for index in 0..bytes as usize / 4 {
            self.words[first + index] = (new >> (32 * index)) as u32;
            // Atomic accesses do not race with each other.
            self.shadow[first + index] = Shadow { initialised: 0xf, ..FRESH };
        }
        Ok(old)
    }
}

/// What is wrong with an access to a word.
enum Wrong {
    Uninitialised,
    Pending,
    Race(&'static str, u16),
}

impl Wrong {
    #[cold]
    fn fault(self, word: usize) -> FaultKind {
        let offset = 4 * word as u64;
        match self {
            Wrong::Uninitialised => FaultKind::SharedUninitialised { offset },
            Wrong::Pending => FaultKind::AsyncCopyPending { offset },
            Wrong::Race(order, thread) => {
                FaultKind::SharedRace { offset, order, other: (thread < SEVERAL).then_some(u32::from(thread)) }
            }
        }
    }
}

impl Shadow {
    #[inline]
    fn read(&mut self, mask: u8, by: Toucher<'_>) -> Result<(), Wrong> {
        if self.initialised & mask != mask || self.pending & mask != 0 {
            return Err(if self.pending & mask != 0 { Wrong::Pending } else { Wrong::Uninitialised });
        }
        if self.write_time >= by.floor && self.written & mask != 0 && self.unordered_write(by) {
            return Err(Wrong::Race("read after write", self.writer));
        }
        let warp = 1 << (by.thread / 32);
        if self.read_time < by.floor || self.readers == 0 {
            // Earlier reads are ordered before this one, so whoever is ordered after it is after them too.
            self.readers = warp;
            self.reader = by.thread;
            self.read = mask;
        } else {
            self.readers |= warp;
            self.read |= mask;
            if self.reader != by.thread {
                self.reader = SEVERAL;
            }
        }
        self.read_time = by.time;
        self.read_sync = by.sync;
        Ok(())
    }

    #[inline]
    fn write(&mut self, mask: u8, same: bool, by: Toucher<'_>) -> Result<(), Wrong> {
        if self.pending & mask != 0 {
            return Err(Wrong::Pending);
        }
        if !same && self.write_time >= by.floor && self.written & mask != 0 && self.unordered_write(by) {
            return Err(Wrong::Race("write after write", self.writer));
        }
        if self.read_time >= by.floor && self.read & mask != 0 && self.unordered_read(by) {
            return Err(Wrong::Race("write after read", self.reader));
        }
        // Another thread's earlier write of other bytes of the word is forgotten: a race may be missed, never invented.
        let more = self.writer == by.thread && self.write_time == by.time && self.write_sync == by.sync;
        self.written = if more { self.written | mask } else { mask };
        self.initialised |= mask;
        self.writer = by.thread;
        self.write_time = by.time;
        self.write_sync = by.sync;
        self.read &= !mask;
        if self.read == 0 {
            self.readers = 0;
        }
        Ok(())
    }

    fn unordered_write(&self, by: Toucher<'_>) -> bool {
        if self.writer == by.thread || self.writer >= SEVERAL {
            return false;
        }
        let warp = usize::from(self.writer / 32);
        if warp == usize::from(by.thread / 32) { self.write_sync == by.sync } else { self.write_time >= by.known[warp] }
    }

    fn unordered_read(&self, by: Toucher<'_>) -> bool {
        let own = usize::from(by.thread / 32);
        (0..32).filter(|warp| self.readers >> warp & 1 == 1).any(|warp| {
            if warp == own {
                self.reader != by.thread && self.read_sync == by.sync
            } else {
                self.read_time >= by.known[warp]
            }
        })
    }
}
