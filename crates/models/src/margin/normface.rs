//! NormFace: embeddings of length 1, too, so that cosines alone are the logits.

use super::{Formula, Loss, ModifiedSoftmax, Parameter, Setting};
use sphereface_tensor::op::{MarginSoftmax, Scale};
use std::sync::Arc;

pub(super) const LOSS: Loss = Loss {
    key: "normface",
    title: "NormFace",
    formulas: &[Formula {
        text: "z_j = s cos θ_j",
        mathml: "<math><msub><mi>z</mi><mi>j</mi></msub><mo>=</mo><mi>s</mi><mtext>\u{2009}</mtext><mi>cos\
                 </mi><mtext>\u{2009}</mtext><msub><mi>θ</mi><mi>j</mi></msub></math>",
    }],
    explanation: "Embeddings are brought to length 1 as class weights are, so that a network cannot lower the loss by making them longer. \
                  Cosines are at most 1 apart from 0, too little for a softmax of many classes, so a constant s multiplies them. There is no \
                  margin: classes 1 and 2 meet half-way between their weights.",
    source: "Wang et al., NormFace, ACM MM 2017, section 3.3; as written in Deng et al., CVPR 2019, equation 2",
    parameters: &[Parameter {
        symbol: "s",
        meaning: "scale that takes the place of the embedding’s length, above 0",
        setting: Setting::Number { key: "s", mnist: 10.0, faces: 30.0, range: [1e-3, 1e4] },
    }],
    margins: &[],
    annealed: false,
    published: None,
    make: |classes, v| MarginSoftmax::new(classes, Arc::new(ModifiedSoftmax), Scale::Constant(v[0] as f32)),
};
