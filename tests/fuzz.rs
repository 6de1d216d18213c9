//! Damaged files and senseless networks end in an error or a result, never in a panic or in memory that a few bytes claim.
//!
//! `cargo xtask soak` runs the same tests on a million inputs.

use flate2::Compression;
use flate2::write::GzEncoder;
use sphereface_data::{Choice, Locations, load};
use sphereface_models::{ImageSource, LOSSES, Model, Network, Training};
use sphereface_tensor::op::{Augmentation, Logits, MarginSoftmax, Rule};
use sphereface_tensor::{Backend, cpu::CpuBackend};
use sphereface_testkit::fuzz::{Random, bounded, inputs, mutated};
use std::fs;
use std::io::Write;
use std::path::Path;

/// The header of an IDX file with these sizes, and `length` bytes of content.
fn idx(sizes: &[u32], length: usize) -> Vec<u8> {
    let mut file = vec![0, 0, 8, sizes.len() as u8];
    sizes.iter().for_each(|size| file.extend(size.to_be_bytes()));
    file.extend((0..length).map(|at| (at % 10) as u8));
    file
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Images and labels of a sound set, raw and packed, and claims of 4 GB in a few bytes.
fn corpus() -> Vec<Vec<u8>> {
    let (images, labels) = (idx(&[20, 4, 4], 320), idx(&[20], 20));
    let claims = [idx(&[u32::MAX], 22), idx(&[0x10000, 0x100, 0x100], 14), idx(&[u32::MAX; 3], 14)];
    let mut corpus = vec![gzip(&images), gzip(&labels), images, labels];
    corpus.extend(claims.iter().map(|claim| gzip(claim)));
    corpus.extend(claims);
    corpus
}

#[test]
fn damaged_idx_and_gzip_files_are_refused_or_read() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz-idx");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let corpus = corpus();
    let parts =
        ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];
    let sound = [&corpus[2], &corpus[3], &corpus[2], &corpus[3]];
    parts.iter().zip(sound).for_each(|(name, content)| fs::write(folder.join(name), content).unwrap());
    let locations = Locations { data_dir: Some(folder.clone()), ..Locations::default() };
    let read = || load(Choice::Auto, &locations, &mut |_| {});
    assert_eq!(read().unwrap().train.len(), 20, "the set is sound before it is damaged");
    let (mut random, mut refused) = (Random(1), 0);
    let count = inputs(1000);
    bounded(|| {
        for _ in 0..count {
            let part = random.below(parts.len());
            fs::write(folder.join(parts[part]), mutated(&mut random, &corpus)).unwrap();
            match read() {
                Ok(set) => assert!(set.train.len() * set.train.image_bytes() == set.train.images.len()),
                Err(error) => {
                    let line = error.to_string();
                    assert!(!line.contains('\n') && line.contains("expected"), "{line}");
                    refused += 1;
                }
            }
            fs::write(folder.join(parts[part]), sound[part]).unwrap();
        }
    });
    assert!(refused > count / 2, "{refused} of {count} refused");
}

/// A size that a careless caller may give: mostly small, sometimes 0 or absurd.
fn size(random: &mut Random, most: usize) -> usize {
    match random.below(40) {
        0 => 0,
        1 => *random.of(&[usize::MAX, usize::MAX / 2, 1 << 40, u32::MAX as usize, 1 << 20]),
        _ => 1 + random.below(most),
    }
}

fn network(random: &mut Random) -> Network {
    let image = [size(random, 12), size(random, 12), size(random, 4)];
    let mut network = Network::input(image);
    for _ in 0..random.below(4) {
        let channels = size(random, 9);
        network = network.stage(channels, random.below(3));
    }
    let dim = size(random, 5);
    network.linear(dim)
}

#[test]
fn random_networks_have_a_plan_or_an_error() {
    let mut random = Random(2);
    let count = inputs(300);
    let (mut built, mut ran, mut refused) = (0, 0, 0);
    bounded(|| {
        for _ in 0..count {
            let loss = random.of(&LOSSES);
            let logits = *random.of(&[Logits::Recompute, Logits::Kept]);
            let head = MarginSoftmax { logits, ..(loss.make)(size(&mut random, 40), &loss.stock()) };
            let model = Model { network: network(&mut random), head };
            let training = Training {
                source: ImageSource { name: "train", images: size(&mut random, 50) },
                batch: size(&mut random, 7),
                steps: size(&mut random, 9),
                seed: random.bits(),
                augmentation: Augmentation { shift: random.below(3) as u32, mirror: random.below(2) == 0 },
                rule: *random.of(&[
                    Rule::Sgd { momentum: 0.9, nesterov: true },
                    Rule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decoupled: true },
                ]),
                decay: 5e-4,
                clip: Some(5.0),
                log_rows: 4,
            };
            let plan = model.parameters().and_then(|parameters| model.training_plan(&parameters, &training));
            match plan {
                Ok(plan) => {
                    built += 1;
                    let small = plan.buffers.iter().all(|buffer| buffer.kind.shape.elements() < 1 << 16);
                    if small && built % 16 == 0 {
                        let mut backend = CpuBackend::new(1).unwrap();
                        let program = backend.lower(&plan).unwrap();
                        backend.run(program, 1).unwrap();
                        ran += 1;
                    }
                }
                Err(error) => {
                    let line = error.to_string();
                    assert!(!line.contains('\n'), "{line}");
                    refused += 1;
                }
            }
        }
    });
    assert!(built > count / 8 && ran > 0 && refused > 0, "{built} built, {ran} ran, {refused} refused");
}
