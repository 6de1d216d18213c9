//! Checkpoints: everything the next step depends on, in one safetensors file that is replaced as a whole.

use crate::event::Recovery;
use crate::guard::NotFinite;
use anyhow::{Context, Result, bail, ensure};
use atomicwrites::{AllowOverwrite, AtomicFile};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use sphereface_models::STEP;
use sphereface_tensor::op::Rule;
use sphereface_tensor::{Backend, PARAMETERS, ParameterSet};
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;

/// Name of the file in a run's folder.
pub(crate) const FILE: &str = "checkpoint.safetensors";
/// Key of the metadata, which says what the tensors are.
const FORMAT_KEY: &str = "format";
/// Tensor of bytes: what the guard did, as JSON; there if it did anything.
const RECOVERIES: &str = "recoveries";
const FORMAT: &str = "sphereface training state 1: parameters by name, optimiser state as <state>/<parameter>, step";

/// Blocks of a training that a checkpoint holds, with the prefix of their tensors.
fn blocks(rule: Rule) -> impl Iterator<Item = (&'static str, String)> {
    let states = rule.states().iter().map(|state| (*state, format!("{state}/")));
    std::iter::once((PARAMETERS, String::new())).chain(states)
}

/// Saves the state of a training; the file that was there before stays whole until this one is.
///
/// # Errors
/// [`NotFinite`] if the state holds NaN or infinity; other errors if it cannot be written.
pub(crate) fn save(
    path: &Path,
    backend: &mut dyn Backend,
    parameters: &ParameterSet,
    rule: Rule,
    recoveries: &[Recovery],
) -> Result<()> {
    let mut contents: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (block, prefix) in blocks(rule) {
        let mut bytes = vec![0; 4 * parameters.length()];
        backend.download(block, &mut bytes)?;
        for parameter in parameters.iter() {
            let range = parameter.range();
            let values = bytes[4 * range.start..4 * range.end].to_vec();
            if !finite(&values) {
                bail!(NotFinite(format!("'{prefix}{}'", parameter.name)));
            }
            contents.push((format!("{prefix}{}", parameter.name), parameter.shape.sizes().collect(), values));
        }
    }
    let mut step = vec![0; 4];
    backend.download(STEP, &mut step)?;
    let mut views = Vec::new();
    for (name, shape, values) in &contents {
        views.push((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), values)?));
    }
    views.push((STEP, TensorView::new(Dtype::U32, vec![1], &step)?));
    // What changed the schedules belongs to the state; a training that never went back has none.
    let changes = if recoveries.is_empty() { Vec::new() } else { serde_json::to_vec(recoveries)? };
    if !changes.is_empty() {
        views.push((RECOVERIES, TensorView::new(Dtype::U8, vec![changes.len()], &changes)?));
    }
    let metadata = HashMap::from([(FORMAT_KEY.to_owned(), FORMAT.to_owned())]);
    let file = safetensors::serialize(views, Some(metadata))?;
    replace(path, &file)
}

/// Loads a training's state; returns the number of steps done and what the guard changed before.
pub(crate) fn load(
    path: &Path,
    backend: &mut dyn Backend,
    parameters: &ParameterSet,
    rule: Rule,
) -> Result<(usize, Vec<Recovery>)> {
    let name = path.display();
    let file = fs::read(path).with_context(|| format!("{name}: cannot be read"))?;
    let tensors = SafeTensors::deserialize(&file)
        .map_err(|error| anyhow::anyhow!("{name}: expected a safetensors file, found a damaged one ({error})"))?;
    let (_, metadata) = SafeTensors::read_metadata(&file)?;
    let format = metadata.metadata().as_ref().and_then(|metadata| metadata.get(FORMAT_KEY));
    ensure!(
        format.is_some_and(|format| format == FORMAT),
        "{name}: metadata '{FORMAT_KEY}': expected '{FORMAT}', found {format:?}"
    );
    for (block, prefix) in blocks(rule) {
        let mut bytes = vec![0; 4 * parameters.length()];
        for parameter in parameters.iter() {
            let tensor = format!("{prefix}{}", parameter.name);
            let view = tensors
                .tensor(&tensor)
                .map_err(|_| anyhow::anyhow!("{name}: tensor '{tensor}': expected, found none of this name"))?;
            let shape: Vec<usize> = parameter.shape.sizes().collect();
            if view.dtype() != Dtype::F32 || view.shape() != shape {
                bail!("{name}: tensor '{tensor}': expected f32 {shape:?}, found {:?} {:?}", view.dtype(), view.shape());
            }
            let values: &[u8] = view.data();
            ensure!(finite(values), "{name}: tensor '{tensor}': expected finite numbers, found NaN or infinity");
            let range = parameter.range();
            bytes[4 * range.start..4 * range.end].copy_from_slice(values);
        }
        backend.upload(block, &bytes)?;
    }
    let step = tensors.tensor(STEP).map_err(|_| anyhow::anyhow!("{name}: tensor '{STEP}': expected, found none"))?;
    ensure!(step.dtype() == Dtype::U32 && step.shape() == [1], "{name}: tensor '{STEP}': expected u32 [1]");
    backend.upload(STEP, step.data())?;
    let recoveries = match tensors.tensor(RECOVERIES) {
        Ok(tensor) => serde_json::from_slice(tensor.data())
            .with_context(|| format!("{name}: tensor '{RECOVERIES}': expected JSON of the guard"))?,
        Err(_) => Vec::new(),
    };
    Ok((bytemuck::pod_read_unaligned::<u32>(step.data()) as usize, recoveries))
}

fn finite(values: &[u8]) -> bool {
    values.chunks_exact(4).all(|b| bytemuck::pod_read_unaligned::<f32>(b).is_finite())
}

/// Writes a file: it is whole and on the disk, or what was there before is.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> Result<()> {
    let written = AtomicFile::new(path, AllowOverwrite).write(|file| file.write_all(contents));
    written.with_context(|| format!("{}: cannot be written", path.display()))
}
