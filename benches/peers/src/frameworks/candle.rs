//! candle: its CPU backend in pure Rust.

use crate::arrays::{ACTIVATION, Array, FILTER, FILTER_BACK, Inputs};
use crate::case::{Case, Convolution, Embedding, Head, Layer, Margin, Network, Sgd, Training};
use crate::protocol::{Framework, Prepared};
use anyhow::{Context, Result, bail};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Module, Tensor, Var};
use candle_nn::{Conv2d, Conv2dConfig, Linear, PReLU};
use std::collections::BTreeMap;
use std::hint::black_box;

/// Trainings report the losses of so many steps.
const CHECKED_STEPS: usize = 3;

/// Operators, autodiff and networks of candle.
pub(crate) struct Candle;

/// Dimensions in the order of our layout.
type Order = &'static [usize];

impl Framework for Candle {
    fn names(&self) -> (&'static str, &'static str) {
        ("candle-core", "candle")
    }

    fn detail(&self) -> String {
        format!("{} threads, its own CPU backend", candle_core::utils::get_num_threads())
    }

    fn supports(&self, case: &Case) -> bool {
        case.is_f32() && !matches!(case, Case::Other)
    }

    fn prepare(&self, case: &Case, inputs: &Inputs, _: &str) -> Result<Prepared> {
        match case {
            Case::Gemm(case) => {
                let turned = |x: Tensor, flag: bool| if flag { x.t() } else { Ok(x) };
                let a = turned(tensor(&inputs.floats("a")?)?, case.transposed[0])?;
                let b = turned(tensor(&inputs.floats("b")?)?, case.transposed[1])?;
                repeated([("c", &[0, 1])], move || Ok([a.matmul(&b)?]))
            }
            Case::Conv2dForward(case) => conv2d_forward(case, inputs),
            Case::Conv2dBackwardData(case) => conv2d_backward_data(case, inputs),
            Case::Conv2dBackwardWeight(case) => conv2d_backward_weight(case, inputs),
            Case::FusedForward(case) => fused_forward(case, inputs),
            Case::Head(case) => head(case, inputs),
            Case::Optimizer(rule) => optimizer(*rule, inputs),
            Case::TrainingStep(case) => training_step(case, inputs),
            Case::Forward(case) => forward(case, inputs),
            Case::Other => bail!("this case is not supported"),
        }
    }
}

fn tensor(array: &Array) -> Result<Tensor> {
    Ok(Tensor::from_slice(&array.values, array.shape.as_slice(), &Device::Cpu)?)
}

fn array(tensor: &Tensor) -> Result<Array> {
    Ok(Array { shape: tensor.dims().to_vec(), values: tensor.flatten_all()?.to_vec1()? })
}

/// A case that computes the same again and again; `outputs` are the names of the results and how to make them ours.
fn repeated<const N: usize>(
    outputs: [(&'static str, Order); N],
    mut compute: impl FnMut() -> Result<[Tensor; N]> + 'static,
) -> Result<Prepared> {
    let results = compute()?;
    let named = outputs.iter().zip(&results);
    let outputs =
        named.map(|((name, order), result)| Ok((*name, array(result)?.permuted(order)))).collect::<Result<_>>()?;
    Ok(Prepared::by_clock(outputs, move || compute().map(|results| drop(black_box(results)))))
}

fn conv2d_forward(case: &Convolution, inputs: &Inputs) -> Result<Prepared> {
    let (stride, padding) = (case.stride, case.padding);
    let x = tensor(&inputs.floats("x")?.permuted(&ACTIVATION))?;
    let filter = tensor(&inputs.floats("filter")?.permuted(&FILTER))?;
    repeated([("y", &ACTIVATION)], move || Ok([x.conv2d(&filter, padding, stride, 1, 1)?]))
}

/// As candle's autodiff computes it.
fn conv2d_backward_data(case: &Convolution, inputs: &Inputs) -> Result<Prepared> {
    let (stride, padding) = (case.stride, case.padding);
    let d_y = tensor(&inputs.floats("d_y")?.permuted(&ACTIVATION))?;
    let filter = tensor(&inputs.floats("filter")?.permuted(&FILTER))?;
    let (_, _, p, q) = d_y.dims4()?;
    let (rows, columns) = (case.rest(case.height, p), case.rest(case.width, q));
    let rest = rows.filter(|_| rows == columns).context("candle: the gradient of this size is not the input's")?;
    let compute = move || Ok([d_y.conv_transpose2d(&filter, padding, rest, stride, 1)?]);
    repeated([("d_x", &ACTIVATION)], compute)
}

/// As candle's autodiff computes it.
fn conv2d_backward_weight(case: &Convolution, inputs: &Inputs) -> Result<Prepared> {
    let (stride, padding, taps) = (case.stride, case.padding, case.taps);
    let x = tensor(&inputs.floats("x")?.permuted(&ACTIVATION))?;
    let d_y = tensor(&inputs.floats("d_y")?.permuted(&ACTIVATION))?;
    let compute = move || {
        let d_filter = x.transpose(0, 1)?.conv2d(&d_y.transpose(0, 1)?, padding, 1, stride, 1)?.transpose(0, 1)?;
        Ok([d_filter.narrow(2, 0, taps)?.narrow(3, 0, taps)?])
    };
    repeated([("d_filter", &FILTER_BACK)], compute)
}

fn fused_forward(case: &Convolution, inputs: &Inputs) -> Result<Prepared> {
    let x = tensor(&inputs.floats("x")?.permuted(&ACTIVATION))?;
    let filter = tensor(&inputs.floats("filter")?.permuted(&FILTER))?;
    let bias = inputs.some_floats("bias")?.map(|bias| tensor(&bias)).transpose()?;
    let prelu = PReLU::new(tensor(&inputs.floats("slope")?)?, false);
    let residual = inputs.some_floats("residual")?;
    let residual = residual.map(|residual| tensor(&residual.permuted(&ACTIVATION))).transpose()?;
    let conv = Conv2d::new(filter, bias, config(case.stride, case.padding));
    repeated([("pre", &ACTIVATION), ("out", &ACTIVATION)], move || {
        let pre = conv.forward(&x)?;
        let out = prelu.forward(&pre)?;
        let out = if let Some(residual) = &residual { (out + residual)? } else { out };
        Ok([pre, out])
    })
}

fn config(stride: usize, padding: usize) -> Conv2dConfig {
    Conv2dConfig { stride, padding, ..Conv2dConfig::default() }
}

/// Mean loss of embeddings `[N, D]` with class weights `[classes, D]` and labels `u32 [N]`.
fn a_softmax(x: &Tensor, weights: &Tensor, labels: &Tensor, margin: Margin) -> Result<Tensor> {
    let length = |x: &Tensor| x.sqr()?.sum_keepdim(1)?.sqrt();
    let norm = length(x)?;
    let directions = weights.broadcast_div(&length(weights)?)?;
    let cosine = x.broadcast_div(&norm)?.matmul(&directions.t()?)?;
    let column = labels.unsqueeze(1)?;
    let target = cosine.gather(&column, 1)?;
    let (coefficients, bounds) = margin.psi()?;
    let mut polynomial = target.zeros_like()?;
    for &coefficient in coefficients.iter().rev() {
        polynomial = (polynomial * &target)?.affine(1.0, coefficient)?;
    }
    let (mut segment, mut sign) = (target.zeros_like()?, target.ones_like()?);
    for &bound in bounds {
        let passed = target.le(bound as f32)?.to_dtype(DType::F32)?;
        segment = (segment + &passed)?;
        sign = (sign * passed.affine(-2.0, 1.0)?)?;
    }
    let psi = ((sign * polynomial)? - (segment * 2.0)?)?;
    let bent = ((&target * margin.lambda)? + psi)?.affine(1.0 / (1.0 + margin.lambda), 0.0)?;
    // candle's scatter_add has no gradient where it writes one column.
    let is_target = column.broadcast_eq(&Tensor::arange(0, cosine.dim(1)? as u32, &Device::Cpu)?.unsqueeze(0)?)?;
    let logits = is_target.where_cond(&bent.broadcast_as(cosine.shape())?, &cosine)?.broadcast_mul(&norm)?;
    Ok(candle_nn::loss::cross_entropy(&logits, labels)?)
}

fn labels(array: &Array<i32>) -> Result<Tensor> {
    let values: Vec<u32> = array.values.iter().map(|&label| u32::try_from(label)).collect::<Result<_, _>>()?;
    Ok(Tensor::from_vec(values, array.shape.as_slice(), &Device::Cpu)?)
}

fn head(case: &Head, inputs: &Inputs) -> Result<Prepared> {
    let x = Var::from_tensor(&tensor(&inputs.floats("x")?)?)?;
    let weights = Var::from_tensor(&tensor(&inputs.floats("w")?)?)?;
    let (labels, margin) = (labels(&inputs.labels()?)?, case.margin);
    repeated([("loss", &[0]), ("d_x", &[0, 1]), ("d_w", &[0, 1])], move || {
        let loss = a_softmax(&x, &weights, &labels, margin)?;
        let mut gradients = loss.backward()?;
        Ok([loss.reshape(1)?.detach(), gradient(&mut gradients, &x)?, gradient(&mut gradients, &weights)?])
    })
}

fn gradient(gradients: &mut GradStore, parameter: &Var) -> Result<Tensor> {
    Ok(gradients.remove(parameter).context("a parameter without a gradient")?.detach())
}

/// A parameter and its momentum; candle's own descent has none.
struct Parameter {
    value: Var,
    velocity: Option<Tensor>,
    rule: Sgd,
}

impl Parameter {
    fn update(&mut self, gradient: Tensor) -> Result<()> {
        let Sgd { momentum, decay, rate, nesterov } = self.rule;
        let value = self.value.as_detached_tensor();
        let gradient = if decay == 0.0 { gradient } else { (gradient + (&value * decay)?)? };
        let velocity = match self.velocity.take() {
            Some(velocity) => ((velocity * momentum)? + &gradient)?,
            None => gradient.clone(),
        };
        let step = if nesterov { (gradient + (&velocity * momentum)?)? } else { velocity.clone() };
        self.value.set(&(value - (step * rate)?)?)?;
        self.velocity = Some(velocity);
        Ok(())
    }
}

fn optimizer(rule: Sgd, inputs: &Inputs) -> Result<Prepared> {
    let velocity = Some(tensor(&inputs.floats("v")?)?);
    let mut parameter = Parameter { value: Var::from_tensor(&tensor(&inputs.floats("p")?)?)?, velocity, rule };
    let gradient = tensor(&inputs.floats("g")?)?;
    parameter.update(gradient.clone())?;
    let state = parameter.velocity.as_ref().context("no momentum")?;
    let outputs = vec![("p", array(&parameter.value)?), ("v", array(state)?)];
    Ok(Prepared::by_clock(outputs, move || parameter.update(gradient.clone())))
}

/// Embeddings of images `u8 [N, C, H, W]`.
fn embed<'a>(layers: &[Layer], weight: impl Fn(&str) -> Option<&'a Tensor>, images: &Tensor) -> Result<Tensor> {
    let get = |name: &str, part: &str| weight(&format!("{name}.{part}")).cloned();
    let found = |name: &str| get(name, "weight").with_context(|| format!("parameter {name}.weight"));
    let mut x = images.to_dtype(DType::F32)?.affine(1.0 / 128.0, -127.5 / 128.0)?;
    let mut branch = x.clone();
    for layer in layers {
        x = match layer {
            Layer::Conv { name, stride } => {
                Conv2d::new(found(name)?, get(name, "bias"), config(*stride, 1)).forward(&x)?
            }
            Layer::Prelu { name } => PReLU::new(found(name)?, false).forward(&x)?,
            Layer::Branch => {
                branch = x.clone();
                x
            }
            Layer::Add => (x + &branch)?,
        };
    }
    Ok(Linear::new(found("embedding")?, get("embedding", "bias")).forward(&x.flatten_from(1)?)?)
}

fn images(inputs: &Inputs) -> Result<Vec<Tensor>> {
    let batches = inputs.image_batches()?;
    batches.into_iter().map(|batch| Ok(Tensor::from_vec(batch.values, batch.shape, &Device::Cpu)?)).collect()
}

fn forward(case: &Embedding, inputs: &Inputs) -> Result<Prepared> {
    let layers = case.network.layers();
    let parameters = inputs.parameters()?.into_iter().map(|(name, value)| Ok((name, tensor(&value)?)));
    let parameters = parameters.collect::<Result<BTreeMap<String, Tensor>>>()?;
    let mut batches = images(inputs)?.into_iter().cycle();
    repeated([("embeddings", &[0, 1])], move || {
        let images = batches.next().context("no images")?;
        Ok([embed(&layers, |name| parameters.get(name), &images)?])
    })
}

fn training_step(case: &Training, inputs: &Inputs) -> Result<Prepared> {
    let parameters = inputs.parameters()?.into_iter().map(|(name, value)| {
        let value = Var::from_tensor(&tensor(&value)?)?;
        let rule = case.rule.of(&name);
        Ok((name, Parameter { value, velocity: None, rule }))
    });
    let mut parameters = parameters.collect::<Result<BTreeMap<String, Parameter>>>()?;
    let labels = inputs.label_batches()?.iter().map(labels).collect::<Result<Vec<Tensor>>>()?;
    let mut batches = images(inputs)?.into_iter().zip(labels).collect::<Vec<_>>().into_iter().cycle();
    let (layers, margin) = (Network::layers(&case.network), case.margin);
    let mut step = move || {
        let (images, labels) = batches.next().context("no images")?;
        let weight = |name: &str| parameters.get(name).map(|parameter| parameter.value.as_tensor());
        let embeddings = embed(&layers, weight, &images)?;
        let classes = weight("classifier.weight").context("parameter classifier.weight")?;
        let loss = a_softmax(&embeddings, classes, &labels, margin)?;
        let mut gradients = loss.backward()?;
        for parameter in parameters.values_mut() {
            let gradient = gradient(&mut gradients, &parameter.value)?;
            parameter.update(gradient)?;
        }
        Ok(loss)
    };
    let losses = (0..CHECKED_STEPS).map(|_| Ok(step()?.to_scalar()?)).collect::<Result<Vec<f32>>>()?;
    let outputs = vec![("losses", Array { shape: vec![CHECKED_STEPS], values: losses })];
    Ok(Prepared::by_clock(outputs, move || step().map(|loss| drop(black_box(loss)))))
}
