//! What and where it was measured.

use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::Command;

/// The machine of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// Vector instructions that it has.
    pub flags: Vec<String>,
    /// Hardware threads.
    pub hardware_threads: usize,
    /// Threads that were used, by us and by every peer.
    pub threads: usize,
    /// Main memory in bytes.
    pub memory_bytes: u64,
    /// Operating system and its kernel.
    pub system: String,
    /// Name and driver of the GPU, where one was measured.
    pub gpu: Option<String>,
}

/// Flags that decide how fast products are.
const FLAGS: [&str; 9] =
    ["avx", "avx2", "fma", "avx512f", "avx512bw", "avx512_bf16", "avx512_vnni", "amx_tile", "asimd"];

impl Machine {
    /// This machine, with this many threads in use.
    pub fn here(threads: usize) -> Machine {
        let cpu_info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = cpu_info.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let flags = field("flags").or_else(|| field("Features")).unwrap_or_default();
        let has = |flag: &&str| flags.split(' ').any(|word| word == *flag);
        Machine {
            cpu: field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            flags: FLAGS.into_iter().filter(has).map(str::to_owned).collect(),
            hardware_threads: hardware_threads(),
            threads,
            memory_bytes: memory("MemTotal").unwrap_or(0),
            system: system(),
            gpu: None,
        }
    }

    /// A name for files: the GPU's if there is one, else the processor's with the number of threads.
    pub fn slug(&self) -> String {
        let name = match &self.gpu {
            Some(gpu) => gpu.split(',').next().unwrap_or(gpu).to_owned(),
            None => format!("{} {} threads", self.cpu, self.threads),
        };
        let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { ' ' }).collect();
        plain.to_lowercase().split_whitespace().collect::<Vec<_>>().join("-")
    }
}

/// Hardware threads of this machine.
pub fn hardware_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Main memory that is free, in bytes, where the system says.
pub fn available_memory() -> Option<u64> {
    memory("MemAvailable")
}

fn memory(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
}

fn system() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} {}", std::env::consts::OS, release.trim()).trim().to_owned()
}

/// The commit of the sources, and whether they differ from it.
pub fn commit(root: &Path) -> (String, bool) {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(root).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    // What the bench itself writes changes no program.
    let changed = git(&["status", "--porcelain", "--", ".", ":!benches/runs", ":!README.md"]);
    (commit, changed.is_none_or(|lines| !lines.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_a_plain_file_name() {
        let mut machine = Machine::here(2);
        machine.cpu = "AMD EPYC 9654 (96-Core) @ 2.4GHz".into();
        assert_eq!(machine.slug(), "amd-epyc-9654-96-core-2-4ghz-2-threads");
        machine.gpu = Some("NVIDIA H100 80GB HBM3, driver 580".into());
        assert_eq!(machine.slug(), "nvidia-h100-80gb-hbm3");
    }
}
