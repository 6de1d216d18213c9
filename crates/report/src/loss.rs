//! What a report knows of a loss: its description in words and formulas, and its functions as tables.
//!
//! Nothing of it is computed here: whoever fills a [`LossInfo`] samples the functions of the loss itself.

use serde::{Deserialize, Serialize};

/// One loss: what a reader is told of it, and the tables that pictures are drawn from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LossInfo {
    /// Key, as in [`Training::loss`](crate::Training::loss). Names files, so `[a-z0-9_-]` only.
    pub key: String,
    /// Name in tables.
    pub title: String,
    /// Logits, with what they are made of.
    pub formulas: Vec<Formula>,
    /// What the loss does, in a few sentences of plain text.
    pub explanation: String,
    /// Paper and equation.
    pub source: String,
    /// What can be chosen.
    pub parameters: Vec<Parameter>,
    /// What multiplies the cosines.
    pub scale: Scale,
    /// Key of the loss whose values these are, if another derivative of them is followed: with several derivatives of one
    /// loss a report shows what they change.
    #[serde(default)]
    pub value_of: Option<String>,
    /// Which derivative is followed, one sentence; empty if unknown.
    #[serde(default)]
    pub gradient: String,
    /// Whether λ mixes the plain cosine in while a network trains.
    pub annealed: bool,
    /// Integer margin of the trainings shown, if the loss has one.
    pub margin: Option<u32>,
    /// Test accuracy on MNIST that was published for it.
    pub published: Option<f64>,
    /// What becomes of the target's cosine, for each margin and for one or more λ. Between two λ, values and slopes go
    /// linearly with `1 / (1 + λ)`.
    pub targets: Vec<TargetCurve>,
    /// How much the target's angle counts, for each margin and λ; empty for a loss that leaves it as it is.
    pub effective_margins: Vec<EffectiveMargin>,
    /// How λ falls over a training; empty unless annealed.
    pub schedules: Vec<Schedule>,
    /// The loss and its gradients at a few places, exactly: what drawings compute from the tables is held against them. Empty
    /// for a loss that is more than a softmax of one bent cosine beside straight ones: it is not drawn.
    pub samples: Vec<HeadSample>,
}

/// One formula, written twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formula {
    /// In one line of text.
    pub text: String,
    /// As one MathML `<math>` element of presentation markup without attributes; anything else is shown as text.
    pub mathml: String,
}

/// A number that is chosen for a training.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// As it stands in the formulas.
    pub symbol: String,
    /// What it is and what it may be.
    pub meaning: String,
    /// What it is unless something else is asked for.
    pub default: String,
}

/// What multiplies the cosines.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// `‖x‖ ‖w‖`.
    InnerProduct,
    /// `‖x‖`.
    FeatureNorm,
    /// A constant.
    Constant(f64),
}

/// `h(cos θ)` and `h′(cos θ)` at angles evenly spaced from 0° to 180°, both ends among them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetCurve {
    /// Integer margin, if the loss has one.
    pub margin: Option<u32>,
    /// Annealing weight.
    pub lambda: f64,
    /// `h`.
    pub values: Vec<f32>,
    /// `h′`, with respect to the cosine.
    pub slopes: Vec<f32>,
}

/// `arccos h(cos θ) / θ` at angles evenly spaced from 0° to 180°, both ends among them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EffectiveMargin {
    /// Integer margin, if the loss has one.
    pub margin: Option<u32>,
    /// Annealing weight.
    pub lambda: f64,
    /// The factor; nothing where `h` is below -1 and at 0°.
    pub factors: Vec<Option<f32>>,
}

/// λ at moments evenly spaced from the first step of a training to the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Whose schedule it is.
    pub title: String,
    /// The values.
    pub lambdas: Vec<f32>,
}

/// The loss of one embedding in two dimensions with two classes, the first of which is the true one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadSample {
    /// Integer margin, if the loss has one.
    pub margin: Option<u32>,
    /// Annealing weight.
    pub lambda: f64,
    /// The embedding.
    pub embedding: [f64; 2],
    /// The class weights.
    pub class_weights: [[f64; 2]; 2],
    /// The loss.
    pub loss: f64,
    /// Its gradient with respect to the embedding.
    pub d_embedding: [f64; 2],
    /// Its gradient with respect to the class weights.
    pub d_class_weights: [[f64; 2]; 2],
}

impl LossInfo {
    /// Key of the loss whose values these are.
    pub(crate) fn family(&self) -> &str {
        self.value_of.as_deref().unwrap_or(&self.key)
    }

    /// Whether the lengths of the class weights take part in the logits.
    pub(crate) fn scores_by_norms(&self) -> bool {
        self.scale == Scale::InnerProduct
    }
}
