//! Products of dense matrices, as kernels/matrix_product.cuh has them.

use super::tile::{self, Scheme};
use super::{Context, mma};
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
    /// How products of operands of this type are computed.
    pub(super) fn scheme(&self, context: &Context, dtype: DType) -> Scheme {
        let &Products { layout, rows, columns, length, segments, batch, .. } = self;
        let inner = if layout == Layout::TN { rows } else { length };
        mma::scheme(context, dtype, batch, [rows, columns], segments * length, &[inner, columns])
            .unwrap_or_else(|| Scheme::portable(dtype, batch, [rows, columns], [segments, length]))
    }

    /// Elements of the results of all splits, if there are several.
    pub(super) fn partial_bytes(&self, scheme: &Scheme) -> u64 {
        let splits = scheme.splits;
        if splits > 1 { (4 * splits * self.batch * self.rows * self.columns) as u64 } else { 0 }
    }

    pub(super) fn grid(&self, scheme: &Scheme) -> [u32; 3] {
        [scheme.tile.count(self.rows, self.columns) as u32, self.batch as u32, scheme.splits as u32]
    }

    /// For these operands, of one type, and this result of another.
    pub(super) fn structure(
        &self,
        scheme: &Scheme,
        [left, right, out]: [Slice; 3],
        [operand, result]: [DType; 2],
    ) -> MatrixProduct {
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
            splits: scheme.splits as i32,
            left_vectors: tile::fours(left, operand, left_row).into(),
            right_vectors: tile::fours(right, operand, right_row).into(),
            out_vectors: tile::fours(out, result, self.columns).into(),
        }
    }
}
