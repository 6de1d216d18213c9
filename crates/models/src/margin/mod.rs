//! The losses: each file holds one margin with its value, slope, documentation and line in the terminal.
//!
//! A new loss is a file here and a line in [`LOSSES`]; tests, plots, command line and report loop over that list.

mod adaface;
mod adaptive;
mod angle;
mod arcface;
mod combined;
mod cosface;
mod elasticface;
mod modified;
mod normface;
mod softmax;
mod sphereface;
mod sphereface2;
mod sphereface_plus;
mod sphereface_r;
mod sphereface_r_others;
mod uniface;

pub use adaptive::AdaptiveMargin;
pub use combined::{CombinedMargin, Past};
pub use modified::ModifiedSoftmax;
pub use softmax::OriginalSoftmax;
pub use sphereface::SphereFace;
pub use sphereface_r::SphereFaceR;
pub use sphereface_r_others::SphereFaceROthers;
pub use sphereface2::SphereFace2;

use sphereface_tensor::op::{Gradient, Margin, MarginSoftmax, Scale};

/// One loss of the family: what is computed, and what a person should know of it.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// Name on the command line and in files.
    pub key: &'static str,
    /// Name in tables.
    pub title: &'static str,
    /// Logits, with what they are made of.
    pub formulas: &'static [Formula],
    /// What the loss does, in a few plain sentences for somebody who knows the softmax.
    pub explanation: &'static str,
    /// Paper and equation.
    pub source: &'static str,
    /// What can be chosen.
    pub parameters: &'static [Parameter],
    /// Integer margins, of a loss that takes no others.
    pub margins: &'static [u32],
    /// Whether the margin is annealed by λ.
    pub annealed: bool,
    /// Test accuracy on MNIST as the repository YunYang1994/SphereFace publishes it.
    pub published: Option<f64>,
    /// The head for a number of classes and the values of the [`settings`](Loss::settings).
    pub make: fn(classes: usize, values: &[f64]) -> MarginSoftmax,
}

/// One formula, written twice.
#[derive(Clone, Copy, Debug)]
pub struct Formula {
    /// In one line of text.
    pub text: &'static str,
    /// As one MathML `<math>` element, of presentation markup without attributes.
    pub mathml: &'static str,
}

/// A number that is chosen for a training.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// As it stands in the formulas.
    pub symbol: &'static str,
    /// What it is and what it may be.
    pub meaning: &'static str,
    /// How it is chosen.
    pub setting: Setting,
}

/// How a parameter of a loss is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Setting {
    /// Not with the loss; in words, what it is unless something else is asked for.
    Elsewhere(&'static str),
    /// A number.
    Number {
        /// Name on the command line and in files.
        key: &'static str,
        /// Stock value for few classes and embeddings of two or three dimensions, such as MNIST's.
        mnist: f64,
        /// Stock value for thousands of faces, as its paper has it.
        faces: f64,
        /// The least and the largest.
        range: [f64; 2],
    },
    /// One of several names, the first of them unless another is asked for; its value is its place.
    Choice {
        /// Name on the command line and in files.
        key: &'static str,
        /// The names.
        names: &'static [&'static str],
    },
}

impl Setting {
    /// Name on the command line and in files.
    pub fn key(&self) -> Option<&'static str> {
        match self {
            Setting::Elsewhere(_) => None,
            Setting::Number { key, .. } | Setting::Choice { key, .. } => Some(key),
        }
    }

    /// The stock value for MNIST.
    fn stock(&self) -> f64 {
        if let Setting::Number { mnist, .. } = self { *mnist } else { 0.0 }
    }

    /// What it is unless something else is asked for, in words.
    pub fn default(&self) -> String {
        match self {
            Setting::Elsewhere(words) => (*words).into(),
            Setting::Number { mnist, faces, .. } if mnist == faces => mnist.to_string(),
            Setting::Number { mnist, faces, .. } => format!("{mnist}; for faces {faces}"),
            Setting::Choice { names, .. } => names[0].into(),
        }
    }

    /// A value as it is written.
    pub fn written(&self, value: f64) -> String {
        match self {
            Setting::Choice { names, .. } => names.get(value as usize).copied().unwrap_or_default().into(),
            _ => value.to_string(),
        }
    }

    /// The value of a number or name as it is written.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(&self, text: &str) -> Result<f64, String> {
        match self {
            Setting::Elsewhere(_) => Err("nothing: it is not chosen with the loss".into()),
            Setting::Number { range: [low, high], .. } => {
                let number = text.parse().ok().filter(|number| (*low..=*high).contains(number));
                number.ok_or_else(|| format!("{low} to {high}"))
            }
            Setting::Choice { names, .. } => {
                let place = names.iter().position(|name| *name == text).map(|place| place as f64);
                place.ok_or_else(|| format!("one of {}", names.join(", ")))
            }
        }
    }
}

/// The logits of the other classes where a scale takes the place of the embedding's length.
const OTHER_CLASSES: Formula = Formula {
    text: "z_j = s cos θ_j for j ≠ y",
    mathml: "<math><msub><mi>z</mi><mi>j</mi></msub><mo>=</mo><mi>s</mi><mtext>\u{2009}</mtext><mi>cos\
         </mi><mtext>\u{2009}</mtext><msub><mi>θ</mi><mi>j</mi></msub><mtext>\u{2003}for\u{2002}\
         </mtext><mi>j</mi><mo>≠</mo><mi>y</mi></math>",
};

/// That scale.
const SCALE: Parameter = Parameter {
    symbol: "s",
    meaning: "scale that takes the place of the embedding’s length, above 0",
    setting: Setting::Number { key: "s", mnist: 10.0, faces: 64.0, range: [1e-3, 1e4] },
};

/// Where embeddings are brought to one length, that length.
const LENGTH: Parameter = Parameter {
    symbol: "s",
    meaning: "the length that embeddings are brought to, above 0",
    setting: Setting::Number { key: "s", mnist: 10.0, faces: 30.0, range: [1e-3, 1e4] },
};

/// A margin that multiplies the angle of the true class, by any number.
const MULTIPLE: Parameter = Parameter {
    symbol: "m",
    meaning: "how often the angle of the true class counts, 1 to 8",
    setting: Setting::Number { key: "m", mnist: 1.5, faces: 1.5, range: [1.0, 8.0] },
};

/// All losses.
pub const LOSSES: [&Loss; 15] = [
    &softmax::LOSS,
    &modified::LOSS,
    &sphereface::LOSS,
    &normface::LOSS,
    &cosface::LOSS,
    &arcface::LOSS,
    &combined::LOSS,
    &adaface::LOSS,
    &elasticface::LOSS,
    &sphereface_r::V0,
    &sphereface_r::V1,
    &sphereface_r_others::LOSS,
    &sphereface2::LOSS,
    &uniface::LOSS,
    &sphereface_plus::LOSS,
];

/// Those of the SphereFace paper, which are compared unless others are asked for.
pub const OF_THE_PAPER: [&Loss; 3] = [&softmax::LOSS, &modified::LOSS, &sphereface::LOSS];

impl Loss {
    /// The parameters that are chosen with the loss, in the order of their values.
    pub fn settings(&self) -> impl Iterator<Item = &'static Parameter> + use<> {
        self.parameters.iter().filter(|parameter| parameter.setting.key().is_some())
    }

    /// Values of the settings for MNIST.
    pub fn stock(&self) -> Vec<f64> {
        self.settings().map(|parameter| parameter.setting.stock()).collect()
    }

    /// The head with the stock settings for MNIST.
    pub fn head(&self, classes: usize) -> MarginSoftmax {
        (self.make)(classes, &self.stock())
    }

    /// Settings that between them take every branch of the loss: the stock ones, then with each integer margin, or with
    /// each other name of each choice.
    pub fn variants(&self) -> Vec<Vec<f64>> {
        let stock = self.stock();
        let mut variants = vec![stock.clone()];
        for (place, parameter) in self.settings().enumerate() {
            let values: Vec<f64> = match parameter.setting {
                Setting::Choice { names, .. } => (0..names.len()).map(|value| value as f64).collect(),
                _ if place == 0 => self.margins.iter().map(|&m| f64::from(m)).collect(),
                _ => vec![],
            };
            for value in values.into_iter().filter(|&value| value != stock[place]) {
                let mut variant = stock.clone();
                variant[place] = value;
                variants.push(variant);
            }
        }
        variants
    }
}

/// The loss of this name.
pub fn loss(key: &str) -> Option<&'static Loss> {
    LOSSES.into_iter().find(|loss| loss.key == key)
}

/// Gradients by name.
pub const GRADIENTS: [(&str, Gradient); 3] =
    [("true", Gradient::True), ("detached", Gradient::Detached), ("caffe", Gradient::Caffe)];

/// The loss of a name that may end in that of a gradient, as `sphereface-detached`, and that gradient; without one the
/// loss's own holds.
pub fn loss_and_gradient(key: &str) -> Option<(&'static Loss, Option<Gradient>)> {
    if let Some(loss) = loss(key) {
        return Some((loss, None));
    }
    let (key, name) = key.rsplit_once('-')?;
    let (_, gradient) = GRADIENTS.into_iter().find(|(known, _)| *known == name)?;
    let loss = loss(key)?;
    // The authors' layer has embeddings of any length and class weights of length 1.
    let takes = gradient != Gradient::Caffe || loss.head(2).scale == Scale::FeatureNorm;
    takes.then_some((loss, Some(gradient)))
}

/// How many times its own size an angle of `theta` radians counts as under a margin: `arccos h(cos θ) / θ`, where `h` lies
/// in the cosine's range.
pub fn effective_margin(margin: &dyn Margin, theta: f64, lambda: f64) -> Option<f64> {
    let h = margin.target(theta.cos(), lambda).value;
    (theta > 0.0 && h >= -1.0).then(|| h.min(1.0).acos() / theta)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_settings_are_within_their_ranges() {
        for (i, loss) in LOSSES.into_iter().enumerate() {
            let plain = |key: &str| key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            assert!(plain(loss.key) && LOSSES[..i].iter().all(|other| other.key != loss.key), "{}", loss.key);
            assert_eq!(loss.stock().len(), loss.settings().count());
            for (parameter, value) in loss.settings().zip(loss.stock()) {
                let (setting, name) = (parameter.setting, format!("{} {}", loss.key, parameter.symbol));
                assert!(setting.key().is_some_and(plain), "{name}");
                assert_eq!(setting.parse(&setting.written(value)), Ok(value), "{name}");
                if let Setting::Number { faces, .. } = setting {
                    assert_eq!(setting.parse(&setting.written(faces)), Ok(faces), "{name}");
                }
                assert!(setting.parse("nonsense").is_err() && setting.parse("NaN").is_err(), "{name}");
            }
        }
    }

    #[test]
    fn variants_take_every_choice_and_margin() {
        let count = |key: &str| loss(key).unwrap().variants().len();
        assert_eq!(["softmax", "sphereface", "arcface", "sphereface-r-v0"].map(count), [1, 4, 3, 3]);
    }

    #[test]
    fn a_name_may_end_in_a_gradient() {
        let found = |key: &str| loss_and_gradient(key).map(|(loss, gradient)| (loss.key, gradient));
        assert_eq!(found("sphereface"), Some(("sphereface", None)));
        assert_eq!(found("sphereface-caffe"), Some(("sphereface", Some(Gradient::Caffe))));
        assert_eq!(found("sphereface-r-v1-true"), Some(("sphereface-r-v1", Some(Gradient::True))));
        assert_eq!(found("arcface-detached"), Some(("arcface", Some(Gradient::Detached))));
        assert_eq!(["arcface-caffe", "softmax-caffe", "sphereface-fast", "detached"].map(found), [None; 4]);
    }

    /// Slopes are derivatives, at cosines away from where a margin has a kink or a step; the others' never fall.
    #[test]
    fn slopes_are_derivatives_for_every_variant() {
        for loss in LOSSES {
            for variant in loss.variants() {
                let margin = (loss.make)(10, &variant).margin;
                let step = 1e-6;
                for i in -980..=980 {
                    let c = f64::from(i) / 1000.0 + 2e-4;
                    for (name, h) in [
                        ("target", &(|c: f64| margin.target(c, 0.5)) as &dyn Fn(f64) -> sphereface_tensor::op::Bent),
                        ("other", &|c: f64| margin.other(c)),
                    ] {
                        let (low, at, high) = (h(c - step), h(c), h(c + step));
                        let difference = (high.value - low.value) / (2.0 * step);
                        // A step or a kink: slopes on both sides differ.
                        let smooth = (high.slope - low.slope).abs() < 1e-2;
                        assert!(
                            !smooth || (difference - at.slope).abs() < 1e-3 || difference.abs() > 1e3,
                            "{} {variant:?} {name} at {c}: {difference} {}",
                            loss.key,
                            at.slope
                        );
                        assert!(name == "target" || at.slope >= 0.0, "{} {variant:?} at {c}", loss.key);
                    }
                }
            }
        }
    }
}
