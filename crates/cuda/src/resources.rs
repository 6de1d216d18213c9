//! What a kernel takes of a multiprocessor, read from the compiler's log, and how many threads fit.

use crate::nvrtc::Architecture;

/// What the compiler says of a kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Its name.
    pub kernel: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Static shared memory of a block.
    pub shared_bytes: u32,
    /// Local memory of a thread for arrays and calls.
    pub stack_bytes: u32,
    /// Registers that are stored to local memory and loaded again, in bytes.
    pub spill_bytes: u32,
}

/// The kernels of a log of `--ptxas-options=-v`, and every line that is neither about them nor nothing: warnings.
pub fn read_log(log: &str) -> (Vec<Resources>, Vec<String>) {
    let (mut kernels, mut warnings) = (Vec::<Resources>::new(), Vec::new());
    for line in log.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(name) = between(line, "Compiling entry function '", "'") {
            kernels.push(Resources { kernel: name.to_owned(), ..Resources::default() });
            continue;
        }
        let number = |before: &str| before_word(line, before);
        match kernels.last_mut() {
            Some(kernel) if line.contains("bytes stack frame") => {
                // A function that is not inlined has a line of its own: the largest counts.
                kernel.stack_bytes = kernel.stack_bytes.max(number("bytes stack frame"));
                let spills = number("bytes spill stores") + number("bytes spill loads");
                kernel.spill_bytes = kernel.spill_bytes.max(spills);
            }
            Some(kernel) if line.contains("Used ") => {
                kernel.registers = number("registers");
                kernel.shared_bytes = number("bytes smem");
            }
            _ => {
                let quiet = ["Function properties", "Compile time", "bytes gmem", "bytes cmem"];
                if !line.starts_with("ptxas info") || !quiet.iter().any(|words| line.contains(words)) {
                    warnings.push(line.to_owned());
                }
            }
        }
    }
    (kernels, warnings)
}

fn between<'a>(line: &'a str, before: &str, after: &str) -> Option<&'a str> {
    Some(line.split_once(before)?.1.split_once(after)?.0)
}

/// The number that stands before these words, or 0.
fn before_word(line: &str, words: &str) -> u32 {
    let number =
        line.split_once(words).and_then(|(before, _)| before.trim_end().rsplit([' ', ',']).next()?.parse().ok());
    number.unwrap_or(0)
}

/// What a multiprocessor has.
struct Multiprocessor {
    threads: u32,
    blocks: u32,
    shared_bytes: u32,
    /// What the system takes of each block's shared memory.
    reserved_bytes: u32,
}

/// # Source
/// CUDA C++ Programming Guide, technical specifications per compute capability.
fn multiprocessor(architecture: Architecture) -> Multiprocessor {
    let (threads, blocks, kilobytes) = match architecture.number {
        ..80 => (1024, 16, 64),
        80 => (2048, 32, 164),
        86 => (1536, 16, 100),
        87 => (1536, 16, 164),
        88 | 89 => (1536, 24, 100),
        90..110 => (2048, 32, 228),
        _ => (1536, 24, 100),
    };
    let reserved_bytes = if architecture.number < 80 { 0 } else { 1024 };
    Multiprocessor { threads, blocks, shared_bytes: kilobytes * 1024, reserved_bytes }
}

/// Share of a multiprocessor's threads that a kernel can keep resident, with blocks of so many threads and this much
/// shared memory, static and dynamic.
pub fn occupancy(architecture: Architecture, threads: u32, registers: u32, shared_bytes: u32) -> f64 {
    const REGISTERS: u32 = 65_536; // of a multiprocessor, handed out by 256 to a warp
    let most = multiprocessor(architecture);
    let warps = threads.div_ceil(32).max(1);
    let by_registers = REGISTERS / (registers.max(1) * 32).next_multiple_of(256) / warps;
    let by_shared = most.shared_bytes / (shared_bytes + most.reserved_bytes).next_multiple_of(128).max(128);
    let blocks = most.blocks.min(most.threads / (warps * 32)).min(by_registers).min(by_shared);
    f64::from(blocks * warps * 32) / f64::from(most.threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
ptxas info    : 12 bytes gmem
ptxas info    : Compiling entry function 'gemm' for 'sm_90a'
ptxas info    : Function properties for gemm
ptxas         .     24 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 168 registers, used 1 barriers, 4096 bytes smem
ptxas info    : Compile time = 39.091 ms
ptxas info    : Compiling entry function 'add' for 'sm_90a'
ptxas info    : Function properties for add
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 0 barriers
";

    #[test]
    fn registers_and_spills_are_read_from_the_log() {
        let (kernels, warnings) = read_log(LOG);
        let gemm =
            Resources { kernel: "gemm".into(), registers: 168, shared_bytes: 4096, stack_bytes: 24, spill_bytes: 20 };
        let add = Resources { kernel: "add".into(), registers: 40, ..Resources::default() };
        assert_eq!((kernels, warnings), (vec![gemm, add], vec![]));
    }

    #[test]
    fn what_is_not_about_resources_is_a_warning() {
        for line in [
            "common.cuh(12): warning #177-D: variable \"x\" was declared but never referenced",
            "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized",
            "ptxas warning : Value of threads per SM for entry gemm is out of range",
        ] {
            assert_eq!(read_log(&format!("{LOG}\n{line}\n")).1, [line]);
        }
    }

    /// Values of NVIDIA's occupancy calculator.
    #[test]
    fn occupancy_is_what_limits_most() {
        let occupancy = |number, threads, registers, shared| {
            (100.0 * occupancy(Architecture::new(number), threads, registers, shared)).round()
        };
        assert_eq!(occupancy(80, 256, 32, 0), 100.0);
        assert_eq!(occupancy(80, 256, 128, 0), 25.0); // registers
        assert_eq!(occupancy(80, 256, 40, 0), 75.0);
        assert_eq!(occupancy(90, 128, 32, 99 * 1024), 13.0); // shared memory: two blocks
        assert_eq!(occupancy(75, 32, 16, 0), 50.0); // blocks: 16 of one warp
        assert_eq!(occupancy(89, 1024, 32, 0), 67.0); // threads: one block of 1,024 of 1,536
        assert_eq!(occupancy(80, 1024, 255, 0), 0.0); // does not fit
    }
}
