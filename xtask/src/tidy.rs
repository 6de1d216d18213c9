//! Tidy rules: what the compiler cannot see and a reviewer should not have to.
//!
//! Each rule is a small function over the files that git tracks, with a sentence on why it is there.
//! To add one, write the function beside its kin and give it a line in [`RULES`].

mod bench;
mod documents;
mod pairing;
mod rust;
mod source;
mod text;

use std::path::Path;
use std::process::Command;

use crate::check::Outcome;
use source::File;

/// One rule: its name, why it is there, and the function that finds violations.
struct Rule {
    name: &'static str,
    why: &'static str,
    find: fn(&[File]) -> Vec<Finding>,
}

const RULES: &[Rule] = &[
    Rule { name: "ignored test", why: "a test that never runs proves nothing", find: rust::ignored_tests },
    Rule { name: "unfinished", why: "what is committed is finished", find: rust::unfinished },
    Rule {
        name: "panic",
        why: "bad input ends in one clear line; where a panic cannot happen, a `// PANIC: reason` line above says why",
        find: rust::panics,
    },
    Rule {
        name: "unsafe",
        why: "unsafe code stays in the few files that need it, and each block argues why it is sound",
        find: rust::unsafe_code,
    },
    Rule { name: "purpose line", why: "a `//!` line tells the reader what a file is for", find: rust::purpose_line },
    Rule { name: "name", why: "a name tells what a thing is; these names fit anything", find: rust::empty_names },
    Rule {
        name: "file length",
        why: "one purpose a file: what does not fit 500 lines has several",
        find: text::file_length,
    },
    Rule {
        name: "float atomics",
        why: "atomic sums round in the order of arrival, so the same seed would not give the same bits",
        find: text::float_atomics,
    },
    Rule { name: "whitespace", why: "invisible changes hide the visible ones in a diff", find: text::whitespace },
    Rule { name: "file size", why: "a clone carries every large file for ever", find: text::file_size },
    Rule { name: "home path", why: "such a path exists on one machine only", find: text::home_paths },
    Rule {
        name: "pairing",
        why: "an operator is whole only with all its partners, found by stem",
        find: pairing::partners,
    },
    Rule {
        name: "dependency sentence",
        why: "every dependency is a decision, and ARCHITECTURE.md says why it was made",
        find: documents::dependency_sentences,
    },
    Rule { name: "dead path", why: "a document that names missing files misleads", find: documents::dead_paths },
    Rule {
        name: "bench table",
        why: "figures of a run are generated from it: typed in by hand they would be wrong some day",
        find: bench::readme_block,
    },
    Rule { name: "changelog", why: "users read what changed, not the history", find: documents::changelog },
];

/// A place that breaks a rule.
#[derive(Debug, PartialEq)]
struct Finding {
    path: String,
    /// Counted from 1; 0 stands for the whole file.
    line: usize,
    what: String,
}

impl Finding {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Finding { path: path.to_owned(), line, what: what.into() }
    }
}

/// Runs every rule over the files that git tracks under `root`.
pub(crate) fn check(root: &Path) -> Outcome {
    let files = tracked_files(root).map_err(|error| vec![error])?;
    let mut report = Vec::new();
    for rule in RULES {
        let findings = (rule.find)(&files);
        if !findings.is_empty() {
            report.push(format!("{}: {}", rule.name, rule.why));
        }
        for Finding { path, line, what } in findings {
            let place = if line == 0 { path } else { format!("{path}:{line}") };
            report.push(format!("  {place}: {what}"));
        }
    }
    if report.is_empty() { Ok(format!("{} rules, {} files", RULES.len(), files.len())) } else { Err(report) }
}

fn tracked_files(root: &Path) -> Result<Vec<File>, String> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
    let output = output.map_err(|error| format!("cannot start git: {error}"))?;
    if !output.status.success() {
        return Err(format!("`git ls-files` failed: {}", String::from_utf8_lossy(&output.stderr).trim_end()));
    }
    let paths = String::from_utf8_lossy(&output.stdout);
    let mut files = Vec::new();
    for path in paths.split_terminator('\0') {
        // A tracked file may be deleted in the working tree, and a symbolic link may point to a folder.
        let Ok(bytes) = std::fs::read(root.join(path)) else {
            continue;
        };
        files.push(File::new(path, bytes));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::{Finding, RULES, check, source::File};

    /// The lines that a rule finds in one planted file.
    pub(super) fn lines(find: fn(&[File]) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
        find(&[File::new(path, text.into())]).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn every_rule_has_a_name_of_its_own_and_a_reason() {
        for (index, rule) in RULES.iter().enumerate() {
            assert!(rule.why.len() > 20, "{}", rule.name);
            assert!(RULES[..index].iter().all(|other| other.name != rule.name), "{}", rule.name);
        }
    }

    #[test]
    fn a_folder_that_git_does_not_know_is_an_error() {
        let missing = std::env::temp_dir().join("a-folder-that-is-not-there");
        assert!(check(&missing).unwrap_err()[0].contains("git"));
    }
}
