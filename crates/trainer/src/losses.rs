//! The losses described as data for a report: words from the library, and its functions sampled.

use crate::choice::Choice;
use crate::config::Config;
use anyhow::Result;
use sphereface_models::{Lambda, OF_THE_PAPER, effective_margin};
use sphereface_report::{EffectiveMargin, Formula, HeadSample, LossInfo, Parameter, Schedule, TargetCurve};
use sphereface_tensor::op::{
    Array, Gradient, Margin, MarginSoftmax, MarginSoftmaxBackward, MarginSoftmaxForward, Operator, Scale,
};
use sphereface_tensor::{Dim, Shape};
use std::f64::consts::PI;

/// Angles of the tables of `h` and `h′`, every half degree: read linearly, `h` is off by 2e-4 at most, `h′` by 1e-3 (of 16).
const ANGLES: usize = 361;
/// Angles of the tables of effective margins, every two degrees.
const COARSE_ANGLES: usize = 91;
/// Moments of the tables of λ.
const MOMENTS: usize = 121;
/// λ of the tables of `h`: `h` goes linearly with 1 / (1 + λ), so that two of them hold all between.
const TARGET_LAMBDAS: [f64; 2] = [0.0, 1000.0];
/// λ of the tables of effective margins: what a reader can choose.
const LAMBDAS: [f64; 11] = [0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0];
/// The authors' training on faces.
const OFFICIAL: Lambda = Lambda::Inverse { base: 1000.0, gamma: 0.12, power: 1.0, minimum: 5.0, first: 0 };
const OFFICIAL_STEPS: usize = 28_000;

/// Embedding and class weights of the samples: in the own sector, within the margin, on the wrong side, at a flat spot
/// of m = 4 and of m = 2, behind the weight, and along it.
const PLACES: [([f64; 2], [[f64; 2]; 2]); 7] = [
    ([2.1, 0.3], [[1.4, -0.2], [-0.3, 0.8]]),
    ([1.2, 1.1], [[1.5, 0.1], [0.2, 0.9]]),
    ([-0.4, 1.9], [[0.7, 0.3], [0.1, 2.3]]),
    ([2.0, 2.0], [[1.0, 0.0], [0.0, 1.0]]),
    ([0.0, 3.0], [[1.0, 0.0], [1.0, 1.0]]),
    ([-2.0, 0.7], [[1.0, 0.2], [0.4, -1.1]]),
    ([1.5, 0.5], [[3.0, 1.0], [-1.0, 0.5]]),
];

/// The losses of the paper and those of this configuration, with its margins and the schedule of λ.
///
/// `steps` is the length of the training, for the schedule.
pub(crate) fn describe(config: &Config, steps: usize) -> Result<Vec<LossInfo>> {
    let of_paper = OF_THE_PAPER.iter().map(|loss| loss.key);
    let others =
        config.model.losses.iter().map(String::as_str).filter(|key| of_paper.clone().all(|known| known != *key));
    let choices = of_paper.clone().chain(others).map(|key| Choice::new(key, &config.model));
    choices.map(|choice| Ok(describe_one(&choice?, config, steps))).collect()
}

fn describe_one(choice: &Choice, config: &Config, steps: usize) -> LossInfo {
    let loss = choice.loss;
    let margins: Vec<Option<u32>> =
        if loss.margins.is_empty() { vec![None] } else { loss.margins.iter().copied().map(Some).collect() };
    let head = |margin: Option<u32>| {
        let mut values = choice.values.clone();
        values.iter_mut().zip(margin).for_each(|(value, m)| *value = f64::from(m));
        choice.head_of(2, &values)
    };
    let lambdas = |of_annealed: &'static [f64]| if loss.annealed { of_annealed } else { &[0.0] };
    let each = |lambdas: &'static [f64]| margins.iter().flat_map(move |&m| lambdas.iter().map(move |&l| (m, l)));
    let targets = each(lambdas(&TARGET_LAMBDAS)).map(|(m, lambda)| target_curve(&head(m), m, lambda));
    let effective = each(lambdas(&LAMBDAS)).map(|(m, lambda)| effective_curve(&*head(m).margin, m, lambda));
    let bends = |curve: &EffectiveMargin| curve.factors.iter().flatten().any(|factor| (factor - 1.0).abs() > 1e-6);
    let effective: Vec<EffectiveMargin> = effective.collect();
    // The page computes softmaxes of cosines that are bent by a table and scaled.
    let is_drawn = head(margins[0]).is_drawn();
    let samples = each(lambdas(&[0.0, 5.0])).filter(|_| is_drawn).flat_map(|(m, lambda)| {
        let head = head(m);
        PLACES.map(|(embedding, class_weights)| sample(&head, m, lambda, embedding, class_weights))
    });
    LossInfo {
        key: choice.key.clone(),
        title: format!("{}{}", loss.title, choice.of_gradient()),
        formulas: loss
            .formulas
            .iter()
            .map(|formula| Formula { text: formula.text.into(), mathml: formula.mathml.into() })
            .collect(),
        explanation: if choice.differs_in_gradient() {
            format!("{} {}", loss.explanation, choice.gradient_words())
        } else {
            loss.explanation.into()
        },
        source: loss.source.into(),
        parameters: loss
            .parameters
            .iter()
            .map(|p| Parameter { symbol: p.symbol.into(), meaning: p.meaning.into(), default: p.setting.default() })
            .collect(),
        scale: match head(margins[0]).scale {
            Scale::InnerProduct => sphereface_report::Scale::InnerProduct,
            Scale::FeatureNorm => sphereface_report::Scale::FeatureNorm,
            Scale::Constant(s) => sphereface_report::Scale::Constant(f64::from(s)),
        },
        value_of: choice.differs_in_gradient().then(|| loss.key.into()),
        gradient: choice.gradient_words().into(),
        annealed: loss.annealed,
        margin: (!loss.margins.is_empty()).then_some(config.model.m),
        published: loss.published.filter(|_| choice.of_gradient().is_empty()),
        targets: targets.collect(),
        effective_margins: if effective.iter().any(bends) { effective } else { Vec::new() },
        schedules: if loss.annealed { schedules(config, steps) } else { Vec::new() },
        samples: samples.collect(),
    }
}

/// What the page can draw of a head.
trait Drawn {
    fn is_drawn(&self) -> bool;
}

impl Drawn for MarginSoftmax {
    fn is_drawn(&self) -> bool {
        self.is_plain() && self.gradient != Gradient::Caffe && self.penalty.weight == 0.0 && self.loss_factor == 1.0
    }
}

/// Angles from 0 to π.
fn angles(count: usize) -> impl Iterator<Item = f64> {
    (0..count).map(move |i| PI * i as f64 / (count - 1) as f64)
}

/// The cosine of a table's angle; that of a right angle, as of any whole fraction of it, is exact enough for flat spots.
fn target_curve(head: &MarginSoftmax, m: Option<u32>, lambda: f64) -> TargetCurve {
    let followed = |slope: f64| if head.gradient == Gradient::Detached { 1.0 } else { slope };
    let (values, slopes) = angles(ANGLES)
        .map(|theta| head.margin.target(theta.cos(), lambda))
        .map(|target| (rounded(target.value), rounded(followed(target.slope))))
        .unzip();
    TargetCurve { margin: m, lambda, values, slopes }
}

fn effective_curve(margin: &dyn Margin, m: Option<u32>, lambda: f64) -> EffectiveMargin {
    let factors = angles(COARSE_ANGLES).map(|theta| effective_margin(margin, theta, lambda).map(rounded));
    EffectiveMargin { margin: m, lambda, factors: factors.collect() }
}

/// Six decimals: finer than what reading between the angles costs.
fn rounded(value: f64) -> f32 {
    // Adding 0 turns -0 into 0.
    ((value * 1e6).round() / 1e6 + 0.0) as f32
}

/// λ of this configuration, and of the authors' training on faces.
fn schedules(config: &Config, steps: usize) -> Vec<Schedule> {
    let sampled = |title: &str, lambda: Lambda, steps: usize| {
        let table = lambda.table(steps.max(1));
        let at = |i: usize| i * (table.len() - 1) / (MOMENTS - 1);
        Schedule { title: title.into(), lambdas: (0..MOMENTS).map(|i| rounded(table[at(i)])).collect() }
    };
    vec![sampled("this run", config.lambda(), steps), sampled("the authors’, for faces", OFFICIAL, OFFICIAL_STEPS)]
}

/// Loss and gradients of one embedding of the first of two classes, by the f64 reference of the head.
fn sample(
    head: &MarginSoftmax,
    margin: Option<u32>,
    lambda: f64,
    embedding: [f64; 2],
    class_weights: [[f64; 2]; 2],
) -> HeadSample {
    let array = |shape, values| Array { shape, values };
    let one = |dim, value| array(Shape::vector(dim, 1), vec![value]);
    let mut reads = vec![
        array(Shape::matrix((Dim::N, 1), (Dim::D, 2)), embedding.to_vec()),
        array(Shape::matrix((Dim::Classes, 2), (Dim::D, 2)), class_weights.concat()),
        one(Dim::N, 0.0),
        one(Dim::Length, 1.0),
        array(head.modifiers(1, 1).1, vec![lambda]),
        one(Dim::Length, 0.0),
    ];
    let forward = MarginSoftmaxForward(head.clone()).reference(&reads.iter().collect::<Vec<_>>(), &mut []);
    let loss = forward[0].values[0];
    reads.extend(forward.into_iter().skip(1).take(4));
    let backward = MarginSoftmaxBackward(head.clone()).reference(&reads.iter().collect::<Vec<_>>(), &mut []);
    let pair = |values: &[f64]| [values[0], values[1]];
    let (d_x, d_w) = (&backward[0].values, &backward[1].values);
    HeadSample {
        margin,
        lambda,
        embedding,
        class_weights,
        loss,
        d_embedding: pair(d_x),
        d_class_weights: [pair(d_w), pair(&d_w[2..])],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sphereface_models::LOSSES;

    fn all() -> Vec<LossInfo> {
        let mut config = Config::default();
        config.model.losses = LOSSES.iter().map(|loss| loss.key.to_owned()).collect();
        describe(&config, 1000).unwrap()
    }

    /// As the page reads a table: linearly between its angles.
    fn read(table: &[f32], theta: f64) -> f64 {
        let place = theta / PI * (table.len() - 1) as f64;
        let i = (place as usize).min(table.len() - 2);
        let (low, high) = (f64::from(table[i]), f64::from(table[i + 1]));
        low + (high - low) * (place - i as f64)
    }

    #[test]
    fn tables_read_between_their_angles_and_lambdas_are_the_margin() {
        for (loss, info) in LOSSES.into_iter().zip(all()) {
            let margins: Vec<Option<u32>> = info.targets.iter().map(|curve| curve.margin).collect();
            for m in margins {
                let curves: Vec<&TargetCurve> = info.targets.iter().filter(|curve| curve.margin == m).collect();
                let (first, last) = (curves[0], curves[curves.len() - 1]);
                let mut values = loss.stock();
                values.iter_mut().zip(m).for_each(|(value, m)| *value = f64::from(m));
                let head = (loss.make)(2, &values);
                let lambdas: &[f64] = if loss.annealed { &[0.0, 0.3, 1.0, 5.0, 20.0, 400.0] } else { &[0.0] };
                for &lambda in lambdas {
                    let share = |lambda: f64| 1.0 / (1.0 + lambda);
                    let range = share(first.lambda) - share(last.lambda);
                    let t = if range > 0.0 { (share(first.lambda) - share(lambda)) / range } else { 0.0 };
                    for i in 0..=5000 {
                        let theta = PI * f64::from(i) / 5000.0;
                        let exact = head.margin.target(theta.cos(), lambda);
                        let exact_slope = if head.gradient == Gradient::Detached { 1.0 } else { exact.slope };
                        // What a slope is multiplied with is the sine: the part of a class weight across an embedding.
                        let across = theta.sin().max(1e-2);
                        let value = read(&first.values, theta) * (1.0 - t) + read(&last.values, theta) * t;
                        let slope = read(&first.slopes, theta) * (1.0 - t) + read(&last.slopes, theta) * t;
                        // No table tells where between two of its angles a margin or its slope has a step.
                        let near = |step: i32| (theta + f64::from(step) * 3e-4).clamp(0.0, PI).cos();
                        let is_step = theta > 0.1
                            && (-30..30).any(|step| {
                                let [a, b] = [step, step + 1].map(|step| head.margin.target(near(step), lambda));
                                (a.value - b.value).abs() > 0.01 || (a.slope - b.slope).abs() > 0.1
                            });
                        let at = format!("{} {m:?} λ {lambda} θ {theta}", loss.key);
                        assert!(is_step || (value - exact.value).abs() < 2e-4, "{at}: {value}");
                        let error = (slope - exact_slope).abs() * across;
                        assert!(is_step || theta < 0.1 || error < 1e-3, "{at}: {slope} {exact_slope}");
                    }
                }
            }
        }
    }

    #[test]
    fn flat_spots_of_the_margin_are_zeros_of_the_table() {
        let info = all().into_iter().find(|info| info.key == "sphereface").unwrap();
        for curve in info.targets.iter().filter(|curve| curve.lambda == 0.0) {
            let flat: Vec<usize> = (0..ANGLES).filter(|&i| curve.slopes[i] == 0.0).collect();
            let m = curve.margin.unwrap() as usize;
            let expected: Vec<usize> = (1..m).map(|i| i * (ANGLES - 1) / m).collect();
            assert_eq!(flat, expected, "m {m}");
        }
    }

    #[test]
    fn effective_margins_are_told_of_losses_that_have_one() {
        for info in all() {
            let has_none = ["softmax", "modified", "normface", "sphereface-r-v2"].contains(&info.key.as_str());
            assert_eq!(info.effective_margins.is_empty(), has_none, "{}", info.key);
            for curve in &info.effective_margins {
                assert_eq!((curve.factors.len(), curve.factors[0]), (COARSE_ANGLES, None));
                // From there on the mixture of m = 4 without λ is below -1, which no angle has as its cosine.
                let last = curve.factors.iter().rposition(Option::is_some).unwrap();
                assert!(curve.margin != Some(4) || curve.lambda > 0.0 || last * 2 <= 45, "{last}");
            }
        }
    }

    #[test]
    fn samples_have_the_gradient_of_their_loss() {
        let loss = sphereface_models::loss("softmax").unwrap();
        let head = loss.head(2);
        for (embedding, class_weights) in PLACES {
            let at = sample(&head, None, 0.0, embedding, class_weights);
            for d in 0..2 {
                let step = |by: f64| {
                    let mut moved = embedding;
                    moved[d] += by;
                    sample(&head, None, 0.0, moved, class_weights).loss
                };
                let difference = (step(1e-5) - step(-1e-5)) / 2e-5;
                assert!((difference - at.d_embedding[d]).abs() < 1e-8, "{embedding:?}");
            }
        }
    }

    #[test]
    fn the_schedules_are_the_librarys() {
        let info = all().into_iter().find(|info| info.annealed).unwrap();
        let [here, authors] = &info.schedules[..] else { panic!("{:?}", info.schedules) };
        assert_eq!((here.lambdas[0], here.lambdas[MOMENTS - 1]), (20.0, 0.0));
        assert_eq!((authors.lambdas[0], authors.lambdas[MOMENTS - 1]), (1000.0, 5.0));
    }
}
