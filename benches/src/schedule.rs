//! In which order cases are measured, and when no more of them begin.

use crate::interrupt;
use crate::session::Settings;
use sphereface_testkit::catalogue::Entry;
use sphereface_testkit::workload::Arithmetic;
use std::cmp::Reverse;
use std::time::Instant;

/// Something to measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Job<'a> {
    /// A case of the catalogue.
    Case(&'a Entry),
    /// `mnist to 99%`.
    Training,
}

impl Job<'_> {
    /// Lesser ones are more important: what stands for all, a whole training, what belongs to a quick look, the rest; of
    /// each the precision first in which a GPU is fastest.
    fn rank(&self) -> (u8, Reverse<Arithmetic>) {
        match self {
            Job::Case(entry) if entry.headline => (0, Reverse(entry.arithmetic)),
            Job::Training => (1, Reverse(Arithmetic::F32)),
            Job::Case(entry) if entry.quick => (2, Reverse(entry.arithmetic)),
            Job::Case(entry) => (3, Reverse(entry.arithmetic)),
        }
    }
}

/// Numbers of the jobs in the order in which they are measured: their own, or the most important first where there may not
/// be time for all.
pub fn order(jobs: &[Job<'_>], most_important_first: bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    if most_important_first {
        order.sort_by_key(|&number| jobs[number].rank());
    }
    order
}

/// Why no further job begins, if so.
pub fn ended(settings: &Settings) -> Option<&'static str> {
    if interrupt::requested() {
        return Some("the run was stopped before");
    }
    settings.deadline.is_some_and(|deadline| Instant::now() >= deadline).then_some("no time was left")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sphereface_testkit::catalogue::catalogue;

    #[test]
    fn the_most_important_come_first_and_none_is_lost() {
        let entries = catalogue(&Arithmetic::ALL);
        let jobs: Vec<Job<'_>> = entries.iter().map(Job::Case).chain([Job::Training]).collect();
        let order_of = order(&jobs, true);
        let is = |number: usize, what: fn(&Entry) -> bool| matches!(jobs[number], Job::Case(entry) if what(entry));
        let headline = entries.iter().filter(|entry| entry.headline).count();
        assert!(order_of[..headline].iter().all(|&number| is(number, |entry| entry.headline)));
        assert!(is(order_of[0], |entry| entry.arithmetic == Arithmetic::Bf16));
        assert_eq!(jobs[order_of[headline]], Job::Training);
        let quick = entries.iter().filter(|entry| entry.quick).count();
        assert!(order_of[headline + 1..=quick].iter().all(|&number| is(number, |entry| entry.quick)));
        let mut all = order_of;
        all.sort_unstable();
        assert_eq!(all, order(&jobs, false));
    }
}
