//! An image in tiles, and tiles in tasks.

use super::form::{Form, Map};
use super::transform::{grid, transform};
use crate::op::Conv2dGeometry;
use std::ops::Range;

/// Outputs of one dimension that are computed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) first: usize,
    pub(super) form: Form,
}

/// `size` outputs as segments: fours, and what is left over.
fn segments(size: usize) -> Vec<Segment> {
    let forms = match (size, size % 4) {
        (0 | 1, _) => vec![],
        (_, 0) => vec![Form::Four; size / 4],
        (_, 1) => [vec![Form::Four; size / 4 - 1], vec![Form::Three, Form::Two]].concat(),
        (_, 2) => [vec![Form::Four; size / 4], vec![Form::Two]].concat(),
        _ => [vec![Form::Four; size / 4], vec![Form::Three]].concat(),
    };
    let mut first = 0;
    let place = |form: Form| {
        let segment = Segment { first, form };
        first += form.outputs();
        segment
    };
    forms.into_iter().map(place).collect()
}

/// The segments of rows and columns.
fn both_segments(size: [usize; 2]) -> [Vec<Segment>; 2] {
    if size == [Form::Pair.outputs(); 2] {
        return [(); 2].map(|()| vec![Segment { first: 0, form: Form::Pair }]);
    }
    size.map(segments)
}

/// Tiles of the same forms, for some images: one matrix of `tiles · images` rows for each component.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// Of rows and columns.
    pub(super) forms: [Form; 2],
    /// First output row and column of each.
    pub(super) tiles: Vec<[usize; 2]>,
    /// Number of the block of images.
    pub(super) block: usize,
    /// The images.
    pub(super) images: Range<usize>,
}

impl Task {
    /// Transforms its tiles of an activation `[H, W, N, C]`: for each component a matrix of [`Task::rows`] rows, from one
    /// multiple of `distance` on.
    pub(super) fn transform(&self, map: Map, g: &Conv2dGeometry, activation: &[f32], to: &mut [f32], distance: usize) {
        let channels = activation.len() / (g.height * g.width * g.batch);
        let length = self.images.len() * channels;
        for (index, tile) in self.tiles.iter().enumerate() {
            let from = grid(self.forms.map(|form| map.sizes(form)[0]), |i, j| {
                let border = |form: Form| if map == Map::Input { form.border() } else { 0 };
                let place = |d: usize, at: usize, size: usize| {
                    (tile[d] + at).checked_sub(border(self.forms[d])).filter(|&at| at < size)
                };
                let (h, w) = (place(0, i, g.height)?, place(1, j, g.width)?);
                Some(&activation[((h * g.width + w) * g.batch + self.images.start) * channels..][..length])
            });
            let mut to = to.chunks_mut(distance);
            let mut to = grid(self.components(), |_, _| match to.next() {
                Some(component) => &mut component[index * length..][..length],
                None => &mut [],
            });
            transform(map, self.forms, &from, &mut to);
        }
    }

    /// Rows of its matrices.
    pub(super) fn rows(&self) -> usize {
        self.tiles.len() * self.images.len()
    }

    /// The components of its products, as those of the filters are counted.
    pub(super) fn each_component(&self) -> impl Iterator<Item = [usize; 2]> + use<> {
        let [vertical, horizontal] = self.forms.map(Form::components);
        vertical.iter().flat_map(|&i| horizontal.iter().map(move |&j| [i, j]))
    }

    /// Which of its components is this one of the filters.
    pub(super) fn position(&self, [i, j]: [usize; 2]) -> Option<usize> {
        let [vertical, horizontal] = self.forms.map(Form::components);
        let row = vertical.iter().position(|&component| component == i)?;
        let column = horizontal.iter().position(|&component| component == j)?;
        Some(row * horizontal.len() + column)
    }

    /// How many components there are in each dimension.
    pub(super) fn components(&self) -> [usize; 2] {
        self.forms.map(|form| form.components().len())
    }
}

/// All tasks of a convolution: blocks of `images` images, and as many tiles as make about `rows` rows together.
pub(super) fn tasks(g: &Conv2dGeometry, images: usize, rows: usize) -> Vec<Task> {
    let [vertical, horizontal] = both_segments([g.output_height, g.output_width]);
    let mut classes: Vec<([Form; 2], Vec<[usize; 2]>)> = vec![];
    for (v, h) in vertical.iter().flat_map(|v| horizontal.iter().map(move |h| (v, h))) {
        let (forms, tile) = ([v.form, h.form], [v.first, h.first]);
        match classes.iter_mut().find(|class| class.0 == forms) {
            Some(class) => class.1.push(tile),
            None => classes.push((forms, vec![tile])),
        }
    }
    let together = (rows / images).max(1);
    let mut tasks = vec![];
    for (forms, tiles) in &classes {
        for tiles in tiles.chunks(together) {
            for block in 0..g.batch.div_ceil(images) {
                let images = block * images..((block + 1) * images).min(g.batch);
                tasks.push(Task { forms: *forms, tiles: tiles.to_vec(), block, images });
            }
        }
    }
    tasks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_follow_each_other_to_the_end() {
        for size in 2..40 {
            let mut next = 0;
            for segment in segments(size) {
                assert_eq!(segment.first, next, "{size}");
                next += segment.form.outputs();
            }
            assert_eq!(next, size);
        }
        assert!(segments(1).is_empty(), "one output is a product of one tap");
    }
}
