//! Machine code of the kernels for sm_90a, disassembled: how many instructions of which kind each has.

use rayon::prelude::*;
use sphereface_cuda::cache::{Cache, Job};
use sphereface_cuda::nvrtc::{Architecture, Output, cache_folder};
use sphereface_cuda::resources::read_log;
use sphereface_cuda::units;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The disassembler's package; its version need only know sm_90a.
pub(crate) const PACKAGE: &str = "nvidia-cuda-nvdisasm==13.2.78";

/// Kinds of instructions, by the first word of their names. What is in no list is counted as `other`.
const KINDS: [(&str, &[&str]); 13] = [
    ("hgmma", &["HGMMA"]),
    ("hmma", &["HMMA"]),
    (
        "float",
        &["FFMA", "FADD", "FMUL", "FSEL", "FSETP", "FMNMX", "MUFU", "HFMA2", "HADD2", "HMUL2", "DFMA", "DADD", "DMUL"],
    ),
    (
        "integer",
        &[
            "IMAD", "IADD3", "VIADD", "LOP3", "LEA", "SHF", "ISETP", "PRMT", "SEL", "VIMNMX", "IABS", "PLOP3",
            "UIADD3", "ULOP3", "ULEA", "USHF", "UIMAD", "UISETP", "UPRMT", "USEL", "UPLOP3",
        ],
    ),
    ("convert", &["F2F", "F2FP", "F2I", "I2F", "I2FP", "FRND"]),
    ("ldsm", &["LDSM", "STSM"]),
    ("shared", &["LDS", "STS", "ATOMS"]),
    ("global", &["LDG", "STG", "LD", "ST", "ATOMG", "ATOM", "RED"]),
    ("cp", &["LDGSTS", "LDGDEPBAR"]),
    ("bulk", &["UTMALDG", "UTMASTG", "UBLKCP", "UTMACMDFLUSH"]),
    ("sync", &["SYNCS", "BAR", "WARPSYNC", "WARPGROUP", "DEPBAR", "FENCE", "MEMBAR", "ELECT"]),
    ("branch", &["BRA", "BSSY", "BSYNC", "EXIT", "RET", "CALL"]),
    ("local", &["LDL", "STL"]),
];

/// Where the disassembler is.
pub(crate) fn find() -> Result<PathBuf, String> {
    let name = if cfg!(windows) { "nvdisasm.exe" } else { "nvdisasm" };
    let mut folders: Vec<PathBuf> = folder().into_iter().map(|folder| folder.join("nvidia/cu13/bin")).collect();
    folders.extend(std::env::var_os("CUDA_PATH").map(|root| PathBuf::from(root).join("bin")));
    folders.push("/usr/local/cuda/bin".into());
    folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    let found = folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file());
    found.ok_or_else(|| "nvdisasm, the disassembler of CUDA, was not found".to_owned())
}

/// Where its package is installed when it is missing.
pub(crate) fn folder() -> Option<PathBuf> {
    Some(cache_folder()?.join("nvdisasm"))
}

/// Instructions in the machine code of every kernel for sm_90a: all, and those of tensor cores.
pub(crate) fn instructions() -> Result<BTreeMap<String, [usize; 2]>, String> {
    // Of a kernel that margins compile into different code the longest.
    let mut longest: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for (name, [hgmma, hmma, rest @ ..]) in made("")?.into_iter().flat_map(|(kernels, _)| kernels) {
        let products = hgmma + hmma;
        let counts = [products + rest.iter().sum::<usize>(), products];
        let known = longest.entry(name).or_insert(counts);
        *known = counts.max(*known);
    }
    Ok(longest)
}

/// Kinds of instructions of every unit's kernels, and its warnings, if the name of one of its kernels has the part.
fn made(part: &str) -> Result<Vec<Made>, String> {
    let (units, cache, architecture) = (units(), Cache::of_user(), Architecture::specific(90));
    let disassembler = find()?;
    let made = units.par_iter().enumerate().map(|(number, unit)| {
        let compiled = cache.get(Job { unit, architecture, output: Output::Cubin })?;
        let (kernels, warnings) = read_log(&compiled.log);
        let wanted = kernels.iter().any(|kernel| kernel.kernel.contains(part));
        let text = if wanted { disassembled(&disassembler, &compiled.image, number)? } else { String::new() };
        let warnings: Vec<String> = warnings.iter().map(|warning| format!("{}.cu: {warning}", unit.stem)).collect();
        Ok::<_, String>((kinds(&text), if wanted { warnings } else { Vec::new() }))
    });
    made.collect()
}

/// Prints the kinds of instructions of every kernel whose name has the part; false when one has local memory or a warning.
pub(crate) fn table(part: &str) -> Result<bool, String> {
    let made = made(part)?;
    let kernels: BTreeMap<&String, &Counts> = made.iter().flat_map(|(kernels, _)| kernels).collect();
    let mut findings: Vec<String> = made.iter().flat_map(|(_, warnings)| warnings).cloned().collect();
    let heads: Vec<String> = KINDS.iter().map(|(name, _)| format!("{name:>8}")).collect();
    println!("{:<44} {:>6} {} {:>6}", "kernel, sm_90a", "all", heads.concat(), "other");
    for (name, counts) in kernels.into_iter().filter(|(name, _)| name.contains(part)) {
        let [listed @ .., other] = counts;
        let listed: Vec<String> = listed.iter().map(|count| format!("{count:>8}")).collect();
        println!("{name:<44} {:>6} {} {other:>6}", counts.iter().sum::<usize>(), listed.concat());
        let local = counts[KINDS.len() - 1];
        if local > 0 {
            findings.push(format!("{name}: {local} accesses to local memory"));
        }
    }
    findings.sort();
    findings.dedup();
    println!();
    for finding in &findings {
        println!("wrong: {finding}");
    }
    println!("instructions as they stand in the code, not as they are executed; {} wrong", findings.len());
    Ok(findings.is_empty())
}

/// Instructions of each kind, and others.
type Counts = [usize; KINDS.len() + 1];

/// Those of a unit's kernels, and its warnings.
type Made = (BTreeMap<String, Counts>, Vec<String>);

fn disassembled(disassembler: &Path, image: &[u8], number: usize) -> Result<String, String> {
    let file = std::env::temp_dir().join(format!("sphereface-{}-{number}.cubin", std::process::id()));
    std::fs::write(&file, image).map_err(|error| format!("{}: {error}", file.display()))?;
    let output = Command::new(disassembler).args(["-c".as_ref(), file.as_os_str()]).output();
    // A file that stays behind is in the system's folder for such.
    let _ = std::fs::remove_file(&file);
    let output = output.map_err(|error| format!("{}: {error}", disassembler.display()))?;
    if !output.status.success() {
        return Err(format!("nvdisasm: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Counts the instructions of each kernel: lines such as `/*0640*/ @!P0 HGMMA.64x128x16.F32.BF16 R24, … ;`.
fn kinds(text: &str) -> BTreeMap<String, Counts> {
    let mut kernels = BTreeMap::new();
    let mut kernel = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix(".text.").and_then(|rest| rest.strip_suffix(':')) {
            kernel = Some(name.to_owned());
        }
        let Some((_, code)) = line.trim_start().strip_prefix("/*").and_then(|rest| rest.split_once("*/")) else {
            continue;
        };
        let mut words = code.split_whitespace().skip_while(|word| word.starts_with('@'));
        let Some(opcode) = words.next().and_then(|word| word.split(['.', ';']).next()) else { continue };
        // What fills a kernel up to its end.
        if opcode == "NOP" || opcode.is_empty() {
            continue;
        }
        let kind = KINDS.iter().position(|(_, names)| names.contains(&opcode)).unwrap_or(KINDS.len());
        if let Some(kernel) = &kernel {
            kernels.entry(kernel.clone()).or_insert([0; KINDS.len() + 1])[kind] += 1;
        }
    }
    kernels
}
