//! Going back: which states are kept for it, and how the schedules are eased afterwards.
//!
//! All of it is a function of configuration, log and checkpoint, never of time: a training that was killed while it
//! recovered goes on to the same bits.

use crate::checkpoint::replace;
use crate::event::{Cause, Finding, Recovery};
use crate::folder::Folder;
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;

/// After so many recoveries the training stops.
pub(crate) const MOST: usize = 5;
/// States that are kept: the newest may already be what went wrong.
const KEPT: usize = 2;
/// Steps between two states at most, where an epoch is longer.
const SPACING: usize = 1000;
/// Numbers or lengths beyond all bounds: the rate is a quarter of what it was.
const QUARTER: f64 = 0.25;
/// Beside an eased margin the rate is halved.
const HALF: f64 = 0.5;
/// The margin is annealed anew from this multiple of λ, or of `LEAST_LAMBDA` where λ is smaller.
const EASED: f64 = 4.0;
const LEAST_LAMBDA: f64 = 5.0;
/// Share of the steps left in which the margin is annealed anew.
const ANNEALED: f64 = 0.6;

/// Learning rate and λ of every step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Schedules {
    /// `[steps]`.
    pub(crate) rates: Vec<f64>,
    /// `[steps]`.
    pub(crate) lambdas: Vec<f64>,
    /// Whether the loss has a margin that λ anneals.
    pub(crate) annealed: bool,
}

impl Schedules {
    /// What is left of these schedules after recoveries, in their order.
    pub(crate) fn eased(&self, recoveries: &[Recovery]) -> Schedules {
        let mut eased = self.clone();
        for recovery in recoveries {
            let first = recovery.back_to.min(self.rates.len());
            eased.rates[first..].iter_mut().for_each(|rate| *rate *= recovery.rate_factor);
            let Some(start) = recovery.lambda else { continue };
            let length = ANNEALED * (self.lambdas.len() - first) as f64;
            for (index, lambda) in eased.lambdas[first..].iter_mut().enumerate() {
                let left = (1.0 - index as f64 / length).max(0.0);
                *lambda = lambda.max(start * left * left);
            }
        }
        eased
    }

    /// What to do about a finding, on these schedules, from step `back_to` on.
    pub(crate) fn recovery(&self, finding: Finding, back_to: usize) -> Recovery {
        let Finding { cause, at, sentence, .. } = finding;
        let margin = self.annealed && matches!(cause, Cause::Collapsed | Cause::Stuck | Cause::Shrunk);
        let lambda = self.lambdas.get(back_to).copied().unwrap_or(0.0).max(LEAST_LAMBDA);
        Recovery {
            cause,
            sentence,
            found_at: at,
            back_to,
            rate_factor: if margin { HALF } else { QUARTER },
            lambda: margin.then_some(EASED * lambda),
        }
    }
}

/// States that a training can go back to: copies of its checkpoints.
pub(crate) struct GoodStates {
    folder: Folder,
    /// Steps after which one is kept, ascending.
    planned: Vec<usize>,
}

impl GoodStates {
    /// Those of a training of `steps` steps with these ends of epochs, whose faults may show `window` steps late: so far
    /// apart that one of the two newest is older than that.
    pub(crate) fn new(folder: &Folder, steps: usize, window: usize, epoch_ends: impl Iterator<Item = usize>) -> Self {
        let mut planned = vec![0];
        let mut last = 0;
        for end in epoch_ends.take_while(|&end| end < steps).chain([steps]) {
            while end - last >= SPACING + window {
                last += SPACING;
                planned.push(last);
            }
            if end - last >= window && end < steps {
                last = end;
                planned.push(last);
            }
        }
        GoodStates { folder: folder.clone(), planned }
    }

    /// The step after which the next state is kept.
    pub(crate) fn next_step(&self, steps_done: usize) -> Option<usize> {
        self.planned.get(self.planned.partition_point(|&step| step <= steps_done)).copied()
    }

    /// Whether a state is kept after this step.
    pub(crate) fn is_due(&self, steps_done: usize) -> bool {
        self.planned.binary_search(&steps_done).is_ok()
    }

    fn file(&self, step: usize) -> PathBuf {
        self.folder.file(&format!("good-{step}.safetensors"))
    }

    /// Steps of the states that there are, ascending.
    fn kept(&self) -> Result<Vec<usize>> {
        let path = self.folder.path();
        let mut steps = Vec::new();
        for entry in fs::read_dir(path).with_context(|| format!("{}: cannot be read", path.display()))? {
            let name = entry.with_context(|| format!("{}: cannot be read", path.display()))?.file_name();
            let name = name.to_string_lossy();
            let step = name.strip_prefix("good-").and_then(|rest| rest.strip_suffix(".safetensors"));
            steps.extend(step.and_then(|step| step.parse::<usize>().ok()));
        }
        steps.sort_unstable();
        Ok(steps)
    }

    /// Keeps the checkpoint, which stands at this step. States beyond it, and older ones than the newest two, go.
    pub(crate) fn keep(&self, step: usize) -> Result<()> {
        let (from, to) = (self.folder.checkpoint(), self.file(step));
        let temporary = self.folder.file(&format!(".good-{step}.{}.tmp", std::process::id()));
        let _ = fs::remove_file(&temporary);
        // A second name costs nothing: a checkpoint is replaced, never changed.
        let named = fs::hard_link(&from, &temporary).and_then(|()| fs::rename(&temporary, &to));
        // Renaming one name of a file to another one of the same file leaves both.
        let _ = fs::remove_file(&temporary);
        if named.is_err() {
            // Some file systems have no such names.
            let checkpoint = fs::read(&from).with_context(|| format!("{}: cannot be read", from.display()))?;
            replace(&to, &checkpoint)?;
        }
        self.forget_beyond(step)
    }

    /// Removes states beyond a step, and all but the newest two up to it.
    pub(crate) fn forget_beyond(&self, step: usize) -> Result<()> {
        let kept = self.kept()?;
        let beyond = kept.partition_point(|&good| good <= step);
        let old = beyond.saturating_sub(KEPT);
        for &gone in kept[..old].iter().chain(&kept[beyond..]) {
            let path = self.file(gone);
            fs::remove_file(&path).with_context(|| format!("{}: cannot be removed", path.display()))?;
        }
        Ok(())
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> Result<bool> {
        Ok(self.kept()?.is_empty())
    }

    /// The newest state up to a step, else the oldest one, if there is any: its step and its file.
    pub(crate) fn newest(&self, up_to: usize) -> Result<Option<(usize, PathBuf)>> {
        let kept = self.kept()?;
        let step = kept.iter().rev().find(|&&step| step <= up_to).or(kept.first());
        Ok(step.map(|&step| (step, self.file(step))))
    }

    /// Removes all of them: the training has ended.
    pub(crate) fn remove(&self) -> Result<()> {
        for step in self.kept()? {
            let path = self.file(step);
            fs::remove_file(&path).with_context(|| format!("{}: cannot be removed", path.display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn planned(steps: usize, window: usize, epoch: usize) -> Vec<usize> {
        let folder = Folder::any(Path::new("nowhere"));
        GoodStates::new(&folder, steps, window, (1..).map(|number| number * epoch)).planned
    }

    #[test]
    fn states_are_kept_at_epochs_but_never_closer_than_a_window_nor_much_further_than_the_spacing() {
        assert_eq!(planned(2345, 234, 469), [0, 469, 938, 1407, 1876]);
        assert_eq!(planned(400, 100, 25), [0, 100, 200, 300]);
        assert_eq!(planned(50, 100, 25), [0]);
        assert_eq!(planned(7000, 500, 3100), [0, 1000, 2000, 3100, 4100, 5100, 6200]);
        for (steps, window, epoch) in [(10_000, 500, 37), (3000, 300, 100_000), (5000, 500, 1499)] {
            let planned = planned(steps, window, epoch);
            let gaps: Vec<usize> = planned.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(gaps.iter().all(|gap| (window..SPACING + window).contains(gap)), "{planned:?}");
            assert!(planned.last() < Some(&steps));
        }
    }

    #[test]
    fn easing_changes_only_the_steps_that_are_trained_again() {
        let plan = Schedules { rates: vec![1.0; 10], lambdas: vec![3.0; 10], annealed: true };
        let finding = |cause| Finding { cause, at: 6, since: 5, sentence: "it went wrong".into() };
        let slower = plan.recovery(finding(Cause::NotFinite), 4);
        assert_eq!((slower.rate_factor, slower.lambda, slower.found_at), (0.25, None, 6));
        let gentler = plan.eased(std::slice::from_ref(&slower)).recovery(finding(Cause::Shrunk), 5);
        assert_eq!((gentler.rate_factor, gentler.lambda), (0.5, Some(20.0)));
        let eased = plan.eased(&[slower, gentler]);
        assert_eq!(eased.rates, [1.0, 1.0, 1.0, 1.0, 0.25, 0.125, 0.125, 0.125, 0.125, 0.125]);
        assert_eq!(eased.lambdas[..6], [3.0, 3.0, 3.0, 3.0, 3.0, 20.0]);
        assert!(eased.lambdas[6..].is_sorted_by(|a, b| a >= b) && eased.lambdas[9] == 3.0, "{:?}", eased.lambdas);
        // Without a margin there is the rate alone.
        let plain = Schedules { annealed: false, ..plan };
        assert_eq!(plain.recovery(finding(Cause::Stuck), 0).lambda, None);
    }
}
