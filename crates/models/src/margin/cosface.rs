//! CosFace: a margin is taken off the target's cosine.

use super::{CombinedMargin, Formula, Loss, OTHER_CLASSES, Parameter, Past, SCALE, Setting};
use sphereface_tensor::op::{MarginSoftmax, Scale};
use std::sync::Arc;

pub(super) const LOSS: Loss = Loss {
    key: "cosface",
    title: "CosFace",
    formulas: &[
        OTHER_CLASSES,
        Formula {
            text: "z_y = s (cos θ_y − m)",
            mathml: "<math><msub><mi>z</mi><mi>y</mi></msub><mo>=</mo><mi>s</mi><mtext>\u{2009}</mtext><mo>(</mo>\
                 <mi>cos</mi><mtext>\u{2009}</mtext><msub><mi>θ</mi><mi>y</mi></msub><mo>−</mo><mi>m</mi>\
                 <mo>)</mo></math>",
        },
    ],
    explanation: "The cosine to the true class has to be larger than any other by m. Near the class weight, where the cosine is flat, m \
                  asks for more of the angle than further out. Embeddings and class weights have length 1.",
    source: "Wang et al., CosFace, CVPR 2018, equation 4",
    parameters: &[
        Parameter {
            symbol: "m",
            meaning: "what the cosine of the true class has to be ahead by, 0 to 1",
            setting: Setting::Number { key: "m", mnist: 0.2, faces: 0.35, range: [0.0, 1.0] },
        },
        SCALE,
    ],
    margins: &[],
    annealed: false,
    published: None,
    make: |classes, v| {
        let margin = CombinedMargin::new([1.0, 0.0, v[0]], Past::None);
        MarginSoftmax::new(classes, Arc::new(margin), Scale::Constant(v[1] as f32))
    },
};
