//! Products of plain matrices by Hopper's warpgroups: every layout, tile and type, odd sizes, segments, parts.

use crate::check_on;
use crate::device::TestDevice;
use half::bf16;
use sphereface_cuda::cache::{Cache, Job};
use sphereface_cuda::driver::{Access, Argument, Driver, Extent, ModuleId, Swizzle, TensorMap};
use sphereface_cuda::{CudaBackend, Options, Precision, Unit};
use sphereface_tensor::DType;
use sphereface_tensor::op::Layout;
use sphereface_tensor::random::{Stream, normal};
use sphereface_testkit::cases::{self, Case, LAYOUTS};
use sphereface_testkit::{Tolerance, assert_close, check_case, to_tf32};

/// What is multiplied, and by which kernel.
#[derive(Clone, Copy, Debug)]
struct Product {
    layout: Layout,
    dtype: DType,
    /// Columns of the tile; it has 128 rows.
    tile: usize,
    rows: usize,
    columns: usize,
    /// Terms of a segment.
    length: usize,
    segments: usize,
    batch: usize,
    splits: usize,
    /// The most blocks.
    blocks: usize,
}

impl Product {
    fn new(layout: Layout, dtype: DType, tile: usize, [rows, columns, length]: [usize; 3]) -> Product {
        Product { layout, dtype, tile, rows, columns, length, segments: 1, batch: 1, splits: 1, blocks: 132 }
    }

    /// Inner and outer extent of an operand's matrices, their number, and whether the reduction is the inner one.
    fn operand(&self, left: bool) -> ([usize; 3], bool) {
        let along = if left { self.layout != Layout::TN } else { self.layout == Layout::NT };
        let across = if left { self.rows } else { self.columns };
        let [inner, outer] = if along { [self.length, across] } else { [across, self.length] };
        ([inner, outer, self.batch.max(self.segments)], along)
    }

    fn map(&self, left: bool) -> TensorMap {
        let (extents, along) = self.operand(left);
        let [inner, outer, matrices] = extents.map(|extent| extent as u64);
        let bytes = self.dtype.bytes() as u64;
        TensorMap {
            element: self.dtype,
            extents: vec![inner, outer, matrices],
            strides_bytes: vec![inner * bytes, inner * outer * bytes],
            box_extents: vec![128 / bytes, if along { 128 } else { 128 / bytes }, 1],
            steps: vec![],
            swizzle: Swizzle::Bytes128,
        }
    }

    /// Random values that the type holds.
    fn values(&self, left: bool) -> Vec<f64> {
        let count: usize = self.operand(left).0.into_iter().product();
        let value = |i| normal(3, Stream::Initialisation, u32::from(left), i as u64);
        let round = |value: f64| match self.dtype {
            DType::Bf16 => bf16::from_f64(value).to_f64(),
            _ => to_tf32(value),
        };
        (0..count).map(|i| round(value(i))).collect()
    }

    /// The element of an operand at `k` of a matrix, in row or column `across`.
    fn place(&self, left: bool, matrix: usize, across: usize, k: usize) -> usize {
        let ([inner, outer, _], along) = self.operand(left);
        let [x, y] = if along { [k, across] } else { [across, k] };
        (matrix * outer + y) * inner + x
    }

    /// Sums and sums of magnitudes.
    fn reference(&self, left: &[f64], right: &[f64]) -> [Vec<f64>; 2] {
        let size = self.batch * self.rows * self.columns;
        let (mut sums, mut magnitudes) = (vec![0.0; size], vec![0.0; size]);
        for i in 0..size {
            let (batch, m, n) = (i / self.columns / self.rows, i / self.columns % self.rows, i % self.columns);
            for (segment, k) in (0..self.segments).flat_map(|segment| (0..self.length).map(move |k| (segment, k))) {
                let matrix = batch + segment;
                let product = left[self.place(true, matrix, m, k)] * right[self.place(false, matrix, n, k)];
                sums[i] += product;
                magnitudes[i] += product.abs();
            }
        }
        [sums, magnitudes]
    }
}

/// A device with the kernels of gemm.cu.
struct Kernels {
    driver: TestDevice,
    module: ModuleId,
}

impl Kernels {
    fn load() -> Option<Kernels> {
        let mut driver = TestDevice::hopper()?;
        let gemm = Unit { stem: "gemm", defines: vec!["TIER_WGMMA".into()] };
        let job = Job { unit: &gemm, architecture: driver.architecture(), output: driver.output() };
        let module = driver.load(&Cache::of_user().get(job).unwrap().image).unwrap();
        Some(Kernels { driver, module })
    }

    fn upload(&mut self, bytes: &[u8]) -> u64 {
        let pointer = self.driver.allocate(bytes.len() as u64).unwrap();
        self.driver.upload(pointer, bytes).unwrap();
        pointer
    }

    fn multiply(&mut self, p: &Product, operands: [&[u8]; 2]) -> Vec<f32> {
        let element = if p.dtype == DType::Bf16 { "bf16" } else { "tf32" };
        let name = format!("gemm_{:?}_wgmma_128x{}_{element}", p.layout, p.tile).to_lowercase();
        let shared_bytes = 4 * 128 * (128 + p.tile as u32) + 8 * 4096 + 1024;
        let function = self.driver.function(self.module, &name, shared_bytes).unwrap();
        let mut tensor = |left: bool| {
            let bytes = operands[usize::from(!left)];
            let pointer = self.upload(bytes);
            Argument::Tensor { pointer, bytes: bytes.len() as u64, access: Access::Read, map: p.map(left) }
        };
        let [left, right] = [true, false].map(&mut tensor);
        let mut out = vec![0.0f32; p.splits * p.batch * p.rows * p.columns];
        let pointer = self.upload(bytemuck::cast_slice(&out));
        let result = Argument::Memory { pointer, bytes: 4 * out.len() as u64, access: Access::Write };
        let absent = |access| Argument::Memory { pointer: 0, bytes: 0, access };
        // MatrixProduct: sizes, segments, distances of matrices, products, parts, vectors.
        let own = if p.batch > 1 { p.length } else { 0 };
        let vectors = usize::from(p.columns.is_multiple_of(4));
        let structure =
            [p.rows, p.columns, p.length, p.segments, 1, 1, own, own, p.batch, p.splits, vectors, vectors, vectors];
        let structure = structure.map(|size| size as i32);
        // Clusters of two blocks share what they read of the right operand in the larger tile.
        let rows_of_tiles = p.rows.div_ceil(128).next_multiple_of(p.tile / 128);
        let tiles = rows_of_tiles * p.columns.div_ceil(p.tile) * p.batch * p.splits;
        let extent = Extent { grid: [tiles.min(p.blocks) as u32, 1, 1], block: [384, 1, 1], shared_bytes };
        let [bias, slope, residual] = [0; 3].map(|_| absent(Access::Read));
        let structure = Argument::Value(bytemuck::cast_slice(&structure).to_vec());
        // Without a place for what is finished sums are left in parts, in fp32, be it one.
        let arguments = [left, right, bias, slope, residual, absent(Access::Write), result, structure];
        self.driver.launch(function, extent, &arguments).unwrap();
        self.driver.download(pointer, bytemuck::cast_slice_mut(&mut out)).unwrap();
        out
    }

    fn check(&mut self, p: &Product) {
        let (left, right) = (p.values(true), p.values(false));
        let bytes = |values: &[f64]| -> Vec<u8> {
            match p.dtype {
                DType::Bf16 => values.iter().flat_map(|&v| bf16::from_f64(v).to_le_bytes()).collect(),
                _ => values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
            }
        };
        let parts = self.multiply(p, [&bytes(&left), &bytes(&right)]);
        let size = parts.len() / p.splits;
        let found: Vec<f64> =
            (0..size).map(|i| (0..p.splits).map(|split| f64::from(parts[split * size + i])).sum()).collect();
        let [sums, magnitudes] = p.reference(&left, &right);
        assert_close(&format!("{p:?}"), DType::F32, &found, &sums, &magnitudes, Tolerance::Products(5e-5));
    }
}

/// What there are kernels for.
const FORMS: [(Layout, DType); 4] =
    [(Layout::NN, DType::Bf16), (Layout::NT, DType::Bf16), (Layout::TN, DType::Bf16), (Layout::NT, DType::F32)];
const TILES: [usize; 2] = [128, 256];

#[test]
fn every_form_and_tile_matches_reference() {
    let Some(mut kernels) = Kernels::load() else { return };
    for (layout, dtype) in FORMS {
        for tile in TILES {
            // More than one tile each way, with tails; more chunks than stages, the last of them with a tail.
            kernels.check(&Product::new(layout, dtype, tile, [136, 264, 296]));
        }
    }
    // Shared memory is read and written in as few passes as its width allows.
    for (kernel, counters) in kernels.driver.counters() {
        assert_eq!(counters.bank_conflicts, 0, "{kernel}");
    }
}

#[test]
fn sizes_that_nothing_divides_match_reference() {
    let Some(mut kernels) = Kernels::load() else { return };
    // Only the inner dimensions of the operands are whole copies of 16 bytes.
    let sizes = [
        (Layout::NN, [1, 8, 8]),
        (Layout::NN, [131, 72, 200]),
        (Layout::NT, [1, 1, 8]),
        (Layout::NT, [67, 131, 72]),
        (Layout::TN, [8, 8, 1]),
        (Layout::TN, [136, 72, 67]),
    ];
    for (layout, sizes) in sizes {
        for tile in TILES {
            kernels.check(&Product::new(layout, DType::Bf16, tile, sizes));
        }
    }
    kernels.check(&Product::new(Layout::NT, DType::F32, 128, [67, 131, 36]));
}

#[test]
fn blocks_that_take_several_tiles_match_reference() {
    let Some(mut kernels) = Kernels::load() else { return };
    for (layout, dtype) in FORMS {
        // 18 rows of tiles, more than go side by side, for five blocks or two clusters; two chunks each, or three.
        for (tile, blocks) in [(128, 5), (256, 4)] {
            kernels.check(&Product { blocks, ..Product::new(layout, dtype, tile, [2184, 136, 96]) });
        }
    }
}

#[test]
fn segments_batches_and_parts_match_reference() {
    let Some(mut kernels) = Kernels::load() else { return };
    for (layout, dtype) in FORMS {
        for (tile, blocks) in [(128, 3), (256, 4)] {
            let product = Product { blocks, ..Product::new(layout, dtype, tile, [136, 40, 72]) };
            // Segments whose last chunks have tails, in parts that begin amidst them.
            kernels.check(&Product { segments: 5, splits: 3, ..product });
            kernels.check(&Product { batch: 3, ..product });
            kernels.check(&Product { batch: 2, splits: 2, ..product });
        }
    }
}

/// Checks the cases on a device of compute capability 9.0, where the tier makes all it can, and returns what was launched.
fn check_forced(precision: Precision, cases: &[Case]) -> Vec<String> {
    let Some(device) = TestDevice::hopper() else { return Vec::new() };
    let options = Options { precision, forced: true, ..Options::default() };
    check_on(CudaBackend::new(device, options), cases, check_case).into_keys().collect()
}

/// Kernels of this tier with names that begin so are what was launched of it, if there was a device.
fn launched(found: &[String], beginnings: &[&str]) {
    let wgmma: Vec<&String> = found.iter().filter(|name| name.contains("wgmma")).collect();
    for beginning in beginnings {
        assert!(found.is_empty() || wgmma.iter().any(|name| name.starts_with(beginning)), "{beginning}: {found:?}");
    }
    assert!(wgmma.iter().all(|name| beginnings.iter().any(|beginning| name.starts_with(beginning))), "{found:?}");
}

/// With and without bias, slope and residual: one copy, tails, a reduction in parts, more columns than a small tile has.
const SIZES: [[usize; 3]; 4] = [[8, 8, 8], [72, 40, 136], [40, 136, 72], [8, 16, 9000]];

#[test]
fn gemm_and_what_a_layer_does_with_it_match_reference() {
    let cases: Vec<Case> = LAYOUTS
        .into_iter()
        .flat_map(|layout| SIZES.into_iter().flat_map(move |sizes| cases::gemm_of(layout, sizes)))
        .collect();
    let bf16: Vec<Case> = cases.iter().filter_map(Case::in_bf16).map(Case::on_tensor_cores).collect();
    let kernels: Vec<String> = ["nn", "nt", "tn"]
        .into_iter()
        .flat_map(|layout| TILES.map(|columns| format!("gemm_{layout}_wgmma_128x{columns}_bf16")))
        .collect();
    launched(&check_forced(Precision::Bf16, &bf16), &kernels.iter().map(String::as_str).collect::<Vec<_>>());
    let tf32: Vec<Case> = cases.iter().map(Case::in_tf32).collect();
    launched(&check_forced(Precision::Tf32, &tf32), &["gemm_nt_wgmma_128x128_tf32", "gemm_nt_wgmma_128x256_tf32"]);
}

#[test]
fn linear_layers_match_reference() {
    let sizes = [[2, 2, 33, 24, 40], [1, 1, 1, 8, 8], [3, 2, 72, 136, 72]];
    let cases: Vec<Case> = sizes.into_iter().flat_map(cases::linear_passes).collect();
    let bf16: Vec<Case> = cases.iter().filter_map(Case::in_bf16).map(Case::on_tensor_cores).collect();
    let passes = ["linear_forward_wgmma", "linear_backward_data_wgmma", "linear_backward_weight_wgmma"];
    launched(&check_forced(Precision::Bf16, &bf16), &passes);
    let tf32: Vec<Case> = cases.iter().map(Case::in_tf32).collect();
    launched(&check_forced(Precision::Tf32, &tf32), &["linear_backward_data_wgmma"]);
}
