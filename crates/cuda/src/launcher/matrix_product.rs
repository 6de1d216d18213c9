//! Products of dense matrices of the portable tier, as kernels/matrix_product.cuh has them.

use super::tile::{self, Tile};
use crate::launch::Slice;
use bytemuck::{Pod, Zeroable};
use sphereface_tensor::DType;
use sphereface_tensor::op::Layout;

/// `MatrixProduct` of kernels/matrix_product.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct MatrixProduct {
    rows: i32,
    columns: i32,
    length: i32,
    segments: i32,
    left_segment: i32,
    right_segment: i32,
    left_batch: i32,
    right_batch: i32,
    splits: i32,
    left_vectors: i32,
    right_vectors: i32,
    out_vectors: i32,
}

/// Products of one size, and how they are done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Products {
    pub(super) layout: Layout,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Terms of a segment of the reduction.
    pub(super) length: usize,
    pub(super) segments: usize,
    /// Products with a result each.
    pub(super) batch: usize,
    /// Whether each of them has its own left operand, and right one; else it is one for all.
    pub(super) own: [bool; 2],
}

impl Products {
    pub(super) fn tile(&self) -> Tile {
        Tile::of(self.rows, self.columns)
    }

    /// Parts of the reduction.
    pub(super) fn splits(&self) -> usize {
        tile::splits(self.batch * self.tile().count(self.rows, self.columns), self.segments, self.length)
    }

    /// Elements of the results of all splits, if there are several.
    pub(super) fn partial_bytes(&self) -> u64 {
        let splits = self.splits();
        if splits > 1 { (4 * splits * self.batch * self.rows * self.columns) as u64 } else { 0 }
    }

    pub(super) fn grid(&self) -> [u32; 3] {
        [self.tile().count(self.rows, self.columns) as u32, self.batch as u32, self.splits() as u32]
    }

    /// For these operands, of one type, and this result of another.
    pub(super) fn structure(&self, [left, right, out]: [Slice; 3], [operand, result]: [DType; 2]) -> MatrixProduct {
        let (left_row, right_row) = match self.layout {
            Layout::NN => (self.length, self.columns),
            Layout::NT => (self.length, self.length),
            Layout::TN => (self.rows, self.columns),
        };
        let (left_size, right_size) = ((self.rows * self.length) as i32, (self.length * self.columns) as i32);
        MatrixProduct {
            rows: self.rows as i32,
            columns: self.columns as i32,
            length: self.length as i32,
            segments: self.segments as i32,
            left_segment: left_size,
            right_segment: right_size,
            left_batch: if self.own[0] { left_size } else { 0 },
            right_batch: if self.own[1] { right_size } else { 0 },
            splits: self.splits() as i32,
            left_vectors: tile::fours(left, operand, left_row).into(),
            right_vectors: tile::fours(right, operand, right_row).into(),
            out_vectors: tile::fours(out, result, self.columns).into(),
        }
    }
}
