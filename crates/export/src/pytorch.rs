//! `model.safetensors`: the trained values in the layout and with the names that PyTorch expects.

use crate::error::Error;
use crate::trained::{IMAGE, LOSS, Trained, parameter, places, transposed};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};
use sphereface_models::{CLASS_WEIGHTS, Model, Network, loss_and_gradient};
use sphereface_tensor::ParameterSet;
use sphereface_tensor::op::MarginSoftmax;

/// The header fills blocks of this many bytes, so that the numbers behind it are aligned.
const ALIGNMENT: usize = 8;
/// A larger image than any, so that sizes that a file claims can be multiplied.
const MAX_SIDE: usize = 1 << 15;

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

fn wrong(part: &str, expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::File { part: part.into(), expected: expected.into(), found: found.into() }
}

fn damaged(error: impl std::fmt::Display) -> Error {
    wrong("header", "a safetensors file", format!("a damaged one ({error})"))
}

fn tensors(file: &[u8]) -> Result<SafeTensors<'_>, Error> {
    SafeTensors::deserialize(file).map_err(damaged)
}

/// Network and head of a model's file: stages and units by the names and shapes of its tensors, size of the images, loss and
/// settings by its metadata. How parameters start is not in the file.
///
/// # Errors
/// [`Error::File`] with the first thing that is missing or not known.
pub fn model(file: &[u8]) -> Result<Model, Error> {
    let tensors = tensors(file)?;
    let (_, metadata) = SafeTensors::read_metadata(file).map_err(damaged)?;
    let facts = metadata.metadata().as_ref();
    let fact = |name: &str| facts.and_then(|facts| facts.get(name)).map(String::as_str);
    // More rows than the file has numbers are none.
    let possible = |rows: &usize| (1..=file.len() / 4).contains(rows);
    let rows = |name: &str| tensors.tensor(name).ok()?.shape().first().copied().filter(possible);
    let needed = |name: &str| rows(name).ok_or_else(|| wrong(name, "a tensor with rows", "none of this name"));
    let size = fact(IMAGE).unwrap_or("nothing");
    let sides: Vec<usize> = size.split('x').filter_map(|side| side.parse().ok()).collect();
    let &[height, width, channels] = &sides[..] else { return Err(wrong(IMAGE, "height x width x channels", size)) };
    if sides.iter().any(|side| !(1..=MAX_SIDE).contains(side)) {
        return Err(wrong(IMAGE, format!("sides of 1 to {MAX_SIDE}"), size));
    }
    let mut network = Network::input([height, width, channels]);
    for stage in (1..).map(|stage| format!("stage{stage}")) {
        let Some(channels) = rows(&format!("{stage}.conv.weight")) else { break };
        let units = (1..).take_while(|unit| rows(&format!("{stage}.unit{unit}.conv1.weight")).is_some()).count();
        network = network.stage(channels, units);
    }
    network = network.linear(needed("embedding.weight")?);
    let key = fact(LOSS).unwrap_or("nothing");
    let (loss, gradient) = loss_and_gradient(key).ok_or_else(|| wrong(LOSS, "a known one", key))?;
    let mut values = loss.stock();
    for (value, parameter) in values.iter_mut().zip(loss.settings()) {
        let Some((key, found)) = parameter.setting.key().and_then(|key| Some((key, fact(key)?))) else { continue };
        *value = parameter.setting.parse(found).map_err(|expected| wrong(key, expected, found))?;
    }
    let head = (loss.make)(needed(CLASS_WEIGHTS)?, &values);
    Ok(Model { network, head: MarginSoftmax { gradient: gradient.unwrap_or(head.gradient), ..head } })
}

/// The block of values that a model's file holds: what [`encode`] was given, except for the lengths of class weights
/// that do not count.
///
/// # Errors
/// [`Error::File`] with the first tensor that is missing, of another shape or type, or not finite.
pub fn decode(file: &[u8], model: &Model, parameters: &ParameterSet) -> Result<Vec<f32>, Error> {
    let tensors = tensors(file)?;
    let mut read = Vec::new();
    for place in places(model) {
        let name = &place.name;
        let expected = format!("f32 {:?}", place.shape);
        let view = tensors.tensor(name).map_err(|_| wrong(name, &expected, "none of this name"))?;
        if view.dtype() != Dtype::F32 || view.shape() != place.shape {
            return Err(wrong(name, expected, format!("{:?} {:?}", view.dtype(), view.shape())));
        }
        let mut values: Vec<f32> = view.data().chunks_exact(4).map(bytemuck::pod_read_unaligned).collect();
        if !values.iter().all(|value| value.is_finite()) {
            return Err(wrong(name, "finite numbers", "NaN or infinity"));
        }
        if let Some([pixels, inputs, outputs]) = place.product {
            values = transposed(&values, outputs, inputs, pixels);
        }
        read.push((parameter(parameters, &place.parameter)?.range(), values));
    }
    // Not before the file has turned out to be as long as that.
    let mut block = vec![0.0; parameters.length()];
    read.into_iter().for_each(|(range, values)| block[range].copy_from_slice(&values));
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sphereface_models::{LOSSES, named_network};
    use sphereface_testkit::fuzz::{Random, inputs, mutated};

    /// A file of this network under the loss of this name, with these settings.
    fn file(network: Network, key: &str, settings: &[(&'static str, &str)]) -> (Model, Vec<f32>, Vec<u8>) {
        let (loss, gradient) = loss_and_gradient(key).unwrap();
        let mut values = loss.stock();
        for (value, parameter) in values.iter_mut().zip(loss.settings()) {
            let given = settings.iter().find(|(key, _)| parameter.setting.key() == Some(key));
            *value = given.map_or(*value, |(_, given)| parameter.setting.parse(given).unwrap());
        }
        let mut head = (loss.make)(7, &values);
        head.gradient = gradient.unwrap_or(head.gradient);
        let model = Model { network, head };
        let parameters = model.parameters().unwrap();
        let values = parameters.initial(1);
        let mut facts = vec![(LOSS, key.to_owned())];
        facts.extend(settings.iter().map(|&(key, value)| (key, value.to_owned())));
        let trained = Trained { model: &model, parameters: &parameters, values: &values, facts: &facts };
        let file = encode(&trained).unwrap();
        (model, values, file)
    }

    #[test]
    fn a_file_tells_its_network_and_its_loss() {
        let own = Network::input([9, 8, 3]).stage(4, 0).stage(6, 2).linear(5);
        let official = named_network("sphereface4").unwrap().network([28, 28, 1], 2);
        for network in [own, official] {
            for (key, settings) in [
                ("softmax", &[][..]),
                ("sphereface-caffe", &[("m", "3")]),
                ("arcface", &[("m", "0.25"), ("past", "none")]),
                ("sphereface2", &[]),
            ] {
                let (model, values, file) = file(network.clone(), key, settings);
                let read = super::model(&file).unwrap();
                assert_eq!((read.network.image, &read.network.stages), (model.network.image, &model.network.stages));
                assert_eq!(format!("{:?}", read.head), format!("{:?}", model.head));
                let decoded = decode(&file, &read, &read.parameters().unwrap()).unwrap();
                // Class weights that count by their direction only are written at length 1.
                let free = model.parameters().unwrap().get(CLASS_WEIGHTS).unwrap().range();
                let free = if key == "softmax" { 0..0 } else { free };
                let differ = |i: &usize| decoded[*i] != values[*i] && !free.contains(i);
                assert_eq!(((0..values.len()).find(differ), decoded.len()), (None, values.len()), "{key}");
            }
        }
    }

    #[test]
    fn a_file_without_a_known_loss_or_size_is_refused_by_name() {
        let message = |file: &[u8]| model(file).unwrap_err().to_string();
        let (model, values, _) = file(Network::input([9, 8, 1]).stage(4, 0).linear(2), "softmax", &[]);
        let parameters = model.parameters().unwrap();
        let of = |facts: &[(&'static str, String)]| {
            encode(&Trained { model: &model, parameters: &parameters, values: &values, facts }).unwrap()
        };
        assert_eq!(message(&of(&[])), "'loss': expected a known one, found nothing");
        assert_eq!(message(&of(&[(LOSS, "mine".into())])), "'loss': expected a known one, found mine");
        let bad = of(&[(LOSS, "cosface".into()), ("m", "2".into())]);
        assert_eq!(message(&bad), "'m': expected 0 to 1, found 2");
        let mut other = of(&[]);
        let at = other.windows(5).position(|bytes| bytes == b"9x8x1").unwrap();
        other[at + 2] = b'0';
        assert!(message(&other).contains("expected sides of 1 to"), "{}", message(&other));
    }

    #[test]
    fn damaged_files_are_refused_or_read() {
        let corpus: Vec<Vec<u8>> =
            LOSSES.map(|loss| file(Network::input([5, 4, 1]).stage(2, 1).linear(2), loss.key, &[]).2).to_vec();
        let (mut random, mut read) = (Random(5), 0);
        for _ in 0..inputs(1000) {
            let damaged = mutated(&mut random, &corpus);
            let decoded = model(&damaged).and_then(|model| decode(&damaged, &model, &model.parameters()?));
            match decoded {
                Ok(values) => {
                    assert!(values.iter().all(|value| value.is_finite()));
                    read += 1;
                }
                Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
            }
        }
        assert!(read > 0);
    }
}
