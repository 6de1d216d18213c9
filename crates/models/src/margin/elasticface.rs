//! ElasticFace: a margin that is drawn for each image.

use super::{AdaptiveMargin, Formula, Loss, OTHER_CLASSES, Parameter, SCALE, Setting};
use sphereface_tensor::op::{MarginSoftmax, RowModifier, Scale};
use std::sync::Arc;

pub(super) const LOSS: Loss = Loss {
    key: "elasticface",
    title: "ElasticFace",
    formulas: &[
        OTHER_CLASSES,
        Formula {
            text: "z_y = s cos(θ_y + m_i), or s (cos θ_y − m_i)",
            mathml: "<math><msub><mi>z</mi><mi>y</mi></msub><mo>=</mo><mi>s</mi><mtext>\u{2009}</mtext><mi>cos\
                 </mi><mtext>\u{2009}</mtext><mo>(</mo><msub><mi>θ</mi><mi>y</mi></msub><mo>+</mo><msub><mi>m</mi>\
                 <mi>i</mi></msub><mo>)</mo><mtext>, or </mtext><mi>s</mi><mtext>\u{2009}</mtext><mo>(</mo><mi>cos\
                 </mi><mtext>\u{2009}</mtext><msub><mi>θ</mi><mi>y</mi></msub><mo>−</mo><msub><mi>m</mi><mi>i\
                 </mi></msub><mo>)</mo></math>",
        },
        Formula {
            text: "m_i drawn from N(m, σ²) for each image and step",
            mathml: "<math><msub><mi>m</mi><mi>i</mi></msub><mo>~</mo><mi>N</mi><mo>(</mo><mi>m</mi><mo>,</mo>\
                 <msup><mi>σ</mi><mn>2</mn></msup><mo>)</mo><mtext> for each image and step</mtext></math>",
        },
    ],
    explanation: "Classes differ in how much their images vary, and one margin for all of them is too strict for some. Here it is drawn \
                  anew each time an image is seen, so that the border between two classes gives way now and then. Curves show it at its mean. \
                  Where θ_y + m_i is past 180° the cosine stays at −1; the authors’ code has it rise.",
    source: "Boutros et al., ElasticFace, CVPR Workshops 2022, section 3, without the sorting of ElasticFace+",
    parameters: &[
        Parameter {
            symbol: "m",
            meaning: "mean of the margin, 0 to 1.5",
            setting: Setting::Number { key: "m", mnist: 0.2, faces: 0.5, range: [0.0, 1.5] },
        },
        Parameter {
            symbol: "σ",
            meaning: "its standard deviation, 0 to 0.2",
            setting: Setting::Number { key: "sigma", mnist: 0.04, faces: 0.0125, range: [0.0, 0.2] },
        },
        SCALE,
        Parameter {
            symbol: "on",
            meaning: "what the margin is added to or taken off: the angle or the cosine",
            setting: Setting::Choice { key: "on", names: &["angle", "cosine"] },
        },
    ],
    margins: &[],
    annealed: false,
    published: None,
    make: |classes, v| {
        let (drawn, none) = ([v[0], v[1]], [0.0, 0.0]);
        let [angle, cosine] = if v[3] == 0.0 { [drawn, none] } else { [none, drawn] };
        let margin = AdaptiveMargin { angle, cosine };
        MarginSoftmax {
            modifier: Some(RowModifier::Drawn),
            ..MarginSoftmax::new(classes, Arc::new(margin), Scale::Constant(v[2] as f32))
        }
    },
};
