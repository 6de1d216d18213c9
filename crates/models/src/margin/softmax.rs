//! The original softmax: inner products, nothing normalised, no margin.

use super::{Formula, Loss};
use sphereface_tensor::op::{Bent, Margin, MarginSoftmax, Scale};
use std::sync::Arc;

pub(super) const LOSS: Loss = Loss {
    key: "softmax",
    title: "Original softmax",
    formulas: &[Formula {
        text: "z_j = ‖w_j‖ ‖x‖ cos θ_j",
        mathml: "<math><msub><mi>z</mi><mi>j</mi></msub><mo>=</mo><mo>‖</mo><msub><mi>w</mi><mi>j</mi></msub><mo>‖</mo>\
                 <mtext>\u{2009}</mtext><mo>‖</mo><mi>x</mi><mo>‖</mo><mtext>\u{2009}</mtext><mi>cos</mi><mtext>\u{2009}</mtext>\
                 <msub><mi>θ</mi><mi>j</mi></msub></math>",
    }],
    explanation: "The logit of a class is the inner product of the embedding with the class’s weight. It grows with the weight’s \
                  length and falls with the angle, so a class can win by a long weight as well as by a small angle. Classes \
                  1 and 2 meet where ‖w₁‖ cos θ₁ = ‖w₂‖ cos θ₂, and the one with the longer weight takes more room.",
    source: "Liu et al., CVPR 2017, section 3.1, equation 4, without bias",
    parameters: &[],
    margins: &[],
    annealed: false,
    published: Some(0.9775),
    make: |classes, _| MarginSoftmax::new(classes, Arc::new(OriginalSoftmax), Scale::InnerProduct),
};

/// `h(c) = c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginalSoftmax;

impl Margin for OriginalSoftmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn target(&self, cos_theta: f64, _lambda: f64) -> Bent {
        Bent { value: cos_theta, slope: 1.0 }
    }
}
