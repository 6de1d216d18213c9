//! The convolution of activations: forward, or of gradients backwards to those of the input.

use super::super::parts::{Partition, Parts};
use super::super::product::{Into, Matrix, sum_of_products};
use super::form::{Form, Map};
use super::tiling::{Task, tasks};
use super::transform::{grid, transform};
use super::{FilterComponents, spaced};
use crate::op::Conv2dGeometry;
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows of a task's matrices: few enough that its components stay in the second-level cache.
const ROWS: usize = 32;

/// Which way a convolution is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From inputs to outputs.
    Forward,
    /// From gradients of the outputs to those of the inputs.
    Backward,
}

/// A convolution made ready.
pub(super) struct Convolution {
    geometry: Conv2dGeometry,
    filters: FilterComponents,
    tasks: Vec<Task>,
    workers: usize,
}

impl Convolution {
    /// The convolution, and how its result is divided into parts that are finished one by one.
    pub(super) fn new(g: &Conv2dGeometry, direction: Direction, workers: usize) -> (Self, Partition) {
        let images = g.batch.min(ROWS);
        let (filters, tasks) = (FilterComponents::new(g, direction), tasks(g, images, ROWS));
        let convolution = Convolution { geometry: *g, filters, tasks, workers };
        (convolution, Partition::new(g.height * g.width, g.batch, images))
    }

    /// Floats of one component of a task's tiles: of their inputs, or of their products.
    fn place(&self, task: &Task) -> usize {
        let [inputs, outputs] = self.filters.operand();
        spaced(task.rows() * inputs.max(outputs))
    }

    /// Floats of a worker's scratch: a place more than there are components.
    fn worker(&self) -> usize {
        let length = |task: &Task| (task.components().iter().product::<usize>() + 1) * self.place(task);
        self.tasks.iter().map(length).max().unwrap_or(0)
    }

    /// Floats of scratch.
    pub(super) fn workspace(&self) -> usize {
        self.filters.workspace() + self.workers * self.worker()
    }

    /// Convolves `x` with `filter` into `y`, and calls `finish(pixel, block, part)` for each part of the result.
    pub(super) fn run(
        &self,
        x: &[f32],
        filter: &[f32],
        y: &Parts<'_>,
        workspace: &mut [f32],
        finish: impl Fn(usize, usize, &mut [f32]) + Sync,
    ) {
        let (filters, scratch) = workspace.split_at_mut(self.filters.workspace());
        self.filters.transform(filter, filters);
        let next = AtomicUsize::new(0);
        scratch.par_chunks_mut(self.worker()).for_each(|scratch| {
            while let Some(task) = self.tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                let place = self.place(task);
                task.transform(Map::Input, &self.geometry, x, &mut scratch[place..], place);
                self.multiply(task, filters, scratch);
                self.transform_outputs(task, scratch, y, &finish);
            }
        });
    }

    /// The products of all components, each in the place before that of its inputs: so half of the memory is enough.
    fn multiply(&self, task: &Task, filters: &[f32], scratch: &mut [f32]) {
        let ([inputs, outputs], rows, place) = (self.filters.operand(), task.rows(), self.place(task));
        for (index, component) in task.each_component().enumerate() {
            let (out, left) = scratch[index * place..].split_at_mut(place);
            let factors = (Matrix::new(left, rows, inputs), self.filters.component(filters, component));
            sum_of_products(out, outputs, Into::Overwrite, &[factors]);
        }
    }

    fn transform_outputs(
        &self,
        task: &Task,
        products: &[f32],
        y: &Parts<'_>,
        finish: &(impl Fn(usize, usize, &mut [f32]) + Sync),
    ) {
        let [_, channels] = self.filters.operand();
        let length = task.images.len() * channels;
        let [_, columns] = task.components();
        for (index, tile) in task.tiles.iter().enumerate() {
            let from = grid(task.components(), |i, j| {
                Some(&products[(i * columns + j) * self.place(task) + index * length..][..length])
            });
            let pixel = |i: usize, j: usize| (tile[0] + i) * self.geometry.width + tile[1] + j;
            let mut to = grid(task.forms.map(Form::outputs), |i, j| y.take(pixel(i, j), task.block));
            transform(Map::Output, task.forms, &from, &mut to);
            for (i, row) in to.iter_mut().enumerate() {
                row.iter_mut().enumerate().for_each(|(j, part)| finish(pixel(i, j), task.block, part));
            }
        }
    }
}
