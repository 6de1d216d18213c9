//! Properties that hold for any sizes, on random ones.

use proptest::prelude::*;
use sphereface_tensor::cpu::CpuBackend;
use sphereface_tensor::op::{Advance, Augmentation, GatherBatch};
use sphereface_tensor::{Backend, Dim, ParameterSet, PlanBuilder, Shape, Type};
use sphereface_testkit::{cases, check_case};

/// Height, width, batch, inputs, outputs, filter, stride, padding of a convolution whose filter fits.
fn convolution() -> impl Strategy<Value = [usize; 8]> {
    let sizes = (1usize..9, 1usize..9, 1usize..40, 1usize..20, 1usize..35);
    let filter = (prop_oneof![Just(1usize), Just(3), Just(5)], 1usize..4, 0usize..4);
    (sizes, filter).prop_map(|((height, width, batch, inputs, outputs), (taps, stride, padding))| {
        let least = taps.saturating_sub(2 * padding);
        [height.max(least), width.max(least), batch, inputs, outputs, taps, stride, padding]
    })
}

/// The same of one that Winograd's algorithm may compute.
fn winograd_convolution() -> impl Strategy<Value = [usize; 8]> {
    (2usize..9, 2usize..9, 1usize..24, 2usize..4, 2usize..4)
        .prop_map(|(height, width, batch, inputs, outputs)| [height, width, batch, 16 * inputs, 16 * outputs, 3, 1, 1])
}

/// Labels and first pixels of the rows of each batch, and how many rows count.
fn gathered(op: GatherBatch, images: usize, steps: usize) -> Vec<(Vec<u32>, Vec<f32>, usize)> {
    let parameters = ParameterSet::default();
    let mut plan = PlanBuilder::new(&parameters);
    let pixels = op.image.iter().product();
    let kind = Type::u8(Shape::matrix((Dim::Images, images), (Dim::Length, pixels)));
    let bytes = plan.persistent("images", kind);
    let labels = plan.persistent("labels", Type::u8(Shape::vector(Dim::Images, images)));
    let counter = plan.persistent("counter", Type::u32(Shape::vector(Dim::Length, 1)));
    let batch = plan.push(op, &[bytes, labels, counter], &[]).unwrap();
    for (buffer, name) in batch.into_iter().zip(["x", "batch labels", "count"]) {
        plan.keep(buffer, name);
    }
    plan.push(Advance, &[], &[counter]).unwrap();
    let mut backend = CpuBackend::new(1).unwrap();
    let program = backend.lower(&plan.finish()).unwrap();
    // Image i is of class i and all its bytes are i.
    let each = |times: usize| (0..images).flat_map(|i| vec![i as u8; times]).collect::<Vec<u8>>();
    backend.upload("images", &each(pixels)).unwrap();
    backend.upload("labels", &each(1)).unwrap();
    let mut batches = Vec::new();
    for _ in 0..steps {
        backend.run(program, 1).unwrap();
        let (mut labels, mut count) = (vec![0u32; op.batch], [0u32]);
        let mut x = vec![0f32; pixels * op.batch];
        backend.download("batch labels", bytemuck::cast_slice_mut(&mut labels)).unwrap();
        backend.download("count", bytemuck::cast_slice_mut(&mut count)).unwrap();
        backend.download("x", bytemuck::cast_slice_mut(&mut x)).unwrap();
        x.truncate(op.batch); // the first pixel of every row, which is one channel
        batches.push((labels, x, count[0] as usize));
    }
    batches
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_pass_of_any_convolution_matches_the_reference(sizes in convolution(), threads in 1usize..4) {
        let mut backend = CpuBackend::new(threads).unwrap();
        cases::conv2d_passes(sizes).iter().for_each(|case| _ = check_case(case, &mut backend));
    }

    #[test]
    fn every_pass_by_winograd_matches_the_reference(sizes in winograd_convolution(), threads in 1usize..4) {
        let mut backend = CpuBackend::new(threads).unwrap();
        cases::conv2d_passes(sizes).iter().for_each(|case| _ = check_case(case, &mut backend));
    }

    #[test]
    fn every_epoch_visits_each_image_once_in_an_order_of_its_own(
        images in 1usize..=256,
        batch in 1usize..60,
        seed in any::<u64>(),
        shift in 0u32..2,
    ) {
        let augmentation = Augmentation { shift, mirror: shift == 1 };
        let op = GatherBatch { image: [3, 2, 1], batch, seed, shuffle: true, augmentation, offset: 0.0, factor: 1.0 };
        let batches = gathered(op, images, (2 * images).div_ceil(batch));
        let mut visited = Vec::new();
        for (labels, x, count) in &batches {
            prop_assert_eq!(*count, batch);
            for (&label, &x) in labels.iter().zip(x) {
                // Label and pixels belong together; what a shift brings in is background.
                prop_assert!(x == label as f32 || shift > 0 && x == 0.0, "label {} with pixel {}", label, x);
                visited.push(label as usize);
            }
        }
        let epochs: Vec<&[usize]> = visited.chunks_exact(images).take(2).collect();
        for epoch in &epochs {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            prop_assert!(sorted.into_iter().eq(0..images));
        }
        // Two of 20! orders are never the same, and neither is the data's own.
        prop_assert!(images < 20 || epochs[0] != epochs[1] && !epochs[0].is_sorted());
    }

    #[test]
    fn batches_in_order_cover_the_data_once_and_mark_the_rest(images in 1usize..=256, batch in 1usize..60) {
        let augmentation = Augmentation::default();
        let op =
            GatherBatch { image: [1, 2, 1], batch, seed: 1, shuffle: false, augmentation, offset: 0.0, factor: 1.0 };
        let mut visited = Vec::new();
        for (labels, x, count) in gathered(op, images, images.div_ceil(batch) + 1) {
            visited.extend(labels[..count].iter().map(|&label| label as usize));
            prop_assert!(labels.iter().zip(&x).all(|(&label, &x)| x == label as f32));
            prop_assert!(labels[count..].iter().all(|&label| label as usize == images - 1));
        }
        prop_assert!(visited.into_iter().eq(0..images));
    }
}
