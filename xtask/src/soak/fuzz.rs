//! The fuzz tests on many inputs, in bounded memory.

use serde_json::{Value, json};

use super::Options;
use super::work::Work;
use crate::cargo;

/// Names the number of inputs of each fuzz test.
const INPUTS: &str = "SPHEREFACE_FUZZ_INPUTS";

/// Packages with fuzz tests: the arguments of `cargo test`, what is fuzzed, and the share of all inputs that each of its
/// tests takes.
const FUZZED: [(&[&str], &str, f64); 4] = [
    (&["-p", "trainer", "--bin", "trainer", "damaged_checkpoints"], "checkpoint", 0.3),
    (&["-p", "trainer", "--bin", "trainer", "damaged_configurations"], "configuration", 0.3),
    (&["-p", "sphereface-tests", "--test", "fuzz", "damaged_idx_and_gzip"], "IDX and gzip files", 0.3),
    (&["-p", "sphereface-tests", "--test", "fuzz", "random_networks"], "plan builder, random networks", 0.1),
];

/// Runs each in turn.
pub(super) fn run(_: &Work, options: &Options) -> Result<Value, String> {
    let mut counts = serde_json::Map::new();
    let mut total = 0;
    for (arguments, what, share) in FUZZED {
        let inputs = (options.inputs as f64 * share).round() as usize;
        if inputs == 0 {
            continue;
        }
        let mut command = cargo();
        // Not `--release`: there, sums and products that overflow go unnoticed.
        command.arg("test").args(arguments).env(INPUTS, inputs.to_string());
        let output = command.output().map_err(|error| format!("cannot start cargo: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() || !said.contains("test result: ok. 1 passed") {
            let errors = String::from_utf8_lossy(&output.stderr);
            let last: Vec<&str> = said.lines().chain(errors.lines()).rev().take(12).collect();
            return Err(format!("{what}: {}", last.into_iter().rev().collect::<Vec<_>>().join(" | ")));
        }
        println!("fuzz: {what}: {inputs} inputs");
        counts.insert(what.to_owned(), json!(inputs));
        total += inputs;
    }
    Ok(json!({ "inputs": total, "by_part": counts }))
}
