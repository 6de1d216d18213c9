//! The configuration of a run: defaults, TOML file, command line; saved resolved, so that it can be given back.

use crate::choice::{Choice, Value, setting_names};
use crate::names::{known, nearest};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sphereface_models::margin::SphereFace;
use sphereface_models::{DIGITS, Lambda, NETWORKS, OF_THE_PAPER, Rate, Recipe, named_network};
use sphereface_tensor::op::{Augmentation, Logits, Rule};
use sphereface_tensor::roofline::Precision;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Everything that decides what a run computes, and where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) data: DataConfig,
    pub(crate) model: ModelConfig,
    pub(crate) training: TrainingConfig,
    pub(crate) optimizer: OptimizerConfig,
    pub(crate) augmentation: AugmentationConfig,
    pub(crate) backend: BackendConfig,
}

/// Which images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DataConfig {
    /// `auto`, `mnist` or `mnist-10k`.
    pub(crate) set: String,
    /// The only folder that is searched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dir: Option<PathBuf>,
    /// Evaluate on images held out of training instead of the test set.
    pub(crate) validate: bool,
    /// Evaluate on so many images only, the first of the test and of the training set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) evaluate: Option<usize>,
    /// The data of a run that was begun: it goes on with no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<String>,
}

/// Which network with which losses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ModelConfig {
    pub(crate) network: String,
    /// By name; one may end in a gradient, as `sphereface-detached`.
    pub(crate) losses: Vec<String>,
    pub(crate) dims: Vec<usize>,
    /// Margin of A-Softmax.
    pub(crate) m: u32,
    /// `recompute` or `kept`: where the backward pass has the logits from.
    pub(crate) logits: String,
    /// Settings of losses that are not stock, `loss.name`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) settings: BTreeMap<String, Value>,
}

/// How long and how fast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TrainingConfig {
    pub(crate) epochs: usize,
    /// Instead of epochs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) steps: Option<usize>,
    pub(crate) batch: usize,
    pub(crate) seed: u64,
    /// Number of seeds, from `seed` on.
    pub(crate) seeds: usize,
    /// Largest learning rate.
    pub(crate) rate: f64,
    /// `cosine`, or `steps`: a tenth of it after 16/28 and a hundredth after 24/28, as the authors trained faces.
    pub(crate) rate_schedule: String,
    /// Fraction of the steps in which the rate rises.
    pub(crate) warm_up: f64,
    /// `quadratic`, from `lambda` to 0 at `lambda_until`, or `inverse`: the authors' max(5, 1000 / (1 + 0.12 step)).
    pub(crate) lambda_schedule: String,
    /// First λ of annealed margins.
    pub(crate) lambda: f64,
    /// Fraction of the steps after which λ is 0.
    pub(crate) lambda_until: f64,
    /// `off`, `warn` or `recover`: what is done about a training that goes wrong.
    pub(crate) guard: String,
}

/// Update rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OptimizerConfig {
    /// `sgd`, `nesterov`, `adam` or `adamw`.
    pub(crate) rule: String,
    pub(crate) momentum: f64,
    pub(crate) weight_decay: f64,
    /// Largest norm of the gradient; 0 does not clip.
    pub(crate) clip: f64,
}

/// Random changes of the images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AugmentationConfig {
    /// Pixels.
    pub(crate) shift: u32,
    pub(crate) mirror: bool,
}

/// Where it is computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BackendConfig {
    pub(crate) device: String,
    pub(crate) precision: String,
    /// `auto`, `simt`, `mma` or `wgmma`: the best instructions that products of a CUDA device may use.
    pub(crate) tier: String,
    /// `shared` or `separate`: how a CUDA device places activations.
    pub(crate) arena: String,
    /// Whether a CUDA device replays whole steps as graphs.
    pub(crate) graph: bool,
    /// Whether the CPU computes every product of a convolution.
    pub(crate) exact_conv: bool,
    /// 0 means one for each core.
    pub(crate) threads: usize,
}

/// Where the backward pass may have the logits from, by name.
const LOGITS: [(&str, Logits); 2] = [("recompute", Logits::Recompute), ("kept", Logits::Kept)];

/// The value of this name; `setting` is what an error calls it.
pub(crate) fn logits(setting: &str, name: &str) -> Result<Logits> {
    known(setting, name, LOGITS.iter().map(|(key, _)| *key))?;
    Ok(LOGITS.iter().find(|(key, _)| *key == name).map_or_else(Logits::default, |(_, logits)| *logits))
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig { set: "auto".into(), dir: None, validate: false, evaluate: None, sha256: None }
    }
}

impl Default for ModelConfig {
    fn default() -> Self {
        let losses = OF_THE_PAPER.iter().map(|loss| loss.key.to_owned()).collect();
        let (Recipe { network, m, .. }, logits) = (DIGITS, "recompute".into());
        ModelConfig { network: network.into(), losses, dims: vec![2, 3], m, logits, settings: BTreeMap::new() }
    }
}

impl Default for TrainingConfig {
    fn default() -> Self {
        let Recipe { epochs, batch, seed, rate, warm_up, lambda, lambda_until, .. } = DIGITS;
        TrainingConfig {
            epochs,
            steps: None,
            batch,
            seed,
            seeds: 1,
            rate,
            rate_schedule: "cosine".into(),
            warm_up,
            lambda_schedule: "quadratic".into(),
            lambda,
            lambda_until,
            guard: "recover".into(),
        }
    }
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        let Recipe { momentum, decay, clip, .. } = DIGITS;
        OptimizerConfig { rule: "nesterov".into(), momentum, weight_decay: decay, clip }
    }
}

impl Default for AugmentationConfig {
    fn default() -> Self {
        let Augmentation { shift, mirror } = DIGITS.augmentation;
        AugmentationConfig { shift, mirror }
    }
}

impl Default for BackendConfig {
    fn default() -> Self {
        BackendConfig {
            device: "auto".into(),
            precision: "fp32".into(),
            tier: "auto".into(),
            arena: "shared".into(),
            graph: true,
            exact_conv: false,
            threads: 0,
        }
    }
}

impl Config {
    /// Reads a TOML file; what it does not mention keeps its default.
    pub(crate) fn load(path: &Path) -> Result<Config> {
        let text = fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        Config::parse(&text).with_context(|| format!("{}", path.display()))
    }

    /// Reads the resolved configuration of a run, in which every key must be.
    pub(crate) fn load_resolved(path: &Path) -> Result<Config> {
        let config = Config::load(path)?;
        let text = fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let expected = toml::Table::try_from(Config::default())?;
        require_all(&text.parse()?, &expected, "").with_context(|| format!("{}", path.display()))?;
        config.check().with_context(|| format!("{}", path.display()))?;
        Ok(config)
    }

    pub(crate) fn parse(text: &str) -> Result<Config> {
        let table: toml::Table = text.parse().map_err(|error| one_line(&error, text))?;
        let known = toml::Table::try_from(Config::complete())?;
        refuse_unknown(&table, &known, "")?;
        toml::from_str(text).map_err(|error| one_line(&error, text))
    }

    /// A configuration in which every key is present.
    fn complete() -> Config {
        let mut config = Config::default();
        config.data.dir = Some(PathBuf::new());
        config.data.sha256 = Some(String::new());
        config.model.settings = setting_names().collect();
        config.training.steps = Some(0);
        config
    }

    /// The configuration as TOML.
    pub(crate) fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }

    /// Fails with one line that names the first setting that makes no sense.
    pub(crate) fn check(&self) -> Result<()> {
        let Config { model, training, optimizer, augmentation, backend, .. } = self;
        sphereface_data::Choice::from_str(&self.data.set)?;
        known("model.network", &model.network, NETWORKS.iter().map(|network| network.key))?;
        ensure!(!model.losses.is_empty(), "model.losses: expected at least one loss, found none");
        ensure!(!model.dims.is_empty(), "model.dims: expected at least one embedding dimension, found none");
        for &dim in &model.dims {
            ensure!((1..=4096).contains(&dim), "model.dims: expected 1 to 4096, found {dim}");
        }
        let distinct = |mut values: Vec<String>| {
            values.sort();
            values.dedup();
            values.len()
        };
        ensure!(
            distinct(model.losses.clone()) == model.losses.len()
                && distinct(model.dims.iter().map(usize::to_string).collect()) == model.dims.len(),
            "model: expected each loss and dimension once, found one twice"
        );
        ensure!(
            (1..=SphereFace::MAX_M).contains(&model.m),
            "model.m: expected 1 to {}, found {}",
            SphereFace::MAX_M,
            model.m
        );
        for key in &model.losses {
            Choice::new(key, model)?;
        }
        for (name, value, range) in [
            ("training.epochs", training.epochs, 1..=10_000),
            ("training.steps", training.steps.unwrap_or(1), 1..=10_000_000),
            ("training.batch", training.batch, 1..=65_536),
            ("training.seeds", training.seeds, 1..=1_000),
            ("backend.threads", backend.threads, 0..=1_024),
            ("data.evaluate", self.data.evaluate.unwrap_or(1), 1..=usize::MAX),
            ("augmentation.shift", augmentation.shift as usize, 0..=64),
        ] {
            ensure!(range.contains(&value), "{name}: expected {} to {}, found {value}", range.start(), range.end());
        }
        let last_seed = i64::MAX as u64 - training.seeds as u64; // TOML's numbers end there
        ensure!(training.seed <= last_seed, "training.seed: expected at most {last_seed}, found {}", training.seed);
        for (name, value, low, high) in [
            ("training.rate", training.rate, 0.0, 1e3),
            ("training.warm_up", training.warm_up, 0.0, 0.99),
            ("training.lambda", training.lambda, 0.0, 1e9),
            ("training.lambda_until", training.lambda_until, 1e-6, 1e6),
            ("optimizer.momentum", optimizer.momentum, 0.0, 0.9999),
            ("optimizer.weight_decay", optimizer.weight_decay, 0.0, 1e3),
            ("optimizer.clip", optimizer.clip, 0.0, 1e9),
        ] {
            ensure!((low..=high).contains(&value), "{name}: expected {low} to {high}, found {value}");
        }
        self.logits()?;
        training.guard.parse::<crate::guard::Mode>()?;
        known("training.rate_schedule", &training.rate_schedule, ["cosine", "steps"])?;
        known("training.lambda_schedule", &training.lambda_schedule, ["quadratic", "inverse"])?;
        known("optimizer.rule", &optimizer.rule, ["sgd", "nesterov", "adam", "adamw"])?;
        known("backend.precision", &backend.precision, Precision::NAMED.map(|(name, _)| name))?;
        known("backend.tier", &backend.tier, ["auto", "simt", "mma", "wgmma"])?;
        known("backend.arena", &backend.arena, ["shared", "separate"])?;
        Ok(())
    }

    /// Where the backward pass has the logits from.
    pub(crate) fn logits(&self) -> Result<Logits> {
        logits("model.logits", &self.model.logits)
    }

    /// The update rule.
    pub(crate) fn rule(&self) -> Rule {
        let momentum = self.optimizer.momentum as f32;
        match self.optimizer.rule.as_str() {
            "adam" | "adamw" => {
                let decoupled = self.optimizer.rule == "adamw";
                Rule::Adam { beta1: momentum, beta2: 0.999, epsilon: 1e-8, decoupled }
            }
            rule => Rule::Sgd { momentum, nesterov: rule == "nesterov" },
        }
    }

    /// Random changes of the images.
    pub(crate) fn augmentation(&self) -> Augmentation {
        Augmentation { shift: self.augmentation.shift, mirror: self.augmentation.mirror }
    }

    /// Learning rates.
    pub(crate) fn rate(&self) -> Rate {
        let TrainingConfig { rate, warm_up, .. } = self.training;
        match self.training.rate_schedule.as_str() {
            "steps" => Rate::Steps { start: rate, factor: 0.1, at: vec![16.0 / 28.0, 24.0 / 28.0] },
            _ => Rate::Cosine { peak: rate, warm_up },
        }
    }

    /// λ of annealed margins.
    pub(crate) fn lambda(&self) -> Lambda {
        match self.training.lambda_schedule.as_str() {
            "inverse" => {
                // The authors' layer counts its steps from 1.
                let first = usize::from(self.loss().is_ok_and(|choice| choice.is_caffe()));
                Lambda::Inverse { base: 1000.0, gamma: 0.12, power: 1.0, minimum: 5.0, first }
            }
            _ => Lambda::Quadratic { start: self.training.lambda, until: self.training.lambda_until },
        }
    }

    /// Steps of the whole training on a set of this size.
    pub(crate) fn steps(&self, images: usize) -> usize {
        self.training.steps.unwrap_or_else(|| (self.training.epochs * images).div_ceil(self.training.batch))
    }

    /// The configurations of the single trainings: each loss in each dimension for each seed.
    pub(crate) fn trainings(&self) -> Vec<Config> {
        let mut trainings = Vec::new();
        for &dim in &self.model.dims {
            for key in &self.model.losses {
                for seed in 0..self.training.seeds as u64 {
                    let mut config = self.clone();
                    config.model.losses = vec![key.clone()];
                    config.model.dims = vec![dim];
                    config.training.seed = self.training.seed.wrapping_add(seed);
                    config.training.seeds = 1;
                    trainings.push(config);
                }
            }
        }
        trainings
    }

    /// Loss, dimension and, among several, seed: the name of a single training's folder.
    pub(crate) fn training_name(&self, several_seeds: bool) -> String {
        let seed = if several_seeds { format!("-seed{}", self.training.seed) } else { String::new() };
        format!("{}-{}d{seed}", self.model.losses.join("+"), self.model.dims[0])
    }

    /// The loss of a single training.
    pub(crate) fn loss(&self) -> Result<Choice> {
        let key = self.model.losses.first().context("model.losses: expected one, found none")?;
        Choice::new(key, &self.model)
    }

    /// The network of this run.
    pub(crate) fn network(&self) -> Result<&'static sphereface_models::NamedNetwork> {
        let key = &self.model.network;
        named_network(key).with_context(|| format!("model.network: no network '{key}'"))
    }
}

/// Fails at the first key that no configuration has.
fn refuse_unknown(table: &toml::Table, known: &toml::Table, prefix: &str) -> Result<()> {
    for (key, value) in table {
        let Some(expected) = known.get(key) else {
            let nearest = nearest(key, known.keys().map(String::as_str)).unwrap_or_default();
            bail!("unknown key '{prefix}{key}', the nearest known one is '{prefix}{nearest}'");
        };
        if let (toml::Value::Table(value), toml::Value::Table(expected)) = (value, expected) {
            refuse_unknown(value, expected, &format!("{prefix}{key}."))?;
        }
    }
    Ok(())
}

/// Fails at the first key that is missing.
fn require_all(table: &toml::Table, expected: &toml::Table, prefix: &str) -> Result<()> {
    for (key, expected) in expected {
        let Some(value) = table.get(key) else { bail!("expected the key '{prefix}{key}', found none") };
        if let (toml::Value::Table(value), toml::Value::Table(expected)) = (value, expected) {
            require_all(value, expected, &format!("{prefix}{key}."))?;
        }
    }
    Ok(())
}

/// A TOML error with the line it is about, in one line.
fn one_line(error: &toml::de::Error, text: &str) -> anyhow::Error {
    let message = error.message().lines().collect::<Vec<_>>().join(" ");
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return anyhow::anyhow!(message) };
    let number = before.matches('\n').count();
    let line = text.lines().nth(number).unwrap_or_default().trim();
    anyhow::anyhow!("line {}: '{line}': {message}", number + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_recipe_that_the_bench_measures() {
        let config = Config::default();
        assert_eq!((config.rule(), config.rate(), config.lambda()), (DIGITS.rule(), DIGITS.rate(), DIGITS.lambda()));
        assert_eq!((config.augmentation(), config.steps(60_000)), (DIGITS.augmentation, DIGITS.steps(60_000)));
    }

    #[test]
    fn resolved_config_can_be_given_back() {
        let mut config = Config::default();
        config.data.dir = Some("some/folder".into());
        config.training.steps = Some(17);
        config.training.rate = 0.037;
        assert_eq!(Config::parse(&config.to_toml().unwrap()).unwrap(), config);
    }

    #[test]
    fn unknown_keys_name_the_nearest_known_one() {
        let message = |text: &str| format!("{:#}", Config::parse(text).unwrap_err());
        assert_eq!(
            message("[training]\nepohcs = 3"),
            "unknown key 'training.epohcs', the nearest known one is 'training.epochs'"
        );
        assert!(message("[trainign]\nepochs = 3").contains("'training'"));
        assert!(!message("[training]\nepochs = 'three'").contains('\n'));
        assert!(!message("not toml at all").contains('\n'));
    }

    #[test]
    fn nonsense_is_refused_in_one_line() {
        let message = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(message(|c| c.model.losses = vec!["spherface".into()]).ends_with("did you mean 'sphereface'?"));
        assert!(message(|c| c.model.m = 9).contains("model.m"));
        assert!(message(|c| c.model.dims = vec![2, 2]).contains("twice"));
        assert!(message(|c| c.training.rate = f64::NAN).contains("training.rate"));
        assert!(message(|c| c.training.batch = 0).contains("training.batch"));
        assert!(Config::default().check().is_ok());
    }

    #[test]
    fn trainings_differ_in_loss_dimension_and_seed_only() {
        let mut config = Config::default();
        config.training.seeds = 2;
        let trainings = config.trainings();
        assert_eq!(trainings.len(), 12);
        let names: Vec<String> = trainings.iter().map(|training| training.training_name(true)).collect();
        assert_eq!(names[0], "softmax-2d-seed1");
        assert_eq!(names[11], "sphereface-3d-seed2");
        for training in &trainings {
            let mut same = training.clone();
            same.model = config.model.clone();
            same.training = config.training.clone();
            assert_eq!(same, config);
        }
    }
}
