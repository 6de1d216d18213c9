//! The head of many classes by Hopper's warpgroups: every loss, both tiles, odd sizes, several tiles a block and chunks.

use crate::check_on;
use crate::device::TestDevice;
use crate::margin_softmax::{kept, made, of_bent_others, one_of_each_scale, pairs};
use sphereface_cuda::{CudaBackend, Options, Precision};
use sphereface_tensor::op::Op;
use sphereface_tensor::{Backend, GRADIENTS, PARAMETERS, Place, Plan, Program, Step};
use sphereface_testkit::{HeadCase, HeadProducts, Workload};
use std::collections::BTreeSet;

/// Classes, embedding, batch and valid rows: one tile of either kind with tails each way; rows of a second warpgroup and of
/// a second tile, more chunks of the reduction than stages; rows that are padded for their copies.
const SMALL_TILE: [[usize; 4]; 2] = [[33, 2, 5, 4], [101, 136, 130, 129]];
const LARGE_TILE: [[usize; 4]; 3] = [[300, 36, 65, 65], [603, 300, 200, 190], [1025, 7, 3, 3]];

/// Checks the heads with directions in bf16 on a device of compute capability 9.0; returns which kernels of this tier ran.
fn check(forced: bool, cases: &[(HeadCase, [usize; 4])]) -> BTreeSet<String> {
    let Some(device) = TestDevice::hopper() else { return BTreeSet::new() };
    let options = Options { forced, ..Options::default() };
    let found =
        check_on(CudaBackend::new(device, options), cases, |(head, sizes), backend| head.check(*sizes, backend));
    let names = found.into_keys().filter_map(|name| name.strip_prefix("margin_softmax_").map(str::to_owned));
    names.filter(|name| name.contains("tiles") || name.contains("backward_weight") || name.contains("kept")).collect()
}

/// The names, where there was a device to run them.
fn assert_ran(found: &BTreeSet<String>, names: &[&str]) {
    let names: BTreeSet<String> = names.iter().map(|&name| name.to_owned()).collect();
    assert!(found.is_empty() || *found == names, "{found:?}");
}

fn bf16(heads: &[HeadCase]) -> Vec<HeadCase> {
    made(heads, HeadProducts::Bf16)
}

#[test]
fn margin_softmax_by_warpgroups_matches_reference() {
    let heads = bf16(&[&one_of_each_scale()[..], &of_bent_others()].concat());
    let found = check(true, &pairs(&heads, &SMALL_TILE));
    // Columns of the last are those of the embeddings, of which both sizes have few and many.
    let weight = ["backward_weight_wgmma_128x128_bf16", "backward_weight_wgmma_128x256_bf16"];
    let small = ["forward_tiles_wgmma_128x128_bf16", "backward_tiles_wgmma_128x128_bf16"];
    assert_ran(&found, &[&small[..], &weight].concat());
    let found = check(true, &pairs(&heads, &LARGE_TILE));
    let large = ["forward_tiles_wgmma_128x256_bf16", "backward_tiles_wgmma_128x256_bf16"];
    assert_ran(&found, &[&large[..], &weight].concat());
}

#[test]
fn every_loss_by_warpgroups_matches_reference() {
    let found = check(true, &pairs(&bf16(&HeadCase::all()), &[[140, 20, 70, 69]]));
    assert!(found.is_empty() || found.len() == 3, "{found:?}");
}

/// Several chunks of classes in both passes; more tiles than blocks.
#[test]
fn margin_softmax_by_warpgroups_over_chunks_matches_reference() {
    check(true, &pairs(&bf16(&one_of_each_scale()), &[[32_771, 3, 3, 3]]));
    check(false, &pairs(&bf16(&one_of_each_scale()[..1]), &[[33_000, 8, 130, 130]]));
}

/// Cosines that are kept: by the forward pass of this tier, for a backward pass without tiles.
#[test]
fn margin_softmax_by_warpgroups_with_kept_cosines_matches_reference() {
    let heads = kept(&bf16(&one_of_each_scale()));
    let found = check(true, &pairs(&heads, &[SMALL_TILE[1], LARGE_TILE[0], [32_771, 3, 3, 3]]));
    let names = [
        "forward_tiles_wgmma_128x128_bf16",
        "forward_tiles_wgmma_128x256_bf16",
        "backward_kept_bf16",
        "backward_weight",
    ];
    assert_ran(&found, &names);
}

/// Cosines of exactly ±1 and on both sides of where a margin changes.
#[test]
fn margin_softmax_by_warpgroups_matches_reference_at_boundary_cosines() {
    let Some(device) = TestDevice::hopper() else { return };
    let backend = CudaBackend::new(device, Options { forced: true, ..Options::default() });
    check_on(backend, &bf16(&HeadCase::all()), |head, backend| head.check_boundary_cosines(40, backend));
}

/// Slopes and directions that the forward pass leaves to a backward pass of the same plan are those that one on its own makes.
#[test]
fn a_backward_pass_takes_what_a_forward_pass_left() {
    let [classes, dimension, batch] = [300, 36, 65];
    let (parameters, mut whole) = Workload::Head { classes, dimension, batch }.plan().unwrap();
    for buffer in whole.buffers.iter_mut().filter(|buffer| buffer.place == Place::Arena) {
        buffer.place = Place::Persistent;
    }
    let is_backward = |step: &Step| matches!(step.op, Op::MarginSoftmaxBackward(_));
    let first = whole.steps.iter().position(is_backward).unwrap();
    let (mut forward, mut backward) = (whole.clone(), whole.clone());
    backward.steps = forward.steps.split_off(first);
    let gradients = |plans: &[&Plan]| {
        let options = Options { precision: Precision::Bf16, forced: true, ..Options::default() };
        let mut backend = CudaBackend::new(TestDevice::hopper()?, options);
        let programs: Vec<Program> = plans.iter().map(|plan| backend.lower(plan).unwrap()).collect();
        backend.upload(PARAMETERS, bytemuck::cast_slice(&parameters.initial(1))).unwrap();
        let labels: Vec<u32> = (0..batch).map(|row| (row * 7 % classes) as u32).collect();
        backend.upload("labels", bytemuck::cast_slice(&labels)).unwrap();
        backend.upload("count", bytemuck::bytes_of(&(batch as u32))).unwrap();
        // Twice, the second time by a graph.
        (0..2).for_each(|_| programs.iter().for_each(|&program| backend.run(program, 1).unwrap()));
        let mut gradients = vec![0.0f32; parameters.length()];
        backend.download(GRADIENTS, bytemuck::cast_slice_mut(&mut gradients)).unwrap();
        let makes_again = backend.driver().launches.contains_key("margin_softmax_backward_rows");
        Some((gradients, makes_again))
    };
    let Some((together, makes_again)) = gradients(&[&whole]) else { return };
    let Some((apart, makes)) = gradients(&[&forward, &backward]) else { return };
    assert!(together.iter().any(|&value| value != 0.0) && together == apart);
    assert_eq!([makes_again, makes], [false, true]);
}
