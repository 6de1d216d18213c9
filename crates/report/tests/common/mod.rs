//! A small sound report, and ways to look at what was written.

#![allow(dead_code)] // Each test file is a crate of its own and uses some of these.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use sphereface_report::{
    DatasetInfo, Embeddings, EpochRecord, Film, Frame, Images, LossInfo, NetworkInfo, Report, StepRecord, Training,
};

/// Six trainings, three losses at two and three dimensions, with embeddings of `images` test images.
pub(crate) fn report(images: usize) -> Report {
    let keys = ["softmax", "modified", "sphereface"];
    let trainings = [2, 3].iter().flat_map(|&dim| keys.map(|loss| training(loss, dim, images))).collect();
    Report {
        title: "Test".to_string(),
        dataset: DatasetInfo {
            name: "MNIST".to_string(),
            note: "Note.".to_string(),
            train_images: 60_000,
            test_images: 10_000,
            held_out: false,
            comparable: true,
            classes: 10,
            sha256: String::new(),
        },
        network: NetworkInfo {
            name: "Net".to_string(),
            summary: "Layers".to_string(),
            parameters: 1_234_567,
            multiply_adds: 5_010_000,
            layers: Vec::new(),
        },
        machine: "Machine".to_string(),
        command: "trainer compare".to_string(),
        version: "0.1.0".to_string(),
        threads: 2,
        total_seconds: 600.0,
        images: Some(strokes(images)),
        losses: losses(),
        trainings,
    }
}

/// Images with a slanted stroke each, of about as many different pixels as a digit has.
fn strokes(images: usize) -> Images {
    let pixel = |at: usize| {
        let (image, y, x) = (at / 784, at / 28 % 28, at % 28);
        let distance = x.abs_diff(8 + (y * (1 + image % 7)) / 12);
        if (4..24).contains(&y) && distance < 3 { (255 - 60 * distance - (image * 31 + at * 7) % 50) as u8 } else { 0 }
    };
    Images { height: 28, width: 28, pixels: (0..images * 784).map(pixel).collect() }
}

/// 21 frames of the first `images` images that grow to what a training's embeddings are.
fn film(dim: usize, images: usize) -> Film {
    let frame = |i: usize| {
        let grown = (1 + i) as f32 / 21.0;
        Frame {
            epoch: i as f64 / 4.0,
            points: (0..images * dim).map(|j| (j as f32 * 1.37).sin() * 40.0 * grown).collect(),
            class_weights: (0..10 * dim).map(|j| (j as f32 * 0.9 * grown).cos()).collect(),
        }
    };
    Film { frames: (0..21).map(frame).collect() }
}

/// The losses as `trainer losses --json` tells them.
fn losses() -> Vec<LossInfo> {
    serde_json::from_str(include_str!("../../examples/losses.json")).expect("the losses are JSON")
}

fn training(loss: &str, dim: usize, images: usize) -> Training {
    let steps = (0..400).map(|i| StepRecord {
        step: i,
        epoch: i as f64 / 80.0,
        loss: 2.3 / (1.0 + i as f64),
        accuracy: 1.0 - 0.9 / (1.0 + i as f64),
        accuracy_penalised: 0.5,
        rate: 0.05,
        lambda: if loss == "sphereface" { 20.0 / (1.0 + i as f64) } else { 0.0 },
        gradient_norm: 1.0,
        feature_norm: 2.0 + i as f64,
    });
    let epochs_log =
        (1..=5).map(|epoch| EpochRecord { epoch, test_accuracy: 0.99 - 0.05 / epoch as f64, train_loss: 0.1 });
    Training {
        loss: loss.to_string(),
        title: loss.to_string(),
        embedding_dim: dim,
        seed: 1,
        epochs: 5,
        seconds: 100.0,
        train_accuracy: 0.995,
        test_accuracy: 0.99,
        test_accuracy_cosines: 0.99,
        final_train_loss: 0.01,
        steps: steps.collect(),
        epochs_log: epochs_log.collect(),
        embeddings: Some(Embeddings {
            labels: (0..images).map(|i| (i % 10) as u8).collect(),
            predictions: (0..images).map(|i| (i % 10 + usize::from(i % 97 == 3)) as u8 % 10).collect(),
            points: (0..images * dim).map(|i| (i as f32 * 1.37).sin() * 40.0).collect(),
            class_weights: (0..10 * dim).map(|i| (i as f32 * 0.9).cos()).collect(),
        }),
        film: Some(film(dim, images.min(1000))),
        guard: Vec::new(),
    }
}

/// The page's data, read as a browser reads it.
pub(crate) fn json_block(page: &str) -> serde_json::Value {
    let start = page.split_once("id=\"data\">").expect("the page has a data block").1;
    let text = start.split_once("</script>").expect("the data block ends").0;
    assert!(!text.contains('<'), "the data block holds an unescaped <");
    serde_json::from_str(text).expect("the data block is JSON")
}

/// Checks that tags nest, attributes are quoted and only XML's own entities occur.
pub(crate) fn assert_well_formed(name: &str, text: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut roots = 0;
    for piece in text.split('<').skip(1) {
        let (tag, content) = piece.split_once('>').unwrap_or_else(|| panic!("{name}: <{piece}"));
        assert!(!content.contains('>'), "{name}: a bare > after <{tag}>");
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "{name}: </{closed}>");
        } else {
            let element = tag.split([' ', '/', '\n']).next().unwrap_or_default();
            roots += usize::from(open.is_empty());
            assert_eq!(tag.matches('"').count() % 2, 0, "{name}: <{tag}>");
            let mut names: Vec<&str> = tag.split('"').step_by(2).filter_map(|a| a.strip_suffix('=')).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{name}: an attribute twice in <{tag}>");
            if !tag.ends_with('/') {
                open.push(element);
            }
        }
        assert!(!open.is_empty() || content.trim().is_empty(), "{name}: text outside");
    }
    assert!(open.is_empty() && roots == 1, "{name}: {open:?} left open, {roots} roots");
    for entity in text.split('&').skip(1) {
        let known = ["amp;", "lt;", "gt;", "quot;", "#39;"];
        assert!(known.iter().any(|k| entity.starts_with(k)), "{name}: &{entity:.10}");
    }
}

/// Names and contents of the page and the SVG files that a report leaves, without its films, which take a second each.
pub(crate) fn written(report: &Report) -> Vec<(String, String)> {
    let texts = files(&still(report)).into_iter().filter(|(name, _)| !name.ends_with(".png"));
    texts.map(|(name, content)| (name, String::from_utf8(content).expect("texts are UTF-8"))).collect()
}

/// The report without films.
pub(crate) fn still(report: &Report) -> Report {
    let mut report = report.clone();
    report.trainings.iter_mut().for_each(|training| training.film = None);
    report
}

/// Names and contents of all files a report leaves; nothing temporary may be among them.
pub(crate) fn files(report: &Report) -> Vec<(String, Vec<u8>)> {
    let folder = Folder::new();
    report.write(&folder.0).expect("the folder can be written");
    let (mut files, mut folders) = (Vec::new(), vec![folder.0.clone()]);
    while let Some(inside) = folders.pop() {
        for entry in std::fs::read_dir(inside).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            assert!(!name.starts_with('.'), "{name} was left");
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files.push((name, std::fs::read(&path).expect("the file can be read")));
        }
    }
    files
}

/// A folder of its own, removed when dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    /// Names a folder that does not exist yet.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("sphereface-report-{}-{number}", std::process::id())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
