//! Two blocks of floats, and how a step gets its operands from them without copying or overlapping.

use super::LINE;
use crate::error::Error;
use arrayvec::ArrayVec;
use memmap2::MmapMut;

/// The most buffers a step reads, writes or updates (its workspace included).
pub(super) const MAX_PORTS: usize = 12;

/// Bytes of a large page.
const PAGE: usize = 2 << 20;

/// Zeros from the system, which cost nothing until they are touched. Large pages are asked for: a tile of a Winograd
/// transform touches 72 places far apart, more than a processor remembers the translations of.
#[derive(Default)]
struct Block {
    map: Option<MmapMut>,
    /// In use, in floats.
    length: usize,
}

impl Block {
    /// Makes the block this many floats long; `what` it holds is for the message.
    fn grow(&mut self, length: usize, what: &str) -> Result<(), Error> {
        self.reserve(length, what)?;
        self.length = length;
        Ok(())
    }

    /// Makes room for as many floats.
    fn reserve(&mut self, length: usize, what: &str) -> Result<(), Error> {
        let room = self.map.as_mut().map_or(0, |map| in_pages(map).len());
        if length > room {
            let bytes = (length * size_of::<f32>()).next_multiple_of(PAGE);
            let mut map = MmapMut::map_anon(bytes + PAGE).map_err(|_| {
                let megabytes = bytes.div_ceil(1_000_000);
                let message =
                    format!("expected {megabytes} MB of memory for {what}, found less (a smaller batch needs less)");
                Error::Backend { backend: "cpu", message }
            })?;
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage); // without them it is slower, not wrong
            in_pages(&mut map)[..self.length].copy_from_slice(self.floats());
            self.map = Some(map);
        }
        Ok(())
    }

    fn floats(&mut self) -> &mut [f32] {
        let length = self.length;
        self.map.as_mut().map_or(&mut [], |map| &mut in_pages(map)[..length])
    }
}

/// The floats of a map from its first large page on.
fn in_pages(map: &mut MmapMut) -> &mut [f32] {
    let start = map.as_ptr().align_offset(PAGE).min(map.len());
    bytemuck::cast_slice_mut(&mut map[start..])
}

/// Which block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    Persistent,
    Arena,
}

/// A place in one of the blocks, in floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) space: Space,
    pub(super) start: usize,
    pub(super) length: usize,
}

impl Slot {
    pub(super) fn end(&self) -> usize {
        self.start + self.length
    }
}

/// What the kernel of a step works on; buffers of other types than f32 are cast by the kernel.
pub(super) struct Io<'a> {
    pub(super) reads: ArrayVec<&'a [f32], MAX_PORTS>,
    pub(super) writes: ArrayVec<&'a mut [f32], MAX_PORTS>,
    pub(super) updates: ArrayVec<&'a mut [f32], MAX_PORTS>,
    pub(super) workspace: &'a mut [f32],
}

/// The places of a step's operands, checked once to be disjoint where they must be.
pub(super) struct Ports {
    reads: Vec<Slot>,
    /// Changed places with their number in [writes, updates, workspace], by space and start.
    changed: [Vec<(Slot, usize)>; 2],
    writes: usize,
    updates: usize,
}

impl Ports {
    /// Fails with a message if a changed place overlaps any other operand, or there are too many.
    pub(super) fn new(
        reads: Vec<Slot>,
        writes: Vec<Slot>,
        updates: Vec<Slot>,
        workspace: Slot,
    ) -> Result<Self, String> {
        let counts = (writes.len(), updates.len());
        let mut changed: Vec<(Slot, usize)> =
            writes.into_iter().chain(updates).chain([workspace]).enumerate().map(|(i, slot)| (slot, i)).collect();
        // An empty workspace may have been placed anywhere: it goes first, where it is in nobody's way.
        for (slot, _) in changed.iter_mut().filter(|(slot, _)| slot.length == 0) {
            slot.start = 0;
        }
        changed.sort_by_key(|(slot, _)| (slot.start, slot.length));
        let of = |space| changed.iter().copied().filter(|(slot, _)| slot.space == space).collect::<Vec<_>>();
        let changed = [of(Space::Persistent), of(Space::Arena)];
        if reads.len().max(changed[0].len() + changed[1].len()) > MAX_PORTS {
            return Err(format!("expected at most {MAX_PORTS} operands of a kind"));
        }
        for slots in &changed {
            let overlap = slots.windows(2).any(|pair| pair[0].0.end() > pair[1].0.start);
            let read_too = slots.iter().any(|(slot, _)| {
                reads.iter().any(|read| read.space == slot.space && read.start < slot.end() && slot.start < read.end())
            });
            if overlap || read_too {
                return Err("expected written operands apart from all others, found an overlap".into());
            }
        }
        Ok(Ports { reads, changed, writes: counts.0, updates: counts.1 })
    }
}

/// Persistent buffers, and the arena that all programs share.
#[derive(Default)]
pub(super) struct Memory {
    persistent: Block,
    arena: Block,
}

impl Memory {
    /// Makes room for persistent places of this length together, so that they are not moved for each of them.
    pub(super) fn reserve_persistent(&mut self, length: usize) -> Result<(), Error> {
        self.persistent.reserve(self.persistent.length + length.next_multiple_of(LINE), "persistent buffers")
    }

    /// A new persistent place of zeros.
    pub(super) fn grow(&mut self, length: usize) -> Result<Slot, Error> {
        let start = self.persistent.length;
        self.persistent.grow(start + length.next_multiple_of(LINE), "persistent buffers")?;
        Ok(Slot { space: Space::Persistent, start, length })
    }

    /// Makes the arena at least this long.
    pub(super) fn reserve_arena(&mut self, length: usize) -> Result<(), Error> {
        self.arena.grow(length.next_multiple_of(LINE).max(self.arena.length), "activations")
    }

    /// Bytes of both blocks: persistent, arena.
    pub(super) fn bytes(&self) -> [usize; 2] {
        [&self.persistent, &self.arena].map(|block| block.length * size_of::<f32>())
    }

    /// Bytes of a persistent place.
    pub(super) fn bytes_mut(&mut self, slot: Slot) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.persistent.floats()[slot.start..slot.end()])
    }

    /// Operands of a step; written ones hold NaN in debug builds, so that nothing unwritten goes unnoticed.
    pub(super) fn io(&mut self, ports: &Ports) -> Io<'_> {
        let mut taken: [Option<&mut [f32]>; MAX_PORTS] = [const { None }; MAX_PORTS];
        let persistent = Rest::carve(self.persistent.floats(), &ports.changed[0], &mut taken);
        let arena = Rest::carve(self.arena.floats(), &ports.changed[1], &mut taken);
        let reads = ports
            .reads
            .iter()
            .map(|&slot| if slot.space == Space::Arena { arena.get(slot) } else { persistent.get(slot) })
            .collect();
        let mut taken = taken.into_iter().flatten();
        let mut writes: ArrayVec<&mut [f32], MAX_PORTS> = taken.by_ref().take(ports.writes).collect();
        if cfg!(debug_assertions) {
            writes.iter_mut().for_each(|write| write.fill(f32::NAN));
        }
        let updates = taken.by_ref().take(ports.updates).collect();
        Io { reads, writes, updates, workspace: taken.next().unwrap_or_default() }
    }
}

/// What is left of a block after the changed places have been taken out.
struct Rest<'a>(ArrayVec<(usize, &'a [f32]), { MAX_PORTS + 1 }>);

impl<'a> Rest<'a> {
    fn carve(block: &'a mut [f32], changed: &[(Slot, usize)], taken: &mut [Option<&'a mut [f32]>; MAX_PORTS]) -> Self {
        let (mut rest, mut start, mut left) = (ArrayVec::new(), 0, block);
        for &(slot, port) in changed {
            let (before, from_slot) = left.split_at_mut(slot.start - start);
            let (place, after) = from_slot.split_at_mut(slot.length);
            rest.push((start, &*before));
            taken[port] = Some(place);
            (start, left) = (slot.end(), after);
        }
        rest.push((start, &*left));
        Rest(rest)
    }

    fn get(&self, slot: Slot) -> &'a [f32] {
        let index = self.0.partition_point(|&(start, _)| start <= slot.start) - 1;
        let (start, floats) = self.0[index];
        &floats[slot.start - start..slot.end() - start]
    }
}
