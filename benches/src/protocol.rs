//! What we and a peer say to each other: a case as JSON, tensors as safetensors.

use crate::prepared::{Tensor, Values};
use anyhow::{Context, Result};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use sphereface_models::named_network;
use sphereface_tensor::op::Layout;
use sphereface_testkit::workload::{
    Arithmetic, BATCHES, CLASSES, DECAY, LAMBDA, MARGIN, MOMENTUM, Pass, RATE, Task, Workload,
};
use std::path::Path;

/// A case as peers are told it.
pub fn case(work: &Workload, arithmetic: Arithmetic) -> Value {
    let mut case = match *work {
        Workload::Gemm { layout, sizes: [m, n, k] } => {
            json!({ "kind": "gemm", "m": m, "n": n, "k": k, "transposed": [layout == Layout::TN, layout == Layout::NT] })
        }
        Workload::Conv2d { pass, sizes: [height, width, batch, inputs, outputs, taps, stride, padding] } => {
            let kind = match pass {
                Pass::Forward => "conv2d_forward",
                Pass::BackwardData => "conv2d_backward_data",
                Pass::BackwardWeight => "conv2d_backward_weight",
                Pass::FusedForward => "fused_forward",
                Pass::FusedBackward => "fused_backward",
            };
            json!({
                "kind": kind, "height": height, "width": width, "batch": batch, "inputs": inputs, "outputs": outputs,
                "taps": taps, "stride": stride, "padding": padding,
            })
        }
        Workload::Head { classes, dimension, batch } => {
            json!({
                "kind": "head", "classes": classes, "dimension": dimension, "batch": batch, "m": MARGIN,
                "lambda": decimal(LAMBDA),
            })
        }
        Workload::Optimizer { length } => {
            json!({
                "kind": "optimizer", "length": length, "momentum": decimal(MOMENTUM), "decay": decimal(DECAY),
                "rate": decimal(RATE),
            })
        }
        Workload::Network { task, key, image, embedding, batch } => {
            let stages = named_network(key).map_or(&[][..], |network| network.stages);
            let trains = task == Task::TrainingStep;
            json!({
                "kind": if trains { "training_step" } else { "forward" },
                "network": { "image": image, "stages": stages, "embedding": embedding },
                "batch": batch, "classes": CLASSES, "m": MARGIN, "lambda": decimal(LAMBDA), "momentum": decimal(MOMENTUM),
                "decay": decimal(DECAY), "rate": decimal(RATE), "nesterov": false,
                "steps": if trains { BATCHES } else { 1 },
            })
        }
    };
    case["dtype"] = arithmetic.name().into();
    case
}

/// The decimal number that was written into the source, not the longer one of its binary form.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// Writes tensors into a file.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, tensors: &[Tensor]) -> Result<()> {
    let view = |tensor: &'_ Tensor| -> Result<(String, Dtype, Vec<usize>)> {
        let dtype = match tensor.values {
            Values::F32(_) => Dtype::F32,
            Values::I32(_) => Dtype::I32,
            Values::U8(_) => Dtype::U8,
        };
        Ok((tensor.name.clone(), dtype, tensor.shape.clone()))
    };
    let mut views = Vec::new();
    for tensor in tensors {
        let (name, dtype, shape) = view(tensor)?;
        let bytes: &[u8] = match &tensor.values {
            Values::F32(values) => bytemuck::cast_slice(values),
            Values::I32(values) => bytemuck::cast_slice(values),
            Values::U8(values) => values,
        };
        views.push((name, TensorView::new(dtype, shape, bytes)?));
    }
    safetensors::serialize_to_file(views, None, path).with_context(|| path.display().to_string())
}

/// Reads the tensors of single precision from a file.
///
/// # Errors
/// When there is none, or it is damaged.
pub fn read(path: &Path) -> Result<Vec<Tensor>> {
    let named = || path.display().to_string();
    let file = std::fs::read(path).with_context(named)?;
    let tensors = SafeTensors::deserialize(&file).with_context(named)?;
    let floats = tensors.iter().filter(|(_, view)| view.dtype() == Dtype::F32);
    let tensor = |(name, view): (&str, TensorView<'_>)| Tensor {
        name: name.to_owned(),
        shape: view.shape().to_vec(),
        values: Values::F32(view.data().chunks_exact(4).map(bytemuck::pod_read_unaligned).collect()),
    };
    Ok(floats.map(tensor).collect())
}
