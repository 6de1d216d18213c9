//! A margin that differs from row to row: what AdaFace and ElasticFace share.

use super::angle::{Sides, sine};
use sphereface_tensor::op::{Bent, MARGIN_PARAMETERS, Margin};

/// `h = cos(θ + g) − a` with `g = m₂ + n₂ u` and `a = m₃ + n₃ u`, where `u` is the row's own number. Where `θ + g` is beyond 0
/// or π, it is taken for that: no gradient.
///
/// # Source
/// Kim et al., AdaFace, CVPR 2022, section 3.3: `g = −m u`, `a = m + m u`. Boutros et al., ElasticFace, CVPRW 2022, section
/// 3: a normal number in the place of `m₂` or `m₃`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptiveMargin {
    /// `m₂` and `n₂`, in radians; `|g|` is at most π.
    pub angle: [f64; 2],
    /// `m₃` and `n₃`.
    pub cosine: [f64; 2],
}

impl Margin for AdaptiveMargin {
    fn name(&self) -> &'static str {
        "adaptive"
    }

    fn parameters(&self) -> [f64; MARGIN_PARAMETERS] {
        let ([m2, n2], [m3, n3]) = (self.angle, self.cosine);
        [m2, n2, m3, n3, 0.0, 0.0, 0.0, 0.0]
    }

    fn target(&self, c: f64, u: f64) -> Bent {
        let [g, a] = [self.angle, self.cosine].map(|[m, n]| m + n * u);
        if g == 0.0 {
            return Bent { value: c - a, slope: 1.0 };
        }
        let (sin, cos) = g.sin_cos();
        if if g > 0.0 { c < -cos } else { c > cos } {
            return Bent { value: -g.signum() - a, slope: 0.0 };
        }
        let at = Sides::of(c);
        Bent { value: c * cos - sine(c) * sin - a, slope: (at.sin * cos + at.cos * sin) / at.sin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::PI;

    #[test]
    fn value_is_the_definition_by_the_angle() {
        let margin = AdaptiveMargin { angle: [0.1, -0.4], cosine: [0.3, 0.2] };
        for u in [-1.0, -0.5, 0.25, 0.3, 1.0] {
            for i in 0..=3000 {
                let theta = PI * f64::from(i) / 3000.0;
                let expected = (theta + 0.1 - 0.4 * u).clamp(0.0, PI).cos() - (0.3 + 0.2 * u);
                let found = margin.target(theta.cos(), u).value;
                // The arc cosine of a rounded cosine is off by up to √(2⁻⁵²) near the ends.
                assert!((found - expected).abs() < 5e-8, "u {u}, θ {theta}: {found} {expected}");
            }
        }
    }

    #[test]
    fn it_never_rises_with_the_angle() {
        for g in [-0.5, -0.01, 0.01, 0.5] {
            let margin = AdaptiveMargin { angle: [g, 0.0], cosine: [0.2, 0.0] };
            let values: Vec<Bent> =
                (0..=2000).map(|i| margin.target((PI * f64::from(i) / 2000.0).cos(), 0.0)).collect();
            assert!(values.windows(2).all(|pair| pair[1].value <= pair[0].value + 1e-12), "{g}");
            assert!(values.iter().all(|bent| bent.slope >= 0.0), "{g}");
        }
    }
}
