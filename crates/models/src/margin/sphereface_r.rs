//! SphereFace-R: the angle to the target class counts a real number of times.

use super::angle::Sides;
use super::{Formula, Loss, MULTIPLE, Parameter, Setting};
use sphereface_tensor::op::{Bent, Gradient, MARGIN_PARAMETERS, Margin, MarginSoftmax, NormPenalty, Scale};
use std::f64::consts::PI;
use std::sync::Arc;

/// What both versions have in common.
const OTHER_CLASSES: Formula = Formula {
    text: "z_j = κ cos θ_j for j ≠ y",
    mathml: "<math><msub><mi>z</mi><mi>j</mi></msub><mo>=</mo><mi>κ</mi><mtext>\u{2009}</mtext><mi>cos\
         </mi><mtext>\u{2009}</mtext><msub><mi>θ</mi><mi>j</mi></msub><mtext>\u{2003}for\u{2002}\
         </mtext><mi>j</mi><mo>≠</mo><mi>y</mi></math>",
};

/// The length of the embedding, or what takes its place.
const KAPPA: Formula = Formula {
    text: "κ = s, or ‖x‖",
    mathml: "<math><mi>κ</mi><mo>=</mo><mi>s</mi><mtext>\u{2002}or\u{2002}</mtext><mo>‖</mo><mi>x</mi>\
         <mo>‖</mo></math>",
};

/// What can be chosen of both.
const PARAMETERS: [Parameter; 5] = [
    MULTIPLE,
    Parameter {
        symbol: "fn",
        meaning: "what is done with the embedding’s length: hard (it is s), none (it stays) or soft (it stays, and is drawn to s)",
        setting: Setting::Choice { key: "fn", names: &["hard", "none", "soft"] },
    },
    Parameter {
        symbol: "s",
        meaning: "the length, above 0",
        setting: Setting::Number { key: "s", mnist: 10.0, faces: 30.0, range: [1e-3, 1e4] },
    },
    Parameter {
        symbol: "w",
        meaning: "weight of the loss, which is multiplied by w / s unless fn is none",
        setting: Setting::Number { key: "w", mnist: 10.0, faces: 50.0, range: [1e-6, 1e6] },
    },
    Parameter {
        symbol: "t",
        meaning: "weight of |‖x‖ − s| where fn is soft",
        setting: Setting::Number { key: "t", mnist: 0.01, faces: 0.01, range: [0.0, 1e3] },
    },
];

pub(super) const V0: Loss = Loss {
    key: "sphereface-r-v0",
    title: "SphereFace-R v0",
    formulas: &[
        OTHER_CLASSES,
        Formula {
            text: "z_y = κ ((−1)^k cos mθ_y − 2k) for k = ⌊mθ_y/π⌋",
            mathml: "<math><msub><mi>z</mi><mi>y</mi></msub><mo>=</mo><mi>κ</mi><mtext>\u{2009}</mtext><mo>(</mo>\
                 <msup><mrow><mo>(</mo><mo>−</mo><mn>1</mn><mo>)</mo></mrow><mi>k</mi></msup><mtext>\u{2009}\
                 </mtext><mi>cos</mi><mtext>\u{2009}</mtext><mi>m</mi><msub><mi>θ</mi><mi>y</mi></msub><mo>−\
                 </mo><mn>2</mn><mi>k</mi><mo>)</mo><mtext>\u{2003}for\u{2002}</mtext><mi>k</mi><mo>=</mo>\
                 <mo>⌊</mo><mi>m</mi><msub><mi>θ</mi><mi>y</mi></msub><mo>/</mo><mi>π</mi><mo>⌋</mo></math>",
        },
        KAPPA,
    ],
    explanation: "The margin of SphereFace for any real m, without annealing: a moderate m such as 1.5 can be learned from the start. The \
                  value is that of the margin, while the derivative taken is that of the plain cosine (detached gradient), so that the flat \
                  spots of the margin do not stall a training.",
    source: "Liu et al., SphereFace Revived, TPAMI 2023 (arXiv 2109.05565), the original multiplicative margin",
    parameters: &PARAMETERS,
    margins: &[],
    annealed: false,
    published: None,
    make: |classes, v| make(SphereFaceR::v0(v[0]), classes, v),
};

pub(super) const V1: Loss = Loss {
    key: "sphereface-r-v1",
    title: "SphereFace-R v1",
    formulas: &[
        OTHER_CLASSES,
        Formula {
            text: "z_y = κ cos min(mθ_y, π)",
            mathml: "<math><msub><mi>z</mi><mi>y</mi></msub><mo>=</mo><mi>κ</mi><mtext>\u{2009}</mtext><mi>cos\
                 </mi><mtext>\u{2009}</mtext><mi>min</mi><mo>(</mo><mi>m</mi><msub><mi>θ</mi><mi>y</mi>\
                 </msub><mo>,</mo><mi>π</mi><mo>)</mo></math>",
        },
        KAPPA,
    ],
    explanation: "As v0, but simpler: an angle that m times itself would pass 180° counts as 180°. There the margin’s own slope is 0, so it \
                  is trained by the derivative of the plain cosine (detached gradient).",
    source: "Liu et al., SphereFace Revived, TPAMI 2023 (arXiv 2109.05565), the first of its two new multiplicative margins",
    parameters: &PARAMETERS,
    margins: &[],
    annealed: false,
    published: None,
    make: |classes, v| make(SphereFaceR::v1(v[0]), classes, v),
};

/// A head with one of the three normalisations of embeddings, from the settings `[m, fn, s, w, t]`.
fn make(margin: SphereFaceR, classes: usize, v: &[f64]) -> MarginSoftmax {
    let (scale, s, share) = (v[1] as u32, v[2] as f32, (v[3] / v[2]) as f32);
    let of =
        |scale| MarginSoftmax { gradient: Gradient::Detached, ..MarginSoftmax::new(classes, Arc::new(margin), scale) };
    match scale {
        0 => MarginSoftmax { loss_factor: share, ..of(Scale::Constant(s)) },
        1 => of(Scale::FeatureNorm),
        _ => {
            let penalty = NormPenalty { weight: v[4] as f32, norm: s };
            MarginSoftmax { loss_factor: share, penalty, ..of(Scale::FeatureNorm) }
        }
    }
}

/// `h = (−1)^k cos mθ − 2k` with `k = ⌊mθ/π⌋`, or `h = cos min(mθ, π)`.
///
/// # Source
/// Liu et al., SphereFace Revived, TPAMI 2023.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SphereFaceR {
    m: f64,
    version: u8,
}

impl SphereFaceR {
    /// The margin that falls everywhere, with `m ≥ 1`.
    pub fn v0(m: f64) -> Self {
        SphereFaceR { m, version: 0 }
    }

    /// The margin that ends at −1, with `m ≥ 1`.
    pub fn v1(m: f64) -> Self {
        SphereFaceR { m, version: 1 }
    }
}

impl Margin for SphereFaceR {
    fn name(&self) -> &'static str {
        "sphereface_r"
    }

    fn parameters(&self) -> [f64; MARGIN_PARAMETERS] {
        let mut parameters = [0.0; MARGIN_PARAMETERS];
        (parameters[0], parameters[1]) = (self.m, f64::from(self.version));
        parameters
    }

    fn target(&self, c: f64, _lambda: f64) -> Bent {
        let m_theta = self.m * c.acos();
        if self.version == 1 && m_theta >= PI {
            return Bent { value: -1.0, slope: 0.0 };
        }
        let at = Sides::of(c);
        let m_theta_slope = self.m * at.cos.acos();
        let fold = |angle: f64| {
            let k = (angle / PI).floor();
            (k, if k % 2.0 == 0.0 { 1.0 } else { -1.0 })
        };
        let ((k, sign), (_, slope_sign)) = (fold(m_theta), fold(m_theta_slope));
        Bent { value: sign * m_theta.cos() - 2.0 * k, slope: slope_sign * self.m * m_theta_slope.sin() / at.sin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::margin::SphereFace;

    #[test]
    fn whole_margins_of_v0_are_those_of_sphereface() {
        for m in 1..=4 {
            let (real, whole) = (SphereFaceR::v0(f64::from(m)), SphereFace::new(m));
            for i in 1..2000 {
                let c = (PI * f64::from(i) / 2000.0).cos();
                let (found, expected) = (real.target(c, 0.0), whole.psi(c));
                assert!((found.value - expected.value).abs() < 1e-11, "m {m}, c {c}: {found:?} {expected:?}");
                assert!((found.slope - expected.slope).abs() < 1e-4, "m {m}, c {c}: {found:?} {expected:?}");
            }
            assert_eq!(real.target(1.0, 0.0).value, 1.0);
            assert!((real.target(1.0, 0.0).slope - f64::from(m * m)).abs() < 1e-4);
        }
    }

    #[test]
    fn v1_is_v0_up_to_the_half_turn_and_holds_there() {
        let (v0, v1) = (SphereFaceR::v0(1.7), SphereFaceR::v1(1.7));
        for i in 0..=2000 {
            let theta = PI * f64::from(i) / 2000.0;
            let (a, b) = (v0.target(theta.cos(), 0.0), v1.target(theta.cos(), 0.0));
            if theta * 1.7 < PI - 1e-6 {
                assert_eq!(a, b);
            } else if theta * 1.7 > PI + 1e-6 {
                assert_eq!(b, Bent { value: -1.0, slope: 0.0 });
            }
        }
    }

    #[test]
    fn normalisations_are_a_scale_a_factor_and_a_penalty() {
        let head = |choice: f64| make(SphereFaceR::v0(1.5), 10, &[1.5, choice, 30.0, 50.0, 0.01]);
        let of = |head: &MarginSoftmax| (head.scale, head.loss_factor, head.penalty);
        let share = (50.0f64 / 30.0) as f32;
        assert_eq!(of(&head(0.0)), (Scale::Constant(30.0), share, NormPenalty::default()));
        assert_eq!(of(&head(1.0)), (Scale::FeatureNorm, 1.0, NormPenalty::default()));
        assert_eq!(of(&head(2.0)), (Scale::FeatureNorm, share, NormPenalty { weight: 0.01, norm: 30.0 }));
    }
}
