//! Fully connected layer over a whole activation.

use super::{Array, Flops, Operator, activation_dtype, operands};
use crate::builder::Tape;
use crate::error::Error;
use crate::plan::Step;
use crate::shape::{Dim, Shape, Type};

/// `out[n, d] = bias[d] + Σ x[h, w, n, c] · weight[h, w, c, d]`.
///
/// # Shapes
/// Reads `x` `[H, W, N, C]`, `weight` `[R, S, C, K]` with `R = H`, `S = W` and `K` the embedding, `bias` `[K]`;
/// writes `[N, D]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearForward;

/// `d_x = d_out · weightᵀ`.
///
/// # Shapes
/// Reads `d_out` `[N, D]`, `weight` `[R, S, C, K]`; writes `[H, W, N, C]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearBackwardData;

/// `d_weight = xᵀ · d_out`, `d_bias = Σ d_out`.
///
/// # Shapes
/// Reads `x` `[H, W, N, C]`, `d_out` `[N, D]`; writes `[R, S, C, K]`, `[K]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearBackwardWeight;

/// Sizes of one fully connected layer: one product of matrices a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearGeometry {
    /// Pixels `H · W`.
    pub pixels: usize,
    /// Images.
    pub batch: usize,
    /// Channels.
    pub inputs: usize,
    /// Embedding.
    pub outputs: usize,
}

impl LinearGeometry {
    /// Products of one pass.
    pub fn flops(&self) -> Flops {
        Flops::exactly(2 * self.pixels * self.batch * self.inputs * self.outputs)
    }

    /// Every multiply-add of the reference: calls `visit(x, weight, out)` with flat indices.
    fn for_each_product(&self, mut visit: impl FnMut(usize, usize, usize)) {
        for pixel in 0..self.pixels {
            for (n, c) in (0..self.batch).flat_map(|n| (0..self.inputs).map(move |c| (n, c))) {
                for d in 0..self.outputs {
                    let x = (pixel * self.batch + n) * self.inputs + c;
                    visit(x, (pixel * self.inputs + c) * self.outputs + d, n * self.outputs + d);
                }
            }
        }
    }

    /// Geometry from `x` `[H, W, N, C]` and `out` `[N, D]`.
    pub(crate) fn of_activation(op: &'static str, x: &Shape, out: &Shape) -> Result<Self, Error> {
        let [height, width, batch, inputs] = x.expect(op, "input", [Dim::H, Dim::W, Dim::N, Dim::C])?;
        let [rows, outputs] = out.expect(op, "d_out", [Dim::N, Dim::D])?;
        if rows != batch {
            let expected = format!("N {batch} as in the input {x}");
            return Err(Error::Shape { op, operand: "d_out", expected, found: Box::new(out.clone()) });
        }
        Ok(LinearGeometry { pixels: height * width, batch, inputs, outputs })
    }

    /// Geometry from `out` `[N, D]` and `weight` `[R, S, C, K]`.
    pub(crate) fn of_weight(op: &'static str, out: &Shape, weight: &Shape) -> Result<Self, Error> {
        let [batch, columns] = out.expect(op, "d_out", [Dim::N, Dim::D])?;
        let [height, width, inputs, outputs] = weight.expect(op, "weight", [Dim::R, Dim::S, Dim::C, Dim::K])?;
        if columns != outputs {
            let expected = format!("D {outputs} as in the weight {weight}");
            return Err(Error::Shape { op, operand: "d_out", expected, found: Box::new(out.clone()) });
        }
        Ok(LinearGeometry { pixels: height * width, batch, inputs, outputs })
    }
}

impl Operator for LinearForward {
    fn name(&self) -> &'static str {
        "linear_forward"
    }

    fn outputs(&self, reads: &[&Type], _updates: &[&Type]) -> Result<Vec<Type>, Error> {
        let op = self.name();
        let [x, weight, bias] = operands(op, reads)?;
        activation_dtype(self, reads)?;
        let [height, width, batch, inputs] = x.shape.expect(op, "input", [Dim::H, Dim::W, Dim::N, Dim::C])?;
        let [_, _, _, outputs] = weight.shape.expect(op, "weight", [Dim::R, Dim::S, Dim::C, Dim::K])?;
        weight.shape.expect_equal(op, "weight", &Shape::filter(height, width, inputs, outputs))?;
        bias.shape.expect_equal(op, "bias", &Shape::vector(Dim::K, outputs))?;
        Ok(vec![Type::f32(Shape::matrix((Dim::N, batch), (Dim::D, outputs)))])
    }

    /// The input and the weight; not the bias.
    fn may_be_bf16(&self, read: usize) -> bool {
        read < 2
    }

    fn flops(&self, reads: &[&Type], writes: &[&Type]) -> Flops {
        LinearGeometry::of_activation(self.name(), &reads[0].shape, &writes[0].shape)
            .map(|geometry| geometry.flops())
            .unwrap_or_default()
    }

    fn reference(&self, reads: &[&Array], _updates: &mut [Array]) -> Vec<Array> {
        let (x, weight, bias) = (reads[0], reads[1], reads[2]);
        let [_, _, batch, _] = x.sizes();
        let mut out = Array::zeros(Shape::matrix((Dim::N, batch), (Dim::D, bias.values.len())));
        let geometry = LinearGeometry::of_activation(self.name(), &x.shape, &out.shape)
            .expect("shapes that passed the shape rule");
        out.values.iter_mut().enumerate().for_each(|(i, out)| *out = bias.values[i % bias.values.len()]);
        geometry.for_each_product(|i, j, o| out.values[o] += x.values[i] * weight.values[j]);
        vec![out]
    }

    fn adjoint(&self, step: &Step, tape: &mut Tape<'_, '_>) -> Result<(), Error> {
        let Some(d_out) = tape.gradient(step.writes[0]) else { return Ok(()) };
        let &[x, weight, bias] = &step.reads[..] else { return Err(Error::NotDifferentiable { op: self.name() }) };
        let gradients = tape.emit(LinearBackwardWeight, &[x, d_out])?;
        tape.contribute(weight, gradients[0])?;
        tape.contribute(bias, gradients[1])?;
        if tape.wants(x) {
            let d_x = tape.emit(LinearBackwardData, &[d_out, weight])?[0];
            tape.contribute(x, d_x)?;
        }
        Ok(())
    }
}

impl Operator for LinearBackwardData {
    fn name(&self) -> &'static str {
        "linear_backward_data"
    }

    fn outputs(&self, reads: &[&Type], _updates: &[&Type]) -> Result<Vec<Type>, Error> {
        let [d_out, weight] = operands(self.name(), reads)?;
        let dtype = activation_dtype(self, reads)?;
        let geometry = LinearGeometry::of_weight(self.name(), &d_out.shape, &weight.shape)?;
        let mut sizes = weight.shape.sizes();
        let (height, width) = (sizes.next().unwrap_or(1), sizes.next().unwrap_or(1));
        let shape = Shape::activation(height, width, geometry.batch, geometry.inputs);
        Ok(vec![Type { shape, dtype }])
    }

    fn may_be_bf16(&self, _read: usize) -> bool {
        true
    }

    fn flops(&self, reads: &[&Type], _writes: &[&Type]) -> Flops {
        LinearGeometry::of_weight(self.name(), &reads[0].shape, &reads[1].shape)
            .map(|geometry| geometry.flops())
            .unwrap_or_default()
    }

    fn reference(&self, reads: &[&Array], _updates: &mut [Array]) -> Vec<Array> {
        let (d_out, weight) = (reads[0], reads[1]);
        let geometry = LinearGeometry::of_weight(self.name(), &d_out.shape, &weight.shape)
            .expect("shapes that passed the shape rule");
        let [height, width, _, _] = weight.sizes();
        let mut d_x = Array::zeros(Shape::activation(height, width, geometry.batch, geometry.inputs));
        geometry.for_each_product(|i, j, o| d_x.values[i] += d_out.values[o] * weight.values[j]);
        vec![d_x]
    }
}

impl Operator for LinearBackwardWeight {
    fn name(&self) -> &'static str {
        "linear_backward_weight"
    }

    fn outputs(&self, reads: &[&Type], _updates: &[&Type]) -> Result<Vec<Type>, Error> {
        let [x, d_out] = operands(self.name(), reads)?;
        activation_dtype(self, reads)?;
        let geometry = LinearGeometry::of_activation(self.name(), &x.shape, &d_out.shape)?;
        let mut sizes = x.shape.sizes();
        let (height, width) = (sizes.next().unwrap_or(1), sizes.next().unwrap_or(1));
        Ok(vec![
            Type::f32(Shape::filter(height, width, geometry.inputs, geometry.outputs)),
            Type::f32(Shape::vector(Dim::K, geometry.outputs)),
        ])
    }

    fn may_be_bf16(&self, _read: usize) -> bool {
        true
    }

    fn flops(&self, reads: &[&Type], _writes: &[&Type]) -> Flops {
        LinearGeometry::of_activation(self.name(), &reads[0].shape, &reads[1].shape)
            .map(|geometry| geometry.flops())
            .unwrap_or_default()
    }

    fn reference(&self, reads: &[&Array], _updates: &mut [Array]) -> Vec<Array> {
        let (x, d_out) = (reads[0], reads[1]);
        let geometry = LinearGeometry::of_activation(self.name(), &x.shape, &d_out.shape)
            .expect("shapes that passed the shape rule");
        let [height, width, _, _] = x.sizes();
        let mut d_weight = Array::zeros(Shape::filter(height, width, geometry.inputs, geometry.outputs));
        let mut d_bias = Array::zeros(Shape::vector(Dim::K, geometry.outputs));
        geometry.for_each_product(|i, j, o| d_weight.values[j] += x.values[i] * d_out.values[o]);
        d_out.values.iter().enumerate().for_each(|(o, d)| d_bias.values[o % geometry.outputs] += d);
        vec![d_weight, d_bias]
    }
}
