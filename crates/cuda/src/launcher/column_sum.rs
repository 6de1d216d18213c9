//! Sums over the rows of a matrix, as kernels/column_sum.cuh makes them.

use crate::launch::{Launch, PartSum, Slice, suffix};
use sphereface_tensor::DType;

const THREADS: u32 = 256;
/// Columns that a block takes.
const COLUMNS: usize = 32;

/// Rows of each chunk, and the number of chunks: at least 256 rows, at most 256 chunks.
pub(super) fn chunks(rows: usize) -> (u32, u32) {
    let length = rows.div_ceil(256).max(256);
    (length as u32, rows.div_ceil(length) as u32)
}

/// A matrix `[rows, columns]` whose columns are summed.
#[derive(Clone, Copy)]
pub(super) struct ColumnSum {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl ColumnSum {
    /// The sums of all chunks as parts of the written operand of this number, if there are several.
    pub(super) fn parts(self, write: usize) -> Option<PartSum> {
        let (_, chunks) = chunks(self.rows);
        (chunks > 1).then_some(PartSum { parts: chunks as usize, columns: self.columns, write })
    }

    /// By the kernel of this file: to the parts, or to the result where there is one chunk.
    pub(super) fn launch(self, stem: &'static str, dtype: DType, matrix: Slice, to: Slice) -> Launch {
        let (rows_of_chunk, chunks) = chunks(self.rows);
        Launch::new(stem, format!("{stem}_column_sum_{}", suffix(dtype)))
            .grid([self.columns.div_ceil(COLUMNS) as u32, chunks, 1])
            .block(THREADS)
            .read(matrix)
            .write(to)
            .value(self.rows as u32)
            .value(self.columns as u32)
            .value(rows_of_chunk)
    }
}
