//! `cargo xtask bench`: the program `bench` of `benches/`, and the peers that it measures beside ours.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::{cargo, kernels, output_dir, python, root};

/// Packages of the Python peer, pinned.
const REQUIREMENTS: &str = "benches/peers/requirements.txt";
/// The Rust peers: a workspace of their own, which the main build never sees.
const MANIFEST: &str = "benches/peers/Cargo.toml";

/// Installs the peers if that is asked for, then runs `bench` with the given arguments, its folders meant from where we
/// were called. Peers that cannot be installed are named, and the others are measured.
pub(crate) fn run(install: bool, arguments: &[String]) -> ExitCode {
    let peers = output_dir().with_file_name("peers");
    if install {
        for (name, outcome) in [("PyTorch", install_python(&peers)), ("Burn, candle, gemm", install_rust(&peers))] {
            match outcome {
                Ok(()) => println!("installed: {name}"),
                Err(error) => eprintln!("xtask: not installed: {name}: {error}"),
            }
        }
    }
    if arguments.iter().any(|argument| argument == "--predict")
        && let Err(error) = kernels::ensure_nvrtc()
    {
        eprintln!("xtask: {error}");
        return ExitCode::FAILURE;
    }
    let mut command = cargo();
    if let Ok(here) = env::current_dir() {
        command.current_dir(here);
    }
    command.args(["run", "--quiet", "--release", "-p", "sphereface-benches", "--bin", "bench", "--"]);
    match command.args(arguments).arg("--peers-dir").arg(&peers).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE, // It said why.
        Err(error) => {
            eprintln!("xtask: cannot start cargo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn install_python(peers: &Path) -> Result<(), String> {
    let folder: PathBuf = peers.join("python");
    python::environment(&folder, REQUIREMENTS, || python::install(&folder, REQUIREMENTS)).map(drop)
}

fn install_rust(peers: &Path) -> Result<(), String> {
    let manifest = root().join(MANIFEST);
    if !manifest.is_file() {
        return Err(format!("{MANIFEST}: no such file"));
    }
    let mut command = cargo();
    command.args(["build", "--release", "--locked", "--manifest-path"]).arg(manifest).arg("--target-dir").arg(peers);
    succeeded(&mut command)
}

fn succeeded(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("cannot start cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`cargo build` failed ({status})")) }
}
