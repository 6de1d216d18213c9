//! The fused head.

use crate::backend;
use sphereface_cuda::Options;
use sphereface_testkit::HeadCase;

/// Classes, embedding, batch and valid rows of heads whose logits are the lanes of a warp.
const SMALL: [[usize; 4]; 7] =
    [[10, 2, 128, 128], [10, 3, 33, 20], [2, 2, 1, 1], [17, 64, 5, 5], [32, 33, 9, 8], [10, 512, 3, 3], [3, 1, 17, 0]];

/// The same of heads whose logits exist a tile at a time: tails of tiles of 128 rows and 64 classes, one row, rows that no
/// vectors fill, padded rows, weights too large for the small head, several splits of both products' reductions.
const LARGE: [[usize; 4]; 6] =
    [[33, 2, 5, 4], [64, 20, 130, 129], [1025, 7, 3, 3], [700, 36, 65, 65], [12, 1025, 2, 2], [65, 512, 1, 1]];

fn check_all(sizes: &[[usize; 4]]) {
    let Some(mut backend) = backend(Options::default()) else { return };
    for head in HeadCase::all() {
        sizes.iter().for_each(|&sizes| head.check(sizes, &mut backend));
    }
}

#[test]
fn margin_softmax_of_few_classes_matches_reference() {
    check_all(&SMALL);
}

#[test]
fn margin_softmax_of_few_classes_matches_reference_at_boundary_cosines() {
    let Some(mut backend) = backend(Options::default()) else { return };
    HeadCase::all().iter().for_each(|head| head.check_boundary_cosines(2, &mut backend));
}

#[test]
fn margin_softmax_of_many_classes_matches_reference() {
    check_all(&LARGE);
}

#[test]
fn margin_softmax_of_many_classes_matches_reference_at_boundary_cosines() {
    let Some(mut backend) = backend(Options::default()) else { return };
    HeadCase::all().iter().for_each(|head| head.check_boundary_cosines(40, &mut backend));
}

/// Several chunks of classes backward; several tiles a split forward, several thousand rows of a weight's gradient.
#[test]
fn margin_softmax_over_chunks_and_splits_matches_reference() {
    let Some(mut backend) = backend(Options::default()) else { return };
    for head in [&HeadCase::all()[3], &HeadCase::all()[4], &HeadCase::all()[12]] {
        head.check([8200, 4, 3, 3], &mut backend);
    }
    HeadCase::all()[11].check([6800, 2, 513, 500], &mut backend);
    HeadCase::all()[12].check([34, 2, 4100, 4099], &mut backend);
}
