//! Products of dense matrices, as kernels/matrix_product.cuh has them.

use super::tile::{Scheme, fours};
use super::{Context, mma, wgmma};
use crate::driver::Access;
use crate::launch::{Launch, Slice};
use crate::options::Tier;
use bytemuck::{Pod, Zeroable};
use sphereface_tensor::DType;
use sphereface_tensor::op::Layout;

/// `MatrixProduct` of kernels/matrix_product.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct MatrixProduct {
    pub(super) rows: i32,
    pub(super) columns: i32,
    pub(super) length: i32,
    pub(super) segments: i32,
    pub(super) left_segment: i32,
    pub(super) right_segment: i32,
    pub(super) left_batch: i32,
    pub(super) right_batch: i32,
    pub(super) batch: i32,
    pub(super) splits: i32,
    pub(super) left_vectors: i32,
    pub(super) right_vectors: i32,
    pub(super) out_vectors: i32,
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
        let vectors = self.rows_in_memory().into_iter().all(fours) && fours(columns);
        let wgmma = wgmma::best(context, dtype, self);
        let terms = segments * length;
        let mma = mma::best(context, dtype, batch, [rows, columns], terms, &[inner, columns]);
        let mma = mma.filter(|_| !context.options.forced || wgmma.is_none());
        let best = wgmma.into_iter().chain(mma).min_by_key(|(_, cycles)| *cycles);
        best.map(|(scheme, _)| scheme)
            .unwrap_or_else(|| Scheme::portable(dtype, batch, [rows, columns], [segments, length], vectors))
    }

    /// Elements of the results of all splits, if there are several.
    pub(super) fn partial_bytes(&self, scheme: &Scheme) -> u64 {
        let splits = scheme.splits;
        if splits > 1 { (4 * splits * self.batch * self.rows * self.columns) as u64 } else { 0 }
    }

    /// A launch of the scheme's `<kernel>` in `<stem>.cu` that reads the two operands; what it does with the product is
    /// still to be said.
    pub(super) fn launch(&self, scheme: &Scheme, stem: &'static str, kernel: &str, operands: [Slice; 2]) -> Launch {
        let launch = scheme.launch(stem, kernel).grid(self.grid(scheme));
        let [left, right] = operands;
        if scheme.tier < Tier::Wgmma {
            return launch.read(left).read(right);
        }
        let [left_map, right_map] = wgmma::maps(self, &scheme.tile, scheme.element);
        launch.tensor(Some(left), Access::Read, &left_map).tensor(Some(right), Access::Read, &right_map)
    }

    fn grid(&self, scheme: &Scheme) -> [u32; 3] {
        if let Some(blocks) = scheme.blocks {
            return [blocks, 1, 1];
        }
        [scheme.tile.count(self.rows, self.columns) as u32, self.batch as u32, scheme.splits as u32]
    }

    /// Lengths of the rows of both operands as they lie in memory.
    pub(super) fn rows_in_memory(&self) -> [usize; 2] {
        match self.layout {
            Layout::NN => [self.length, self.columns],
            Layout::NT => [self.length, self.length],
            Layout::TN => [self.rows, self.columns],
        }
    }

    /// What the kernel is told.
    pub(super) fn structure(&self, scheme: &Scheme) -> MatrixProduct {
        let [left_row, right_row] = self.rows_in_memory();
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
            batch: self.batch as i32,
            splits: scheme.splits as i32,
            left_vectors: fours(left_row).into(),
            right_vectors: fours(right_row).into(),
            out_vectors: fours(self.columns).into(),
        }
    }
}
