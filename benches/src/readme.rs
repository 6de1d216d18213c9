//! The README's table of a run: the cases that stand for all.

use crate::record::{CaseRecord, PeerInfo, Run};
use crate::table::{ratio, three_digits, time};
use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Before a block, followed by what its runs compute on, the run's name and ` -->`.
pub const BEGIN: &str = "<!-- bench:begin ";
/// After a block.
pub const END: &str = "<!-- bench:end -->";

/// The block between the two marks: the text of the run's `readme.md`.
pub fn block(run: &Run) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_block(run, &mut text);
    text
}

/// Timed cases that stand for all.
fn headlines(run: &Run) -> impl Iterator<Item = &CaseRecord> {
    run.cases.iter().filter(|case| case.headline && case.ours.is_some())
}

fn write_block(run: &Run, text: &mut String) -> std::fmt::Result {
    let timed = |name: &str| headlines(run).any(|case| case.rival(name).is_some_and(|rival| rival.seconds.is_some()));
    let peers: Vec<&str> = run.peers.iter().map(|peer| peer.name.as_str()).filter(|name| timed(name)).collect();
    write!(text, "| | ours |")?;
    peers.iter().try_for_each(|name| write!(text, " {name} |"))?;
    writeln!(text, " speed-up over the best |\n|---|---|{}---|", "---|".repeat(peers.len()))?;
    for case in headlines(run) {
        let cell = |seconds: f64| match &case.items {
            Some((count, name)) if *count > 1 => format!("{} {name}/s", three_digits(*count as f64 / seconds)),
            _ => time(seconds),
        };
        write!(text, "| {} | {} |", case.name, case.ours.map(|ours| cell(ours.median)).unwrap_or_default())?;
        for name in &peers {
            let seconds = case.rival(name).and_then(|rival| rival.seconds);
            write!(text, " {} |", seconds.map_or_else(|| "–".into(), |seconds| cell(seconds.median)))?;
        }
        let best = case.best().and_then(|rival| rival.ratio);
        writeln!(text, " {} |", best.map_or_else(|| "–".into(), ratio))?;
    }
    let versions = run.peers.iter().filter(|peer| peers.contains(&peer.name.as_str()));
    let version = |peer: &PeerInfo| {
        let apart = peer.precision.as_ref().map(|precision| format!(" (in {precision}, never the best)"));
        format!("{} {}{}", peer.name, peer.version, apart.unwrap_or_default())
    };
    let versions: Vec<String> = versions.map(version).collect();
    let with = if versions.is_empty() { String::new() } else { format!(" beside {}", versions.join(", ")) };
    let device = run.machine.gpu.as_deref().unwrap_or(&run.machine.cpu);
    writeln!(
        text,
        "\nMedians of interleaved rounds{with}, on {device}, {} threads, {}: [all cases](benches/runs/{}/table.md), \
         recorded with `{}`.",
        run.machine.threads,
        run.date.split(' ').next().unwrap_or_default(),
        run.name,
        shortened(&run.command)
    )
}

/// A command without the names of its cases, which stand in the table: no README needs all of them.
fn shortened(command: &str) -> String {
    match command.split_once(" --only ") {
        Some((before, _)) => format!("{before} --only …"),
        None => command.to_owned(),
    }
}

/// The README with the run's block in place of the one for such devices (`cpu` or `cuda`), or else behind the last block.
///
/// # Errors
/// When it has no block.
pub fn replaced(readme: &str, run: &Run) -> Result<String> {
    let kind = run.device.split(':').next().unwrap_or_default();
    let mine = format!("{BEGIN}{kind} ");
    let new = format!("{mine}{} -->\n{}{END}", run.name, block(run));
    let missing = |what: &str| format!("README.md: expected `{what}`, found none");
    match readme.find(&mine) {
        Some(begin) => {
            let length = readme[begin..].find(END).with_context(|| missing(END))? + END.len();
            Ok(format!("{}{new}{}", &readme[..begin], &readme[begin + length..]))
        }
        None => {
            let last = readme.rfind(END).with_context(|| missing(&format!("{BEGIN}DEVICE RUN -->")))? + END.len();
            Ok(format!("{}\n\n{new}{}", &readme[..last], &readme[last..]))
        }
    }
}

/// The run of this name, or else the latest one by name that has timed what stands for all.
///
/// # Errors
/// When there is none.
pub fn find_run(runs: &Path, name: Option<&str>) -> Result<PathBuf> {
    if let Some(name) = name {
        let given = PathBuf::from(name);
        let folder = if given.join("run.json").is_file() { given } else { runs.join(name) };
        ensure!(folder.join("run.json").is_file(), "{}: expected a run, found no run.json", folder.display());
        return Ok(folder);
    }
    let entries = std::fs::read_dir(runs).with_context(|| runs.display().to_string())?;
    let stands = |path: &PathBuf| Run::read(path).is_ok_and(|run| headlines(&run).next().is_some());
    let folders = entries.flatten().map(|entry| entry.path()).filter(stands);
    folders.max().with_context(|| format!("{}: expected a run of what stands for all, found none", runs.display()))
}
