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

/// The only way in which most of these libraries run a case.
const ONLY_VARIANT: &[&str] = &["default"];

/// A library under measurement.
pub(crate) trait Framework {
    /// Name of its package in `Cargo.lock`, and the name that tables show.
    fn names(&self) -> (&'static str, &'static str);
    /// Its version: that of its package, if it does not know better.
    fn version(&self) -> Result<String> {
        locked_version(self.names().0).map(str::to_owned)
    }
    /// How it runs: threads, features.
    fn detail(&self) -> String;
    /// Whether it can run a case.
    fn supports(&self, case: &Case) -> bool;
    /// The ways in which it can run what it supports, the likeliest to be the fastest first.
    fn variants(&self) -> &'static [&'static str] {
        ONLY_VARIANT
    }
    /// Loads the operands and runs once, in one of those ways.
    fn prepare(&self, case: &Case, inputs: &Inputs, variant: &str) -> Result<Prepared>;
}

/// A case that ran once.
pub(crate) struct Prepared {
    /// What it computed, in our layout.
    pub(crate) outputs: Vec<(&'static str, Array)>,
    /// Seconds that this many more runs take.
    pub(crate) seconds: Box<dyn FnMut(usize) -> Result<f64>>,
}

impl Prepared {
    /// A case that has ended when its function returns: timed by the clock.
    pub(crate) fn by_clock(
        outputs: Vec<(&'static str, Array)>,
        mut run: impl FnMut() -> Result<()> + 'static,
    ) -> Prepared {
        let seconds = move |count| {
            let start = Instant::now();
            for _ in 0..count {
                run()?;
            }
            Ok(start.elapsed().as_secs_f64())
        };
        Prepared { outputs, seconds: Box::new(seconds) }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Request {
    Variants {
        variants: Case,
    },
    Prepare {
        prepare: Case,
        inputs: PathBuf,
        outputs: PathBuf,
        #[serde(default)]
        variant: String,
    },
    Run {
        run: usize,
    },
}

/// Opens a library and answers requests until standard input ends; one that is missing says so, and that is all.
pub(crate) fn serve(open: impl FnOnce() -> Result<Box<dyn Framework>>) -> Result<()> {
    let framework = match caught(open) {
        Ok(framework) => framework,
        Err(error) => return reply(&missing(&error)),
    };
    let (_, name) = framework.names();
    reply(&json!({ "peer": name, "version": framework.version()?, "detail": framework.detail() }))?;
    let mut prepared = None;
    for line in stdin().lock().lines() {
        let line = line.context("standard input")?;
        // One case that a library refuses, often with a panic, must not cost the others.
        let answer = caught(|| answer(framework.as_ref(), &mut prepared, &line));
        reply(&answer.unwrap_or_else(|error| missing(&error)))?;
    }
    Ok(())
}

/// The result of a function, or why it panicked.
fn caught<T>(function: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(function)).unwrap_or_else(|panic| bail!("panicked: {}", message(panic.as_ref())))
}

/// Why there is no result, in one line.
fn missing(error: &anyhow::Error) -> Value {
    let text = format!("{error:#}");
    json!({ "missing": text.lines().next().unwrap_or("an error without a message") })
}

fn answer(framework: &dyn Framework, prepared: &mut Option<Prepared>, line: &str) -> Result<Value> {
    match serde_json::from_str(line).context("expected variants, prepare or run")? {
        Request::Variants { variants: case } => {
            Ok(json!({ "variants": if framework.supports(&case) { framework.variants() } else { &[] } }))
        }
        Request::Prepare { prepare: case, inputs, outputs, variant } => {
            *prepared = None; // Its memory is free before the next takes its own.
            if !framework.supports(&case) {
                bail!("this case is not supported");
            }
            let ready = framework.prepare(&case, &Inputs::read(&inputs)?, &variant)?;
            arrays::write(&outputs, &ready.outputs)?;
            *prepared = Some(ready);
            Ok(json!({ "ready": true }))
        }
        Request::Run { run: count } => {
            let prepared = prepared.as_mut().context("expected a prepared case, found none")?;
            Ok(json!({ "seconds": (prepared.seconds)(count)? }))
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
fn locked_version(package: &str) -> Result<&'static str> {
    const LOCK: &str = include_str!("../Cargo.lock");
    let entry =
        LOCK.split("[[package]]").find(|entry| entry.trim_start().starts_with(&format!("name = \"{package}\"\n")));
    let line = entry.and_then(|entry| entry.lines().find_map(|line| line.strip_prefix("version = \"")));
    Ok(line.with_context(|| format!("Cargo.lock has no {package}"))?.trim_end_matches('"'))
}
