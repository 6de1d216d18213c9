//! Disks that refuse: full, read-only, gone; and two processes at one run. One clear line, and nothing lost.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use super::Options;
use super::work::{Work, at, one_line};

/// Too little for a run that has begun: its first checkpoint fits, and no more than a few files.
const SMALL_BYTES: u64 = 5 << 20;
const TRAIN: &str = "train --data-dir set --batch 16 --steps 60 --threads 1 --quiet";
const ENDLESS: &str = "train --data-dir set --batch 16 --steps 1000000 --threads 1 --quiet";

/// A file system in memory, as long as this lives.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    /// `None` with a reason where this user may not mount.
    fn new(path: &'a Path, bytes: u64) -> Result<Mounted<'a>, String> {
        fs::create_dir_all(path).map_err(at(path))?;
        mount(&["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"], path)?;
        Ok(Mounted(path))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn mount(arguments: &[&str], path: &Path) -> Result<(), String> {
    let output = Command::new("mount").args(arguments).arg(path).output();
    let output = output.map_err(|error| format!("no mount: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

/// Every refusal with the line that the program said, or why it could not be tried.
pub(super) fn run(work: &Work, _: &Options) -> Result<Value, String> {
    work.succeed(&format!("{TRAIN} --out undisturbed"))?;
    let disks = full_and_read_only(work)?;
    Ok(json!({
        "full": disks[0],
        "read_only": disks[1],
        "folder_vanished": vanished(work)?,
        "two_processes": two_processes(work)?,
    }))
}

/// A run in a file system that is full, then read-only; afterwards it goes on as if nothing had been.
fn full_and_read_only(work: &Work) -> Result<[String; 2], String> {
    let place = work.folder.join("small");
    let small = match Mounted::new(&place, SMALL_BYTES) {
        Ok(small) => small,
        Err(reason) => {
            let skipped = format!("not run: a file system cannot be mounted here ({reason})");
            println!("disk: {skipped}");
            return Ok([skipped.clone(), skipped]);
        }
    };
    let full = work.fail(&format!("{TRAIN} --out small/run"))?;
    expect(&full, &["small/run", "cannot be written"])?;
    mount(&["-o", "remount,ro"], &place)?;
    let read_only = work.fail("train --resume small/run --quiet")?;
    expect(&read_only, &["small/run"])?;
    mount(&["-o", &format!("remount,rw,size={}", 100 * SMALL_BYTES)], &place)?;
    work.succeed("train --resume small/run --quiet")?;
    same_state(work, "small/run")?;
    drop(small);
    Ok([full, read_only])
}

/// The folder is removed while the training runs.
fn vanished(work: &Work) -> Result<String, String> {
    let run = work.folder.join("vanishing");
    let child = begun(work, &format!("{ENDLESS} --out vanishing"), &run)?;
    fs::rename(&run, work.folder.join("moved")).map_err(at(&run))?;
    let line = one_line(ENDLESS, &child.wait_with_output().map_err(|error| error.to_string())?)?;
    expect(&line, &["vanishing"])?;
    // What was moved is whole.
    work.succeed("eval moved")?;
    Ok(line.replace(&format!("{}/", work.folder.display()), ""))
}

/// A second process at a run that is being trained.
fn two_processes(work: &Work) -> Result<String, String> {
    let run = work.folder.join("shared");
    let mut child = begun(work, &format!("{ENDLESS} --out shared"), &run)?;
    let line = work.fail("train --resume shared --quiet");
    child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
    let line = line?;
    expect(&line, &["shared", "another process"])?;
    work.succeed("eval shared")?;
    Ok(line)
}

/// A training that has its first checkpoint.
fn begun(work: &Work, arguments: &str, run: &Path) -> Result<std::process::Child, String> {
    let child = work.trainer(arguments).spawn().map_err(|error| format!("cannot start the trainer: {error}"))?;
    for _ in 0..6000 {
        if run.join("checkpoint.safetensors").is_file() {
            return Ok(child);
        }
        sleep(Duration::from_millis(10));
    }
    Err(format!("trainer {arguments}: no checkpoint after a minute"))
}

fn expect(line: &str, words: &[&str]) -> Result<(), String> {
    match words.iter().find(|word| !line.contains(**word)) {
        None => Ok(()),
        Some(word) => Err(format!("expected '{word}' in the line, found: {line}")),
    }
}

fn same_state(work: &Work, run: &str) -> Result<(), String> {
    let [one, other] = ["undisturbed", run].map(|run| work.folder.join(run).join("checkpoint.safetensors"));
    let same = fs::read(&one).map_err(at(&one))? == fs::read(&other).map_err(at(&other))?;
    if same { Ok(()) } else { Err(format!("{} and {} differ", one.display(), other.display())) }
}
