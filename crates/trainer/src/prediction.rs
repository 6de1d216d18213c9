//! What a training step takes at best on a machine: `plan --machine`.

use crate::device::processor;
use crate::network::Profile;
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use sphereface_models::Model;
use sphereface_tensor::cpu::measure_ceilings;
use sphereface_tensor::roofline::{MACHINES, Machine, Precision};
use sphereface_tensor::{GRADIENTS, PARAMETERS, Plan};
use std::fmt::Write as _;
use std::path::Path;

/// The name of the machine that this runs on.
const THIS: &str = "this";

/// A machine in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MachineFile {
    name: String,
    fp32: f64,
    tf32: Option<f64>,
    bf16: Option<f64>,
    bandwidth: f64,
    #[serde(default)]
    overhead: f64,
    memory: Option<f64>,
}

/// The precision of this name.
pub(crate) fn precision(name: &str) -> Result<Precision> {
    let known = Precision::NAMED.iter().find(|(key, _)| *key == name);
    let names = Precision::NAMED.map(|(key, _)| key).join(", ");
    Ok(known.ok_or_else(|| anyhow!("--precision: expected one of {names}, found '{name}'"))?.1)
}

/// A machine by its name, measured, or read from a file.
pub(crate) fn machine(name: &str, threads: usize) -> Result<Machine> {
    if let Some((_, machine)) = MACHINES.into_iter().find(|(key, _)| *key == name) {
        return Ok(machine);
    }
    if name == THIS {
        return this(threads);
    }
    let path = Path::new(name);
    if !path.exists() {
        let names = MACHINES.map(|(key, _)| key).join(", ");
        bail!("--machine: expected {THIS}, one of {names}, or a TOML file, found '{name}'");
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("--machine: {name}"))?;
    parse(&text).map_err(|error| anyhow!("--machine: {name}: {error}"))
}

fn parse(text: &str) -> Result<Machine> {
    let file: MachineFile = toml::from_str(text).map_err(|error| anyhow!("{}", error.message()))?;
    let MachineFile { name, fp32, tf32, bf16, bandwidth, overhead, memory } = file;
    let rates = [("fp32", Some(fp32)), ("tf32", tf32), ("bf16", bf16), ("bandwidth", Some(bandwidth))];
    for (key, value) in rates.into_iter().chain([("memory", memory)]) {
        let value = value.unwrap_or(1.0);
        ensure!(value.is_finite() && value > 0.0, "{key}: expected a positive number, found {value}");
    }
    ensure!((0.0..1.0).contains(&overhead), "overhead: expected seconds, 0 to 1, found {overhead}");
    Ok(Machine { name: name.into(), fp32, tf32, bf16, bandwidth, overhead, memory })
}

/// The processor of this machine, measured.
fn this(threads: usize) -> Result<Machine> {
    let ceilings = measure_ceilings(threads)?;
    let memory = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let kilobytes: f64 = text.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok()?;
        Some(1024.0 * kilobytes)
    });
    Ok(Machine {
        name: processor().into(),
        fp32: ceilings.flops,
        tf32: None,
        bf16: None,
        bandwidth: ceilings.bandwidth,
        overhead: ceilings.overhead,
        memory,
    })
}

/// Times by layer and pass, images a second, and memory, at most 80 columns wide.
pub(crate) fn table(
    model: &Model,
    plan: &Plan,
    batch: usize,
    machine: &Machine,
    precision: Precision,
) -> Result<String> {
    let prediction = plan.predict(machine, precision)?;
    let seconds = prediction.seconds();
    let mut text = format!(
        "{}, {precision}: {:.3} TFLOP/s of products, {:.1} GB/s, {:.1} µs to start a step\n\n",
        machine.name,
        1e-12 * machine.peak(precision)?,
        1e-9 * machine.bandwidth,
        1e6 * machine.overhead,
    );
    text += &Profile::new(model, &prediction.times())?.table();
    let start = 100.0 * machine.overhead * prediction.steps.len() as f64 / seconds;
    let waiting = 100.0 * prediction.memory_bound_seconds() / seconds;
    writeln!(text, "\nAt best, by the roofline: each step at the peak or at full bandwidth. What a")?;
    writeln!(text, "cache keeps from step to step and Winograd's fewer products are not counted.")?;
    writeln!(
        text,
        "{:>14.3} ms a step of batch {batch}, {:.1} images a second",
        1e3 * seconds,
        batch as f64 / seconds
    )?;
    writeln!(text, "{waiting:>14.1}% of it in steps that wait for memory, {start:.1}% to start steps")?;
    let of = |wanted: &dyn Fn(&str) -> bool| {
        let sizes = prediction.persistent.iter().filter(|(name, _)| wanted(name)).map(|(_, bytes)| *bytes);
        1e-6 * sizes.sum::<usize>() as f64
    };
    let states = [PARAMETERS, GRADIENTS];
    let (parameters, gradients) = (of(&|name| name == PARAMETERS), of(&|name| name == GRADIENTS));
    let others = of(&|name| !states.contains(&name));
    let total = 1e-6 * prediction.bytes() as f64;
    writeln!(
        text,
        "{total:>14.1} MB of memory: {:.1} activations, {parameters:.1} parameters,",
        1e-6 * prediction.arena as f64
    )?;
    write!(text, "{:>14} {gradients:.1} gradients, {others:.1} state, images and tables", "")?;
    if let Some(memory) = machine.memory {
        write!(text, "\n{:>14.1} MB the machine has", 1e-6 * memory)?;
        if prediction.bytes() as f64 > memory {
            text += ": too little";
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_machine() {
        let machine = parse("name = \"mine\"\nfp32 = 2e12\nbf16 = 4e12\nbandwidth = 1e11\nmemory = 8e9\n").unwrap();
        assert_eq!((machine.fp32, machine.tf32, machine.overhead), (2e12, None, 0.0));
        assert_eq!(machine.peak(Precision::Bf16).unwrap(), 4e12);
    }

    #[test]
    fn a_file_that_is_no_machine_is_refused_by_its_key() {
        let whole = "name = \"mine\"\nfp32 = 2e12\nbandwidth = 1e11\noverhead = 1e-6\n";
        for (from, to, word) in [
            ("fp32 = 2e12", "fp32 = -1.0", "fp32"),
            ("fp32 = 2e12\n", "", "fp32"),
            ("bandwidth = 1e11", "bandwidth = nan", "bandwidth"),
            ("bandwidth", "bandwith", "bandwith"),
            ("1e-6", "5.0", "overhead"),
        ] {
            let error = parse(&whole.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains('\n'), "{error}");
        }
    }
}
