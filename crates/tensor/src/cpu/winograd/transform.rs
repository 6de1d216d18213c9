//! The linear maps of two dimensions, on whole rows of activations or filters.

use super::form::{
    Filter, FilterGradient, Form, Four, Input, MOST, Map, Maps, OneMap, Output, OutputGradient, Pair, Three, Two,
    Values,
};
use arrayvec::ArrayVec;
use pulp::{Arch, Simd, WithSimd};
use std::marker::PhantomData;

/// A grid of places, `[rows][columns]`.
pub(super) type Grid<T> = ArrayVec<ArrayVec<T, MOST>, MOST>;

/// A grid of this size.
pub(super) fn grid<T>([rows, columns]: [usize; 2], mut at: impl FnMut(usize, usize) -> T) -> Grid<T> {
    (0..rows).map(|i| (0..columns).map(|j| at(i, j)).collect()).collect()
}

/// Elements of a slice that are transformed together.
const PIECE: usize = 4096;
/// What is read in place of nothing.
static ZEROS: [f32; PIECE] = [0.0; PIECE];

/// `to = maps[0] · from · maps[1]ᵀ`, element by element of slices of one length, a multiple of 16; `None` is zero.
pub(super) fn transform(map: Map, forms: [Form; 2], from: &Grid<Option<&[f32]>>, to: &mut Grid<&mut [f32]>) {
    Arch::new().dispatch(Transform { map, forms, from, to });
}

struct Transform<'a, 'f, 't> {
    map: Map,
    forms: [Form; 2],
    from: &'a Grid<Option<&'f [f32]>>,
    to: &'a mut Grid<&'t mut [f32]>,
}

impl WithSimd for Transform<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Every arm is compiled by itself: only where the map is known can all between its dimensions be in registers.
        match self.map {
            Map::Input => self.of_forms::<S, Input>(simd),
            Map::Output => self.of_forms::<S, Output>(simd),
            Map::OutputGradient => self.of_forms::<S, OutputGradient>(simd),
            Map::Filter => self.of_filters::<S, Filter>(simd),
            Map::FilterGradient => self.of_filters::<S, FilterGradient>(simd),
        }
    }
}

impl Transform<'_, '_, '_> {
    #[inline(always)]
    fn of_forms<S: Simd, M: OneMap>(self, simd: S) {
        match self.forms {
            [Form::Four, Form::Four] => self.run::<S, M, Four, Four>(simd),
            [Form::Four, Form::Three] => self.run::<S, M, Four, Three>(simd),
            [Form::Four, Form::Two] => self.run::<S, M, Four, Two>(simd),
            [Form::Three, Form::Four] => self.run::<S, M, Three, Four>(simd),
            [Form::Three, Form::Three] => self.run::<S, M, Three, Three>(simd),
            [Form::Three, Form::Two] => self.run::<S, M, Three, Two>(simd),
            [Form::Two, Form::Four] => self.run::<S, M, Two, Four>(simd),
            [Form::Two, Form::Three] => self.run::<S, M, Two, Three>(simd),
            [Form::Two, Form::Two] => self.run::<S, M, Two, Two>(simd),
            [Form::Pair, _] | [_, Form::Pair] => self.run::<S, M, Pair, Pair>(simd),
        }
    }

    #[inline(always)]
    fn of_filters<S: Simd, M: OneMap>(self, simd: S) {
        match self.forms {
            [Form::Pair, _] | [_, Form::Pair] => self.run::<S, M, Pair, Pair>(simd),
            _ => self.run::<S, M, Four, Four>(simd),
        }
    }

    /// Of one kind of map, with one form for the rows and one for the columns.
    #[inline(always)]
    fn run<S: Simd, M: OneMap, R: Maps, C: Maps>(self, simd: S) {
        let rows = const { M::MAP.sizes(R::FORM)[1] };
        let length = self.to[0][0].len();
        for start in (0..length).step_by(PIECE) {
            let end = length.min(start + PIECE);
            let mut from: [[&[S::f32s]; MOST]; MOST] = [[S::as_simd_f32s(&ZEROS[..end - start]).0; MOST]; MOST];
            for (from, row) in from.iter_mut().zip(self.from) {
                for (from, slice) in from.iter_mut().zip(row) {
                    if let Some(slice) = slice {
                        *from = S::as_simd_f32s(&slice[start..end]).0;
                    }
                }
            }
            let mut to: [[&mut [S::f32s]; MOST]; MOST] = Default::default();
            for (to, row) in to.iter_mut().zip(self.to.iter_mut()) {
                for (to, slice) in to.iter_mut().zip(row) {
                    *to = S::as_mut_simd_f32s(&mut slice[start..end]).0;
                }
            }
            let element = Element { simd, kinds: PhantomData::<(M, R, C)> };
            for at in 0..to[0][0].len() {
                // Rows of the result that share sums, half of them at a time: so what is between fits the registers.
                if rows == 4 {
                    element.rows(&from, &mut to, at, [0, 2, MOST]);
                    element.rows(&from, &mut to, at, [1, 3, MOST]);
                } else {
                    element.rows(&from, &mut to, at, [0, 1, 2]);
                    element.rows(&from, &mut to, at, [3, 4, 5]);
                }
            }
        }
    }
}

/// The transform of one vector of each place; functions, not closures, since only those can be inlined by force.
struct Element<S, M, R, C> {
    simd: S,
    kinds: PhantomData<(M, R, C)>,
}

impl<S: Simd, M: OneMap, R: Maps, C: Maps> Element<S, M, R, C> {
    const ROWS: [usize; 2] = M::MAP.sizes(R::FORM);
    const COLUMNS: [usize; 2] = M::MAP.sizes(C::FORM);

    /// Three rows of the result, as far as they exist.
    #[inline(always)]
    fn rows(
        &self,
        from: &[[&[S::f32s]; MOST]; MOST],
        to: &mut [[&mut [S::f32s]; MOST]; MOST],
        at: usize,
        rows: [usize; 3],
    ) {
        let [a, b, c, d, e, f] = [
            self.column(from, at, rows, 0),
            self.column(from, at, rows, 1),
            self.column(from, at, rows, 2),
            self.column(from, at, rows, 3),
            self.column(from, at, rows, 4),
            self.column(from, at, rows, 5),
        ];
        self.row([a[0], b[0], c[0], d[0], e[0], f[0]], to, at, rows[0]);
        self.row([a[1], b[1], c[1], d[1], e[1], f[1]], to, at, rows[1]);
        self.row([a[2], b[2], c[2], d[2], e[2], f[2]], to, at, rows[2]);
    }

    /// A column of the places, mapped to these rows.
    #[inline(always)]
    fn column(&self, from: &[[&[S::f32s]; MOST]; MOST], at: usize, rows: [usize; 3], j: usize) -> [S::f32s; 3] {
        let zero = self.simd.splat_f32s(0.0);
        if j >= Self::COLUMNS[0] {
            return [zero; 3];
        }
        let column = [
            self.load(from, at, 0, j),
            self.load(from, at, 1, j),
            self.load(from, at, 2, j),
            self.load(from, at, 3, j),
            self.load(from, at, 4, j),
            self.load(from, at, 5, j),
        ];
        let [a, b, c, d, e, f] = M::apply::<S, R>(self.simd, column);
        let all = [a, b, c, d, e, f, zero];
        [all[rows[0]], all[rows[1]], all[rows[2]]]
    }

    #[inline(always)]
    fn load(&self, from: &[[&[S::f32s]; MOST]; MOST], at: usize, i: usize, j: usize) -> S::f32s {
        if i < Self::ROWS[0] { from[i][j][at] } else { self.simd.splat_f32s(0.0) }
    }

    /// Maps a row of what is between to the result.
    #[inline(always)]
    fn row(&self, between: Values<S>, to: &mut [[&mut [S::f32s]; MOST]; MOST], at: usize, i: usize) {
        if i < Self::ROWS[1] {
            let row = M::apply::<S, C>(self.simd, between);
            for (to, value) in to[i].iter_mut().zip(row).take(Self::COLUMNS[1]) {
                to[at] = value;
            }
        }
    }
}
