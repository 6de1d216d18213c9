//! Runs the emulator's own test programs on a device and compares: `instructions FILE [--device cuda|cuda:N|emulator]`.
//!
//! The emulator's tests write each program that ran, with what it was given and what it returned, to the file that
//! `SPHEREFACE_PROGRAMS` names. They expect what the PTX ISA says; here the hardware says whether that is so.

use serde::Deserialize;
use sphereface_cuda::driver::{Access, Argument, Extent};
use sphereface_cuda::nvrtc::Architecture;
use sphereface_cuda::{CudaDriver, Driver, EmulatorDriver};
use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;

/// Instructions that may differ from what they compute by a little: the ISA bounds the error of the first, and lets the
/// second add in any order. By how much, of the result and absolutely.
const INEXACT: [(&str, f32); 2] = [(".approx", 1e-5), ("mma.", 1e-5)];

/// A program, its launch, and what the emulator returned.
#[derive(Deserialize)]
struct Program {
    /// A kernel `test(out, in)`.
    ptx: String,
    blocks: u32,
    threads: u32,
    inputs: Vec<u32>,
    outputs: Vec<u32>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match &args[..] {
        [file] => compare(file, "cuda"),
        [file, flag, device] if flag == "--device" => compare(file, device),
        _ => Err("expected FILE [--device cuda|cuda:N|emulator]".into()),
    };
    match result {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("instructions: {message}");
            ExitCode::FAILURE
        }
    }
}

fn compare(file: &str, device: &str) -> Result<String, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    // Tests run in any order and some run the same program with the same input.
    let programs: BTreeMap<&str, usize> = text.lines().zip(1..).collect();
    if programs.is_empty() {
        return Err(format!("{file}: expected a program a line, found none"));
    }
    let mut driver = driver(device)?;
    let mut wrong = 0;
    for (line, number) in &programs {
        let program: Program = serde_json::from_str(line).map_err(|error| format!("{file}: line {number}: {error}"))?;
        let found = run(&mut *driver, &program).map_err(|error| format!("{}\n{error}", program.ptx))?;
        if let Some(at) = (0..found.len()).find(|&at| !agree(&program, at, found[at])) {
            wrong += 1;
            let (thread, word, expected) = (at / 4, at % 4, program.outputs[at]);
            println!(
                "{}\nthread {thread}, word {word}: expected {expected:#010x}, found {:#010x}",
                program.ptx, found[at]
            );
        }
    }
    let summary = format!("{}: {} programs, {wrong} that differ", driver.name(), programs.len());
    if wrong == 0 { Ok(summary) } else { Err(summary) }
}

fn driver(device: &str) -> Result<Box<dyn Driver>, String> {
    if device == "emulator" {
        return Ok(Box::new(EmulatorDriver::new(Architecture::new(90))));
    }
    let number = device.strip_prefix("cuda").map(|rest| rest.strip_prefix(':').unwrap_or("0"));
    let ordinal = number.and_then(|number| number.parse().ok());
    let ordinal = ordinal.ok_or_else(|| format!("--device: expected cuda, cuda:N or emulator, found {device}"))?;
    Ok(Box::new(CudaDriver::new(ordinal)?))
}

/// Output of a program: four words a thread.
fn run(driver: &mut dyn Driver, program: &Program) -> Result<Vec<u32>, String> {
    let module = driver.load(program.ptx.as_bytes())?;
    let function = driver.function(module, "test", 0)?;
    let (read, written) = (4 * program.inputs.len() as u64, 4 * program.outputs.len() as u64);
    let (input, output) = (driver.allocate(read)?, driver.allocate(written)?);
    driver.upload(input, bytemuck::cast_slice(&program.inputs))?;
    driver.upload(output, &vec![0; written as usize])?;
    let memory = |pointer, bytes| Argument::Memory { pointer, bytes, access: Access::Update };
    let extent = Extent { grid: [program.blocks, 1, 1], block: [program.threads, 1, 1], shared_bytes: 0 };
    driver.launch(function, extent, &[memory(output, written), memory(input, read)])?;
    let mut words = vec![0u32; program.outputs.len()];
    driver.download(output, bytemuck::cast_slice_mut(&mut words))?;
    driver.free(input)?;
    driver.free(output)?;
    Ok(words)
}

/// Whether a word is what the emulator returned, bit for bit unless the program uses an inexact instruction.
fn agree(program: &Program, at: usize, found: u32) -> bool {
    let expected = program.outputs[at];
    let bound =
        INEXACT.iter().find(|(instruction, _)| program.ptx.contains(instruction)).map_or(0.0, |(_, bound)| *bound);
    let (a, b) = (f32::from_bits(expected), f32::from_bits(found));
    expected == found || (a - b).abs() <= bound * a.abs().max(1.0) && bound > 0.0
}
