//! The driver that NVIDIA installs, and the GPUs it knows.

use crate::nvrtc::{Architecture, Output};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute, CUresult};

/// Oldest driver whose functions are called here, as CUDA counts: 12.0.
const OLDEST_DRIVER: i32 = 12_000;

/// A GPU of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its number in `cuda:N`.
    pub ordinal: usize,
    /// Its maker's name.
    pub name: String,
    /// Compute capability, 9 and 0 for `sm_90`.
    pub capability: (u32, u32),
    /// Size of its memory.
    pub memory_bytes: u64,
}

/// The GPUs of this machine.
///
/// # Errors
/// One line that says what is missing and how to get it.
pub fn gpus() -> Result<Vec<Gpu>, String> {
    initialise()?;
    let count = result::device::get_count().map_err(|error| named("cuDeviceGetCount", error))?;
    (0..count).map(gpu).collect()
}

/// Loads the driver's library and starts it.
fn initialise() -> Result<(), String> {
    // SAFETY: opens libcuda by name, as every later call does; its initialisers are harmless.
    if !unsafe { sys::is_culib_present() } {
        let library = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };
        return Err(format!(
            "no NVIDIA driver: {library} is not on the system's library path; install the driver of your GPU from \
             https://www.nvidia.com/drivers"
        ));
    }
    match result::init() {
        Ok(()) => {}
        Err(DriverError(CUresult::CUDA_ERROR_NO_DEVICE)) => {
            return Err("the NVIDIA driver finds no GPU (CUDA_VISIBLE_DEVICES may hide it)".into());
        }
        Err(DriverError(CUresult::CUDA_ERROR_STUB_LIBRARY)) => {
            return Err("libcuda is the CUDA toolkit's stub, not a driver; install the driver of your GPU from \
                        https://www.nvidia.com/drivers"
                .into());
        }
        Err(error) => return Err(named("the NVIDIA driver does not start: cuInit", error)),
    }
    let version = driver_version()?;
    if version < OLDEST_DRIVER {
        return Err(format!(
            "expected an NVIDIA driver of CUDA 12.0 or later, found one of CUDA {}.{}",
            version / 1000,
            version % 1000 / 10
        ));
    }
    Ok(())
}

/// Version of CUDA that the driver has: 13000 for 13.0.
pub(super) fn driver_version() -> Result<i32, String> {
    let mut version = 0;
    // SAFETY: the library is loaded; it writes one integer.
    let status = unsafe { sys::cuDriverGetVersion(&mut version) };
    status.result().map_err(|error| named("cuDriverGetVersion", error))?;
    Ok(version)
}

/// The version as the driver's package has it where Linux says, or else CUDA's.
pub(super) fn installed_driver(version: i32) -> String {
    let installed = std::fs::read_to_string("/sys/module/nvidia/version").ok();
    installed.map_or_else(
        || format!("of CUDA {}.{}", version / 1000, version % 1000 / 10),
        |version| version.trim().to_owned(),
    )
}

fn gpu(ordinal: i32) -> Result<Gpu, String> {
    let fail = |what: &'static str| move |error| named(&format!("cuda:{ordinal}: {what}"), error);
    let device = result::device::get(ordinal).map_err(fail("cuDeviceGet"))?;
    let major = attribute(device, CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(device, CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    // SAFETY: the device is one that cuDeviceGet gave.
    let memory = unsafe { result::device::total_mem(device) }.map_err(fail("cuDeviceTotalMem"))?;
    Ok(Gpu {
        ordinal: ordinal as usize,
        name: result::device::get_name(device).map_err(fail("cuDeviceGetName"))?,
        capability: (major, minor),
        memory_bytes: memory as u64,
    })
}

pub(super) fn attribute(device: sys::CUdevice, attribute: CUdevice_attribute) -> Result<u32, String> {
    // SAFETY: the device is one that cuDeviceGet gave.
    let value = unsafe { result::device::get_attribute(device, attribute) };
    Ok(value.map_err(|error| named("cuDeviceGetAttribute", error))? as u32)
}

/// What to compile for a GPU: machine code of the nearest architecture that runs there, and PTX, which the driver
/// compiles, for GPUs that NVRTC does not know. `None`: too old.
pub(super) fn target(major: u32, minor: u32) -> Option<(Architecture, Output)> {
    let architecture = match (major, minor) {
        (7, 5) => Architecture::new(75),
        (8, 0..=5) => Architecture::new(80),
        (8, 6) => Architecture::new(86),
        (8, 7 | 8) => Architecture::new(80 + minor), // Boards, which run no code of other architectures.
        (8, _) => Architecture::new(89),
        (9, 0) => Architecture::specific(90),
        (10, 0) => Architecture::specific(100),
        (10, _) => Architecture::new(100),
        (11, _) => Architecture::new(110),
        (12, _) => Architecture::new(120),
        (13.., _) => return Some((Architecture::new(120), Output::Ptx)),
        _ => return None,
    };
    Some((architecture, Output::Cubin))
}

/// A failure in one line, by CUDA's names.
pub(super) fn named(what: &str, error: DriverError) -> String {
    let text = |name: Result<&std::ffi::CStr, DriverError>| {
        name.map_or_else(|_| format!("error {}", error.0 as u32), |name| name.to_string_lossy().into_owned())
    };
    format!("{what} failed with {} ({})", text(error.error_name()), text(error.error_string()))
}

/// Whether an error is the fault of a kernel that ran, and comes with whatever is called next.
pub(super) fn is_of_a_kernel(error: CUresult) -> bool {
    matches!(
        error,
        CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
            | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
            | CUresult::CUDA_ERROR_ASSERT
            | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
            | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUresult::CUDA_ERROR_INVALID_PC
            | CUresult::CUDA_ERROR_LAUNCH_FAILED
            | CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
    )
}

#[cfg(test)]
mod tests {
    use super::target;
    use crate::nvrtc::{Architecture, Output};

    #[test]
    fn every_gpu_gets_code_that_runs_there() {
        for (capability, expected) in [
            ((7, 5), Some("75")),
            ((8, 0), Some("80")),
            ((8, 6), Some("86")),
            ((8, 7), Some("87")),
            ((8, 9), Some("89")),
            ((9, 0), Some("90a")),
            ((10, 0), Some("100a")),
            ((10, 3), Some("100")),
            ((12, 1), Some("120")),
            ((7, 0), None),
            ((6, 1), None),
        ] {
            let found = target(capability.0, capability.1);
            assert_eq!(found.map(|(architecture, _)| architecture.to_string()).as_deref(), expected, "{capability:?}");
            assert!(found.is_none_or(|(_, output)| output == Output::Cubin), "{capability:?}");
        }
        assert_eq!(target(14, 0), Some((Architecture::new(120), Output::Ptx)));
    }
}
