//! Our backends with a clock: the CPU's by the wall, a GPU's by events.

use anyhow::{Result, anyhow};
use sphereface_cuda::nvrtc::{Architecture, Nvrtc};
use sphereface_cuda::{CudaBackend, CudaDriver, Driver, EmulatorDriver, Options, Precision};
use sphereface_tensor::cpu::CpuBackend;
use sphereface_tensor::{Backend, Program};
use sphereface_testkit::workload::Arithmetic;
use std::str::FromStr;
use std::time::Instant;

/// The oldest GPU that has every instruction of the kernels: what the emulator stands for.
const EMULATED: Architecture = Architecture::new(80);

/// Which device computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The CPU backend.
    Cpu,
    /// A GPU by its number.
    Cuda(usize),
    /// The emulator of one: it checks, but its times mean nothing.
    Emulator,
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let number = |rest: &str| if rest.is_empty() { Some(0) } else { rest.strip_prefix(':')?.parse().ok() };
        match name {
            "cpu" => Ok(Choice::Cpu),
            "emulator" => Ok(Choice::Emulator),
            _ => name
                .strip_prefix("cuda")
                .and_then(number)
                .map(Choice::Cuda)
                .ok_or_else(|| format!("expected cpu, cuda, cuda:N or emulator, found '{name}'")),
        }
    }
}

/// A backend with a clock.
pub trait Device {
    /// The backend.
    fn backend(&mut self) -> &mut dyn Backend;

    /// Seconds in which each of these programs runs this many times.
    ///
    /// # Errors
    /// When the device fails.
    fn seconds(&mut self, programs: &[Program], times: usize) -> Result<f64>;

    /// Bytes of the arena: what lives within a run, and scratch memory.
    fn arena_bytes(&self) -> u64;

    /// Name and driver, of a GPU.
    fn gpu(&self) -> Option<String> {
        None
    }
}

impl Choice {
    /// A fresh backend on this device, with this many threads where it has threads.
    ///
    /// # Errors
    /// When there is no such device, or it does not know the arithmetic.
    pub fn open(self, arithmetic: Arithmetic, threads: usize) -> Result<Box<dyn Device>> {
        let options = Options {
            precision: match arithmetic {
                Arithmetic::F32 => Precision::Fp32,
                Arithmetic::Tf32 => Precision::Tf32,
                Arithmetic::Bf16 => Precision::Bf16,
            },
            ..Options::default()
        };
        match self {
            Choice::Cpu => match arithmetic {
                Arithmetic::F32 => Ok(Box::new(Cpu(CpuBackend::new(threads)?))),
                other => Err(anyhow!("the CPU backend computes in f32, not in {}", other.name())),
            },
            Choice::Cuda(ordinal) => {
                let driver = CudaDriver::new(ordinal).map_err(|error| anyhow!("cuda:{ordinal}: {error}"))?;
                Ok(Box::new(OnGpu(CudaBackend::new(driver, options))))
            }
            Choice::Emulator => {
                Nvrtc::find().map_err(|error| anyhow!("emulator: {error}"))?;
                Ok(Box::new(OnGpu(CudaBackend::new(EmulatorDriver::new(EMULATED), options))))
            }
        }
    }

    /// Arithmetics that this device has.
    pub fn arithmetics(self) -> &'static [Arithmetic] {
        match self {
            Choice::Cpu => &[Arithmetic::F32],
            Choice::Cuda(_) | Choice::Emulator => &Arithmetic::ALL,
        }
    }

    /// Sets of operands that a case of this many bytes runs on in turn, so that a GPU's cache holds none of them.
    pub fn sets(self, bytes: u64) -> usize {
        /// Twice the largest second-level cache.
        const ROTATED_BYTES: u64 = 256 << 20;
        match self {
            Choice::Cuda(_) => ROTATED_BYTES.div_ceil(bytes.max(1)).clamp(1, 8) as usize,
            Choice::Cpu | Choice::Emulator => 1,
        }
    }
}

struct Cpu(CpuBackend);

impl Device for Cpu {
    fn backend(&mut self) -> &mut dyn Backend {
        &mut self.0
    }

    fn seconds(&mut self, programs: &[Program], times: usize) -> Result<f64> {
        let start = Instant::now();
        // All runs of a program are one call: threads are woken once, as in a training.
        for &program in programs {
            self.0.run(program, times)?;
        }
        Ok(start.elapsed().as_secs_f64())
    }

    fn arena_bytes(&self) -> u64 {
        self.0.allocated().arena as u64
    }
}

struct OnGpu<D>(CudaBackend<D>);

impl<D: Driver> Device for OnGpu<D> {
    fn backend(&mut self) -> &mut dyn Backend {
        &mut self.0
    }

    fn seconds(&mut self, programs: &[Program], times: usize) -> Result<f64> {
        let failed = |error: String| anyhow!("cuda: {error}");
        self.0.driver_mut().record(0).map_err(failed)?;
        for _ in 0..times {
            programs.iter().try_for_each(|&program| self.0.run(program, 1))?;
        }
        self.0.driver_mut().record(1).map_err(failed)?;
        Ok(self.0.driver_mut().elapsed(0, 1).map_err(failed)?.as_secs_f64())
    }

    fn arena_bytes(&self) -> u64 {
        self.0.arena_bytes()
    }

    fn gpu(&self) -> Option<String> {
        Some(self.0.driver().name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        assert_eq!("cuda:3".parse(), Ok(Choice::Cuda(3)));
        assert_eq!("cuda".parse(), Ok(Choice::Cuda(0)));
        assert_eq!("emulator".parse(), Ok(Choice::Emulator));
        for wrong in ["gpu", "cuda:", "cuda3", "cpu:1"] {
            assert!(wrong.parse::<Choice>().unwrap_err().contains(wrong));
        }
    }
}
