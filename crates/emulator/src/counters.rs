//! What a launch did, counted.

use crate::instruction::Class;

/// Counts of one launch, over all its blocks.
///
/// # Units
/// Instructions are counted once for a warp, whatever the number of its active lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Arithmetic and logic on whole numbers and predicates.
    pub integer: u64,
    /// Arithmetic in floating point.
    pub float: u64,
    /// Conversions.
    pub convert: u64,
    /// Moves.
    pub moves: u64,
    /// Loads, stores, atomics and asynchronous copies.
    pub memory: u64,
    /// Branches, barriers, exits.
    pub control: u64,
    /// Exchanges between lanes.
    pub exchange: u64,
    /// `mma`, `wgmma`, `ldmatrix` and `stmatrix`.
    pub matrix: u64,
    /// Bytes that lanes read from global memory.
    pub global_read_bytes: u64,
    /// Bytes that lanes wrote to global memory.
    pub global_written_bytes: u64,
    /// 32-byte sectors of global memory touched, summed over instructions.
    pub global_sectors: u64,
    /// Bytes that lanes read from or wrote to shared memory.
    pub shared_bytes: u64,
    /// Passes that shared-memory instructions took beyond those that their width needs.
    pub bank_conflicts: u64,
    /// Barriers completed by blocks.
    pub barriers: u64,
    /// Multiplications and additions of `mma`.
    pub mma_flops: u64,
    /// Multiplications and additions of `wgmma`.
    pub wgmma_flops: u64,
    /// Bytes that `wgmma` read from shared memory.
    pub wgmma_shared_bytes: u64,
    /// Bytes that bulk copies brought from global to shared memory, without those filled with zeros.
    pub bulk_read_bytes: u64,
    /// Bytes that bulk copies brought from shared to global memory.
    pub bulk_written_bytes: u64,
}

impl Counters {
    /// All instructions.
    pub fn instructions(&self) -> u64 {
        self.integer + self.float + self.convert + self.moves + self.memory + self.control + self.exchange + self.matrix
    }

    pub(crate) fn count(&mut self, class: Class) {
        let counter = match class {
            Class::Integer => &mut self.integer,
            Class::Float => &mut self.float,
            Class::Convert => &mut self.convert,
            Class::Move => &mut self.moves,
            Class::Memory => &mut self.memory,
            Class::Control => &mut self.control,
            Class::Exchange => &mut self.exchange,
            Class::Matrix => &mut self.matrix,
        };
        *counter += 1;
    }

    /// Adds the counts of another launch.
    pub fn add(&mut self, other: &Counters) {
        self.each(other, |to, from| *to += from);
    }

    /// What each of so many blocks did, if all did the same.
    pub(crate) fn divided(mut self, blocks: u64) -> Counters {
        let all = self;
        self.each(&all, |to, from| *to = from / blocks);
        self
    }

    fn each(&mut self, other: &Counters, change: impl Fn(&mut u64, u64)) {
        let pairs = [
            (&mut self.integer, other.integer),
            (&mut self.float, other.float),
            (&mut self.convert, other.convert),
            (&mut self.moves, other.moves),
            (&mut self.memory, other.memory),
            (&mut self.control, other.control),
            (&mut self.exchange, other.exchange),
            (&mut self.matrix, other.matrix),
            (&mut self.global_read_bytes, other.global_read_bytes),
            (&mut self.global_written_bytes, other.global_written_bytes),
            (&mut self.global_sectors, other.global_sectors),
            (&mut self.shared_bytes, other.shared_bytes),
            (&mut self.bank_conflicts, other.bank_conflicts),
            (&mut self.barriers, other.barriers),
            (&mut self.mma_flops, other.mma_flops),
            (&mut self.wgmma_flops, other.wgmma_flops),
            (&mut self.wgmma_shared_bytes, other.wgmma_shared_bytes),
            (&mut self.bulk_read_bytes, other.bulk_read_bytes),
            (&mut self.bulk_written_bytes, other.bulk_written_bytes),
        ];
        pairs.into_iter().for_each(|(to, from)| change(to, from));
    }
}
