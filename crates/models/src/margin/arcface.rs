//! ArcFace: a margin is added to the target's angle.

use super::{CombinedMargin, Formula, Loss, OTHER_CLASSES, Parameter, Past, SCALE, Setting};
use sphereface_tensor::op::{MarginSoftmax, Scale};
use std::sync::Arc;

/// What `h` may be where the angle with its margin is more than a half turn.
const PASTS: [Past; 3] = [Past::Shifted, Past::Clamped, Past::None];

pub(super) const LOSS: Loss = Loss {
    key: "arcface",
    title: "ArcFace",
    formulas: &[
        OTHER_CLASSES,
        Formula {
            text: "z_y = s cos(θ_y + m) for θ_y + m ≤ π",
            mathml: "<math><msub><mi>z</mi><mi>y</mi></msub><mo>=</mo><mi>s</mi><mtext>\u{2009}</mtext><mi>cos\
                 </mi><mtext>\u{2009}</mtext><mo>(</mo><msub><mi>θ</mi><mi>y</mi></msub><mo>+</mo><mi>m</mi>\
                 <mo>)</mo><mtext>\u{2003}for\u{2002}</mtext><msub><mi>θ</mi><mi>y</mi></msub><mo>+</mo><mi>m\
                 </mi><mo>≤</mo><mi>π</mi></math>",
        },
        Formula {
            text: "z_y = s (cos θ_y − m sin m) past it",
            mathml: "<math><msub><mi>z</mi><mi>y</mi></msub><mo>=</mo><mi>s</mi><mtext>\u{2009}</mtext><mo>(</mo>\
                 <mi>cos</mi><mtext>\u{2009}</mtext><msub><mi>θ</mi><mi>y</mi></msub><mo>−</mo><mi>m</mi>\
                 <mtext>\u{2009}</mtext><mi>sin</mi><mtext>\u{2009}</mtext><mi>m</mi><mo>)</mo>\
                 <mtext>\u{2003}past it</mtext></math>",
        },
    ],
    explanation: "A constant angle m is added to that of the true class: the gap it leaves between two classes is the same everywhere on \
                  the sphere. Where the sum passes 180° its cosine would rise again, so the authors’ code goes on with a shifted cosine; \
                  some code holds −1 there, and some does nothing. Embeddings and class weights have length 1.",
    source: "Deng et al., ArcFace, CVPR 2019, equation 3; past 180° as in the authors’ code",
    parameters: &[
        Parameter {
            symbol: "m",
            meaning: "what is added to the angle of the true class, in radians, 0 to 1.5",
            setting: Setting::Number { key: "m", mnist: 0.2, faces: 0.5, range: [0.0, 1.5] },
        },
        SCALE,
        Parameter {
            symbol: "past",
            meaning: "what takes its place past 180°: shifted, clamped (to −1) or none",
            setting: Setting::Choice { key: "past", names: &["shifted", "clamped", "none"] },
        },
    ],
    margins: &[],
    annealed: false,
    published: None,
    make: |classes, v| {
        let margin = CombinedMargin::new([1.0, v[0], 0.0], PASTS[v[2] as usize]);
        MarginSoftmax::new(classes, Arc::new(margin), Scale::Constant(v[1] as f32))
    },
};
