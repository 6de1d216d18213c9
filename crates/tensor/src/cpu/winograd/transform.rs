//! The linear maps of two dimensions, on whole rows of activations or filters.

use super::form::{MOST, Map};
use arrayvec::ArrayVec;
use pulp::{Arch, Simd, WithSimd};

/// Floats that go through both dimensions at a time; what lies between stays in the first-level cache.
const LONG: usize = 32;
/// The same for what is left over.
const SHORT: usize = 16;

/// A grid of places, `[rows][columns]`.
pub(super) type Grid<T> = ArrayVec<ArrayVec<T, MOST>, MOST>;

/// A grid of this size.
pub(super) fn grid<T>([rows, columns]: [usize; 2], mut at: impl FnMut(usize, usize) -> T) -> Grid<T> {
    (0..rows).map(|i| (0..columns).map(|j| at(i, j)).collect()).collect()
}

/// `to = maps[0] · from · maps[1]ᵀ`, element by element of slices of one length, a multiple of 16; `None` is zero.
pub(super) fn transform(maps: [Map; 2], from: &Grid<Option<&[f32]>>, to: &mut Grid<&mut [f32]>) {
    Arch::new().dispatch(Transform { maps, from, to });
}

struct Transform<'a, 'f, 't> {
    maps: [Map; 2],
    from: &'a Grid<Option<&'f [f32]>>,
    to: &'a mut Grid<&'t mut [f32]>,
}

impl WithSimd for Transform<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let length = self.to[0][0].len();
        let long = length - length % LONG;
        self.run::<S, LONG>(simd, 0, long);
        self.run::<S, SHORT>(simd, long, length);
    }
}

impl Transform<'_, '_, '_> {
    /// The elements from `start` to `end`, `LENGTH` at a time.
    #[inline(always)]
    fn run<S: Simd, const LENGTH: usize>(&mut self, simd: S, start: usize, end: usize) {
        let zeros = [0.0; LENGTH];
        let mut between = [[[0.0; LENGTH]; MOST]; MOST];
        let mut unused = [[0.0; LENGTH]; MOST];
        let [[_, rows], [columns, _]] = self.maps.map(Map::sizes);
        for start in (start..end).step_by(LENGTH) {
            for (j, between) in between[..columns].iter_mut().enumerate() {
                let mut from = [&zeros; MOST];
                for (from, row) in from.iter_mut().zip(self.from) {
                    if let Some(chunk) = row[j].and_then(|row| row[start..].first_chunk()) {
                        *from = chunk;
                    }
                }
                self.maps[0].apply(simd, from, &mut between.each_mut());
            }
            for (i, row) in self.to[..rows].iter_mut().enumerate() {
                let from = between.each_ref().map(|column| &column[i]);
                let mut to = unused.each_mut();
                for (to, row) in to.iter_mut().zip(row) {
                    if let Some(chunk) = row[start..].first_chunk_mut() {
                        *to = chunk;
                    }
                }
                self.maps[1].apply(simd, from, &mut to);
            }
        }
    }
}
