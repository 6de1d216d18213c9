//! Tables of a run: for the terminal while it goes on, and `table.md`.

use crate::record::{CaseRecord, Rival, Run};
use crate::statistics::Spread;
use std::fmt::Write as _;

/// A time with three digits and its unit.
pub fn time(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s => (s * 1e6, "µs"),
    };
    format!("{} {unit}", three_digits(value))
}

/// A size in megabytes, which are a million bytes.
fn megabytes(bytes: u64) -> String {
    format!("{} MB", three_digits(bytes as f64 / 1e6))
}

/// A positive number with three significant digits.
pub fn three_digits(value: f64) -> String {
    let decimals = match value {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.9995 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// A ratio with its middle half: `2.31× (2.28–2.35)`.
pub fn ratio(spread: Spread) -> String {
    format!("{}× ({}–{})", three_digits(spread.median), three_digits(spread.low), three_digits(spread.high))
}

/// Rates of a case that follow from our time.
struct Rates {
    predicted: String,
    nominal: String,
    useful: String,
    of_peak: String,
    bytes: String,
}

fn rates(case: &CaseRecord, ours: Spread, peak: Option<f64>) -> Rates {
    let giga = |count: u64| three_digits(count as f64 / ours.median / 1e9);
    let of_peak = |peak: f64| format!("{:.0}%", 100.0 * case.flops_useful as f64 / ours.median / peak);
    Rates {
        predicted: case.over_prediction().map(|over| format!("{}×", three_digits(over))).unwrap_or_default(),
        nominal: giga(case.flops_nominal),
        useful: giga(case.flops_useful),
        of_peak: peak.map_or_else(|| "–".into(), of_peak),
        bytes: giga(case.bytes),
    }
}

/// What the share of a case is one of: the measured peak, or on a GPU, whose peak is not measured, the fastest product of
/// matrices of this run in the same precision, ours or a peer's.
fn peak(run: &Run, case: &CaseRecord) -> Option<f64> {
    let products = run.cases.iter().filter(|it| it.group == "gemm" && it.case["dtype"] == case.case["dtype"]);
    let rate = |it: &CaseRecord| {
        let best = it.best().and_then(|rival| rival.seconds);
        let seconds = [it.ours, best].into_iter().flatten().map(|spread| spread.median);
        seconds.map(|seconds| it.flops_useful as f64 / seconds).reduce(f64::max)
    };
    run.ceilings.flops.or_else(|| products.filter_map(rate).reduce(f64::max))
}

/// Names of the columns of a terminal's table.
pub fn terminal_header() -> String {
    format!(
        "{:<44} {:>9} {:>5} {:>9} {:>8} {:>8} {:>5} {:>7} {:>8}  {}",
        "case", "ours", "±", "predicted", "GFLOP/s", "useful", "peak", "GB/s", "error", "best peer"
    )
}

/// A case as a line of a terminal's table.
pub fn terminal_row(case: &CaseRecord, peak: Option<f64>) -> String {
    let Some(ours) = case.ours else {
        return format!("{:<44} {}", case.name, case.skipped.as_deref().unwrap_or("not timed"));
    };
    let Rates { predicted, nominal, useful, of_peak, bytes } = rates(case, ours, peak);
    let error = case.error.map_or_else(|| "–".into(), |error| format!("{error:.0e}"));
    let best = match case.best() {
        Some(rival) => {
            let times = rival.seconds.map(|seconds| time(seconds.median)).unwrap_or_default();
            format!("{} {times}, {}", label(rival), rival.ratio.map(ratio).unwrap_or_default())
        }
        None => "–".into(),
    };
    let spread = format!("{:.0}%", 50.0 * (ours.high - ours.low) / ours.median);
    format!(
        "{:<44} {:>9} {spread:>5} {predicted:>9} {nominal:>8} {useful:>8} {of_peak:>5} {bytes:>7} {error:>8}  {best}",
        case.name,
        time(ours.median)
    )
}

/// A peer with the way it did a case.
fn label(rival: &Rival) -> String {
    if matches!(rival.variant.as_str(), "" | "default") {
        rival.name.clone()
    } else {
        format!("{} ({})", rival.name, rival.variant)
    }
}

/// The page `table.md`.
pub fn page(run: &Run) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write_page(run, &mut page);
    page
}

fn write_page(run: &Run, page: &mut String) -> std::fmt::Result {
    let machine = &run.machine;
    writeln!(page, "# {}\n", run.name)?;
    let dirty = if run.dirty { ", with changes" } else { "" };
    writeln!(page, "`{}`, commit {}{dirty}, {}.\n", run.command, run.commit, run.date)?;
    let on = machine.gpu.as_deref().map_or_else(String::new, |gpu| format!("{gpu}; "));
    writeln!(
        page,
        "{on}{}, {} of {} hardware threads, {} ({}), {:.0} GB.\n",
        machine.cpu,
        machine.threads,
        machine.hardware_threads,
        machine.system,
        machine.flags.join(" "),
        machine.memory_bytes as f64 / 1e9,
    )?;
    let giga = |value: f64| three_digits(value / 1e9);
    if let (Some(one), Some(all)) = (run.ceilings.one_thread_flops, run.ceilings.flops) {
        writeln!(page, "Measured ceilings: {} GFLOP/s fp32 (one thread {}),", giga(all), giga(one))?;
        writeln!(page, "copies {} GB/s.\n", giga(run.ceilings.bytes))?;
    } else {
        writeln!(page, "Measured ceiling: copies {} GB/s.\n", giga(run.ceilings.bytes))?;
    }
    for peer in &run.peers {
        match &peer.missing {
            Some(reason) => writeln!(page, "* {}: not measured, {reason}", peer.name)?,
            None => {
                let apart = peer.precision.as_ref().map(|precision| format!("; in {precision}, and so never the best"));
                let apart = apart.unwrap_or_default();
                writeln!(page, "* {} {}: {}{apart}", peer.name, peer.version, peer.detail)?;
            }
        }
    }
    writeln!(
        page,
        "\nTimes are medians; behind ± stands half of the middle half. A peer's `×` is its time over ours, the median over \
         rounds in which both took part. *Useful* leaves out products with padding; *peak* is its share of the measured \
         one. *Error* is that of the case's small shape against the f64 reference."
    )?;
    if run.ceilings.flops.is_none() {
        writeln!(
            page,
            "\nFor *peak* stands the fastest product of matrices of this run in the same precision, ours or a peer's."
        )?;
    }
    if run.cases.iter().any(|case| case.predicted_s.is_some()) {
        writeln!(
            page,
            "\n*Predicted* is our time over that of the roofline, step by step below the measured ceilings: it counts the \
             products of the definition, of which Winograd's algorithm takes fewer."
        )?;
    }
    if run.cases.iter().any(|case| case.memory.is_some()) {
        writeln!(
            page,
            "\n*Memory* is ours at its peak beyond inputs, class weights and the gradients of both; beside it stands what a \
             logit of each row and class would take in f32."
        )?;
    }
    let mut groups: Vec<&str> = Vec::new();
    for case in &run.cases {
        if !groups.contains(&case.group.as_str()) {
            groups.push(&case.group);
        }
    }
    for group in groups {
        write_group(run, group, page)?;
    }
    Ok(())
}

fn write_group(run: &Run, group: &str, page: &mut String) -> std::fmt::Result {
    let names: Vec<&str> =
        run.peers.iter().filter(|peer| peer.missing.is_none()).map(|peer| peer.name.as_str()).collect();
    writeln!(page, "\n## {group}\n")?;
    let cases: Vec<&CaseRecord> = run.cases.iter().filter(|case| case.group == group).collect();
    let is_predicted = cases.iter().any(|case| case.predicted_s.is_some());
    let mut titles = vec!["case", "ours", "±"];
    titles.extend(is_predicted.then_some("predicted"));
    titles.extend(["GFLOP/s", "useful", "peak", "GB/s", "error"]);
    let has_memory = cases.iter().any(|case| case.memory.is_some());
    titles.extend(if has_memory { &["memory", "N×C logits"][..] } else { &[] });
    titles.extend(&names);
    writeln!(page, "| {} |\n|{}", titles.join(" | "), "---|".repeat(titles.len()))?;
    let mut notes: Vec<String> = Vec::new();
    let mut missing: Vec<(String, Vec<&str>)> = Vec::new();
    for case in &cases {
        let Some(ours) = case.ours else {
            notes.push(format!("{}: {}", case.name, case.skipped.as_deref().unwrap_or("not timed")));
            continue;
        };
        let Rates { predicted, nominal, useful, of_peak, bytes } = rates(case, ours, peak(run, case));
        let error = case.error.map_or_else(|| "–".into(), |error| format!("{error:.0e}"));
        let spread = 50.0 * (ours.high - ours.low) / ours.median;
        let mut cells = vec![case.name.clone(), time(ours.median), format!("{spread:.0}%")];
        cells.extend(is_predicted.then_some(predicted));
        cells.extend([nominal, useful, of_peak, bytes, error]);
        if has_memory {
            let sizes = case.memory.map(|memory| [memory.beyond_operands, memory.logits].map(megabytes));
            cells.extend(sizes.unwrap_or_default());
        }
        for name in &names {
            let rival = case.rival(name);
            let timed = rival.and_then(|rival| Some((rival.seconds?.median, rival.ratio?.median)));
            cells.push(
                timed.map_or_else(
                    || "–".into(),
                    |(seconds, over)| format!("{}, {}×", time(seconds), three_digits(over)),
                ),
            );
            if let Some(reason) = rival.and_then(|rival| rival.missing.as_deref()) {
                let line = format!("{name}: {reason}");
                match missing.iter_mut().find(|(known, _)| *known == line) {
                    Some((_, cases)) => cases.push(&case.name),
                    None => missing.push((line, vec![&case.name])),
                }
            }
        }
        writeln!(page, "| {} |", cells.join(" | "))?;
    }
    let all = cases.iter().filter(|case| case.ours.is_some()).count();
    notes.extend(
        missing.into_iter().map(
            |(line, cases)| {
                if cases.len() == all { line } else { format!("{line}: {}", cases.join(", ")) }
            },
        ),
    );
    if !notes.is_empty() {
        writeln!(page)?;
        notes.iter().try_for_each(|note| writeln!(page, "* {note}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!([0.5, 9.996, 99.96, 1234.4].map(three_digits), ["0.500", "10.0", "100", "1234"]);
        assert_eq!([2.0, 0.012_34, 3.21e-5].map(time), ["2.00 s", "12.3 ms", "32.1 µs"]);
    }
}
