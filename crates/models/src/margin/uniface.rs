//! UniFace: a yes or no for each class, with one threshold for all of them.

use super::sphereface2::{START, balanced_bias};
use super::{Formula, Loss, Parameter, SCALE, Setting, SphereFace2};
use sphereface_tensor::op::{Link, MarginSoftmax, Scale};
use std::sync::Arc;

pub(super) const LOSS: Loss = Loss {
    key: "uniface",
    title: "UniFace",
    formulas: &[
        Formula {
            text: "z_y = s (cos θ_y − m) + b",
            mathml: "<math><msub><mi>z</mi><mi>y</mi></msub><mo>=</mo><mi>s</mi><mtext>\u{2009}</mtext><mo>(</mo>\
                 <mi>cos</mi><mtext>\u{2009}</mtext><msub><mi>θ</mi><mi>y</mi></msub><mo>−</mo><mi>m</mi>\
                 <mo>)</mo><mo>+</mo><mi>b</mi></math>",
        },
        Formula {
            text: "z_j = s cos θ_j + b for j ≠ y",
            mathml: "<math><msub><mi>z</mi><mi>j</mi></msub><mo>=</mo><mi>s</mi><mtext>\u{2009}</mtext><mi>cos\
                 </mi><mtext>\u{2009}</mtext><msub><mi>θ</mi><mi>j</mi></msub><mo>+</mo><mi>b</mi>\
                 <mtext>\u{2003}for\u{2002}</mtext><mi>j</mi><mo>≠</mo><mi>y</mi></math>",
        },
        Formula {
            text: "L = log(1 + e^−z_y) + l Σ_{j≠y} log(1 + e^z_j)",
            mathml: "<math><mi>L</mi><mo>=</mo><mi>log</mi><mo>(</mo><mn>1</mn><mo>+</mo><msup><mi>e</mi><mrow>\
                 <mo>−</mo><msub><mi>z</mi><mi>y</mi></msub></mrow></msup><mo>)</mo><mo>+</mo><mi>l</mi>\
                 <mtext>\u{2009}</mtext><msub><mo>∑</mo><mrow><mi>j</mi><mo>≠</mo><mi>y</mi></mrow></msub>\
                 <mi>log</mi><mo>(</mo><mn>1</mn><mo>+</mo><msup><mi>e</mi><msub><mi>z</mi><mi>j</mi></msub>\
                 </msup><mo>)</mo></math>",
        },
    ],
    explanation: "All faces of one person shall be nearer to its class weight than a threshold, and all others farther: the same threshold \
                  for everybody, as a verification needs. It is the trained b. Where there are many classes, l makes the wrong ones count less; \
                  all of them take part here, while the paper also draws a sample. b starts where yes and no balance.",
    source: "Zhou et al., UniFace, ICCV 2023: unified cross-entropy with margin and balance, without its sampling",
    parameters: &[
        Parameter {
            symbol: "m",
            meaning: "what is taken off the cosine of the true class, 0 to 1",
            setting: Setting::Number { key: "m", mnist: 0.0, faces: 0.4, range: [0.0, 1.0] },
        },
        SCALE,
        Parameter {
            symbol: "l",
            meaning: "weight of the other classes, above 0",
            setting: Setting::Number { key: "l", mnist: 1.0, faces: 0.7, range: [1e-6, 1e3] },
        },
        START,
    ],
    margins: &[],
    annealed: false,
    published: None,
    make: |classes, v| {
        let positive = 1.0 / (1.0 + v[2]);
        let margin = SphereFace2 { t: 1.0, margins: [v[0], 0.0] };
        let initial_bias = balanced_bias(classes, positive, v[1], &margin, v[3]) as f32;
        MarginSoftmax {
            link: Link::Binary { positive: positive as f32, initial_bias },
            loss_factor: (1.0 + v[2]) as f32,
            ..MarginSoftmax::new(classes, Arc::new(margin), Scale::Constant(v[1] as f32))
        }
    },
};

#[cfg(test)]
mod tests {
    use crate::margin::loss;

    #[test]
    fn only_the_target_has_a_margin() {
        let loss = loss("uniface").unwrap();
        let mut values = loss.stock();
        values[0] = 0.3;
        let head = (loss.make)(10, &values);
        for c in [-1.0, -0.3, 0.0, 0.7, 1.0] {
            assert!((head.margin.target(c, 0.0).value - (c - 0.3)).abs() < 1e-11);
            assert!((head.margin.other(c).value - c).abs() < 1e-11 && head.margin.other(c).slope == 1.0);
        }
    }
}
