//! Scripts in Python that compare our files with other people's programs.

use crate::skip;
use std::path::Path;
use std::process::Command;

/// Names the Python that has the packages of `tests/python/requirements.txt`; `cargo xtask test --all` sets it.
pub const PYTHON: &str = "SPHEREFACE_PYTHON";
/// Names the Python that has PyTorch and safetensors; `cargo xtask test --all` sets it.
pub const TORCH_PYTHON: &str = "SPHEREFACE_TORCH_PYTHON";

/// Whether there is such a Python; if not, the test says that it was not run.
pub fn has_python(variable: &str) -> bool {
    let found = std::env::var_os(variable).is_some();
    if !found {
        let packages = if variable == TORCH_PYTHON { "PyTorch" } else { "Python packages" };
        skip(&format!("no {packages}: `cargo xtask test --all` looks for them and sets {variable}"));
    }
    found
}

/// Runs a script of `tests/python` by the Python that `variable` names, and returns what it printed.
///
/// # Panics
/// When the script fails: with what it said.
pub fn run_script(variable: &str, script: &str, arguments: &[&str]) -> String {
    let python = std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/python").join(script);
    let output = Command::new(python).arg(path).args(arguments).output().unwrap_or_else(|error| panic!("{error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script} {}:\n{said}{errors}", arguments.join(" "));
    said
}
