//! Conversion between f32 and bf16.

use super::{Array, Flops, Operator, operands};
use crate::builder::Tape;
use crate::error::Error;
use crate::plan::Step;
use crate::shape::{DType, Type};
use half::bf16;

/// Converts to the other floating-point type; to bf16 by rounding to nearest, ties to even.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    /// Element type of the result.
    pub to: DType,
}

impl Operator for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn outputs(&self, reads: &[&Type], _updates: &[&Type]) -> Result<Vec<Type>, Error> {
        let [input] = operands(self.name(), reads)?;
        let from = match self.to {
            DType::Bf16 => DType::F32,
            DType::F32 => DType::Bf16,
            other => {
                let message = format!("expected f32 or bf16 as the result, found {other}");
                return Err(Error::Attribute { op: self.name(), message });
            }
        };
        input.expect_dtype(self.name(), "input", from)?;
        Ok(vec![Type { shape: input.shape.clone(), dtype: self.to }])
    }

    fn flops(&self, _reads: &[&Type], _writes: &[&Type]) -> Flops {
        Flops::default()
    }

    fn reference(&self, reads: &[&Array], _updates: &mut [Array]) -> Vec<Array> {
        let mut out = reads[0].clone();
        if self.to == DType::Bf16 {
            out.values.iter_mut().for_each(|value| *value = f64::from(bf16::from_f32(*value as f32)));
        }
        vec![out]
    }

    fn adjoint(&self, step: &Step, tape: &mut Tape<'_, '_>) -> Result<(), Error> {
        let Some(d_out) = tape.gradient(step.writes[0]) else { return Ok(()) };
        let back = if self.to == DType::F32 { DType::Bf16 } else { DType::F32 };
        let d_input = tape.emit(Cast { to: back }, &[d_out])?[0];
        tape.contribute(step.reads[0], d_input)
    }
}
