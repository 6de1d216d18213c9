//! What the unit tests share: temporary folders and small IDX files.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::parts::{Edition, Fingerprint};
use crate::raw_set::sha256;
pub(crate) use crate::test_server::{Answer, Server, closed_port};

/// A folder that is removed when dropped.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> TempDir {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sphereface-data-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, with its folders, and returns its path.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Every file below, relative, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&self.0).unwrap();
                    files.push(name.to_str().unwrap().replace('\\', "/"));
                }
            }
        }
        files.sort();
        files
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Images of pseudo-random pixels.
pub(crate) fn idx_images(count: u32, height: u32, width: u32, seed: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in [0x0803, count, height, width] {
        bytes.extend(field.to_be_bytes());
    }
    let mut random = Random(seed);
    bytes.extend((0..count * height * width).map(|_| random.next() as u8));
    bytes
}

pub(crate) fn idx_labels(labels: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in [0x0801, labels.len() as u32] {
        bytes.extend(field.to_be_bytes());
    }
    bytes.extend(labels);
    bytes
}

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Contents of the four files: 24 training and 12 test images of 4×4 pixels in 10 classes.
pub(crate) fn small_set() -> [Vec<u8>; 4] {
    [idx_images(24, 4, 4, 1), idx_labels(&some_labels(24)), idx_images(12, 4, 4, 2), idx_labels(&some_labels(12))]
}

/// Contents of the four files in MNIST's shape.
pub(crate) fn mnist_like(seed: u64) -> [Vec<u8>; 4] {
    [
        idx_images(60_000, 28, 28, seed),
        idx_labels(&some_labels(60_000)),
        idx_images(10_000, 28, 28, seed + 1),
        idx_labels(&some_labels(10_000)),
    ]
}

fn some_labels(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i * 7 % 10) as u8).collect()
}

/// The edition whose unpacked files these are.
pub(crate) fn edition_of(contents: &[Vec<u8>; 4]) -> Edition {
    Edition(
        contents
            .each_ref()
            .map(|content| Fingerprint { size_bytes: content.len() as u64, sha256: sha256([&content[..]]).leak() }),
    )
}
