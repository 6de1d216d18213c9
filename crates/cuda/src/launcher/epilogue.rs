//! What becomes of the sums of products, as kernels/epilogue.cuh has it.

use super::tile::fours;
use crate::launch::{Io, Launch, PartSum, Slice};
use sphereface_tensor::op::Conv2dBackwardData;

/// Rows and columns of the tile that a block takes where it adds up parts, and its threads.
pub(super) const SUM_ROWS: usize = 16;
const SUM_COLUMNS: usize = 32;
const SUM_THREADS: u32 = 128;

/// Operands of `PreluEpilogue`; none where a reduction is split, whose parts are stored as they are.
#[derive(Clone, Copy, Default)]
pub(super) struct PreluEpilogue {
    pub(super) bias: Option<Slice>,
    pub(super) slope: Option<Slice>,
    pub(super) addend: Option<Slice>,
    pub(super) kept: Option<Slice>,
    pub(super) out: Slice,
}

impl PreluEpilogue {
    pub(super) fn reads(self, launch: Launch) -> Launch {
        launch.read_if(self.bias).read_if(self.slope).read_if(self.addend)
    }

    pub(super) fn arguments(self, launch: Launch) -> Launch {
        self.reads(launch).write_if(self.kept).write(self.out)
    }
}

/// Operands of `PreluGradientEpilogue`, likewise.
#[derive(Clone, Copy, Default)]
pub(super) struct PreluGradientEpilogue {
    pub(super) addend: Option<Slice>,
    pub(super) pre: Option<Slice>,
    pub(super) slope: Option<Slice>,
    pub(super) kept: Option<Slice>,
    pub(super) out: Slice,
    /// `[tiles of rows, columns]`.
    pub(super) column_sums: Slice,
}

impl PreluGradientEpilogue {
    /// The operands of a convolution's data gradient, whose kernel has the [`slope_sum`].
    pub(super) fn of(op: Conv2dBackwardData, io: &Io) -> Self {
        let mut rest = io.reads[2..].iter().copied();
        PreluGradientEpilogue {
            addend: if op.addend { rest.next() } else { None },
            pre: if op.slope { rest.next() } else { None },
            slope: if op.slope { rest.next() } else { None },
            kept: op.keep.then(|| io.writes[0]),
            out: io.writes[usize::from(op.keep)],
            column_sums: io.parts.first().copied().unwrap_or_default(),
        }
    }

    /// `first`: whether nothing of the results is written yet.
    pub(super) fn arguments(self, launch: Launch, first: bool) -> Launch {
        let launch = launch.read_if(self.addend).read_if(self.pre).read_if(self.slope);
        let kept = self.kept.unwrap_or_default();
        let launch = if first { launch.write(kept).write(self.out) } else { launch.update(kept).update(self.out) };
        launch.write(self.column_sums)
    }
}

/// The gradient of the slopes, if there is one, of which every tile of rows leaves its part.
pub(super) fn slope_sum(op: Conv2dBackwardData, tiles: usize, columns: usize) -> Option<PartSum> {
    op.slope.then_some(PartSum { parts: tiles, columns, write: 1 + usize::from(op.keep) })
}

/// Adds up the parts `[splits, rows, columns]` of a split reduction and finishes them, by a kernel of `sum_splits`:
/// between the parts and the sizes it takes what `arguments` adds.
pub(super) fn sum_splits(
    stem: &'static str,
    kernel: String,
    partial: Slice,
    [rows, columns, splits]: [usize; 3],
    arguments: impl FnOnce(Launch) -> Launch,
) -> Launch {
    let launch = Launch::new(stem, kernel)
        .grid([(rows.div_ceil(SUM_ROWS) * columns.div_ceil(SUM_COLUMNS)) as u32, 1, 1])
        .block(SUM_THREADS)
        .read(partial);
    arguments(launch).value(rows as u32).value(columns as u32).value(splits as u32).value(u32::from(fours(columns)))
}
