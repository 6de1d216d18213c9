//! SphereFace-R v2: the margin is on the other classes, whose angles count less.

use super::{Formula, LENGTH, Loss, Parameter, Setting};
use sphereface_tensor::op::{Bent, Gradient, MARGIN_PARAMETERS, Margin, MarginSoftmax, Scale};
use std::sync::Arc;

pub(super) const LOSS: Loss = Loss {
    key: "sphereface-r-v2",
    title: "SphereFace-R v2",
    formulas: &[
        Formula {
            text: "z_y = s cos θ_y",
            mathml: "<math><msub><mi>z</mi><mi>y</mi></msub><mo>=</mo><mi>s</mi><mtext>\u{2009}</mtext><mi>cos\
                 </mi><mtext>\u{2009}</mtext><msub><mi>θ</mi><mi>y</mi></msub></math>",
        },
        Formula {
            text: "z_j = s cos(θ_j / m) for j ≠ y",
            mathml: "<math><msub><mi>z</mi><mi>j</mi></msub><mo>=</mo><mi>s</mi><mtext>\u{2009}</mtext><mi>cos\
                 </mi><mtext>\u{2009}</mtext><mo>(</mo><msub><mi>θ</mi><mi>j</mi></msub><mo>/</mo><mi>m</mi>\
                 <mo>)</mo><mtext>\u{2003}for\u{2002}</mtext><mi>j</mi><mo>≠</mo><mi>y</mi></math>",
        },
    ],
    explanation: "Instead of making the angle of the true class larger, those of all others are made smaller: the margin needs no case for \
                  angles past 180°. As in the other versions, the derivative taken is that of the plain cosine (detached gradient). Here \
                  the embedding’s length is always replaced by s.",
    source: "Liu et al., SphereFace Revived, TPAMI 2023 (arXiv 2109.05565), the second of its two new multiplicative margins",
    parameters: &[
        Parameter {
            symbol: "m",
            meaning: "what the angles of the other classes are divided by, 1 to 8",
            setting: Setting::Number { key: "m", mnist: 1.5, faces: 1.5, range: [1.0, 8.0] },
        },
        LENGTH,
        Parameter {
            symbol: "w",
            meaning: "weight of the loss, which is multiplied by w / s",
            setting: Setting::Number { key: "w", mnist: 10.0, faces: 50.0, range: [1e-6, 1e6] },
        },
    ],
    margins: &[],
    annealed: false,
    published: None,
    make: |classes, v| MarginSoftmax {
        gradient: Gradient::Detached,
        loss_factor: (v[2] / v[1]) as f32,
        ..MarginSoftmax::new(classes, Arc::new(SphereFaceROthers { m: v[0] }), Scale::Constant(v[1] as f32))
    },
};

/// The farthest from 0 that a cosine counts: where `dθ/dc` is infinite, a float cannot tell the angle.
const LARGEST: f64 = 0.99998;

/// `h = c` of the target, `h = cos(θ/m)` of the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SphereFaceROthers {
    m: f64,
}

impl Margin for SphereFaceROthers {
    fn name(&self) -> &'static str {
        "sphereface_r_others"
    }

    fn parameters(&self) -> [f64; MARGIN_PARAMETERS] {
        let mut parameters = [0.0; MARGIN_PARAMETERS];
        parameters[0] = self.m;
        parameters
    }

    fn target(&self, c: f64, _lambda: f64) -> Bent {
        Bent::straight(c)
    }

    fn bends_others(&self) -> bool {
        true
    }

    fn other(&self, c: f64) -> Bent {
        let c = c.clamp(-LARGEST, LARGEST);
        let angle = c.acos() / self.m;
        Bent { value: angle.cos(), slope: angle.sin() / (self.m * ((1.0 - c) * (1.0 + c)).sqrt()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::PI;

    #[test]
    fn the_others_angles_are_divided() {
        let margin = SphereFaceROthers { m: 1.5 };
        for i in 1..100 {
            let theta = PI * f64::from(i) / 100.0;
            let bent = margin.other(theta.cos());
            assert!((bent.value - (theta / 1.5).cos()).abs() < 1e-12);
            assert!((bent.slope - (theta / 1.5).sin() / (1.5 * theta.sin())).abs() < 1e-9);
        }
        assert_eq!(SphereFaceROthers { m: 1.0 }.other(0.3).slope, 1.0);
    }
}
