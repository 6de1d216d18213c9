//! SphereFace+: SphereFace whose class weights repel each other.

use super::{Formula, LENGTH, Loss, MULTIPLE, OTHER_CLASSES, Parameter, Setting, SphereFaceR};
use sphereface_tensor::op::{Gradient, MarginSoftmax, Scale};
use std::sync::Arc;

pub(super) const LOSS: Loss = Loss {
    key: "sphereface-plus",
    title: "SphereFace+",
    formulas: &[
        OTHER_CLASSES,
        Formula {
            text: "z_y = s ((−1)^k cos mθ_y − 2k) for k = ⌊mθ_y/π⌋",
            mathml: "<math><msub><mi>z</mi><mi>y</mi></msub><mo>=</mo><mi>s</mi><mtext>\u{2009}</mtext><mo>(</mo>\
                 <msup><mrow><mo>(</mo><mo>−</mo><mn>1</mn><mo>)</mo></mrow><mi>k</mi></msup><mtext>\u{2009}\
                 </mtext><mi>cos</mi><mtext>\u{2009}</mtext><mi>m</mi><msub><mi>θ</mi><mi>y</mi></msub><mo>−\
                 </mo><mn>2</mn><mi>k</mi><mo>)</mo><mtext>\u{2003}for\u{2002}</mtext><mi>k</mi><mo>=</mo>\
                 <mo>⌊</mo><mi>m</mi><msub><mi>θ</mi><mi>y</mi></msub><mo>/</mo><mi>π</mi><mo>⌋</mo></math>",
        },
        Formula {
            text: "E = mean of ∠(w_i, w_j)^−2 over i < j, and w E is added to the loss",
            mathml: "<math><mi>E</mi><mo>=</mo><mtext>mean of </mtext><msup><mrow><mo>∠</mo><mo>(</mo><msub><mi>w\
                 </mi><mi>i</mi></msub><mo>,</mo><msub><mi>w</mi><mi>j</mi></msub><mo>)</mo></mrow><mrow>\
                 <mo>−</mo><mn>2</mn></mrow></msup><mtext> over </mtext><mi>i</mi><mo>&lt;</mo><mi>j</mi>\
                 </math>",
        },
    ],
    explanation: "The margin draws the embeddings of a class together; what keeps classes apart here is an energy, as if their weights were \
                  charges on the sphere: it grows without bound as two of them come close. The rest is SphereFace-R v0 with embeddings of \
                  length s, trained by the detached gradient. The energy of C classes takes C² angles.",
    source: "Liu et al., Learning towards Minimum Hyperspherical Energy, NeurIPS 2018, equation 1 in its angular form, with SphereFace",
    parameters: &[
        MULTIPLE,
        LENGTH,
        Parameter {
            symbol: "w",
            meaning: "weight of the energy, at least 0",
            setting: Setting::Number { key: "w", mnist: 1.0, faces: 1.0, range: [0.0, 1e3] },
        },
    ],
    margins: &[],
    annealed: false,
    published: None,
    make: |classes, v| MarginSoftmax {
        gradient: Gradient::Detached,
        energy: v[2] as f32,
        ..MarginSoftmax::new(classes, Arc::new(SphereFaceR::v0(v[0])), Scale::Constant(v[1] as f32))
    },
};
