//! A trained model in the field's layout: what both model formats hold.

use crate::error::Error;
use sphereface_models::{CLASS_WEIGHTS, LayerKind, Model, PIXEL_FACTOR, PIXEL_OFFSET};
use sphereface_tensor::op::Scale;
use sphereface_tensor::{Error as TensorError, ParameterSet};

/// A model with its trained values, and what a reader of its file should know.
#[derive(Clone, Copy, Debug)]
pub struct Trained<'a> {
    /// Network and head.
    pub model: &'a Model,
    /// The model's parameters.
    pub parameters: &'a ParameterSet,
    /// Their block of values.
    pub values: &'a [f32],
    /// Facts for the file's metadata, such as loss and seed, each with a name of its own.
    pub facts: &'a [(&'static str, String)],
}

/// A named array of 32-bit numbers in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Layer and part, as in `stage1.conv.weight`.
    pub name: String,
    /// Sizes, slowest dimension first.
    pub shape: Vec<usize>,
    /// Elements.
    pub values: Vec<f32>,
}

impl Trained<'_> {
    /// All tensors in the order of the layers, class weights last.
    ///
    /// Class weights are those of the logits: of unit length for every loss that normalises them.
    ///
    /// # Shapes
    /// Convolutions `[K, C, R, S]`, the fully connected layer `[D, C·H·W]`, PReLU slopes `[C]`, class weights
    /// `[classes, D]`.
    ///
    /// # Errors
    /// [`Error::Values`] or [`Error::Model`], when the parameters are not those of the model.
    pub fn tensors(&self) -> Result<Vec<Tensor>, Error> {
        if self.values.len() != self.parameters.length() {
            return Err(Error::Values { expected: self.parameters.length(), found: self.values.len() });
        }
        let mut tensors = Vec::new();
        for layer in self.model.network.layers() {
            let (name, outputs) = (&layer.name, layer.output[2]);
            let [height, width, inputs] = layer.input;
            let bias = || Ok::<_, Error>(tensor(format!("{name}.bias"), &[outputs], self.of(&format!("{name}.bias"))?));
            match layer.kind {
                LayerKind::Conv2d { bias: has_bias, .. } => {
                    let filter = self.of(&format!("{name}.filter"))?; // [R, S, C, K]
                    let taps = filter.len() / (inputs * outputs);
                    let side = taps.isqrt();
                    let values = channels_outside(filter, taps, inputs, outputs);
                    tensors.push(Tensor { name: weight(name), shape: vec![outputs, inputs, side, side], values });
                    if has_bias {
                        tensors.push(bias()?);
                    }
                }
                LayerKind::Prelu => {
                    tensors.push(tensor(weight(name), &[outputs], self.of(&format!("{name}.slope"))?));
                }
                LayerKind::Linear => {
                    // [H, W, C, K]: flattened as the activations lie here, while others flatten [C, H, W].
                    let rows = channels_outside(self.of(&weight(name))?, height * width, inputs, outputs);
                    let shape = vec![outputs, inputs * height * width];
                    tensors.push(Tensor { name: weight(name), shape, values: rows });
                    tensors.push(bias()?);
                }
                LayerKind::Branch | LayerKind::Add => {}
            }
        }
        tensors.push(self.class_weights()?);
        Ok(tensors)
    }

    /// The class weights of the logits, `[classes, D]`.
    fn class_weights(&self) -> Result<Tensor, Error> {
        let dim = self.model.network.embedding;
        let mut weights = tensor(CLASS_WEIGHTS.into(), &[self.model.head.classes, dim], self.of(CLASS_WEIGHTS)?);
        if self.model.head.scale != Scale::InnerProduct {
            for row in weights.values.chunks_exact_mut(dim) {
                let norm = row.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
                row.iter_mut().for_each(|w| *w = (f64::from(*w) / norm) as f32);
            }
        }
        Ok(weights)
    }

    /// The trained values of a parameter.
    fn of(&self, name: &str) -> Result<&[f32], Error> {
        let missing = || TensorError::Buffer { name: name.into(), message: "expected a parameter, found none".into() };
        Ok(&self.values[self.parameters.get(name).ok_or_else(missing)?.range()])
    }

    /// The given facts, and those that follow from the model: how to make its input, and what comes out.
    pub(crate) fn metadata(&self) -> Vec<(&'static str, String)> {
        let [height, width, channels] = self.model.network.image;
        let logits = match self.model.head.scale {
            Scale::InnerProduct => "embedding · classifier.weightᵀ".to_owned(),
            Scale::FeatureNorm => "embedding · classifier.weightᵀ, rows of unit length".to_owned(),
            Scale::Constant(scale) => {
                format!("{scale} × embedding / ‖embedding‖ · classifier.weightᵀ, rows of unit length")
            }
        };
        let mut metadata = self.facts.to_vec();
        metadata.push(("input", format!("images [N, {channels}, {height}, {width}], f32, each pixel {}", pixel())));
        metadata.push(("output", format!("embeddings [N, {}], not normalised", self.model.network.embedding)));
        metadata.push(("logits", logits));
        metadata
    }
}

/// How a pixel becomes a number.
fn pixel() -> String {
    format!("(byte - {PIXEL_OFFSET}) / {}", 1.0 / PIXEL_FACTOR)
}

fn weight(layer: &str) -> String {
    format!("{layer}.weight")
}

fn tensor(name: String, shape: &[usize], values: &[f32]) -> Tensor {
    Tensor { name, shape: shape.to_vec(), values: values.to_vec() }
}

/// From `[pixels, C, K]` to `[K, C, pixels]`.
fn channels_outside(values: &[f32], pixels: usize, inputs: usize, outputs: usize) -> Vec<f32> {
    let mut result = Vec::with_capacity(values.len());
    for k in 0..outputs {
        for c in 0..inputs {
            result.extend((0..pixels).map(|pixel| values[(pixel * inputs + c) * outputs + k]));
        }
    }
    result
}
