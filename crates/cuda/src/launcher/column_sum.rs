//! Sums over the rows of a matrix, as kernels/column_sum.cuh makes them.

use crate::launch::{Launch, Slice, blocks, suffix};
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
    /// Sums of all chunks, if there are several.
    pub(super) fn workspace_bytes(self) -> u64 {
        let (_, chunks) = chunks(self.rows);
        if chunks > 1 { 4 * u64::from(chunks) * self.columns as u64 } else { 0 }
    }

    /// By the kernels of this file.
    pub(super) fn launches(
        self,
        stem: &'static str,
        dtype: DType,
        [matrix, workspace, out]: [Slice; 3],
    ) -> impl Iterator<Item = Launch> {
        let (rows_of_chunk, chunks) = chunks(self.rows);
        let of_chunks = Launch::new(stem, format!("{stem}_column_sum_{}", suffix(dtype)))
            .grid([self.columns.div_ceil(COLUMNS) as u32, chunks, 1])
            .block(THREADS)
            .read(matrix)
            .write(if chunks > 1 { workspace } else { out })
            .value(self.rows as u32)
            .value(self.columns as u32)
            .value(rows_of_chunk);
        let finish = (chunks > 1).then(|| {
            Launch::new(stem, format!("{stem}_column_sum_finish"))
                .grid([blocks(self.columns, THREADS, 1 << 16), 1, 1])
                .block(THREADS)
                .read(workspace)
                .write(out)
                .value(chunks)
                .value(self.columns as u32)
        });
        [Some(of_chunks), finish].into_iter().flatten()
    }
}
