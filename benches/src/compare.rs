//! What got slower or faster from one run to another.

use crate::record::{CaseRecord, Run};
use crate::statistics::Spread;
use crate::table::{three_digits, time};
use std::fmt::Write as _;

/// A case that takes longer than this multiple of what it took is a regression.
const REGRESSION: f64 = 1.1;

/// What two runs say.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// A table for the terminal.
    pub text: String,
    /// Whether a case got slower by more than a tenth, and by more than its spread, or is not timed any more.
    pub regressed: bool,
}

/// A case in both runs.
struct Change<'a> {
    case: &'a CaseRecord,
    before: Spread,
    after: Spread,
}

impl Change<'_> {
    fn factor(&self) -> f64 {
        self.after.median / self.before.median
    }

    /// Whether the middle halves of both do not touch.
    fn beyond_spread(&self) -> bool {
        self.after.low > self.before.high || self.after.high < self.before.low
    }
}

/// Compares the cases that both runs have timed.
pub fn compare(before: &Run, after: &Run) -> Comparison {
    let earlier = |name: &str| before.cases.iter().find(|case| case.name == name)?.ours;
    let changes =
        after.cases.iter().filter_map(|case| Some(Change { case, before: earlier(&case.name)?, after: case.ours? }));
    let changes: Vec<Change<'_>> = changes.collect();
    // What was timed before and is refused or wrong now.
    let broken = |case: &&CaseRecord| case.ours.is_none() && earlier(&case.name).is_some();
    let broken: Vec<&CaseRecord> = after.cases.iter().filter(broken).collect();
    let mut beyond: Vec<&Change<'_>> = changes.iter().filter(|change| change.beyond_spread()).collect();
    beyond.sort_by(|left, right| right.factor().total_cmp(&left.factor()));
    let regressed = !broken.is_empty() || beyond.iter().any(|change| change.factor() > REGRESSION);
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_text([before, after], changes.len(), &beyond, &mut text);
    for case in broken {
        let _ =
            writeln!(text, "{}: timed before, and not after: {}", case.name, case.skipped.as_deref().unwrap_or("-"));
    }
    Comparison { text, regressed }
}

fn write_text([before, after]: [&Run; 2], both: usize, beyond: &[&Change<'_>], text: &mut String) -> std::fmt::Result {
    writeln!(text, "{} → {}: {both} cases in both", before.name, after.name)?;
    if both == 0 {
        return writeln!(text, "nothing to compare");
    }
    if (&before.machine.cpu, &before.machine.gpu) != (&after.machine.cpu, &after.machine.gpu) {
        writeln!(text, "the machines differ: {} and {}", before.machine.slug(), after.machine.slug())?;
    }
    if before.machine.threads != after.machine.threads {
        writeln!(text, "the threads differ: {} and {}", before.machine.threads, after.machine.threads)?;
    }
    let giga = |before: f64, after: f64| format!("{} → {}", three_digits(before / 1e9), three_digits(after / 1e9));
    write!(text, "the machine's own ceilings: {} GB/s", giga(before.ceilings.bytes, after.ceilings.bytes))?;
    if let (Some(before), Some(after)) = (before.ceilings.flops, after.ceilings.flops) {
        write!(text, ", {} GFLOP/s", giga(before, after))?;
    }
    writeln!(text)?;
    if beyond.is_empty() {
        return writeln!(text, "no case changed by more than its spread");
    }
    writeln!(text, "\n{:<44} {:>9} {:>9} {:>7}", "case", "before", "after", "time")?;
    for change in beyond {
        let word = if change.factor() > REGRESSION { "  slower" } else { "" };
        let [before, after] = [change.before, change.after].map(|spread| time(spread.median));
        let times = format!("{}×", three_digits(change.factor()));
        writeln!(text, "{:<44} {before:>9} {after:>9} {times:>7}{word}", change.case.name)?;
    }
    Ok(())
}
