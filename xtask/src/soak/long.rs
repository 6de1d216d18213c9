//! A long training: memory and time of a step stay flat.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use super::Options;
use super::work::{Work, at};

/// Time between two looks at the memory.
const INTERVAL: Duration = Duration::from_millis(200);
/// What the memory may grow by between the second quarter of the run and the last: its log and film, which it keeps.
const MOST_GROWTH: f64 = 1.3;

/// Trains and watches.
pub(super) fn run(work: &Work, options: &Options) -> Result<Value, String> {
    if options.steps == 0 {
        return Ok(json!({ "steps": 0 }));
    }
    let arguments = format!("train --data-dir set --batch 16 --steps {} --threads 1 --quiet --out long", options.steps);
    let mut child = work.trainer(&arguments).spawn().map_err(|error| format!("cannot start the trainer: {error}"))?;
    let mut resident = Vec::new();
    let ended = work.folder.join("long/model.onnx");
    while child.try_wait().map_err(|error| error.to_string())?.is_none() {
        // Drawing the report needs memory of its own.
        if !ended.is_file() {
            resident.extend(resident_kibibytes(child.id()));
        }
        sleep(INTERVAL);
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("trainer {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let seconds = step_seconds(work)?;
    let quarter = seconds.len() / 4;
    if quarter == 0 {
        return Err(format!("expected at least 4 readings of the log, found {}", seconds.len()));
    }
    let median = |part: &[f64]| {
        let mut sorted = part.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    // The first quarter reads the images and warms up.
    let part = resident.len() / 4;
    let of = |part: &[u64]| part.iter().max().copied();
    let (before, after) = (of(&resident[part..2 * part]), of(&resident[3 * part..]));
    if let (Some(before), Some(after)) = (before, after)
        && after as f64 > MOST_GROWTH * before as f64
    {
        return Err(format!("the memory grew from {before} to {after} KiB"));
    }
    Ok(json!({
        "steps": options.steps,
        "resident_kib_second_quarter": before,
        "resident_kib_last_quarter": after,
        "step_ms_first_quarter": 1e3 * median(&seconds[..quarter]),
        "step_ms_last_quarter": 1e3 * median(&seconds[seconds.len() - quarter..]),
    }))
}

/// Memory of a process that is in use, where the system says so.
fn resident_kibibytes(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Seconds of a step between two readings of the log: steps read together share their time.
fn step_seconds(work: &Work) -> Result<Vec<f64>, String> {
    let path = work.folder.join("long/metrics.jsonl");
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    let mut readings: Vec<(u64, f64)> = Vec::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).map_err(|error| format!("{}: {error}", path.display()))?;
        if let (Some("step"), Some(step), Some(seconds)) =
            (line["kind"].as_str(), line["step"].as_u64(), line["seconds"].as_f64())
        {
            readings.push((step, seconds));
        }
    }
    // Of steps read together the last one.
    let mut last: Vec<(u64, f64)> = Vec::new();
    for reading in readings {
        match last.last_mut() {
            Some(before) if reading.1 - before.1 < 1e-3 => *before = reading,
            _ => last.push(reading),
        }
    }
    Ok(last.windows(2).map(|pair| (pair[1].1 - pair[0].1) / (pair[1].0 - pair[0].0) as f64).collect())
}
