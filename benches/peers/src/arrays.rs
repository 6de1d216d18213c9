//! Operands and results in files of safetensors.

use anyhow::{Context, Result, bail, ensure};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::fs;
use std::path::Path;

/// From our activations `[H, W, N, C]` to `[N, C, H, W]`, and the other way round.
pub(crate) const ACTIVATION: [usize; 4] = [2, 3, 0, 1];
/// From our filters `[R, S, C, K]` to `[K, C, R, S]`.
pub(crate) const FILTER: [usize; 4] = [3, 2, 0, 1];
/// From filters `[K, C, R, S]` to ours.
pub(crate) const FILTER_BACK: [usize; 4] = [2, 3, 1, 0];
/// From images `[S, N, H, W, C]` to `[S, N, C, H, W]`.
const IMAGES: [usize; 5] = [0, 1, 4, 2, 3];

/// An array in row-major order.
#[derive(Clone, Debug)]
pub(crate) struct Array<T = f32> {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<T>,
}

impl<T: Copy> Array<T> {
    /// The array whose dimension `i` is this one's dimension `order[i]`.
    pub(crate) fn permuted(&self, order: &[usize]) -> Self {
        let stride = |dimension: usize| self.shape[dimension + 1..].iter().product::<usize>();
        let strides: Vec<usize> = order.iter().map(|&dimension| stride(dimension)).collect();
        let shape: Vec<usize> = order.iter().map(|&dimension| self.shape[dimension]).collect();
        let mut offsets = vec![0];
        for (&size, &stride) in shape.iter().zip(&strides) {
            offsets = offsets.iter().flat_map(|&offset| (0..size).map(move |i| offset + i * stride)).collect();
        }
        Array { shape, values: offsets.into_iter().map(|offset| self.values[offset]).collect() }
    }

    /// The array cut along its first dimension.
    fn rows(&self) -> Vec<Self> {
        let shape = self.shape[1..].to_vec();
        let length = shape.iter().product::<usize>().max(1);
        self.values.chunks(length).map(|row| Array { shape: shape.clone(), values: row.to_vec() }).collect()
    }
}

/// The contents of a file of operands.
pub(crate) struct Inputs {
    bytes: Vec<u8>,
}

impl Inputs {
    pub(crate) fn read(path: &Path) -> Result<Inputs> {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        SafeTensors::deserialize(&bytes).with_context(|| format!("{}: not a file of safetensors", path.display()))?;
        Ok(Inputs { bytes })
    }

    fn elements<T, const SIZE: usize>(&self, name: &str, dtype: Dtype, from: fn([u8; SIZE]) -> T) -> Result<Array<T>> {
        let tensors = SafeTensors::deserialize(&self.bytes)?;
        let view = tensors.tensor(name).with_context(|| format!("operand {name}"))?;
        ensure!(view.dtype() == dtype, "operand {name}: expected {dtype:?}, found {:?}", view.dtype());
        let (elements, _) = view.data().as_chunks::<SIZE>();
        Ok(Array { shape: view.shape().to_vec(), values: elements.iter().copied().map(from).collect() })
    }

    pub(crate) fn floats(&self, name: &str) -> Result<Array> {
        self.elements(name, Dtype::F32, f32::from_le_bytes)
    }

    /// An operand that a case may leave out.
    pub(crate) fn some_floats(&self, name: &str) -> Result<Option<Array>> {
        let there = SafeTensors::deserialize(&self.bytes)?.names().contains(&name);
        there.then(|| self.floats(name)).transpose()
    }

    pub(crate) fn labels(&self) -> Result<Array<i32>> {
        self.elements("labels", Dtype::I32, i32::from_le_bytes)
    }

    /// The batches of `images`, each `[N, C, H, W]`.
    pub(crate) fn image_batches(&self) -> Result<Vec<Array<u8>>> {
        let images = self.elements("images", Dtype::U8, |[byte]: [u8; 1]| byte)?;
        ensure!(images.shape.len() == 5, "images: expected [S, N, H, W, C], found {:?}", images.shape);
        Ok(images.permuted(&IMAGES).rows())
    }

    /// The labels of each batch.
    pub(crate) fn label_batches(&self) -> Result<Vec<Array<i32>>> {
        Ok(self.labels()?.rows())
    }

    /// Names and values of all parameters.
    pub(crate) fn parameters(&self) -> Result<Vec<(String, Array)>> {
        let tensors = SafeTensors::deserialize(&self.bytes)?;
        let mut names = tensors.names();
        names.retain(|name| !["images", "labels"].contains(name));
        names.sort_unstable();
        names.into_iter().map(|name| Ok((name.to_owned(), self.floats(name)?))).collect()
    }
}

/// Writes results whole: a reader never sees a part of them.
pub(crate) fn write(path: &Path, outputs: &[(&'static str, Array)]) -> Result<()> {
    if outputs.is_empty() {
        bail!("{}: nothing to write", path.display());
    }
    let bytes: Vec<Vec<u8>> =
        outputs.iter().map(|(_, array)| array.values.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
    let views = outputs.iter().zip(&bytes);
    let views: Vec<(&str, TensorView<'_>)> = views
        .map(|((name, array), bytes)| Ok((*name, TensorView::new(Dtype::F32, array.shape.clone(), bytes)?)))
        .collect::<Result<_>>()?;
    let partial = path.with_extension("partial");
    fs::write(&partial, safetensors::serialize(views, None)?).with_context(|| partial.display().to_string())?;
    fs::rename(&partial, path).with_context(|| path.display().to_string())
}
