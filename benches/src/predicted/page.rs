//! The page of predicted times, and what the launches of a case wait for.

use super::{Chip, Limit, Row, Timed};
use crate::record::Run;
use crate::table::{three_digits, time};
use anyhow::Result;

/// The launches of a case for the terminal: microseconds for which those of each kernel would wait for each limit.
pub fn launches(row: &Row) -> String {
    let heads = Limit::ALL.map(|limit| format!("{:>14}", limit.name())).concat();
    let mut text =
        format!("{}: {}\n{:<48}{:>5}{:>8}{heads}\n", row.name, time(row.seconds()), "kernel", "×", "balance");
    for (kernel, launches) in by_kernel(row) {
        let sum = |limit: Limit| launches.iter().map(|launch| launch.limits[limit as usize]).sum::<f64>();
        let limits = Limit::ALL.map(|limit| format!("{:>14.1}", 1e6 * sum(limit))).concat();
        let balance = launches.iter().map(|launch| launch.balance).sum::<f64>() / launches.len() as f64;
        text += &format!("{kernel:<48}{:>5}{balance:>8.2}{limits}\n", launches.len());
    }
    text
}

/// The launches of each kernel, in the order of the first.
fn by_kernel(row: &Row) -> Vec<(&str, Vec<&Timed>)> {
    let mut kernels: Vec<(&str, Vec<&Timed>)> = Vec::new();
    for launch in &row.launches {
        match kernels.iter_mut().find(|(kernel, _)| *kernel == launch.kernel) {
            Some((_, launches)) => launches.push(launch),
            None => kernels.push((&launch.kernel, vec![launch])),
        }
    }
    kernels
}

/// The document.
///
/// # Errors
/// When the run is of another machine.
pub fn page(run: &Run, rows: &[Row]) -> Result<String> {
    let chip = Chip::of(run)?;
    let [boost, sustained] = chip.clocks().map(|clock| three_digits(clock / 1e9));
    let mut text = format!(
        "# Predicted times\n\n\
         What our kernels should take on an {}, next to what\n\
         [a run](../benches/runs/{}/table.md) of commit {} measured there. Written by `cargo xtask bench --predict`, without a GPU.\n\n",
        chip.machine.name, run.name, run.commit
    );
    text += &METHOD
        .replace("{boost}", &boost)
        .replace("{sustained}", &sustained)
        .replace("{tflops}", &three_digits(chip.sustained / 1e12))
        .replace("{bytes}", &three_digits(chip.bytes / 1e12));
    text += "\n| case | launches | floor | predicted | over floor | of use | waits for | measured | predicted by measured | best peer | ratio | target | |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|---|\n";
    let dash = || "–".to_owned();
    for row in rows {
        let [ours, peer] = row.recorded;
        // Where no peer is recorded, what none falls below.
        let least = if peer.is_none() && row.bound.is_some() { "≥ " } else { "" };
        let peer = peer.or(row.bound).map(|peer| format!("{least}{}", time(peer)));
        let seconds = row.seconds();
        let (limit, share) = row.limit();
        let verdict = match (row.ratio(), row.target) {
            (Some(ratio), Some(target)) if ratio >= target => "met",
            (Some(_), Some(_)) if least.is_empty() => "**missed**",
            (_, Some(_)) => "open",
            (_, None) => "",
        };
        text += &format!(
            "| {} | {} | {} | {} | {} | {:.0}% | {} {:.0}% | {} | {} | {} | {} | {} | {verdict} |\n",
            row.name,
            row.launches.len(),
            time(row.floor),
            time(seconds),
            three_digits(seconds / row.floor),
            100.0 * row.flops / row.multiplied(),
            limit.name(),
            100.0 * share,
            ours.map_or_else(dash, time),
            ours.map_or_else(dash, |ours| three_digits(seconds / ours)),
            peer.unwrap_or_else(dash),
            row.ratio().map_or_else(dash, |ratio| format!("{least}{}", three_digits(ratio))),
            row.target.map_or_else(dash, |target| target.to_string()),
        );
    }
    for row in rows {
        if let Some(memory) = row.memory {
            text += &format!(
                "\nBeyond its operands, {} takes {} of *one* copy of its logits in f32, of which an eager program holds several.\n",
                row.name,
                three_digits(memory)
            );
        }
    }
    text += "\n## Kernels\n\nOf each case those that take longest, with their launches; and of their machine code\n\
             for sm_90a the registers of a thread, the instructions as they stand in it, and those of tensor cores.\n\n\
             | case | kernel | launches | predicted | waits for | registers | code | products |\n|---|---|---|---|---|---|---|---|\n";
    for row in rows {
        let seconds = |launches: &[&Timed]| launches.iter().map(|launch| launch.seconds()).sum::<f64>();
        let mut kernels = by_kernel(row);
        kernels.sort_by(|(_, left), (_, right)| seconds(right).total_cmp(&seconds(left)));
        for (kernel, launches) in kernels.iter().take(SHOWN) {
            let limits = Limit::ALL.map(|limit| (limit, launches.iter().map(|one| one.waits(limit)).sum::<f64>()));
            let limit = limits.into_iter().max_by(|(_, left), (_, right)| left.total_cmp(right));
            let compiled = launches.first().and_then(|launch| launch.compiled);
            let code = compiled.map(|it| [it.registers, it.instructions, it.products].map(|it| it.to_string()));
            text += &format!(
                "| {} | `{kernel}` | {} | {} | {} | {} |\n",
                row.name,
                launches.len(),
                time(seconds(launches)),
                limit.map_or("", |(limit, _)| limit.name()),
                code.unwrap_or_else(|| ["–"; 3].map(str::to_owned)).join(" | ")
            );
        }
    }
    Ok(text)
}

/// Kernels of a case that are named.
const SHOWN: usize = 4;

/// How the numbers come about.
const METHOD: &str = "\
**Counts.** Each case is lowered as on that GPU, and every launch of it, at its full size, goes to the emulator, which
runs the first cluster of the grid and the middle one. What a block of the busier one does is counted: instructions,
operations on tensor cores, bytes of shared and global memory, with tails, padding and bank conflicts; where blocks share
out a list of tiles, all tiles of that block. Nothing is scaled but by the number of blocks. Numbers uploaded in bulk read
as zero, which may change branches of a margin, but neither products nor copies. A step of a training is the second one:
copies of parameters are there.

**Time.** The busiest multiprocessor has ⌈blocks / 132⌉ blocks, so waves, and tiles that do not divide by 132, are in the
numbers. For these it takes what the slowest of the following takes, beside which there is time for the others:

* tensor cores: 4,096 operations a cycle in bf16, half of it in TF32; 62.9% of that by `mma.sync` (Luo et al. 2024);
* shared memory: 128 bytes a cycle, of lanes, copies and operands of `wgmma`, and a cycle for each conflict;
* issue: 4 instructions a cycle, those of the PTX;
* latency: 4 cycles from an instruction of a warp to its next, as many rounds as blocks find room, by shared memory and
  the registers of [kernels.md](kernels.md) (a kernel that is missing there has one block at a time);
* L2: 28 bytes a cycle and multiprocessor at {boost} GHz (Chips and Cheese 2023, from an H100 PCIe);
* memory: operands of the launch once, at the run's {bytes} TB/s of copies.

Each launch adds 2 µs, an assumption, for its start and the filling of its pipeline. A launch with products on tensor
cores runs at {sustained} GHz: that of the run's fastest product in bf16, {tflops} TFLOP/s, which power allows, not the {boost} GHz
of the data sheet; TF32 is taken to run at the same. That rate and the bandwidth of copies are all that comes from the
run, and nothing is fitted to a kernel. Instructions are those of the PTX: the machine code has fewer or more of them, and
is taken for what it says of registers, and that products are those of tensor cores. `cargo xtask kernels` fails where it
would keep anything in local memory.

**Trust.** Of the kernels that the run was of, convolutions, products of matrices and the large step were predicted
within 11%. Steps of short launches took a third longer (SphereFace-20 on digits was predicted at 0.71 of what it took),
and one image 2.6 times as long: chains of loads and barriers, which keep a small grid waiting, are not counted. Most
kernels have changed since; *measured* shows the old ones.

**Columns.** The *floor* is that of `Plan::predict` with the data sheet: operations of the formula at the peak, or each
operand once at the full bandwidth, whichever takes longer, step by step, without any start. *Of use* are the operations
of the formula among those that tensor cores are busy for, if all blocks have as much as the busiest; more than
all, where taps in the border are left out. *Ratio* is the best peer's time of the run over the predicted one, *target*
the least it has to be. Where the run has no time of a peer, a convolution has behind ≥ what none falls below that
multiplies by the formula: its operations, with those on padding, at the run's fastest rate, and of a fused one the
bytes of reading what is before the rectifier and the residual, and of writing the result. If that is not enough to
tell, a target is *open*.
";
