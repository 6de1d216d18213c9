//! Writes a report of made-up sample data into a folder, to look at the page without training anything:
//! `cargo run -p sphereface-report --example sample -- <folder>`.

use std::path::PathBuf;

use sphereface_report::{
    DatasetInfo, Embeddings, EpochRecord, Film, Frame, Images, LayerInfo, LayerKind, LossInfo, NetworkInfo, Report,
    StepRecord, Training,
};

const CLASSES: usize = 10;
const IMAGES: usize = 10_000;
const EPOCHS: usize = 5;
/// Test images whose embeddings are filmed, and moments of an epoch.
const FILMED: usize = 1_000;
const FRAMES_PER_EPOCH: usize = 4;

/// Key, title, spread of the angles around the class weight at two dimensions in degrees.
const LOSSES: [(&str, &str, f64); 3] = [
    ("softmax", "Original softmax", 7.0),
    ("modified", "Modified softmax", 5.5),
    ("sphereface", "A-Softmax (SphereFace), m = 4", 2.6),
];

/// A small generator (xorshift64*), so that the sample is the same everywhere.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().max(1e-300).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

fn main() -> Result<(), sphereface_report::Error> {
    let folder = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("sample-report"), PathBuf::from);
    let seeds = std::env::args().nth(2).and_then(|n| n.parse().ok()).unwrap_or(3);
    // What `trainer losses --json` tells: the losses are not made up.
    let losses = serde_json::from_str(include_str!("losses.json")).map_err(sphereface_report::Error::Encode)?;
    let report = sample(seeds, losses);
    report.write(&folder)?;
    print!("{}", report.terminal_table());
    println!("\nwrote {}", folder.join("report.html").display());
    Ok(())
}

fn sample(seeds: u64, losses: Vec<LossInfo>) -> Report {
    let mut trainings = Vec::new();
    for dim in [2, 3] {
        for loss in 0..LOSSES.len() {
            for seed in 1..=seeds {
                trainings.push(training(loss, dim, seed));
            }
        }
    }
    let total_seconds = trainings.iter().map(|t| t.seconds).sum();
    Report {
        title: "SphereFace on MNIST: sample data".to_string(),
        dataset: DatasetInfo {
            name: "Sample data".to_string(),
            note: "Made up by the example program; no image was seen.".to_string(),
            train_images: 60_000,
            test_images: IMAGES,
            held_out: false,
            comparable: false,
            classes: CLASSES,
            sha256: "0".repeat(64),
        },
        network: NetworkInfo {
            name: "SphereFace-10, quarter width".to_string(),
            summary: "Stages of 16, 32, 64, 128 channels, one residual unit each, 28 → 14 → 7 → 4 → 2, then a linear \
                      layer to the embedding"
                .to_string(),
            parameters: 402_118,
            multiply_adds: 5_010_000,
            layers: layers(),
        },
        machine: "no machine: sample data".to_string(),
        command: "cargo run -p sphereface-report --example sample -- sample-report".to_string(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        threads: 2,
        total_seconds,
        images: Some(images()),
        losses,
        trainings,
    }
}

/// A small network with made-up times.
fn layers() -> Vec<LayerInfo> {
    let mut layers: Vec<LayerInfo> = Vec::new();
    let mut add =
        |name: &str, kind: LayerKind, skip: Option<&str>, output: [usize; 3], costs: [usize; 2], time: f64| {
            let before = layers.last().map(|layer| layer.name.clone());
            layers.push(LayerInfo {
                name: name.to_string(),
                kind,
                prelu: matches!(kind, LayerKind::Convolution { .. }),
                reads: before.into_iter().chain(skip.map(str::to_string)).collect(),
                output,
                parameters: costs[0] as u64,
                multiply_adds: costs[1] as u64,
                activation_bytes: 4 * output.iter().product::<usize>() as u64,
                parameter_bytes: 4 * costs[0] as u64,
                time: Some(time),
            });
        };
    add("input", LayerKind::Input, None, [28, 28, 1], [0, 0], 0.02);
    let (mut side, mut inputs) = (28_usize, 1);
    for (index, channels) in [16, 32, 64, 128].into_iter().enumerate() {
        side = side.div_ceil(2);
        let name = |layer: &str| format!("stage{}.{layer}", index + 1);
        let products = |inputs: usize| 9 * inputs * channels;
        let output = [side, side, channels];
        let kind = |stride| LayerKind::Convolution { size: 3, stride };
        let costs = |inputs| [products(inputs) + 2 * channels, side * side * products(inputs)];
        add(&name("conv"), kind(2), None, output, costs(inputs), 0.05);
        add(&name("unit1.conv1"), kind(1), None, output, costs(channels), 0.09);
        add(&name("unit1.conv2"), kind(1), Some(&name("conv")), output, costs(channels), 0.09);
        inputs = channels;
    }
    add("embedding", LayerKind::Linear, None, [1, 1, 3], [128 * 4 * 3 + 3, 128 * 4 * 3], 0.03);
    add("classifier", LayerKind::Classifier, None, [1, 1, CLASSES], [30, 30], 0.03);
    layers
}

fn training(loss: usize, dim: usize, seed: u64) -> Training {
    let (key, title, spread) = LOSSES[loss];
    let mut random = Random(0x9e37_79b9 + 7919 * seed + 104_729 * loss as u64 + dim as u64);
    let embeddings = embeddings(&mut random, loss, dim, spread);
    let film = film(&mut random, &embeddings, dim);
    let wrong = embeddings.labels.iter().zip(&embeddings.predictions).filter(|(l, p)| l != p).count();
    let test_accuracy = 1.0 - wrong as f64 / IMAGES as f64;
    let steps: Vec<StepRecord> = (0..390).map(|i| step(&mut random, loss, i)).collect();
    let epochs_log = (1..=EPOCHS)
        .map(|epoch| EpochRecord {
            epoch,
            test_accuracy: test_accuracy
                - 0.05 * (-1.3 * (epoch as f64 - 1.0)).exp() * (1.0 - epoch as f64 / EPOCHS as f64)
                + 0.001 * random.normal() * f64::from(u8::from(epoch < EPOCHS)),
            train_loss: steps[epoch * 78 - 1].loss,
        })
        .collect();
    Training {
        loss: key.to_string(),
        title: title.to_string(),
        embedding_dim: dim,
        seed,
        epochs: EPOCHS,
        seconds: 72.0 + 5.0 * random.uniform(),
        train_accuracy: (test_accuracy + 0.003).min(1.0),
        test_accuracy,
        // Only the original softmax loses something without its class norms.
        test_accuracy_cosines: if key == "softmax" { test_accuracy - 0.3 } else { test_accuracy },
        final_train_loss: steps[389].loss,
        steps,
        epochs_log,
        embeddings: (seed == 1).then_some(embeddings),
        film: (seed == 1).then_some(film),
        guard: Vec::new(),
    }
}

/// Images that show their class as so many strokes.
fn images() -> Images {
    let pixel = |at: usize| {
        let (image, y, x) = (at / 784, at / 28 % 28, at % 28);
        let (strokes, thickness) = (image * 7 % CLASSES, 1 + image % 2);
        let stroke = (2..26).contains(&x) && y >= 3 && (y - 3) / 5 * 2 + usize::from(x >= 14) < strokes;
        if stroke && (y - 3) % 5 <= thickness { 255 - (image * 31 + at * 7) % 60 } else { 0 }
    };
    Images { height: 28, width: 28, pixels: (0..IMAGES * 784).map(|at| pixel(at) as u8).collect() }
}

fn step(random: &mut Random, loss: usize, i: usize) -> StepRecord {
    let done = i as f64 / 389.0;
    let lambda = if loss == 2 { 20.0 * (1.0 - done / 0.6).max(0.0).powi(2) } else { 0.0 };
    let noise = (0.25 * random.normal()).exp();
    let margin = if loss == 2 { 1.0 + 6.0 / (1.0 + lambda) } else { 1.0 };
    let accuracy = (1.0 - 0.9 * (-22.0 * done).exp() - 0.012 * random.uniform()).clamp(0.0, 1.0);
    StepRecord {
        step: i * 6 + 1,
        epoch: done * EPOCHS as f64,
        // One diverged step shows how a gap looks.
        loss: if i == 200 { f64::NAN } else { (2.3 * (-20.0 * done).exp() + 0.03 * margin) * noise },
        accuracy,
        accuracy_penalised: (accuracy - 0.05 * (margin - 1.0)).max(0.0),
        rate: 0.05
            * if done < 0.15 { done / 0.15 } else { 0.5 + 0.5 * (std::f64::consts::PI * (done - 0.15) / 0.85).cos() },
        lambda,
        gradient_norm: 3.0 * noise * (-2.0 * done).exp(),
        feature_norm: (1.0 + 30.0 * done) * noise.powf(0.2),
    }
}

fn embeddings(random: &mut Random, loss: usize, dim: usize, spread: f64) -> Embeddings {
    let mut weights: Vec<Vec<f64>> = Vec::new();
    for class in 0..CLASSES {
        // Even directions: around the circle, or along Fibonacci's spiral on the sphere.
        let turn = class as f64 + 0.5;
        weights.push(if dim == 2 {
            let angle = std::f64::consts::TAU * turn / CLASSES as f64;
            vec![angle.cos(), angle.sin()]
        } else {
            let height = 1.0 - 2.0 * turn / CLASSES as f64;
            let angle = turn * 2.399_963_229_728_653;
            let ring = (1.0 - height * height).sqrt();
            vec![ring * angle.cos(), height, ring * angle.sin()]
        });
    }
    let spread = spread.to_radians() * if dim == 3 { 1.3 } else { 1.0 };
    let mut found = Embeddings {
        labels: Vec::new(),
        predictions: Vec::new(),
        points: Vec::new(),
        class_weights: weights.iter().flatten().map(|&w| w as f32).collect(),
    };
    for i in 0..IMAGES {
        let label = i * 7 % CLASSES;
        // One image in ninety looks like another class, whatever the loss.
        let stray = random.uniform() < 0.011;
        let seen = if stray { (label + 1 + i % 9) % CLASSES } else { label };
        let mut point: Vec<f64> = weights[seen].iter().map(|w| w + spread * random.normal()).collect();
        let cosine = |w: &Vec<f64>| w.iter().zip(&point).map(|(w, x)| w * x).sum::<f64>();
        let best = (0..CLASSES).max_by(|&a, &b| cosine(&weights[a]).total_cmp(&cosine(&weights[b])));
        let length =
            30.0 * (1.0 + 0.25 * random.normal()).abs() / if stray { 3.0 } else { 1.0 } * (1.0 + 0.6 * loss as f64);
        point.iter_mut().for_each(|x| *x *= length);
        found.labels.push(label as u8);
        found.predictions.push(best.unwrap_or(label) as u8);
        found.points.extend(point.iter().map(|&x| x as f32));
    }
    found
}

/// From noise around the origin, in a spiral that grows and sorts itself, to the embeddings as they are at the end.
fn film(random: &mut Random, embeddings: &Embeddings, dim: usize) -> Film {
    let last = EPOCHS * FRAMES_PER_EPOCH;
    let values = FILMED * dim;
    let noise: Vec<f64> = (0..values).map(|_| random.normal()).collect();
    let frame = |i: usize| {
        let done = i as f64 / last as f64;
        // Length, order and turn come to their end one after the other; at the end all of them are exact.
        let (length, order) = (1.0 - (1.0 - done).powi(3), 1.0 - (1.0 - done).powi(5));
        let (sin, cos) = (2.5 * (1.0 - done).powi(3)).sin_cos();
        let turned = |v: &mut [f64]| {
            let (x, z) = (v[0], v[dim - 1]);
            (v[0], v[dim - 1]) = (x * cos - z * sin, x * sin + z * cos);
        };
        let mut points: Vec<f64> = embeddings.points[..values]
            .iter()
            .zip(&noise)
            .map(|(&x, n)| (0.02 + 0.98 * length) * (order * f64::from(x) + (1.0 - order) * 30.0 * n))
            .collect();
        points.chunks_exact_mut(dim).for_each(turned);
        let mut class_weights: Vec<f64> = embeddings.class_weights.iter().map(|&w| f64::from(w)).collect();
        class_weights.chunks_exact_mut(dim).for_each(turned);
        let narrow = |values: Vec<f64>| values.into_iter().map(|v| v as f32).collect();
        Frame {
            epoch: i as f64 / FRAMES_PER_EPOCH as f64,
            points: narrow(points),
            class_weights: narrow(class_weights),
        }
    };
    Film { frames: (0..=last).map(frame).collect() }
}
