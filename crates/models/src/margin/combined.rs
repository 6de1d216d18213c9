//! Combined margins: CosFace, ArcFace and an angle that counts several times, in one function.

use super::angle::{Sides, sine};
use super::{Formula, Loss, OTHER_CLASSES, Parameter, SCALE, Setting};
use sphereface_tensor::op::{Bent, MARGIN_PARAMETERS, Margin, MarginSoftmax, Scale};
use std::f64::consts::PI;
use std::sync::Arc;

/// What `h` may be past 180°.
const PASTS: [Past; 3] = [Past::Continued, Past::Clamped, Past::None];

pub(super) const LOSS: Loss = Loss {
    key: "combined",
    title: "Combined margins",
    formulas: &[
        OTHER_CLASSES,
        Formula {
            text: "z_y = s (cos(m₁θ_y + m₂) − m₃)",
            mathml: "<math><msub><mi>z</mi><mi>y</mi></msub><mo>=</mo><mi>s</mi><mtext>\u{2009}</mtext><mo>(</mo>\
                 <mi>cos</mi><mtext>\u{2009}</mtext><mo>(</mo><msub><mi>m</mi><mn>1</mn></msub><msub><mi>θ\
                 </mi><mi>y</mi></msub><mo>+</mo><msub><mi>m</mi><mn>2</mn></msub><mo>)</mo><mo>−</mo><msub>\
                 <mi>m</mi><mn>3</mn></msub><mo>)</mo></math>",
        },
    ],
    explanation: "The three ways to make it harder for the true class in one formula: its angle counts m₁ times, m₂ is added to it, and m₃ \
                  is taken off its cosine. With one of them at a time this is a SphereFace, ArcFace or CosFace of normalised embeddings. \
                  Past 180° the cosine as it is goes on from where the formula ends.",
    source: "Deng et al., ArcFace, CVPR 2019, equation 4",
    parameters: &[
        Parameter {
            symbol: "m₁",
            meaning: "how often the angle of the true class counts, 0.5 to 4",
            setting: Setting::Number { key: "m1", mnist: 1.0, faces: 1.0, range: [0.5, 4.0] },
        },
        Parameter {
            symbol: "m₂",
            meaning: "what is added to it, in radians, 0 to 1.5",
            setting: Setting::Number { key: "m2", mnist: 0.2, faces: 0.3, range: [0.0, 1.5] },
        },
        Parameter {
            symbol: "m₃",
            meaning: "what is taken off its cosine, 0 to 1",
            setting: Setting::Number { key: "m3", mnist: 0.1, faces: 0.2, range: [0.0, 1.0] },
        },
        SCALE,
        Parameter {
            symbol: "past",
            meaning: "what takes its place past 180°: continued, clamped (to −1 − m₃) or none",
            setting: Setting::Choice { key: "past", names: &["continued", "clamped", "none"] },
        },
    ],
    margins: &[],
    annealed: false,
    published: None,
    make: |classes, v| {
        let margin = CombinedMargin::new([v[0], v[1], v[2]], PASTS[v[4] as usize]);
        MarginSoftmax::new(classes, Arc::new(margin), Scale::Constant(v[3] as f32))
    },
};

/// What takes the place of `cos(m₁θ + m₂) − m₃` where `m₁θ + m₂ > π`, and it would rise as the angle grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// `cos θ − m₂ sin m₂ − m₃`, as in ArcFace's published code: a step down.
    Shifted = 0,
    /// `−1 − m₃`: no gradient.
    Clamped = 1,
    /// Nothing: it rises.
    None = 2,
    /// `cos θ`, with what makes it go on without a step taken off.
    Continued = 3,
}

/// `h = cos(m₁θ + m₂) − m₃`.
///
/// # Source
/// Deng et al., ArcFace, CVPR 2019, equation 4.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CombinedMargin {
    m: [f64; 3],
    past: Past,
    /// `cos m₂` and `sin m₂`.
    turn: [f64; 2],
    /// The cosine of the angle from which on it is past.
    begins: f64,
}

impl CombinedMargin {
    /// The margins `m₁ > 0`, `m₂` in `[0, π)` and `m₃`.
    pub fn new(m: [f64; 3], past: Past) -> Self {
        let [m1, m2, _] = m;
        let begins = (PI - m2) / m1;
        // A half turn itself is not past.
        let begins = if begins < PI { begins.cos() } else { -1.0 };
        CombinedMargin { m, past, turn: [m2.cos(), m2.sin()], begins }
    }
}

impl Margin for CombinedMargin {
    fn name(&self) -> &'static str {
        "combined"
    }

    fn parameters(&self) -> [f64; MARGIN_PARAMETERS] {
        let ([m1, m2, m3], [cos, sin]) = (self.m, self.turn);
        [m1, m2, m3, f64::from(self.past as u8), cos, sin, self.begins, 0.0]
    }

    fn target(&self, c: f64, _lambda: f64) -> Bent {
        let ([m1, m2, m3], [cos, sin]) = (self.m, self.turn);
        if c < self.begins {
            match self.past {
                Past::Shifted => return Bent { value: c - m2 * sin - m3, slope: 1.0 },
                Past::Clamped => return Bent { value: -1.0 - m3, slope: 0.0 },
                Past::Continued => return Bent { value: c - self.begins - 1.0 - m3, slope: 1.0 },
                Past::None => {}
            }
        }
        if m1 == 1.0 && m2 == 0.0 {
            return Bent { value: c - m3, slope: 1.0 };
        }
        let at = Sides::of(c);
        if m1 == 1.0 {
            // By the sum of angles: exact where an arc cosine is not.
            return Bent { value: c * cos - sine(c) * sin - m3, slope: (at.sin * cos + at.cos * sin) / at.sin };
        }
        let angle = |c: f64| m1 * c.acos() + m2;
        Bent { value: angle(c).cos() - m3, slope: m1 * angle(at.cos).sin() / at.sin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_the_definition_by_the_angle() {
        for m in [[1.0, 0.0, 0.35], [1.0, 0.5, 0.0], [1.0, 0.3, 0.2], [0.9, 0.4, 0.15], [2.0, 0.0, 0.0]] {
            let margin = CombinedMargin::new(m, Past::None);
            for i in 0..=3000 {
                let theta = PI * f64::from(i) / 3000.0;
                let expected = (m[0] * theta + m[1]).cos() - m[2];
                let found = margin.target(theta.cos(), 0.0).value;
                // The arc cosine of a rounded cosine is off by up to √(2⁻⁵²) near the ends.
                assert!((found - expected).abs() < 5e-8, "{m:?}, θ {theta}: {found} {expected}");
            }
        }
    }

    #[test]
    fn past_half_a_turn_it_does_what_it_says() {
        let m = [1.0, 0.5, 0.0];
        let c = (PI - 0.2).cos(); // past π − 0.5
        let at = |past| CombinedMargin::new(m, past).target(c, 0.0);
        assert_eq!(at(Past::Shifted), Bent { value: c - 0.5 * 0.5f64.sin(), slope: 1.0 });
        assert_eq!(at(Past::Clamped), Bent { value: -1.0, slope: 0.0 });
        assert!((at(Past::None).value - (PI + 0.3).cos()).abs() < 1e-12 && at(Past::None).slope < 0.0);
        let begins = (PI - 0.5).cos();
        assert!((at(Past::Continued).value - (c - begins - 1.0)).abs() < 1e-15);
        // Exactly at the half turn it is not past yet, in any of them.
        for past in [Past::Shifted, Past::Clamped, Past::None, Past::Continued] {
            let bent = CombinedMargin::new(m, past).target(begins, 0.0);
            assert!((bent.value + 1.0).abs() < 1e-15 && bent.slope.abs() < 1e-15, "{past:?}: {bent:?}");
        }
    }

    #[test]
    fn what_does_not_rise_again_falls_with_the_angle_everywhere() {
        for m in [[1.0, 0.3, 0.2], [1.0, 0.5, 0.0], [1.35, 0.2, 0.1], [4.0, 0.0, 0.0]] {
            for past in [Past::Clamped, Past::Continued] {
                let margin = CombinedMargin::new(m, past);
                let values: Vec<f64> =
                    (0..=2000).map(|i| margin.target((PI * f64::from(i) / 2000.0).cos(), 0.0).value).collect();
                assert!(values.windows(2).all(|pair| pair[1] <= pair[0] + 1e-12), "{m:?} {past:?}");
            }
        }
    }
}
