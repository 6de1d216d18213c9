//! Rules on Rust code.

use super::Finding;
use super::source::{File, has_word};

/// Where a panic needs a written reason: bad input reaches these crates first.
const NO_PANIC: &[&str] = &["crates/data/", "crates/export/", "crates/report/", "crates/trainer/"];

/// Where unsafe code may stand.
const UNSAFE: &[&str] = &[
    "benches/peers/src/frameworks/cublaslt.rs",
    "benches/peers/src/frameworks/cudnn.rs",
    "benches/peers/src/frameworks/gemm.rs",
    "benches/peers/src/frameworks/gpu.rs",
    "crates/cuda/",
    "crates/emulator/",
    "crates/tensor/src/cpu/parts.rs",
    "crates/tensor/src/cpu/product.rs",
    "tests/allocations.rs",
];

/// Words that say nothing about a thing, as a part of a file's, folder's or function's name.
const EMPTY_WORDS: &[&str] = &["util", "utils", "helper", "helpers", "misc", "v2"];

pub(super) fn ignored_tests(files: &[File]) -> Vec<Finding> {
    find(files, |line| {
        let ignored = line.contains("#[ignore") || (line.contains("cfg_attr") && has_word(line, "ignore"));
        ignored.then(|| "an ignored test; let it say on the screen why it cannot run here, and return".to_owned())
    })
}

pub(super) fn unfinished(files: &[File]) -> Vec<Finding> {
    find(files, |line| {
        let macros = ["todo", "unimplemented", "dbg"];
        macros
            .iter()
            .find(|name| has_word(line, name) && line.contains(&format!("{name}!")))
            .map(|name| format!("`{name}!`"))
    })
}

pub(super) fn panics(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() && NO_PANIC.iter().any(|dir| file.path.starts_with(dir))) {
        let text: Vec<&str> = file.text.lines().collect();
        let tests = file.test_lines();
        for (number, line) in file.code_lines().filter(|(number, _)| !tests[number - 1]) {
            let Some(call) = [".unwrap()", ".expect(", "panic!("].iter().find(|call| line.contains(*call)) else {
                continue;
            };
            let mut above = text[..number - 1].iter().rev().map(|line| line.trim_start());
            if !above.by_ref().take_while(|line| line.starts_with("//")).any(|line| line.contains("PANIC: ")) {
                findings.push(Finding::new(&file.path, number, format!("`{call}` without a reason")));
            }
        }
    }
    findings
}

pub(super) fn unsafe_code(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let allowed = UNSAFE.iter().any(|place| file.path.starts_with(place));
        let text: Vec<&str> = file.text.lines().collect();
        let code: Vec<&str> = file.code.lines().collect();
        for (number, line) in file.code_lines().filter(|(_, line)| has_word(line, "unsafe")) {
            let after = line[line.find("unsafe").unwrap_or(0) + "unsafe".len()..].trim_start();
            let needs_argument = after.is_empty() || after.starts_with('{') || after.starts_with("impl");
            if !allowed {
                findings.push(Finding::new(&file.path, number, "unsafe code outside the allowed files"));
            } else if needs_argument && !argued(&text, &code, number - 1) {
                findings.push(Finding::new(&file.path, number, "no `SAFETY:` argument above"));
            }
        }
    }
    findings
}

/// Whether a `SAFETY:` comment stands in the statement of line `index` or in the comments right above it.
fn argued(text: &[&str], code: &[&str], index: usize) -> bool {
    if text[index].contains("SAFETY:") {
        return true;
    }
    for above in (0..index).rev() {
        if text[above].contains("SAFETY:") {
            return true;
        }
        let is_comment = text[above].trim_start().starts_with("//");
        let ends_other_statement = code[above].trim_end().ends_with([';', '{', '}']) || text[above].trim().is_empty();
        if !is_comment && ends_other_statement {
            return false;
        }
    }
    false
}

pub(super) fn purpose_line(files: &[File]) -> Vec<Finding> {
    let bare = files.iter().filter(|file| file.is_rust() && !file.text.starts_with("//! "));
    bare.map(|file| Finding::new(&file.path, 1, "does not start with a `//!` line")).collect()
}

pub(super) fn empty_names(files: &[File]) -> Vec<Finding> {
    let empty =
        |name: &str| name.split(['_', '-', '.']).any(|word| EMPTY_WORDS.contains(&word.to_lowercase().as_str()));
    let mut findings = Vec::new();
    for file in files {
        if file.path.split('/').any(empty) {
            findings.push(Finding::new(&file.path, 0, "this path says nothing about the contents"));
        }
        for (number, line) in file.code_lines() {
            let Some((before, after)) = line.split_once("fn ") else {
                continue;
            };
            let name = after.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
            if !before.ends_with(|c: char| c.is_alphanumeric() || c == '_') && empty(name) {
                findings.push(Finding::new(&file.path, number, format!("`{name}` says nothing about what it does")));
            }
        }
    }
    findings
}

/// Applies a judgement to every line of Rust code.
fn find(files: &[File], judge: fn(&str) -> Option<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        findings.extend(
            file.code_lines().filter_map(|(number, line)| Some(Finding::new(&file.path, number, judge(line)?))),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::lines;

    #[test]
    fn planted_ignored_tests_are_found() {
        let text =
            "//! A.\n#[test]\n#[ignore]\nfn a() {}\n#[ignore = \"slow\"]\n#[cfg_attr(windows, ignore)]\n// #[ignore]\n";
        assert_eq!(lines(ignored_tests, "a.rs", text), [3, 5, 6]);
    }

    #[test]
    fn planted_unfinished_code_is_found() {
        let text = "todo!();\nunimplemented!()\nlet x = dbg!(y);\n// todo!()\nlet s = \"todo!()\";\nmytodo!();\n";
        assert_eq!(lines(unfinished, "a.rs", text), [1, 2, 3]);
    }

    #[test]
    fn planted_panics_are_found_in_library_code_only() {
        let text = "a.unwrap();\nb.expect(\"c\");\npanic!(\"d\");\n// PANIC: the list is never empty.\ne.unwrap();\n\
                    // PANIC: a reason\n// of two lines\nf.unwrap();\ng.unwrap_or(1);\n#[cfg(test)]\nmod tests {\n  fn h() { i.unwrap(); }\n}\n";
        assert_eq!(lines(panics, "crates/data/src/idx.rs", text), [1, 2, 3]);
        assert!(lines(panics, "crates/data/tests/idx.rs", text).is_empty());
        assert!(lines(panics, "crates/tensor/src/lib.rs", text).is_empty());
    }

    #[test]
    fn planted_unsafe_code_is_found() {
        let text = "// SAFETY: in bounds.\nlet a = unsafe { b };\nlet c = unsafe { d };\n// SAFETY: a long\n// argument.\nlet e =\n    unsafe { f };\n\
                    unsafe fn g() {}\nunsafe impl Send for H {}\n#![allow(unsafe_code)]\n";
        assert_eq!(lines(unsafe_code, "crates/cuda/src/lib.rs", text), [3, 9]);
        assert_eq!(lines(unsafe_code, "crates/tensor/src/cpu/product.rs", text), [3, 9]);
        assert_eq!(lines(unsafe_code, "crates/tensor/src/plan.rs", text), [2, 3, 7, 8, 9]);
    }

    #[test]
    fn a_planted_file_without_purpose_is_found() {
        assert!(lines(purpose_line, "a.rs", "//! A purpose.\nfn a() {}\n").is_empty());
        assert_eq!(lines(purpose_line, "a.rs", "fn a() {}\n//! A purpose.\n"), [1]);
        assert!(lines(purpose_line, "a.md", "# A\n").is_empty());
    }

    #[test]
    fn planted_empty_names_are_found() {
        assert_eq!(lines(empty_names, "src/string_utils.rs", ""), [0]);
        assert_eq!(lines(empty_names, "src/misc/a.rs", ""), [0]);
        let text =
            "fn helper() {}\npub fn conv2d_v2(a: f32) {}\nfn utility() {}\nlet fn_helper = 1;\n__global__ void fn a\n";
        assert_eq!(lines(empty_names, "src/a.rs", text), [1, 2]);
    }
}
