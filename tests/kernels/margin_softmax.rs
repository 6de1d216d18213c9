//! The fused head.

use crate::check_each;
use sphereface_cuda::nvrtc::Architecture;
use sphereface_cuda::{CudaBackend, EmulatorDriver, Options, Precision, Tier};
use sphereface_models::loss;
use sphereface_models::margin::SphereFace;
use sphereface_tensor::op::{Bent, Margin, MarginSoftmax, Scale};
use sphereface_testkit::cases::margin_softmax_forward_of;
use sphereface_testkit::{HeadCase, HeadProducts, prepare_case};
use std::sync::Arc;

/// Classes, embedding, batch and valid rows of heads whose logits are the lanes of a warp.
const SMALL: [[usize; 4]; 7] =
    [[10, 2, 128, 128], [10, 3, 33, 20], [2, 2, 1, 1], [17, 64, 5, 5], [32, 33, 9, 8], [10, 512, 3, 3], [3, 1, 17, 0]];

/// The same of heads whose logits exist a tile at a time: tails of tiles of 128 rows and 64 classes, one row, rows that no
/// vectors fill, padded rows, weights too large for the small head, several splits of both products' reductions.
const LARGE: [[usize; 4]; 5] =
    [[33, 2, 5, 4], [64, 20, 130, 129], [1025, 7, 3, 3], [600, 36, 65, 65], [12, 1025, 2, 2]];

/// The same for directions in bf16: no class or row that fills a tile, embeddings that fill no copy, or more than one of
/// the reduction's chunks.
const BF16: [[usize; 4]; 4] = [[33, 2, 5, 4], [1025, 7, 3, 3], [603, 36, 65, 65], [40, 136, 9, 9]];

pub(crate) fn one_of_each_scale() -> [HeadCase; 3] {
    [
        HeadCase::new(SphereFace::new(4), Scale::FeatureNorm, 5.0),
        HeadCase::new(SphereFace::new(3), Scale::Constant(8.0), 1.0),
        HeadCase::new(SphereFace::new(2), Scale::InnerProduct, 0.5),
    ]
}

/// A softmax and a loss of yes and no that bend the cosines of the other classes.
pub(crate) fn of_bent_others() -> Vec<HeadCase> {
    let heads = ["sphereface-r-v2", "sphereface2"].into_iter().filter_map(loss);
    heads.map(|loss| HeadCase::of(loss.head(10), 0.0)).collect()
}

/// Each head with each of the sizes.
pub(crate) fn pairs(heads: &[HeadCase], sizes: &[[usize; 4]]) -> Vec<(HeadCase, [usize; 4])> {
    heads.iter().flat_map(|head| sizes.iter().map(|&sizes| (head.clone(), sizes))).collect()
}

/// The same heads with products made so.
pub(crate) fn made(heads: &[HeadCase], products: HeadProducts) -> Vec<HeadCase> {
    heads.iter().map(|head| HeadCase { products, ..head.clone() }).collect()
}

/// The same heads with cosines that are kept.
pub(crate) fn kept(heads: &[HeadCase]) -> Vec<HeadCase> {
    heads.iter().filter(|head| head.head.is_plain()).map(|head| HeadCase { kept: true, ..head.clone() }).collect()
}

fn check_all(cases: &[(HeadCase, [usize; 4])]) {
    check_with(Options::default(), cases);
}

fn check_with(options: Options, cases: &[(HeadCase, [usize; 4])]) {
    check_each(options, cases, |(head, sizes), backend| head.check(*sizes, backend));
}

#[test]
fn margin_softmax_of_few_classes_matches_reference() {
    check_all(&pairs(&HeadCase::all(), &SMALL));
}

#[test]
fn margin_softmax_of_many_classes_matches_reference() {
    let (every, rest) = LARGE.split_at(2);
    let mut cases = pairs(&HeadCase::all(), every);
    cases.extend(pairs(&one_of_each_scale(), rest));
    cases.extend(pairs(&of_bent_others(), rest));
    check_all(&cases);
}

#[test]
fn margin_softmax_matches_reference_at_boundary_cosines() {
    check_each(Options::default(), &HeadCase::all(), |head, backend| {
        [2, 40].map(|classes| head.check_boundary_cosines(classes, backend)).into_iter().fold(0.0, f64::max)
    });
    let rounded = made(&HeadCase::all(), HeadProducts::Bf16);
    for heads in [kept(&HeadCase::all()), kept(&rounded), rounded] {
        check_each(Options::default(), &heads, |head, backend| head.check_boundary_cosines(40, backend));
    }
}

/// Several chunks of classes backward; several tiles a split forward; so many rows that their sums have two levels.
#[test]
fn margin_softmax_over_chunks_and_splits_matches_reference() {
    let heads = one_of_each_scale();
    let mut cases = pairs(&heads, &[[8200, 4, 3, 3]]);
    cases.extend(pairs(&heads[..1], &[[6800, 2, 513, 500], [34, 2, 4100, 4099]]));
    check_all(&cases);
}

/// On tensor cores: tails of the reduction's chunks of 32, of tiles of rows and classes, and of copies of four classes; few
/// classes, which are fp32.
#[test]
fn margin_softmax_of_many_classes_in_tf32_matches_reference() {
    let options = Options { precision: Precision::Tf32, ..Options::default() };
    let sizes = [[33, 4, 5, 4], [64, 20, 130, 129], [603, 36, 65, 65], [8200, 4, 3, 3], [12, 1028, 2, 2]];
    check_with(options, &pairs(&made(&one_of_each_scale(), HeadProducts::Tf32), &sizes));
}

/// Directions in bf16, on tensor cores: tails of the reduction's chunks of 64, and rows that are padded for their copies.
#[test]
fn margin_softmax_of_many_classes_in_bf16_matches_reference() {
    let mut cases = pairs(&made(&HeadCase::all(), HeadProducts::Bf16), &[[64, 20, 130, 129]]);
    cases.extend(pairs(&made(&one_of_each_scale(), HeadProducts::Bf16), &BF16));
    check_with(Options::default(), &cases);
}

#[test]
fn margin_softmax_in_bf16_without_tensor_cores_matches_reference() {
    let options = Options { tier: Tier::Simt, ..Options::default() };
    check_with(options, &pairs(&made(&one_of_each_scale(), HeadProducts::Bf16), &BF16));
}

/// Several chunks of classes in both passes; several tiles a split forward.
#[test]
fn margin_softmax_in_bf16_over_chunks_and_splits_matches_reference() {
    let heads = made(&one_of_each_scale()[..1], HeadProducts::Bf16);
    check_with(Options::default(), &pairs(&kept(&heads), &[[16_387, 3, 3, 3]]));
    check_with(Options::default(), &pairs(&heads, &[[5200, 8, 513, 500]]));
}

#[test]
fn margin_softmax_with_kept_cosines_matches_reference() {
    let exact = kept(&HeadCase::all());
    check_with(Options::default(), &pairs(&exact, &[[33, 2, 5, 4], [70, 20, 130, 129]]));
    check_with(Options::default(), &pairs(&kept(&one_of_each_scale()), &[[8203, 3, 3, 3]]));
    let tf32 = Options { precision: Precision::Tf32, ..Options::default() };
    check_with(tf32, &pairs(&kept(&made(&one_of_each_scale(), HeadProducts::Tf32)), &[[603, 20, 65, 65]]));
    let bf16 = kept(&made(&one_of_each_scale(), HeadProducts::Bf16));
    check_with(Options::default(), &pairs(&bf16, &[[33, 2, 5, 4], [603, 36, 65, 65]]));
    check_with(Options { tier: Tier::Simt, ..Options::default() }, &pairs(&bf16, &[[33, 2, 5, 4]]));
}

#[test]
fn a_margin_without_a_header_is_refused() {
    #[derive(Debug)]
    struct Unwritten;
    impl Margin for Unwritten {
        fn name(&self) -> &'static str {
            "unwritten"
        }
        fn target(&self, cos_theta: f64, _lambda: f64) -> Bent {
            Bent::straight(cos_theta)
        }
    }
    let mut backend = CudaBackend::new(EmulatorDriver::new(Architecture::new(80)), Options::default());
    let head = MarginSoftmax::new(10, Arc::new(Unwritten), Scale::FeatureNorm);
    let case = margin_softmax_forward_of(&head, 0.0, [10, 2, 3, 3]);
    let error = prepare_case(&case, &mut backend).unwrap_err().to_string();
    assert!(error.contains("margin unwritten: expected kernels/margin/unwritten.cuh"), "{error}");
}
