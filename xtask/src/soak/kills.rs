//! Kill −9 at random moments: every resume exact, no torn file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Instant;

use serde_json::{Value, json};

use super::Options;
use super::work::{Random, Work, at, metrics};

/// Runs that are killed in turn: a comparison, and trainings that the guard sends back, early and late.
const RUNS: [(&str, &str); 3] = [
    (
        "compare",
        "compare --data-dir set --losses softmax,sphereface --dims 2 --batch 16 --steps 90 --threads 1 --quiet",
    ),
    (
        "train",
        "train --config official.toml --data-dir set --loss sphereface --dim 2 --batch 16 --steps 130 --threads 1 --quiet",
    ),
    (
        "train",
        "train --config late.toml --data-dir set --loss sphereface --dim 2 --batch 16 --steps 300 --threads 1 --quiet",
    ),
];

/// What the last training of a run leaves first when it has ended.
const LAST: [&str; 2] = ["model.onnx", "sphereface-2d/model.onnx"];

/// Kills until there were enough, each run to its end, and compares with the same run left alone.
pub(super) fn run(work: &Work, options: &Options) -> Result<Value, String> {
    let mut random = Random(options.seed);
    let mut moments: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut kills, mut finished) = (0, 0);
    let mut durations = Vec::new();
    for (which, (_, arguments)) in RUNS.iter().enumerate() {
        let started = Instant::now();
        work.succeed(&format!("{arguments} --out whole-{which}"))?;
        durations.push(started.elapsed());
    }
    while kills < options.kills {
        let which = finished % RUNS.len();
        let ((command, arguments), whole) = (RUNS[which], durations[which]);
        let run = work.folder.join("killed");
        let _ = fs::remove_dir_all(&run);
        // A run that is killed ever again would never end on a slow machine: each attempt gets more time.
        for attempt in 0.. {
            let started = run.join("config.toml").is_file();
            let line = if started {
                format!("{command} --resume killed --quiet")
            } else {
                format!("{arguments} --out killed")
            };
            let enough = kills >= options.kills;
            let patience = whole.mul_f64(random.fraction() * 0.6) + whole.mul_f64(0.02 * f64::from(attempt));
            if !started {
                let _ = fs::remove_dir_all(&run);
            }
            let mut child =
                work.trainer(&line).spawn().map_err(|error| format!("cannot start the trainer: {error}"))?;
            if !enough {
                sleep(patience);
            }
            let running = child.try_wait().map_err(|error| error.to_string())?.is_none();
            if !enough && running {
                child.kill().map_err(|error| error.to_string())?;
            }
            let output = child.wait_with_output().map_err(|error| error.to_string())?;
            if enough || !running {
                if !output.status.success() {
                    let said = String::from_utf8_lossy(&output.stderr);
                    return Err(format!("after {kills} kills, attempt {attempt}: trainer {line}: {}", said.trim()));
                }
                break;
            }
            kills += 1;
            *moments.entry(moment(&run)).or_default() += 1;
            whole_files(&run)?;
        }
        same_results(&work.folder.join(format!("whole-{which}")), &run)?;
        finished += 1;
        println!("kills: {kills} of {}, {finished} runs finished as if they had been left alone", options.kills);
    }
    Ok(json!({ "kills": kills, "moments": moments, "runs_finished_exactly": finished }))
}

/// What the program was at when it died, as far as its files tell.
fn moment(run: &Path) -> &'static str {
    let is_there = |name: &str| run.join(name).is_file();
    let writing = fs::read_dir(run).is_ok_and(|entries| {
        let mut names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.any(|name| name.starts_with('.') && name != ".lock")
    });
    match () {
        () if writing => "writing a file",
        () if !is_there("config.toml") => "starting",
        () if LAST.iter().any(|name| is_there(name)) => "exporting or reporting",
        () => "training",
    }
}

/// Every file that has its final name is whole.
fn whole_files(folder: &Path) -> Result<(), String> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            whole_files(&path)?;
        }
        let whole = match name.rsplit_once('.').map(|(_, ending)| ending) {
            _ if name.ends_with(".tmp") => Ok(()),
            Some("json") => fs::read(&path).map_err(at(&path)).and_then(|text| {
                serde_json::from_slice::<Value>(&text).map(drop).map_err(|error| format!("{}: {error}", path.display()))
            }),
            Some("safetensors") => fs::read(&path).map_err(at(&path)).and_then(|file| safetensors(&path, &file)),
            Some("jsonl") => metrics(folder, true).map(drop),
            Some("html") => ends(&path, "</html>"),
            Some("svg") => ends(&path, "</svg>"),
            _ => Ok(()),
        };
        whole?;
    }
    Ok(())
}

fn ends(path: &Path, with: &str) -> Result<(), String> {
    let text = fs::read_to_string(path).map_err(at(path))?;
    if text.trim_end().ends_with(with) { Ok(()) } else { Err(format!("{}: does not end in {with}", path.display())) }
}

/// A header that names parts of the file, and these parts.
fn safetensors(path: &Path, file: &[u8]) -> Result<(), String> {
    let torn = |what: &str| format!("{}: {what}", path.display());
    let length = file.get(..8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    let length = length.ok_or_else(|| torn("no length"))? as usize;
    let header = file.get(8..length.saturating_add(8)).ok_or_else(|| torn("no header"))?;
    let header: Value = serde_json::from_slice(header).map_err(|error| torn(&error.to_string()))?;
    let ends = header.as_object().into_iter().flatten().filter_map(|(_, tensor)| tensor["data_offsets"][1].as_u64());
    let end = ends.max().unwrap_or(0) as usize;
    if 8 + length + end == file.len() { Ok(()) } else { Err(torn("the tensors are not whole")) }
}

/// Bytes of states, films and models, and all of the logs but the time, are those of a run that was left alone.
fn same_results(whole: &Path, killed: &Path) -> Result<(), String> {
    if metrics(whole, false)? != metrics(killed, false)? {
        return Err(format!("{} and {}: the logs differ", whole.display(), killed.display()));
    }
    let mut folders = vec![(whole.to_path_buf(), killed.to_path_buf())];
    for entry in fs::read_dir(whole).map_err(at(whole))?.flatten() {
        if entry.path().join("metrics.jsonl").is_file() {
            folders.push((entry.path(), killed.join(entry.file_name())));
        }
    }
    for (whole, killed) in folders {
        for name in ["checkpoint.safetensors", "film.safetensors", "model.safetensors", "embeddings.csv"] {
            let (path, other) = (whole.join(name), killed.join(name));
            if path.is_file() && fs::read(&path).map_err(at(&path))? != fs::read(&other).map_err(at(&other))? {
                return Err(format!("{} and {} differ", path.display(), other.display()));
            }
        }
    }
    Ok(())
}
