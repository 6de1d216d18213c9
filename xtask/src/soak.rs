//! `cargo xtask soak`: what takes too long for every test run: kills, broken disks, damaged inputs, long trainings.

mod disk;
mod fuzz;
mod kills;
mod long;
mod work;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use serde_json::{Value, json};

use crate::root;
use work::Work;

/// How much is done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Options {
    /// Trainings that are killed.
    kills: usize,
    /// Damaged inputs of all fuzz tests together.
    inputs: usize,
    /// Steps of the long training.
    steps: usize,
    /// Seed of the moments of the kills.
    seed: u64,
    /// Where the results are written.
    out: PathBuf,
}

impl Default for Options {
    fn default() -> Options {
        Options { kills: 100, inputs: 1_000_000, steps: 10_000, seed: 1, out: root().join("docs/soak.json") }
    }
}

/// Reads the options; 0 leaves a part out.
pub(crate) fn options(arguments: &[&str]) -> Result<Options, String> {
    let mut options = Options::default();
    for pair in arguments.chunks(2) {
        let &[name, value] = pair else {
            return Err(format!("`soak` takes options with a value, found `{}` alone", pair.join(" ")));
        };
        let number = || value.parse::<usize>().map_err(|_| format!("`{name}`: expected a number, found `{value}`"));
        match name {
            "--kills" => options.kills = number()?,
            "--inputs" => options.inputs = number()?,
            "--steps" => options.steps = number()?,
            "--seed" => options.seed = number()? as u64,
            "--out" => options.out = std::path::absolute(value).map_err(|error| format!("`{value}`: {error}"))?,
            _ => return Err(format!("`soak` takes --kills, --inputs, --steps, --seed and --out, found `{name}`")),
        }
    }
    Ok(options)
}

/// A part of the soak: its result as JSON, or what is wrong.
type Part = fn(&Work, &Options) -> Result<Value, String>;

const PARTS: [(&str, Part); 4] =
    [("kills", kills::run), ("disk", disk::run), ("fuzz", fuzz::run), ("long_run", long::run)];

/// Runs all parts, writes their results, and fails if one of them failed.
pub(crate) fn run(options: &Options) -> ExitCode {
    match soak(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn soak(options: &Options) -> Result<bool, String> {
    let work = Work::prepare()?;
    let mut results = json!({
        "command": format!(
            "cargo xtask soak --kills {} --inputs {} --steps {} --seed {}",
            options.kills, options.inputs, options.steps, options.seed
        ),
        "commit": commit(),
        "machine": machine(),
    });
    let mut all_well = true;
    for (name, part) in PARTS {
        let started = Instant::now();
        let mut result = match part(&work, options) {
            Ok(mut result) => {
                result["result"] = json!("ok");
                result
            }
            Err(error) => {
                all_well = false;
                json!({ "result": "failed", "error": error })
            }
        };
        result["seconds"] = json!(started.elapsed().as_secs());
        println!("{name}: {result}");
        results[name] = result;
    }
    let text = serde_json::to_string_pretty(&results).map_err(|error| error.to_string())? + "\n";
    std::fs::write(&options.out, text).map_err(|error| format!("{}: {error}", options.out.display()))?;
    println!("{}", options.out.display());
    Ok(all_well)
}

fn commit() -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(root()).output();
    output.map_or_else(|_| "unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The processor, as far as the system names it.
fn machine() -> String {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    format!("{}, {threads} threads", name.unwrap_or("unknown processor"))
}

#[cfg(test)]
mod tests {
    use super::{Options, options};

    #[test]
    fn options_are_read_or_refused_in_one_line() {
        assert_eq!(options(&[]), Ok(Options::default()));
        let found = options(&["--kills", "3", "--inputs", "0", "--out", "/tmp/soak.json"]).unwrap();
        assert_eq!((found.kills, found.inputs, found.out.to_str()), (3, 0, Some("/tmp/soak.json")));
        for wrong in [&["--kills"][..], &["--kills", "many"], &["--hits", "3"]] {
            let message = options(wrong).unwrap_err();
            assert!(message.contains(wrong[0]) && !message.contains('\n'), "{message}");
        }
    }
}
