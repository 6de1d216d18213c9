//! `cargo xtask test`: every test, one count at the end.

use std::io::{BufRead, BufReader, Write, stdout};
use std::process::{ExitCode, Stdio};

use crate::{browser, cargo};

/// Runs the tests and ends with the line `N passed, M failed`. Without any test the run has failed.
pub(crate) fn run(all: bool, cargo_args: &[String]) -> ExitCode {
    let mut summary = Summary::default();
    if let Err(error) = cargo_test(cargo_args, &mut summary) {
        println!("FAILED: {error}");
        summary.failed += 1;
    }
    if all {
        for (name, outcome) in browser::check_report() {
            match outcome {
                Ok(()) => {
                    println!("test browser::{name} ... ok");
                    summary.passed += 1;
                }
                Err(error) => {
                    println!("test browser::{name} ... FAILED: {error}");
                    summary.failed += 1;
                }
            }
        }
    } else {
        summary.not_run.push("the checks of the report in a browser: run by `cargo xtask test --all`".to_owned());
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

/// Runs `cargo test`, passes its output on as it comes and reads the results from it.
///
/// # Errors
/// When cargo fails for another reason than a test that was counted: a test does not compile, or crashes.
fn cargo_test(cargo_args: &[String], summary: &mut Summary) -> Result<(), String> {
    let mut command = cargo();
    command.args(["test", "--no-fail-fast"]);
    let chooses_package = cargo_args
        .iter()
        .take_while(|arg| *arg != "--")
        .any(|arg| arg.starts_with("-p") || arg.starts_with("--package"));
    if !chooses_package {
        command.arg("--workspace");
    }
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
    /// Reads one line: `test result: …` of a test binary, or `skipped: …` from a test that cannot run here.
    fn read(&mut self, line: &str) {
        if let Some((_, reason)) = line.split_once("skipped: ") {
            self.not_run.push(reason.to_owned());
        }
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
    fn a_test_that_skips_itself_is_repeated_at_the_end() {
        let mut summary = Summary::default();
        summary.read("test cuda::gemm ... skipped: cuda::gemm: no NVIDIA driver found");
        assert_eq!(summary.not_run_lines(), ["cuda::gemm: no NVIDIA driver found"]);
    }
}
