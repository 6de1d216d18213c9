//! Executes PTX on the CPU: the text that NVRTC makes of CUDA C++, inline assembly included, without a GPU.
//!
//! A [`Module`] is parsed and decoded once. A [`Device`] holds global memory and launches kernels: a warp at a time, 32
//! lanes in a row, blocks spread over host threads; for sm_90a also bulk copies, transaction barriers, asynchronous
//! products and clusters. It says what a GPU would only do: access out of bounds, reads of memory that nobody wrote,
//! races on shared memory, divergent barriers, asynchronous copies and products that nobody waited for, missing fences,
//! misaligned access, exchanges with absent lanes, conflicting writes, deadlocks. Each [`Fault`] names kernel, block,
//! thread, PTX line and, where the text has `.loc`, the source line. An instruction that is not known is a [`LoadError`]
//! that names it. [`Counters`] say what a launch did.
//!
//! ```
//! use sphereface_emulator::{Argument, Device, Module};
//!
//! let text = "
//! .version 9.0
//! .target sm_80
//! .address_size 64
//! .visible .entry double(.param .u64 data)
//! {
//!     .reg .b32 %r<3>;
//!     .reg .b64 %rd<4>;
//!     ld.param.u64 %rd1, [data];
//!     cvta.to.global.u64 %rd2, %rd1;
//!     mov.u32 %r1, %tid.x;
//!     mul.wide.u32 %rd3, %r1, 4;
//!     add.s64 %rd2, %rd2, %rd3;
//!     ld.global.u32 %r2, [%rd2];
//!     shl.b32 %r2, %r2, 1;
//!     st.global.u32 [%rd2], %r2;
//!     ret;
//! }";
//! let module = Module::load(text)?;
//! let mut device = Device::new();
//! let data = device.allocate_with(&[1, 0, 0, 0, 2, 0, 0, 0]);
//! let counters = device.launch(&module, "double", [1, 1, 1], [2, 1, 1], 0, &[Argument::Pointer(data)])?;
//! let mut bytes = [0; 8];
//! device.download(data, &mut bytes)?;
//! assert_eq!(bytes, [2, 0, 0, 0, 4, 0, 0, 0]);
//! assert_eq!(counters.global_sectors, 2);
//!
//! // One thread too many:
//! let fault = device.launch(&module, "double", [1, 1, 1], [3, 1, 1], 0, &[Argument::Pointer(data)]).unwrap_err();
//! assert!(fault.to_string().contains("offset 8 of the allocation of 8 bytes"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod asynchronous;
mod block;
mod cluster;
mod counters;
mod decode;
mod descriptor;
mod device;
mod execute;
mod fault;
mod instruction;
mod lanes;
mod launch;
mod mbarrier;
mod memory;
mod module;
mod number;
mod order;
mod ptx;
mod shared;
mod tensor_map;
mod warp;

pub use counters::Counters;
pub use device::Device;
pub use fault::{Fault, FaultKind, LoadError, Site};
pub use launch::{Access, Argument, Range};
pub use module::Module;
pub use tensor_map::{Swizzle, TensorMap};
