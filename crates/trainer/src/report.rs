//! The command `report`: draws the report of finished runs again, of several side by side.

use crate::cli::ReportArgs;
use crate::config::Config;
use crate::folder::{Folder, REPORT};
use anyhow::{Result, bail, ensure};
use sphereface_report::Report;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// Settings in which runs may differ and still stand side by side: what they compare, and where it was found or
/// computed. (The data themselves are compared by their SHA-256, and a margin by the title of its loss.)
const FREE: &[&str] = &[
    "model.losses",
    "model.dims",
    "model.m",
    "model.settings",
    "training.seed",
    "training.seeds",
    "training.guard",
    "data.set",
    "data.dir",
    "backend.device",
    "backend.tier",
    "backend.arena",
    "backend.graph",
    "backend.threads",
];

/// Reads every run, and only then writes anything.
pub(crate) fn report(args: &ReportArgs) -> Result<()> {
    let mut first: Option<(String, BTreeMap<String, String>)> = None;
    let mut reports = Vec::new();
    for path in &args.runs {
        let name = path.display().to_string();
        ensure!(
            reports.iter().all(|(before, _)| *before != name),
            "{name}: expected different runs, found it given twice"
        );
        let (config, report) = finished(path)?;
        let settings = settings(&config)?;
        match &first {
            Some((before, expected)) => same_settings(&name, &settings, before, expected)?,
            None => first = Some((name.clone(), settings)),
        }
        reports.push((name, report));
    }
    let several = reports.len() > 1;
    let report = Report::merged(reports)?;
    report.html()?; // Fails, if it does, before there is a folder.
    let folder = match (&args.out, &args.runs[..]) {
        (Some(out), _) => out.clone(),
        (None, [run]) => run.clone(),
        (None, _) => Folder::create(None, "report")?.path().to_path_buf(),
    };
    report.write(&folder)?;
    tell!("{}", report.terminal_table().trim_end());
    tell!("{}{}", folder.join("report.html").display(), if several { " (of several runs)" } else { "" });
    Ok(())
}

/// Configuration and report of a finished run.
fn finished(path: &Path) -> Result<(Config, Report)> {
    let folder = Folder::open(path)?;
    let config = folder.read_config()?;
    let file = folder.file(REPORT);
    if !file.is_file() {
        let command = if config.trainings().len() > 1 { "compare" } else { "train" };
        bail!(
            "{}: expected {REPORT} of a finished run, found none (to finish it: trainer {command} --resume {0})",
            path.display()
        );
    }
    Ok((config, Report::load(&file)?))
}

/// The settings that have to be the same, by name.
fn settings(config: &Config) -> Result<BTreeMap<String, String>> {
    let mut settings = BTreeMap::new();
    for (table, values) in toml::from_str::<toml::Table>(&config.to_toml()?)? {
        for (key, value) in values.as_table().into_iter().flatten() {
            let name = format!("{table}.{key}");
            if !FREE.contains(&name.as_str()) {
                settings.insert(name, value.to_string());
            }
        }
    }
    Ok(settings)
}

fn same_settings(
    name: &str,
    found: &BTreeMap<String, String>,
    before: &str,
    expected: &BTreeMap<String, String>,
) -> Result<()> {
    let mut differing = Vec::new();
    let names: std::collections::BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
    let value = |settings: &BTreeMap<String, String>, name: &String| {
        settings.get(name).map_or_else(|| "none".to_owned(), String::clone)
    };
    for setting in names {
        let (found, expected) = (value(found, setting), value(expected, setting));
        if found != expected {
            differing.push(format!("{setting} {found} instead of {expected}"));
        }
    }
    ensure!(
        differing.is_empty(),
        "{name}: expected the settings of {before}, found {}; draw a report of each",
        differing.join(", ")
    );
    Ok(())
}
