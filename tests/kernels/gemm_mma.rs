//! Products of plain matrices on the tensor cores: TF32 and bf16, every layout and tile.

use crate::check_with;
use crate::device::TestDevice;
use half::bf16;
use sphereface_cuda::cache::{Cache, Job};
use sphereface_cuda::driver::{Access, Argument, Driver, Extent, ModuleId};
use sphereface_cuda::{Options, Precision, Unit};
use sphereface_tensor::DType;
use sphereface_tensor::op::Layout;
use sphereface_tensor::random::{Stream, normal};
use sphereface_testkit::cases::{self, Case, LAYOUTS};
use sphereface_testkit::{Tolerance, assert_close, to_tf32};

/// Rows, columns, length: one copy of 16 bytes, tails of tiles and of chunks, a reduction in parts.
const SIZES: [[usize; 3]; 5] = [[8, 8, 8], [24, 40, 200], [72, 136, 136], [264, 72, 8], [8, 16, 9000]];

fn gemm(layout: Layout) -> Vec<Case> {
    SIZES.into_iter().flat_map(|sizes| cases::gemm_of(layout, sizes)).collect()
}

fn linear() -> Vec<Case> {
    let sizes = [[2, 2, 33, 24, 40], [1, 1, 1, 8, 8], [3, 2, 72, 136, 72]];
    sizes.into_iter().flat_map(cases::linear_passes).collect()
}

pub(crate) fn check_tf32(cases: &[Case]) {
    let options = Options { precision: Precision::Tf32, ..Options::default() };
    check_with(options, cases.iter().map(Case::in_tf32).collect());
}

pub(crate) fn check_bf16(cases: &[Case]) {
    let options = Options { precision: Precision::Bf16, ..Options::default() };
    check_with(options, cases.iter().filter_map(Case::in_bf16).map(Case::on_tensor_cores).collect());
}

#[test]
fn gemm_nn_on_tensor_cores_matches_reference() {
    check_tf32(&gemm(Layout::NN));
    check_bf16(&gemm(Layout::NN));
}

#[test]
fn gemm_nt_on_tensor_cores_matches_reference() {
    check_tf32(&gemm(Layout::NT));
    check_bf16(&gemm(Layout::NT));
}

#[test]
fn gemm_tn_on_tensor_cores_matches_reference() {
    check_tf32(&gemm(Layout::TN));
    check_bf16(&gemm(Layout::TN));
}

#[test]
fn linear_on_tensor_cores_matches_reference() {
    check_tf32(&linear());
    check_bf16(&linear());
}

/// A device with the kernels of gemm.cu, whatever the launcher would choose of them.
struct Kernels {
    driver: TestDevice,
    module: ModuleId,
}

impl Kernels {
    fn load() -> Option<Kernels> {
        let mut driver = TestDevice::new()?;
        let gemm = Unit { stem: "gemm", defines: vec!["TIER_MMA".into()] };
        let job = Job { unit: &gemm, architecture: driver.architecture(), output: driver.output() };
        let module = driver.load(&Cache::of_user().get(job).unwrap().image).unwrap();
        Some(Kernels { driver, module })
    }

    /// The product of `left` and `right` by the kernel of this tile, its reduction in one part.
    fn multiply(
        &mut self,
        layout: Layout,
        tile: [usize; 2],
        element: &str,
        [rows, columns, length]: [usize; 3],
        operands: [&[u8]; 2],
    ) -> Vec<f32> {
        let name = format!("gemm_{layout:?}_mma_{}x{}_{element}", tile[0], tile[1]).to_lowercase();
        let shared_bytes = 3 * 128 * (tile[0] + tile[1]) as u32;
        let function = self.driver.function(self.module, &name, shared_bytes).unwrap();
        let mut memory = |bytes: &[u8], access| {
            let pointer = self.driver.allocate(bytes.len() as u64).unwrap();
            self.driver.upload(pointer, bytes).unwrap();
            Argument::Memory { pointer, bytes: bytes.len() as u64, access }
        };
        let mut out = vec![0.0f32; rows * columns];
        let [left, right] = operands.map(|bytes| memory(bytes, Access::Read));
        let result = memory(bytemuck::cast_slice(&out), Access::Write);
        let absent = |access| Argument::Memory { pointer: 0, bytes: 0, access };
        // MatrixProduct: rows, columns, length; one segment, one product, one part; vectors.
        let sizes = [rows, columns, length].map(|size| size as i32);
        let structure = [sizes[0], sizes[1], sizes[2], 1, 0, 0, 0, 0, 1, 1, 1, 1, 1];
        let structure = Argument::Value(bytemuck::cast_slice(&structure).to_vec());
        let tiles = rows.div_ceil(tile[0]) * columns.div_ceil(tile[1]);
        let extent = Extent { grid: [tiles as u32, 1, 1], block: [128, 1, 1], shared_bytes };
        let [bias, slope, residual] = [0; 3].map(|_| absent(Access::Read));
        // Without a place for what is finished sums are left in one part, in fp32.
        let arguments = [left, right, bias, slope, residual, absent(Access::Write), result.clone(), structure];
        self.driver.launch(function, extent, &arguments).unwrap();
        let Argument::Memory { pointer, .. } = result else { unreachable!("memory") };
        self.driver.download(pointer, bytemuck::cast_slice_mut(&mut out)).unwrap();
        out
    }
}

const TILES: [[usize; 2]; 3] = [[128, 128], [128, 64], [64, 64]];

/// Places of element (m, k) of the left and (k, n) of the right operand.
fn places(layout: Layout, [rows, columns, length]: [usize; 3], [m, n, k]: [usize; 3]) -> [usize; 2] {
    let left = if layout == Layout::TN { k * rows + m } else { m * length + k };
    let right = if layout == Layout::NT { n * length + k } else { k * columns + n };
    [left, right]
}

#[test]
fn every_tile_matches_reference() {
    let Some(mut kernels) = Kernels::load() else { return };
    // More than one tile each way, with tails; more chunks than stages, the last of them with a tail.
    let sizes = [136, 144, 296];
    let [rows, columns, length] = sizes;
    for dtype in [DType::F32, DType::Bf16] {
        let round = |value: f64| if dtype == DType::F32 { to_tf32(value) } else { bf16::from_f64(value).to_f64() };
        let values = |operand: u32, count: usize| -> Vec<f64> {
            (0..count).map(|i| round(normal(3, Stream::Initialisation, operand, i as u64))).collect()
        };
        let (left, right) = (values(0, rows * length), values(1, length * columns));
        let bytes = |values: &[f64]| -> Vec<u8> {
            match dtype {
                DType::F32 => values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
                _ => values.iter().flat_map(|&v| bf16::from_f64(v).to_le_bytes()).collect(),
            }
        };
        for layout in LAYOUTS {
            let (mut expected, mut magnitudes) = (vec![0.0; rows * columns], vec![0.0; rows * columns]);
            for (m, n, k) in (0..rows * columns).flat_map(|i| (0..length).map(move |k| (i / columns, i % columns, k))) {
                let [l, r] = places(layout, sizes, [m, n, k]);
                expected[m * columns + n] += left[l] * right[r];
                magnitudes[m * columns + n] += (left[l] * right[r]).abs();
            }
            for tile in TILES {
                let element = if dtype == DType::F32 { "tf32" } else { "bf16" };
                let operands = [&bytes(&left)[..], &bytes(&right)[..]];
                let found = kernels.multiply(layout, tile, element, sizes, operands);
                let found: Vec<f64> = found.into_iter().map(f64::from).collect();
                let name = format!("{layout:?} {tile:?} {element}");
                assert_close(&name, DType::F32, &found, &expected, &magnitudes, Tolerance::Products(5e-5));
            }
        }
    }
    // Shared memory is read and written in as few passes as its width allows.
    for (kernel, counters) in kernels.driver.counters() {
        assert_eq!(counters.bank_conflicts, 0, "{kernel}");
    }
}

#[test]
fn tf32_operands_are_rounded_to_nearest_ties_away() {
    let Some(mut kernels) = Kernels::load() else { return };
    let sizes = [64, 64, 64];
    // Every other value lies half way between two that TF32 holds.
    let value = |operand: u32, i: usize| {
        let bits = (normal(5, Stream::Initialisation, operand, i as u64) as f32).to_bits();
        f32::from_bits(if i.is_multiple_of(2) { bits & !0x1fff | 0x1000 } else { bits })
    };
    let operands: [Vec<f32>; 2] = [0, 1].map(|operand| (0..64 * 64).map(|i| value(operand, i)).collect());
    let rounded =
        operands.clone().map(|values| values.iter().map(|&v| to_tf32(f64::from(v)) as f32).collect::<Vec<_>>());
    assert!(operands[0].iter().zip(&rounded[0]).all(|(value, rounded)| value != rounded));
    for layout in LAYOUTS {
        let mut multiply = |operands: &[Vec<f32>; 2]| {
            let bytes = [&operands[0], &operands[1]].map(|values| bytemuck::cast_slice(values));
            kernels.multiply(layout, [64, 64], "tf32", sizes, bytes)
        };
        assert_eq!(multiply(&operands), multiply(&rounded), "{layout:?}");
    }
}

#[test]
fn nan_and_infinity_pass_through_tensor_cores() {
    let Some(mut kernels) = Kernels::load() else { return };
    // The NaN of all ones is the one that adding half an ulp would turn into a zero.
    for (planted, expected) in [(f32::from_bits(0x7fff_ffff), f32::NAN), (f32::INFINITY, f32::INFINITY)] {
        let mut left = vec![1.0f32; 64 * 64];
        left[5 * 64 + 7] = planted;
        let right = vec![1.0f32; 64 * 64];
        let bytes = [&left, &right].map(|values| bytemuck::cast_slice(values));
        let out = kernels.multiply(Layout::NN, [64, 64], "tf32", [64; 3], bytes);
        for (i, value) in out.into_iter().enumerate() {
            let expected = if i / 64 == 5 { expected } else { 64.0 };
            assert!(value == expected || value.is_nan() && expected.is_nan(), "element {i}: {value}");
        }
    }
}
