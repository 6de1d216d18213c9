//! Modified softmax: unit-norm class weights, so that only angles and the embedding's norm count.

use super::Loss;
use sphereface_tensor::op::{Margin, Scale, TargetLogit};
use std::sync::Arc;

pub(super) const LOSS: Loss = Loss {
    key: "modified",
    title: "Modified softmax",
    formula: "z_j = ‖x‖ cos θ_j",
    source: "Liu et al., CVPR 2017, section 3.1, equation 5",
    annealed: false,
    head: |_| (Arc::new(ModifiedSoftmax), Scale::FeatureNorm),
};

/// `h(c) = c`, with unit-norm class weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModifiedSoftmax;

impl Margin for ModifiedSoftmax {
    fn name(&self) -> &'static str {
        "modified"
    }

    fn target(&self, cos_theta: f64, _lambda: f64) -> TargetLogit {
        TargetLogit { value: cos_theta, slope: 1.0 }
    }
}
