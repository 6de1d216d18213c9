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
         What our kernels should take on an {}, next to what [a run](../benches/runs/{}/table.md) of commit {}\n\
         measured there. Written by `cargo xtask bench --predict`, without a GPU.\n\n",
        chip.machine.name, run.name, run.commit
    );
    text += &METHOD
        .replace("{boost}", &boost)
        .replace("{sustained}", &sustained)
        .replace("{tflops}", &three_digits(chip.sustained / 1e12))
        .replace("{bytes}", &three_digits(chip.bytes / 1e12));
    text += "\n| case | launches | floor | predicted | over floor | waits for | measured | predicted by measured | best peer | ratio | target | |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|\n";
    let dash = || "–".to_owned();
    for row in rows {
        let [ours, peer] = row.recorded;
        let seconds = row.seconds();
        let (limit, share) = row.limit();
        let verdict = match row.ratio() {
            Some(ratio) if ratio < row.target => "**missed**",
            Some(_) => "met",
            None => "open",
        };
        text += &format!(
            "| {} | {} | {} | {} | {} | {} {:.0}% | {} | {} | {} | {} | {} | {verdict} |\n",
            row.name,
            row.launches.len(),
            time(row.floor),
            time(seconds),
            three_digits(seconds / row.floor),
            limit.name(),
            100.0 * share,
            ours.map_or_else(dash, time),
            ours.map_or_else(dash, |ours| three_digits(seconds / ours)),
            peer.map_or_else(dash, time),
            row.ratio().map_or_else(dash, three_digits),
            row.target,
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
    text += "\n## Kernels\n\nOf each case those that take longest, with their launches, and the share of multiprocessors that are busy to the end.\n\n\
             | case | kernel | launches | predicted | waits for | busy |\n|---|---|---|---|---|---|\n";
    for row in rows {
        let seconds = |launches: &[&Timed]| launches.iter().map(|launch| launch.seconds()).sum::<f64>();
        let mut kernels = by_kernel(row);
        kernels.sort_by(|(_, left), (_, right)| seconds(right).total_cmp(&seconds(left)));
        for (kernel, launches) in kernels.iter().take(SHOWN) {
            let limits = Limit::ALL.map(|limit| (limit, launches.iter().map(|one| one.waits(limit)).sum::<f64>()));
            let limit = limits.into_iter().max_by(|(_, left), (_, right)| left.total_cmp(right));
            let balance = launches.iter().map(|launch| launch.balance).sum::<f64>() / launches.len() as f64;
            text += &format!(
                "| {} | `{kernel}` | {} | {} | {} | {:.0}% |\n",
                row.name,
                launches.len(),
                time(seconds(launches)),
                limit.map_or("", |(limit, _)| limit.name()),
                100.0 * balance
            );
        }
    }
    Ok(text)
}

/// Kernels of a case that are named.
const SHOWN: usize = 4;

/// How the numbers come about.
const METHOD: &str = "\
**Counts.** Each case is lowered as on that GPU, and every launch of it, at its full size, goes to the emulator, which runs
the first cluster of the grid and the middle one. What a block of the busier one did (instructions, operations on tensor
cores, bytes of shared and global memory) is exact, tails, padding and bank conflicts included; a block whose work is a list of
tiles counts with all of its tiles. Numbers that are uploaded in bulk read as zero: no count depends on them, but for the
branches of a margin. A step of a training is the second: copies of parameters are there.

**Time.** The busiest multiprocessor has ⌈blocks / 132⌉ blocks one after the other, so waves and tiles that do not divide
by 132 are in the numbers. It takes for them what the slowest of these takes, beside which there is time for the others:

* tensor cores: 4,096 operations a cycle in bf16, half of it in TF32; 62.9% of that by `mma.sync` (Luo et al. 2024);
* shared memory: 128 bytes a cycle, of lanes, copies and operands of `wgmma`, and a cycle for each conflict;
* issue: 4 instructions a cycle, PTX's for the machine's;
* latency: 4 cycles from one instruction of a warp to its next, for as many rounds as blocks find room, by registers and
  shared memory (registers from [kernels.md](kernels.md); a kernel that is missing there has one block at a time);
* L2: 28 bytes a cycle and multiprocessor at {boost} GHz (Chips and Cheese 2023, scaled from an H100 PCIe);
* memory: operands of the launch once, at the run's {bytes} TB/s of copies.

Each launch adds 2 µs, an assumption, for its start and the filling of its pipeline. A launch with products on tensor cores
runs at {sustained} GHz: that of the run's fastest product in bf16, {tflops} TFLOP/s, which power allows, not the {boost} GHz
of the data sheet; TF32 is taken to run at the same. Nothing is fitted to a kernel, and only that rate and the bandwidth of
copies come from the run. SASS is not counted: `cargo xtask kernels --sass` shows that the loops are those of the PTX.

**Floor.** `Plan::predict` with the data sheet: operations of the formula at the peak, or each operand once at the full
bandwidth, whichever takes longer, step by step, without any start. A *ratio* is the best peer's time of the run over the
predicted one, the *target* the least that it has to be; of the head it is that over an eager program. Where the run has no
time of a peer the target is *open*. The run is of the commit that it names: where kernels have changed since, *measured* is
of the old ones.
";
