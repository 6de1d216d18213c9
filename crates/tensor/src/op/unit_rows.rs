//! Rows brought back to the unit sphere, in place.

use super::margin_softmax::NORM_FLOOR;
use super::{Array, Flops, Operator, operands};
use crate::error::Error;
use crate::shape::{DType, Dim, Type};

/// `w_j = w_j / ‖w_j‖`: what the SphereFace authors' layer does with class weights before each forward pass.
///
/// # Shapes
/// Updates `weight` `[classes, D]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitRows;

impl Operator for UnitRows {
    fn name(&self) -> &'static str {
        "unit_rows"
    }

    fn outputs(&self, reads: &[&Type], updates: &[&Type]) -> Result<Vec<Type>, Error> {
        let [] = operands(self.name(), reads)?;
        let [weight] = operands(self.name(), updates)?;
        weight.expect_dtype(self.name(), "weight", DType::F32)?;
        weight.shape.expect(self.name(), "weight", [Dim::Classes, Dim::D])?;
        Ok(vec![])
    }

    /// Not counted: a step that reads nothing and writes nothing has no size to tell.
    fn flops(&self, _reads: &[&Type], _writes: &[&Type]) -> Flops {
        Flops::default()
    }

    fn reference(&self, _reads: &[&Array], updates: &mut [Array]) -> Vec<Array> {
        let [_, columns] = updates[0].sizes();
        for row in updates[0].values.chunks_mut(columns) {
            let norm = row.iter().map(|w| w * w).sum::<f64>().sqrt().max(f64::from(NORM_FLOOR));
            row.iter_mut().for_each(|w| *w /= norm);
        }
        vec![]
    }
}
