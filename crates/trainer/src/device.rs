//! Which backend computes.

use crate::config::{BackendConfig, Config};
use anyhow::{Result, anyhow, bail};
use sphereface_cuda::nvrtc::{Architecture, Nvrtc};
use sphereface_cuda::{Arena, CudaBackend, EmulatorDriver, Options, Precision, Tier};
use sphereface_tensor::Backend;
use sphereface_tensor::cpu::CpuBackend;

/// What `--device emulator` emulates: the oldest GPU that has every instruction of the kernels.
const EMULATED: Architecture = Architecture::new(80);

/// The backend that the configuration asks for.
pub(crate) fn backend(config: &Config) -> Result<Box<dyn Backend>> {
    let settings = &config.backend;
    match settings.device.as_str() {
        "auto" | "cpu" => {
            let backend = CpuBackend::new(settings.threads)?;
            match settings.precision.as_str() {
                "fp32" => Ok(Box::new(backend)),
                "bf16" => Ok(Box::new(backend.in_bf16())),
                other => bail!("backend.precision: the CPU computes in fp32 or bf16, found '{other}'"),
            }
        }
        "emulator" => {
            Nvrtc::find().map_err(|error| anyhow!("backend.device: emulator: {error}"))?;
            Ok(Box::new(CudaBackend::new(EmulatorDriver::new(EMULATED), options(settings))))
        }
        device if device == "cuda" || device.starts_with("cuda:") => {
            bail!("backend.device: '{device}' is not in this version; use 'auto', 'cpu' or 'emulator'")
        }
        device => bail!("backend.device: expected auto, cpu, cuda, cuda:N or emulator, found '{device}'"),
    }
}

/// What the configuration says of a CUDA device.
fn options(settings: &BackendConfig) -> Options {
    Options {
        precision: match settings.precision.as_str() {
            "bf16" => Precision::Bf16,
            "tf32" => Precision::Tf32,
            _ => Precision::Fp32,
        },
        tier: if settings.tier == "simt" { Tier::Simt } else { Tier::Mma },
        arena: if settings.arena == "separate" { Arena::Separate } else { Arena::Shared },
        graph: settings.graph,
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
