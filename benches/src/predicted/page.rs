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
const METHOD: &str = "METHOD {boost} {sustained} {tflops} {bytes}\n";
