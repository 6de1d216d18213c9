//! `model.safetensors`: the trained values in the layout and with the names that PyTorch expects.

use crate::error::Error;
use crate::trained::{Trained, parameter, places, transposed};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};
use sphereface_models::Model;
use sphereface_tensor::ParameterSet;

/// The header fills blocks of this many bytes, so that the numbers behind it are aligned.
const ALIGNMENT: usize = 8;

/// The model as the bytes of a safetensors file: see [`Trained::tensors`] for names and shapes.
///
/// The same model gives the same bytes. The crate `safetensors` writes metadata in an order of chance, so that the
/// header, one JSON object with its length before it, is written here.
///
/// # Errors
/// [`Error`], when the parameters are not those of the model.
pub fn encode(trained: &Trained<'_>) -> Result<Vec<u8>, Error> {
    let tensors = trained.tensors()?;
    let mut metadata: Map<String, Value> =
        trained.metadata().into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    metadata.insert("format".into(), "pt".into()); // how files for PyTorch are marked
    let mut header = Map::new();
    header.insert("__metadata__".into(), metadata.into());
    let mut end = 0;
    for tensor in &tensors {
        let begin = end;
        end += 4 * tensor.values.len();
        let entry = json!({ "dtype": "F32", "shape": tensor.shape, "data_offsets": [begin, end] });
        header.insert(tensor.name.clone(), entry);
    }
    let mut header = serde_json::to_vec(&header).map_err(Error::Header)?;
    header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
    let mut file = Vec::with_capacity(8 + header.len() + end);
    file.extend((header.len() as u64).to_le_bytes());
    file.extend(header);
    for tensor in &tensors {
        file.extend(tensor.values.iter().flat_map(|value| value.to_le_bytes()));
    }
    Ok(file)
}

/// The block of values that a model's file holds: what [`encode`] was given, except for the lengths of class weights
/// that do not count.
///
/// # Errors
/// [`Error::File`] with the first tensor that is missing, of another shape or type, or not finite.
pub fn decode(file: &[u8], model: &Model, parameters: &ParameterSet) -> Result<Vec<f32>, Error> {
    let wrong = |tensor: &str, expected: String, found: String| Error::File { tensor: tensor.into(), expected, found };
    let tensors = SafeTensors::deserialize(file)
        .map_err(|error| wrong("header", "a safetensors file".into(), format!("a damaged one ({error})")))?;
    let mut block = vec![0.0; parameters.length()];
    for place in places(model) {
        let name = &place.name;
        let expected = format!("f32 {:?}", place.shape);
        let view = tensors.tensor(name).map_err(|_| wrong(name, expected.clone(), "none of this name".into()))?;
        if view.dtype() != Dtype::F32 || view.shape() != place.shape {
            return Err(wrong(name, expected, format!("{:?} {:?}", view.dtype(), view.shape())));
        }
        let mut values: Vec<f32> = view.data().chunks_exact(4).map(bytemuck::pod_read_unaligned).collect();
        if !values.iter().all(|value| value.is_finite()) {
            return Err(wrong(name, "finite numbers".into(), "NaN or infinity".into()));
        }
        if let Some([pixels, inputs, outputs]) = place.product {
            values = transposed(&values, outputs, inputs, pixels);
        }
        block[parameter(parameters, &place.parameter)?.range()].copy_from_slice(&values);
    }
    Ok(block)
}
