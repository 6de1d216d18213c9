//! The counter that tells one run of a plan from the next.

use super::{Array, Flops, Operator, operands};
use crate::error::Error;
use crate::shape::{DType, Dim, Type};

/// `counter += 1`, the last step of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance;

impl Operator for Advance {
    fn name(&self) -> &'static str {
        "advance"
    }

    fn outputs(&self, reads: &[&Type], updates: &[&Type]) -> Result<Vec<Type>, Error> {
        let [] = operands(self.name(), reads)?;
        let [counter] = operands(self.name(), updates)?;
        counter.expect_dtype(self.name(), "counter", DType::U32)?;
        counter.shape.expect(self.name(), "counter", [Dim::Length])?;
        Ok(vec![])
    }

    fn flops(&self, _reads: &[&Type], _writes: &[&Type]) -> Flops {
        Flops::default()
    }

    fn reference(&self, _reads: &[&Array], updates: &mut [Array]) -> Vec<Array> {
        updates[0].values[0] += 1.0;
        vec![]
    }
}
