//! Builds a plan: forward steps as they are called, backward steps by one walk back over them.

use crate::error::Error;
use crate::fuse::fuse;
use crate::op::{Add, Conv2dForward, LinearForward, MarginSoftmax, MarginSoftmaxForward, Op, PreluForward};
use crate::parameters::ParameterSet;
use crate::plan::{Buffer, BufferId, Place, Plan, Step};
use crate::shape::{Dim, Shape, Type};

/// Name of the block that holds all parameters.
pub const PARAMETERS: &str = "parameters";
/// Name of the block that holds their gradients.
pub const GRADIENTS: &str = "gradients";

/// What the head writes besides its gradient's statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadOutput {
    /// Loss of each row, `[N]`.
    pub loss: BufferId,
    /// `‖x‖`, `[N]`.
    pub norm: BufferId,
    /// Bits of [`Hit`](crate::op::Hit), `u32 [N]`.
    pub hits: BufferId,
}

/// A plan under construction. Every buffer but the updated ones is written once.
#[derive(Debug)]
pub struct PlanBuilder<'p> {
    parameters: &'p ParameterSet,
    plan: Plan,
    label: String,
}

impl<'p> PlanBuilder<'p> {
    /// An empty plan over these parameters.
    pub fn new(parameters: &'p ParameterSet) -> Self {
        let mut builder = PlanBuilder { parameters, plan: Plan::default(), label: String::new() };
        let block = builder.block(PARAMETERS);
        for parameter in parameters.iter() {
            builder.plan.buffers.push(Buffer {
                name: parameter.name.clone(),
                kind: Type::f32(parameter.shape.clone()),
                place: Place::View { of: block, offset: parameter.offset },
            });
        }
        builder
    }

    /// The layer to which the next steps belong.
    pub fn label(&mut self, label: impl Into<String>) {
        self.label = label.into();
    }

    /// A persistent block as long as the parameters.
    pub fn block(&mut self, name: &str) -> BufferId {
        self.persistent(name, Type::f32(Shape::vector(Dim::Length, self.parameters.length())))
    }

    /// The persistent buffer of this name, declared on first use. Backends refuse a name with two types.
    pub fn persistent(&mut self, name: &str, kind: Type) -> BufferId {
        let is_it = |b: &Buffer| b.name == name && b.place == Place::Persistent && b.kind == kind;
        let known = self.plan.buffers.iter().position(is_it);
        BufferId(known.unwrap_or_else(|| {
            self.plan.buffers.push(Buffer { name: name.into(), kind, place: Place::Persistent });
            self.plan.buffers.len() - 1
        }))
    }

    /// The parameter of this name.
    ///
    /// # Errors
    /// [`Error::Buffer`], when there is none.
    pub fn parameter(&self, name: &str) -> Result<BufferId, Error> {
        let is_it = |b: &Buffer| b.name == name && matches!(b.place, Place::View { .. });
        self.plan.buffers.iter().position(is_it).map(BufferId).ok_or_else(|| Error::Buffer {
            name: name.into(),
            message: "expected a parameter, found none of this name".into(),
        })
    }

    /// Shape of a buffer.
    pub fn shape(&self, buffer: BufferId) -> &Shape {
        &self.plan.buffer(buffer).kind.shape
    }

    /// Makes a written buffer persistent under a name, so that it can be downloaded.
    pub fn keep(&mut self, buffer: BufferId, name: &str) {
        let buffer = &mut self.plan.buffers[buffer.0];
        (buffer.name, buffer.place) = (name.into(), Place::Persistent);
    }

    /// Appends a step and returns the buffers it writes.
    ///
    /// # Errors
    /// [`Error`], when the operands do not pass the operator's shape rule.
    pub fn push(
        &mut self,
        op: impl Into<Op>,
        reads: &[BufferId],
        updates: &[BufferId],
    ) -> Result<Vec<BufferId>, Error> {
        let op = op.into();
        for &id in reads.iter().chain(updates) {
            let operand = self.plan.buffer(id);
            operand.kind.shape.expect_possible(&operand.name)?;
        }
        let kinds = op.outputs(&self.plan.kinds(reads), &self.plan.kinds(updates))?;
        kinds.iter().try_for_each(|kind| kind.shape.expect_possible(op.name()))?;
        let first = self.plan.buffers.len();
        let writes: Vec<BufferId> = (first..first + kinds.len()).map(BufferId).collect();
        for (kind, id) in kinds.into_iter().zip(&writes) {
            self.plan.buffers.push(Buffer { name: format!("%{}", id.0), kind, place: Place::Arena });
        }
        self.plan.steps.push(Step {
            op,
            label: self.label.clone(),
            reads: reads.to_vec(),
            writes: writes.clone(),
            updates: updates.to_vec(),
        });
        Ok(writes)
    }

    /// Convolution of `x` with a filter and, possibly, a bias.
    ///
    /// # Errors
    /// [`Error`], when shapes, stride and padding do not fit.
    pub fn conv2d(
        &mut self,
        x: BufferId,
        filter: BufferId,
        bias: Option<BufferId>,
        stride: usize,
        padding: usize,
    ) -> Result<BufferId, Error> {
        let reads: Vec<BufferId> = [Some(x), Some(filter), bias].into_iter().flatten().collect();
        Ok(self.push(Conv2dForward::plain(stride, padding, bias.is_some()), &reads, &[])?[0])
    }

    /// Parametric rectifier.
    ///
    /// # Errors
    /// [`Error`], when there is not one slope a channel.
    pub fn prelu(&mut self, x: BufferId, slope: BufferId) -> Result<BufferId, Error> {
        Ok(self.push(PreluForward, &[x, slope], &[])?[0])
    }

    /// Sum of two activations.
    ///
    /// # Errors
    /// [`Error`], when their shapes differ.
    pub fn add(&mut self, left: BufferId, right: BufferId) -> Result<BufferId, Error> {
        Ok(self.push(Add, &[left, right], &[])?[0])
    }

    /// Fully connected layer.
    ///
    /// # Errors
    /// [`Error`], when the weight does not cover the whole activation.
    pub fn linear(&mut self, x: BufferId, weight: BufferId, bias: BufferId) -> Result<BufferId, Error> {
        Ok(self.push(LinearForward, &[x, weight, bias], &[])?[0])
    }

    /// Margin-softmax head; operands as in [`MarginSoftmaxForward`].
    ///
    /// # Errors
    /// [`Error`], when the operands do not fit.
    pub fn margin_softmax(
        &mut self,
        head: MarginSoftmax,
        operands: impl AsRef<[BufferId]>,
    ) -> Result<HeadOutput, Error> {
        let writes = self.push(MarginSoftmaxForward(head), operands.as_ref(), &[])?;
        Ok(HeadOutput { loss: writes[0], norm: writes[3], hits: writes[5] })
    }

    /// Walks back over the steps and appends those that compute the gradient of `loss` with respect to every
    /// parameter; returns the block of gradients.
    ///
    /// # Errors
    /// [`Error::NoGradient`], when a parameter does not influence the loss; [`Error::NotDifferentiable`].
    pub fn backward(&mut self, loss: BufferId) -> Result<BufferId, Error> {
        let buffers = self.plan.buffers.len();
        let mut trained: Vec<bool> =
            self.plan.buffers.iter().map(|buffer| matches!(buffer.place, Place::View { .. })).collect();
        let forward = self.plan.steps.clone();
        for step in &forward {
            let flows = step.reads.iter().any(|read| trained[read.0]);
            step.writes.iter().for_each(|write| trained[write.0] = flows);
        }
        let mut tape = Tape { builder: self, trained, gradients: vec![None; buffers] };
        for step in forward.iter().rev() {
            let reached = step.writes.iter().any(|&write| write == loss || tape.gradient(write).is_some());
            if reached {
                tape.builder.label.clone_from(&step.label);
                step.op.adjoint(step, &mut tape)?;
            }
        }
        let gradients = tape.gradients;
        self.label = "update".into();
        let block = self.block(GRADIENTS);
        for parameter in self.parameters.iter() {
            let id = self.parameter(&parameter.name)?;
            let name = parameter.name.clone();
            let gradient = gradients[id.0].ok_or(Error::NoGradient { parameter: name })?;
            let buffer = &mut self.plan.buffers[gradient.0];
            if buffer.place != Place::Arena {
                let message = "expected a gradient of its own, found one shared with another parameter".into();
                return Err(Error::Buffer { name: parameter.name.clone(), message });
            }
            buffer.name = format!("d_{}", parameter.name);
            buffer.place = Place::View { of: block, offset: parameter.offset };
        }
        Ok(block)
    }

    /// Fuses what belongs together and returns the plan.
    pub fn finish(self) -> Plan {
        fuse(self.plan)
    }
}

/// The gradients collected so far on the walk back, as an operator's adjoint sees them.
#[derive(Debug)]
pub struct Tape<'a, 'p> {
    builder: &'a mut PlanBuilder<'p>,
    trained: Vec<bool>,
    gradients: Vec<Option<BufferId>>,
}

impl Tape<'_, '_> {
    /// Whether anything needs the gradient of this buffer.
    pub fn wants(&self, buffer: BufferId) -> bool {
        self.trained[buffer.0]
    }

    /// The complete gradient of a buffer that a step has written, if the loss depends on it.
    pub fn gradient(&self, written: BufferId) -> Option<BufferId> {
        self.gradients[written.0]
    }

    /// Takes what has been contributed to a gradient, for an operator that can add to it by itself.
    pub fn take(&mut self, buffer: BufferId) -> Option<BufferId> {
        self.gradients[buffer.0].take()
    }

    /// Shape of a buffer.
    pub fn shape(&self, buffer: BufferId) -> &Shape {
        self.builder.shape(buffer)
    }

    /// Appends a step of the backward pass.
    ///
    /// # Errors
    /// [`Error`], when the operands do not pass the operator's shape rule.
    pub fn emit(&mut self, op: impl Into<Op>, reads: &[BufferId]) -> Result<Vec<BufferId>, Error> {
        self.builder.push(op, reads, &[])
    }

    /// Adds a contribution to the gradient of a buffer.
    ///
    /// # Errors
    /// [`Error`], when the contributions cannot be added.
    pub fn contribute(&mut self, buffer: BufferId, gradient: BufferId) -> Result<(), Error> {
        if !self.wants(buffer) {
            return Ok(());
        }
        let sum = match self.take(buffer) {
            Some(before) => self.builder.add(before, gradient)?,
            None => gradient,
        };
        self.gradients[buffer.0] = Some(sum);
        Ok(())
    }
}
