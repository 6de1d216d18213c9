//! Shapes with named dimensions and the types of buffers.

use crate::error::Error;
use arrayvec::ArrayVec;
use std::fmt;

/// The most dimensions a shape has.
pub const MAX_RANK: usize = 4;

/// The most elements of a buffer: 2⁴⁰, four terabytes of fp32.
const MOST_ELEMENTS: usize = 1 << 40;

/// Name of a dimension, in the terms of the field.
///
/// Activations are `[H, W, N, C]`, filters `[R, S, C, K]`, embeddings `[N, D]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Height of an activation or image.
    H,
    /// Width of an activation or image.
    W,
    /// Batch.
    N,
    /// Channels (input channels of a filter).
    C,
    /// Output channels of a filter.
    K,
    /// Height of a filter.
    R,
    /// Width of a filter.
    S,
    /// Embedding.
    D,
    /// Classes of the classifier head.
    Classes,
    /// Images of a data set.
    Images,
    /// Steps of a schedule or rows of a log.
    Steps,
    /// Rows of a matrix.
    Rows,
    /// Columns of a matrix or log.
    Columns,
    /// Length of a flat block, or of the sums of a product.
    Length,
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Classes => f.write_str("classes"),
            Dim::Images => f.write_str("images"),
            Dim::Steps => f.write_str("steps"),
            Dim::Rows => f.write_str("rows"),
            Dim::Columns => f.write_str("columns"),
            Dim::Length => f.write_str("length"),
            short => write!(f, "{short:?}"),
        }
    }
}

/// Ordered, named, row-major dimensions: the last one is contiguous.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: ArrayVec<(Dim, usize), MAX_RANK>,
}

impl Shape {
    /// Shape of the given dimensions, outermost first.
    ///
    /// # Panics
    /// With more than [`MAX_RANK`] dimensions.
    pub fn new(dims: impl IntoIterator<Item = (Dim, usize)>) -> Self {
        Shape { dims: dims.into_iter().collect() }
    }

    /// `[H, W, N, C]` of an activation.
    pub fn activation(height: usize, width: usize, batch: usize, channels: usize) -> Self {
        Shape::new([(Dim::H, height), (Dim::W, width), (Dim::N, batch), (Dim::C, channels)])
    }

    /// `[R, S, C, K]` of a filter.
    pub fn filter(height: usize, width: usize, inputs: usize, outputs: usize) -> Self {
        Shape::new([(Dim::R, height), (Dim::S, width), (Dim::C, inputs), (Dim::K, outputs)])
    }

    /// One dimension.
    pub fn vector(dim: Dim, length: usize) -> Self {
        Shape::new([(dim, length)])
    }

    /// Two dimensions.
    pub fn matrix(rows: (Dim, usize), columns: (Dim, usize)) -> Self {
        Shape::new([rows, columns])
    }

    /// Number of elements; the largest number there is, where there were more.
    pub fn elements(&self) -> usize {
        self.dims.iter().fold(1, |elements: usize, &(_, size)| elements.saturating_mul(size))
    }

    /// Nothing, if a machine could hold the buffer `name` of this shape: sizes beyond that are mistakes, and what is
    /// computed of them would overflow.
    ///
    /// # Errors
    /// [`Error::Buffer`], which says the shape.
    pub(crate) fn expect_possible(&self, name: &str) -> Result<(), Error> {
        if self.elements() <= MOST_ELEMENTS && self.sizes().all(|size| size <= MOST_ELEMENTS) {
            return Ok(());
        }
        let message = format!("expected at most {MOST_ELEMENTS} elements, found the shape {self:?}");
        Err(Error::Buffer { name: name.into(), message })
    }

    /// Sizes, outermost first.
    pub fn sizes(&self) -> impl Iterator<Item = usize> + '_ {
        self.dims.iter().map(|&(_, size)| size)
    }

    /// The innermost, contiguous dimension.
    pub fn last(&self) -> usize {
        self.dims.last().map_or(1, |&(_, size)| size)
    }

    /// Sizes, if the names of the dimensions are the expected ones and none is zero.
    ///
    /// # Errors
    /// [`Error::Shape`], which names operator, operand, the expected dimensions and the found shape.
    pub fn expect<const RANK: usize>(
        &self,
        op: &'static str,
        operand: &'static str,
        dims: [Dim; RANK],
    ) -> Result<[usize; RANK], Error> {
        let same = self.dims.len() == RANK && self.dims.iter().zip(dims).all(|(a, b)| a.0 == b && a.1 > 0);
        if !same {
            let names: Vec<_> = dims.iter().map(Dim::to_string).collect();
            let expected = format!("[{}], none of them zero", names.join(", "));
            return Err(Error::Shape { op, operand, expected, found: Box::new(self.clone()) });
        }
        let mut sizes = [0; RANK];
        for (size, dim) in sizes.iter_mut().zip(&self.dims) {
            *size = dim.1;
        }
        Ok(sizes)
    }

    /// Nothing, if this is the expected shape.
    ///
    /// # Errors
    /// [`Error::Shape`], which names operator, operand and both shapes.
    pub fn expect_equal(&self, op: &'static str, operand: &'static str, expected: &Shape) -> Result<(), Error> {
        if self == expected {
            return Ok(());
        }
        Err(Error::Shape { op, operand, expected: expected.to_string(), found: Box::new(self.clone()) })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, (dim, size)) in self.dims.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{dim} {size}")?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Type of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE single precision.
    F32,
    /// The upper half of an `F32`.
    Bf16,
    /// A [`Cosine`](crate::Cosine).
    Cosine,
    /// Counters, labels, indices.
    U32,
    /// Pixels and labels of a data set.
    U8,
}

impl DType {
    /// Size of one element in bytes.
    pub fn bytes(self) -> usize {
        match self {
            DType::F32 | DType::U32 => 4,
            DType::Bf16 | DType::Cosine => 2,
            DType::U8 => 1,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::Bf16 => "bf16",
            DType::Cosine => "cosine",
            DType::U32 => "u32",
            DType::U8 => "u8",
        })
    }
}

/// Shape and element type of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    /// Named dimensions.
    pub shape: Shape,
    /// Element type.
    pub dtype: DType,
}

impl Type {
    /// An `f32` buffer of this shape.
    pub fn f32(shape: Shape) -> Self {
        Type { shape, dtype: DType::F32 }
    }

    /// A `u32` buffer of this shape.
    pub fn u32(shape: Shape) -> Self {
        Type { shape, dtype: DType::U32 }
    }

    /// A `u8` buffer of this shape.
    pub fn u8(shape: Shape) -> Self {
        Type { shape, dtype: DType::U8 }
    }

    /// Size in bytes, without padding.
    pub fn bytes(&self) -> usize {
        self.shape.elements().saturating_mul(self.dtype.bytes())
    }

    /// Nothing, if the element type is the expected one.
    ///
    /// # Errors
    /// [`Error::DType`], which names operator, operand and both types.
    pub fn expect_dtype(&self, op: &'static str, operand: &'static str, expected: DType) -> Result<(), Error> {
        if self.dtype == expected {
            return Ok(());
        }
        Err(Error::DType { op, operand, expected, found: self.dtype })
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.dtype, self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_print_with_their_names() {
        assert_eq!(Shape::activation(28, 27, 8, 1).to_string(), "[H 28, W 27, N 8, C 1]");
        assert_eq!(Shape::matrix((Dim::Classes, 10), (Dim::D, 2)).to_string(), "[classes 10, D 2]");
    }

    #[test]
    fn wrong_dimensions_name_operator_and_both_shapes() {
        let error = Shape::vector(Dim::C, 3).expect("linear_forward", "input", [Dim::N, Dim::D]).unwrap_err();
        assert_eq!(error.to_string(), "linear_forward: input: expected [N, D], none of them zero, found [C 3]");
        assert!(Shape::vector(Dim::C, 0).expect("prelu_forward", "slope", [Dim::C]).is_err());
    }
}
