//! The command line.

use crate::choice::{ALL, FOR_CAFFE, parse_setting};
use crate::config::Config;
use crate::names::known;
use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use sphereface_models::{GRADIENTS, LOSSES, loss, loss_and_gradient};
use std::path::PathBuf;

/// Trains SphereFace and compares margin-softmax losses.
///
/// Without a command: `compare`, the original softmax, modified softmax and A-Softmax with 2-D and 3-D embeddings on
/// MNIST, side by side.
#[derive(Debug, Parser)]
#[command(name = "trainer", version, args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) compare: CompareArgs,
}

const AFTER_HELP: &str = "\
Examples:
  cargo run -p trainer --release
      the comparison: six trainings, then runs/<time>-compare/report.html
  cargo run -p trainer --release -- compare --data mnist-10k --epochs 2
      the same on the digits inside the program, in less time
  cargo run -p trainer --release -- train --loss sphereface --dim 2
      one training
  cargo run -p trainer --release -- train --resume runs/<folder>
      goes on where a training was stopped, bit for bit
  cargo run -p trainer --release -- report runs/<folder> runs/<folder>
      one report of several finished runs

Exit codes: 0 done; 1 failed, with one line that says why; 2 wrong usage; 130 stopped by Ctrl-C.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Trains every loss in every dimension and reports them side by side (the default)
    Compare(CompareArgs),
    /// Trains one loss
    Train(TrainArgs),
    /// Accuracy of trained models on the test set
    Eval(EvalArgs),
    /// Writes the test set's embeddings of a trained model
    Embed(EmbedArgs),
    /// Draws the report of finished runs again, of several side by side
    Report(ReportArgs),
    /// What happened in a finished or broken run, and what to change
    Doctor(DoctorArgs),
    /// Layers of a network, or the steps of its training plan
    Plan(PlanArgs),
    /// What can compute on this machine
    Devices(DevicesArgs),
    /// Where data sets are looked for, and what was found
    Data(SurveyArgs),
    /// Every loss with its formulas, parameters, source and curve
    Losses(LossesArgs),
}

#[derive(Args, Debug, Clone, Default)]
pub(crate) struct DataArgs {
    /// Data set: auto, mnist or mnist-10k (auto: full MNIST where it is found or can be fetched, else the 10,000
    /// digits inside the program)
    #[arg(long, value_name = "SET")]
    pub(crate) data: Option<String>,
    /// The only folder to look in; any set in MNIST's format, such as Fashion-MNIST, works
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Hold the last twelfth of the training images out and evaluate on them: to choose settings without the test set
    #[arg(long)]
    pub(crate) validate: bool,
    /// Evaluate on the first N test images, and training images, only [default: all; on the emulator two batches]
    #[arg(long, value_name = "N")]
    pub(crate) evaluate: Option<usize>,
}

/// What all runs have in common.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct CommonArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Network: mnist, sphereface4, 10, 20, 36, 64 or sphereface64-official [default: mnist]
    #[arg(long, value_name = "NAME", conflicts_with = "resume")]
    pub(crate) model: Option<String>,
    /// Margin of A-Softmax, 1 to 4 [default: 4]
    #[arg(long, value_name = "M", conflicts_with = "resume")]
    pub(crate) m: Option<u32>,
    /// Setting of another loss, such as cosface.m=0.3; may be repeated. The command losses tells all [default: stock]
    #[arg(long, value_name = "LOSS.NAME=VALUE", conflicts_with = "resume")]
    pub(crate) set: Vec<String>,
    /// Derivative of the margin that is followed: true, detached (that of the plain cosine) or caffe (that of the SphereFace
    /// authors' layer), as a loss's name may end in one [default: the loss's own]
    #[arg(long, value_name = "GRADIENT", conflicts_with = "resume")]
    pub(crate) gradient: Option<String>,
    /// Where the backward pass has the logits from: recompute, or kept, in 16 bits each, for more than 32 classes
    /// [default: recompute]
    #[arg(long, value_name = "LOGITS", conflicts_with = "resume")]
    pub(crate) logits: Option<String>,
    /// Passes over the training images [default: 5]
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    pub(crate) epochs: Option<usize>,
    /// Steps, instead of epochs
    #[arg(long, value_name = "N", conflicts_with = "epochs")]
    pub(crate) steps: Option<usize>,
    /// Images a step [default: 128]
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    pub(crate) batch: Option<usize>,
    /// Seed of initial values, order and augmentation [default: 1]
    #[arg(long, value_name = "S", conflicts_with = "resume")]
    pub(crate) seed: Option<u64>,
    /// Largest learning rate [default: 0.05]
    #[arg(long, value_name = "RATE", conflicts_with = "resume")]
    pub(crate) rate: Option<f64>,
    /// What is done about a training that goes wrong: off, warn, or recover: go back to its last good state and on from
    /// there more gently [default: recover]
    #[arg(long, value_name = "MODE", conflicts_with = "resume")]
    pub(crate) guard: Option<String>,
    /// auto, cpu, cuda, cuda:N or emulator; auto: the first GPU where there is one, else the CPU [default: auto]
    #[arg(long, value_name = "DEVICE", conflicts_with = "resume")]
    pub(crate) device: Option<String>,
    /// fp32, tf32 or bf16 [default: fp32]
    #[arg(long, value_name = "PRECISION", conflicts_with = "resume")]
    pub(crate) precision: Option<String>,
    /// Best instructions that products of a CUDA device may use: auto, simt, mma or wgmma; with wgmma the emulator is of sm_90a
    /// [default: auto]
    #[arg(long, value_name = "TIER", conflicts_with = "resume")]
    pub(crate) tier: Option<String>,
    /// How a CUDA device places activations: shared, or separate for a memory checker [default: shared]
    #[arg(long, value_name = "ARENA", conflicts_with = "resume")]
    pub(crate) arena: Option<String>,
    /// Launch the kernels of a step one by one on a CUDA device, not as a graph; the results are the same
    #[arg(long, conflicts_with = "resume")]
    pub(crate) no_graph: bool,
    /// Compute every product of a convolution on the CPU: no Winograd algorithm, which takes fewer
    #[arg(long, conflicts_with = "resume")]
    pub(crate) exact_conv: bool,
    /// Print at the end what each layer takes of a step's time, or, on the emulator, what each kernel did
    #[arg(long)]
    pub(crate) profile: bool,
    /// Threads of the CPU; 0 means one for each core. Results do not depend on it [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Settings to start from: a TOML file, such as the config.toml of a run
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub(crate) config: Option<PathBuf>,
    /// Folder of the run [default: a new one in runs, named after the time]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub(crate) out: Option<PathBuf>,
    /// Say nothing but results and errors
    #[arg(long)]
    pub(crate) quiet: bool,
}

#[derive(Args, Debug, Clone, Default)]
pub(crate) struct CompareArgs {
    /// Losses to compare, or all [default: softmax,modified,sphereface]
    #[arg(long, value_name = "LOSS,...", value_delimiter = ',')]
    pub(crate) losses: Option<Vec<String>>,
    /// Embedding dimensions to compare them in [default: 2,3]
    #[arg(long, value_name = "D,...", value_delimiter = ',')]
    pub(crate) dims: Option<Vec<usize>>,
    /// Number of seeds: more than one gives a mean with its 95% interval
    #[arg(long, value_name = "N")]
    pub(crate) seeds: Option<usize>,
    /// Go on with the comparison in this folder. Takes no other settings but --data-dir, --threads,
    /// --profile and --quiet
    #[arg(long, value_name = "DIR", conflicts_with_all = ["losses", "dims", "seeds", "steps"])]
    pub(crate) resume: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

#[derive(Args, Debug, Clone, Default)]
pub(crate) struct TrainArgs {
    /// Loss, such as softmax, sphereface or arcface; the command losses tells all [default: sphereface]
    #[arg(long, value_name = "LOSS")]
    pub(crate) loss: Option<String>,
    /// Embedding dimension [default: 2]
    #[arg(long, value_name = "D")]
    pub(crate) dim: Option<usize>,
    /// Go on with the training in this folder; with --steps N, up to step N. Takes no other settings but --data-dir,
    /// --threads, --profile and --quiet
    #[arg(long, value_name = "DIR", conflicts_with_all = ["loss", "dim"])]
    pub(crate) resume: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct EvalArgs {
    /// Folder of a run; its config.toml and model.safetensors are enough
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// Where a trained model is used, if not where it was trained.
#[derive(Args, Debug, Clone)]
pub(crate) struct ComputeArgs {
    /// auto, cpu, cuda, cuda:N or emulator [default: the run's]
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// fp32, tf32 or bf16 [default: the run's]
    #[arg(long, value_name = "PRECISION")]
    precision: Option<String>,
    /// Threads of the CPU; 0 means one for each core [default: the run's]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

impl ComputeArgs {
    pub(crate) fn apply(&self, config: &mut Config) {
        set(&mut config.backend.device, &self.device);
        set(&mut config.backend.precision, &self.precision);
        set(&mut config.backend.threads, &self.threads);
    }
}

#[derive(Args, Debug, Clone)]
pub(crate) struct EmbedArgs {
    /// Folder of a run (of a comparison: one of the folders in it); its config.toml and model.safetensors are enough
    pub(crate) dir: PathBuf,
    /// File to write: .npy (float32 [N, D], labels beside it) or .csv (label, then D columns)
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct ReportArgs {
    /// Folders of finished runs. Several must share data, network and settings; losses, dimensions, seeds and device may
    /// differ
    #[arg(required = true, value_name = "RUN")]
    pub(crate) runs: Vec<PathBuf>,
    /// Folder to write to [default: the run's own; of several runs a new one in runs]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct SurveyArgs {
    /// The only folder to look in
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct DoctorArgs {
    /// Folder of a run; its metrics.jsonl and, if it has ended, summary.json are enough
    pub(crate) run: PathBuf,
}

#[derive(Args, Debug, Clone, Default)]
pub(crate) struct DevicesArgs {
    /// Compare every kernel of every tier and precision with the reference, on each GPU or, without one, on the emulator
    #[arg(long)]
    pub(crate) self_check: bool,
}

#[derive(Args, Debug, Clone, Default)]
pub(crate) struct LossesArgs {
    /// Print everything as JSON, with the tables that a report is drawn from
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct PlanArgs {
    /// Network
    #[arg(long, value_name = "NAME", default_value = "sphereface20")]
    pub(crate) model: String,
    /// Height, width and channels of an image
    #[arg(long, value_name = "HxWxC", default_value = "112x96x3")]
    pub(crate) input: String,
    /// Embedding dimension
    #[arg(long, value_name = "D", default_value_t = 512)]
    pub(crate) dim: usize,
    /// Classes of the head
    #[arg(long, value_name = "N", default_value_t = 10_572)]
    pub(crate) classes: usize,
    /// Images a step
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub(crate) batch: usize,
    /// Where the backward pass has the logits from: recompute or kept
    #[arg(long, value_name = "LOGITS", default_value = "recompute")]
    pub(crate) logits: String,
    /// Print every step of the training plan with operands, arithmetic and traffic
    #[arg(long)]
    pub(crate) steps: bool,
    /// Predict what a step takes at best, by the roofline: on h100, h200, a100, rtx4090, on this machine's CPU (this, in
    /// about a second), or on the machine of a TOML file with name, fp32, bandwidth and, where known, tf32, bf16
    /// (operations and bytes a second), overhead (seconds a step) and memory (bytes)
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) machine: Option<String>,
    /// Precision of the prediction: fp32, tf32 or bf16
    #[arg(long, value_name = "PRECISION", default_value = "fp32", requires = "machine")]
    pub(crate) precision: String,
    /// Threads of this machine for --machine this; 0 means one for each core
    #[arg(long, value_name = "N", default_value_t = 0, requires = "machine")]
    pub(crate) threads: usize,
    /// Draw the graph into this file, too
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Write the graph for Graphviz into this file, too
    #[arg(long, value_name = "FILE")]
    pub(crate) dot: Option<PathBuf>,
}

impl DataArgs {
    /// Overrides a configuration.
    pub(crate) fn apply(&self, config: &mut Config) {
        set(&mut config.data.set, &self.data);
        if let Some(dir) = &self.data_dir {
            // Absolute, so that the run can be used from any folder.
            config.data.dir = Some(std::path::absolute(dir).unwrap_or_else(|_| dir.clone()));
        }
        if self.data.is_some() || self.data_dir.is_some() {
            config.data.sha256 = None; // asked for by name: whatever it is
        }
        config.data.validate |= self.validate;
        if self.evaluate.is_some() {
            config.data.evaluate = self.evaluate;
        }
    }
}

impl CommonArgs {
    /// The configuration file, or the defaults, changed by the command line.
    fn config(&self) -> Result<Config> {
        let mut config = self.config.as_deref().map_or_else(|| Ok(Config::default()), Config::load)?;
        self.data.apply(&mut config);
        set(&mut config.model.network, &self.model);
        set(&mut config.model.m, &self.m);
        set(&mut config.model.logits, &self.logits);
        for setting in &self.set {
            let (name, value) = parse_setting(setting)?;
            config.model.settings.insert(name, value);
        }
        set(&mut config.training.epochs, &self.epochs);
        if self.epochs.is_some() {
            config.training.steps = None;
        }
        if self.steps.is_some() {
            config.training.steps = self.steps;
        }
        set(&mut config.training.batch, &self.batch);
        set(&mut config.training.seed, &self.seed);
        set(&mut config.training.rate, &self.rate);
        set(&mut config.training.guard, &self.guard);
        set(&mut config.backend.device, &self.device);
        set(&mut config.backend.precision, &self.precision);
        set(&mut config.backend.tier, &self.tier);
        set(&mut config.backend.arena, &self.arena);
        config.backend.graph &= !self.no_graph;
        config.backend.exact_conv |= self.exact_conv;
        set(&mut config.backend.threads, &self.threads);
        if config.backend.device == "emulator" {
            config.data.evaluate.get_or_insert(2 * config.training.batch);
        }
        Ok(config)
    }
}

/// Gives losses the gradient that was asked for.
fn with_gradient(losses: &mut [String], gradient: Option<&str>) -> Result<()> {
    let Some(gradient) = gradient else { return Ok(()) };
    known("--gradient", gradient, GRADIENTS.iter().map(|(name, _)| *name))?;
    for key in losses {
        let name = format!("{key}-{gradient}");
        anyhow::ensure!(
            loss(key).is_none() || loss_and_gradient(&name).is_some(),
            "--gradient: {FOR_CAFFE}, found {key}"
        );
        *key = name;
    }
    Ok(())
}

impl CompareArgs {
    /// The resolved configuration.
    pub(crate) fn resolve(&self) -> Result<Config> {
        let mut config = self.common.config()?;
        set(&mut config.model.losses, &self.losses);
        if config.model.losses == [ALL] {
            config.model.losses = LOSSES.iter().map(|loss| loss.key.to_owned()).collect();
        }
        with_gradient(&mut config.model.losses, self.common.gradient.as_deref())?;
        set(&mut config.model.dims, &self.dims);
        set(&mut config.training.seeds, &self.seeds);
        config.check()?;
        Ok(config)
    }
}

impl TrainArgs {
    /// The resolved configuration: of one loss in one dimension.
    pub(crate) fn resolve(&self) -> Result<Config> {
        let mut config = self.common.config()?;
        let from_file = self.common.config.is_some();
        let loss = self.loss.clone().or_else(|| (!from_file).then(|| "sphereface".to_owned()));
        let dim = self.dim.or_else(|| (!from_file).then_some(2));
        set(&mut config.model.losses, &loss.map(|loss| vec![loss]));
        set(&mut config.model.dims, &dim.map(|dim| vec![dim]));
        with_gradient(&mut config.model.losses, self.common.gradient.as_deref())?;
        config.training.seeds = 1;
        config.check()?;
        let (losses, dims) = (config.model.losses.len(), config.model.dims.len());
        anyhow::ensure!(
            (losses, dims) == (1, 1),
            "model: expected one loss and one dimension to train, found {losses} and {dims} (choose with --loss and --dim, or use compare)"
        );
        Ok(config)
    }
}

fn set<T: Clone>(field: &mut T, value: &Option<T>) {
    if let Some(value) = value {
        field.clone_from(value);
    }
}
