//! The fused head.

use crate::check_each;
use sphereface_cuda::nvrtc::Architecture;
use sphereface_cuda::{CudaBackend, EmulatorDriver, Options, Precision};
use sphereface_models::margin::SphereFace;
use sphereface_tensor::op::{Margin, Scale, TargetLogit};
use sphereface_testkit::cases::margin_softmax_forward_of;
use sphereface_testkit::{HeadCase, prepare_case};
use std::sync::Arc;

/// Classes, embedding, batch and valid rows of heads whose logits are the lanes of a warp.
const SMALL: [[usize; 4]; 7] =
    [[10, 2, 128, 128], [10, 3, 33, 20], [2, 2, 1, 1], [17, 64, 5, 5], [32, 33, 9, 8], [10, 512, 3, 3], [3, 1, 17, 0]];

/// The same of heads whose logits exist a tile at a time: tails of tiles of 128 rows and 64 classes, one row, rows that no
/// vectors fill, padded rows, weights too large for the small head, several splits of both products' reductions.
const LARGE: [[usize; 4]; 5] =
    [[33, 2, 5, 4], [64, 20, 130, 129], [1025, 7, 3, 3], [600, 36, 65, 65], [12, 1025, 2, 2]];

fn one_of_each_scale() -> [HeadCase; 3] {
    [
        HeadCase::new(SphereFace::new(4), Scale::FeatureNorm, 5.0),
        HeadCase::new(SphereFace::new(3), Scale::Constant(8.0), 1.0),
        HeadCase::new(SphereFace::new(2), Scale::InnerProduct, 0.5),
    ]
}

/// Each head with each of the sizes.
fn pairs(heads: &[HeadCase], sizes: &[[usize; 4]]) -> Vec<(HeadCase, [usize; 4])> {
    heads.iter().flat_map(|head| sizes.iter().map(|&sizes| (head.clone(), sizes))).collect()
}

fn check_all(cases: &[(HeadCase, [usize; 4])]) {
    check_each(Options::default(), cases, |(head, sizes), backend| head.check(*sizes, backend));
}

#[test]
fn margin_softmax_of_few_classes_matches_reference() {
    check_all(&pairs(&HeadCase::all(), &SMALL));
}

#[test]
fn margin_softmax_of_many_classes_matches_reference() {
    check_all(&pairs(&HeadCase::all(), &LARGE));
}

#[test]
fn margin_softmax_matches_reference_at_boundary_cosines() {
    check_each(Options::default(), &HeadCase::all(), |head, backend| {
        [2, 40].map(|classes| head.check_boundary_cosines(classes, backend)).into_iter().fold(0.0, f64::max)
    });
}

/// Several chunks of classes backward; several tiles a split forward; so many rows that their sums have two levels.
#[test]
fn margin_softmax_over_chunks_and_splits_matches_reference() {
    let heads = one_of_each_scale();
    let mut cases = pairs(&heads, &[[8200, 4, 3, 3]]);
    cases.extend(pairs(&heads[..1], &[[6800, 2, 513, 500], [34, 2, 4100, 4099]]));
    check_all(&cases);
}

/// On tensor cores: tails of the reduction's chunks of 32, of tiles of rows and classes, and of copies of four classes.
#[test]
fn margin_softmax_of_many_classes_in_tf32_matches_reference() {
    let options = Options { precision: Precision::Tf32, ..Options::default() };
    let cases = pairs(&one_of_each_scale(), &[[33, 4, 5, 4], [64, 20, 130, 129], [603, 36, 65, 65], [8200, 4, 3, 3]]);
    check_each(options, &cases, |(head, sizes), backend| head.check_rounded(*sizes, backend));
}

#[test]
fn a_margin_without_a_header_is_refused() {
    #[derive(Debug)]
    struct Unwritten;
    impl Margin for Unwritten {
        fn name(&self) -> &'static str {
            "unwritten"
        }
        fn target(&self, cos_theta: f64, _lambda: f64) -> TargetLogit {
            TargetLogit { value: cos_theta, slope: 1.0 }
        }
    }
    let mut backend = CudaBackend::new(EmulatorDriver::new(Architecture::new(80)), Options::default());
    let margin: Arc<dyn Margin> = Arc::new(Unwritten);
    let case = margin_softmax_forward_of(&margin, Scale::FeatureNorm, 0.0, [10, 2, 3, 3]);
    let error = prepare_case(&case, &mut backend).unwrap_err().to_string();
    assert!(error.contains("margin unwritten: expected kernels/margin/unwritten.cuh"), "{error}");
}
