//! Which backend computes.

use crate::config::Config;
use anyhow::{Result, bail};
use sphereface_tensor::Backend;
use sphereface_tensor::cpu::CpuBackend;

/// The backend that the configuration asks for.
pub(crate) fn backend(config: &Config) -> Result<Box<dyn Backend>> {
    let device = config.backend.device.as_str();
    match device {
        "auto" | "cpu" => {}
        _ if device == "cuda" || device.starts_with("cuda:") => {
            bail!("backend.device: '{device}' is not in this version, which computes on the CPU; use 'auto' or 'cpu'")
        }
        "emulator" => bail!("backend.device: 'emulator' is not in this version; use 'auto' or 'cpu'"),
        _ => bail!("backend.device: expected auto, cpu, cuda, cuda:N or emulator, found '{device}'"),
    }
    if config.backend.precision != "fp32" {
        bail!("backend.precision: the CPU computes in fp32, found '{}'", config.backend.precision);
    }
    Ok(Box::new(CpuBackend::new(config.backend.threads)?))
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
