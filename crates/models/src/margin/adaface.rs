//! AdaFace: the margin follows from how long an embedding is beside the others of its batch.

use super::{AdaptiveMargin, Formula, Loss, OTHER_CLASSES, Parameter, SCALE, Setting};
use sphereface_tensor::op::{MarginSoftmax, RowModifier, Scale};
use std::sync::Arc;

pub(super) const LOSS: Loss = Loss {
    key: "adaface",
    title: "AdaFace",
    formulas: &[
        OTHER_CLASSES,
        Formula {
            text: "z_y = s (cos(θ_y − m u) − m − m u)",
            mathml: "<math><msub><mi>z</mi><mi>y</mi></msub><mo>=</mo><mi>s</mi><mtext>\u{2009}</mtext><mo>(</mo>\
                 <mi>cos</mi><mtext>\u{2009}</mtext><mo>(</mo><msub><mi>θ</mi><mi>y</mi></msub><mo>−</mo><mi>m</mi>\
                 <mi>u</mi><mo>)</mo><mo>−</mo><mi>m</mi><mo>−</mo><mi>m</mi><mi>u</mi><mo>)</mo></math>",
        },
        Formula {
            text: "u = h (‖x‖ − μ) / σ, at least −1 and at most 1; μ, σ of the batch’s lengths",
            mathml: "<math><mi>u</mi><mo>=</mo><mi>h</mi><mtext>\u{2009}</mtext><mfrac><mrow><mo>‖</mo><mi>x</mi>\
                 <mo>‖</mo><mo>−</mo><mi>μ</mi></mrow><mi>σ</mi></mfrac><mtext>, at least −1 and at most 1; </mtext>\
                 <mi>μ</mi><mtext>, </mtext><mi>σ</mi><mtext> of the batch’s lengths</mtext></math>",
        },
    ],
    explanation: "Images of which little can be made out have short embeddings. Among long ones (u near 1) those far from their class count \
                  more, by a margin on the cosine with a turn back; among short ones (u near −1) those that are near it count more, by a \
                  margin on the angle alone, so that what nobody can recognise disturbs less. No gradient goes by way of u. Curves show an \
                  embedding of mean length.",
    source: "Kim et al., AdaFace, CVPR 2022, section 3.3; mean and deviation of one batch, as the authors’ code has them unless told \
             otherwise",
    parameters: &[
        Parameter {
            symbol: "m",
            meaning: "the margin, 0 to 1",
            setting: Setting::Number { key: "m", mnist: 0.2, faces: 0.4, range: [0.0, 1.0] },
        },
        Parameter {
            symbol: "h",
            meaning: "how much of the spread of lengths u shows, 0 to 1",
            setting: Setting::Number { key: "h", mnist: 0.333, faces: 0.333, range: [0.0, 1.0] },
        },
        SCALE,
    ],
    margins: &[],
    annealed: false,
    published: None,
    make: |classes, v| {
        let [m, h] = [v[0], v[1]];
        let margin = AdaptiveMargin { angle: [0.0, -m], cosine: [m, m] };
        MarginSoftmax {
            modifier: Some(RowModifier::Length { spread: h as f32 }),
            ..MarginSoftmax::new(classes, Arc::new(margin), Scale::Constant(v[2] as f32))
        }
    },
};
