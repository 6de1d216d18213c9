//! The gradients that a plan computes are those of its loss: central differences of random small networks, in f64.

use sphereface_models::LOSSES;
use sphereface_models::margin::{ModifiedSoftmax, OriginalSoftmax, SphereFace};
use sphereface_tensor::op::{Array, Conv2dForward, Gradient, Link, Margin, MarginSoftmax, Op, Scale};
use sphereface_tensor::random::{Stream, normal, philox};
use sphereface_tensor::{
    BufferId, Dim, Error, Init, PARAMETERS, ParameterSet, Plan, PlanBuilder, Reference, Shape, Type,
};
use sphereface_testkit::check_gradients;
use std::f64::consts::PI;
use std::sync::Arc;

/// Of the largest gradient. A central difference with step 1e-5 is off by the square of the step times a third
/// derivative (some hundreds in these networks), and by rounding of the loss, 1e-16 / 1e-5.
const TOLERANCE: f64 = 1e-7;

/// How far everything stays from the kinks of PReLU and from the margin's thresholds, where the second derivative
/// jumps: the differences' step moves an activation by less.
const DISTANCE: f64 = 1e-3;

/// One head and λ.
type Head = (MarginSoftmax, f64);

fn heads() -> Vec<Head> {
    let of = |margin: Arc<dyn Margin>, scale| MarginSoftmax::new(3, margin, scale);
    let mut heads: Vec<Head> = vec![
        (of(Arc::new(OriginalSoftmax), Scale::InnerProduct), 0.0),
        (of(Arc::new(ModifiedSoftmax), Scale::FeatureNorm), 0.0),
        (of(Arc::new(ModifiedSoftmax), Scale::Constant(6.0)), 0.0),
    ];
    for m in 1..=SphereFace::MAX_M {
        for scale in [Scale::FeatureNorm, Scale::Constant(6.0), Scale::InnerProduct] {
            heads.extend([0.0, 5.0].map(|lambda| (of(Arc::new(SphereFace::new(m)), scale), lambda)));
        }
    }
    // Every loss in every variant, by its own gradient. Those above are all of the SphereFace paper.
    for loss in LOSSES.into_iter().filter(|loss| !loss.annealed) {
        let variants = loss.variants().into_iter().map(|values| (loss.make)(3, &values));
        heads.extend(variants.map(|head| {
            let modifier = if head.modifier.is_some() { 0.5 } else { 0.0 };
            (MarginSoftmax { gradient: Gradient::True, ..head }, modifier)
        }));
    }
    heads
}

/// Draws sizes of a network: the same ones for the same seed.
struct Dice {
    seed: u64,
    drawn: u32,
}

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.drawn += 1;
        philox(self.seed, [self.drawn, 0, 0, 99])[0] as usize % limit
    }
}

/// A layer of a random network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Conv {
        taps: usize,
        stride: usize,
        padding: usize,
        channels: usize,
        bias: bool,
    },
    Prelu,
    /// `v + prelu(conv v) + conv v`: three steps read `v`.
    Residual {
        taps: usize,
    },
}

/// Sizes of a random network with its head.
struct Architecture {
    /// Images `[H, W, N, C]`.
    input: [usize; 4],
    /// Rows of the batch that count.
    valid: usize,
    layers: Vec<Layer>,
    embedding: usize,
    classes: usize,
}

impl Architecture {
    fn random(seed: u64) -> Self {
        let mut dice = Dice { seed, drawn: 0 };
        let [height, width, batch] = [4, 4, 2].map(|least| least + dice.below(4));
        let mut size = height.min(width);
        let mut layers = Vec::new();
        for _ in 0..2 + dice.below(3) {
            let taps = [1, 3, 5][dice.below(3)];
            if !layers.is_empty() && dice.below(3) == 0 {
                layers.push(Layer::Residual { taps });
                continue;
            }
            let (padding, stride) = (dice.below(taps / 2 + 2), 1 + dice.below(2));
            if size + 2 * padding < taps {
                continue;
            }
            size = (size + 2 * padding - taps) / stride + 1;
            layers.push(Layer::Conv { taps, stride, padding, channels: 2 + dice.below(3), bias: dice.below(2) == 0 });
            if dice.below(3) > 0 {
                layers.push(Layer::Prelu);
            }
        }
        Architecture {
            input: [height, width, batch, 1 + dice.below(2)],
            valid: batch - dice.below(2),
            layers,
            embedding: 2 + dice.below(2),
            classes: 3 + dice.below(3),
        }
    }

    fn parameters(&self, head: &MarginSoftmax) -> ParameterSet {
        let mut set = ParameterSet::default();
        let mut add = |name: String, shape: Shape| set.add(name, shape, Init::Constant(0.0), 1.0, 1.0).unwrap();
        let [mut height, mut width, _, mut channels] = self.input;
        for (index, &layer) in self.layers.iter().enumerate() {
            match layer {
                Layer::Conv { taps, stride, padding, channels: outputs, bias } => {
                    add(format!("{index}.filter"), Shape::filter(taps, taps, channels, outputs));
                    if bias {
                        add(format!("{index}.bias"), Shape::vector(Dim::K, outputs));
                    }
                    let size = |size: usize| (size + 2 * padding - taps) / stride + 1;
                    (height, width, channels) = (size(height), size(width), outputs);
                }
                Layer::Prelu => add(format!("{index}.slope"), Shape::vector(Dim::C, channels)),
                Layer::Residual { taps } => {
                    add(format!("{index}.first"), Shape::filter(taps, taps, channels, channels));
                    add(format!("{index}.slope"), Shape::vector(Dim::C, channels));
                    add(format!("{index}.second"), Shape::filter(taps, taps, channels, channels));
                }
            }
        }
        add("linear.weight".into(), Shape::filter(height, width, channels, self.embedding));
        add("linear.bias".into(), Shape::vector(Dim::K, self.embedding));
        add("classifier".into(), Shape::matrix((Dim::Classes, self.classes), (Dim::D, self.embedding)));
        if head.has_bias() {
            add("classifier.bias".into(), Shape::vector(Dim::Length, 1));
        }
        set
    }

    /// Steps from images to embeddings.
    fn build(&self, plan: &mut PlanBuilder<'_>, x: BufferId) -> Result<BufferId, Error> {
        let mut v = x;
        for (index, &layer) in self.layers.iter().enumerate() {
            let parameter = |plan: &PlanBuilder<'_>, name: &str| plan.parameter(&format!("{index}.{name}"));
            match layer {
                Layer::Conv { stride, padding, bias, .. } => {
                    let bias = if bias { Some(parameter(plan, "bias")?) } else { None };
                    v = plan.conv2d(v, parameter(plan, "filter")?, bias, stride, padding)?;
                }
                Layer::Prelu => v = plan.prelu(v, parameter(plan, "slope")?)?,
                Layer::Residual { taps } => {
                    let first = plan.conv2d(v, parameter(plan, "first")?, None, 1, taps / 2)?;
                    let first = plan.prelu(first, parameter(plan, "slope")?)?;
                    // On the way back this sum finds a gradient of `v` to add to, and the first convolution takes both.
                    let sum = plan.add(v, first)?;
                    let second = plan.conv2d(v, parameter(plan, "second")?, None, 1, taps / 2)?;
                    v = plan.add(sum, second)?;
                }
            }
        }
        plan.linear(v, plan.parameter("linear.weight")?, plan.parameter("linear.bias")?)
    }

    /// Forward and backward steps; the loss is kept.
    fn plan(&self, parameters: &ParameterSet, (head, _): &Head) -> Result<Plan, Error> {
        let mut plan = PlanBuilder::new(parameters);
        let [height, width, batch, channels] = self.input;
        let x = plan.persistent("x", Type::f32(Shape::activation(height, width, batch, channels)));
        let labels = plan.persistent("labels", Type::u32(Shape::vector(Dim::N, batch)));
        let one = Type::u32(Shape::vector(Dim::Length, 1));
        let (count, counter) = (plan.persistent("count", one.clone()), plan.persistent("counter", one));
        let lambdas = plan.persistent("lambdas", Type::f32(head.modifiers(1, batch).1));
        let embedding = self.build(&mut plan, x)?;
        let classifier = plan.parameter("classifier")?;
        let head = MarginSoftmax { classes: self.classes, ..head.clone() };
        let mut operands = vec![embedding, classifier, labels, count, lambdas, counter];
        if head.has_bias() {
            operands.push(plan.parameter("classifier.bias")?);
        }
        let output = plan.margin_softmax(head, operands)?;
        plan.backward(output.loss)?;
        plan.keep(output.loss, "loss");
        Ok(plan.finish())
    }
}

/// A random network with a head, and the values it starts from.
struct Trial {
    parameters: ParameterSet,
    plan: Plan,
    block: Vec<f64>,
    start: Reference,
}

impl Trial {
    fn new(architecture: &Architecture, head: &Head, seed: u64) -> Trial {
        let parameters = architecture.parameters(&head.0);
        let plan = architecture.plan(&parameters, head).unwrap();
        let draw = |tensor: u32, scale: f64, length: usize| -> Vec<f64> {
            (0..length).map(|i| scale * normal(seed, Stream::Initialisation, tensor, i as u64)).collect()
        };
        let [.., batch, _] = architecture.input;
        let mut start = Reference::default();
        start.set("x", draw(0, 1.0, architecture.input.iter().product()));
        start.set("labels", (0..batch).map(|row| (row % architecture.classes) as f64).collect());
        start.set("count", vec![architecture.valid as f64]);
        let (_, lambdas) = head.0.modifiers(1, batch);
        start.set("lambdas", vec![head.1; lambdas.elements()]);
        let mut block = vec![0.0; parameters.length()];
        for (tensor, parameter) in (1..).zip(parameters.iter()) {
            // Values keep their size from layer to layer, whatever the number of inputs.
            let elements = parameter.shape.elements();
            let inputs = if parameter.name == "classifier" { 1 } else { elements / parameter.shape.last() };
            block[parameter.range()].copy_from_slice(&draw(tensor, (inputs as f64).powf(-0.5), elements));
            if let (Link::Binary { initial_bias, .. }, "classifier.bias") = (head.0.link, parameter.name.as_str()) {
                block[parameter.offset] = f64::from(initial_bias);
            }
        }
        Trial { parameters, plan, block, start }
    }

    /// The first values that keep their distance from where the loss is not smooth.
    fn smooth(architecture: &Architecture, head: &Head) -> Trial {
        let mut trials = (0..100).map(|seed| Trial::new(architecture, head, seed));
        trials.find(Trial::is_smooth).expect("values away from the kinks")
    }

    fn is_smooth(&self) -> bool {
        let mut reference = self.start.clone();
        reference.set(PARAMETERS, self.block.clone());
        let lambda = self.start.get("lambdas").map_or(0.0, |lambdas| lambdas[0]);
        let arrays = reference.run(&self.plan);
        let keeps_distance = |id: BufferId, kinks: &[f64]| {
            arrays[id.0].values.iter().all(|value| kinks.iter().all(|kink| (value - kink).abs() > DISTANCE))
        };
        // Exactly 0 is what a 1×1 filter makes of padding: it stays 0.
        let is_off_zero =
            |id: BufferId| arrays[id.0].values.iter().all(|&value| value == 0.0 || value.abs() > DISTANCE);
        self.plan.steps.iter().all(|step| match &step.op {
            Op::PreluForward(_) => is_off_zero(step.reads[0]),
            Op::Conv2dForward(Conv2dForward { slope: true, .. }) => is_off_zero(step.writes[0]),
            // The thresholds of A-Softmax, and the ends, where cosines are clamped; kinks of the others show in their
            // slopes, and what bends all cosines does so smoothly but at the ends.
            Op::MarginSoftmaxForward(op) => {
                let angles = [0.0, 1.0 / 4.0, 1.0 / 3.0, 1.0 / 2.0, 2.0 / 3.0, 3.0 / 4.0, 1.0];
                let slope = |c: f64| op.0.margin.target(c.clamp(-1.0, 1.0), lambda).slope;
                let kink = |c: f64| slope(c + DISTANCE) - 2.0 * slope(c) + slope(c - DISTANCE);
                keeps_distance(step.writes[2], &angles.map(|angle| (angle * PI).cos()))
                    && arrays[step.writes[2].0].values.iter().all(|&c| kink(c).abs() < 1e-3)
                    && (!op.0.margin.bends_others()
                        || farthest(&arrays[step.reads[0].0], &arrays[step.reads[1].0]) < 0.99)
            }
            _ => true,
        })
    }
}

/// The largest magnitude of a cosine between an embedding and a class weight.
fn farthest(x: &Array, w: &Array) -> f64 {
    let rows = |array: &Array| -> Vec<Vec<f64>> {
        let norm = |row: &[f64]| row.iter().map(|v| v * v).sum::<f64>().sqrt();
        array.values.chunks(array.shape.last()).map(|row| row.iter().map(|v| v / norm(row)).collect()).collect()
    };
    let dot = |x: &[f64], w: &[f64]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>().abs();
    let (x, w) = (rows(x), rows(w));
    x.iter().flat_map(|x| w.iter().map(move |w| dot(x, w))).fold(0.0, f64::max)
}

/// Networks that each head is checked on.
const NETWORKS: u64 = 3;

#[test]
fn gradients_of_random_networks_equal_central_differences_for_every_head() {
    for (index, head) in (0..).zip(&heads()) {
        for seed in NETWORKS * index..NETWORKS * (index + 1) {
            let architecture = Architecture::random(seed);
            let Trial { parameters, plan, block, start } = Trial::smooth(&architecture, head);
            let name = format!("{head:?}, network {seed} {:?}", architecture.layers);
            check_gradients(&name, &plan, &parameters, &block, &start, 4, TOLERANCE);
        }
    }
}

#[test]
fn random_networks_have_every_filter_stride_padding_and_fan_out() {
    let networks = 0..NETWORKS * heads().len() as u64;
    let all: Vec<Layer> = networks.flat_map(|seed| Architecture::random(seed).layers).collect();
    let convolutions: Vec<[usize; 3]> = all
        .iter()
        .filter_map(|layer| match *layer {
            Layer::Conv { taps, stride, padding, .. } => Some([taps, stride, padding]),
            _ => None,
        })
        .collect();
    for taps in [1, 3, 5] {
        for (stride, padding) in [(1, 0), (1, taps / 2), (2, 0), (2, taps / 2)] {
            assert!(convolutions.contains(&[taps, stride, padding]), "{taps}×{taps}, {stride}, {padding}");
        }
        assert!(all.contains(&Layer::Residual { taps }), "residual of {taps}×{taps}");
    }
}
