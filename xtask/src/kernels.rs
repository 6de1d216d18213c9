//! `cargo xtask kernels`: every CUDA kernel compiled for its architectures, with NVRTC, which needs no GPU.
//!
//! The work is done by an example of `sphereface-cuda`, so that `xtask` depends on nothing of ours.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::{cargo, output_dir, python};

/// Names the file to which tests append the error of each kernel they run, and which the table shows.
pub(crate) const ERRORS: &str = "SPHEREFACE_KERNEL_ERRORS";

/// Where that file is.
pub(crate) fn errors() -> PathBuf {
    output_dir().join("kernel-errors.txt")
}

/// The documentation's table.
const DOCUMENT: &str = "docs/kernels.md";

/// What of the kernels is shown.
#[derive(Debug, PartialEq)]
pub(crate) enum Show {
    /// What each takes, as a table.
    Table,
    /// That table as a file of the documentation.
    Document,
    /// The instructions of those with this part in their name.
    Sass(String),
}

/// Fetches what is missing (NVRTC, the disassembler), prints or writes what is asked for, and fails on a spill, a stack
/// frame, local memory or a warning.
pub(crate) fn run(show: &Show) -> ExitCode {
    let disassembler = if matches!(show, Show::Table) { Ok(()) } else { ensure("--find-nvdisasm") };
    if let Err(error) = ensure_nvrtc().and(disassembler) {
        eprintln!("xtask: {error}");
        return ExitCode::FAILURE;
    }
    let args: &[&str] = match show {
        Show::Table => &[],
        Show::Document => &["--document", DOCUMENT],
        Show::Sass(part) => &["--sass", part],
    };
    match example(args).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: cannot start cargo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The same as a test, which prints the table only when it fails.
///
/// # Errors
/// The table and what is wrong.
pub(crate) fn check() -> Result<String, String> {
    let output = example(&[]).output().map_err(|error| format!("cannot start cargo: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text.lines().last().unwrap_or_default().to_owned());
    }
    Err(text + &String::from_utf8_lossy(&output.stderr))
}

/// The example that compiles kernels, with these arguments.
pub(crate) fn example(args: &[&str]) -> Command {
    let mut command = cargo();
    command.args(["run", "--quiet", "-p", "sphereface-cuda", "--example", "kernels", "--"]).args(args);
    command.env(ERRORS, errors());
    command
}

/// Makes sure that NVRTC is there: installed, or else its package in a folder of ours.
///
/// # Errors
/// Why it is not, in one line, and how to get it.
pub(crate) fn ensure_nvrtc() -> Result<(), String> {
    ensure("--find")
}

/// The same of what the example looks for with this option.
fn ensure(option: &str) -> Result<(), String> {
    let Some(missing) = find(option)? else { return Ok(()) };
    println!("fetching {} into {}", missing.package, missing.folder);
    let pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", &missing.folder, &missing.package];
    let output = Command::new(python::name()).args(pip).output();
    let failure = match output {
        Ok(output) if output.status.success() => match find(option)? {
            None => return Ok(()),
            Some(_) => "the package is there, but not what it should bring".to_owned(),
        },
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let last = text.lines().rfind(|line| line.starts_with("ERROR") || line.contains("No module")).unwrap_or("");
            format!("pip failed: {last}")
        }
        Err(error) => format!("{}: {error}", python::name()),
    };
    Err(format!("{}; fetching it did not work: {failure}", missing.reason))
}

/// What the example says where something is missing.
struct Missing {
    reason: String,
    package: String,
    folder: String,
}

fn find(option: &str) -> Result<Option<Missing>, String> {
    let output = example(&[option]).output().map_err(|error| format!("cannot start cargo: {error}"))?;
    if output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines().map(str::to_owned);
    match (lines.next(), lines.next(), lines.next()) {
        (Some(reason), Some(package), Some(folder)) => Ok(Some(Missing { reason, package, folder })),
        _ => Err(format!("the kernels do not build: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
