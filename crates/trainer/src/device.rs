//! Which backend computes.

use crate::config::{BackendConfig, Config};
use crate::progress::{Verbosity, warn};
use anyhow::{Context, Result, anyhow, bail};
use sphereface_cuda::nvrtc::{Architecture, Nvrtc, cache_folder};
use sphereface_cuda::{Arena, CudaBackend, CudaDriver, Driver, EmulatorDriver, Options, Precision, Tier};
use sphereface_tensor::Backend;
use sphereface_tensor::cpu::CpuBackend;
use std::io::Write;

/// What `--device emulator` emulates where no better tier is asked for.
pub(crate) const EMULATED: Architecture = Architecture::new(80);
/// The architecture with the instructions of the tier `wgmma`.
pub(crate) const HOPPER: Architecture = Architecture::specific(90);

/// An emulator of a GPU that has the tier.
pub(crate) fn emulator(tier: Tier) -> EmulatorDriver {
    EmulatorDriver::new(if tier == Tier::Wgmma { HOPPER } else { EMULATED })
}

/// A backend, and why it is not another one.
pub(crate) struct Chosen {
    pub(crate) backend: Box<dyn Backend>,
    /// The device by which the configuration gets it again: what `auto` has found.
    pub(crate) device: String,
    /// What `auto` looked for first and did not find.
    pub(crate) instead_of: Option<String>,
}

/// The backend that the configuration asks for; a progress bar stands for a terminal that may show how it is made ready.
pub(crate) fn backend(config: &Config, verbosity: Verbosity) -> Result<Chosen> {
    let settings = &config.backend;
    let on = |device: &str, backend| Ok(Chosen { backend, device: device.into(), instead_of: None });
    let chosen = |backend| on(&settings.device, backend);
    match settings.device.as_str() {
        "auto" => match on_gpu(0, settings, verbosity) {
            Ok(backend) => on("cuda", backend),
            Err(reason) => {
                let backend = on_cpu(settings).with_context(|| format!("no GPU is used: {reason}"))?;
                Ok(Chosen { backend, device: "cpu".into(), instead_of: Some(reason) })
            }
        },
        "cpu" => chosen(on_cpu(settings)?),
        "emulator" => {
            Nvrtc::find().map_err(|error| anyhow!("backend.device: emulator: {error}"))?;
            // Without a word the emulator has what most GPUs have.
            let tier = if settings.tier == "wgmma" { Tier::Wgmma } else { Tier::Mma };
            chosen(shown(CudaBackend::new(emulator(tier), options(settings)), verbosity))
        }
        device => match gpu(device) {
            Some(ordinal) => {
                let backend = on_gpu(ordinal, settings, verbosity);
                chosen(backend.map_err(|error| anyhow!("backend.device: {device}: {error}; cpu needs none"))?)
            }
            None => bail!("backend.device: expected auto, cpu, cuda, cuda:N or emulator, found '{device}'"),
        },
    }
}

/// The number of `cuda` or `cuda:N`.
fn gpu(device: &str) -> Option<usize> {
    let rest = device.strip_prefix("cuda")?;
    if rest.is_empty() { Some(0) } else { rest.strip_prefix(':')?.parse().ok() }
}

fn on_cpu(settings: &BackendConfig) -> Result<Box<dyn Backend>> {
    let backend = CpuBackend::new(settings.threads)?;
    let backend = if settings.exact_conv { backend.with_exact_conv() } else { backend };
    match settings.precision.as_str() {
        "fp32" => Ok(Box::new(backend)),
        "bf16" => Ok(Box::new(backend.in_bf16())),
        other => bail!("backend.precision: the CPU computes in fp32 or bf16, found '{other}'"),
    }
}

/// A backend on a GPU whose kernels have been checked.
fn on_gpu(ordinal: usize, settings: &BackendConfig, verbosity: Verbosity) -> Result<Box<dyn Backend>, String> {
    let verdicts = cache_folder().map(|folder| folder.join("verdicts"));
    let new = || CudaDriver::new(ordinal);
    let (backend, lines) = CudaBackend::checked(&new, options(settings), verdicts.as_deref())?;
    lines.iter().for_each(warn);
    Ok(shown(backend, verbosity))
}

/// The first start compiles kernels for some seconds, which a terminal shows.
fn shown(mut backend: CudaBackend<impl Driver + 'static>, verbosity: Verbosity) -> Box<dyn Backend> {
    if verbosity == Verbosity::Bar {
        backend.on_compile(Box::new(|done, total| {
            let end = if done == total { "\n" } else { "" };
            let _ = write!(std::io::stderr(), "\rcompiling {done}/{total}{end}");
        }));
    }
    Box::new(backend)
}

/// What the configuration says of a CUDA device.
fn options(settings: &BackendConfig) -> Options {
    Options {
        precision: Precision::NAMED
            .into_iter()
            .find(|(name, _)| *name == settings.precision)
            .map_or(Precision::Fp32, |(_, precision)| precision),
        tier: match settings.tier.as_str() {
            "simt" => Tier::Simt,
            "mma" => Tier::Mma,
            _ => Tier::Wgmma,
        },
        arena: if settings.arena == "separate" { Arena::Separate } else { Arena::Shared },
        graph: settings.graph,
        ..Options::default()
    }
}

/// This machine's processor in one line.
pub(crate) fn processor() -> String {
    let model = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let name = model.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    format!("{name}, {threads} hardware thread{}", if threads == 1 { "" } else { "s" })
}

/// Vector instructions that this build would use here.
pub(crate) fn instruction_sets() -> Vec<&'static str> {
    let mut sets = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let known = [
            ("AVX2", is_x86_feature_detected!("avx2")),
            ("FMA", is_x86_feature_detected!("fma")),
            ("AVX-512F", is_x86_feature_detected!("avx512f")),
            ("AVX-512 BF16", is_x86_feature_detected!("avx512bf16")),
        ];
        sets.extend(known.iter().filter(|(_, present)| *present).map(|(name, _)| *name));
    }
    #[cfg(target_arch = "aarch64")]
    sets.push("NEON");
    sets
}
