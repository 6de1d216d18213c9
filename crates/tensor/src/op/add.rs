//! Sum of two activations: the residual connection.

use super::{Array, Flops, Operator, activation_dtype, operands};
use crate::builder::Tape;
use crate::error::Error;
use crate::plan::Step;
use crate::shape::Type;

/// `out = left + right`, both of one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Add;

impl Operator for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn outputs(&self, reads: &[&Type], _updates: &[&Type]) -> Result<Vec<Type>, Error> {
        let [left, right] = operands(self.name(), reads)?;
        activation_dtype(self, reads)?;
        right.shape.expect_equal(self.name(), "right", &left.shape)?;
        Ok(vec![(*left).clone()])
    }

    fn may_be_bf16(&self, _read: usize) -> bool {
        true
    }

    fn flops(&self, reads: &[&Type], _writes: &[&Type]) -> Flops {
        Flops::exactly(reads[0].shape.elements())
    }

    fn reference(&self, reads: &[&Array], _updates: &mut [Array]) -> Vec<Array> {
        let values = reads[0].values.iter().zip(&reads[1].values).map(|(a, b)| a + b).collect();
        vec![Array { shape: reads[0].shape.clone(), values }]
    }

    fn adjoint(&self, step: &Step, tape: &mut Tape<'_, '_>) -> Result<(), Error> {
        let Some(d_out) = tape.gradient(step.writes[0]) else { return Ok(()) };
        tape.contribute(step.reads[0], d_out)?;
        tape.contribute(step.reads[1], d_out)
    }
}
