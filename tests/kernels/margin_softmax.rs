//! The fused head.

use crate::backend;
use sphereface_cuda::Options;
use sphereface_testkit::HeadCase;

/// Classes, embedding, batch and valid rows of heads whose logits are the lanes of a warp.
const SMALL: [[usize; 4]; 7] =
    [[10, 2, 128, 128], [10, 3, 33, 20], [2, 2, 1, 1], [17, 64, 5, 5], [32, 33, 9, 8], [10, 512, 3, 3], [3, 1, 17, 0]];

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
