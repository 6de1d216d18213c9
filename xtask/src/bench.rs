//! `cargo xtask bench`: the criterion benches of `benches/`.

use std::process::ExitCode;

/// Runs `cargo bench` on the bench package with the given arguments.
pub(crate) fn run(cargo_args: &[String]) -> ExitCode {
    let status = crate::cargo().args(["bench", "-p", "sphereface-benches"]).args(cargo_args).status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("xtask: `cargo bench` failed ({status})");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("xtask: cannot start cargo: {error}");
            ExitCode::FAILURE
        }
    }
}
