//! Rules on text of any language, and on kernels.

use super::Finding;
use super::source::{File, blank};

const MAX_LINES: usize = 500;
const MAX_SIZE_BYTES: usize = 2_000_000;

/// The extensions of what people write by hand; generated pages and drawings keep their spaces.
const HAND_WRITTEN: &[&str] = &[".rs", ".cu", ".cuh", ".md", ".toml", ".yml", ".css", ".js", ".py", ".sh", ".ci/run"];

/// Home folders, put together so that this file does not break its own rule.
const HOME: [&str; 2] = [concat!("/ro", "ot/"), concat!("/ho", "me/")];

pub(super) fn file_length(files: &[File]) -> Vec<Finding> {
    let ours = files.iter().filter(|file| file.is_rust() || file.is_cuda());
    let long = ours.map(|file| (file, file.text.lines().count())).filter(|(_, count)| *count > MAX_LINES);
    long.map(|(file, count)| Finding::new(&file.path, 0, format!("{count} lines"))).collect()
}

pub(super) fn float_atomics(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with("kernels/") && file.is_cuda()) {
        // Inline PTX stands in string literals, so only comments are left out.
        for (index, line) in blank(&file.text, false).lines().enumerate() {
            let in_ptx = ["red.", "atom."].iter().any(|name| starts_word(line, name))
                && [".add.f", ".add.noftz", ".add.bf"].iter().any(|kind| line.contains(kind));
            if line.contains("atomicAdd") || in_ptx {
                findings.push(Finding::new(
                    &file.path,
                    index + 1,
                    "sum in a fixed order: a second launch, or a last block that takes its ticket with `atomicInc`",
                ));
            }
        }
    }
    findings
}

/// Whether `name` stands in `line` at the start of a word: `red.` but not `shared.`.
fn starts_word(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

pub(super) fn whitespace(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| HAND_WRITTEN.iter().any(|end| file.path.ends_with(end))) {
        for (index, line) in file.text.lines().enumerate() {
            if line.ends_with([' ', '\t']) {
                findings.push(Finding::new(&file.path, index + 1, "whitespace at the end of the line"));
            }
            if file.is_rust() && line.contains('\t') {
                findings.push(Finding::new(&file.path, index + 1, "a tab"));
            }
        }
    }
    findings
}

pub(super) fn file_size(files: &[File]) -> Vec<Finding> {
    let large = files.iter().filter(|file| file.size_bytes > MAX_SIZE_BYTES);
    large
        .map(|file| Finding::new(&file.path, 0, format!("{} bytes, more than {MAX_SIZE_BYTES}", file.size_bytes)))
        .collect()
}

pub(super) fn home_paths(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        for (index, line) in file.text.lines().enumerate() {
            // `https://example.org/home/` is no path of a machine.
            for home in HOME.iter().filter(|home| starts_word(line, home)) {
                findings.push(Finding::new(&file.path, index + 1, format!("a path under `{home}`")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::lines;

    #[test]
    fn a_planted_long_file_is_found() {
        assert_eq!(lines(file_length, "kernels/a.cu", &"\n".repeat(501)), [0]);
        assert!(lines(file_length, "a.rs", &"\n".repeat(500)).is_empty());
        assert!(lines(file_length, "Cargo.lock", &"\n".repeat(9000)).is_empty());
    }

    #[test]
    fn planted_float_atomics_are_found() {
        let text = "atomicAdd(&sum, x);\nasm(\"red.global.add.f32 [%0], %1;\");\n// no atomicAdd here\nasm(\"ld.shared.f32\"); x.add.f32;\natomicInc(&ticket, n);\n";
        assert_eq!(lines(float_atomics, "kernels/a.cu", text), [1, 2]);
        assert_eq!(lines(float_atomics, "kernels/margin/b.cuh", "asm(\"atom.shared.add.noftz.bf16\");"), [1]);
        assert!(lines(float_atomics, "crates/a/src/lib.rs", text).is_empty());
    }

    #[test]
    fn planted_whitespace_is_found() {
        assert_eq!(lines(whitespace, "a.rs", "a \n\tb\nc\n"), [1, 2]);
        assert_eq!(lines(whitespace, "a.md", "a\t\n\tb\n"), [1]);
        assert!(lines(whitespace, "a.svg", "a \n").is_empty());
    }

    #[test]
    fn a_planted_large_file_is_found() {
        let large = File::new("a.bin", vec![0xff; MAX_SIZE_BYTES + 1]);
        let fits = File::new("b.bin", vec![0xff; MAX_SIZE_BYTES]);
        assert_eq!(file_size(&[fits, large]).len(), 1);
    }

    #[test]
    fn planted_home_paths_are_found() {
        for home in HOME {
            assert_eq!(lines(home_paths, "a.json", &format!("x\n\"{home}someone/data\"\nhttps://a.org{home}\n")), [2]);
        }
    }
}
