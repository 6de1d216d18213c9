//! Transaction barriers: arrivals, bytes and phases.

use crate::FaultKind;
use crate::order::{Agent, Order};
use crate::shared::{Shared, Toucher};

/// The most arrivals, and the most bytes that may be outstanding.
const MOST: i64 = (1 << 20) - 1;
/// What the eight bytes of a barrier hold, beside its index: nobody but the hardware knows the format.
const MAGIC: u32 = 0x6d62_6100;

/// The transaction barriers of a block.
#[derive(Debug, Default)]
pub(crate) struct Mbarriers {
    list: Vec<Mbarrier>,
}

/// A transaction barrier.
#[derive(Clone, Debug)]
pub(crate) struct Mbarrier {
    pub(crate) offset: u64,
    /// Arrivals of a phase, and those that are missing.
    expected: u32,
    pending: u32,
    /// Bytes that are missing.
    bytes: i64,
    /// Phases completed.
    pub(crate) phases: u32,
    /// What is ordered before the end of this phase, and before that of the last one.
    gathering: Order,
    done: Order,
    /// The warp that made it, and when.
    maker: (usize, u32),
    /// The last phase in which a bulk copy came, and how many phases somebody has seen the end of.
    loaded: Option<u32>,
    seen: u32,
    /// A fence came after it was made, so that bulk copies may use it.
    pub(crate) announced: bool,
    valid: bool,
}

impl Mbarriers {
    pub(crate) fn clear(&mut self) {
        self.list.clear();
    }

    pub(crate) fn get(&self, index: usize) -> &Mbarrier {
        &self.list[index]
    }

    /// Makes a barrier.
    pub(crate) fn init(
        &mut self,
        shared: &mut Shared,
        offset: u64,
        count: u32,
        by: Toucher<'_>,
    ) -> Result<(), FaultKind> {
        if !(1..=MOST).contains(&i64::from(count)) {
            return Err(FaultKind::Mbarrier(format!("init with {count} arrivals; 1 to {MOST} are possible")));
        }
        if self.list.iter().any(|one| one.valid && one.offset == offset) {
            return Err(FaultKind::Mbarrier(format!("init where a valid one is, at offset {offset}")));
        }
        let index = self.list.len() as u32;
        shared.store(offset, 8, &[MAGIC, index, 0, 0], by)?;
        self.list.push(Mbarrier {
            offset,
            expected: count,
            pending: count,
            bytes: 0,
            phases: 0,
            gathering: Order::default(),
            done: Order::default(),
            maker: (usize::from(by.thread / 32), by.time),
            loaded: None,
            seen: 0,
            announced: false,
            valid: true,
        });
        Ok(())
    }

    /// The barrier at an offset, whose making must be ordered before.
    pub(crate) fn find(&mut self, shared: &mut Shared, offset: u64, by: Toucher<'_>) -> Result<usize, FaultKind> {
        let words = shared.load(offset, 8, by)?;
        let found = self.list.get(words[1] as usize).filter(|one| one.valid && one.offset == offset);
        if words[0] != MAGIC || found.is_none() {
            return Err(FaultKind::Mbarrier(format!("none is at offset {offset}, or it was overwritten")));
        }
        Ok(words[1] as usize)
    }

    /// The same for a thread of another block, or a copy.
    pub(crate) fn find_from_afar(&self, shared: &Shared, offset: u64, order: &Order) -> Result<usize, FaultKind> {
        let found = self.list.iter().position(|one| one.valid && one.offset == offset);
        let Some(index) = found.filter(|index| shared.peek(offset) == [MAGIC, *index as u32]) else {
            return Err(FaultKind::Mbarrier(format!("none is at offset {offset}, or it was overwritten")));
        };
        let (maker, time) = self.list[index].maker;
        if time >= order.own.known[maker] {
            let what = format!("the init at offset {offset} is not ordered before its use by another block");
            return Err(FaultKind::Mbarrier(what));
        }
        Ok(index)
    }

    pub(crate) fn invalidate(&mut self, index: usize) {
        self.list[index].valid = false;
    }

    /// A fence of a warp: barriers that it knows of may be used by bulk copies.
    pub(crate) fn announce(&mut self, warp: usize, order: &Order) {
        for one in self.list.iter_mut().filter(|one| !one.announced) {
            one.announced = one.maker.0 == warp || order.own.known[one.maker.0] > one.maker.1;
        }
    }

    /// Expects more bytes in this phase.
    pub(crate) fn expect(&mut self, index: usize, bytes: u32) -> Result<(), FaultKind> {
        self.transact(index, i64::from(bytes))
    }

    /// Threads arrive, with what is ordered before them. Returns the phase that they arrive in.
    pub(crate) fn arrive(&mut self, index: usize, count: u32, order: Option<&Order>) -> Result<u32, FaultKind> {
        let one = &mut self.list[index];
        if count == 0 || count > one.pending {
            let what = format!(
                "{count} arrivals at offset {}, of {} expected in phase {} only {} are missing",
                one.offset, one.expected, one.phases, one.pending
            );
            return Err(FaultKind::Mbarrier(what));
        }
        let phase = one.phases;
        one.pending -= count;
        order.into_iter().for_each(|order| one.gathering.join(order));
        one.complete();
        Ok(phase)
    }

    /// A bulk copy has arrived whole, at a time of its agent.
    pub(crate) fn transfer(&mut self, index: usize, bytes: u64, agent: usize, time: u32) -> Result<(), FaultKind> {
        let one = &mut self.list[index];
        let known = &mut one.gathering.own.known[agent];
        *known = (*known).max(time + 1);
        one.loaded = Some(one.phases);
        self.transact(index, -(bytes as i64))
    }

    /// As if so many bytes had been copied.
    pub(crate) fn complete_bytes(&mut self, index: usize, bytes: u32) -> Result<(), FaultKind> {
        self.transact(index, -i64::from(bytes))
    }

    fn transact(&mut self, index: usize, bytes: i64) -> Result<(), FaultKind> {
        let one = &mut self.list[index];
        one.bytes += bytes;
        if one.bytes.abs() > MOST {
            let what = format!("{} bytes outstanding at offset {}; at most {MOST} can be", one.bytes, one.offset);
            return Err(FaultKind::Mbarrier(what));
        }
        one.complete();
        Ok(())
    }

    /// Somebody has seen the end of the latest phase.
    pub(crate) fn see(&mut self, index: usize) {
        self.list[index].seen = self.list[index].phases;
    }

    /// A barrier with bulk copies that nobody has seen the end of.
    pub(crate) fn unseen(&self) -> Option<&Mbarrier> {
        self.list.iter().find(|one| one.loaded.is_some_and(|phase| one.seen <= phase))
    }

    /// What bulk copies that complete on a barrier are called.
    pub(crate) fn agent(&self, index: usize) -> Agent {
        Agent::Loads(self.list[index].offset as u32)
    }
}

impl Mbarrier {
    fn complete(&mut self) {
        if self.pending == 0 && self.bytes == 0 {
            self.phases = self.phases.wrapping_add(1);
            self.pending = self.expected;
            self.done = self.gathering.clone();
        }
    }

    /// What is ordered before the end of the phase of this parity, if that is over.
    pub(crate) fn passed_parity(&self, parity: u32) -> Option<&Order> {
        (self.phases & 1 != parity & 1).then_some(&self.done)
    }

    /// The same of the phase in which an arrival got this state.
    pub(crate) fn passed_state(&self, state: u64) -> Option<&Order> {
        (u64::from(self.phases) != state).then_some(&self.done)
    }

    /// What is missing, in words.
    pub(crate) fn missing(&self) -> String {
        let bytes = match self.bytes {
            0 => String::new(),
            1.. => format!(" and {} bytes", self.bytes),
            _ => format!(", and {} bytes more came than were expected", -self.bytes),
        };
        format!(
            "the mbarrier at offset {}, phase {}: {} of {} arrivals{bytes} missing",
            self.offset, self.phases, self.pending, self.expected
        )
    }
}
