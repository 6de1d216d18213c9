//! Cases as the harness sends them.

use serde::Deserialize;

/// What is run; [`Case::Other`] stands for kinds that no peer of this binary knows.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Case {
    Gemm(Gemm),
    Conv2dForward(Convolution),
    Conv2dBackwardData(Convolution),
    Conv2dBackwardWeight(Convolution),
    FusedForward(Convolution),
    Head(Head),
    Optimizer(Sgd),
    TrainingStep(Training),
    Forward(Embedding),
    #[serde(other)]
    Other,
}

impl Case {
    /// Whether its operands are 32 bits wide, and products as exact as that.
    pub(crate) fn is_f32(&self) -> bool {
        let dtype = match self {
            Case::Gemm(case) => case.dtype,
            Case::Conv2dForward(case)
            | Case::Conv2dBackwardData(case)
            | Case::Conv2dBackwardWeight(case)
            | Case::FusedForward(case) => case.dtype,
            Case::Head(case) => case.dtype,
            Case::TrainingStep(case) => case.dtype,
            Case::Forward(case) => case.dtype,
            Case::Optimizer(_) | Case::Other => Dtype::F32,
        };
        dtype == Dtype::F32
    }
}

/// `c = a · b`, where `a` is `[m, k]` and `b` is `[k, n]`, or their transposes.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Gemm {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) transposed: [bool; 2],
    #[serde(default)]
    pub(crate) dtype: Dtype,
}

/// Type of the operands.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Dtype {
    #[default]
    F32,
    Tf32,
    Bf16,
}

/// A convolution of square filters.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Convolution {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) taps: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    #[serde(default)]
    pub(crate) dtype: Dtype,
}

impl Convolution {
    /// Rows or columns of the input that no output of this count reaches, so that the gradient's size is the input's.
    pub(crate) fn rest(&self, input: usize, output: usize) -> Option<usize> {
        input.checked_sub(((output - 1) * self.stride + self.taps).checked_sub(2 * self.padding)?)
    }
}

/// Forward and backward pass of A-Softmax.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Head {
    #[serde(flatten)]
    pub(crate) margin: Margin,
    #[serde(default)]
    pub(crate) dtype: Dtype,
}

/// A-Softmax's margin `m`, and `lambda`, the weight of the plain cosine.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Margin {
    pub(crate) m: u32,
    pub(crate) lambda: f64,
}

impl Margin {
    /// Coefficients of the Chebyshev polynomial `T_m(cos θ) = cos mθ`, constant first, and the cosines at which a growing
    /// angle enters the next segment of `ψ(θ) = (−1)^k cos mθ − 2k`.
    pub(crate) fn psi(&self) -> anyhow::Result<(&'static [f64], &'static [f64])> {
        const HALF: f64 = std::f64::consts::FRAC_1_SQRT_2;
        Ok(match self.m {
            1 => (&[0.0, 1.0], &[]),
            2 => (&[-1.0, 0.0, 2.0], &[0.0]),
            3 => (&[0.0, -3.0, 0.0, 4.0], &[0.5, -0.5]),
            4 => (&[1.0, 0.0, -8.0, 0.0, 8.0], &[HALF, 0.0, -HALF]),
            m => anyhow::bail!("margin m: expected 1 to 4, found {m}"),
        })
    }
}

/// Stochastic gradient descent.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Sgd {
    pub(crate) momentum: f64,
    pub(crate) decay: f64,
    pub(crate) rate: f64,
    #[serde(default)]
    pub(crate) nesterov: bool,
}

impl Sgd {
    /// The rule for a parameter of this name: biases learn twice as fast and do not decay.
    pub(crate) fn of(self, name: &str) -> Sgd {
        if name.ends_with(".bias") { Sgd { rate: 2.0 * self.rate, decay: 0.0, ..self } } else { self }
    }
}

/// Training steps of a network.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Training {
    pub(crate) network: Network,
    #[serde(flatten)]
    pub(crate) margin: Margin,
    #[serde(flatten)]
    pub(crate) rule: Sgd,
    #[serde(default)]
    pub(crate) dtype: Dtype,
}

/// Forward passes of a network.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Embedding {
    pub(crate) network: Network,
    #[serde(default)]
    pub(crate) dtype: Dtype,
}

/// A SphereFace network: channels and residual units of each stage.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Network {
    pub(crate) stages: Vec<(usize, usize)>,
}

/// A layer before the fully connected one; names are those of the parameters without `.weight` and `.bias`.
#[derive(Clone, Debug)]
pub(crate) enum Layer {
    /// 3×3, padding 1; those of stride 2 have a bias.
    Conv {
        name: String,
        stride: usize,
    },
    Prelu {
        name: String,
    },
    /// Remembers its input for the next `Add`.
    Branch,
    /// Adds what was remembered.
    Add,
}

impl Network {
    pub(crate) fn layers(&self) -> Vec<Layer> {
        let mut layers = Vec::new();
        for (stage, (_, units)) in self.stages.iter().enumerate() {
            let stage = stage + 1;
            layers.push(Layer::Conv { name: format!("stage{stage}.conv"), stride: 2 });
            layers.push(Layer::Prelu { name: format!("stage{stage}.prelu") });
            for unit in 1..=*units {
                layers.push(Layer::Branch);
                for part in 1..=2 {
                    layers.push(Layer::Conv { name: format!("stage{stage}.unit{unit}.conv{part}"), stride: 1 });
                    layers.push(Layer::Prelu { name: format!("stage{stage}.unit{unit}.prelu{part}") });
                }
                layers.push(Layer::Add);
            }
        }
        layers
    }
}
