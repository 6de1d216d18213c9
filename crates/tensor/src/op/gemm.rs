//! Product of two dense matrices, and what a layer does with it.

use super::{Array, Flops, Operator, activation_dtype};
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

/// `y[row, column] = bias[column] + Σ left[row, ·] · right[·, column]`, then `out = residual + prelu(y)`; what is not
/// flagged is left out.
///
/// The network's layers have products of their own; this is one of plain matrices, to be measured against others.
///
/// # Shapes
/// Reads `left` and `right` as [`Layout`] says and, where the flags say so and in this order, `bias` and `slope`
/// `[columns]` and `residual` `[rows, columns]`; writes `out` `[rows, columns]`. Bias and slope are f32, all others of one
/// type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gemm {
    /// Which operand is transposed.
    pub layout: Layout,
    /// Whether a bias is read.
    pub bias: bool,
    /// Whether a PReLU is fused: its slope is read.
    pub slope: bool,
    /// Whether a residual sum is fused: its other operand is read.
    pub residual: bool,
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
    /// A product with nothing fused into it.
    pub fn plain(layout: Layout) -> Self {
        Gemm { layout, bias: false, slope: false, residual: false }
    }

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
        let op = self.name();
        let count = 2 + [self.bias, self.slope, self.residual].map(usize::from).iter().sum::<usize>();
        if reads.len() != count {
            let message = format!("expected {count} operands, found {} for {self:?}", reads.len());
            return Err(Error::Attribute { op, message });
        }
        let dtype = activation_dtype(self, reads)?;
        let GemmGeometry { rows, columns, .. } = self.geometry(&reads[0].shape, &reads[1].shape)?;
        let (of_column, out) =
            (Shape::vector(Dim::Columns, columns), Shape::matrix((Dim::Rows, rows), (Dim::Columns, columns)));
        let fused =
            [(self.bias, "bias", &of_column), (self.slope, "slope", &of_column), (self.residual, "residual", &out)];
        let present = fused.into_iter().filter(|(present, ..)| *present);
        for ((_, operand, shape), found) in present.zip(&reads[2..]) {
            found.shape.expect_equal(op, operand, shape)?;
        }
        Ok(vec![Type { shape: out, dtype }])
    }

    /// The factors and the residual.
    fn may_be_bf16(&self, read: usize) -> bool {
        read < 2 || self.residual && read == 2 + usize::from(self.bias) + usize::from(self.slope)
    }

    fn flops(&self, reads: &[&Type], _writes: &[&Type]) -> Flops {
        let fused = usize::from(self.slope) + usize::from(self.residual);
        self.geometry(&reads[0].shape, &reads[1].shape)
            .map(|GemmGeometry { rows, columns, length }| Flops::exactly(rows * columns * (2 * length + fused)))
            .unwrap_or_default()
    }

    fn reference(&self, reads: &[&Array], _updates: &mut [Array]) -> Vec<Array> {
        let (left, right) = (reads[0], reads[1]);
        let GemmGeometry { rows, columns, length } =
            self.geometry(&left.shape, &right.shape).expect("shapes that passed the shape rule");
        let mut rest = reads[2..].iter();
        let bias = self.bias.then(|| rest.next()).flatten();
        let slope = self.slope.then(|| rest.next()).flatten();
        let residual = rest.next();
        let mut out = Array::zeros(Shape::matrix((Dim::Rows, rows), (Dim::Columns, columns)));
        for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
            let product = |place: usize| {
                let left_at = if self.layout == Layout::TN { place * rows + row } else { row * length + place };
                let right_at =
                    if self.layout == Layout::NT { column * length + place } else { place * columns + column };
                left.values[left_at] * right.values[right_at]
            };
            let y = bias.map_or(0.0, |bias| bias.values[column]) + (0..length).map(product).sum::<f64>();
            let rectified = if y > 0.0 { y } else { slope.map_or(1.0, |slope| slope.values[column]) * y };
            let at = row * columns + column;
            out.values[at] = residual.map_or(0.0, |residual| residual.values[at]) + rectified;
        }
        vec![out]
    }
}
