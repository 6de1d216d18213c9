//! SphereFace networks as descriptions: stages of residual units, counted, declared and built from one list of layers.

use crate::backbone::Backbone;
use sphereface_tensor::{BufferId, Dim, Error, Init, ParameterSet, PlanBuilder, Shape};

/// Filters of every convolution are 3×3, with one pixel of padding.
pub const TAPS: usize = 3;
const PADDING: usize = 1;
/// PReLU slopes start here.
const SLOPE: f32 = 0.25;

/// How parameters start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initialisation {
    /// As in the authors' Caffe files: uniform `±√(3 / fan_in)` where strides are 2 and in fully connected layers,
    /// `N(0, 0.01)` inside residual units.
    Official,
    /// He et al., ICCV 2015, in convolutions: normal with variance `2 / ((1 + 0.25²) fan_in)`; class weights on the unit
    /// sphere, fully connected layers as in the authors' files.
    He,
}

/// A convolution of stride 2 with PReLU, then residual units `x + prelu(conv(prelu(conv x)))`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Channels of all its convolutions.
    pub channels: usize,
    /// Number of residual units.
    pub units: usize,
}

/// Description of a network from images `[H, W, N, C]` to embeddings `[N, D]`.
///
/// ```
/// use sphereface_models::Network;
///
/// let sphereface20 = Network::input([28, 28, 1]).stage(64, 1).stage(128, 2).stage(256, 4).stage(512, 1).linear(2);
/// assert_eq!(sphereface20.parameter_count(), 11_659_330);
/// ```
///
/// # Source
/// Liu et al., CVPR 2017, table 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Height, width and channels of an image.
    pub image: [usize; 3],
    /// Stages, first to last.
    pub stages: Vec<Stage>,
    /// Length of the embedding.
    pub embedding: usize,
    /// How parameters start.
    pub initialisation: Initialisation,
}

/// What a layer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// 3×3 convolution, padding 1.
    Conv2d {
        /// Step between neighbouring outputs.
        stride: usize,
        /// Whether it has a bias (and opens a stage).
        bias: bool,
    },
    /// Parametric rectifier.
    Prelu,
    /// Remembers its input for the next [`LayerKind::Add`].
    Branch,
    /// Adds what was remembered.
    Add,
    /// Fully connected.
    Linear,
}

/// One row of the layer table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Name, as in the parameters' names.
    pub name: String,
    /// What it does.
    pub kind: LayerKind,
    /// Height, width and channels of its input.
    pub input: [usize; 3],
    /// Height, width and channels of its output.
    pub output: [usize; 3],
}

impl Layer {
    /// Trained values.
    pub fn parameters(&self) -> usize {
        let (inputs, outputs) = (self.input[2], self.output[2]);
        match self.kind {
            LayerKind::Conv2d { bias, .. } => TAPS * TAPS * inputs * outputs + if bias { outputs } else { 0 },
            LayerKind::Prelu => outputs,
            LayerKind::Branch | LayerKind::Add => 0,
            LayerKind::Linear => (self.input.iter().product::<usize>() + 1) * outputs,
        }
    }

    /// Multiply-adds of one image, padding multiplied.
    pub fn multiply_adds(&self) -> usize {
        let outputs: usize = self.output.iter().product();
        match self.kind {
            LayerKind::Conv2d { .. } => TAPS * TAPS * self.input[2] * outputs,
            LayerKind::Linear => self.input.iter().product::<usize>() * outputs,
            LayerKind::Prelu | LayerKind::Branch | LayerKind::Add => 0,
        }
    }
}

impl Network {
    /// A network without layers, for images of this height, width and number of channels.
    pub fn input(image: [usize; 3]) -> Self {
        Network { image, stages: vec![], embedding: 0, initialisation: Initialisation::Official }
    }

    /// Appends a stage.
    pub fn stage(mut self, channels: usize, units: usize) -> Self {
        self.stages.push(Stage { channels, units });
        self
    }

    /// Ends in a fully connected layer to an embedding.
    pub fn linear(mut self, embedding: usize) -> Self {
        self.embedding = embedding;
        self
    }

    /// Changes how parameters start.
    pub fn initialised(mut self, initialisation: Initialisation) -> Self {
        self.initialisation = initialisation;
        self
    }

    /// All layers in order: the one list from which parameters, plan, counts and tables are made.
    pub fn layers(&self) -> Vec<Layer> {
        let mut layers: Vec<Layer> = Vec::new();
        let mut at = self.image;
        let mut push = |name: String, kind: LayerKind, channels: usize| {
            let output = match kind {
                LayerKind::Conv2d { stride, .. } => {
                    let size = |size: usize| size.saturating_add(2 * PADDING).saturating_sub(TAPS) / stride + 1;
                    [size(at[0]), size(at[1]), channels]
                }
                LayerKind::Linear => [1, 1, channels],
                _ => at,
            };
            layers.push(Layer { name, kind, input: at, output });
            at = output;
        };
        for (stage, &Stage { channels, units }) in self.stages.iter().enumerate() {
            let stage = stage + 1;
            push(format!("stage{stage}.conv"), LayerKind::Conv2d { stride: 2, bias: true }, channels);
            push(format!("stage{stage}.prelu"), LayerKind::Prelu, channels);
            for unit in 1..=units {
                push(format!("stage{stage}.unit{unit}.branch"), LayerKind::Branch, channels);
                for conv in 1..=2 {
                    let kind = LayerKind::Conv2d { stride: 1, bias: false };
                    push(format!("stage{stage}.unit{unit}.conv{conv}"), kind, channels);
                    push(format!("stage{stage}.unit{unit}.prelu{conv}"), LayerKind::Prelu, channels);
                }
                push(format!("stage{stage}.unit{unit}.add"), LayerKind::Add, channels);
            }
        }
        push("embedding".into(), LayerKind::Linear, self.embedding);
        layers
    }

    /// Trained values, classifier not included.
    pub fn parameter_count(&self) -> usize {
        self.layers().iter().map(Layer::parameters).sum()
    }

    /// Multiply-adds of one image, padding multiplied, classifier not included.
    pub fn multiply_adds(&self) -> usize {
        self.layers().iter().map(Layer::multiply_adds).sum()
    }

    fn init(&self, fan_in: usize, in_unit: bool) -> Init {
        match self.initialisation {
            Initialisation::He => {
                let gain = 2.0 / (1.0 + f64::from(SLOPE).powi(2));
                Init::Normal { std: (gain / fan_in as f64).sqrt() as f32 }
            }
            Initialisation::Official if in_unit => Init::Normal { std: 0.01 },
            Initialisation::Official => xavier(fan_in),
        }
    }
}

impl Backbone for Network {
    fn image(&self) -> [usize; 3] {
        self.image
    }

    fn embedding(&self) -> usize {
        self.embedding
    }

    /// Biases are trained at twice the rate and without weight decay.
    fn declare(&self, parameters: &mut ParameterSet) -> Result<(), Error> {
        for layer in self.layers() {
            let (inputs, outputs) = (layer.input[2], layer.output[2]);
            let name = &layer.name;
            match layer.kind {
                LayerKind::Conv2d { bias, .. } => {
                    let init = self.init((TAPS * TAPS).saturating_mul(inputs), !bias);
                    parameters.add(
                        format!("{name}.filter"),
                        Shape::filter(TAPS, TAPS, inputs, outputs),
                        init,
                        1.0,
                        1.0,
                    )?;
                    if bias {
                        let zero = Init::Constant(0.0);
                        parameters.add(format!("{name}.bias"), Shape::vector(Dim::K, outputs), zero, 0.0, 2.0)?;
                    }
                }
                LayerKind::Prelu => {
                    let shape = Shape::vector(Dim::C, outputs);
                    parameters.add(format!("{name}.slope"), shape, Init::Constant(SLOPE), 1.0, 1.0)?;
                }
                LayerKind::Linear => {
                    let [height, width, _] = layer.input;
                    let shape = Shape::filter(height, width, inputs, outputs);
                    let init = xavier(height.saturating_mul(width).saturating_mul(inputs));
                    parameters.add(format!("{name}.weight"), shape, init, 1.0, 1.0)?;
                    let zero = Init::Constant(0.0);
                    parameters.add(format!("{name}.bias"), Shape::vector(Dim::K, outputs), zero, 0.0, 2.0)?;
                }
                LayerKind::Branch | LayerKind::Add => {}
            }
        }
        Ok(())
    }

    fn build(&self, plan: &mut PlanBuilder<'_>, x: BufferId) -> Result<BufferId, Error> {
        let mut value = x;
        let mut branch = x;
        for layer in self.layers() {
            let name = &layer.name;
            plan.label(name.clone());
            match layer.kind {
                LayerKind::Conv2d { stride, bias } => {
                    let filter = plan.parameter(&format!("{name}.filter"))?;
                    let bias = if bias { Some(plan.parameter(&format!("{name}.bias"))?) } else { None };
                    value = plan.conv2d(value, filter, bias, stride, PADDING)?;
                }
                LayerKind::Prelu => value = plan.prelu(value, plan.parameter(&format!("{name}.slope"))?)?,
                LayerKind::Branch => branch = value,
                LayerKind::Add => value = plan.add(value, branch)?,
                LayerKind::Linear => {
                    let weight = plan.parameter(&format!("{name}.weight"))?;
                    value = plan.linear(value, weight, plan.parameter(&format!("{name}.bias"))?)?;
                }
            }
        }
        Ok(value)
    }

    fn classifier_init(&self) -> Init {
        match self.initialisation {
            Initialisation::He => Init::UnitRows,
            Initialisation::Official => xavier(self.embedding),
        }
    }
}

/// Xavier as Caffe defines it: uniform with variance `1 / fan_in`.
fn xavier(fan_in: usize) -> Init {
    Init::Uniform { bound: (3.0 / fan_in as f64).sqrt() as f32 }
}
