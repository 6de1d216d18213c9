//! Gradient descent on the whole parameter block in one step.

use super::Op;
use super::margin_softmax::at_counter;
use super::{Array, Flops, Operator, operands};
use crate::error::Error;
use crate::shape::{DType, Dim, Shape, Type};
use half::bf16;
use std::ops::Range;

/// Update rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// `v = μ v + g`, `p −= rate · v` (or, with Nesterov, `p −= rate · (g + μ v)`); `g` includes the weight decay.
    Sgd {
        /// `μ`.
        momentum: f32,
        /// Whether the step looks ahead.
        nesterov: bool,
    },
    /// Adam; with `decoupled` weight decay AdamW.
    ///
    /// # Source
    /// Kingma and Ba, ICLR 2015, algorithm 1; Loshchilov and Hutter, ICLR 2019, algorithm 2.
    Adam {
        /// Decay of the mean of the gradient.
        beta1: f32,
        /// Decay of the mean of its square.
        beta2: f32,
        /// Added to the root.
        epsilon: f32,
        /// Whether weight decay acts on the parameter rather than on the gradient.
        decoupled: bool,
    },
}

impl Rule {
    /// Names of the state blocks, each as long as the parameters.
    pub fn states(&self) -> &'static [&'static str] {
        match self {
            Rule::Sgd { .. } => &["momentum"],
            Rule::Adam { .. } => &["first_moment", "second_moment"],
        }
    }
}

/// Parameters that share weight decay and rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Elements of the parameter block.
    pub range: Range<usize>,
    /// Weight decay.
    pub decay: f32,
    /// Multiple of the learning rate.
    pub rate: f32,
}

/// Updates all parameters.
///
/// # Shapes
/// Reads `gradients` `[length]`, `gradient_norm` `[1]`, `rates` `[steps]`, `counter` `u32 [1]`; updates `parameters`
/// and the rule's states, all `[length]`. Where elements have a copy, it is updated, too: bf16 `[elements]`. Elements
/// outside every group stay.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer {
    /// Update rule.
    pub rule: Rule,
    /// Disjoint, ascending ranges of the block.
    pub groups: Vec<Group>,
    /// Gradients are scaled down to this norm, if theirs is larger.
    pub clip: Option<f32>,
    /// Elements of the parameters that have a copy in bf16.
    pub copied: Option<Range<usize>>,
}

impl Optimizer {
    /// What gradients of this norm are multiplied with.
    pub fn clip_factor(&self, norm: f64) -> f64 {
        match self.clip {
            Some(clip) if norm > f64::from(clip) => f64::from(clip) / norm,
            _ => 1.0,
        }
    }
}

impl Operator for Optimizer {
    fn name(&self) -> &'static str {
        "optimizer"
    }

    fn outputs(&self, reads: &[&Type], updates: &[&Type]) -> Result<Vec<Type>, Error> {
        let op = self.name();
        let [gradients, norm, rates, counter] = operands(op, reads)?;
        counter.expect_dtype(op, "counter", DType::U32)?;
        for (read, operand) in [(gradients, "gradients"), (norm, "gradient_norm"), (rates, "rates")] {
            read.expect_dtype(op, operand, DType::F32)?;
        }
        let [length] = gradients.shape.expect(op, "gradients", [Dim::Length])?;
        norm.shape.expect(op, "gradient_norm", [Dim::Length])?;
        rates.shape.expect(op, "rates", [Dim::Steps])?;
        counter.shape.expect(op, "counter", [Dim::Length])?;
        let blocks = 1 + self.rule.states().len();
        let expected = blocks + usize::from(self.copied.is_some());
        if updates.len() != expected {
            let message = format!("expected {expected} updated blocks, found {}", updates.len());
            return Err(Error::Attribute { op, message });
        }
        if let Some(copied) = &self.copied {
            if copied.start > copied.end || copied.end > length {
                let message = format!("copied: expected a range in 0..{length}, found {copied:?}");
                return Err(Error::Attribute { op, message });
            }
            updates[blocks].expect_dtype(op, "copy", DType::Bf16)?;
            updates[blocks].shape.expect_equal(op, "copy", &Shape::vector(Dim::Length, copied.len()))?;
        }
        for update in &updates[..blocks] {
            update.expect_dtype(op, "parameters", DType::F32)?;
            update.shape.expect_equal(op, "parameters", &gradients.shape)?;
        }
        let mut end = 0;
        for group in &self.groups {
            if group.range.start < end || group.range.end < group.range.start || group.range.end > length {
                let message =
                    format!("groups: expected disjoint ascending ranges in 0..{length}, found {:?}", group.range);
                return Err(Error::Attribute { op, message });
            }
            end = group.range.end;
        }
        Ok(vec![])
    }

    fn flops(&self, reads: &[&Type], _writes: &[&Type]) -> Flops {
        let per_parameter = if matches!(self.rule, Rule::Sgd { .. }) { 8 } else { 16 };
        Flops::exactly(per_parameter * reads[0].shape.elements())
    }

    fn reference(&self, reads: &[&Array], updates: &mut [Array]) -> Vec<Array> {
        let counter = reads[3].values[0];
        let factor = self.clip_factor(reads[1].values[0]);
        let base_rate = at_counter(&reads[2].values, counter as usize);
        let Some((parameters, rest)) = updates.split_first_mut() else { return vec![] };
        let (states, copy) = rest.split_at_mut(self.rule.states().len());
        for group in &self.groups {
            let rate = base_rate * f64::from(group.rate);
            let decay = f64::from(group.decay);
            for i in group.range.clone() {
                let p = &mut parameters.values[i];
                let g = reads[0].values[i] * factor;
                match self.rule {
                    Rule::Sgd { momentum, nesterov } => {
                        let (g, momentum, v) = (g + decay * *p, f64::from(momentum), &mut states[0].values[i]);
                        *v = momentum * *v + g;
                        *p -= rate * if nesterov { g + momentum * *v } else { *v };
                    }
                    Rule::Adam { beta1, beta2, epsilon, decoupled } => {
                        let (beta1, beta2) = (f64::from(beta1), f64::from(beta2));
                        let g = if decoupled { g } else { g + decay * *p };
                        let step = counter as i32 + 1;
                        states[0].values[i] = beta1 * states[0].values[i] + (1.0 - beta1) * g;
                        states[1].values[i] = beta2 * states[1].values[i] + (1.0 - beta2) * g * g;
                        let mean = states[0].values[i] / (1.0 - beta1.powi(step));
                        let square = states[1].values[i] / (1.0 - beta2.powi(step));
                        if decoupled {
                            *p -= rate * decay * *p;
                        }
                        *p -= rate * mean / (square.sqrt() + f64::from(epsilon));
                    }
                }
            }
        }
        if let (Some(copied), [copy]) = (&self.copied, copy) {
            for i in self.groups.iter().flat_map(|group| group.range.clone()).filter(|i| copied.contains(i)) {
                copy.values[i - copied.start] = f64::from(bf16::from_f32(parameters.values[i] as f32));
            }
        }
        vec![]
    }

    fn keeping_copy(&self, elements: Range<usize>) -> Option<Op> {
        Some(Optimizer { copied: Some(elements), ..self.clone() }.into())
    }
}
