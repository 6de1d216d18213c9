//! `cargo xtask test`: every test, one count at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write, stdout};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use crate::python::{self, Pythons};
use crate::{browser, cargo, kernels, output_dir, packages};

/// Names the file to which a test that cannot run appends a line, `name: reason`.
const SKIPPED: &str = "SPHEREFACE_SKIPPED";
/// Seeds the random shapes of property tests: here the same ones every time, new ones by plain `cargo test`.
const RANDOM_SHAPES: &str = "PROPTEST_RNG_SEED";

/// Runs the tests and ends with the line `N passed, M failed`. Without any test the run has failed.
pub(crate) fn run(all: bool, cargo_args: &[String]) -> ExitCode {
    let mut summary = Summary::default();
    let nvrtc = kernels::ensure_nvrtc();
    let pythons = all.then(python::ensure);
    let skipped = skipped_file();
    if let Err(error) = cargo_test(cargo_args, &skipped, pythons.as_ref(), &mut summary) {
        println!("FAILED: {error}");
        summary.failed += 1;
    }
    summary.skips(&fs::read_to_string(&skipped).unwrap_or_default());
    let missing =
        pythons.iter().flat_map(|pythons| [&pythons.packages, &pythons.torch]).filter_map(|it| it.as_ref().err());
    let reasons: BTreeSet<String> = missing.map(|reason| format!("tests of exported files: {reason}")).collect();
    summary.not_run.extend(reasons);
    // With arguments, somebody is at work on one part.
    match nvrtc {
        Ok(()) if cargo_args.is_empty() => summary.count("kernels", "compile_without_spills", kernels::check()),
        Ok(()) => summary.not_run.push("the kernels' registers and spills: shown by `cargo xtask kernels`".to_owned()),
        Err(reason) => summary.not_run.push(format!("kernels::compile_without_spills: {reason}")),
    }
    if all {
        for (name, outcome) in browser::check_report() {
            summary.count("browser", &name, outcome.map(|()| String::new()));
        }
        summary.count("packages", "build_by_themselves", packages::build());
    } else {
        let more = "the checks of the report in a browser, packages by themselves: run by `cargo xtask test --all`";
        summary.not_run.push(more.to_owned());
    }
    println!();
    for reason in summary.not_run_lines() {
        println!("not run: {reason}");
    }
    if summary.passed + summary.failed == 0 {
        println!("FAILED: no test ran at all");
    }
    println!("{} passed, {} failed", summary.passed, summary.failed);
    if summary.failed == 0 && summary.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// An empty file for the tests that cannot run; the errors of the kernels are gathered anew, too.
fn skipped_file() -> PathBuf {
    let skipped = output_dir().join("skipped.txt");
    let _ = fs::create_dir_all(output_dir()); // If there is no folder, the tests that want to write say so.
    let _ = fs::remove_file(&skipped);
    let _ = fs::remove_file(kernels::errors());
    skipped
}

/// Runs `cargo test`, passes its output on as it comes and reads the results from it.
///
/// # Errors
/// When cargo fails for another reason than a test that was counted: a test does not compile, or crashes.
fn cargo_test(
    cargo_args: &[String],
    skipped: &Path,
    pythons: Option<&Pythons>,
    summary: &mut Summary,
) -> Result<(), String> {
    let mut command = cargo();
    command.args(["test", "--no-fail-fast"]);
    let chooses_package = cargo_args
        .iter()
        .take_while(|arg| *arg != "--")
        .any(|arg| arg.starts_with("-p") || arg.starts_with("--package"));
    if !chooses_package {
        command.arg("--workspace");
    }
    if env::var_os(RANDOM_SHAPES).is_none() {
        command.env(RANDOM_SHAPES, "1");
    }
    for (variable, python) in pythons.into_iter().flat_map(Pythons::variables) {
        command.env(variable, python);
    }
    command.env(SKIPPED, skipped).env(kernels::ERRORS, kernels::errors());
    command.args(cargo_args).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("cannot start cargo: {error}"))?;
    if let Some(output) = child.stdout.take() {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).map_err(|error| format!("cannot read from cargo: {error}"))? > 0 {
            let _ = stdout().write_all(&line).and_then(|()| stdout().flush());
            summary.read(String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
    }
    let status = child.wait().map_err(|error| format!("lost cargo: {error}"))?;
    if status.success() || summary.failed > 0 {
        return Ok(());
    }
    Err(format!("`cargo test` stopped without a failed test ({status}); its last lines say why"))
}

/// What the test binaries said.
#[derive(Debug, Default, PartialEq)]
struct Summary {
    passed: usize,
    failed: usize,
    ignored: usize,
    filtered: usize,
    /// What was not run, and why.
    not_run: Vec<String>,
}

impl Summary {
    /// Counts a check of ours as the test `group::name`; a note says what it found.
    fn count(&mut self, group: &str, name: &str, outcome: Result<String, String>) {
        match outcome {
            Ok(note) => {
                let note = if note.is_empty() { note } else { format!(" ({note})") };
                println!("test {group}::{name} ... ok{note}");
                self.passed += 1;
            }
            Err(error) => {
                println!("test {group}::{name} ... FAILED: {error}");
                self.failed += 1;
            }
        }
    }

    /// Takes in the lines `name: reason` of tests that could not run: one line for each reason.
    fn skips(&mut self, lines: &str) {
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, reason) in lines.lines().filter_map(|line| line.split_once(": ")) {
            reasons.entry(reason).or_default().push(name);
        }
        for (reason, mut names) in reasons {
            names.sort_unstable();
            names.dedup();
            self.not_run.push(format!("{} tests ({}): {reason}", names.len(), names.join(", ")));
        }
    }

    /// Reads one line: `test result: …` of a test binary.
    fn read(&mut self, line: &str) {
        let Some((_, counts)) = line.split_once("test result: ") else {
            return;
        };
        let mut words = counts.split_whitespace().peekable();
        while let Some(word) = words.next() {
            let (Ok(count), Some(label)) = (word.parse::<usize>(), words.peek()) else {
                continue;
            };
            match label.trim_end_matches(';') {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.ignored += count,
                "filtered" => self.filtered += count,
                _ => {}
            }
        }
    }

    fn not_run_lines(&self) -> Vec<String> {
        let counted = [(self.ignored, "marked as ignored"), (self.filtered, "filtered out by the arguments")];
        let counted = counted.iter().filter(|(count, _)| *count > 0).map(|(count, why)| format!("{count} tests {why}"));
        self.not_run.iter().cloned().chain(counted).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Summary;

    #[test]
    fn counts_are_summed_over_all_results() {
        let mut summary = Summary::default();
        for line in [
            "running 3 tests",
            "test a ... ok",
            "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "5 passed; 5 failed",
            "noise test result: FAILED. 40 passed; 3 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.20s",
        ] {
            summary.read(line);
        }
        let expected = Summary { passed: 42, failed: 3, ignored: 1, filtered: 7, not_run: vec![] };
        assert_eq!(summary, expected);
        assert_eq!(summary.not_run_lines(), ["1 tests marked as ignored", "7 tests filtered out by the arguments"]);
    }

    #[test]
    fn tests_that_skip_themselves_are_named_at_the_end_by_reason() {
        let mut summary = Summary::default();
        summary.skips("b::gemm: no NVRTC: pip has it\na::add: no NVRTC: pip has it\na::add: no NVRTC: pip has it\n");
        assert_eq!(summary.not_run_lines(), ["2 tests (a::add, b::gemm): no NVRTC: pip has it"]);
    }
}
