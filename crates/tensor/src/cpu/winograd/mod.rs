//! Convolutions of 3×3 taps with stride 1 by fewer products.
//!
//! Tiles of 4×4 outputs take 36 products instead of 144, those of 2×2 in an image of that size 9 instead of 16. For
//! each component of the transformed tiles there is one product of matrices `[tiles · N, C] · [C, K]`; the transforms
//! are sums of whole rows of activations, in the layout `[H, W, N, C]` as they lie.

mod data;
mod form;
mod steps;
mod tiling;
mod transform;
mod weight;

pub(super) use steps::{backward_data, backward_weight, forward};

use super::LINE;
use super::product::{Matrix, Panels, WIDTH};
use crate::op::Conv2dGeometry;
use data::Direction;
use form::{Form, Map, TAPS};
use rayon::prelude::*;
use transform::{grid, transform};

/// Distance between components, so that they do not meet in the same sets of a cache.
fn spaced(length: usize) -> usize {
    length.next_multiple_of(LINE) + LINE
}

/// The fewest channels, so that errors of the transforms average out: with fewer, sums are twice as far off.
const CHANNELS: usize = 32;
/// From this many pixels and images on, fewer products are worth the transformed filters, four times as many as filters.
const PIXELS: usize = 128;

/// Whether a convolution can be computed this way, and is large enough to be shorter by it.
pub(super) fn suits(g: &Conv2dGeometry) -> bool {
    let taps = g.taps == [TAPS, TAPS] && g.stride == 1 && g.padding == 1;
    let fit = |channels: usize| channels >= CHANNELS && channels.is_multiple_of(LINE);
    let tiles = g.height.min(g.width) >= 2 && g.height * g.width * g.batch >= PIXELS;
    taps && fit(g.inputs) && fit(g.outputs) && tiles
}

/// The form by which filters are transformed, and the number of their components in each dimension.
fn filter_form(g: &Conv2dGeometry) -> (Form, usize) {
    let pair = Form::Pair.outputs();
    if [g.height, g.width] == [pair; 2] {
        (Form::Pair, Form::Pair.components().len())
    } else {
        (Form::Four, form::MOST)
    }
}

/// Filters of one convolution in components, `G g Gᵀ`, each a right operand `[C, K]` in panels; transposed and turned
/// for the gradient of the input.
#[derive(Clone, Copy)]
struct FilterComponents {
    form: Form,
    /// Components of each dimension.
    count: usize,
    /// `[C, K]` of the filter.
    size: [usize; 2],
    direction: Direction,
}

impl FilterComponents {
    fn new(g: &Conv2dGeometry, direction: Direction) -> Self {
        let (form, count) = filter_form(g);
        FilterComponents { form, count, size: [g.inputs, g.outputs], direction }
    }

    /// Rows and columns of a component as an operand.
    fn operand(&self) -> [usize; 2] {
        let [inputs, outputs] = self.size;
        if self.direction == Direction::Forward { [inputs, outputs] } else { [outputs, inputs] }
    }

    /// Floats of one panel of one component.
    fn panel(&self) -> usize {
        spaced(self.operand()[0] * WIDTH)
    }

    /// Floats of all that belongs to a panel: its taps, then its components.
    fn group(&self) -> usize {
        (TAPS * TAPS + self.count * self.count) * self.panel()
    }

    fn workspace(&self) -> usize {
        self.operand()[1] / WIDTH * self.group()
    }

    /// Transforms filters `[3, 3, C, K]`.
    fn transform(&self, filter: &[f32], workspace: &mut [f32]) {
        let ([inputs, outputs], [rows, _]) = (self.size, self.operand());
        let (panel, backward) = (self.panel(), self.direction == Direction::Backward);
        workspace.par_chunks_mut(self.group()).enumerate().for_each(|(index, group)| {
            let (taps, components) = group.split_at_mut(TAPS * TAPS * panel);
            for (tap, panel) in taps.chunks_mut(panel).enumerate() {
                let tap = if backward { TAPS * TAPS - 1 - tap } else { tap };
                let filter = Matrix::new(&filter[tap * inputs * outputs..], inputs, outputs);
                let operand = if backward { filter.transposed() } else { filter };
                Panels::pack(operand.block(0, rows, index * WIDTH, WIDTH), panel);
            }
            let taps = grid([TAPS, TAPS], |r, s| Some(&taps[(r * TAPS + s) * panel..][..rows * WIDTH]));
            let mut components = components.chunks_mut(panel);
            let mut components = grid([self.count; 2], |_, _| match components.next() {
                Some(component) => &mut component[..rows * WIDTH],
                None => &mut [],
            });
            transform(Map::Filter, [self.form; 2], &taps, &mut components);
        });
    }

    /// A component of transformed filters.
    fn component<'a>(&self, workspace: &'a [f32], [i, j]: [usize; 2]) -> Panels<'a> {
        let [rows, columns] = self.operand();
        let first = (TAPS * TAPS + i * self.count + j) * self.panel();
        Panels::apart(&workspace[first..], rows, columns, self.group())
    }
}
