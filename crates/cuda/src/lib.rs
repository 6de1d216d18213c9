//! The CUDA backend: kernels compiled at run time, typed launchers, one arena, whole steps as graphs.
//!
//! Everything above [`Driver`] is the same for a GPU and for the emulator, which executes the PTX on the CPU: plan,
//! arena offsets, launch arguments and kernels.
#![allow(unsafe_code)] // Calls of NVIDIA's libraries.

mod backend;
pub mod cache;
mod copies;
pub mod driver;
mod launch;
mod launcher;
mod library;
mod lowering;
pub mod nvrtc;
mod options;
pub mod resources;
mod self_check;

pub use backend::CudaBackend;
pub use driver::{CudaDriver, Driver, EmulatorDriver};
pub use launch::{Unit, units};
pub use library::Progress;
pub use options::{Arena, Options, Precision, Tier};
pub use self_check::{Finding, self_check};
