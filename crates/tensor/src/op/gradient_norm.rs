//! Euclidean norm of all gradients together.

use super::{Array, Flops, Operator, operands};
use crate::error::Error;
use crate::shape::{DType, Dim, Shape, Type};

/// `norm = √Σ g²`.
///
/// # Shapes
/// Reads `gradients` `[length]`; writes `[1]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GradientNorm;

impl Operator for GradientNorm {
    fn name(&self) -> &'static str {
        "gradient_norm"
    }

    fn outputs(&self, reads: &[&Type], _updates: &[&Type]) -> Result<Vec<Type>, Error> {
        let [gradients] = operands(self.name(), reads)?;
        gradients.expect_dtype(self.name(), "gradients", DType::F32)?;
        gradients.shape.expect(self.name(), "gradients", [Dim::Length])?;
        Ok(vec![Type::f32(Shape::vector(Dim::Length, 1))])
    }

    fn flops(&self, reads: &[&Type], _writes: &[&Type]) -> Flops {
        Flops::exactly(2 * reads[0].shape.elements())
    }

    fn reference(&self, reads: &[&Array], _updates: &mut [Array]) -> Vec<Array> {
        let norm = reads[0].values.iter().map(|g| g * g).sum::<f64>().sqrt();
        vec![Array { shape: Shape::vector(Dim::Length, 1), values: vec![norm] }]
    }
}
