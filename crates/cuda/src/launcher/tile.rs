//! Which tile of the portable tier a product takes, and how its reduction is split.

use crate::launch::suffix;
use crate::options::Tier;
use sphereface_tensor::DType;

/// Steps of a reduction between two barriers, `DEPTH` of kernels/tile.cuh.
const DEPTH: usize = 8;
/// Most terms of a sum before it is added to others; a longer one would lose digits.
const TERMS: usize = 4096;
/// A reduction is split until there are as many blocks: twice the processors of the largest GPUs. A constant, so that
/// every device sums in the same order.
pub(super) const BLOCKS: usize = 264;
/// Fewest terms that are worth a block of their own.
const TERMS_OF_SPLIT: usize = 256;

/// A tile of kernels/tile.cuh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// As the names of kernels have it.
    pub(super) name: &'static str,
    pub(super) threads: u32,
    /// Dynamic shared memory of a block.
    pub(super) shared_bytes: u32,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

const LARGE: Tile = Tile { name: "128x64", threads: 128, shared_bytes: 0, rows: 128, columns: 64 };
const SMALL: Tile = Tile { name: "32x32", threads: 64, shared_bytes: 0, rows: 32, columns: 32 };

impl Tile {
    /// The tile for a result of this size; `vectors`: whether the rows of result and operands are all [`fours`].
    pub(super) fn of(rows: usize, columns: usize, vectors: bool) -> Tile {
        if vectors && rows > LARGE.rows / 2 && columns > LARGE.columns / 2 { LARGE } else { SMALL }
    }

    /// Tiles that cover a result.
    pub(super) fn count(self, rows: usize, columns: usize) -> usize {
        rows.div_ceil(self.rows) * columns.div_ceil(self.columns)
    }

    /// Blocks of a product: tiles, and the parts its reduction is split into.
    pub(super) fn grid(self, rows: usize, columns: usize, splits: usize) -> [u32; 3] {
        [self.count(rows, columns) as u32, 1, splits as u32]
    }
}

/// How a product is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scheme {
    pub(super) tile: Tile,
    /// Element type, or arithmetic, as the names of kernels have it.
    pub(super) element: &'static str,
    /// Parts of the reduction.
    pub(super) splits: usize,
    /// Blocks that walk over the tiles of all products and parts, where there is not one for each.
    pub(super) blocks: Option<u32>,
    /// Whose instructions it uses.
    pub(super) tier: Tier,
}

impl Scheme {
    /// The portable tier's, for `products` results of this size and sums over `segments` of `length` terms each;
    /// `vectors` as in [`Tile::of`].
    pub(super) fn portable(
        dtype: DType,
        products: usize,
        [rows, columns]: [usize; 2],
        [segments, length]: [usize; 2],
        vectors: bool,
    ) -> Scheme {
        let tile = Tile::of(rows, columns, vectors);
        let splits = splits(products * tile.count(rows, columns), segments, length);
        Scheme { tile, element: suffix(dtype), splits, blocks: None, tier: Tier::Simt }
    }
}

/// Parts of a reduction over `segments` of `length` terms each, for a result of this many tiles.
pub(super) fn splits(tiles: usize, segments: usize, length: usize) -> usize {
    let terms = segments * length.next_multiple_of(DEPTH);
    let needed = terms.div_ceil(TERMS);
    let useful = (BLOCKS / tiles).min(terms / TERMS_OF_SPLIT);
    needed.max(useful).max(1)
}

/// Whether four neighbouring elements of a matrix with such rows may be accessed at once: every buffer begins at a
/// multiple of 16 bytes.
pub(super) fn fours(row: usize) -> bool {
    row.is_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sum_is_longer_than_its_bound() {
        for (segments, length) in [(1usize, 1usize), (9, 512), (784, 64), (1, 50_000), (42, 7), (9, 5)] {
            for tiles in [1usize, 7, 400] {
                let steps = segments * length.div_ceil(DEPTH);
                let longest = steps.div_ceil(splits(tiles, segments, length)) * DEPTH;
                assert!(longest <= TERMS, "{segments} × {length} in {tiles} tiles: {longest}");
            }
        }
    }
}
