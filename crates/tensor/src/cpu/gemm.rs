//! Products of dense matrices, through the `gemm` crate.

use gemm::Parallelism;

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
}

/// What becomes of the values that are in the result before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Into {
    Overwrite,
    Add,
}

/// `out (+)= left · right`, on the calling thread; the rows of `out` are `stride` apart.
pub(super) fn product(out: &mut [f32], stride: usize, into: Into, left: Matrix<'_>, right: Matrix<'_>) {
    assert_eq!(left.columns, right.rows, "inner dimensions of a product");
    let (rows, columns) = (left.rows, right.columns);
    assert!(stride >= columns && span(rows, columns, stride, 1) <= out.len(), "result of a product");
    let signed = |stride: usize| stride as isize; // slices are never longer than isize::MAX bytes
    // SAFETY: `Matrix` and the assertion above keep every element that the strides reach inside its slice; `out` is
    // borrowed uniquely, so it overlaps neither operand.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            left.columns,
            out.as_mut_ptr(),
            1,
            signed(stride),
            into == Into::Add,
            left.data.as_ptr(),
            signed(left.column_stride),
            signed(left.row_stride),
            right.data.as_ptr(),
            signed(right.column_stride),
            signed(right.row_stride),
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
