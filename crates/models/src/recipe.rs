//! How digits are trained unless something else is asked for: by the trainer, and by the bench's whole training.

use crate::model::{ImageSource, Training};
use crate::schedule::{Lambda, Rate};
use sphereface_tensor::op::{Augmentation, Rule};

/// Settings of a whole training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// Name in [`NETWORKS`](crate::NETWORKS).
    pub network: &'static str,
    /// Margin of A-Softmax.
    pub m: u32,
    /// Times that each image is seen.
    pub epochs: usize,
    /// Images of a step.
    pub batch: usize,
    /// Seed of initial values, order and augmentation.
    pub seed: u64,
    /// Largest learning rate, see [`Rate::Cosine`].
    pub rate: f64,
    /// Fraction of the steps in which the rate rises.
    pub warm_up: f64,
    /// First λ of annealed margins, see [`Lambda::Quadratic`].
    pub lambda: f64,
    /// Fraction of the steps after which λ is 0.
    pub lambda_until: f64,
    /// Nesterov's momentum.
    pub momentum: f64,
    /// Weight decay.
    pub decay: f64,
    /// Largest norm of the gradient.
    pub clip: f64,
    /// Random changes of the images.
    pub augmentation: Augmentation,
}

/// The recipe of the default run.
pub const DIGITS: Recipe = Recipe {
    network: "mnist",
    m: 4,
    epochs: 5,
    batch: 128,
    seed: 1,
    rate: 0.05,
    warm_up: 0.15,
    lambda: 20.0,
    lambda_until: 0.9,
    momentum: 0.9,
    decay: 5e-4,
    clip: 5.0,
    augmentation: Augmentation { shift: 1, mirror: false },
};

impl Recipe {
    /// Learning rates.
    pub fn rate(&self) -> Rate {
        Rate::Cosine { peak: self.rate, warm_up: self.warm_up }
    }

    /// λ of annealed margins.
    pub fn lambda(&self) -> Lambda {
        Lambda::Quadratic { start: self.lambda, until: self.lambda_until }
    }

    /// Update rule.
    pub fn rule(&self) -> Rule {
        Rule::Sgd { momentum: self.momentum as f32, nesterov: true }
    }

    /// Steps of the whole training on a set of this size.
    pub fn steps(&self, images: usize) -> usize {
        (self.epochs * images).div_ceil(self.batch)
    }

    /// What the plan of a training on a set of this size needs to know; the log has a row for each of 64 steps.
    pub fn training(&self, images: usize) -> Training {
        Training {
            source: ImageSource { name: "train", images },
            batch: self.batch,
            steps: self.steps(images),
            seed: self.seed,
            augmentation: self.augmentation,
            rule: self.rule(),
            decay: self.decay as f32,
            clip: (self.clip > 0.0).then_some(self.clip as f32),
            log_rows: 64,
        }
    }
}
