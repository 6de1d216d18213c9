//! Tensors that kernels copy box by box: described once, and encoded for the device at each launch.

use super::gpu::named;
use cudarc::driver::sys;
use sphereface_emulator::Swizzle;
use sphereface_tensor::DType;

/// A view of device memory that a kernel takes as `const __grid_constant__ TensorMap`, 128 opaque bytes aligned to 64.
///
/// Dimensions go from the innermost outwards. Elements of a box that lie outside of the tensor read as zero and are not
/// written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMap {
    /// Type of the elements.
    pub element: DType,
    /// Elements in each of one to five dimensions.
    pub extents: Vec<u64>,
    /// Bytes between neighbours in each dimension but the innermost; multiples of 16.
    pub strides_bytes: Vec<u64>,
    /// Elements of the box that one copy moves, in each dimension, at most 256 with those that it steps over; its inner
    /// extent is as long as the swizzle's span, or else a multiple of 16 bytes.
    pub box_extents: Vec<u64>,
    /// From one element of the box to the next, 1 to 8, in each dimension; 1 in the innermost. Empty where all are 1.
    pub steps: Vec<u64>,
    /// How the box lies in shared memory.
    pub swizzle: Swizzle,
}

impl TensorMap {
    /// The same in the words of the emulator, with a pointer to `bytes` of memory, and checked.
    fn checked(&self, pointer: u64, bytes: u64) -> Result<sphereface_emulator::TensorMap, String> {
        let map = sphereface_emulator::TensorMap {
            pointer,
            element_bytes: self.element.bytes() as u64,
            extents: self.extents.clone(),
            strides_bytes: self.strides_bytes.clone(),
            box_extents: self.box_extents.clone(),
            steps: self.steps.clone(),
            swizzle: self.swizzle,
        };
        map.check()?;
        let rest = self.extents[1..].iter().zip(&self.strides_bytes).map(|(extent, stride)| (extent - 1) * stride);
        let end = map.extents[0] * map.element_bytes + rest.sum::<u64>();
        if end > bytes {
            return Err(format!("tensor map: extents: expected a tensor within {bytes} bytes, found one of {end}"));
        }
        Ok(map)
    }

    /// The parameter of a kernel under the emulator.
    pub(super) fn for_emulator(&self, pointer: u64, bytes: u64) -> Result<[u8; 128], String> {
        self.checked(pointer, bytes)?.encode()
    }

    /// The parameter of a kernel on a GPU.
    pub(super) fn for_gpu(&self, pointer: u64, bytes: u64) -> Result<sys::CUtensorMap, String> {
        use sys::CUtensorMapDataType as Type;
        let map = self.checked(pointer, bytes)?;
        let element = match self.element {
            DType::F32 => Type::CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
            DType::Bf16 => Type::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
            DType::Cosine => Type::CU_TENSOR_MAP_DATA_TYPE_UINT16,
            DType::U32 => Type::CU_TENSOR_MAP_DATA_TYPE_UINT32,
            DType::U8 => Type::CU_TENSOR_MAP_DATA_TYPE_UINT8,
        };
        let swizzle = match self.swizzle {
            Swizzle::None => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_NONE,
            Swizzle::Bytes32 => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_32B,
            Swizzle::Bytes64 => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_64B,
            Swizzle::Bytes128 => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
        };
        // The driver counts elements that a box steps over.
        let spans: Vec<u32> = map.spans().into_iter().map(|extent| extent as u32).collect();
        let steps: Vec<u32> = (0..spans.len()).map(|dimension| map.step(dimension) as u32).collect();
        let mut encoded = sys::CUtensorMap { opaque: [0; 16] };
        // SAFETY: all arrays have as many entries as the tensor has dimensions (one less for the strides), which `check`
        // has seen; the driver reads them during the call and writes the 128 bytes. It does not follow the address.
        let status = unsafe {
            sys::cuTensorMapEncodeTiled(
                &mut encoded,
                element,
                map.extents.len() as u32,
                pointer as *mut std::ffi::c_void,
                map.extents.as_ptr(),
                map.strides_bytes.as_ptr(),
                spans.as_ptr(),
                steps.as_ptr(),
                sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                swizzle,
                sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        };
        status.result().map_err(|error| named(&format!("cuTensorMapEncodeTiled of {self:?}"), error))?;
        Ok(encoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::{Access, Argument, Driver, EmulatorDriver, Extent};
    use crate::nvrtc::{Architecture, Nvrtc, Output, options};

    /// Copies a box of one tensor to the same place of another.
    const COPY: &str = r#"
struct __align__(64) TensorMap { char opaque[128]; };
extern "C" __global__ void copy(const __grid_constant__ TensorMap from, const __grid_constant__ TensorMap to) {
    __shared__ __align__(128) float tile[256];
    __shared__ unsigned long long barrier;
    unsigned at = __cvta_generic_to_shared(tile), copied = __cvta_generic_to_shared(&barrier);
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;\nfence.mbarrier_init.release.cluster;\n"
                 "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 1024;\n"
                 "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%1], [%2, {%4, %4}], [%0];\n"
                 "{\n.reg .pred p;\nagain: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], 0;\n@!p bra again;\n}\n"
                 "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%3, {%4, %4}], [%1];\n"
                 "cp.async.bulk.commit_group;\ncp.async.bulk.wait_group 0;"
                 :: "r"(copied), "r"(at), "l"(&from), "l"(&to), "r"(0) : "memory");
}"#;

    /// Copies 30 x 7 numbers under the emulator, of which the second tensor is declared with the access.
    fn copied(access: Access) -> Option<Result<Vec<u8>, String>> {
        let nvrtc = Nvrtc::find().map_err(|reason| sphereface_testkit::skip(&reason)).ok()?;
        let architecture = Architecture::specific(90);
        let compiled =
            nvrtc.compile_text("copy.cu", COPY, &options(&[], architecture, Output::Ptx), Output::Ptx).unwrap();
        let mut driver = EmulatorDriver::new(architecture);
        let module = driver.load(&compiled.image).unwrap();
        let function = driver.function(module, "copy", 0).unwrap();
        let map = TensorMap {
            element: DType::F32,
            extents: vec![30, 7],
            strides_bytes: vec![128],
            box_extents: vec![32, 8],
            steps: vec![],
            swizzle: Swizzle::Bytes128,
        };
        let bytes = 7 * 128;
        let (from, to) = (driver.allocate(bytes).unwrap(), driver.allocate(bytes).unwrap());
        let numbers: Vec<u8> = (0..7 * 32).flat_map(|index: u32| index.to_le_bytes()).collect();
        driver.upload(from, &numbers).unwrap();
        driver.upload(to, &vec![255; bytes as usize]).unwrap();
        let tensor = |pointer, access| Argument::Tensor { pointer, bytes, access, map: map.clone() };
        let extent = Extent { grid: [1; 3], block: [1; 3], shared_bytes: 0 };
        let launched = driver.launch(function, extent, &[tensor(from, Access::Read), tensor(to, access)]);
        Some(launched.map(|()| {
            let mut found = vec![0; bytes as usize];
            driver.download(to, &mut found).unwrap();
            found
        }))
    }

    #[test]
    fn a_kernel_copies_through_maps_what_lies_inside_of_the_tensor() {
        let Some(found) = copied(Access::Update) else { return };
        for (index, word) in found.unwrap().chunks_exact(4).enumerate() {
            let inside = index % 32 < 30;
            assert_eq!(word, if inside { (index as u32).to_le_bytes() } else { [255; 4] }, "word {index}");
        }
        let message = copied(Access::Read).unwrap().unwrap_err();
        assert!(
            message.starts_with("write to read-only memory") && message.contains("cp.async.bulk.tensor"),
            "{message}"
        );
    }

    #[test]
    fn a_tensor_must_lie_within_its_memory() {
        let map = TensorMap {
            element: DType::Bf16,
            extents: vec![100, 3, 2],
            strides_bytes: vec![208, 1024],
            box_extents: vec![64, 3, 1],
            steps: vec![],
            swizzle: Swizzle::Bytes128,
        };
        // Two planes of three rows, of which the last has no padding.
        let bytes = 1024 + 2 * 208 + 200;
        assert!(map.for_emulator(256, bytes).is_ok());
        let message = map.for_emulator(256, bytes - 1).unwrap_err();
        assert_eq!(message, "tensor map: extents: expected a tensor within 1639 bytes, found one of 1640");
        let wide = TensorMap { box_extents: vec![32, 3, 1], ..map };
        let message = wide.for_emulator(256, bytes).unwrap_err();
        assert!(message.contains("expected the 128 bytes of its swizzle, found 64"), "{message}");
    }
}
