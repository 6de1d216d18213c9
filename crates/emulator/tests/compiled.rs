//! Kernels as NVRTC compiled them, against references in `f64`, at sizes that no tile divides.
mod common;

use common::{bf16, bf16_value, floats, random};
use sphereface_emulator::{Argument, Counters, Device, Module};

/// Rows and columns of two operands and their product.
struct Product {
    m: usize,
    n: usize,
    k: usize,
}

/// Every element within the bound of a sum of rounded products; NaN never passes.
fn assert_product(actual: &[f32], a: &[f64], b: &[f64], size: &Product, transposed: bool, tolerance: f64) {
    let Product { m, n, k } = *size;
    for row in 0..m {
        for column in 0..n {
            let at = |step: usize| if transposed { b[column * k + step] } else { b[step * n + column] };
            let products = (0..k).map(|step| a[row * k + step] * at(step));
            let (sum, magnitude) = products.fold((0.0, 0.0), |(sum, size), x: f64| (sum + x, size + x.abs()));
            let error = (f64::from(actual[row * n + column]) - sum).abs();
            assert!(error <= tolerance * magnitude, "({row}, {column}) of {m}x{n}x{k}: error {error}");
        }
    }
}

fn run_sgemm(device: &mut Device, size: &Product) -> Counters {
    let module = Module::load(include_str!("ptx/sgemm.ptx")).unwrap();
    let Product { m, n, k } = *size;
    let (a, b) = (random(m * k, 1), random(k * n, 2));
    let (at_a, at_b) = (device.allocate_with(&floats(&a)), device.allocate_with(&floats(&b)));
    let at_c = device.allocate(4 * (m * n) as u64);
    let numbers = [m, n, k].map(|value| Argument::I32(value as i32));
    let mut arguments = vec![Argument::Pointer(at_a), Argument::Pointer(at_b), Argument::Pointer(at_c)];
    arguments.extend(numbers);
    let grid = [n.div_ceil(128) as u32, m.div_ceil(128) as u32, 1];
    let counters = device.launch(&module, "sgemm", grid, [256, 1, 1], 0, &arguments).unwrap();
    let c = common::download(device, at_c, m * n);
    let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<_>>();
    assert_product(&c, &wide(&a), &wide(&b), size, false, 1e-6);
    counters
}

#[test]
fn sgemm_matches_reference_at_odd_sizes() {
    for (m, n, k) in [(1, 1, 1), (128, 128, 8), (130, 67, 21), (37, 260, 12)] {
        run_sgemm(&mut Device::new(), &Product { m, n, k });
    }
}

#[test]
fn sgemm_reads_and_writes_what_its_tiles_say() {
    let counters = run_sgemm(&mut Device::new(), &Product { m: 128, n: 128, k: 16 });
    // Two operands of 128 x 16, one result of 128 x 128.
    assert_eq!(counters.global_read_bytes, 2 * 128 * 16 * 4);
    assert_eq!(counters.global_written_bytes, 128 * 128 * 4);
    assert_eq!(counters.barriers, 4);
    // 64 sums in each of 256 threads, 16 steps, counted by warps.
    assert_eq!(counters.float, 64 * 8 * 16);
}

#[test]
fn softmax_matches_reference_at_odd_sizes() {
    let module = Module::load(include_str!("ptx/softmax.ptx")).unwrap();
    for (rows, columns, threads) in [(1, 1, 32), (3, 7, 32), (5, 33, 64), (2, 1000, 256), (1, 4096, 1024)] {
        let x: Vec<f32> = random(rows * columns, 3).iter().map(|value| 20.0 * value).collect();
        let mut device = Device::new();
        let at_x = device.allocate_with(&floats(&x));
        let (at_y, at_lse) = (device.allocate(4 * (rows * columns) as u64), device.allocate(4 * rows as u64));
        let pointers = [at_x, at_y, at_lse].map(Argument::Pointer);
        let arguments = [pointers.as_slice(), &[Argument::I32(columns as i32)]].concat();
        device.launch(&module, "softmax", [rows as u32, 1, 1], [threads, 1, 1], 0, &arguments).unwrap();
        let y = common::download(&device, at_y, rows * columns);
        let lse = common::download(&device, at_lse, rows);
        for row in 0..rows {
            let x = &x[row * columns..(row + 1) * columns];
            let maximum = x.iter().copied().fold(f32::MIN, f32::max);
            let sum: f64 = x.iter().map(|value| (f64::from(*value) - f64::from(maximum)).exp()).sum();
            let expected = f64::from(maximum) + sum.ln();
            assert!((f64::from(lse[row]) - expected).abs() <= 2e-6 * expected.abs().max(1.0), "{rows}x{columns}");
            for column in 0..columns {
                let expected = (f64::from(x[column]) - f64::from(maximum)).exp() / sum;
                let error = (f64::from(y[row * columns + column]) - expected).abs();
                assert!(error <= 5e-6 * expected + 1e-37, "({row}, {column}) of {rows}x{columns}: {error}");
            }
        }
    }
}

#[test]
fn hgemm_matches_reference_at_odd_sizes() {
    let module = Module::load(include_str!("ptx/hgemm.ptx")).unwrap();
    for (m, n, k) in [(1, 1, 8), (64, 64, 32), (65, 130, 72), (100, 31, 200)] {
        let mut device = Device::new();
        let (a, b) = (bf16(&random(m * k, 4)), bf16(&random(n * k, 5)));
        let bytes = |values: &[u16]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let (at_a, at_b) = (device.allocate_with(&bytes(&a)), device.allocate_with(&bytes(&b)));
        let at_c = device.allocate(4 * (m * n) as u64);
        let mut arguments = [at_a, at_b, at_c].map(Argument::Pointer).to_vec();
        arguments.extend([m, n, k].map(|value| Argument::I32(value as i32)));
        let grid = [n.div_ceil(64) as u32, m.div_ceil(64) as u32, 1];
        let counters = device.launch(&module, "hgemm", grid, [128, 1, 1], 20_480, &arguments).unwrap();
        let c = common::download(&device, at_c, m * n);
        let wide = |values: &[u16]| values.iter().map(|value| bf16_value(*value)).collect::<Vec<_>>();
        assert_product(&c, &wide(&a), &wide(&b), &Product { m, n, k }, true, 5e-5);
        let tiles = u64::from(grid[0] * grid[1]) * k.div_ceil(32) as u64;
        assert_eq!(counters.mma_flops, tiles * 2 * 64 * 64 * 32);
        // Of a copy eight lanes go together: two rows, which share four banks. `ldmatrix` has no conflict.
        assert_eq!(counters.bank_conflicts, tiles * 2 * 64 * 32 / 8 / 8);
    }
}

#[test]
fn functions_of_the_library_match_references() {
    let module = Module::load(include_str!("ptx/functions.ptx")).unwrap();
    let x = random(101, 6);
    let mut device = Device::new();
    let (at_x, at_y) = (device.allocate_with(&floats(&x)), device.allocate(4 * 16 * 101));
    let arguments = [Argument::Pointer(at_x), Argument::Pointer(at_y), Argument::I32(101)];
    device.launch(&module, "functions", [4, 1, 1], [32, 1, 1], 0, &arguments).unwrap();
    let y = common::download(&device, at_y, 16 * 101);
    for (i, x) in x.iter().enumerate() {
        let v = f64::from(*x);
        let n = i as i64;
        let single = |value: f32| f64::from(value);
        let trailing = if i == 0 { 0 } else { (i as u32).trailing_zeros() + 1 };
        let bits = (i as u32).count_ones() + (i as u32).leading_zeros() + trailing;
        let expected = [
            v.abs().powf(single(1.7)),
            v.acos(),
            single(x * 100.0).cos(),
            single(x * 1e6).sin(),
            single(x * 20.0).exp(),
            single(x.abs() + 1e-3).ln(),
            v.tanh(),
            v.atan2(single(0.3)),
            v.abs().ln_1p() + v.exp_m1(),
            v.cbrt() + [1.0, 2.0, 3.0, 4.0][i & 3],
            single(x * 37.0) % single(1.3),
            v.exp() + (2.0 + v).ln() + v.abs().sqrt() / 3.0,
            (n / 7 + n % 13) as f64 + ((n - 50) * 1_234_567_891_011 / 97) as f64,
            f64::from(bits) + f64::from((i as u32).reverse_bits() >> 20),
            f64::from((x * 7.0).floor() + (x * 3.0).trunc() + (x * 9.0).round_ties_even() + 1.0_f32.copysign(*x)),
            f64::from((x * 10.0).round_ties_even())
                + f64::from(i as u8)
                + f64::from((i * 3) as i8)
                + f64::from((i * 777) as i16),
        ];
        for (column, expected) in expected.into_iter().enumerate() {
            let actual = single(y[16 * i + column]);
            let error = (actual - expected).abs();
            assert!(error <= 1e-6 * expected.abs().max(0.5), "column {column} of {v}: {actual}, expected {expected}");
        }
    }
}

#[test]
fn the_last_block_sees_what_the_others_wrote() {
    let module = Module::load(include_str!("ptx/functions.ptx")).unwrap();
    for (n, blocks) in [(1, 1), (1000, 3), (5000, 40)] {
        let x = random(n, 7);
        let mut device = Device::new();
        let at_x = device.allocate_with(&floats(&x));
        let (at_y, at_count) = (device.allocate(4 * (blocks + 1) as u64), device.allocate(4 * blocks as u64));
        let ticket = device.allocate_with(&[0; 4]);
        let mut arguments = [at_x, at_y, ticket, at_count].map(Argument::Pointer).to_vec();
        arguments.push(Argument::I32(n as i32));
        device.launch(&module, "block_sums", [blocks as u32, 1, 1], [128, 1, 1], 0, &arguments).unwrap();
        let total = common::download(&device, at_y, blocks + 1)[blocks];
        let expected: f64 = x.iter().map(|value| f64::from(*value)).sum();
        assert!((f64::from(total) - expected).abs() < 1e-4, "{total}, expected {expected}");
        assert_eq!(common::download_words(&device, ticket, 1), [0]);
        let counts = common::download_words(&device, at_count, blocks);
        let positive = |block: usize| {
            let sum = |thread: usize| x.iter().skip(block * 128 + thread).step_by(128 * blocks).sum::<f32>();
            (0..128).filter(|thread| sum(*thread) > 0.0).count() as u32
        };
        assert!((0..blocks).all(|block| counts[block] == positive(block) + 1000 * 496));
    }
}
