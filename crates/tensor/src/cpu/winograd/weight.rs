//! The gradient of the filters: `Gᵀ [Σ (A dy Aᵀ) ⊙ (Bᵀ x B)] G`, summed over tiles and images as products of matrices.

use super::super::parts::Partition;
use super::super::product::{Into, Matrix, Panels, Sum};
use super::form::TAPS;
use super::form::{Form, Map};
use super::tiling::{Task, tasks};
use super::transform::{grid, transform};
use super::{filter_form, spaced};
use crate::op::Conv2dGeometry;
use rayon::prelude::*;

/// Rows of a task's matrices.
const ROWS: usize = 32;
/// Floats of the transformed tiles that are kept before they are summed, at least: a part of the last-level cache.
const KEPT: usize = 5 << 18;
/// Input channels of a component whose gradient is one task.
const CHANNELS: usize = 64;
/// Input channels whose gradients of all taps are one task.
const BLOCK: usize = 16;

/// The pass made ready.
pub(super) struct WeightGradient {
    g: Conv2dGeometry,
    form: Form,
    /// Components of each dimension.
    count: usize,
    /// In groups that are summed together.
    tasks: Vec<Vec<Task>>,
    partition: Partition,
}

impl WeightGradient {
    /// The pass of a convolution of this geometry.
    pub(super) fn new(g: &Conv2dGeometry) -> Self {
        let (form, count) = filter_form(g);
        let all = tasks(g, g.batch.min(ROWS), ROWS);
        let mut gradient = WeightGradient {
            g: *g,
            form,
            count,
            tasks: vec![],
            partition: Partition::new(TAPS * TAPS, g.inputs, BLOCK),
        };
        let longest = all.iter().map(|task| gradient.length(task)).max().unwrap_or(1);
        // Large sums are read and written as seldom as possible.
        let kept = KEPT.max(2 * gradient.sums());
        gradient.tasks = all.chunks((kept / longest).max(1)).map(<[Task]>::to_vec).collect();
        gradient
    }

    /// Floats of a task's transformed inputs, and of these with its transformed gradients.
    fn places(&self, task: &Task) -> [usize; 2] {
        let components: usize = task.components().iter().product();
        let of = |channels: usize| components * spaced(task.rows() * channels);
        [of(self.g.inputs), of(self.g.inputs) + of(self.g.outputs)]
    }

    fn length(&self, task: &Task) -> usize {
        self.places(task)[1]
    }

    /// Floats of a task's place, and of all tasks of a group.
    fn group(&self) -> [usize; 2] {
        let place = self.tasks.iter().flatten().map(|task| self.length(task)).max().unwrap_or(0);
        [place, place * self.tasks.iter().map(Vec::len).max().unwrap_or(0)]
    }

    fn sums(&self) -> usize {
        self.count * self.count * self.g.inputs * self.g.outputs
    }

    /// Floats of scratch.
    pub(super) fn workspace(&self) -> usize {
        self.sums() + self.group()[1]
    }

    /// `d_filter` `[3, 3, C, K]` from `x` and `d_y`.
    pub(super) fn run(&self, x: &[f32], d_y: &[f32], workspace: &mut [f32], d_filter: &mut [f32]) {
        let Conv2dGeometry { inputs, outputs, .. } = self.g;
        let (sums, transformed) = workspace.split_at_mut(self.sums());
        let [place, _] = self.group();
        let channels = if inputs.is_multiple_of(CHANNELS) { CHANNELS } else { inputs };
        for (number, tasks) in self.tasks.iter().enumerate() {
            tasks.par_iter().zip(transformed.par_chunks_mut(place)).for_each(|(task, to)| {
                let (left, right) = to.split_at_mut(self.places(task)[0]);
                let [of_x, of_d_y] = [inputs, outputs].map(|channels| spaced(task.rows() * channels));
                task.transform(Map::Input, &self.g, x, left, of_x);
                task.transform(Map::OutputGradient, &self.g, d_y, right, of_d_y);
            });
            let transformed = &*transformed;
            sums.par_chunks_mut(channels * outputs).enumerate().for_each(|(index, out)| {
                let (component, first) = (index * channels / inputs, index * channels % inputs);
                let mut sum = Sum::new(out, outputs, if number == 0 { Into::Overwrite } else { Into::Add });
                for (task, from) in tasks.iter().zip(transformed.chunks(place)) {
                    let Some(at) = task.position([component / self.count, component % self.count]) else {
                        continue;
                    };
                    let (left, right) = from.split_at(self.places(task)[0]);
                    let rows = task.rows();
                    let left = Matrix::new(&left[at * spaced(rows * inputs)..], rows, inputs);
                    let right = Matrix::new(&right[at * spaced(rows * outputs)..], rows, outputs);
                    sum.add(left.transposed().rows(first..first + channels), Panels::in_place(right));
                }
                sum.flush();
            });
        }
        let sums = &*sums;
        let parts = self.partition.of(d_filter);
        (0..inputs.div_ceil(BLOCK)).into_par_iter().for_each(|block| {
            let channels = self.partition.block(block);
            let from = grid([self.count; 2], |i, j| {
                let first = (i * self.count + j) * inputs;
                Some(&sums[(first + channels.start) * outputs..(first + channels.end) * outputs])
            });
            let mut to = grid([TAPS, TAPS], |r, s| parts.take(r * TAPS + s, block));
            transform(Map::FilterGradient, [self.form; 2], &from, &mut to);
        });
    }
}
