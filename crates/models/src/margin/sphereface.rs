//! A-Softmax: the angle to the target class is multiplied by an integer margin.

use super::{Formula, Loss, Parameter, Setting};
use sphereface_tensor::op::{Bent, MARGIN_PARAMETERS, Margin, MarginSoftmax, Scale};
use std::f64::consts::FRAC_1_SQRT_2;
use std::sync::Arc;

pub(super) const LOSS: Loss = Loss {
    key: "sphereface",
    title: "A-Softmax (SphereFace)",
    formulas: &[
        Formula {
            text: "z_j = ‖x‖ cos θ_j for j ≠ y",
            mathml: "<math><msub><mi>z</mi><mi>j</mi></msub><mo>=</mo><mo>‖</mo><mi>x</mi><mo>‖</mo><mtext>\u{2009}</mtext>\
                     <mi>cos</mi><mtext>\u{2009}</mtext><msub><mi>θ</mi><mi>j</mi></msub><mtext>\u{2003}for\u{2002}</mtext>\
                     <mi>j</mi><mo>≠</mo><mi>y</mi></math>",
        },
        Formula {
            text: "z_y = ‖x‖ (λ cos θ_y + ψ(θ_y)) / (1 + λ)",
            mathml: "<math><msub><mi>z</mi><mi>y</mi></msub><mo>=</mo><mo>‖</mo><mi>x</mi><mo>‖</mo><mtext>\u{2009}</mtext>\
                     <mfrac><mrow><mi>λ</mi><mtext>\u{2009}</mtext><mi>cos</mi><mtext>\u{2009}</mtext><msub><mi>θ</mi>\
                     <mi>y</mi></msub><mo>+</mo><mi>ψ</mi><mo>(</mo><msub><mi>θ</mi><mi>y</mi></msub><mo>)</mo></mrow>\
                     <mrow><mn>1</mn><mo>+</mo><mi>λ</mi></mrow></mfrac></math>",
        },
        Formula {
            text: "ψ(θ) = (−1)^k cos(mθ) − 2k for k = ⌊mθ/π⌋",
            mathml: "<math><mi>ψ</mi><mo>(</mo><mi>θ</mi><mo>)</mo><mo>=</mo><msup><mrow><mo>(</mo><mo>−</mo><mn>1</mn>\
                     <mo>)</mo></mrow><mi>k</mi></msup><mtext>\u{2009}</mtext><mi>cos</mi><mtext>\u{2009}</mtext><mi>m</mi>\
                     <mi>θ</mi><mo>−</mo><mn>2</mn><mi>k</mi><mtext>\u{2003}for\u{2002}</mtext><mi>k</mi><mo>=</mo>\
                     <mo>⌊</mo><mi>m</mi><mi>θ</mi><mo>/</mo><mi>π</mi><mo>⌋</mo></math>",
        },
    ],
    explanation: "While the network trains, the angle to the true class y counts m times. To beat class 2, an embedding of \
                  class 1 must come so close to w₁ that mθ₁ < θ₂, which leaves an empty sector between the classes. ψ is \
                  cos mθ, continued so that it keeps falling up to 180°. λ mixes the plain cosine in: it starts large, since \
                  the full margin is hard to learn at once, and falls. Class weights have length 1. The margin takes part \
                  in training only; a trained classifier decides by the angle.",
    source: "Liu et al., CVPR 2017, section 3.2, equation 7; λ as in the authors’ code",
    parameters: &[
        Parameter {
            symbol: "m",
            meaning: "how often the angle to the true class counts: 1, 2, 3 or 4",
            setting: Setting::Number { key: "m", mnist: 4.0, faces: 4.0, range: [1.0, 4.0] },
        },
        Parameter {
            symbol: "λ",
            meaning: "weight of cos θ beside ψ, at least 0",
            setting: Setting::Elsewhere("20, falling to 0"),
        },
    ],
    margins: &[1, 2, 3, 4],
    annealed: true,
    published: Some(0.9896),
    make: |classes, v| MarginSoftmax::new(classes, Arc::new(SphereFace::new(v[0] as u32)), Scale::FeatureNorm),
};

/// `h(c) = (λ c + ψ(c)) / (1 + λ)` with `ψ(c) = (−1)^k T_m(c) − 2k`, where `T_m` is the Chebyshev polynomial with
/// `T_m(cos θ) = cos mθ` and `k` counts the thresholds `cos(iπ/m)`, `0 < i < m`, that are at least `c`.
///
/// Neither value nor slope needs the angle itself, so both are exact at `c = ±1`. `ψ` falls monotonically from 1 to
/// `1 − 2m` as the angle grows; its slope is `m²` at `c = ±1` and 0 at every threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SphereFace {
    m: u32,
}

impl SphereFace {
    /// Largest margin.
    pub const MAX_M: u32 = 4;

    /// The loss with margin `m`.
    ///
    /// # Panics
    /// Unless `m` is 1, 2, 3 or 4.
    pub fn new(m: u32) -> Self {
        assert!((1..=Self::MAX_M).contains(&m), "margin m: expected 1 to {}, found {m}", Self::MAX_M);
        SphereFace { m }
    }

    /// `ψ` and its slope with respect to the cosine.
    pub fn psi(&self, c: f64) -> Bent {
        // T_m, its derivative, and the thresholds in the order in which a growing angle passes them.
        let (chebyshev, derivative, thresholds): (f64, f64, &[f64]) = match self.m {
            1 => (c, 1.0, &[]),
            2 => (2.0 * c * c - 1.0, 4.0 * c, &[0.0]),
            3 => ((4.0 * c * c - 3.0) * c, 12.0 * c * c - 3.0, &[0.5, -0.5]),
            _ => (8.0 * c * c * (c * c - 1.0) + 1.0, (32.0 * c * c - 16.0) * c, &[FRAC_1_SQRT_2, 0.0, -FRAC_1_SQRT_2]),
        };
        let k = thresholds.iter().filter(|&&threshold| c <= threshold).count();
        let sign = if k % 2 == 0 { 1.0 } else { -1.0 };
        Bent { value: sign * chebyshev - 2.0 * k as f64, slope: sign * derivative }
    }
}

impl Margin for SphereFace {
    fn name(&self) -> &'static str {
        "sphereface"
    }

    fn parameters(&self) -> [f64; MARGIN_PARAMETERS] {
        let mut parameters = [0.0; MARGIN_PARAMETERS];
        parameters[0] = f64::from(self.m);
        parameters
    }

    fn target(&self, cos_theta: f64, lambda: f64) -> Bent {
        let psi = self.psi(cos_theta);
        Bent { value: (lambda * cos_theta + psi.value) / (1.0 + lambda), slope: (lambda + psi.slope) / (1.0 + lambda) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::margin::effective_margin;
    use std::f64::consts::PI;

    /// The definition, through the angle.
    fn definition(m: u32, theta: f64) -> f64 {
        let m_theta = f64::from(m) * theta;
        let k = (m_theta / PI).floor().min(f64::from(m - 1));
        (if k % 2.0 == 0.0 { 1.0 } else { -1.0 }) * m_theta.cos() - 2.0 * k
    }

    #[test]
    fn psi_is_the_definition_by_the_angle() {
        for m in 1..=4 {
            for i in 0..=3000 {
                let theta = PI * f64::from(i) / 3000.0;
                let found = SphereFace::new(m).psi(theta.cos()).value;
                assert!((found - definition(m, theta)).abs() < 1e-12, "m {m}, θ {theta}: {found}");
            }
        }
    }

    #[test]
    fn slope_is_the_derivative_and_one_sided_at_the_ends() {
        for m in 1..=4 {
            let margin = SphereFace::new(m);
            for i in -999..1000 {
                let c = f64::from(i) / 1000.0 + 1e-4;
                let h = 1e-6;
                let difference = (margin.psi(c + h).value - margin.psi(c - h).value) / (2.0 * h);
                assert!((difference - margin.psi(c).slope).abs() < 1e-4, "m {m}, c {c}");
            }
            let ends = f64::from(m * m);
            assert_eq!((margin.psi(1.0).slope, margin.psi(-1.0).slope), (ends, ends));
            assert_eq!((margin.psi(1.0).value, margin.psi(-1.0).value), (1.0, 1.0 - 2.0 * f64::from(m)));
        }
    }

    #[test]
    fn psi_is_continuous_and_flat_at_every_threshold() {
        for m in 2..=4u32 {
            for i in 1..m {
                let c = (f64::from(i) * PI / f64::from(m)).cos();
                let margin = SphereFace::new(m);
                for at in [c.next_down(), c, c.next_up()] {
                    let psi = margin.psi(at);
                    assert!((psi.value - (1.0 - 2.0 * f64::from(i))).abs() < 1e-14, "m {m}, i {i}: {psi:?}");
                    assert!(psi.slope.abs() < 1e-14 && psi.slope >= -1e-14, "m {m}, i {i}: {psi:?}");
                }
            }
        }
    }

    #[test]
    fn lambda_mixes_with_the_plain_cosine() {
        let margin = SphereFace::new(4);
        assert!((margin.target(0.3, 1e12).value - 0.3).abs() < 1e-9);
        assert_eq!(margin.target(0.3, 0.0), margin.psi(0.3));
        // The published minimum of 5 leaves a sixth of the margin: factors 1.85 at 10° and 1.44 at 45°.
        let effective = |degrees: f64| effective_margin(&margin, degrees.to_radians(), 5.0).unwrap();
        assert!((effective(10.0) - 1.85).abs() < 0.01 && (effective(45.0) - 1.44).abs() < 0.01);
    }
}
