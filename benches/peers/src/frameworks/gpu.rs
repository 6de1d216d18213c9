//! The GPU below NVIDIA's libraries: where they are looked for, memory, operands past the cache, and a clock.
#![allow(unsafe_code)] // The driver's functions are unsafe.

use crate::arrays::Array;
use crate::case::Dtype;
use anyhow::{Context, Result, bail};
use cudarc::driver::sys::{self, CUevent_flags, CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, CudaGraph, CudaSlice, CudaStream, DevicePtr};
use half::bf16;
use std::ffi::c_void;
use std::rc::Rc;
use std::sync::Arc;

/// All sets of operands together: twice the largest second-level cache, as for our own kernels.
const ROTATED_BYTES: usize = 256 << 20;
/// The most sets of operands.
const MOST_SETS: usize = 8;

/// Memory of the GPU, aligned to 256 bytes.
pub(super) type Buffer = CudaSlice<u8>;

/// A GPU, and the one stream in which all its work is done.
pub(super) struct Gpu {
    stream: Arc<CudaStream>,
    pub(super) name: String,
}

impl Gpu {
    /// GPU number `ordinal`, if the driver and the library are there; a library has a name for people, one in names of
    /// files, and a way to look for it.
    pub(super) fn open(ordinal: usize, (library, file, is_present): (&str, &str, fn() -> bool)) -> Result<Rc<Gpu>> {
        // SAFETY: to open the driver's library runs no more than its initialisers, which programs that link it run, too.
        let has_driver = unsafe { sys::is_culib_present() };
        let driver = (has_driver, "NVIDIA's driver", "cuda");
        let absent: Vec<String> = [driver, (is_present(), library, file)]
            .iter()
            .filter(|(is_there, ..)| !is_there)
            .map(|(_, name, file)| format!("{name} (searched: {})", candidates(file)))
            .collect();
        if !absent.is_empty() {
            bail!("not found: {}", absent.join("; "));
        }
        let there = CudaContext::device_count().context("cuDeviceGetCount")?;
        if !usize::try_from(there).is_ok_and(|count| ordinal < count) {
            bail!("cuda:{ordinal}: no such GPU; the driver sees {there}");
        }
        let context = CudaContext::new(ordinal).with_context(|| format!("cuda:{ordinal}"))?;
        // SAFETY: all copies, launches and frees are in one stream, whose order is enough.
        unsafe { context.disable_event_tracking() };
        let (stream, name) = (context.new_stream()?, context.name()?);
        Ok(Rc::new(Gpu { stream, name }))
    }

    /// The stream, for libraries that have a type of their own for it.
    pub(super) fn stream<T>(&self) -> *mut T {
        self.stream.cu_stream().cast()
    }

    /// Copies numbers, rounded to bf16 where that is the type.
    pub(super) fn upload(&self, values: &[f32], dtype: Dtype) -> Result<Buffer> {
        let bytes: Vec<u8> = match dtype {
            Dtype::Bf16 => values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
            Dtype::F32 | Dtype::Tf32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        let buffer = self.stream.clone_htod(&bytes).with_context(|| format!("{} bytes", bytes.len()))?;
        self.stream.synchronize()?; // `bytes` must not go before they were copied.
        Ok(buffer)
    }

    /// Zeros.
    pub(super) fn zeros(&self, bytes: usize) -> Result<Buffer> {
        // Memory of no bytes has no address.
        self.stream.alloc_zeros(bytes.max(1)).with_context(|| format!("{bytes} bytes"))
    }

    /// Copies a result of this shape back.
    pub(super) fn download(&self, buffer: &Buffer, dtype: Dtype, shape: &[usize]) -> Result<Array> {
        let bytes = self.stream.clone_dtoh(buffer)?;
        self.stream.synchronize()?;
        let values = match dtype {
            Dtype::Bf16 => bytes.as_chunks().0.iter().map(|&bytes| bf16::from_le_bytes(bytes).to_f32()).collect(),
            Dtype::F32 | Dtype::Tf32 => bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
        };
        Ok(Array { shape: shape.to_vec(), values })
    }

    /// Where a buffer begins.
    pub(super) fn address(&self, buffer: &Buffer) -> *mut c_void {
        buffer.device_ptr(&self.stream).0 as *mut c_void
    }

    /// Seconds between two events around what a function puts into the stream.
    pub(super) fn timed(&self, work: impl FnOnce() -> Result<()>) -> Result<f64> {
        let start = self.stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
        work()?;
        let end = self.stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
        end.synchronize()?;
        let mut milliseconds = 0.0_f32;
        // SAFETY: both events are recorded and live; the function is found by name and has this type. (cudarc has
        // `cuEventElapsedTime_v2` in its place, which drivers before 12.8 lack.)
        unsafe {
            type Elapsed = unsafe extern "C" fn(*mut f32, sys::CUevent, sys::CUevent) -> CUresult;
            let elapsed = sys::culib().get::<Elapsed>(b"cuEventElapsedTime").context("cuEventElapsedTime")?;
            elapsed(&mut milliseconds, start.cu_event(), end.cu_event()).result()?;
        }
        Ok(f64::from(milliseconds) / 1e3)
    }

    /// A clock for runs of `launch` on this many sets of operands in turn, replayed from a graph: what the processor needs
    /// to start small kernels is no part of their time. What a graph cannot hold is launched one by one.
    pub(super) fn clock(
        self: Rc<Self>,
        sets: usize,
        mut launch: impl FnMut(usize) -> Result<()> + 'static,
    ) -> Result<Box<dyn FnMut(usize) -> Result<f64>>> {
        (0..sets).try_for_each(&mut launch)?; // Kernels are loaded before the capture.
        self.stream.synchronize()?;
        let graph = self.captured(|| (0..sets).try_for_each(&mut launch)).ok().flatten();
        Ok(Box::new(move |count| {
            let rounds = count.div_ceil(sets);
            let seconds = self.timed(|| match &graph {
                Some(graph) => (0..rounds).try_for_each(|_| Ok(graph.launch()?)),
                None => (0..rounds * sets).try_for_each(|run| launch(run % sets)),
            })?;
            Ok(seconds * count as f64 / (rounds * sets) as f64)
        }))
    }

    /// A graph of what a function puts into the stream.
    fn captured(&self, work: impl FnOnce() -> Result<()>) -> Result<Option<CudaGraph>> {
        self.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED)?;
        let launched = work();
        // The capture has to end, whatever came of it.
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0))?;
        launched?;
        graph.as_ref().map(CudaGraph::upload).transpose()?;
        Ok(graph)
    }
}

/// Sets of operands, of this many bytes each, that no cache holds together.
pub(super) fn sets(bytes: usize) -> usize {
    ROTATED_BYTES.div_ceil(bytes.max(1)).clamp(1, MOST_SETS)
}

/// Bytes of a number.
pub(super) fn width(dtype: Dtype) -> usize {
    if dtype == Dtype::Bf16 { 2 } else { 4 }
}

/// A version that one number holds, such as 91002 for 9.10.2.
pub(super) fn version(number: usize) -> String {
    format!("{}.{}.{}", number / 10_000, number / 100 % 100, number % 100)
}

/// Names under which a library is looked for.
fn candidates(file: &str) -> String {
    let mut names = cudarc::get_lib_name_candidates(file);
    // Those with the width of a pointer are Windows's.
    names.retain(|name| cfg!(windows) || !name.contains("64"));
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_as_many_as_pass_the_cache() {
        assert_eq!([sets(0), sets(1 << 20), sets(100 << 20), sets(256 << 20), sets(1 << 30)], [8, 8, 3, 1, 1]);
    }

    #[test]
    fn versions_have_three_parts() {
        assert_eq!([version(91_002), version(130_100)], ["9.10.2", "13.1.0"]);
    }

    #[test]
    fn a_library_that_is_absent_is_named_with_what_was_searched() {
        let error = Gpu::open(0, ("cuNothing", "nothing", || false)).err().unwrap().to_string();
        assert!(
            error.contains("cuNothing (searched: ") && error.contains("nothing.") && !error.contains('\n'),
            "{error}"
        );
    }
}
