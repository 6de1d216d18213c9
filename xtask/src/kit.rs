//! `cargo xtask kit`: what a machine with an NVIDIA GPU, but no Rust and no network, needs to check and measure all this.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::Value;

use crate::{cargo, kernels, root};

/// The kit and the tracked files together stay under this, so that both can be sent at once.
const MAX_BYTES: u64 = 55_000_000;
/// The architecture whose machine code comes along; for any other NVRTC makes it there.
const ARCHITECTURE: &str = "90a";

/// Builds `target/kit`.
pub(crate) fn run(debug: bool) -> ExitCode {
    match make(debug) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make(debug: bool) -> Result<String, String> {
    kernels::ensure_nvrtc()?;
    let kit = root().join("target").join("kit");
    let fail = |what: &Path| {
        let what = what.display().to_string();
        move |error: std::io::Error| format!("{what}: {error}")
    };
    if kit.exists() {
        fs::remove_dir_all(&kit).map_err(fail(&kit))?;
    }
    for folder in ["bin", "cache"] {
        fs::create_dir_all(kit.join(folder)).map_err(fail(&kit))?;
    }
    let builds: [(&str, &[&str]); 4] = [
        ("trainer", &["build", "-p", "trainer"]),
        ("timings", &["build", "-p", "sphereface-cuda", "--example", "timings"]),
        ("instructions", &["build", "-p", "sphereface-cuda", "--example", "instructions"]),
        ("kernels", &["test", "--no-run", "-p", "sphereface-tests", "--test", "kernels"]),
    ];
    for (name, args) in builds {
        let built = build(args, debug)?;
        let there = kit.join("bin").join(name);
        fs::copy(&built, &there).map_err(fail(&built))?;
        strip(&there)?;
    }
    programs(&kit.join("programs.jsonl"))?;
    let cache = kit.join("cache");
    let status = kernels::example(&["--into", &cache.display().to_string(), ARCHITECTURE]).status();
    if !status.map_err(|error| format!("cannot start cargo: {error}"))?.success() {
        return Err("the kernels do not compile".into());
    }
    for entry in fs::read_dir(root().join("kit")).map_err(fail(&root().join("kit")))?.flatten() {
        fs::copy(entry.path(), kit.join(entry.file_name())).map_err(fail(&entry.path()))?;
    }
    let data = data(&kit)?;
    fs::write(kit.join("commit.txt"), commit()).map_err(fail(&kit))?;

    let (ours, tracked) = (size(&kit), tracked_size()?);
    if ours + tracked > MAX_BYTES {
        let [ours, tracked, most] = [ours, tracked, MAX_BYTES].map(|bytes| bytes as f64 / 1e6);
        return Err(format!("expected at most {most:.0} MB, found {ours:.1} MB of kit and {tracked:.1} MB tracked"));
    }
    Ok(format!(
        "{}: {:.1} MB, {data}; {:.1} MB are tracked besides\nrun it there:  target/kit/run.sh   here, to try it:  \
         target/kit/run.sh --emulator",
        kit.display(),
        ours as f64 / 1e6,
        tracked as f64 / 1e6
    ))
}

/// Builds one program and returns where it is.
fn build(args: &[&str], debug: bool) -> Result<PathBuf, String> {
    let mut command = cargo();
    command.args(args).args(["--quiet", "--message-format", "json-render-diagnostics"]);
    if !debug {
        command.arg("--release");
    }
    let output = command.stderr(std::process::Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("`cargo {}` failed", args.join(" ")));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    programs.next_back().ok_or_else(|| format!("`cargo {}` built no program", args.join(" ")))
}

/// Lets the emulator's tests write down what they ran.
fn programs(file: &Path) -> Result<(), String> {
    let mut command = cargo();
    command.args(["test", "--quiet", "-p", "sphereface-emulator", "--tests"]).env("SPHEREFACE_PROGRAMS", file);
    let output = command.output().map_err(|error| format!("cannot start cargo: {error}"))?;
    if output.status.success() { Ok(()) } else { Err("the tests of sphereface-emulator fail".into()) }
}

fn strip(program: &Path) -> Result<(), String> {
    match Command::new("strip").arg(program).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("strip {}: {status}", program.display())),
        Err(error) => Err(format!("strip, of binutils: {error}")),
    }
}

/// Takes MNIST along where it lies packed; the program has 10,000 of its digits inside.
fn data(kit: &Path) -> Result<String, String> {
    let Some(folder) = std::env::var_os("SPHEREFACE_DATA").map(PathBuf::from) else {
        return Ok("with the digits inside the program (SPHEREFACE_DATA names a folder with all of MNIST)".into());
    };
    let found = [folder.join("mnist"), folder.clone()]
        .into_iter()
        .find(|folder| folder.join("train-images-idx3-ubyte.gz").is_file());
    let folder = found.ok_or_else(|| format!("{}: no train-images-idx3-ubyte.gz", folder.display()))?;
    let there = kit.join("data").join("mnist");
    fs::create_dir_all(&there).map_err(|error| format!("{}: {error}", there.display()))?;
    for part in ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"] {
        let name = format!("{part}-ubyte.gz");
        fs::copy(folder.join(&name), there.join(&name)).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok("with MNIST".into())
}

/// The commit that the kit is made of, and whether anything was changed since.
fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").current_dir(root()).args(args).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = git(&["status", "--porcelain"]).is_none_or(|text| !text.is_empty());
    let commit = git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "unknown".into());
    format!("commit {commit}{}\n", if changed { ", with changes" } else { "" })
}

/// Bytes of all files under a folder.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

fn tracked_size() -> Result<u64, String> {
    let output = Command::new("git").current_dir(root()).args(["ls-files", "-z"]).output();
    let output = output.map_err(|error| format!("git: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let files = text.split('\0').filter(|name| !name.is_empty());
    Ok(files.filter_map(|name| Some(fs::metadata(root().join(name)).ok()?.len())).sum())
}
