//! The text of the CUDA kernels: one `.cu` for each operator, and the headers they share.
//!
//! NVRTC compiles them at run time; nothing here needs a CUDA toolkit.

/// A file of this folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Path from this folder, as `#include` names it.
    pub path: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(File { path: $path, text: include_str!($path) }),*]
    };
}

/// Kernels, one file for each operator.
pub const SOURCES: &[File] = files![
    "add.cu",
    "advance.cu",
    "cast.cu",
    "conv2d.cu",
    "gather_batch.cu",
    "gemm.cu",
    "gradient_norm.cu",
    "linear.cu",
    "margin_softmax.cu",
    "metrics.cu",
    "optimizer.cu",
    "part_sum.cu",
    "prelu.cu",
    "row_modifiers.cu",
    "unit_rows.cu",
];

/// What the kernels include.
pub const HEADERS: &[File] = files![
    "bulk.cuh",
    "column_sum.cuh",
    "common.cuh",
    "conv2d.cuh",
    "conv2d_direct.cuh",
    "conv2d_mma.cuh",
    "conv2d_simt.cuh",
    "conv2d_wgmma.cuh",
    "conv2d_wgmma_weight.cuh",
    "conv2d_wgmma_pixels.cuh",
    "conv2d_wgmma_wide.cuh",
    "epilogue.cuh",
    "epilogue_wgmma.cuh",
    "four.cuh",
    "margin/adaptive.cuh",
    "margin/combined.cuh",
    "margin/modified.cuh",
    "margin/softmax.cuh",
    "margin/sphereface.cuh",
    "margin/sphereface2.cuh",
    "margin/sphereface_r.cuh",
    "margin/sphereface_r_others.cuh",
    "margin_angle.cuh",
    "margin_softmax.cuh",
    "margin_softmax_energy.cuh",
    "margin_softmax_large.cuh",
    "margin_softmax_small.cuh",
    "margin_softmax_tile.cuh",
    "margin_softmax_wgmma.cuh",
    "matrix_product.cuh",
    "matrix_product_mma.cuh",
    "matrix_product_wgmma.cuh",
    "mma.cuh",
    "mma_tile.cuh",
    "random.cuh",
    "tile.cuh",
    "wgmma.cuh",
];

/// The header of a margin with which tiles of classes are compiled for this one: they know no target, so margins that leave the
/// others' cosines as they are share one.
pub fn margin_of_tiles(margin: File) -> File {
    // That of modified softmax leaves all cosines as they are.
    let straight = || self::margin("modified").unwrap_or(margin);
    if margin.text.contains("MARGIN_BENDS_OTHERS") { margin } else { straight() }
}

/// The header of a margin, `margin/<name>.cuh`.
pub fn margin(name: &str) -> Option<File> {
    let in_folder = |path: &'static str| path.strip_prefix("margin/")?.strip_suffix(".cuh");
    HEADERS.iter().copied().find(|file| in_folder(file.path) == Some(name))
}

/// The file of an operator.
pub fn source(stem: &str) -> Option<File> {
    SOURCES.iter().copied().find(|file| file.path.strip_suffix(".cu") == Some(stem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn files(folder: &Path, under: &str, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).expect("this folder").flatten() {
            let name = format!("{under}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                files(&entry.path(), &format!("{name}/"), found);
            } else if name.ends_with(".cu") || name.ends_with(".cuh") {
                found.push(name);
            }
        }
    }

    #[test]
    fn every_file_is_in_the_table() {
        let mut found = Vec::new();
        files(Path::new(env!("CARGO_MANIFEST_DIR")), "", &mut found);
        found.sort();
        let mut listed: Vec<&str> = SOURCES.iter().chain(HEADERS).map(|file| file.path).collect();
        listed.sort_unstable();
        assert_eq!(found, listed);
    }
}
