//! The protocol of a peer: one JSON object a line, requests on standard input and answers on standard output.

use crate::arrays::{self, Array, Inputs};
use crate::case::Case;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use std::any::Any;
use std::io::{BufRead, Write, stdin, stdout};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Instant;

/// The only way in which these libraries run a case.
pub(crate) const ONLY_VARIANT: &str = "default";

/// A library under measurement.
pub(crate) trait Framework {
    /// Name of its package in `Cargo.lock`, and the name that tables show.
    fn names(&self) -> (&'static str, &'static str);
    /// How it runs: threads, features.
    fn detail(&self) -> String;
    /// Whether it can run a case.
    fn supports(&self, case: &Case) -> bool;
    /// Loads the operands and runs once.
    fn prepare(&self, case: &Case, inputs: &Inputs) -> Result<Prepared>;
}

/// A case that ran once.
pub(crate) struct Prepared {
    /// What it computed, in our layout.
    pub(crate) outputs: Vec<(&'static str, Array)>,
    /// Runs it again.
    pub(crate) run: Box<dyn FnMut() -> Result<()>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Request {
    Variants { variants: Case },
    Prepare { prepare: Case, inputs: PathBuf, outputs: PathBuf },
    Run { run: usize },
}

/// Answers requests until standard input ends.
pub(crate) fn serve(framework: &dyn Framework) -> Result<()> {
    let (package, name) = framework.names();
    reply(&json!({ "peer": name, "version": version(package)?, "detail": framework.detail() }))?;
    let mut prepared = None;
    for line in stdin().lock().lines() {
        let line = line.context("standard input")?;
        // One case that a library refuses, often with a panic, must not cost the others.
        let answer = catch_unwind(AssertUnwindSafe(|| answer(framework, &mut prepared, &line)));
        let answer = answer.unwrap_or_else(|panic| bail!("{name} panicked: {}", message(panic.as_ref())));
        reply(&answer.unwrap_or_else(|error| {
            let text = format!("{error:#}");
            json!({ "missing": text.lines().next().unwrap_or("an error without a message") })
        }))?;
    }
    Ok(())
}

fn answer(framework: &dyn Framework, prepared: &mut Option<Prepared>, line: &str) -> Result<Value> {
    match serde_json::from_str(line).context("expected variants, prepare or run")? {
        Request::Variants { variants: case } => {
            Ok(json!({ "variants": if framework.supports(&case) { vec![ONLY_VARIANT] } else { vec![] } }))
        }
        Request::Prepare { prepare: case, inputs, outputs } => {
            *prepared = None; // Its memory is free before the next takes its own.
            if !framework.supports(&case) {
                bail!("this case is not supported");
            }
            let ready = framework.prepare(&case, &Inputs::read(&inputs)?)?;
            arrays::write(&outputs, &ready.outputs)?;
            *prepared = Some(ready);
            Ok(json!({ "ready": true }))
        }
        Request::Run { run: count } => {
            let prepared = prepared.as_mut().context("expected a prepared case, found none")?;
            let start = Instant::now();
            for _ in 0..count {
                (prepared.run)()?;
            }
            Ok(json!({ "seconds": start.elapsed().as_secs_f64() }))
        }
    }
}

fn reply(value: &Value) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{value}").and_then(|()| out.flush()).context("standard output")
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it said nothing".to_owned())
}

/// The version of a package that this binary was built with.
fn version(package: &str) -> Result<&'static str> {
    const LOCK: &str = include_str!("../Cargo.lock");
    let entry =
        LOCK.split("[[package]]").find(|entry| entry.trim_start().starts_with(&format!("name = \"{package}\"\n")));
    let line = entry.and_then(|entry| entry.lines().find_map(|line| line.strip_prefix("version = \"")));
    Ok(line.with_context(|| format!("Cargo.lock has no {package}"))?.trim_end_matches('"'))
}
