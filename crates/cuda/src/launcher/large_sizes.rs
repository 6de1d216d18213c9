//! Launches of sizes that no emulator could run: SphereFace-20 on faces, a million classes, large images.

use super::{Context, kernel};
use crate::driver::Argument;
use crate::launch::{Io, Launch, MOST_BLOCKS_Y, Operands, PartSum, Slice};
use crate::options::{Options, Precision};
use sphereface_tensor::op::{Op, Rule};
use sphereface_tensor::{Error, Type};
use sphereface_testkit::TrainingCase;
use sphereface_testkit::cases::{self, Case, Fill};

/// Shared memory that a block may have on every GPU with tensor cores for these types, less what kernels declare.
const MOST_SHARED_BYTES: u32 = 99 * 1024 - 1280;
/// The same of the GPUs with warpgroups.
const MOST_SHARED_BYTES_WGMMA: u32 = 227 * 1024 - 64;

/// Places of operands, one after another, from `at` on.
fn slices(at: &mut u64, sizes: impl IntoIterator<Item = u64>) -> Vec<Slice> {
    let place = |bytes: u64| {
        let slice = Slice { pointer: *at, bytes };
        *at += bytes.next_multiple_of(256);
        slice
    };
    sizes.into_iter().map(place).collect()
}

/// The launches of a case, on memory that is not there.
fn launches(case: &Case, context: &Context) -> Result<Vec<Launch>, Error> {
    launches_and_workspace(case, context).map(|(launches, _)| launches)
}

/// The same with the bytes of workspace and of parts.
fn launches_and_workspace(case: &Case, context: &Context) -> Result<(Vec<Launch>, u64), Error> {
    let reads: Vec<&Type> = case.reads.iter().map(|(kind, _)| kind).collect();
    let updates: Vec<&Type> = case.updates.iter().map(|(kind, _)| kind).collect();
    let written = case.op.outputs(&reads, &updates)?;
    let operands = Operands { reads, writes: written.iter().collect(), updates };
    let kernel = kernel(&case.op, &operands, context)?;
    let mut at = 256;
    let mut place = |kinds: &[&Type]| slices(&mut at, kinds.iter().map(|kind| kind.bytes() as u64));
    let (reads, writes, updates) = (place(&operands.reads), place(&operands.writes), place(&operands.updates));
    let rest = slices(&mut at, [kernel.workspace_bytes, kernel.constants.len() as u64]);
    let parts = slices(&mut at, kernel.sums.iter().map(PartSum::bytes));
    let launches = (kernel.build)(&Io { reads, writes, updates, workspace: rest[0], parts, constants: rest[1] });
    for launch in &launches {
        for argument in &launch.arguments {
            if let Argument::Memory { pointer, bytes, .. } | Argument::Tensor { pointer, bytes, .. } = argument {
                assert!(*bytes == 0 || pointer + bytes <= at, "{}: {}: memory that is there", case.name, launch.kernel);
            }
        }
    }
    let part_bytes: u64 = kernel.sums.iter().map(PartSum::bytes).sum();
    Ok((launches, kernel.workspace_bytes + part_bytes))
}

fn contexts() -> impl Iterator<Item = Context> {
    let precisions = [Precision::Fp32, Precision::Tf32, Precision::Bf16];
    let tiers = |precision| {
        let options = Options { precision, ..Options::default() };
        [(false, false), (true, false), (true, true)].map(|(mma, wgmma)| Context { options, mma, wgmma })
    };
    precisions.into_iter().flat_map(tiers)
}

fn head(sizes @ [classes, _, batch, _]: [usize; 4], form: fn(Case) -> Case) -> [Case; 2] {
    let head = TrainingCase::tiny().pop().unwrap().model.head;
    let forward = form(cases::margin_softmax_forward_of(&head, 5.0, sizes));
    assert!(batch < classes, "a head of many classes");
    let statistics = vec![Fill::Constant(1.0); if forward.name.contains("kept") { 5 } else { 4 }];
    let backward = cases::margin_softmax_backward_of(&forward, statistics, forward.tolerance);
    [forward, backward]
}

fn large() -> Vec<Case> {
    // The layers of SphereFace-20 on faces, 256 a batch.
    let convolutions = [
        [112, 96, 256, 3, 64, 3, 2, 1],
        [56, 48, 256, 64, 64, 3, 1, 1],
        [56, 48, 256, 64, 128, 3, 2, 1],
        [28, 24, 256, 128, 128, 3, 1, 1],
        [14, 12, 256, 256, 256, 3, 1, 1],
        [7, 6, 256, 512, 512, 3, 1, 1],
    ];
    let mut cases: Vec<Case> = convolutions.into_iter().flat_map(cases::conv2d_passes).collect();
    cases.extend(cases::linear_passes([7, 6, 256, 512, 512]));
    cases.push(cases::prelu_backward([112, 96, 256, 64]));
    for form in cases::HEAD_FORMS {
        cases.extend(head([1_000_000, 512, 512, 512], form));
        cases.extend(head([1_000_003, 511, 512, 512], form));
    }
    cases.push(cases::gather_batch_of([2000, 2000, 3], 256, 100));
    // All parameters of that network with that head.
    cases.push(cases::optimizer_of(Rule::Sgd { momentum: 0.9, nesterov: true }, None, 535_000_000));
    let bf16: Vec<Case> = cases.iter().filter_map(Case::in_bf16).collect();
    cases.extend(bf16);
    cases
}

#[test]
fn launches_of_large_sizes_fit_a_gpu() {
    for context in contexts() {
        for case in large() {
            for launch in launches(&case, &context).unwrap() {
                let name = format!("{}: {}", case.name, launch.kernel);
                let ([x, y, z], threads) = (launch.extent.grid, launch.extent.block[0]);
                assert!(x > 0 && x < 1 << 31 && y > 0 && y <= MOST_BLOCKS_Y && z > 0 && z <= MOST_BLOCKS_Y, "{name}");
                let most = if launch.kernel.contains("wgmma") { MOST_SHARED_BYTES_WGMMA } else { MOST_SHARED_BYTES };
                assert!(threads <= 1024 && launch.extent.shared_bytes <= most, "{name}");
                for argument in &launch.arguments {
                    if let Argument::Memory { pointer, .. } | Argument::Tensor { pointer, .. } = argument {
                        assert_eq!(pointer % 16, 0, "{name}: operands are aligned to 16 bytes");
                    }
                }
            }
        }
    }
}

/// Where a tier would be idle for the most part, another one is taken.
#[test]
fn a_convolution_on_hopper_takes_the_kernel_that_it_fills() {
    let options = Options { precision: Precision::Bf16, ..Options::default() };
    let context = Context { options, mma: true, wgmma: true };
    for (sizes, kernel) in [
        ([56, 48, 256, 64, 64, 3, 1, 1], "conv2d_forward_wgmma_64_bf16"),
        ([28, 24, 256, 128, 128, 3, 1, 1], "conv2d_forward_wgmma_128_bf16"),
        ([7, 7, 256, 128, 128, 3, 1, 1], "conv2d_forward_wgmma_128x128_cluster2_bf16"),
        ([4, 4, 256, 256, 256, 3, 1, 1], "conv2d_forward_wgmma_128x128_cluster4_bf16"),
        ([2, 2, 256, 512, 512, 3, 1, 1], "conv2d_forward_wgmma_128x128_cluster8_bf16"),
        ([28, 24, 16, 128, 128, 3, 1, 1], "conv2d_forward_wgmma_128x128_bf16"),
        ([28, 24, 1, 128, 128, 3, 1, 1], "conv2d_forward_mma"),
        ([56, 48, 1, 64, 64, 3, 1, 1], "conv2d_forward_mma"),
        ([28, 24, 16, 128, 256, 3, 2, 1], "conv2d_forward_mma"),
    ] {
        let case = cases::conv2d_passes(sizes).into_iter().find(|case| case.op.name() == "conv2d_forward");
        let case = case.and_then(|case| case.in_bf16()).unwrap();
        let launches = launches(&case, &context).unwrap();
        assert!(launches[0].kernel.starts_with(kernel), "{}: {}", case.name, launches[0].kernel);
    }
}

#[test]
fn a_head_on_hopper_takes_few_launches_and_little_memory() {
    let context = Context { options: Options::default(), mma: true, wgmma: true };
    let of = |sizes| head(sizes, Case::with_rounded_directions);
    let kernels = of([10_572, 512, 256, 256]).map(|case| {
        let launches = launches(&case, &context).unwrap().into_iter();
        launches.map(|launch| launch.kernel.replace("margin_softmax_", "")).collect::<Vec<_>>()
    });
    let [forward, backward] = kernels.each_ref().map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(forward, ["forward_rows", "forward_tiles_wgmma_128x256_bf16", "forward_merge"]);
    let [rows, tiles, weight, product, embedding] = backward[..] else { panic!("{backward:?}") };
    assert_eq!([rows, tiles], ["backward_rows", "backward_tiles_wgmma_128x256_bf16"]);
    assert_eq!([weight, embedding], ["backward_weight_wgmma_128x128_bf16", "backward_embedding"]);
    assert!(product.starts_with("gemm_nn"), "{product}");

    let [classes, batch] = [1_000_000, 512];
    let cases = of([classes, 512, batch, batch]);
    let bytes = cases.map(|case| launches_and_workspace(&case, &context).unwrap().1);
    // Of one copy of the logits in fp32, of which a program that makes them has several.
    let logits = (4 * batch * classes) as u64;
    assert!(bytes.iter().all(|bytes| bytes * 20 < logits), "{bytes:?} of {logits}");
}

#[test]
fn a_fused_gradient_is_not_stored_on_the_way() {
    for context in contexts() {
        // Products of few terms and many rows, which are not split.
        for sizes in [[112, 96, 256, 64, 64, 3, 1, 1], [112, 96, 256, 64, 128, 3, 2, 1]] {
            for case in cases::conv2d_passes(sizes) {
                let Op::Conv2dBackwardData(op) = case.op else { continue };
                let (launches, workspace) = launches_and_workspace(&case, &context).unwrap();
                let products = launches.iter().filter(|launch| !launch.kernel.contains("sum")).count();
                // One for all pixels, or for each class of them modulo the stride.
                assert!([1, op.stride * op.stride].contains(&products), "{}", case.name);
                let activation = case.reads[0].0.bytes() as u64;
                assert!(workspace < activation / 25, "{}: {workspace} of {activation} bytes", case.name);
            }
        }
    }
}

#[test]
fn a_fully_connected_layer_over_too_many_pixels_is_refused() {
    let context = Context { options: Options::default(), mma: true, wgmma: false };
    let message = |case: &Case| launches(case, &context).map(|_| ()).map_err(|error| error.to_string());
    let [forward, backward_data, backward_weight] = cases::linear_passes([300, 300, 2, 4, 8]);
    assert_eq!(message(&forward), Ok(()));
    for case in [backward_data, backward_weight] {
        let error = message(&case).unwrap_err();
        assert!(error.contains("at most 65535 pixels, found 90000"), "{error}");
    }
}
