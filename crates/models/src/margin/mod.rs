//! The losses: each file holds one margin with its value, slope, documentation and line in the terminal.
//!
//! A new loss is a file here and a line in [`LOSSES`]; tests, plots, command line and report loop over that list.

mod modified;
mod softmax;
mod sphereface;

pub use modified::ModifiedSoftmax;
pub use softmax::OriginalSoftmax;
pub use sphereface::SphereFace;

use sphereface_tensor::op::{Margin, Scale};
use std::sync::Arc;

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
    /// Integer margins that `head` takes; empty for a loss without one.
    pub margins: &'static [u32],
    /// Whether the margin is annealed by λ.
    pub annealed: bool,
    /// Test accuracy on MNIST as the repository YunYang1994/SphereFace publishes it.
    pub published: Option<f64>,
    /// Margin and scale for an integer margin `m` (ignored by losses without one).
    pub head: fn(m: u32) -> (Arc<dyn Margin>, Scale),
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
    /// What it is unless something else is asked for.
    pub default: &'static str,
}

/// All losses.
pub const LOSSES: [&Loss; 3] = [&softmax::LOSS, &modified::LOSS, &sphereface::LOSS];

/// The loss of this name.
pub fn loss(key: &str) -> Option<&'static Loss> {
    LOSSES.into_iter().find(|loss| loss.key == key)
}

/// How many times its own size an angle of `theta` radians counts as under a margin: `arccos h(cos θ) / θ`, where `h` lies
/// in the cosine's range.
pub fn effective_margin(margin: &dyn Margin, theta: f64, lambda: f64) -> Option<f64> {
    let h = margin.target(theta.cos(), lambda).value;
    (theta > 0.0 && h >= -1.0).then(|| h.min(1.0).acos() / theta)
}
