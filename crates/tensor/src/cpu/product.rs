//! Products of dense matrices on the calling thread, without allocating.
//!
//! A block of the result stays in registers while the products that make it up are summed, over several pairs of
//! matrices (the taps of a convolution) where that helps. The left operand is read in place; the right one in panels
//! of [`WIDTH`] columns, which it is copied into unless it lies that way already.

use arrayvec::ArrayVec;
use pulp::{Arch, Simd, WithSimd};
use std::ops::Range;

/// Columns of a panel: one vector of AVX-512, two of AVX2.
pub(super) const WIDTH: usize = 16;
/// Products summed in registers before they are added to the result: bounds both the error of the sum and the part of
/// the operands that has to stay in the second-level cache.
const DEPTH: usize = 512;
/// Pairs of matrices that are summed at once.
const TERMS: usize = 32;
/// Rows of the right operand that [`product`] copies at a time.
const PACKED_ROWS: usize = 128;

/// A matrix in a slice, rows and columns at any distance.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

/// Elements a strided matrix spans.
fn span(rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> usize {
    if rows == 0 || columns == 0 { 0 } else { (rows - 1) * row_stride + (columns - 1) * column_stride + 1 }
}

impl<'a> Matrix<'a> {
    /// Rows of `columns` values, one every `stride`.
    pub(super) fn strided(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(span(rows, columns, stride, 1) <= data.len(), "{rows}×{columns} matrix in {} values", data.len());
        Matrix { data, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// Rows that follow each other.
    pub(super) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Matrix::strided(data, rows, columns, columns)
    }

    pub(super) fn transposed(self) -> Self {
        Matrix {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// The same matrix in `out`, its rows (or columns, where those lie together) close to each other: at distances of a
    /// power of two few of them stay in the first-level cache.
    pub(super) fn copied(self, out: &mut [f32]) -> Matrix<'_> {
        if self.column_stride != 1 {
            return self.transposed().copied(out).transposed();
        }
        let Matrix { data, rows, columns, row_stride, .. } = self;
        let stride = Matrix::copy_stride(columns);
        for (row, out) in out.chunks_mut(stride).take(rows).enumerate() {
            out[..columns].copy_from_slice(&data[row * row_stride..][..columns]);
        }
        Matrix::strided(out, rows, columns, stride)
    }

    /// Distance of the rows of a copy.
    pub(super) const fn copy_stride(columns: usize) -> usize {
        columns + WIDTH
    }

    /// Some of the rows.
    pub(super) fn rows(self, rows: Range<usize>) -> Self {
        self.block(rows.start, rows.len(), 0, self.columns)
    }

    /// Some of the columns.
    pub(super) fn columns(self, columns: Range<usize>) -> Self {
        self.block(0, self.rows, columns.start, columns.len())
    }

    /// Some of the rows and columns.
    pub(super) fn block(self, first_row: usize, rows: usize, first_column: usize, columns: usize) -> Self {
        assert!(first_row + rows <= self.rows && first_column + columns <= self.columns, "block of a matrix");
        let start = first_row * self.row_stride + first_column * self.column_stride;
        let data = if rows * columns == 0 { &[] } else { &self.data[start..] };
        Matrix { data, rows, columns, ..self }
    }
}

/// A right operand: row `r` of panel `p` is [`WIDTH`] values from `p · panel_stride + r · row_stride` on.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    panel_stride: usize,
}

impl<'a> Panels<'a> {
    /// Floats that the copy of a matrix takes.
    pub(super) fn packed_length(rows: usize, columns: usize) -> usize {
        rows * columns.next_multiple_of(WIDTH)
    }

    /// Copies a matrix into panels, the last one filled up with zeros.
    pub(super) fn pack(matrix: Matrix<'_>, out: &mut [f32]) {
        let Matrix { data, rows, columns, row_stride, column_stride } = matrix;
        let panels = out[..Panels::packed_length(rows, columns)].chunks_exact_mut((rows * WIDTH).max(1));
        for (panel, out) in panels.enumerate() {
            let first = panel * WIDTH;
            let width = WIDTH.min(columns - first);
            let (squares, _) = out.as_chunks_mut::<WIDTH>();
            for (square, out) in squares.chunks_mut(WIDTH).enumerate() {
                let source = &data[square * WIDTH * row_stride + first * column_stride..];
                if column_stride == 1 && width == WIDTH {
                    out.iter_mut()
                        .enumerate()
                        .for_each(|(i, out)| out.copy_from_slice(&source[i * row_stride..][..WIDTH]));
                } else if row_stride == 1 && width == WIDTH && out.len() == WIDTH {
                    // Whole lines of the source at once: at distances of a power of two they would not stay in a cache.
                    let lines: [[f32; WIDTH]; WIDTH] =
                        std::array::from_fn(|j| std::array::from_fn(|i| source[j * column_stride..][..WIDTH][i]));
                    for (i, out) in out.iter_mut().enumerate() {
                        *out = std::array::from_fn(|j| lines[j][i]);
                    }
                } else {
                    for (i, out) in out.iter_mut().enumerate() {
                        let value = |j: usize| if j < width { source[i * row_stride + j * column_stride] } else { 0.0 };
                        *out = std::array::from_fn(value);
                    }
                }
            }
        }
    }

    /// What [`Panels::pack`] has made of a matrix of this size.
    pub(super) fn packed(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert!(Panels::packed_length(rows, columns) <= data.len(), "panels of {rows}×{columns}");
        Panels { data, rows, columns, row_stride: WIDTH, panel_stride: rows * WIDTH }
    }

    /// Some of the rows.
    pub(super) fn rows(self, rows: Range<usize>) -> Self {
        assert!(rows.end <= self.rows, "rows of panels");
        let data = if rows.is_empty() { &[] } else { &self.data[rows.start * self.row_stride..] };
        Panels { data, rows: rows.len(), ..self }
    }

    /// Panels whose starts are `panel_stride` apart.
    pub(super) fn apart(data: &'a [f32], rows: usize, columns: usize, panel_stride: usize) -> Self {
        Panels { data, rows, columns, row_stride: WIDTH, panel_stride }
    }

    /// Whether rows of this many values are whole panels.
    pub(super) fn fit(columns: usize) -> bool {
        columns.is_multiple_of(WIDTH)
    }

    /// A matrix as it lies; its rows must be whole panels.
    pub(super) fn in_place(matrix: Matrix<'a>) -> Self {
        let Matrix { data, rows, columns, row_stride, column_stride } = matrix;
        assert!(column_stride == 1 && Panels::fit(columns), "{columns} columns in place");
        Panels { data, rows, columns, row_stride, panel_stride: WIDTH }
    }
}

/// Rows of a right operand that are further apart are asked for before they are read: such strides cross pages, where
/// the hardware does not look ahead.
const CLOSE: usize = 64;
/// How many rows before.
const AHEAD: usize = 8;

/// Asks for the lines of `length` floats from a place on, which need not exist.
#[inline(always)]
fn prefetch(from: *const f32, length: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..length).step_by(16) {
        // SAFETY: a prefetch reads nothing.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(at).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, length);
}

/// What becomes of the values that are in the result before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Into {
    Overwrite,
    Add,
}

/// `out (+)= left · right`; the rows of `out` are `stride` apart.
pub(super) fn product(out: &mut [f32], stride: usize, into: Into, left: Matrix<'_>, right: Matrix<'_>) {
    assert_eq!(left.columns, right.rows, "inner dimensions of a product");
    let (rows, columns, depth) = (left.rows, right.columns, left.columns);
    let mut packed = [0.0; PACKED_ROWS * 2 * WIDTH];
    for first_column in (0..columns).step_by(2 * WIDTH) {
        let width = (columns - first_column).min(2 * WIDTH);
        for first in (0..depth).step_by(PACKED_ROWS) {
            let length = (depth - first).min(PACKED_ROWS);
            Panels::pack(right.block(first, length, first_column, width), &mut packed);
            let term = (left.block(0, rows, first, length), Panels::packed(&packed, length, width));
            let into = if first == 0 { into } else { Into::Add };
            sum_of_products(&mut out[first_column..], stride, into, &[term]);
        }
    }
    if depth == 0 && into == Into::Overwrite {
        out.chunks_mut(stride).take(rows).for_each(|row| row[..columns].fill(0.0));
    }
}

/// Sums products of one size into a result, several at a time.
pub(super) struct Sum<'a, 'o> {
    out: &'o mut [f32],
    stride: usize,
    into: Into,
    terms: ArrayVec<(Matrix<'a>, Panels<'a>), TERMS>,
    depth: usize,
}

impl<'a, 'o> Sum<'a, 'o> {
    /// A sum that goes into `out`, whose rows are `stride` apart; one of nothing is zero everywhere.
    pub(super) fn new(out: &'o mut [f32], stride: usize, into: Into) -> Self {
        Sum { out, stride, into, terms: ArrayVec::new(), depth: 0 }
    }

    /// Adds `left · right`.
    pub(super) fn add(&mut self, left: Matrix<'a>, right: Panels<'a>) {
        for first in (0..left.columns).step_by(DEPTH) {
            let depth = first..(first + DEPTH).min(left.columns);
            self.add_term(left.block(0, left.rows, depth.start, depth.len()), right.rows(depth));
        }
    }

    fn add_term(&mut self, left: Matrix<'a>, right: Panels<'a>) {
        if self.terms.is_full() || self.depth + left.columns > DEPTH {
            self.flush();
        }
        self.depth += left.columns;
        self.terms.push((left, right));
    }

    /// Adds `left · right`, where `right` does not lie in panels.
    pub(super) fn add_product(&mut self, left: Matrix<'_>, right: Matrix<'_>) {
        product(self.out, self.stride, self.into, left, right);
        self.into = Into::Add;
    }

    /// Brings the result up to date.
    pub(super) fn flush(&mut self) {
        if !self.terms.is_empty() {
            sum_of_products(self.out, self.stride, self.into, &self.terms);
        } else if self.into == Into::Overwrite {
            self.out.fill(0.0);
        }
        self.into = Into::Add;
        (self.depth, self.terms) = (0, ArrayVec::new());
    }
}

/// `out (+)= Σ left · right`, all products of one size.
pub(super) fn sum_of_products(out: &mut [f32], stride: usize, into: Into, terms: &[(Matrix<'_>, Panels<'_>)]) {
    let Some((left, right)) = terms.first() else { return };
    let (rows, columns) = (left.rows, right.columns);
    assert!(stride >= columns && span(rows, columns, stride, 1) <= out.len(), "result of a product");
    for (left, right) in terms {
        assert!(left.rows == rows && right.columns == columns && left.columns == right.rows, "sizes of products");
        let Matrix { data, row_stride, column_stride, .. } = *left;
        assert!(span(rows, left.columns, row_stride, column_stride) <= data.len(), "left operand of a product");
        let panels = columns.div_ceil(WIDTH);
        let reach = span(panels, right.rows, right.panel_stride, right.row_stride);
        assert!(reach == 0 || reach - 1 + WIDTH <= right.data.len(), "right operand of a product");
    }
    if rows > 0 && columns > 0 {
        Arch::new().dispatch(Blocks { out, stride, into, terms, rows, columns });
    }
}

/// A sum of products, to be computed in blocks that fit the registers of an instruction set.
struct Blocks<'a> {
    out: &'a mut [f32],
    stride: usize,
    into: Into,
    terms: &'a [(Matrix<'a>, Panels<'a>)],
    rows: usize,
    columns: usize,
}

impl WithSimd for Blocks<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut column = 0;
        while column < self.columns {
            // Accumulators, one broadcast value and a row of the panels fill the registers: 32 of AVX-512, 16 of AVX2.
            let two_panels = self.columns - column > WIDTH;
            match S::F32_LANES {
                16 if two_panels => self.strip::<S, 8, 2>(simd, column),
                16 => self.strip::<S, 8, 1>(simd, column),
                8 => self.strip::<S, 6, 2>(simd, column),
                4 => self.strip::<S, 4, 4>(simd, column),
                1 => self.strip::<S, 1, WIDTH>(simd, column),
                lanes => unreachable!("vectors of {lanes} lanes"),
            }
            column += if S::F32_LANES == 16 && two_panels { 2 * WIDTH } else { WIDTH };
        }
    }
}

impl Blocks<'_> {
    /// All rows of some panels' columns.
    #[inline(always)]
    fn strip<S: Simd, const ROWS: usize, const VECTORS: usize>(&mut self, simd: S, column: usize) {
        let mut row = 0;
        while row < self.rows {
            row += match self.rows - row {
                left if left >= ROWS => self.block::<S, ROWS, VECTORS>(simd, row, column),
                6.. => self.block::<S, 6, VECTORS>(simd, row, column),
                4.. => self.block::<S, 4, VECTORS>(simd, row, column),
                2.. => self.block::<S, 2, VECTORS>(simd, row, column),
                _ => self.block::<S, 1, VECTORS>(simd, row, column),
            };
        }
    }

    /// One block in registers; returns its rows.
    #[inline(always)]
    fn block<S: Simd, const ROWS: usize, const VECTORS: usize>(&mut self, simd: S, row: usize, column: usize) -> usize {
        assert!(row + ROWS <= self.rows && column < self.columns);
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
        for term in self.terms {
            // The test stands outside of the loop over the depth, which may be as short as one.
            if term.1.row_stride > CLOSE {
                accumulate::<S, ROWS, VECTORS, true>(simd, &mut sums, term, row, column);
            } else {
                accumulate::<S, ROWS, VECTORS, false>(simd, &mut sums, term, row, column);
            }
        }
        let width = (self.columns - column).min(VECTORS * S::F32_LANES);
        for (i, sums) in sums.iter().enumerate() {
            let out = &mut self.out[(row + i) * self.stride + column..][..width];
            let (whole, rest) = S::as_mut_simd_f32s(out);
            for (out, &sum) in whole.iter_mut().zip(sums) {
                *out = if self.into == Into::Add { simd.add_f32s(*out, sum) } else { sum };
            }
            if let Some(&sum) = sums.get(whole.len()).filter(|_| !rest.is_empty()) {
                let sum = if self.into == Into::Add { simd.add_f32s(simd.partial_load_f32s(rest), sum) } else { sum };
                simd.partial_store_f32s(rest, sum);
            }
        }
        ROWS
    }
}

/// Adds to `sums` the block of a term's product at `(row, column)`, which `Blocks::block` has checked to exist.
#[inline(always)]
fn accumulate<S: Simd, const ROWS: usize, const VECTORS: usize, const FAR: bool>(
    simd: S,
    sums: &mut [[S::f32s; VECTORS]; ROWS],
    &(left, right): &(Matrix<'_>, Panels<'_>),
    row: usize,
    column: usize,
) {
    let panel = column / WIDTH;
    // Where in its panel each vector of a row starts.
    let offsets: [usize; VECTORS] = std::array::from_fn(|v| {
        let at = v * S::F32_LANES;
        (panel + at / WIDTH) * right.panel_stride + at % WIDTH
    });
    for depth in 0..left.columns {
        // SAFETY: `sum_of_products` has checked that element (rows − 1, columns − 1) of the left operand and the last
        // vector of the last row of the last panel lie inside their slices. `row + ROWS ≤ rows`, and
        // `Blocks::with_simd` takes two panels only where a column of the second exists.
        unsafe {
            let a = left.data.as_ptr().add(row * left.row_stride + depth * left.column_stride);
            let b = right.data.as_ptr().add(depth * right.row_stride);
            if FAR {
                prefetch(b.wrapping_add(AHEAD * right.row_stride + offsets[0]), VECTORS * S::F32_LANES);
            }
            let b: [S::f32s; VECTORS] = std::array::from_fn(|v| b.add(offsets[v]).cast::<S::f32s>().read_unaligned());
            for i in 0..ROWS {
                let a = simd.splat_f32s(*a.add(i * left.row_stride));
                for v in 0..VECTORS {
                    sums[i][v] = simd.mul_add_e_f32s(a, b[v], sums[i][v]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Σ left · right` for every instruction set this machine has, over `terms` pairs of matrices.
    fn on_every_instruction_set([rows, columns, depth, terms]: [usize; 4], transposed: bool) {
        let number = |i: usize| ((i * 37 + 11) % 23) as f32 - 11.0; // whole: sums are exact in any order
        let left: Vec<f32> = (0..rows * depth).map(number).collect();
        let right: Vec<f32> = (0..depth * columns).map(number).collect();
        let matrix = |data, rows, columns| {
            if transposed { Matrix::new(data, columns, rows).transposed() } else { Matrix::new(data, rows, columns) }
        };
        let (left, right) = (matrix(&left, rows, depth), matrix(&right, depth, columns));
        let mut packed = vec![f32::NAN; Panels::packed_length(depth, columns)];
        Panels::pack(right, &mut packed);
        let in_place = !transposed && Panels::fit(columns);
        let panels = if in_place { Panels::in_place(right) } else { Panels::packed(&packed, depth, columns) };
        let pairs = vec![(left, panels); terms];
        let stride = columns + 3;
        let at = |m: &Matrix<'_>, i: usize, j: usize| m.data[i * m.row_stride + j * m.column_stride];
        let expected: Vec<f32> = (0..rows * stride)
            .map(|i| {
                let (row, column) = (i / stride, i % stride);
                let sum: f32 = if column < columns {
                    (0..depth).map(|k| at(&left, row, k) * at(&right, k, column)).sum()
                } else {
                    0.0
                };
                1.0 + terms as f32 * sum
            })
            .collect();
        let check = |name: &str, run: &dyn Fn(Blocks<'_>)| {
            let mut out = vec![1.0; rows * stride];
            run(Blocks { out: &mut out, stride, into: Into::Add, terms: &pairs, rows, columns });
            assert_eq!(out, expected, "{name}: {rows}×{columns}×{depth}, {terms} terms, transposed {transposed}");
        };
        check("scalar", &|blocks| pulp::Scalar::new().vectorize(blocks));
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(simd) = pulp::x86::V3::try_new() {
                check("AVX2", &|blocks| Simd::vectorize(simd, blocks));
            }
            if let Some(simd) = pulp::x86::V4::try_new() {
                check("AVX-512", &|blocks| Simd::vectorize(simd, blocks));
            }
        }
        let mut out = vec![1.0; rows * stride];
        (0..terms).for_each(|_| product(&mut out, stride, Into::Add, left, right));
        assert_eq!(out, expected, "product: {rows}×{columns}×{depth}");
    }

    #[test]
    fn products_are_exact_on_every_instruction_set_and_tail() {
        for rows in [1, 2, 3, 5, 6, 8, 11, 17] {
            for columns in [1, 15, 16, 17, 32, 33, 64] {
                for (depth, terms) in [(1, 1), (7, 3), (130, 1)] {
                    on_every_instruction_set([rows, columns, depth, terms], false);
                    on_every_instruction_set([rows, columns, depth, terms], true);
                }
            }
        }
    }

    #[test]
    fn a_product_without_terms_clears_the_result() {
        let mut out = [5.0; 6];
        product(&mut out, 3, Into::Overwrite, Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 2));
        assert_eq!(out, [0.0, 0.0, 5.0, 0.0, 0.0, 5.0]);
    }
}
