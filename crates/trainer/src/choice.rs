//! A loss as a configuration asks for it: with a gradient and with settings of its own.

use crate::config::ModelConfig;
use crate::names::known;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sphereface_models::margin::Setting;
use sphereface_models::{GRADIENTS, LOSSES, Loss, loss, loss_and_gradient};
use sphereface_tensor::op::{Gradient, MarginSoftmax};
use std::fmt;

/// Stands for all losses where a list of them is expected.
pub(crate) const ALL: &str = "all";

/// What the gradient of the authors' layer asks for.
pub(crate) const FOR_CAFFE: &str =
    "expected a loss with embeddings of any length and class weights of length 1 for the gradient caffe";

/// The value of a setting, as a file has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Value {
    Number(f64),
    Name(String),
}

impl Value {
    /// A number, if it is one.
    pub(crate) fn new(text: &str) -> Value {
        text.parse().map_or_else(|_| Value::Name(text.to_owned()), Value::Number)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(number) => write!(f, "{number}"),
            Value::Name(name) => f.write_str(name),
        }
    }
}

/// A loss that is trained.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    /// As it is asked for: the name of the loss, and perhaps of a gradient.
    pub(crate) key: String,
    pub(crate) loss: &'static Loss,
    /// Instead of the loss's own.
    gradient: Option<Gradient>,
    /// Of the loss's settings.
    pub(crate) values: Vec<f64>,
}

impl Choice {
    /// The loss of this name in a configuration.
    pub(crate) fn new(key: &str, model: &ModelConfig) -> Result<Choice> {
        let Some((loss, gradient)) = loss_and_gradient(key) else {
            ensure!(key != ALL, "model.losses: expected '{ALL}' alone, found it among others");
            if let Some((of, "caffe")) = key.rsplit_once('-').filter(|(of, _)| loss(of).is_some()) {
                bail!("model.losses: {}, found {of}", FOR_CAFFE);
            }
            known("model.losses", key, LOSSES.iter().map(|loss| loss.key))?;
            bail!("model.losses: no loss '{key}'");
        };
        let mut values = loss.stock();
        for (value, parameter) in values.iter_mut().zip(loss.settings()) {
            let Some(name) = setting_name(loss, &parameter.setting) else {
                *value = f64::from(model.m);
                continue;
            };
            if let Some(found) = model.settings.get(&name) {
                let parsed = parameter.setting.parse(&found.to_string());
                *value = parsed.map_err(|expected| anyhow::anyhow!("{name}: expected {expected}, found {found}"))?;
            }
        }
        Ok(Choice { key: key.to_owned(), loss, gradient, values })
    }

    /// The head.
    pub(crate) fn head(&self, classes: usize) -> MarginSoftmax {
        self.head_of(classes, &self.values)
    }

    /// The head with other settings.
    pub(crate) fn head_of(&self, classes: usize, values: &[f64]) -> MarginSoftmax {
        let head = (self.loss.make)(classes, values);
        MarginSoftmax { gradient: self.gradient.unwrap_or(head.gradient), ..head }
    }

    /// Whether the gradient is that of the authors' layer.
    pub(crate) fn is_caffe(&self) -> bool {
        self.gradient == Some(Gradient::Caffe)
    }

    /// Name in tables: with the margin, where it is a whole number, and with what is not stock.
    pub(crate) fn title(&self) -> String {
        let mut title = self.loss.title.to_owned();
        for ((parameter, &value), stock) in self.loss.settings().zip(&self.values).zip(self.loss.stock()) {
            if value != stock || !self.loss.margins.is_empty() {
                title += &format!(", {} = {}", parameter.symbol, parameter.setting.written(value));
            }
        }
        title + &self.of_gradient()
    }

    /// Whether a gradient is asked for by name.
    pub(crate) fn differs_in_gradient(&self) -> bool {
        self.gradient.is_some()
    }

    /// Which derivative is followed.
    pub(crate) fn gradient_words(&self) -> &'static str {
        match self.head(2).gradient {
            Gradient::True => "Its gradient is the derivative of the loss.",
            Gradient::Detached => {
                "Its gradient is detached: the value is that of the margin, the derivative that of the plain cosine."
            }
            Gradient::Caffe => {
                "Its gradient is that of the authors’ layer: what the margin’s logit gives the embedding is a sum of class \
                 weight and embedding, whose two coefficients are scaled to a length of 1 together; class weights are trained \
                 as without a margin, and brought to length 1 before each step."
            }
        }
    }

    /// The gradient as the end of a title, where it is not the loss's own.
    pub(crate) fn of_gradient(&self) -> String {
        let name = GRADIENTS.iter().find(|(_, gradient)| Some(*gradient) == self.gradient);
        name.map_or_else(String::new, |(name, _)| format!(", {name} gradient"))
    }
}

/// Name of a setting in a configuration; none of A-Softmax's margin, which has a place of its own.
fn setting_name(loss: &Loss, setting: &Setting) -> Option<String> {
    let is_m = !loss.margins.is_empty() && setting.key() == Some("m");
    setting.key().filter(|_| !is_m).map(|key| format!("{}.{key}", loss.key))
}

/// The names of all settings, each with a stock value.
pub(crate) fn setting_names() -> impl Iterator<Item = (String, Value)> {
    let of = |loss: &'static Loss| {
        loss.settings().zip(loss.stock()).filter_map(|(parameter, value)| {
            let written = parameter.setting.written(value);
            Some((setting_name(loss, &parameter.setting)?, Value::new(&written)))
        })
    };
    LOSSES.into_iter().flat_map(of)
}

/// Takes `LOSS.NAME=VALUE` apart.
pub(crate) fn parse_setting(text: &str) -> Result<(String, Value)> {
    let (name, value) =
        text.split_once('=').with_context(|| format!("--set: expected LOSS.NAME=VALUE, found '{text}'"))?;
    let names: Vec<String> = setting_names().map(|(name, _)| name).collect();
    if !names.iter().any(|known| known == name) {
        // Those of the loss, if there is one; else of all.
        let of_loss = name.split_once('.').and_then(|(key, _)| loss(key)).map(|loss| format!("{}.", loss.key));
        let wanted =
            names.iter().map(String::as_str).filter(|known| of_loss.as_ref().is_none_or(|of| known.starts_with(of)));
        let wanted: Vec<&str> = wanted.collect();
        ensure!(
            !wanted.is_empty(),
            "--set: expected a setting, found '{name}', whose loss has none (A-Softmax's m is --m)"
        );
        known("--set", name, wanted)?;
    }
    Ok((name.to_owned(), Value::new(value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn choice(key: &str, settings: &[&str]) -> Result<Choice> {
        let mut config = Config::default();
        config.model.m = 3;
        for setting in settings {
            let (name, value) = parse_setting(setting)?;
            config.model.settings.insert(name, value);
        }
        Choice::new(key, &config.model)
    }

    #[test]
    fn settings_are_those_of_their_loss_only() {
        let settings = ["cosface.m=0.4", "arcface.past=none", "arcface.s=16"];
        assert_eq!(choice("cosface", &settings).unwrap().title(), "CosFace, m = 0.4");
        let arcface = choice("arcface-detached", &settings).unwrap();
        assert_eq!(arcface.title(), "ArcFace, s = 16, past = none, detached gradient");
        assert_eq!(arcface.head(10).gradient, Gradient::Detached);
        assert_eq!(choice("sphereface", &settings).unwrap().title(), "A-Softmax (SphereFace), m = 3");
        assert_eq!(choice("normface", &settings).unwrap().title(), "NormFace");
    }

    #[test]
    fn a_wrong_setting_is_one_line_that_names_the_right_ones() {
        let message = |key: &str, setting: &str| choice(key, &[setting]).unwrap_err().to_string();
        assert_eq!(message("cosface", "cosface.m=2"), "cosface.m: expected 0 to 1, found 2");
        assert_eq!(
            message("arcface", "arcface.past=up"),
            "arcface.past: expected one of shifted, clamped, none, found up"
        );
        assert!(message("cosface", "cosface.q=2").contains("cosface.m, cosface.s"));
        assert!(message("cosface", "cosfaec.m=2").contains("did you mean 'cosface.m'"));
        assert!(message("softmax", "softmax.m=2").contains("has none"));
        assert!(message("sphereface", "sphereface.m=2").contains("--m"));
        assert!(message("cosface", "cosface.m").contains("LOSS.NAME=VALUE"));
        assert!(message("cosfcae", "cosface.m=0.2").ends_with("did you mean 'cosface'?"));
        assert!(message("arcface-caffe", "cosface.m=0.2").ends_with("for the gradient caffe, found arcface"));
        assert!(message("all", "cosface.m=0.2").contains("alone"));
    }
}
