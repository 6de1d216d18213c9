//! Burn on its fastest backend for CPUs in pure Rust, Flex.

use crate::arrays::{ACTIVATION, Array, FILTER, FILTER_BACK, Inputs};
use crate::case::{Case, Convolution, Embedding, Head, Layer, Margin, Network, Sgd, Training};
use crate::protocol::{Framework, Prepared};
use anyhow::{Context, Result, bail};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::{MomentumConfig, MomentumState};
use burn::optim::{Optimizer, RecordState, SgdConfig, SgdState, StateSink};
use burn::tensor::activation::{log_softmax, prelu};
use burn::tensor::module::{conv_transpose2d, conv2d, conv2d_weight_backward, linear};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn::tensor::{DType, Device, Gradients, IndexingUpdateOp, Int, Tensor, TensorData};
use std::collections::BTreeMap;
use std::hint::black_box;

/// Trainings report the losses of so many steps.
const CHECKED_STEPS: usize = 3;

/// Operators, autodiff and networks of Burn.
pub(crate) struct Burn {
    device: Device,
}

/// Dimensions in the order of our layout.
type Order = &'static [usize];

impl Burn {
    pub(crate) fn new() -> Self {
        Burn { device: Device::flex() }
    }
}

impl Framework for Burn {
    fn names(&self) -> (&'static str, &'static str) {
        ("burn", "Burn")
    }

    fn detail(&self) -> String {
        format!("Flex, {} threads, AVX-512 where there is one", rayon::current_num_threads())
    }

    fn supports(&self, case: &Case) -> bool {
        case.is_f32() && !matches!(case, Case::Other)
    }

    fn prepare(&self, case: &Case, inputs: &Inputs, _: &str) -> Result<Prepared> {
        let device = &self.device;
        match case {
            Case::Gemm(case) => {
                let turned = |x: Tensor<2>, flag: bool| if flag { x.transpose() } else { x };
                let a = turned(tensor(inputs.floats("a")?, device), case.transposed[0]);
                let b = turned(tensor(inputs.floats("b")?, device), case.transposed[1]);
                repeated([("c", &[0, 1])], move || Ok([a.clone().matmul(b.clone())]))
            }
            Case::Conv2dForward(case) => conv2d_forward(case, inputs, device),
            Case::Conv2dBackwardData(case) => conv2d_backward_data(case, inputs, device),
            Case::Conv2dBackwardWeight(case) => conv2d_backward_weight(case, inputs, device),
            Case::FusedForward(case) => fused_forward(case, inputs, device),
            Case::Head(case) => head(case, inputs, &device.clone().autodiff()),
            Case::Optimizer(rule) => optimizer(*rule, inputs, device),
            Case::TrainingStep(case) => training_step(case, inputs, &device.clone().autodiff()),
            Case::Forward(case) => forward(case, inputs, device),
            Case::Other => bail!("this case is not supported"),
        }
    }
}

fn tensor<const D: usize>(array: Array, device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(array.values, array.shape), device)
}

fn array<const D: usize>(tensor: Tensor<D>) -> Result<Array> {
    let shape = tensor.dims().to_vec();
    let values = tensor.into_data().try_to_vec().map_err(|error| anyhow::anyhow!("{error:?}"))?;
    Ok(Array { shape, values })
}

/// A case that computes the same again and again; `outputs` are the names of the results and how to make them ours.
fn repeated<const N: usize, const D: usize>(
    outputs: [(&'static str, Order); N],
    mut compute: impl FnMut() -> Result<[Tensor<D>; N]> + 'static,
) -> Result<Prepared> {
    let named = outputs.into_iter().zip(compute()?);
    let outputs =
        named.map(|((name, order), result)| Ok((name, array(result)?.permuted(order)))).collect::<Result<_>>()?;
    Ok(Prepared::by_clock(outputs, move || compute().map(|results| drop(black_box(results)))))
}

fn options(stride: usize, padding: usize) -> ConvOptions<2> {
    ConvOptions::new([stride; 2], [padding; 2], [1; 2], 1)
}

fn conv2d_forward(case: &Convolution, inputs: &Inputs, device: &Device) -> Result<Prepared> {
    let options = options(case.stride, case.padding);
    let x = tensor(inputs.floats("x")?.permuted(&ACTIVATION), device);
    let filter = tensor(inputs.floats("filter")?.permuted(&FILTER), device);
    repeated([("y", &ACTIVATION)], move || Ok([conv2d(x.clone(), filter.clone(), None, options.clone())]))
}

/// As Burn's autodiff computes it.
fn conv2d_backward_data(case: &Convolution, inputs: &Inputs, device: &Device) -> Result<Prepared> {
    let d_y: Tensor<4> = tensor(inputs.floats("d_y")?.permuted(&ACTIVATION), device);
    let filter = tensor(inputs.floats("filter")?.permuted(&FILTER), device);
    let [_, _, p, q] = d_y.dims();
    let rest = case.rest(case.height, p).zip(case.rest(case.width, q)).context("an output larger than its input")?;
    let options = ConvTransposeOptions::new([case.stride; 2], [case.padding; 2], rest.into(), [1; 2], 1);
    let compute = move || Ok([conv_transpose2d(d_y.clone(), filter.clone(), None, options.clone())]);
    repeated([("d_x", &ACTIVATION)], compute)
}

fn conv2d_backward_weight(case: &Convolution, inputs: &Inputs, device: &Device) -> Result<Prepared> {
    let options = options(case.stride, case.padding);
    let x: Tensor<4> = tensor(inputs.floats("x")?.permuted(&ACTIVATION), device);
    let d_y: Tensor<4> = tensor(inputs.floats("d_y")?.permuted(&ACTIVATION), device);
    let like = Tensor::zeros([d_y.dims()[1], x.dims()[1], case.taps, case.taps], device);
    let compute = move || Ok([conv2d_weight_backward(x.clone(), like.clone(), d_y.clone(), options.clone())]);
    repeated([("d_filter", &FILTER_BACK)], compute)
}

fn fused_forward(case: &Convolution, inputs: &Inputs, device: &Device) -> Result<Prepared> {
    let options = options(case.stride, case.padding);
    let x = tensor(inputs.floats("x")?.permuted(&ACTIVATION), device);
    let filter = tensor(inputs.floats("filter")?.permuted(&FILTER), device);
    let bias = inputs.some_floats("bias")?.map(|bias| tensor(bias, device));
    let slope: Tensor<1> = tensor(inputs.floats("slope")?, device);
    let residual = inputs.some_floats("residual")?.map(|array| tensor(array.permuted(&ACTIVATION), device));
    repeated([("pre", &ACTIVATION), ("out", &ACTIVATION)], move || {
        let pre = conv2d(x.clone(), filter.clone(), bias.clone(), options.clone());
        let out = prelu(pre.clone(), slope.clone());
        let out = if let Some(residual) = &residual { out + residual.clone() } else { out };
        Ok([pre, out])
    })
}

/// Mean loss of embeddings `[N, D]` with class weights `[classes, D]` and labels `[N, 1]`.
fn a_softmax(x: Tensor<2>, weights: Tensor<2>, labels: Tensor<2, Int>, margin: Margin) -> Result<Tensor<1>> {
    let length = |x: Tensor<2>| x.square().sum_dim(1).sqrt();
    let norm = length(x.clone());
    let directions = weights.clone() / length(weights);
    let cosine = (x / norm.clone()).matmul(directions.transpose());
    let target = cosine.clone().gather(1, labels.clone());
    let (coefficients, bounds) = margin.psi()?;
    let mut polynomial = target.zeros_like();
    for &coefficient in coefficients.iter().rev() {
        polynomial = polynomial * target.clone() + coefficient;
    }
    let (mut segment, mut sign) = (target.zeros_like(), target.ones_like());
    for &bound in bounds {
        let passed = target.clone().lower_equal_elem(bound).float();
        segment = segment + passed.clone();
        sign = sign * (passed * -2.0 + 1.0);
    }
    let psi = sign * polynomial - segment * 2.0;
    let bent = (target.clone() * margin.lambda + psi) / (1.0 + margin.lambda);
    let logits = cosine.scatter(1, labels.clone(), bent - target, IndexingUpdateOp::Add) * norm;
    Ok(log_softmax(logits, 1).gather(1, labels).mean().neg())
}

/// Labels as a column.
fn labels(array: Array<i32>, device: &Device) -> Tensor<2, Int> {
    let rows = array.values.len();
    Tensor::from_data(TensorData::new(array.values, [rows, 1]), (device, DType::I32))
}

fn head(case: &Head, inputs: &Inputs, device: &Device) -> Result<Prepared> {
    let x: Tensor<2> = tensor::<2>(inputs.floats("x")?, device).require_grad();
    let weights: Tensor<2> = tensor::<2>(inputs.floats("w")?, device).require_grad();
    let (labels, margin) = (labels(inputs.labels()?, device), case.margin);
    let compute = move || {
        let loss = a_softmax(x.clone(), weights.clone(), labels.clone(), margin)?;
        let mut gradients = loss.backward();
        Ok((loss, gradient(&mut gradients, &x)?, gradient(&mut gradients, &weights)?))
    };
    let (loss, d_x, d_w) = compute()?;
    let outputs = vec![("loss", array(loss)?), ("d_x", array(d_x)?), ("d_w", array(d_w)?)];
    Ok(Prepared::by_clock(outputs, move || compute().map(|results| drop(black_box(results)))))
}

fn gradient<const D: usize>(gradients: &mut Gradients, parameter: &Tensor<D>) -> Result<Tensor<D>> {
    parameter.grad_remove(gradients).context("a parameter without a gradient")
}

/// A parameter and its momentum.
struct Parameter<const D: usize> {
    value: Tensor<D>,
    state: Option<SgdState<D>>,
    rule: Sgd,
}

impl<const D: usize> Parameter<D> {
    fn update(&mut self, gradient: Tensor<D>) {
        let Sgd { momentum, decay, rate, nesterov } = self.rule;
        let momentum = MomentumConfig { momentum, dampening: 0.0, nesterov };
        let decay = (decay != 0.0).then(|| WeightDecayConfig::new(decay as f32));
        let descent = SgdConfig::new().with_momentum(Some(momentum)).with_weight_decay(decay).build();
        let (value, state) = descent.step(rate, self.value.clone().inner(), gradient, self.state.take());
        self.state = state;
        self.value = value;
    }
}

fn optimizer(rule: Sgd, inputs: &Inputs, device: &Device) -> Result<Prepared> {
    let value: Tensor<1> = tensor(inputs.floats("p")?, device);
    let state = SgdState::new(Some(MomentumState::new(tensor(inputs.floats("v")?, device))));
    let gradient: Tensor<1> = tensor(inputs.floats("g")?, device);
    let mut parameter = Parameter { value, state: Some(state), rule };
    parameter.update(gradient.clone());
    let mut state = StateSink::default();
    parameter.state.as_ref().context("no momentum")?.state_flatten("", &mut state);
    let (_, velocity) = state.tensors.pop().context("no momentum")?;
    let velocity = Tensor::<1>::from_data(velocity, device);
    let outputs = vec![("p", array(parameter.value.clone())?), ("v", array(velocity)?)];
    let run = move || {
        parameter.update(gradient.clone());
        Ok(())
    };
    Ok(Prepared::by_clock(outputs, run))
}

/// Parameters by their names: convolutions, matrices, and biases and slopes.
struct Parameters {
    filters: BTreeMap<String, Parameter<4>>,
    matrices: BTreeMap<String, Parameter<2>>,
    vectors: BTreeMap<String, Parameter<1>>,
}

impl Parameters {
    fn new(inputs: &Inputs, rule: Sgd, device: &Device) -> Result<Parameters> {
        let (filters, matrices, vectors) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut parameters = Parameters { filters, matrices, vectors };
        for (name, value) in inputs.parameters()? {
            let rule = rule.of(&name);
            match value.shape.len() {
                4 => drop(parameters.filters.insert(name, parameter(value, rule, device))),
                2 => drop(parameters.matrices.insert(name, parameter(value, rule, device))),
                1 => drop(parameters.vectors.insert(name, parameter(value, rule, device))),
                rank => bail!("parameter {name}: expected 1, 2 or 4 dimensions, found {rank}"),
            }
        }
        Ok(parameters)
    }

    fn update(&mut self, gradients: &mut Gradients) -> Result<()> {
        update(&mut self.filters, gradients)?;
        update(&mut self.matrices, gradients)?;
        update(&mut self.vectors, gradients)
    }

    /// Embeddings of images `u8 [N, C, H, W]`.
    fn embed(&self, layers: &[Layer], images: Tensor<4, Int>) -> Result<Tensor<2>> {
        let mut x = (images.float() - 127.5) * (1.0 / 128.0);
        let mut branch = x.clone();
        for layer in layers {
            x = match layer {
                Layer::Conv { name, stride } => {
                    let bias = self.vectors.get(&format!("{name}.bias")).map(|bias| bias.value.clone());
                    conv2d(x, value(&self.filters, name)?, bias, options(*stride, 1))
                }
                Layer::Prelu { name } => prelu(x, value(&self.vectors, name)?),
                Layer::Branch => {
                    branch = x.clone();
                    x
                }
                Layer::Add => x + branch.clone(),
            };
        }
        let bias = self.vectors.get("embedding.bias").map(|bias| bias.value.clone());
        // Burn's matrices are [inputs, outputs].
        Ok(linear(x.flatten(1, 3), value(&self.matrices, "embedding")?.transpose(), bias))
    }
}

fn parameter<const D: usize>(value: Array, rule: Sgd, device: &Device) -> Parameter<D> {
    let value = tensor(value, device);
    let value = if device.is_autodiff() { value.require_grad() } else { value };
    Parameter { value, state: None, rule }
}

fn value<const D: usize>(parameters: &BTreeMap<String, Parameter<D>>, layer: &str) -> Result<Tensor<D>> {
    let name = format!("{layer}.weight");
    Ok(parameters.get(&name).with_context(|| format!("parameter {name}"))?.value.clone())
}

fn update<const D: usize>(parameters: &mut BTreeMap<String, Parameter<D>>, gradients: &mut Gradients) -> Result<()> {
    for parameter in parameters.values_mut() {
        let gradient = gradient(gradients, &parameter.value)?;
        parameter.update(gradient);
        parameter.value = parameter.value.clone().autodiff().require_grad();
    }
    Ok(())
}

fn images(inputs: &Inputs, device: &Device) -> Result<Vec<Tensor<4, Int>>> {
    let batches = inputs.image_batches()?.into_iter();
    let whole = |batch: Array<u8>| TensorData::new(batch.values, batch.shape);
    Ok(batches.map(|batch| Tensor::from_data(whole(batch), (device, DType::U8))).collect())
}

fn forward(case: &Embedding, inputs: &Inputs, device: &Device) -> Result<Prepared> {
    let layers = case.network.layers();
    let still = Sgd { momentum: 0.0, decay: 0.0, rate: 0.0, nesterov: false };
    let parameters = Parameters::new(inputs, still, device)?;
    let mut batches = images(inputs, device)?.into_iter().cycle();
    repeated([("embeddings", &[0, 1])], move || Ok([parameters.embed(&layers, batches.next().context("no images")?)?]))
}

fn training_step(case: &Training, inputs: &Inputs, device: &Device) -> Result<Prepared> {
    let mut parameters = Parameters::new(inputs, case.rule, device)?;
    let labels = inputs.label_batches()?.into_iter().map(|batch| labels(batch, device));
    let mut batches = images(inputs, device)?.into_iter().zip(labels).collect::<Vec<_>>().into_iter().cycle();
    let (layers, margin) = (Network::layers(&case.network), case.margin);
    let mut step = move || {
        let (images, labels) = batches.next().context("no images")?;
        let embeddings = parameters.embed(&layers, images)?;
        let loss = a_softmax(embeddings, value(&parameters.matrices, "classifier")?, labels, margin)?;
        parameters.update(&mut loss.backward())?;
        Ok(loss)
    };
    let losses = (0..CHECKED_STEPS).map(|_| Ok(step()?.into_scalar::<f32>())).collect::<Result<Vec<f32>>>()?;
    let outputs = vec![("losses", Array { shape: vec![CHECKED_STEPS], values: losses })];
    Ok(Prepared::by_clock(outputs, move || step().map(|loss| drop(black_box(loss)))))
}
