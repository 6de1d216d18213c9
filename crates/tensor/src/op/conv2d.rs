//! Two-dimensional convolution (cross-correlation) in the layout `[H, W, N, C]`.

use super::{Array, Flops, Operator, PreluBackward, activation_dtype};
use crate::builder::Tape;
use crate::error::Error;
use crate::plan::Step;
use crate::shape::{Dim, Shape, Type};
use std::ops::Range;

/// Sizes of one convolution; for every pixel and tap it is a product of dense matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dGeometry {
    /// Input `[H, W, N, C]`.
    pub height: usize,
    /// Input width.
    pub width: usize,
    /// Images.
    pub batch: usize,
    /// Input channels.
    pub inputs: usize,
    /// Filter `[R, S, C, K]`.
    pub taps: [usize; 2],
    /// Output channels.
    pub outputs: usize,
    /// Output `[P, Q, N, K]`.
    pub output_height: usize,
    /// Output width.
    pub output_width: usize,
    /// Step between neighbouring outputs, in input pixels.
    pub stride: usize,
    /// Zeros around the input, on every side.
    pub padding: usize,
}

impl Conv2dGeometry {
    /// Geometry of a convolution of `x` `[H, W, N, C]` with `filter` `[R, S, C, K]`.
    ///
    /// # Errors
    /// [`Error`], when the shapes do not fit each other, the stride or the padding.
    pub fn new(op: &'static str, x: &Shape, filter: &Shape, stride: usize, padding: usize) -> Result<Self, Error> {
        let [height, width, batch, inputs] = x.expect(op, "input", [Dim::H, Dim::W, Dim::N, Dim::C])?;
        let [r, s, c, outputs] = filter.expect(op, "filter", [Dim::R, Dim::S, Dim::C, Dim::K])?;
        if c != inputs {
            let expected = format!("C {inputs} as in the input {x}");
            return Err(Error::Shape { op, operand: "filter", expected, found: Box::new(filter.clone()) });
        }
        if stride == 0 {
            return Err(Error::Attribute { op, message: "stride: expected at least 1, found 0".into() });
        }
        if height + 2 * padding < r || width + 2 * padding < s {
            let message = format!("filter {filter} is larger than the input {x} with padding {padding}");
            return Err(Error::Attribute { op, message });
        }
        Ok(Conv2dGeometry {
            height,
            width,
            batch,
            inputs,
            taps: [r, s],
            outputs,
            output_height: (height + 2 * padding - r) / stride + 1,
            output_width: (width + 2 * padding - s) / stride + 1,
            stride,
            padding,
        })
    }

    /// `[P, Q, N, K]`, named as the input of the next operator.
    pub fn output(&self) -> Shape {
        Shape::activation(self.output_height, self.output_width, self.batch, self.outputs)
    }

    /// Input row below output row `p` at filter row `r`, unless it lies in the padding.
    pub fn input_row(&self, p: usize, r: usize) -> Option<usize> {
        (p * self.stride + r).checked_sub(self.padding).filter(|&h| h < self.height)
    }

    /// Input column below output column `q` at filter column `s`, unless it lies in the padding.
    pub fn input_column(&self, q: usize, s: usize) -> Option<usize> {
        (q * self.stride + s).checked_sub(self.padding).filter(|&w| w < self.width)
    }

    /// Index and position of each tap of the filter.
    pub fn tap_positions(&self) -> impl Iterator<Item = (usize, [usize; 2])> + use<> {
        let [_, width] = self.taps;
        (0..self.taps[0] * width).map(move |tap| (tap, [tap / width, tap % width]))
    }

    /// Output columns whose input at filter column `s` is not padding.
    pub fn columns(&self, s: usize) -> Range<usize> {
        let first = self.padding.saturating_sub(s).div_ceil(self.stride).min(self.output_width);
        let end = (self.width + self.padding).saturating_sub(s).div_ceil(self.stride).min(self.output_width);
        first..end.max(first)
    }

    /// Products of one pass.
    pub fn flops(&self) -> Flops {
        let [r, s] = self.taps;
        let product = 2 * self.batch * self.inputs * self.outputs;
        let rows: usize =
            (0..r).map(|r| (0..self.output_height).filter(|&p| self.input_row(p, r).is_some()).count()).sum();
        let columns: usize = (0..s).map(|s| self.columns(s).len()).sum();
        Flops {
            nominal: (r * s * self.output_height * self.output_width * product) as u64,
            useful: (rows * columns * product) as u64,
        }
    }

    /// Every multiply-add of the reference: calls `visit(x, filter, y)` with flat indices.
    fn for_each_product(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let &Conv2dGeometry { width, batch, inputs, outputs, output_height, output_width, .. } = self;
        for (p, q) in (0..output_height).flat_map(|p| (0..output_width).map(move |q| (p, q))) {
            for (r, s) in (0..self.taps[0]).flat_map(|r| (0..self.taps[1]).map(move |s| (r, s))) {
                let (Some(h), Some(w)) = (self.input_row(p, r), self.input_column(q, s)) else { continue };
                for (n, c) in (0..batch).flat_map(|n| (0..inputs).map(move |c| (n, c))) {
                    let x = ((h * width + w) * batch + n) * inputs + c;
                    for k in 0..outputs {
                        let filter = ((r * self.taps[1] + s) * inputs + c) * outputs + k;
                        visit(x, filter, ((p * output_width + q) * batch + n) * outputs + k);
                    }
                }
            }
        }
    }
}

/// `y[p, q, n, k] = bias[k] + Σ x[p·stride + r − padding, q·stride + s − padding, n, c] · filter[r, s, c, k]`,
/// then, when fused, `out = residual + prelu(y)`.
///
/// # Shapes
/// Reads `x` `[H, W, N, C]`, `filter` `[R, S, C, K]` and, where the flags say so and in this order, `bias` `[K]`,
/// `slope` `[C]`, `residual` `[H, W, N, C]`. Writes `y` (if it is kept or there is no slope) and `out` (if there is a slope).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dForward {
    /// Step between neighbouring outputs, in input pixels.
    pub stride: usize,
    /// Zeros around the input, on every side.
    pub padding: usize,
    /// Whether a bias is read.
    pub bias: bool,
    /// Whether a PReLU is fused: its slope is read.
    pub slope: bool,
    /// Whether a residual sum is fused: its other operand is read.
    pub residual: bool,
    /// Whether the value before the fused PReLU is written, for the backward pass.
    pub keep: bool,
}

impl Conv2dForward {
    /// A convolution with nothing fused into it.
    pub fn plain(stride: usize, padding: usize, bias: bool) -> Self {
        Conv2dForward { stride, padding, bias, slope: false, residual: false, keep: false }
    }
}

impl Operator for Conv2dForward {
    fn name(&self) -> &'static str {
        "conv2d_forward"
    }

    fn outputs(&self, reads: &[&Type], _updates: &[&Type]) -> Result<Vec<Type>, Error> {
        let op = self.name();
        let count = 2 + usize::from(self.bias) + usize::from(self.slope) + usize::from(self.residual);
        if reads.len() != count || (self.residual || self.keep) && !self.slope {
            let message = format!("expected {count} operands, found {} for {self:?}", reads.len());
            return Err(Error::Attribute { op, message });
        }
        let dtype = activation_dtype(self, reads)?;
        let geometry = Conv2dGeometry::new(op, &reads[0].shape, &reads[1].shape, self.stride, self.padding)?;
        let mut rest = reads[2..].iter();
        for (present, operand, shape) in [
            (self.bias, "bias", Shape::vector(Dim::K, geometry.outputs)),
            (self.slope, "slope", Shape::vector(Dim::C, geometry.outputs)),
            (self.residual, "residual", geometry.output()),
        ] {
            if let Some(found) = present.then(|| rest.next()).flatten() {
                found.shape.expect_equal(op, operand, &shape)?;
            }
        }
        let written = 1 + usize::from(self.keep);
        Ok(vec![Type { shape: geometry.output(), dtype }; written])
    }

    /// The input, the filter and the residual sum's operand; not bias and slope.
    fn may_be_bf16(&self, read: usize) -> bool {
        read < 2 || self.residual && read == 2 + usize::from(self.bias) + usize::from(self.slope)
    }

    fn flops(&self, reads: &[&Type], writes: &[&Type]) -> Flops {
        let per_output = usize::from(self.slope) + usize::from(self.residual);
        let fused = (per_output * writes[0].shape.elements()) as u64;
        Conv2dGeometry::new(self.name(), &reads[0].shape, &reads[1].shape, self.stride, self.padding)
            .map(|geometry| geometry.flops())
            .map(|flops| Flops { nominal: flops.nominal + fused, useful: flops.useful + fused })
            .unwrap_or_default()
    }

    fn reference(&self, reads: &[&Array], _updates: &mut [Array]) -> Vec<Array> {
        let (x, filter) = (reads[0], reads[1]);
        let geometry = Conv2dGeometry::new(self.name(), &x.shape, &filter.shape, self.stride, self.padding)
            .expect("shapes that passed the shape rule");
        let mut rest = reads[2..].iter();
        let mut y = Array::zeros(geometry.output());
        if let Some(bias) = self.bias.then(|| rest.next()).flatten() {
            y.values.iter_mut().enumerate().for_each(|(i, y)| *y = bias.values[i % geometry.outputs]);
        }
        geometry.for_each_product(|i, j, o| y.values[o] += x.values[i] * filter.values[j]);
        let Some(slope) = self.slope.then(|| rest.next()).flatten() else { return vec![y] };
        let mut out = y.clone();
        for (i, value) in out.values.iter_mut().enumerate() {
            *value *= if *value > 0.0 { 1.0 } else { slope.values[i % geometry.outputs] };
        }
        if let Some(residual) = rest.next() {
            out.values.iter_mut().zip(&residual.values).for_each(|(out, r)| *out += r);
        }
        if self.keep { vec![y, out] } else { vec![out] }
    }

    fn adjoint(&self, step: &Step, tape: &mut Tape<'_, '_>) -> Result<(), Error> {
        let Some(d_y) = tape.gradient(step.writes[0]) else { return Ok(()) };
        if self.slope {
            return Err(Error::NotDifferentiable { op: self.name() }); // Fusing comes after differentiating.
        }
        let &Conv2dForward { stride, padding, bias, .. } = self;
        let (x, filter) = (step.reads[0], step.reads[1]);
        let [r, s, ..] = tape.shape(filter).expect(self.name(), "filter", [Dim::R, Dim::S, Dim::C, Dim::K])?;
        let weight = Conv2dBackwardWeight { stride, padding, bias, taps: [r, s] };
        let gradients = tape.emit(weight, &[x, d_y])?;
        tape.contribute(filter, gradients[0])?;
        if bias {
            tape.contribute(step.reads[2], gradients[1])?;
        }
        if tape.wants(x) {
            let [height, width, ..] = tape.shape(x).expect(self.name(), "input", [Dim::H, Dim::W, Dim::N, Dim::C])?;
            let addend = tape.take(x);
            let data = Conv2dBackwardData::plain(stride, padding, [height, width], addend.is_some());
            let mut reads = vec![d_y, filter];
            reads.extend(addend);
            let d_x = tape.emit(data, &reads)?[0];
            tape.contribute(x, d_x)?;
        }
        Ok(())
    }
}

/// `d_x = addend + Σ d_y · filterᵀ`, the gradient of [`Conv2dForward`] with respect to its input; then, when fused, the
/// gradients of the PReLU before it, as [`PreluBackward`](super::PreluBackward) has them.
///
/// # Shapes
/// Reads `d_y` `[H, W, N, C]`, `filter` `[R, S, C, K]` and, where the flags say so and in this order, `addend`, the
/// value `pre` before the PReLU, both `[H, W, N, C]` of the input's size, and its `slope` `[C]`. Writes `d_x` (if it is
/// kept or there is no slope), `d_pre` of the same size and `d_slope` `[C]` (if there is a slope).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dBackwardData {
    /// Stride of the forward pass.
    pub stride: usize,
    /// Padding of the forward pass.
    pub padding: usize,
    /// Height and width of the input.
    pub size: [usize; 2],
    /// Whether a gradient from elsewhere is added.
    pub addend: bool,
    /// Whether the backward pass of a PReLU is fused: its input and slope are read.
    pub slope: bool,
    /// Whether the gradient before the fused pass is written.
    pub keep: bool,
}

impl Conv2dBackwardData {
    /// A backward pass with nothing fused into it.
    pub fn plain(stride: usize, padding: usize, size: [usize; 2], addend: bool) -> Self {
        Conv2dBackwardData { stride, padding, size, addend, slope: false, keep: false }
    }

    /// The value before the fused PReLU among the operands, its slope follows.
    pub(crate) fn pre(&self) -> usize {
        2 + usize::from(self.addend)
    }

    /// Geometry of the forward pass, from the shapes of `d_y` and `filter`.
    ///
    /// # Errors
    /// [`Error`], when the shapes do not fit each other.
    pub fn geometry(&self, d_y: &Shape, filter: &Shape) -> Result<Conv2dGeometry, Error> {
        let [_, _, batch, _] = d_y.expect(self.name(), "d_y", [Dim::H, Dim::W, Dim::N, Dim::C])?;
        let [_, _, inputs, _] = filter.expect(self.name(), "filter", [Dim::R, Dim::S, Dim::C, Dim::K])?;
        let x = Shape::activation(self.size[0], self.size[1], batch, inputs);
        let geometry = Conv2dGeometry::new(self.name(), &x, filter, self.stride, self.padding)?;
        d_y.expect_equal(self.name(), "d_y", &geometry.output())?;
        Ok(geometry)
    }
}

impl Operator for Conv2dBackwardData {
    fn name(&self) -> &'static str {
        "conv2d_backward_data"
    }

    fn outputs(&self, reads: &[&Type], _updates: &[&Type]) -> Result<Vec<Type>, Error> {
        let count = self.pre() + 2 * usize::from(self.slope);
        if reads.len() != count || self.keep && !self.slope {
            let message = format!("expected {count} operands, found {} for {self:?}", reads.len());
            return Err(Error::Attribute { op: self.name(), message });
        }
        let dtype = activation_dtype(self, reads)?;
        let geometry = self.geometry(&reads[0].shape, &reads[1].shape)?;
        let x = Shape::activation(geometry.height, geometry.width, geometry.batch, geometry.inputs);
        if self.addend {
            reads[2].shape.expect_equal(self.name(), "addend", &x)?;
        }
        let d_x = Type { shape: x, dtype };
        if !self.slope {
            return Ok(vec![d_x]);
        }
        let (pre, slope) = (self.pre(), Shape::vector(Dim::C, geometry.inputs));
        reads[pre].shape.expect_equal(self.name(), "pre", &d_x.shape)?;
        reads[pre + 1].shape.expect_equal(self.name(), "slope", &slope)?;
        let d_pre = d_x.clone();
        Ok(self.keep.then_some(d_x).into_iter().chain([d_pre, Type::f32(slope)]).collect())
    }

    /// All but the slope.
    fn may_be_bf16(&self, read: usize) -> bool {
        read <= self.pre()
    }

    fn flops(&self, reads: &[&Type], writes: &[&Type]) -> Flops {
        let fused = if self.slope { 3 * writes[0].shape.elements() as u64 } else { 0 };
        self.geometry(&reads[0].shape, &reads[1].shape)
            .map(|geometry| geometry.flops())
            .map(|flops| Flops { nominal: flops.nominal + fused, useful: flops.useful + fused })
            .unwrap_or_default()
    }

    fn reference(&self, reads: &[&Array], _updates: &mut [Array]) -> Vec<Array> {
        let (d_y, filter) = (reads[0], reads[1]);
        let geometry = self.geometry(&d_y.shape, &filter.shape).expect("shapes that passed the shape rule");
        let x = Shape::activation(geometry.height, geometry.width, geometry.batch, geometry.inputs);
        let mut d_x = if self.addend { reads[2].clone() } else { Array::zeros(x) };
        geometry.for_each_product(|i, j, o| d_x.values[i] += d_y.values[o] * filter.values[j]);
        if !self.slope {
            return vec![d_x];
        }
        let prelu = PreluBackward.reference(&[&d_x, reads[self.pre()], reads[self.pre() + 1]], &mut []);
        self.keep.then_some(d_x).into_iter().chain(prelu).collect()
    }
}

/// `d_filter = Σ xᵀ · d_y` and `d_bias = Σ d_y`, the gradients of [`Conv2dForward`] with respect to its parameters.
///
/// # Shapes
/// Reads `x`, `d_y` `[H, W, N, C]`; writes `d_filter` `[R, S, C, K]` and, where flagged, `d_bias` `[K]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dBackwardWeight {
    /// Stride of the forward pass.
    pub stride: usize,
    /// Padding of the forward pass.
    pub padding: usize,
    /// Whether the gradient of a bias is written.
    pub bias: bool,
    /// Height and width of the filter.
    pub taps: [usize; 2],
}

impl Conv2dBackwardWeight {
    /// Geometry of the forward pass, from the shapes of `x` and `d_y`.
    ///
    /// # Errors
    /// [`Error`], when the shapes do not fit each other.
    pub fn geometry(&self, x: &Shape, d_y: &Shape) -> Result<Conv2dGeometry, Error> {
        let [_, _, _, inputs] = x.expect(self.name(), "input", [Dim::H, Dim::W, Dim::N, Dim::C])?;
        let [_, _, _, outputs] = d_y.expect(self.name(), "d_y", [Dim::H, Dim::W, Dim::N, Dim::C])?;
        let filter = Shape::filter(self.taps[0], self.taps[1], inputs, outputs);
        let geometry = Conv2dGeometry::new(self.name(), x, &filter, self.stride, self.padding)?;
        d_y.expect_equal(self.name(), "d_y", &geometry.output())?;
        Ok(geometry)
    }
}

impl Operator for Conv2dBackwardWeight {
    fn name(&self) -> &'static str {
        "conv2d_backward_weight"
    }

    fn outputs(&self, reads: &[&Type], _updates: &[&Type]) -> Result<Vec<Type>, Error> {
        let [x, d_y] = super::operands(self.name(), reads)?;
        activation_dtype(self, reads)?;
        let geometry = self.geometry(&x.shape, &d_y.shape)?;
        let filter = Shape::filter(self.taps[0], self.taps[1], geometry.inputs, geometry.outputs);
        let bias = self.bias.then(|| Shape::vector(Dim::K, geometry.outputs));
        Ok([Some(filter), bias].into_iter().flatten().map(Type::f32).collect())
    }

    fn may_be_bf16(&self, _read: usize) -> bool {
        true
    }

    fn flops(&self, reads: &[&Type], _writes: &[&Type]) -> Flops {
        self.geometry(&reads[0].shape, &reads[1].shape).map(|geometry| geometry.flops()).unwrap_or_default()
    }

    fn reference(&self, reads: &[&Array], _updates: &mut [Array]) -> Vec<Array> {
        let (x, d_y) = (reads[0], reads[1]);
        let geometry = self.geometry(&x.shape, &d_y.shape).expect("shapes that passed the shape rule");
        let mut d_filter = Array::zeros(Shape::filter(self.taps[0], self.taps[1], geometry.inputs, geometry.outputs));
        geometry.for_each_product(|i, j, o| d_filter.values[j] += x.values[i] * d_y.values[o]);
        if !self.bias {
            return vec![d_filter];
        }
        let mut d_bias = Array::zeros(Shape::vector(Dim::K, geometry.outputs));
        d_y.values.iter().enumerate().for_each(|(o, d)| d_bias.values[o % geometry.outputs] += d);
        vec![d_filter, d_bias]
    }
}
