//! A trained model in the field's layout: what both model formats hold.

use crate::error::Error;
use sphereface_models::{CLASS_BIAS, CLASS_WEIGHTS, LayerKind, Model, PIXEL_FACTOR, PIXEL_OFFSET, TAPS};
use sphereface_tensor::op::Scale;
use sphereface_tensor::{Error as TensorError, Parameter, ParameterSet};

/// The fact that says how large an image is: height, width and channels.
pub(crate) const IMAGE: &str = "image";
/// The fact that names the loss, one of those that `sphereface_models` lists; its settings are facts of their own names.
pub(crate) const LOSS: &str = "loss";

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
        let place = |place: Place| {
            let values = &self.values[parameter(self.parameters, &place.parameter)?.range()];
            let values = match place.product {
                Some([pixels, inputs, outputs]) => transposed(values, pixels, inputs, outputs),
                None => values.to_vec(),
            };
            Ok(Tensor { name: place.name, shape: place.shape, values })
        };
        let mut tensors = places(self.model).into_iter().map(place).collect::<Result<Vec<Tensor>, Error>>()?;
        if self.model.head.scale != Scale::InnerProduct {
            let class_weights = tensors.iter_mut().filter(|tensor| tensor.name == CLASS_WEIGHTS);
            class_weights.for_each(|tensor| normalise(&mut tensor.values, self.model.network.embedding));
        }
        Ok(tensors)
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
        metadata.push((IMAGE, format!("{height}x{width}x{channels}")));
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

/// Where a parameter stands in a file.
pub(crate) struct Place {
    /// Name of the tensor.
    pub(crate) name: String,
    /// Its shape.
    pub(crate) shape: Vec<usize>,
    /// Name of our parameter.
    pub(crate) parameter: String,
    /// Pixels, C and K of a parameter `[pixels, C, K]` whose tensor is `[K, C, pixels]`: convolutions, and the fully
    /// connected layer, which others flatten as `[C, H, W]`. All else is the same in both.
    pub(crate) product: Option<[usize; 3]>,
}

/// The places of all parameters in the order of the layers, class weights and their bias last.
pub(crate) fn places(model: &Model) -> Vec<Place> {
    let mut places = Vec::new();
    let mut push = |name: String, shape: Vec<usize>, parameter: String, product| {
        places.push(Place { name, shape, parameter, product });
    };
    for layer in model.network.layers() {
        let (name, [height, width, inputs], outputs) = (&layer.name, layer.input, layer.output[2]);
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        match layer.kind {
            LayerKind::Conv2d { bias: has_bias, .. } => {
                let product = Some([TAPS * TAPS, inputs, outputs]);
                push(weight, vec![outputs, inputs, TAPS, TAPS], format!("{name}.filter"), product);
                if has_bias {
                    push(bias.clone(), vec![outputs], bias, None);
                }
            }
            LayerKind::Prelu => push(weight, vec![outputs], format!("{name}.slope"), None),
            LayerKind::Linear => {
                let pixels = height * width;
                push(weight.clone(), vec![outputs, inputs * pixels], weight, Some([pixels, inputs, outputs]));
                push(bias.clone(), vec![outputs], bias, None);
            }
            LayerKind::Branch | LayerKind::Add => {}
        }
    }
    push(CLASS_WEIGHTS.into(), vec![model.head.classes, model.network.embedding], CLASS_WEIGHTS.into(), None);
    if model.head.has_bias() {
        push(CLASS_BIAS.into(), vec![1], CLASS_BIAS.into(), None);
    }
    places
}

/// The parameter of this name.
pub(crate) fn parameter<'a>(parameters: &'a ParameterSet, name: &str) -> Result<&'a Parameter, TensorError> {
    let missing = || TensorError::Buffer { name: name.into(), message: "expected a parameter, found none".into() };
    parameters.get(name).ok_or_else(missing)
}

/// From `[a, b, c]` to `[c, b, a]`.
pub(crate) fn transposed(values: &[f32], a: usize, b: usize, c: usize) -> Vec<f32> {
    let mut result = Vec::with_capacity(values.len());
    for k in 0..c {
        for j in 0..b {
            result.extend((0..a).map(|i| values[(i * b + j) * c + k]));
        }
    }
    result
}

/// Makes each row a unit vector.
fn normalise(values: &mut [f32], columns: usize) {
    for row in values.chunks_exact_mut(columns) {
        let norm = row.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        row.iter_mut().for_each(|w| *w = (f64::from(*w) / norm) as f32);
    }
}
