//! `cargo xtask kit`: what a machine with an NVIDIA GPU, but no Rust and no network, needs to check and measure all this.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::Value;

use crate::{cargo, kernels, output_dir, root};

/// The kit and the tracked files together stay under this, so that both can be sent at once.
const MAX_BYTES: u64 = 55_000_000;
/// The architecture whose machine code comes along; for any other NVRTC makes it there.
const ARCHITECTURE: &str = "90a";
/// The peer that the machine's own Python runs.
const SCRIPTS: [&str; 3] = ["pytorch.py", "pytorch_arrays.py", "pytorch_cases.py"];
/// Where it lies, here and in the kit.
const PEERS: &str = "benches/peers";

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
        ("bench", &["build", "-p", "sphereface-benches", "--bin", "bench"]),
        ("instructions", &["build", "-p", "sphereface-cuda", "--example", "instructions"]),
        ("kernels", &["test", "--no-run", "-p", "sphereface-tests", "--test", "kernels"]),
    ];
    for (name, args) in builds {
        let built = build(args, debug)?;
        let there = kit.join("bin").join(name);
        fs::copy(&built, &there).map_err(fail(&built))?;
        strip(&there)?;
    }
    let peers = peers(&kit)?;
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
    pack(&kit)?;

    let (ours, tracked) = (size(&kit), tracked_size()?);
    if ours + tracked > MAX_BYTES {
        let [ours, tracked, most] = [ours, tracked, MAX_BYTES].map(|bytes| bytes as f64 / 1e6);
        return Err(format!("expected at most {most:.0} MB, found {ours:.1} MB of kit and {tracked:.1} MB tracked"));
    }
    Ok(format!(
        "{}: {:.1} MB, {data}, {peers}; {:.1} MB are tracked besides\nrun it there:  target/kit/run.sh   here, to try it:  \
         target/kit/run.sh --emulator",
        kit.display(),
        ours as f64 / 1e6,
        tracked as f64 / 1e6
    ))
}

/// Packs all that run.sh unpacks again: a third of the bytes.
fn pack(kit: &Path) -> Result<(), String> {
    const PACKED: [&str; 6] = ["bin", "cache", "benches", "peers", "programs.jsonl", "commit.txt"];
    let there: Vec<&str> = PACKED.into_iter().filter(|name| kit.join(name).exists()).collect();
    let status =
        Command::new("tar").current_dir(kit).args(["-czf", "kit.tar.gz", "--remove-files"]).args(there).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("tar -czf kit.tar.gz: {status}")),
        Err(error) => Err(format!("tar: {error}")),
    }
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

/// Takes along the bench's peers: PyTorch's script, and cuDNN's and cuBLASLt's program where it is built.
fn peers(kit: &Path) -> Result<&'static str, String> {
    let copy = |from: &Path, to: &Path| {
        to.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::copy(from, to)).map_err(|error| {
            let (from, to) = (from.display(), to.display());
            format!("{from} to {to}: {error}")
        })
    };
    for script in SCRIPTS {
        copy(&root().join(PEERS).join(script), &kit.join(PEERS).join(script))?;
    }
    let program = Path::new("release").join(format!("peers{}", std::env::consts::EXE_SUFFIX));
    let (built, there) = (output_dir().with_file_name("peers").join(&program), kit.join("peers").join(&program));
    if !built.is_file() {
        return Ok("without the peers cuDNN and cuBLASLt (`cargo xtask bench --install-peers` builds them)");
    }
    copy(&built, &there)?;
    strip(&there)?;
    Ok("with the peers cuDNN and cuBLASLt")
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

/// The commit that the kit is made of, and whether anything was changed since, as `bench --kit` reads it.
fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").current_dir(root()).args(args).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = git(&["status", "--porcelain"]).is_none_or(|text| !text.is_empty());
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".into());
    format!("{commit}{}\n", if changed { ", with changes" } else { "" })
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
