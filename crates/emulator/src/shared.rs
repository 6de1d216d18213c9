//! Shared memory of a block, and of each word who wrote it and who read it since.
//!
//! Each warp knows, for every other warp and every asynchronous unit, the time before which that agent's accesses are
//! ordered before its own; barriers pass this knowledge on. Lanes of one warp are ordered by `bar.warp.sync`.

use crate::FaultKind;
use crate::order::{AGENTS, Agent, Clock, FIRST_AGENT};

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
    /// Who touches this memory beside the warps, from number 32 on.
    agents: Vec<Agent>,
    /// Reads before the latest ones, of words that several agents read at several times.
    earlier: Vec<Earlier>,
}

/// Agents that read, and when, in no order; nobody reads at time 0.
type Earlier = [(u64, u32); 4];

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
    /// Agents that read since the last write, all at `read_time`.
    readers: u64,
    /// How a tensor copy laid the word out: one more than the swizzle; 0 is unknown.
    layout: u8,
    /// One more than the index of earlier reads since the last write.
    earlier: u32,
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
    layout: 0,
    earlier: 0,
};

/// Who touches shared memory, and what is ordered before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Toucher<'a> {
    /// Linear index in the block; from 1,024 on 32 times the number of an agent that is no warp.
    pub(crate) thread: u16,
    pub(crate) time: u32,
    /// Number of warp barriers the warp has passed.
    pub(crate) sync: u32,
    /// The least of `known`.
    pub(crate) floor: u32,
    pub(crate) known: &'a Clock,
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
        self.agents.clear();
        self.earlier.clear();
    }

    /// The number of an agent that is no warp; it gets one the first time. None: there are too many.
    pub(crate) fn agent(&mut self, agent: Agent) -> Option<usize> {
        let found = self.agents.iter().position(|one| *one == agent).unwrap_or(self.agents.len());
        if found == self.agents.len() {
            self.agents.push(agent);
        }
        Some(FIRST_AGENT + found).filter(|number| *number < AGENTS)
    }

    /// How many agents there are beside the warps.
    pub(crate) fn agents(&self) -> usize {
        self.agents.len()
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
                shadow[index]
                    .read(0xf, by, &mut self.earlier)
                    .map_err(|what| what.fault(first + index, &self.agents))?;
                result[index] = words[index];
            }
        } else {
            let shift = offset % 4;
            let mask = ((1_u8 << bytes) - 1) << shift;
            self.shadow[first].read(mask, by, &mut self.earlier).map_err(|what| what.fault(first, &self.agents))?;
            result[0] = self.words[first] >> (8 * shift) & ((1_u32 << (8 * bytes)) - 1);
        }
        Ok(result)
    }

    /// Two words as they are, whoever wrote them; zeros outside.
    pub(crate) fn peek(&self, offset: u64) -> [u32; 2] {
        let first = offset as usize / 4;
        std::array::from_fn(|index| self.words.get(first + index).copied().unwrap_or(0))
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
                let written = self.shadow[word].write(0xf, same, by, &mut self.earlier);
                written.map_err(|what| what.fault(word, &self.agents))?;
                self.words[word] = values[index];
            }
        } else {
            let shift = offset % 4;
            let mask = ((1_u8 << bytes) - 1) << shift;
            let bits = ((1_u32 << (8 * bytes)) - 1) << (8 * shift);
            let value = values[0] << (8 * shift) & bits;
            let same = self.words[first] & bits == value;
            let written = self.shadow[first].write(mask, same, by, &mut self.earlier);
            written.map_err(|what| what.fault(first, &self.agents))?;
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

    /// 16 bytes as an asynchronous unit reads them, at a time of its own and after what the issuing threads know.
    #[inline]
    pub(crate) fn read_beside(
        &mut self,
        offset: u64,
        by: Toucher<'_>,
        fenced: &Clock,
        layout: u8,
    ) -> Result<[u32; 4], FaultKind> {
        self.check(offset, 16, "asynchronous read")?;
        let first = offset as usize / 4;
        for index in first..first + 4 {
            let shadow = &mut self.shadow[index];
            let read = shadow.read(0xf, by, &mut self.earlier).and_then(|()| shadow.visible(fenced));
            read.map_err(|what| what.fault(index, &self.agents))?;
            if shadow.layout != 0 && layout != 0 && shadow.layout != layout {
                let spans = [shadow.layout, layout].map(|layout| 8 << layout);
                return Err(FaultKind::Swizzle { offset: 4 * index as u64, spans });
            }
        }
        Ok(std::array::from_fn(|index| self.words[first + index]))
    }

    /// Writes 16 bytes as an asynchronous unit does.
    #[inline]
    pub(crate) fn write_beside(
        &mut self,
        offset: u64,
        values: [u32; 4],
        by: Toucher<'_>,
        fenced: &Clock,
        layout: u8,
    ) -> Result<(), FaultKind> {
        self.check(offset, 16, "asynchronous write")?;
        let first = offset as usize / 4;
        for index in first..first + 4 {
            let shadow = &mut self.shadow[index];
            let written = shadow.visible(fenced).and_then(|()| shadow.write(0xf, false, by, &mut self.earlier));
            written.map_err(|what| what.fault(index, &self.agents))?;
            shadow.layout = layout;
            self.words[index] = values[index - first];
        }
        Ok(())
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
    /// Which order is not given, and the thread or 32 times the agent of the earlier access.
    Race(&'static str, u16),
    /// A write of the thread that no proxy fence follows.
    Unfenced(u16),
}

impl Wrong {
    #[cold]
    fn fault(self, word: usize, agents: &[Agent]) -> FaultKind {
        let offset = 4 * word as u64;
        match self {
            Wrong::Uninitialised => FaultKind::SharedUninitialised { offset },
            Wrong::Pending => FaultKind::AsyncCopyPending { offset },
            Wrong::Unfenced(thread) => {
                FaultKind::ProxyFence { offset, writer: (thread < SEVERAL).then_some(u32::from(thread)) }
            }
            Wrong::Race(order, thread) => {
                let agent = usize::from(thread / 32).checked_sub(FIRST_AGENT).and_then(|agent| agents.get(agent));
                match agent {
                    Some(Agent::Loads(barrier)) => FaultKind::BulkLoadPending { offset, barrier: u64::from(*barrier) },
                    Some(Agent::Stores(warp)) => FaultKind::BulkStorePending { offset, warp: *warp },
                    Some(Agent::Products(group)) => FaultKind::ProductPending { offset, group: *group },
                    Some(Agent::Block(rank)) => {
                        let what =
                            format!("{order} at offset {offset} of shared memory: no order is given with a store of");
                        FaultKind::Cluster(format!("{what} block {rank} of the cluster"))
                    }
                    None => {
                        let other = (thread < 32 * FIRST_AGENT as u16).then_some(u32::from(thread));
                        FaultKind::SharedRace { offset, order, other }
                    }
                }
            }
        }
    }
}

impl Shadow {
    #[inline]
    fn read(&mut self, mask: u8, by: Toucher<'_>, earlier: &mut Vec<Earlier>) -> Result<(), Wrong> {
        if self.initialised & mask != mask || self.pending & mask != 0 {
            return Err(if self.pending & mask != 0 { Wrong::Pending } else { Wrong::Uninitialised });
        }
        if self.write_time >= by.floor && self.written & mask != 0 && self.unordered_write(by) {
            return Err(Wrong::Race("read after write", self.writer));
        }
        let agent = 1 << (by.thread / 32);
        if self.read_time < by.floor || self.readers == 0 {
            // Earlier reads are ordered before this one, so whoever is ordered after it is after them too.
            self.readers = agent;
            self.reader = by.thread;
            self.read = mask;
            self.forget_earlier(earlier);
        } else {
            if self.read_time != by.time && self.readers != agent {
                self.keep(agent, earlier);
            }
            self.readers |= agent;
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
    fn write(&mut self, mask: u8, same: bool, by: Toucher<'_>, earlier: &mut [Earlier]) -> Result<(), Wrong> {
        if self.pending & mask != 0 {
            return Err(Wrong::Pending);
        }
        if !same && self.write_time >= by.floor && self.written & mask != 0 && self.unordered_write(by) {
            return Err(Wrong::Race("write after write", self.writer));
        }
        if (self.read_time >= by.floor || self.earlier != 0)
            && self.read & mask != 0
            && let Some(reader) = self.unordered_read(by, earlier)
        {
            return Err(Wrong::Race("write after read", reader));
        }
        // Another thread's earlier write of other bytes of the word is forgotten: a race may be missed, never invented.
        let more = self.writer == by.thread && self.write_time == by.time && self.write_sync == by.sync;
        self.written = if more { self.written | mask } else { mask };
        self.layout = 0;
        self.initialised |= mask;
        self.writer = by.thread;
        self.write_time = by.time;
        self.write_sync = by.sync;
        self.read &= !mask;
        if self.read == 0 {
            self.readers = 0;
            self.forget_earlier(earlier);
        }
        Ok(())
    }

    /// Whether an asynchronous unit sees the last write.
    #[inline]
    fn visible(&self, fenced: &Clock) -> Result<(), Wrong> {
        let warp = usize::from(self.writer / 32);
        if warp < FIRST_AGENT && self.write_time >= fenced[warp] {
            return Err(Wrong::Unfenced(self.writer));
        }
        Ok(())
    }

    /// Moves the latest reads, which were at another time than the one to come, to the earlier ones.
    #[cold]
    fn keep(&mut self, agent: u64, earlier: &mut Vec<Earlier>) {
        if self.earlier == 0 {
            earlier.push([(0, 0); 4]);
            self.earlier = earlier.len() as u32;
        }
        let list = &mut earlier[self.earlier as usize - 1];
        // What this agent read before is ordered before what it reads now.
        list.iter_mut().for_each(|one| one.0 &= !agent);
        let latest = (self.readers & !agent, self.read_time);
        // With too many times the oldest is forgotten: a race may be missed, never invented.
        let free = list.iter().position(|one| one.0 == 0);
        let place = free.unwrap_or_else(|| (0..list.len()).min_by_key(|index| list[*index].1).unwrap_or(0));
        list[place] = latest;
        self.readers = 0;
        self.reader = SEVERAL;
    }

    #[inline(always)]
    fn forget_earlier(&self, earlier: &mut [Earlier]) {
        if self.earlier != 0 {
            earlier[self.earlier as usize - 1] = [(0, 0); 4];
        }
    }

    fn unordered_write(&self, by: Toucher<'_>) -> bool {
        if self.writer >= SEVERAL || self.writer == by.thread && by.thread < 32 * FIRST_AGENT as u16 {
            return false;
        }
        let warp = usize::from(self.writer / 32);
        if warp == usize::from(by.thread / 32) && warp < FIRST_AGENT {
            self.write_sync == by.sync
        } else {
            self.write_time >= by.known[warp]
        }
    }

    /// A reader that is not ordered before a write: a thread, or 32 times an agent.
    fn unordered_read(&self, by: Toucher<'_>, earlier: &[Earlier]) -> Option<u16> {
        let own = usize::from(by.thread / 32);
        let list = if self.earlier == 0 { &[][..] } else { &earlier[self.earlier as usize - 1][..] };
        let late = |agents: u64, time: u32| bits(agents).find(|agent| *agent != own && time >= by.known[*agent]);
        if self.readers >> own & 1 == 1 && self.reader != by.thread && self.read_sync == by.sync && own < FIRST_AGENT {
            return Some(self.reader);
        }
        let late = late(self.readers, self.read_time).or_else(|| list.iter().find_map(|one| late(one.0, one.1)));
        late.map(|agent| if agent < FIRST_AGENT { self.reader } else { 32 * agent as u16 })
    }
}

fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = set.trailing_zeros() as usize;
        set &= set.wrapping_sub(1);
        (bit < 64).then_some(bit)
    })
}
