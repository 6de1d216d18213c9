//! Modified softmax: unit-norm class weights, so that only angles and the embedding's norm count.

use super::{Formula, Loss};
use sphereface_tensor::op::{Bent, Margin, MarginSoftmax, Scale};
use std::sync::Arc;

pub(super) const LOSS: Loss = Loss {
    key: "modified",
    title: "Modified softmax",
    formulas: &[Formula {
        text: "z_j = ‖x‖ cos θ_j",
        mathml: "<math><msub><mi>z</mi><mi>j</mi></msub><mo>=</mo><mo>‖</mo><mi>x</mi><mo>‖</mo><mtext>\u{2009}</mtext>\
                 <mi>cos</mi><mtext>\u{2009}</mtext><msub><mi>θ</mi><mi>j</mi></msub></math>",
    }],
    explanation: "Every class weight is brought to length 1. No class can win by its length any more: the angle alone decides, \
                  and classes 1 and 2 meet half-way between their weights, where θ₁ = θ₂. But an embedding that is only \
                  just on the right side is as right as any other.",
    source: "Liu et al., CVPR 2017, section 3.1, equation 5",
    parameters: &[],
    margins: &[],
    annealed: false,
    published: Some(0.9847),
    make: |classes, _| MarginSoftmax::new(classes, Arc::new(ModifiedSoftmax), Scale::FeatureNorm),
};

/// `h(c) = c`, with unit-norm class weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModifiedSoftmax;

impl Margin for ModifiedSoftmax {
    fn name(&self) -> &'static str {
        "modified"
    }

    fn target(&self, cos_theta: f64, _lambda: f64) -> Bent {
        Bent { value: cos_theta, slope: 1.0 }
    }
}
