//! Parametric rectifier with one slope a channel.

use super::{Array, Flops, Operator, activation_dtype, operands};
use crate::builder::Tape;
use crate::error::Error;
use crate::plan::Step;
use crate::shape::{Dim, Type};

/// `out = x` where `x > 0`, else `slope[c] · x`.
///
/// # Shapes
/// `x` and `out` `[H, W, N, C]`, `slope` `[C]`.
///
/// # Source
/// He et al., *Delving Deep into Rectifiers*, ICCV 2015, equation 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreluForward;

/// Gradients of [`PreluForward`] from the stored input, since slopes may become negative.
///
/// # Shapes
/// Reads `d_out`, `x` `[H, W, N, C]`, `slope` `[C]`; writes `d_x` `[H, W, N, C]`, `d_slope` `[C]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreluBackward;

fn check_slope(op: &'static str, x: &Type, slope: &Type) -> Result<(), Error> {
    let [_, _, _, channels] = x.shape.expect(op, "input", [Dim::H, Dim::W, Dim::N, Dim::C])?;
    let [slopes] = slope.shape.expect(op, "slope", [Dim::C])?;
    if slopes != channels {
        let expected = format!("[C {channels}], one slope a channel of {}", x.shape);
        return Err(Error::Shape { op, operand: "slope", expected, found: Box::new(slope.shape.clone()) });
    }
    Ok(())
}

impl Operator for PreluForward {
    fn name(&self) -> &'static str {
        "prelu_forward"
    }

    fn outputs(&self, reads: &[&Type], _updates: &[&Type]) -> Result<Vec<Type>, Error> {
        let [x, slope] = operands(self.name(), reads)?;
        activation_dtype(self, reads)?;
        check_slope(self.name(), x, slope)?;
        Ok(vec![(*x).clone()])
    }

    /// The input; not the slope.
    fn may_be_bf16(&self, read: usize) -> bool {
        read == 0
    }

    fn flops(&self, reads: &[&Type], _writes: &[&Type]) -> Flops {
        Flops::exactly(reads[0].shape.elements())
    }

    fn reference(&self, reads: &[&Array], _updates: &mut [Array]) -> Vec<Array> {
        let (x, slope) = (reads[0], &reads[1].values);
        let mut out = x.clone();
        for (i, value) in out.values.iter_mut().enumerate() {
            if *value <= 0.0 {
                *value *= slope[i % slope.len()];
            }
        }
        vec![out]
    }

    fn adjoint(&self, step: &Step, tape: &mut Tape<'_, '_>) -> Result<(), Error> {
        let Some(d_out) = tape.gradient(step.writes[0]) else { return Ok(()) };
        let &[x, slope] = &step.reads[..] else { return Err(Error::NotDifferentiable { op: self.name() }) };
        let gradients = tape.emit(PreluBackward, &[d_out, x, slope])?;
        tape.contribute(x, gradients[0])?;
        tape.contribute(slope, gradients[1])
    }
}

impl Operator for PreluBackward {
    fn name(&self) -> &'static str {
        "prelu_backward"
    }

    fn outputs(&self, reads: &[&Type], _updates: &[&Type]) -> Result<Vec<Type>, Error> {
        let [d_out, x, slope] = operands(self.name(), reads)?;
        activation_dtype(self, reads)?;
        check_slope(self.name(), x, slope)?;
        d_out.shape.expect_equal(self.name(), "d_out", &x.shape)?;
        Ok(vec![(*x).clone(), (*slope).clone()])
    }

    /// The gradient and the input; not the slope.
    fn may_be_bf16(&self, read: usize) -> bool {
        read < 2
    }

    fn flops(&self, reads: &[&Type], _writes: &[&Type]) -> Flops {
        Flops::exactly(3 * reads[0].shape.elements())
    }

    fn reference(&self, reads: &[&Array], _updates: &mut [Array]) -> Vec<Array> {
        let (d_out, x, slope) = (reads[0], reads[1], reads[2]);
        let mut d_x = d_out.clone();
        let mut d_slope = Array::zeros(slope.shape.clone());
        for (i, d) in d_x.values.iter_mut().enumerate() {
            if x.values[i] <= 0.0 {
                let channel = i % slope.values.len();
                d_slope.values[channel] += *d * x.values[i];
                *d *= slope.values[channel];
            }
        }
        vec![d_x, d_slope]
    }
}
