//! `model.onnx`: images to embeddings and logits, for any runtime that reads ONNX.
//!
//! The graph uses operators that every runtime has: Conv, PRelu, Add, Flatten, Gemm. Field numbers below are those of
//! `onnx.proto`.

use crate::error::Error;
use crate::protobuf::Message;
use crate::trained::{Tensor, Trained};
use sphereface_models::{CLASS_BIAS, CLASS_WEIGHTS, Layer, LayerKind};
use sphereface_tensor::op::Scale;

/// Version of the operator set: none of ours has changed since, and runtimes from 2022 on know it.
pub const OPSET: u64 = 17;
/// Version of the file format that came with it.
const IR_VERSION: u64 = 8;
/// Name of the input `[N, C, H, W]`.
pub const IMAGES: &str = "images";
/// Name of the output `[N, D]`.
pub const EMBEDDINGS: &str = "embeddings";
/// Name of the output `[N, classes]`.
pub const LOGITS: &str = "logits";

/// A protocol buffer ends at 2 GiB.
const MAX_BYTES: usize = i32::MAX as usize;
/// `TensorProto.DataType.FLOAT`.
const FLOAT: u64 = 1;

/// The model as the bytes of an ONNX file.
///
/// Input `images` `[N, C, H, W]` with any N, normalised as the metadata say; outputs `embeddings` `[N, D]` and the
/// classifier's `logits` `[N, classes]`, without margin.
///
/// # Errors
/// [`Error`], when the parameters are not those of the model, or it does not fit into one file.
pub fn encode(trained: &Trained<'_>) -> Result<Vec<u8>, Error> {
    let tensors = trained.tensors()?;
    let size = tensors.iter().map(|tensor| 4 * tensor.values.len() + 256).sum();
    if size > MAX_BYTES {
        return Err(Error::TooLarge { format: "ONNX", expected: MAX_BYTES, found: size });
    }
    let network = &trained.model.network;
    let [height, width, channels] = network.image;
    let metadata = trained.metadata();
    let graph = Message::default()
        .messages(1, nodes(trained))
        .bytes(2, "sphereface")
        // Where yes ends does not change which class is nearest.
        .messages(5, tensors.iter().filter(|tensor| tensor.name != CLASS_BIAS).map(initializer))
        .message(11, value(IMAGES, &[channels, height, width]))
        .message(12, value(EMBEDDINGS, &[network.embedding]))
        .message(12, value(LOGITS, &[trained.model.head.classes]));
    let model = Message::default()
        .int(1, IR_VERSION)
        .bytes(2, "sphereface")
        .bytes(3, env!("CARGO_PKG_VERSION"))
        .message(7, graph)
        .message(8, Message::default().bytes(1, "").int(2, OPSET))
        .messages(14, metadata.iter().map(|(key, value)| Message::default().bytes(1, key).bytes(2, value)));
    Ok(model.finish())
}

fn nodes(trained: &Trained<'_>) -> Vec<Message> {
    let mut nodes = Vec::new();
    let (mut at, mut branch) = (IMAGES.to_owned(), IMAGES.to_owned());
    for Layer { name, kind, .. } in trained.model.network.layers() {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let input = at.clone();
        match kind {
            LayerKind::Branch => {
                branch = at.clone();
                continue;
            }
            LayerKind::Conv2d { stride, bias: has_bias } => {
                let mut inputs = vec![input.as_str(), &weight];
                inputs.extend(has_bias.then_some(bias.as_str()));
                let attributes = [ints("strides", &[stride as u64; 2]), ints("pads", &[1; 4])];
                nodes.push(node("Conv", &inputs, &name).messages(5, attributes));
            }
            LayerKind::Prelu => nodes.push(node("PRelu", &[&input, &weight], &name)),
            LayerKind::Add => nodes.push(node("Add", &[&input, &branch], &name)),
            LayerKind::Linear => {
                nodes.push(node("Flatten", &[&input], "flatten"));
                nodes.push(gemm(&["flatten", &weight, &bias], EMBEDDINGS, 1.0));
                at = EMBEDDINGS.to_owned();
                continue;
            }
        }
        at = name;
    }
    match trained.model.head.scale {
        Scale::InnerProduct | Scale::FeatureNorm => nodes.push(gemm(&[EMBEDDINGS, CLASS_WEIGHTS], LOGITS, 1.0)),
        Scale::Constant(scale) => {
            nodes.push(node("LpNormalization", &[EMBEDDINGS], "directions")); // by default of rows, to length 1
            nodes.push(gemm(&["directions", CLASS_WEIGHTS], LOGITS, scale));
        }
    }
    nodes
}

/// `NodeProto`, named after its output.
fn node(operator: &str, inputs: &[&str], output: &str) -> Message {
    let node = inputs.iter().fold(Message::default(), |node, input| node.bytes(1, input));
    node.bytes(2, output).bytes(3, output).bytes(4, operator)
}

/// `scale · x · weightᵀ`, plus a bias if there is one.
fn gemm(inputs: &[&str], output: &str, scale: f32) -> Message {
    let transposed = Message::default().bytes(1, "transB").int(3, 1).int(20, 2);
    let alpha = Message::default().bytes(1, "alpha").float(2, scale).int(20, 1);
    node("Gemm", inputs, output).messages(5, [transposed, alpha])
}

/// `AttributeProto` of a list of integers.
fn ints(name: &str, values: &[u64]) -> Message {
    values.iter().fold(Message::default().bytes(1, name), |attribute, &value| attribute.int(8, value)).int(20, 7)
}

/// `TensorProto`. Slopes get the pixels' dimensions, since ONNX broadcasts from the last one.
fn initializer(tensor: &Tensor) -> Message {
    let mut shape = tensor.shape.clone();
    if shape.len() == 1 && tensor.name.ends_with(".weight") {
        shape.extend([1, 1]);
    }
    let sizes = shape.iter().fold(Message::default(), |message, &size| message.int(1, size as u64));
    let bytes: Vec<u8> = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
    sizes.int(2, FLOAT).bytes(8, &tensor.name).bytes(9, bytes)
}

/// `ValueInfoProto` of numbers `[N, sizes…]`.
fn value(name: &str, sizes: &[usize]) -> Message {
    let sizes = sizes.iter().map(|&size| Message::default().int(1, size as u64));
    let shape = Message::default().message(1, Message::default().bytes(2, "N")).messages(1, sizes);
    let numbers = Message::default().int(1, FLOAT).message(2, shape);
    Message::default().bytes(1, name).message(2, Message::default().message(1, numbers))
}
