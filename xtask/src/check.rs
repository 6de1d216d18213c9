//! `cargo xtask check`: everything that is wrong in the workspace and can be known without running it.

use std::io::{Write, stdout};
use std::process::{Command, ExitCode};
use std::time::Instant;

use serde_json::Value;

use crate::{arrows, cargo, licences, packages, root, tidy};

/// What a part found: a note for its line, or the findings.
pub(crate) type Outcome = Result<String, Vec<String>>;

/// One part of the check.
struct Part {
    name: &'static str,
    /// How to mend a failure, shown at the end.
    mend: &'static str,
    run: fn() -> Outcome,
}

/// The quick parts come first.
const PARTS: [Part; 7] = [
    Part { name: "format", mend: "run `cargo fmt --all`", run: format },
    Part {
        name: "arrows",
        mend: "remove the dependency, or change the allowed arrows in xtask/src/arrows.rs and say why in ARCHITECTURE.md",
        run: || arrows::check(&metadata(&["--no-deps"])?),
    },
    Part {
        name: "tidy",
        mend: "each finding names its file and line; the rules and their reasons stand in xtask/src/tidy/",
        run: || tidy::check(root()),
    },
    Part {
        name: "licences",
        mend: "choose another dependency, or add the licence to xtask/src/licences.rs if it is as permissive as ours",
        run: || Ok(format!("{}; {}", licences::check(&metadata(&[])?)?, licences::check_fonts(root())?)),
    },
    Part {
        name: "packages",
        mend: "complete the package's Cargo.toml, or move the file into its folder; `cargo package -p NAME` says more",
        run: packages::check,
    },
    Part {
        name: "clippy",
        mend: "run `cargo clippy --workspace --all-targets` and mend every warning",
        run: || {
            run_quietly(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))
        },
    },
    Part {
        name: "docs",
        mend: "run `cargo doc --workspace --no-deps` and mend every warning",
        run: || {
            run_quietly(cargo().args(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings"))
        },
    },
];

/// Runs all parts, one line each, whatever fails; then lists the failures and how to mend them.
pub(crate) fn run() -> ExitCode {
    let mut failed = Vec::new();
    for part in &PARTS {
        // The name is printed before the work: a cold clippy takes minutes and should not look like nothing.
        print!("{:<9} ", part.name);
        let _ = stdout().flush();
        let start = Instant::now();
        let outcome = (part.run)();
        let seconds = start.elapsed().as_secs_f64();
        match outcome {
            Ok(note) if note.is_empty() => println!("ok      {seconds:6.1} s"),
            Ok(note) => println!("ok      {seconds:6.1} s  {note}"),
            Err(findings) => {
                println!("FAILED  {seconds:6.1} s");
                failed.push((part, findings));
            }
        }
    }
    if failed.is_empty() {
        println!("check passed");
        return ExitCode::SUCCESS;
    }
    for (part, findings) in &failed {
        println!("\n{} failed; to mend it: {}", part.name, part.mend);
        for finding in findings {
            println!("  {}", finding.replace('\n', "\n  "));
        }
    }
    let names: Vec<&str> = failed.iter().map(|(part, _)| part.name).collect();
    println!("\ncheck failed: {}", names.join(", "));
    ExitCode::FAILURE
}

/// `cargo fmt` reports a whole diff; the names of the files are enough, the mend is one command.
fn format() -> Outcome {
    run_quietly(cargo().args(["fmt", "--all", "--check", "--", "-l"]))
}

/// Runs a command whose output matters only if it fails.
pub(crate) fn run_quietly(command: &mut Command) -> Outcome {
    let output = command.output().map_err(|error| vec![format!("cannot start {command:?}: {error}")])?;
    if output.status.success() {
        return Ok(String::new());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(vec![String::from_utf8_lossy(&text).trim_end().to_owned()])
}

/// What cargo knows about the packages of the workspace and all they depend on.
pub(crate) fn metadata(args: &[&str]) -> Result<Value, Vec<String>> {
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1", "--quiet"]).args(args);
    let output = command.output().map_err(|error| vec![format!("cannot start {command:?}: {error}")])?;
    if !output.status.success() {
        return Err(vec![String::from_utf8_lossy(&output.stderr).trim_end().to_owned()]);
    }
    serde_json::from_slice(&output.stdout).map_err(|error| vec![format!("cannot read {command:?}: {error}")])
}
