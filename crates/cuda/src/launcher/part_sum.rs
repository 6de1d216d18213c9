//! The sums of parts, those of many steps in one launch.

use crate::launch::{Kernel, Launch, PartSum};
use bytemuck::{Pod, Zeroable};

const THREADS: usize = 256;
/// The most rows that a block's threads are laid out in.
const MOST_GROUPS: usize = 32;

/// `struct Tile` of part_sum.cu: neighbouring columns of one sum.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct Tile {
    pub(super) first: u32,
    pub(super) out: u32,
    pub(super) columns: u32,
    pub(super) valid: u32,
    pub(super) parts: u32,
    pub(super) groups: u32,
}

/// A sum whose parts begin at a byte of the parts of all, and whose result at an element of the block it lies in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlacedSum {
    pub(crate) sum: PartSum,
    pub(crate) from_bytes: u64,
    pub(crate) out: usize,
}

impl PlacedSum {
    /// Tiles with rows of threads for about two parts each.
    fn tiles(self) -> impl Iterator<Item = Tile> {
        let PartSum { parts, columns, .. } = self.sum;
        let groups = (parts / 2).clamp(1, MOST_GROUPS);
        let groups = if groups.is_power_of_two() { groups } else { groups.next_power_of_two() / 2 };
        let first = (self.from_bytes / 4) as usize;
        (0..columns).step_by(4 * THREADS / groups).map(move |column| Tile {
            first: (first + column) as u32,
            out: (self.out + column) as u32,
            columns: columns as u32,
            valid: (columns - column) as u32,
            parts: parts as u32,
            groups: groups as u32,
        })
    }
}

/// Reads the parts of all sums, and updates the blocks that these have results in.
pub(crate) fn part_sum(blocks: &[Vec<PlacedSum>]) -> Kernel {
    let tiles: Vec<Vec<Tile>> = blocks.iter().map(|sums| sums.iter().flat_map(|sum| sum.tiles()).collect()).collect();
    let all = tiles.concat();
    let counts: Vec<usize> = tiles.iter().map(Vec::len).collect();
    let kernel = Kernel::new(0, move |io| {
        let mut at = 0;
        let launch = |(&block, &count): (&crate::launch::Slice, &usize)| {
            let bytes = (count * size_of::<Tile>()) as u64;
            let table = io.constants.part(at, bytes);
            at += bytes;
            let launch = Launch::new("part_sum", "part_sum").grid([count as u32, 1, 1]).block(THREADS as u32);
            launch.read(io.reads[0]).update(block).read(table)
        };
        io.updates.iter().zip(&counts).map(launch).collect()
    });
    kernel.with_constants(bytemuck::cast_slice(&all))
}
