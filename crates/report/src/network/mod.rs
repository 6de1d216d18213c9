//! A network's layers, put in order for people: stages, residual units, and equal units as one.

pub(crate) mod dot;
pub(crate) mod table;

use crate::model::{LayerInfo, LayerKind, NetworkInfo};

/// Layers that belong together.
#[derive(Debug, Clone)]
pub(crate) struct Part<'a> {
    /// Number of the stage it lies in, from 1 on; the input and what follows the last stage lie in none.
    pub(crate) stage: Option<usize>,
    /// Whether it is a residual unit: what enters it is added to what leaves it.
    pub(crate) residual: bool,
    /// Equal parts that follow each other.
    pub(crate) times: usize,
    /// Its layers; those of all equal parts are summed.
    pub(crate) rows: Vec<Row<'a>>,
}

/// A layer of a part, and the layers in its place in equal parts.
#[derive(Debug, Clone)]
pub(crate) struct Row<'a> {
    /// The first of them.
    pub(crate) layer: &'a LayerInfo,
    pub(crate) sums: Sums,
}

/// Sums over layers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sums {
    pub(crate) layers: usize,
    pub(crate) parameters: u64,
    pub(crate) multiply_adds: u64,
    pub(crate) activation_bytes: u64,
    pub(crate) parameter_bytes: u64,
    /// Share of the time; 0 if not measured.
    pub(crate) time: f64,
}

impl Sums {
    pub(crate) fn of<'a>(layers: impl IntoIterator<Item = &'a LayerInfo>) -> Self {
        layers.into_iter().fold(Self::default(), |sums, layer| Self {
            layers: sums.layers + 1,
            parameters: sums.parameters + layer.parameters,
            multiply_adds: sums.multiply_adds + layer.multiply_adds,
            activation_bytes: sums.activation_bytes + layer.activation_bytes,
            parameter_bytes: sums.parameter_bytes + layer.parameter_bytes,
            time: sums.time + layer.time.unwrap_or(0.0),
        })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.activation_bytes + self.parameter_bytes
    }
}

impl LayerInfo {
    /// Whether its result has fewer pixels than what it reads.
    pub(crate) fn downsamples(&self) -> bool {
        matches!(self.kind, LayerKind::Convolution { stride: 2.., .. })
    }

    /// What it does, in a few words, without its PReLU.
    pub(crate) fn words(&self) -> String {
        match self.kind {
            LayerKind::Input => "image".to_string(),
            LayerKind::Convolution { size, stride: 1 } => format!("conv {size}×{size}"),
            LayerKind::Convolution { size, stride } => format!("conv {size}×{size}, stride {stride}"),
            LayerKind::Linear => "fully connected".to_string(),
            LayerKind::Classifier => "class weights".to_string(),
        }
    }

    /// Height, width and channels of its result: `14×14×64`; of a vector its length.
    pub(crate) fn shape(&self) -> String {
        match self.output {
            [1, 1, length] => length.to_string(),
            [height, width, channels] => format!("{height}×{width}×{channels}"),
        }
    }
}

/// Whether times were measured.
pub(crate) fn timed(network: &NetworkInfo) -> bool {
    network.layers.iter().any(|layer| layer.time.is_some())
}

/// The network in parts, in order.
pub(crate) fn parts(network: &NetworkInfo) -> Vec<Part<'_>> {
    let layers = &network.layers;
    let mut parts: Vec<(Option<usize>, Vec<&[LayerInfo]>)> = Vec::new();
    let (mut at, mut stage) = (0, 0);
    while at < layers.len() {
        let layer = &layers[at];
        let convolution = matches!(layer.kind, LayerKind::Convolution { .. });
        if convolution && (stage == 0 || layer.downsamples()) {
            stage += 1;
        }
        let part = &layers[at..unit_end(layers, at).unwrap_or(at + 1)];
        at += part.len();
        let place = convolution.then_some(stage);
        match parts.last_mut() {
            Some((last, equal)) if *last == place && part.len() > 1 && alike(equal[0], part) => equal.push(part),
            _ => parts.push((place, vec![part])),
        }
    }
    let finished = parts.into_iter().map(|(stage, equal)| {
        let first = equal[0];
        let row = |(place, layer)| Row { layer, sums: Sums::of(equal.iter().map(|part| &part[place])) };
        Part {
            stage,
            residual: first.last().is_some_and(|layer| layer.reads.len() > 1),
            times: equal.len(),
            rows: first.iter().enumerate().map(row).collect(),
        }
    });
    finished.collect()
}

/// Where the residual unit ends that begins at `at`, the place after its last layer, if one begins there.
fn unit_end(layers: &[LayerInfo], at: usize) -> Option<usize> {
    let entering = layers[at].reads.first()?;
    let adds = |layer: &LayerInfo| layer.reads.get(1) == Some(entering);
    let end = at + layers[at..].iter().position(adds)?;
    let inside = layers[at..=end].iter().filter(|layer| layer.reads.len() > 1).count();
    (inside == 1).then_some(end + 1)
}

/// Whether two parts compute the same on different parameters.
fn alike(a: &[LayerInfo], b: &[LayerInfo]) -> bool {
    let of = |layer: &LayerInfo| {
        (layer.kind, layer.prelu, layer.reads.len(), layer.output, layer.parameters, layer.multiply_adds)
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| of(a) == of(b))
}

/// A part as table 2 of the SphereFace paper writes it: `[3×3, 64; 3×3, 64] × 2`; empty without a convolution.
pub(crate) fn notation(part: &Part<'_>) -> String {
    let convolutions = part.rows.iter().filter_map(|row| match row.layer.kind {
        LayerKind::Convolution { size, .. } => Some(format!("{size}×{size}, {}", row.layer.output[2])),
        _ => None,
    });
    let convolutions: Vec<String> = convolutions.collect();
    let stride = part.rows.iter().find_map(|row| match row.layer.kind {
        LayerKind::Convolution { stride: stride @ 2.., .. } => Some(format!(", S{stride}")),
        _ => None,
    });
    if convolutions.is_empty() {
        return String::new();
    }
    format!("[{}] × {}{}", convolutions.join("; "), part.times, stride.unwrap_or_default())
}
