//! SphereFace2: a yes or no for each class instead of one choice among all.

use super::{Formula, Loss, Parameter, Setting};
use sphereface_tensor::op::{Bent, Link, MARGIN_PARAMETERS, Margin, MarginSoftmax, Scale};
use std::sync::Arc;

/// Where the trained bias of yes and no begins.
pub(super) const START: Parameter = Parameter {
    symbol: "start",
    meaning: "the cosine at which yes and no balance before the first step, which gives the first b, -1 to 1",
    setting: Setting::Number { key: "start", mnist: 1.0, faces: 0.0, range: [-1.0, 1.0] },
};

pub(super) const LOSS: Loss = Loss {
    key: "sphereface2",
    title: "SphereFace2",
    formulas: &[
        Formula {
            text: "z_y = r (g(cos θ_y) − m) + b",
            mathml: "<math><msub><mi>z</mi><mi>y</mi></msub><mo>=</mo><mi>r</mi><mtext>\u{2009}</mtext><mo>(</mo>\
                 <mi>g</mi><mo>(</mo><mi>cos</mi><mtext>\u{2009}</mtext><msub><mi>θ</mi><mi>y</mi></msub>\
                 <mo>)</mo><mo>−</mo><mi>m</mi><mo>)</mo><mo>+</mo><mi>b</mi></math>",
        },
        Formula {
            text: "z_j = r (g(cos θ_j) + m) + b for j ≠ y",
            mathml: "<math><msub><mi>z</mi><mi>j</mi></msub><mo>=</mo><mi>r</mi><mtext>\u{2009}</mtext><mo>(</mo>\
                 <mi>g</mi><mo>(</mo><mi>cos</mi><mtext>\u{2009}</mtext><msub><mi>θ</mi><mi>j</mi></msub>\
                 <mo>)</mo><mo>+</mo><mi>m</mi><mo>)</mo><mo>+</mo><mi>b</mi><mtext>\u{2003}for\u{2002}\
                 </mtext><mi>j</mi><mo>≠</mo><mi>y</mi></math>",
        },
        Formula {
            text: "g(c) = 2 ((c + 1) / 2)^t − 1",
            mathml: "<math><mi>g</mi><mo>(</mo><mi>c</mi><mo>)</mo><mo>=</mo><mn>2</mn><mtext>\u{2009}</mtext>\
                 <msup><mrow><mo>(</mo><mfrac><mrow><mi>c</mi><mo>+</mo><mn>1</mn></mrow><mn>2</mn></mfrac>\
                 <mo>)</mo></mrow><mi>t</mi></msup><mo>−</mo><mn>1</mn></math>",
        },
        Formula {
            text: "L = w / r · (α log(1 + e^−z_y) + (1 − α) Σ_{j≠y} log(1 + e^z_j))",
            mathml: "<math><mi>L</mi><mo>=</mo><mfrac><mi>w</mi><mi>r</mi></mfrac><mtext>\u{2009}</mtext><mo>(\
                 </mo><mi>α</mi><mtext>\u{2009}</mtext><mi>log</mi><mo>(</mo><mn>1</mn><mo>+</mo><msup><mi>e\
                 </mi><mrow><mo>−</mo><msub><mi>z</mi><mi>y</mi></msub></mrow></msup><mo>)</mo><mo>+</mo>\
                 <mo>(</mo><mn>1</mn><mo>−</mo><mi>α</mi><mo>)</mo><msub><mo>∑</mo><mrow><mi>j</mi><mo>≠</mo>\
                 <mi>y</mi></mrow></msub><mi>log</mi><mo>(</mo><mn>1</mn><mo>+</mo><msup><mi>e</mi><msub>\
                 <mi>z</mi><mi>j</mi></msub></msup><mo>)</mo><mo>)</mo></math>",
        },
    ],
    explanation: "No softmax: for each class by itself the network says whether an image belongs to it, as it has to of two faces when it is \
                  used. There is one right class and many wrong ones, so the right one has the larger share α. g makes cosines of different \
                  classes spread less; b, which is trained, is where yes ends.",
    source: "Wen et al., SphereFace2, ICLR 2022, section 3.2, with the additive margin of its equation 7",
    parameters: &[
        Parameter {
            symbol: "α",
            meaning: "share of the true class, 0 to 1",
            setting: Setting::Number { key: "alpha", mnist: 0.8, faces: 0.7, range: [0.01, 0.99] },
        },
        Parameter {
            symbol: "r",
            meaning: "scale of the logits, above 0",
            setting: Setting::Number { key: "r", mnist: 10.0, faces: 40.0, range: [1e-3, 1e4] },
        },
        Parameter {
            symbol: "m",
            meaning: "margin on both sides, 0 to 1",
            setting: Setting::Number { key: "m", mnist: 0.1, faces: 0.4, range: [0.0, 1.0] },
        },
        Parameter {
            symbol: "t",
            meaning: "power of g, 1 to 8",
            setting: Setting::Number { key: "t", mnist: 3.0, faces: 3.0, range: [1.0, 8.0] },
        },
        Parameter {
            symbol: "w",
            meaning: "weight of the loss, which is multiplied by w / r",
            setting: Setting::Number { key: "w", mnist: 10.0, faces: 50.0, range: [1e-6, 1e6] },
        },
        START,
    ],
    margins: &[],
    annealed: false,
    published: None,
    make: |classes, v| MarginSoftmax {
        link: Link::Binary {
            positive: v[0] as f32,
            initial_bias: balanced_bias(classes, v[0], v[1], &SphereFace2 { t: v[3], margins: [v[2]; 2] }, v[5]) as f32,
        },
        loss_factor: (v[4] / v[1]) as f32,
        ..MarginSoftmax::new(
            classes,
            Arc::new(SphereFace2 { t: v[3], margins: [v[2]; 2] }),
            Scale::Constant(v[1] as f32),
        )
    },
};

/// Below it a power of `(c + 1) / 2` is taken at it, so that its slope is finite for every `t`.
const LEAST: f64 = 1e-12;

/// The bias at which, with all cosines the same, the gradients of the true class and of all others together are as large.
///
/// In many dimensions cosines start at 0. In the plane any may be near 1, so that with the bias for 0 almost every answer is
/// a wrong yes: class weights then flee to one side and stay there, at an accuracy of 0.21 on MNIST.
pub(super) fn balanced_bias(classes: usize, alpha: f64, r: f64, margin: &SphereFace2, cosine: f64) -> f64 {
    let share = alpha / ((1.0 - alpha) * (classes as f64 - 1.0));
    let (target, other) = (r * margin.target(cosine, 0.0).value, r * margin.other(cosine).value);
    let product = 4.0 * share * (target - other).exp();
    let root = ((1.0 - share).powi(2) + product).sqrt();
    // Of two forms the one without a difference.
    let sum = if share < 1.0 { 1.0 - share + root } else { product / (root - (1.0 - share)) };
    (2.0 * share).ln() - other - sum.ln()
}

/// `h = g(c) − m₁` of the target, `h = g(c) + m₂` of the others, with `g(c) = 2 ((c + 1) / 2)^t − 1`.
///
/// # Source
/// Wen et al., SphereFace2, ICLR 2022.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SphereFace2 {
    pub(super) t: f64,
    /// `m₁` and `m₂`.
    pub(super) margins: [f64; 2],
}

impl SphereFace2 {
    fn spread(&self, c: f64, margin: f64) -> Bent {
        let half = ((c + 1.0) / 2.0).max(LEAST);
        Bent { value: 2.0 * half.powf(self.t) - 1.0 + margin, slope: self.t * half.powf(self.t - 1.0) }
    }
}

impl Margin for SphereFace2 {
    fn name(&self) -> &'static str {
        "sphereface2"
    }

    fn parameters(&self) -> [f64; MARGIN_PARAMETERS] {
        let mut parameters = [0.0; MARGIN_PARAMETERS];
        (parameters[0], parameters[1], parameters[2]) = (self.t, self.margins[0], self.margins[1]);
        parameters
    }

    fn target(&self, c: f64, _lambda: f64) -> Bent {
        self.spread(c, -self.margins[0])
    }

    fn bends_others(&self) -> bool {
        true
    }

    fn other(&self, c: f64) -> Bent {
        self.spread(c, self.margins[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bias_balances_yes_and_no() {
        let sigmoid = |u: f64| 1.0 / (1.0 + (-u).exp());
        for classes in [2, 10, 10_572] {
            let (alpha, r, m, t) = (0.7, 40.0, 0.4, 3.0);
            let margin = SphereFace2 { t, margins: [m; 2] };
            let b = balanced_bias(classes, alpha, r, &margin, 0.0);
            let yes = alpha * sigmoid(-r * margin.target(0.0, 0.0).value - b);
            let no = (1.0 - alpha) * (classes as f64 - 1.0) * sigmoid(r * margin.other(0.0).value + b);
            assert!((yes / no - 1.0).abs() < 1e-9, "{classes}: {yes} {no}");
        }
        assert!((balanced_bias(10, 0.7, 40.0, &SphereFace2 { t: 3.0, margins: [0.4; 2] }, 0.0) - 12.950).abs() < 5e-4);
    }

    #[test]
    fn cosines_spread_from_minus_one_to_one() {
        let margin = SphereFace2 { t: 3.0, margins: [0.0; 2] };
        assert_eq!(margin.other(1.0), Bent { value: 1.0, slope: 3.0 });
        assert_eq!(margin.other(-1.0).value, -1.0);
        assert_eq!(margin.other(0.0), Bent { value: -0.75, slope: 0.75 });
    }
}
