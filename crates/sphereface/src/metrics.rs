//! What a step of training, or an evaluation, measures.

use sphereface_tensor::op::METRICS;

/// Sums over images: of one step, or of a whole set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Number of images.
    pub rows: f64,
    /// Sum of their losses.
    pub loss: f64,
    /// How many were right by the logits without margin.
    pub hits_logits: f64,
    /// By the cosines.
    pub hits_cosines: f64,
    /// By the logits with margin, which know the label.
    pub hits_penalised: f64,
    /// Sum of the embeddings' norms.
    pub feature_norm: f64,
    /// Norm of all gradients before it is clipped, the largest of several steps; 0 of an evaluation.
    pub gradient_norm: f64,
}

impl Metrics {
    /// A row of a backend's log.
    pub(crate) fn new(values: &[f32]) -> Metrics {
        let at =
            |name: &str| METRICS.iter().position(|metric| *metric == name).map_or(f64::NAN, |i| f64::from(values[i]));
        Metrics {
            rows: at("rows"),
            loss: at("loss"),
            hits_logits: at("hits_logits"),
            hits_cosines: at("hits_cosines"),
            hits_penalised: at("hits_penalised"),
            feature_norm: at("feature_norm"),
            gradient_norm: at("gradient_norm"),
        }
    }

    pub(crate) fn add(self, other: Metrics) -> Metrics {
        Metrics {
            rows: self.rows + other.rows,
            loss: self.loss + other.loss,
            hits_logits: self.hits_logits + other.hits_logits,
            hits_cosines: self.hits_cosines + other.hits_cosines,
            hits_penalised: self.hits_penalised + other.hits_penalised,
            feature_norm: self.feature_norm + other.feature_norm,
            gradient_norm: self.gradient_norm.max(other.gradient_norm),
        }
    }

    /// Mean over the images of something that was summed.
    pub fn mean(&self, sum: f64) -> f64 {
        sum / self.rows
    }

    /// Share of the images that were right by the logits without margin: how a trained classifier is judged.
    pub fn accuracy(&self) -> f64 {
        self.mean(self.hits_logits)
    }
}
