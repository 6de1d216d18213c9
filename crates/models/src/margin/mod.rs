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

/// One loss of the family.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// Name on the command line and in files.
    pub key: &'static str,
    /// Name in tables.
    pub title: &'static str,
    /// Logits in one line of text.
    pub formula: &'static str,
    /// Paper and equation.
    pub source: &'static str,
    /// Whether the margin is annealed by λ.
    pub annealed: bool,
    /// Margin and scale for an integer margin `m` (ignored by losses without one).
    pub head: fn(m: u32) -> (Arc<dyn Margin>, Scale),
}

/// All losses.
pub const LOSSES: [&Loss; 3] = [&softmax::LOSS, &modified::LOSS, &sphereface::LOSS];

/// The loss of this name.
pub fn loss(key: &str) -> Option<&'static Loss> {
    LOSSES.into_iter().find(|loss| loss.key == key)
}
