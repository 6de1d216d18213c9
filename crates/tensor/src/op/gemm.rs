//! Product of two dense matrices.

use super::{Array, Flops, Operator, activation_dtype, operands};
use crate::error::Error;
use crate::shape::{Dim, Shape, Type};

/// Which operand of a [`Gemm`] is transposed: N is as it stands, T is transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `left` `[rows, length]`, `right` `[length, columns]`.
    NN,
    /// `left` `[rows, length]`, `right` `[columns, length]`.
    NT,
    /// `left` `[length, rows]`, `right` `[length, columns]`.
    TN,
}

/// `out[row, column] = Σ left[row, ·] · right[·, column]`.
///
/// The network's layers have products of their own; this is the bare one, to be measured against others.
///
/// # Shapes
/// Reads `left` and `right` as [`Layout`] says; writes `[rows, columns]` in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gemm {
    /// Which operand is transposed.
    pub layout: Layout,
}

/// Sizes of one product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GemmGeometry {
    /// Rows of the result.
    pub rows: usize,
    /// Columns of the result.
    pub columns: usize,
    /// Length of the reduction.
    pub length: usize,
}

impl Gemm {
    /// Sizes of the product of matrices of these shapes.
    ///
    /// # Errors
    /// [`Error`], when the shapes do not fit each other.
    pub fn geometry(&self, left: &Shape, right: &Shape) -> Result<GemmGeometry, Error> {
        let op = self.name();
        let left_dims = if self.layout == Layout::TN { [Dim::Length, Dim::Rows] } else { [Dim::Rows, Dim::Length] };
        let right_dims =
            if self.layout == Layout::NT { [Dim::Columns, Dim::Length] } else { [Dim::Length, Dim::Columns] };
        let (mut rows, mut columns) = (left.expect(op, "left", left_dims)?, right.expect(op, "right", right_dims)?);
        // Now the reduction comes last in both.
        if self.layout == Layout::TN {
            rows.reverse();
        }
        if self.layout != Layout::NT {
            columns.reverse();
        }
        let ([rows, length], [columns, found]) = (rows, columns);
        if found != length {
            let expected = format!("length {length} as in the left operand {left}");
            return Err(Error::Shape { op, operand: "right", expected, found: Box::new(right.clone()) });
        }
        Ok(GemmGeometry { rows, columns, length })
    }
}

impl Operator for Gemm {
    fn name(&self) -> &'static str {
        "gemm"
    }

    fn outputs(&self, reads: &[&Type], _updates: &[&Type]) -> Result<Vec<Type>, Error> {
        let [left, right] = operands(self.name(), reads)?;
        activation_dtype(self, reads)?;
        let GemmGeometry { rows, columns, .. } = self.geometry(&left.shape, &right.shape)?;
        Ok(vec![Type::f32(Shape::matrix((Dim::Rows, rows), (Dim::Columns, columns)))])
    }

    fn may_be_bf16(&self, _read: usize) -> bool {
        true
    }

    fn flops(&self, reads: &[&Type], _writes: &[&Type]) -> Flops {
        self.geometry(&reads[0].shape, &reads[1].shape)
            .map(|GemmGeometry { rows, columns, length }| Flops::exactly(2 * rows * columns * length))
            .unwrap_or_default()
    }

    fn reference(&self, reads: &[&Array], _updates: &mut [Array]) -> Vec<Array> {
        let (left, right) = (reads[0], reads[1]);
        let GemmGeometry { rows, columns, length } =
            self.geometry(&left.shape, &right.shape).expect("shapes that passed the shape rule");
        let mut out = Array::zeros(Shape::matrix((Dim::Rows, rows), (Dim::Columns, columns)));
        for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
            let product = |place: usize| {
                let left_at = if self.layout == Layout::TN { place * rows + row } else { row * length + place };
                let right_at =
                    if self.layout == Layout::NT { column * length + place } else { place * columns + column };
                left.values[left_at] * right.values[right_at]
            };
            out.values[row * columns + column] = (0..length).map(product).sum();
        }
        vec![out]
    }
}
