//! Filters as right operands of products: as they lie, or copied into panels once a step.

use super::product::{Matrix, Panels};
use crate::op::Conv2dGeometry;
use rayon::prelude::*;

/// From this many rows of the result on, copying the filters takes less time than reading rows of panels far apart.
const MANY_ROWS: usize = 512;

/// What is known of the filters of one step before it runs.
#[derive(Clone, Copy)]
pub(super) struct FilterLayout {
    taps: usize,
    /// `[C, K]`
    size: [usize; 2],
    transposed: bool,
    copied: bool,
}

impl FilterLayout {
    /// Filters that activations `[N, C]` are multiplied with.
    pub(super) fn forward(g: &Conv2dGeometry) -> Self {
        let size = [g.inputs, g.outputs];
        let rows = g.output_height * g.output_width * g.batch;
        let copied = !Panels::fit(g.outputs) || rows >= MANY_ROWS;
        FilterLayout { taps: g.taps[0] * g.taps[1], size, transposed: false, copied }
    }

    /// Filters that gradients `[N, K]` are multiplied with.
    pub(super) fn transposed(g: &Conv2dGeometry) -> Self {
        FilterLayout { transposed: true, copied: true, ..FilterLayout::forward(g) }
    }

    /// Floats of the copies.
    pub(super) fn workspace(&self) -> usize {
        if self.copied { self.taps * self.copy_length() } else { 0 }
    }

    /// Rows and columns of the filter of a tap as an operand.
    fn operand(&self) -> [usize; 2] {
        let [inputs, outputs] = self.size;
        if self.transposed { [outputs, inputs] } else { [inputs, outputs] }
    }

    fn copy_length(&self) -> usize {
        let [rows, columns] = self.operand();
        Panels::packed_length(rows, columns)
    }

    /// The filters `[R, S, C, K]`, ready for products.
    pub(super) fn filters<'a>(self, filter: &'a [f32], workspace: &'a mut [f32]) -> Filters<'a> {
        if !self.copied {
            return Filters { layout: self, data: filter };
        }
        let [inputs, outputs] = self.size;
        let copies = workspace.par_chunks_mut(self.copy_length());
        copies.zip(filter.par_chunks(inputs * outputs)).for_each(|(copy, tap)| {
            let tap = Matrix::new(tap, inputs, outputs);
            Panels::pack(if self.transposed { tap.transposed() } else { tap }, copy);
        });
        Filters { layout: self, data: workspace }
    }
}

/// Filters ready for products.
#[derive(Clone, Copy)]
pub(super) struct Filters<'a> {
    layout: FilterLayout,
    data: &'a [f32],
}

impl<'a> Filters<'a> {
    /// The filter of a tap.
    pub(super) fn tap(&self, tap: usize) -> Panels<'a> {
        let [rows, columns] = self.layout.operand();
        if self.layout.copied {
            Panels::packed(&self.data[tap * self.layout.copy_length()..], rows, columns)
        } else {
            Panels::in_place(Matrix::new(&self.data[tap * rows * columns..], rows, columns))
        }
    }
}
