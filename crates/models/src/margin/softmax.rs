//! The original softmax: inner products, nothing normalised, no margin.

use super::Loss;
use sphereface_tensor::op::{Margin, Scale, TargetLogit};
use std::sync::Arc;

pub(super) const LOSS: Loss = Loss {
    key: "softmax",
    title: "Original softmax",
    formula: "z_j = ‖w_j‖ ‖x‖ cos θ_j",
    source: "Liu et al., CVPR 2017, section 3.1 (without bias)",
    annealed: false,
    head: |_| (Arc::new(OriginalSoftmax), Scale::InnerProduct),
};

/// `h(c) = c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginalSoftmax;

impl Margin for OriginalSoftmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn target(&self, cos_theta: f64, _lambda: f64) -> TargetLogit {
        TargetLogit { value: cos_theta, slope: 1.0 }
    }
}
