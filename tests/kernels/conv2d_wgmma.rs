//! Convolutions of the Hopper tier.

use crate::check_on;
use crate::device::TestDevice;
use sphereface_cuda::{CudaBackend, Options, Precision};
use sphereface_testkit::cases::{self, Case};
use sphereface_testkit::check_case;

/// Checks the cases of a pass on a device of compute capability 9.0, where the tier makes all it can: each must launch the
/// kernel `conv2d_<pass>_<kernel>`.
fn check(pass: &str, kernel: &str, sizes: &[[usize; 8]]) {
    let pass = format!("conv2d_{pass}");
    let cases = sizes.iter().flat_map(|&sizes| cases::conv2d_passes(sizes));
    let cases = cases.filter(|case| case.name.starts_with(&pass));
    let (precision, cases): (_, Vec<Case>) = if kernel.ends_with("tf32") {
        (Precision::Tf32, cases.map(|case| case.in_tf32()).collect())
    } else {
        (Precision::Bf16, cases.filter_map(|case| case.in_bf16()).map(Case::on_tensor_cores).collect())
    };
    let Some(device) = TestDevice::hopper() else { return };
    let options = Options { precision, forced: true, ..Options::default() };
    let launches = check_on(CudaBackend::new(device, options), &cases, check_case);
    let products = launches.iter().filter(|(name, _)| name.starts_with(&pass) && !name.contains("_sum_"));
    let mut count = 0;
    for (name, launches) in products {
        assert!(name.starts_with(&format!("{pass}_{kernel}")), "{name}");
        count += launches;
    }
    // One for each class of pixels modulo the stride, backward.
    assert!(count >= cases.len() as u64, "{launches:?}");
}

/// 64 to 64 channels: images of one row, and of an odd number of rows, so that the last tile has one; rows of one pixel
/// more than a tile, and less; batches that no tile divides; more tiles for a block than it has stages.
const HALO: [[usize; 8]; 3] = [[1, 16, 3, 64, 64, 3, 1, 1], [9, 17, 8, 64, 64, 3, 1, 1], [2, 7, 17, 64, 64, 3, 1, 1]];

/// More channels: inputs, and outputs, in more than one part; the same edges; rings of few and of many slots; a last round
/// of tiles of half of the channels, after others and alone, and none; an odd number of rows of tiles.
const WIDE: [[usize; 8]; 3] =
    [[9, 7, 9, 64, 128, 3, 1, 1], [2, 2, 70, 128, 256, 3, 1, 1], [1, 25, 5, 64, 128, 3, 1, 1]];

/// Tiles of images of one pixel, of 64 columns: strides; more images than a tile, and fewer, that do not divide it; more
/// tiles for a block than one. And of several pixels in several rows: of all images, or some; of one image; some of which
/// lie outside, and those of a class.
const PIXELS_64: [[usize; 8]; 7] = [
    [4, 5, 130, 64, 64, 3, 2, 1],
    [5, 13, 32, 64, 64, 3, 2, 1],
    [3, 3, 40, 128, 64, 3, 1, 1],
    [2, 11, 16, 64, 192, 3, 1, 1],
    [1, 66, 2, 128, 64, 3, 1, 1],
    [13, 21, 1, 64, 64, 3, 2, 1],
    [15, 9, 5, 128, 64, 3, 1, 1],
];
/// Those of 128 columns, which only strides have where the tier is forced.
const PIXELS_128: [[usize; 8]; 2] = [[1, 5, 3, 64, 128, 3, 2, 1], [1, 3, 257, 64, 256, 3, 2, 1]];
/// Those of clusters, of forward pass and data gradient: tiles whose reduction is in two and in four parts; with more images
/// than a tile, pairs that share the filter, whose reduction is whole, and in parts.
const SPLIT_2: [[usize; 8]; 2] = [[5, 4, 3, 64, 128, 3, 2, 1], [5, 9, 1, 128, 128, 3, 2, 1]];
const SPLIT_4: [[usize; 8]; 2] = [[5, 33, 1, 128, 256, 3, 2, 1], [3, 4, 1, 128, 256, 3, 2, 1]];
const SHARED_FILTER: [[usize; 8]; 1] = [[1, 3, 129, 128, 256, 3, 2, 1]];
const TWO_PARTS: [[usize; 8]; 2] = [[2, 5, 130, 128, 128, 3, 2, 1], [3, 3, 140, 128, 128, 3, 2, 1]];
const FOUR_PARTS: [[usize; 8]; 2] = [[3, 5, 130, 192, 128, 3, 2, 1], [3, 3, 140, 128, 256, 3, 2, 1]];

/// As much, but for one thing that these kernels do not know.
const OTHERS: [[usize; 8]; 4] =
    [[3, 4, 3, 64, 64, 3, 1, 0], [2, 4, 3, 64, 64, 5, 1, 2], [2, 4, 3, 64, 72, 3, 1, 1], [2, 4, 3, 56, 64, 3, 1, 1]];

/// The same with inputs and outputs exchanged, as a data gradient has them.
fn exchanged([h, w, n, c, k, r, stride, padding]: [usize; 8]) -> [usize; 8] {
    [h, w, n, k, c, r, stride, padding]
}

#[test]
fn conv2d_forward_of_64_channels_matches_reference() {
    check("forward", "wgmma_64_bf16", &HALO);
}

#[test]
fn conv2d_backward_data_of_64_channels_matches_reference() {
    check("backward_data", "wgmma_64_bf16", &HALO);
}

#[test]
fn conv2d_forward_of_many_channels_matches_reference() {
    check("forward", "wgmma_wide_bf16", &WIDE);
}

#[test]
fn conv2d_backward_data_of_many_channels_matches_reference() {
    check("backward_data", "wgmma_wide_bf16", &WIDE.map(exchanged));
}

/// The same in TF32, where a line has 32 channels, and of 64 channels.
const WIDE_TF32: [[usize; 8]; 3] =
    [[3, 7, 9, 96, 128, 3, 1, 1], [2, 2, 70, 32, 256, 3, 1, 1], [3, 25, 8, 32, 64, 3, 1, 1]];

#[test]
fn conv2d_forward_of_many_channels_in_tf32_matches_reference() {
    check("forward", "wgmma_wide_tf32", &WIDE_TF32);
}

#[test]
fn conv2d_backward_data_of_many_channels_in_tf32_matches_reference() {
    check("backward_data", "wgmma_wide_tf32", &WIDE_TF32.map(exchanged));
}

#[test]
fn conv2d_forward_of_images_of_a_pixel_matches_reference() {
    check("forward", "wgmma_128x64_bf16", &PIXELS_64);
    check("forward", "wgmma_128x128_bf16", &PIXELS_128);
}

#[test]
fn conv2d_backward_data_of_images_of_a_pixel_matches_reference() {
    check("backward_data", "wgmma_128x64_bf16", &PIXELS_64.map(exchanged));
    check("backward_data", "wgmma_128x128_bf16", &PIXELS_128.map(exchanged));
}

#[test]
fn conv2d_of_images_of_a_pixel_by_clusters_matches_reference() {
    let [shared] = SHARED_FILTER;
    let clusters = [
        ("split2", SPLIT_2),
        ("split4", SPLIT_4),
        ("pair", [shared, exchanged(shared)]),
        ("pair_split2", TWO_PARTS),
        ("pair_split4", FOUR_PARTS),
    ];
    for (cluster, [forward, backward]) in clusters {
        check("forward", &format!("wgmma_128x128_{cluster}_bf16"), &[forward]);
        check("backward_data", &format!("wgmma_128x128_{cluster}_bf16"), &[backward]);
        // In TF32 half of the channels have as many lines.
        let ([h, w, n, c, k, ..], [.., d_y, _, _, _]) = (forward, backward);
        check("forward", &format!("wgmma_128x128_{cluster}_tf32"), &[[h, w, n, c / 2, k, 3, 2, 1]]);
        let [h, w, n, c, ..] = backward;
        check("backward_data", &format!("wgmma_128x128_{cluster}_tf32"), &[[h, w, n, c, d_y / 2, 3, 2, 1]]);
    }
}

#[test]
fn conv2d_of_images_of_a_pixel_in_tf32_matches_reference() {
    check("forward", "wgmma_128x64_tf32", &[PIXELS_64[0], [2, 3, 32, 96, 64, 3, 2, 1]]);
    check("backward_data", "wgmma_128x64_tf32", &[exchanged(PIXELS_64[0]), [2, 3, 32, 64, 96, 3, 2, 1]]);
    check("forward", "wgmma_128x128_tf32", &PIXELS_128[..1]);
    check("backward_data", "wgmma_128x128_tf32", &[exchanged(PIXELS_128[0])]);
}

/// Weight gradients: an image of one row, whose taps above and below see nothing; more channels, a batch that no step
/// divides, and parts that begin in the middle of an image; one part.
const WEIGHT: [[usize; 8]; 4] = [
    [1, 17, 9, 64, 64, 3, 1, 1],
    [9, 3, 40, 64, 128, 3, 1, 1],
    [5, 14, 8, 128, 64, 3, 1, 1],
    [2, 1, 3, 64, 64, 3, 1, 1],
];

#[test]
fn conv2d_backward_weight_matches_reference() {
    check("backward_weight", "wgmma", &WEIGHT);
}

/// Strides: an image of one row of results; rows of x outside above and below, or above alone; more channels, and a batch
/// that no step divides.
const WEIGHT_STRIDED: [[usize; 8]; 3] =
    [[2, 3, 130, 64, 64, 3, 2, 1], [7, 4, 9, 64, 128, 3, 2, 1], [4, 5, 70, 128, 64, 3, 2, 1]];

#[test]
fn conv2d_backward_weight_of_strides_matches_reference() {
    check("backward_weight", "wgmma", &WEIGHT_STRIDED);
}

/// Clusters of two, four and eight blocks: some that have no step, and several clusters.
#[test]
fn conv2d_backward_weight_by_clusters_matches_reference() {
    check("backward_weight", "wgmma_cluster2", &[[2, 15, 9, 64, 64, 3, 1, 1]]);
    check("backward_weight", "wgmma_cluster4", &[[4, 15, 9, 64, 64, 3, 1, 1], [12, 15, 9, 64, 64, 3, 1, 1]]);
    check("backward_weight", "wgmma_cluster8", &[[7, 15, 9, 64, 64, 3, 1, 1], [16, 1, 129, 64, 64, 3, 2, 1]]);
}

#[test]
fn other_convolutions_take_another_tier() {
    check("forward", "mma", &OTHERS);
    check("backward_weight", "mma", &OTHERS[..2]);
    check("backward_weight", "mma", &[[4, 5, 130, 64, 64, 3, 3, 1]]);
    check("forward", "mma_64x64_tf32", &OTHERS[..2]);
}
