//! Compiles every kernel for its architectures and prints what each takes; `cargo xtask kernels` runs it.
//!
//! `kernels` prints the table and fails on a spill, a stack frame or a warning. `kernels --document FILE` writes the
//! table of the documentation, one line a kernel. `kernels --into DIR ARCH` compiles
//! everything for one architecture into a folder, as the cache keeps it. `kernels --sass [PART]` prints what instructions
//! the machine code for sm_90a has, of kernels with that part in their name. `kernels --find` says whether NVRTC is there,
//! or else prints the package that has it and the folder to install it in; `kernels --find-nvdisasm` the same of the
//! disassembler.

mod recorder;
mod sass;

use rayon::prelude::*;
use recorder::Launched;
use sphereface_cuda::cache::{Cache, Job};
use sphereface_cuda::nvrtc::{Architecture, Compiled, Nvrtc, Output, PACKAGE, cache_folder};
use sphereface_cuda::resources::{Resources, occupancy, read_log};
use sphereface_cuda::{Unit, units};
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

/// Architectures of every file, whose kernels are those for any GPU.
const ANY: [Architecture; 4] =
    [Architecture::new(75), Architecture::new(80), Architecture::specific(90), Architecture::new(120)];
/// Architectures that files with kernels for `mma.sync` are compiled for besides.
const WITH_MMA: [Architecture; 2] = [Architecture::new(89), Architecture::specific(100)];
/// Names the file to which tests append the error of each kernel.
const ERRORS: &str = "SPHEREFACE_KERNEL_ERRORS";
/// What may pass, and why.
const ALLOWED: &str = include_str!("../../../../kernels/allowed.txt");

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args[..] {
        [] => table(None),
        ["--document", file] => table(Some(file)),
        ["--find"] => find(),
        ["--find-nvdisasm"] => find_disassembler(),
        ["--sass"] => sass::table(""),
        ["--sass", part] => sass::table(part),
        ["--into", folder, architecture] => fill(folder, architecture),
        _ => {
            Err("usage: kernels [--find | --find-nvdisasm | --document FILE | --into DIR ARCH | --sass [PART]]".into())
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("kernels: {message}");
            ExitCode::from(2)
        }
    }
}

/// Prints NVRTC's version; without it, three lines: why, the package, and the folder to install it in.
fn find() -> Result<bool, String> {
    let folder = cache_folder().ok_or("no home folder")?.join("nvrtc");
    match Nvrtc::find() {
        Ok(nvrtc) => println!("NVRTC {}.{}", nvrtc.version.0, nvrtc.version.1),
        Err(reason) => {
            println!("{reason}\n{PACKAGE}\n{}", folder.display());
            return Ok(false);
        }
    }
    Ok(true)
}

/// Prints where the disassembler is; without it, three lines as [`find`] does.
fn find_disassembler() -> Result<bool, String> {
    let folder = sass::folder().ok_or("no home folder")?;
    match sass::find() {
        Ok(file) => println!("{}", file.display()),
        Err(reason) => {
            println!("{reason}\n{}\n{}", sass::PACKAGE, folder.display());
            return Ok(false);
        }
    }
    Ok(true)
}

/// Compiles every unit for an architecture into a folder.
fn fill(folder: &str, architecture: &str) -> Result<bool, String> {
    let known = ANY.into_iter().chain(WITH_MMA).find(|known| known.to_string() == architecture);
    let architecture = known.ok_or_else(|| format!("expected an architecture such as 90a, found {architecture}"))?;
    let (units, cache) = (units(), Cache::at(folder));
    let compiled: Result<Vec<Compiled>, String> =
        units.par_iter().map(|unit| cache.get(Job { unit, architecture, output: Output::Cubin })).collect();
    println!("{} units for sm_{architecture} in {folder}", compiled?.len());
    Ok(true)
}

/// How often a unit with a spill is compiled once more.
const SECOND_LOOKS: usize = 2;

/// A unit compiled for an architecture.
type Made<'a> = (&'a Unit, Architecture, Compiled);

/// What each kernel takes, by file, name and architecture.
type Rows = BTreeMap<(&'static str, String, Architecture), Resources>;

/// Prints what every kernel takes, or writes it to a file; `Ok(false)` when something is wrong with one.
fn table(document: Option<&str>) -> Result<bool, String> {
    let version = Nvrtc::find()?.version;
    let (units, cache) = (units(), Cache::of_user());
    let compile = |(unit, architecture): (&'static Unit, Architecture)| -> Result<Made<'static>, String> {
        let job = Job { unit, architecture, output: Output::Cubin };
        let mut compiled = cache.get(job)?;
        // Many at a time, the same text comes out a register or a spill apart now and then: what spills has to do it again.
        for _ in 0..SECOND_LOOKS {
            if !read_log(&compiled.log).0.iter().any(spills) {
                break;
            }
            compiled = cache.make(job)?;
        }
        Ok((unit, architecture, compiled))
    };
    let units: &'static [Unit] = units.leak();
    let pairs: Vec<_> = units.iter().flat_map(|unit| ANY.map(|architecture| (unit, architecture))).collect();
    let mut made: Vec<Made<'_>> = pairs.into_par_iter().map(compile).collect::<Result<_, _>>()?;
    let has_mma = |(_, _, compiled): &Made<'_>| read_log(&compiled.log).0.iter().any(|one| one.kernel.contains("_mma"));
    let files: BTreeSet<&str> =
        made.iter().filter(|made| made.1 == ANY[1] && has_mma(made)).map(|made| made.0.stem).collect();
    let with_mma = units.iter().filter(|unit| files.contains(unit.stem));
    let pairs: Vec<_> = with_mma.flat_map(|unit| WITH_MMA.map(|other| (unit, other))).collect();
    made.extend(pairs.into_par_iter().map(compile).collect::<Result<Vec<_>, _>>()?);
    made.sort_by_key(|&(unit, architecture, _)| (unit, architecture));

    println!("NVRTC {}.{}; {} units, {} compilations", version.0, version.1, units.len(), made.len());
    println!(
        "{:<44} {:>5} {:>9} {:>7} {:>7} {:>8} {:>6} {:>6} {:>9} {:>8}",
        "kernel", "sm", "registers", "threads", "static", "dynamic", "spills", "stack", "occupancy", "error"
    );
    let (launched, errors) = (recorder::launches(), errors());
    let (mut findings, mut allowed) = (Vec::new(), allowed()?);
    let mut rows = Rows::new();
    for (unit, architecture, compiled) in &made {
        let (kernels, warnings) = read_log(&compiled.log);
        let source = format!("{}.cu {}", unit.stem, unit.defines.join(" "));
        let source = source.trim_end();
        for kernel in kernels {
            let Resources { kernel: name, spill_bytes, stack_bytes, .. } = &kernel;
            if spills(&kernel) && !allow(&mut allowed, name, *architecture) {
                let what = format!("{spill_bytes} bytes spilled, {stack_bytes} of stack");
                findings.push(format!("{source}: {name} for sm_{architecture}: {what}"));
            }
            // Margins compile some kernels into the same code, which is shown once; else the hungriest.
            let row = rows.entry((unit.stem, name.clone(), *architecture)).or_insert_with(|| kernel.clone());
            if row.registers < kernel.registers {
                *row = kernel;
            }
        }
        if !warnings.is_empty() && !allow(&mut allowed, unit.stem, *architecture) {
            findings.push(format!("{source} for sm_{architecture}: {}", warnings.join(" ")));
        }
    }
    if let Some(file) = document {
        std::fs::write(file, markdown(&rows, &errors, version, &sass::instructions()?))
            .map_err(|error| format!("{file}: {error}"))?;
    }
    for ((_, name, architecture), kernel) in rows.iter().filter(|_| document.is_none()) {
        println!("{}", row(kernel, *architecture, launched.get(name), errors.get(name)));
    }
    let stale = allowed.iter().filter(|(_, used)| !**used);
    findings.extend(stale.map(|((name, architecture), _)| {
        format!("kernels/allowed.txt: {name} {architecture} is fine now, or gone: strike it out")
    }));
    findings.dedup();
    println!();
    for finding in &findings {
        println!("wrong: {finding}");
    }
    println!("{} kernels × architectures, {} wrong", rows.len(), findings.len());
    Ok(findings.is_empty())
}

fn spills(kernel: &Resources) -> bool {
    kernel.spill_bytes + kernel.stack_bytes > 0
}

/// The table of the documentation.
fn markdown(
    rows: &Rows,
    errors: &BTreeMap<String, f64>,
    version: (i32, i32),
    code: &BTreeMap<String, [usize; 2]>,
) -> String {
    let mut text = format!(
        "# Every kernel\n\n\
         Registers a thread as NVRTC {}.{} gives them; instructions as they stand in the machine code for sm_90a, and those\n\
         of them for tensor cores (HGMMA, HMMA); bytes spilled on any architecture; and the largest error in the tests: of\n\
         sums of products as a multiple of Σ|a·b|, of others of the largest value. It is that of the whole operator: a\n\
         portable kernel that does a part beside tensor cores (gemm in the head) shows theirs. bf16 results include their\n\
         rounding, 2⁻⁸.\n\n\
         Written by `cargo xtask kernels --document` after `cargo xtask test`, which runs the kernels under the emulator:\n\
         its `mma` sums exactly, so hardware will show larger errors there.\n\n\
         | kernel | sm_75 | sm_80 | sm_89 | sm_90a | sm_100a | sm_120 | code | products | spilled | error |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
        version.0, version.1
    );
    let architectures = [ANY[0], ANY[1], WITH_MMA[0], ANY[2], WITH_MMA[1], ANY[3]];
    let names: BTreeSet<(&str, &str)> = rows.keys().map(|(stem, name, _)| (*stem, name.as_str())).collect();
    for (stem, name) in names {
        let of = |architecture: Architecture| rows.get(&(stem, name.to_owned(), architecture));
        let registers =
            architectures.map(|one| of(one).map_or_else(|| "–".into(), |kernel| kernel.registers.to_string()));
        let spilled = architectures.iter().filter_map(|one| of(*one)).map(|kernel| kernel.spill_bytes).max();
        let error = errors.get(name).map_or_else(|| "–".into(), |error| format!("{error:.0e}"));
        let [code, products] =
            code.get(name).map_or_else(|| ["–".into(), "–".into()], |it| it.map(|it| it.to_string()));
        let registers = registers.join(" | ");
        text += &format!("| `{name}` | {registers} | {code} | {products} | {} | {error} |\n", spilled.unwrap_or(0));
    }
    text
}

fn row(kernel: &Resources, architecture: Architecture, launched: Option<&Launched>, error: Option<&f64>) -> String {
    let Resources { kernel: name, registers, shared_bytes, stack_bytes, spill_bytes } = kernel;
    let (threads, dynamic, share) = match launched {
        Some(&Launched { threads, shared_bytes: dynamic }) => {
            let share = occupancy(architecture, threads, *registers, shared_bytes + dynamic);
            (threads.to_string(), dynamic.to_string(), format!("{:.0}%", 100.0 * share))
        }
        None => ("-".into(), "-".into(), "-".into()), // No case launches it.
    };
    let error = error.map_or_else(|| "-".into(), |error| format!("{error:.0e}"));
    format!(
        "{name:<44} {:>5} {registers:>9} {threads:>7} {shared_bytes:>7} {dynamic:>8} {spill_bytes:>6} {stack_bytes:>6} {share:>9} {error:>8}",
        architecture.to_string()
    )
}

/// The largest error of each kernel in the tests, from the file that they append to.
fn errors() -> BTreeMap<String, f64> {
    let text = std::env::var_os(ERRORS).and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let mut errors = BTreeMap::new();
    for (name, error) in text.lines().filter_map(|line| line.split_once('\t')) {
        if let Ok(error) = error.parse::<f64>() {
            let worst = errors.entry(name.to_owned()).or_insert(error);
            *worst = worst.max(error);
        }
    }
    errors
}

/// Kernel or file, and architecture, with whether anything was let pass by it.
type Allowed = BTreeMap<(String, String), bool>;

fn allowed() -> Result<Allowed, String> {
    let lines = ALLOWED.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| match line.split_once(':').map(|(what, reason)| (what.split_once(' '), reason.trim())) {
            Some((Some((name, architecture)), reason)) if !reason.is_empty() => {
                Ok(((name.to_owned(), architecture.to_owned()), false))
            }
            _ => Err(format!("kernels/allowed.txt: expected `kernel architecture: reason`, found `{line}`")),
        })
        .collect()
}

fn allow(allowed: &mut Allowed, name: &str, architecture: Architecture) -> bool {
    allowed.get_mut(&(name.to_owned(), architecture.to_string())).map(|used| *used = true).is_some()
}
