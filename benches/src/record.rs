//! What a run leaves: `run.json`, from which tables and pictures are made.

use crate::ceilings::Ceilings;
use crate::machine::Machine;
use crate::statistics::Spread;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// Version of the form of `run.json`.
pub const FORMAT: u32 = 1;

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// [`FORMAT`].
    pub format: u32,
    /// Name of its folder.
    pub name: String,
    /// Command line.
    pub command: String,
    /// Commit of the sources.
    pub commit: String,
    /// Whether sources differed from it.
    pub dirty: bool,
    /// Day and minute in UTC.
    pub date: String,
    /// `cpu`, `cuda:0` or `emulator`.
    pub device: String,
    /// Machine.
    pub machine: Machine,
    /// Measured limits.
    pub ceilings: Ceilings,
    /// Peers that were asked for.
    pub peers: Vec<PeerInfo>,
    /// Cases in the order of the catalogue.
    pub cases: Vec<CaseRecord>,
}

/// A peer, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// Name in tables.
    pub name: String,
    /// Version.
    pub version: String,
    /// What it says of itself.
    pub detail: String,
    /// Numbers in which it computes, if they are others than a case asks for: then it is shown, but never the best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Why it was not there.
    pub missing: Option<String>,
}

/// One case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseRecord {
    /// Name in the catalogue.
    pub name: String,
    /// Group in the catalogue.
    pub group: String,
    /// As peers were told it.
    pub case: Value,
    /// Whether it stands for all.
    pub headline: bool,
    /// Things done in a run that a person would count, such as images: their number and name.
    pub items: Option<(u64, String)>,
    /// FLOPs of the formula, padding multiplied.
    pub flops_nominal: u64,
    /// FLOPs that have to be done.
    pub flops_useful: u64,
    /// Bytes, each operand moved once.
    pub bytes: u64,
    /// Largest error of the small shape against the f64 reference, in units of its tolerance's scale.
    pub error: Option<f64>,
    /// Seconds that it takes at best below the ceilings, step by step.
    pub predicted_s: Option<f64>,
    /// Of a head: bytes that it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<HeadMemory>,
    /// Seconds of one run of ours.
    pub ours: Option<Spread>,
    /// Why there are none.
    pub skipped: Option<String>,
    /// The peers, as in [`Run::peers`].
    pub peers: Vec<Rival>,
}

/// Memory of a head in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadMemory {
    /// Ours at its peak, beyond inputs, class weights and the gradients of both.
    pub beyond_operands: u64,
    /// What a logit of each row and class would take in f32.
    pub logits: u64,
}

/// A peer's time for a case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rival {
    /// Name of the peer.
    pub name: String,
    /// The fastest of its ways to do it.
    pub variant: String,
    /// As in [`PeerInfo::precision`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Seconds of one run.
    pub seconds: Option<Spread>,
    /// Its time over ours, round by round.
    pub ratio: Option<Spread>,
    /// Largest difference of its results from ours, relative to the largest of them.
    pub difference: Option<f64>,
    /// Why there is no time.
    pub missing: Option<String>,
}

impl CaseRecord {
    /// The fastest peer of those that compute in the case's own precision.
    pub fn best(&self) -> Option<&Rival> {
        let same = self.peers.iter().filter(|rival| rival.precision.is_none());
        let timed = same.filter_map(|rival| Some((rival, rival.seconds?.median)));
        timed.min_by(|(_, left), (_, right)| left.total_cmp(right)).map(|(rival, _)| rival)
    }

    /// How many times longer ours took than predicted.
    pub fn over_prediction(&self) -> Option<f64> {
        Some(self.ours?.median / self.predicted_s?)
    }

    /// The peer of this name.
    pub fn rival(&self, name: &str) -> Option<&Rival> {
        self.peers.iter().find(|rival| rival.name == name)
    }
}

impl Run {
    /// Reads `run.json` from a run's folder.
    ///
    /// # Errors
    /// When there is none, it is damaged, or it has another form.
    pub fn read(folder: &Path) -> Result<Run> {
        let path = folder.join("run.json");
        let named = || path.display().to_string();
        let text = std::fs::read_to_string(&path).with_context(named)?;
        let run: Run = serde_json::from_str(&text).with_context(named)?;
        ensure!(run.format == FORMAT, "{}: expected format {FORMAT}, found {}", named(), run.format);
        Ok(run)
    }

    /// As the text of `run.json`.
    ///
    /// # Errors
    /// When a number is not finite.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}
