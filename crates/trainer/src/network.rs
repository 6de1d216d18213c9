//! The network of a run as its report shows it, and where the time of a training step goes.

use anyhow::{Result, bail};
use sphereface_models::{LayerKind as Kind, Model, NamedNetwork};
use sphereface_report::{LayerInfo, LayerKind, NetworkInfo};
use sphereface_tensor::StepTime;
use std::collections::HashMap;
use std::fmt::Write as _;

/// Side of every filter.
const SIZE: usize = 3;
/// Bytes of a parameter, and of an activation that is not narrowed.
const FP32: u64 = 4;
/// Names of the layers that are not the network's own, and the labels of their steps in a plan.
const INPUT: (&str, &str) = ("input", "gather");
const CLASSIFIER: (&str, &str) = ("classifier", "head");

/// Name, layers and counts of a model; `activation_bytes` are those of one number between convolutions.
///
/// # Errors
/// When two parameters have one name.
pub(crate) fn info(named: &NamedNetwork, model: &Model, activation_bytes: u64) -> Result<NetworkInfo> {
    let stages: Vec<String> = named
        .stages
        .iter()
        .map(|(channels, units)| {
            format!("{channels} channels with {units} residual unit{}", if *units == 1 { "" } else { "s" })
        })
        .collect();
    let layers = layers(model, activation_bytes);
    Ok(NetworkInfo {
        name: named.key.into(),
        summary: format!("{}: stages of {}", named.title, stages.join(", ")),
        parameters: model.parameters()?.count() as u64,
        multiply_adds: layers.iter().map(|layer| layer.multiply_adds).sum(),
        layers,
    })
}

/// The layers as they are computed: PReLUs and residual sums belong to the convolution before them.
fn layers(model: &Model, activation_bytes: u64) -> Vec<LayerInfo> {
    let named = |name: &str, kind: LayerKind, reads: Vec<String>, output: [usize; 3], bytes: u64| LayerInfo {
        name: name.to_owned(),
        kind,
        prelu: false,
        reads,
        output,
        parameters: 0,
        multiply_adds: 0,
        activation_bytes: bytes * output.iter().product::<usize>() as u64,
        parameter_bytes: 0,
        time: None,
    };
    let mut found = vec![named(INPUT.0, LayerKind::Input, vec![], model.network.image, activation_bytes)];
    let mut branch = INPUT.0.to_owned();
    for layer in model.network.layers() {
        let last = found.last().map(|last| last.name.clone()).unwrap_or_default();
        let (kind, bytes) = match layer.kind {
            Kind::Conv2d { stride, .. } => (LayerKind::Convolution { size: SIZE, stride }, activation_bytes),
            Kind::Linear => (LayerKind::Linear, FP32),
            Kind::Branch => {
                branch = last;
                continue;
            }
            Kind::Prelu | Kind::Add => {
                let Some(before) = found.last_mut() else { continue };
                before.prelu |= layer.kind == Kind::Prelu;
                before.parameters += layer.parameters() as u64;
                if layer.kind == Kind::Add {
                    before.reads.push(branch.clone());
                }
                continue;
            }
        };
        found.push(LayerInfo {
            parameters: layer.parameters() as u64,
            multiply_adds: layer.multiply_adds() as u64,
            ..named(&layer.name, kind, vec![last], layer.output, bytes)
        });
    }
    let weights = (model.head.classes * model.network.embedding) as u64;
    let embedding = found.last().map(|last| last.name.clone()).into_iter().collect();
    // The head keeps no logits: beside the weights there are a few numbers for each image.
    found.push(LayerInfo {
        parameters: weights,
        multiply_adds: weights,
        ..named(CLASSIFIER.0, LayerKind::Classifier, embedding, [1, 1, model.head.classes], 0)
    });
    found.iter_mut().for_each(|layer| layer.parameter_bytes = FP32 * layer.parameters);
    found
}

/// Seconds of one training step by layer: forward, and backward with the layer's part of the update.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Profile {
    /// In the order of the layers.
    rows: Vec<(String, [f64; 2])>,
    /// What changes all parameters at once.
    update: f64,
}

impl Profile {
    /// Sums up by layer what the steps of a training plan took.
    ///
    /// # Errors
    /// When a step belongs to no layer of the model.
    pub(crate) fn new(model: &Model, times: &[StepTime]) -> Result<Profile> {
        let mut rows: Vec<(String, [f64; 2])> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut place = |label: &str, name: &str, new: bool| {
            if new {
                rows.push((name.to_owned(), [0.0; 2]));
            }
            places.insert(label.to_owned(), rows.len() - 1);
        };
        place(INPUT.1, INPUT.0, true);
        for layer in model.network.layers() {
            place(&layer.name, &layer.name, matches!(layer.kind, Kind::Conv2d { .. } | Kind::Linear));
        }
        place(CLASSIFIER.1, CLASSIFIER.0, true);
        let mut update = 0.0;
        for StepTime { label, op, time } in times {
            let seconds = time.as_secs_f64();
            match places.get(label) {
                Some(&row) => rows[row].1[usize::from(op.contains("backward"))] += seconds,
                None if label == UPDATE => update += seconds,
                None => bail!("profile: expected steps of the network's layers, found one of '{label}'"),
            }
        }
        Ok(Profile { rows, update })
    }

    /// Seconds of the whole step.
    fn total(&self) -> f64 {
        self.update + self.rows.iter().map(|(_, seconds)| seconds.iter().sum::<f64>()).sum::<f64>()
    }

    /// Notes in each layer its share of the time; the update is shared out by parameters, which it goes over once.
    pub(crate) fn note(&self, network: &mut NetworkInfo) {
        let (total, parameters) = (self.total(), network.parameters.max(1) as f64);
        if total <= 0.0 {
            return;
        }
        for layer in &mut network.layers {
            let own = self.rows.iter().find(|(name, _)| *name == layer.name);
            let own: f64 = own.map_or(0.0, |(_, seconds)| seconds.iter().sum());
            layer.time = Some((own + self.update * layer.parameters as f64 / parameters) / total);
        }
    }

    /// The table of `--profile`, at most 80 columns wide.
    pub(crate) fn table(&self) -> String {
        let total = self.total();
        let mut table = format!("{:<24}{:>12}{:>12}{:>12}{:>9}\n", "layer", "forward", "backward", "together", "share");
        let mut row = |name: &str, seconds: [f64; 2]| {
            let [forward, backward, sum] = [seconds[0], seconds[1], seconds[0] + seconds[1]].map(|s| 1e3 * s);
            let share = 100.0 * sum / (1e3 * total).max(f64::MIN_POSITIVE);
            let _ = writeln!(table, "{name:<24}{forward:>9.3} ms{backward:>9.3} ms{sum:>9.3} ms{share:>8.1}%");
        };
        self.rows.iter().for_each(|(name, seconds)| row(name, *seconds));
        row("update", [self.update, 0.0]);
        let sum = |which: usize| self.rows.iter().map(|(_, seconds)| seconds[which]).sum::<f64>();
        row("one training step", [sum(0) + self.update, sum(1)]);
        table += "PReLUs and residual sums belong to the convolution they are fused with.\n";
        table
    }
}

/// Label of the steps after the backward pass.
const UPDATE: &str = "update";

#[cfg(test)]
mod tests {
    use super::*;
    use sphereface_models::{ImageSource, NETWORKS, Training, loss, named_network};
    use sphereface_tensor::Plan;
    use sphereface_tensor::op::{Augmentation, Rule};
    use std::time::Duration;

    fn model(named: &NamedNetwork) -> Model {
        Model { network: named.network([28, 28, 1], 3), head: loss("sphereface").unwrap().head(10) }
    }

    fn plan(model: &Model) -> Plan {
        let training = Training {
            source: ImageSource { name: "train", images: 8 },
            batch: 4,
            steps: 1,
            seed: 1,
            augmentation: Augmentation::default(),
            rule: Rule::Sgd { momentum: 0.9, nesterov: true },
            decay: 0.0,
            clip: None,
            log_rows: 1,
        };
        model.training_plan(&model.parameters().unwrap(), &training).unwrap()
    }

    #[test]
    fn layers_of_every_network_add_up_to_the_model() {
        for named in &NETWORKS {
            let model = model(named);
            let info = info(named, &model, 4).unwrap();
            let sum = |value: fn(&LayerInfo) -> u64| info.layers.iter().map(value).sum::<u64>();
            assert_eq!(sum(|layer| layer.parameters), model.parameters().unwrap().count() as u64, "{}", named.key);
            let multiply_adds = model.network.multiply_adds() + 10 * 3;
            assert_eq!(sum(|layer| layer.multiply_adds), multiply_adds as u64, "{}", named.key);
            assert_eq!(sum(|layer| layer.parameter_bytes), 4 * sum(|layer| layer.parameters));
            let weighted: usize = named.stages.iter().map(|(_, units)| 1 + 2 * units).sum();
            assert_eq!(info.layers.len(), weighted + 3, "{}: input, convolutions, embedding, classifier", named.key);
            assert!(info.svg().is_ok(), "{}", named.key);
        }
    }

    #[test]
    fn layers_read_the_layer_before_and_units_add_what_entered_them() {
        for named in &NETWORKS {
            let layers = layers(&model(named), 4);
            let names: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
            for (index, layer) in layers.iter().enumerate() {
                let before: Vec<&str> = (1..=index.min(1)).map(|by| names[index - by]).collect();
                let adds = layer.name.ends_with(".conv2").then(|| names[index - 2]);
                let expected: Vec<&str> = before.into_iter().chain(adds).collect();
                assert_eq!(layer.reads, expected, "{}: {}", named.key, layer.name);
                assert_eq!(layer.prelu, layer.name.contains("conv"), "{}: {}", named.key, layer.name);
            }
        }
        let small = layers(&model(named_network("mnist").unwrap()), 4);
        assert_eq!(small[0].name, "input");
        assert_eq!(small[3].reads, ["stage1.unit1.conv1", "stage1.conv"]);
        assert_eq!((small[13].name.as_str(), small[13].output), ("embedding", [1, 1, 3]));
    }

    #[test]
    fn every_step_of_a_plan_counts_for_a_layer_and_shares_add_up() {
        for named in &NETWORKS {
            let model = model(named);
            for plan in [plan(&model), plan(&model).narrowed().unwrap()] {
                let step = |(index, step): (usize, &sphereface_tensor::Step)| StepTime {
                    label: step.label.clone(),
                    op: step.op.name(),
                    time: Duration::from_micros(1 + 37 * index as u64 % 101),
                };
                let times: Vec<StepTime> = plan.steps.iter().enumerate().map(step).collect();
                let profile = Profile::new(&model, &times).unwrap();
                let all: Duration = times.iter().map(|step| step.time).sum();
                assert!((profile.total() - all.as_secs_f64()).abs() < 1e-9);
                let mut info = info(named, &model, 4).unwrap();
                profile.note(&mut info);
                let shares: Vec<f64> = info.layers.iter().filter_map(|layer| layer.time).collect();
                assert_eq!(shares.len(), info.layers.len());
                assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{}", named.key);
                assert!(shares.iter().all(|&share| share > 0.0), "{}: a layer without time", named.key);
                for line in profile.table().lines().chain(info.table().lines()) {
                    assert!(line.chars().count() <= 80, "{line}");
                }
            }
        }
    }

    #[test]
    fn steps_of_no_layer_are_refused() {
        let model = model(named_network("mnist").unwrap());
        let stray = StepTime { label: "stage9.conv".into(), op: "conv2d_forward", time: Duration::ZERO };
        assert!(Profile::new(&model, &[stray]).unwrap_err().to_string().contains("stage9.conv"));
    }
}
