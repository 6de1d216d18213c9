//! Times of several contestants in rounds: each round asks each of them once, so that a disturbance hits all alike.

use std::time::Duration;

/// How long is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Method {
    /// Rounds, if there is time.
    pub rounds: usize,
    /// Samples of each contestant in any case.
    pub fewest: usize,
    /// What a sample takes at least, so that a clock's tick is nothing.
    pub sample_seconds: f64,
    /// A contestant that has run so long rests from then on.
    pub budget: Duration,
    /// Pause before each sample: threads of the one before may spin a while.
    pub settle: Duration,
}

/// Runs a number of times and says how many seconds that took.
pub type Contestant<'a> = Box<dyn FnMut(usize) -> Result<f64, String> + 'a>;

/// Seconds of one run in each round; or why there are none. The first round is that in which repetitions are found out:
/// it counts for those whose single run is long enough.
pub type Samples = Result<Vec<Option<f64>>, String>;

/// Most runs in a sample.
const MOST_RUNS: usize = 1 << 20;
/// A run that takes this many samples' time is one by itself, the first one, too.
const LONG: f64 = 10.0;

/// Measures all contestants; one that fails drops out.
pub fn interleaved(contestants: &mut [Contestant<'_>], method: Method) -> Vec<Samples> {
    let first = contestants.iter_mut().map(|contestant| repetitions(contestant, method));
    let (runs, mut samples): (Vec<usize>, Vec<Samples>) = first
        .map(|found| found.map_or_else(|error| (0, Err(error)), |(runs, sample)| (runs, Ok(vec![sample]))))
        .unzip();
    for round in 0..method.rounds {
        // Every other round goes backwards: none always follows the same other.
        let forwards = round % 2 == 0;
        for step in 0..contestants.len() {
            let index = if forwards { step } else { contestants.len() - 1 - step };
            let Ok(taken) = &mut samples[index] else { continue };
            if rests(taken, runs[index], method) {
                taken.push(None);
                continue;
            }
            std::thread::sleep(method.settle);
            match contestants[index](runs[index]) {
                Ok(seconds) => taken.push(Some(seconds / runs[index] as f64)),
                Err(error) => samples[index] = Err(error),
            }
        }
    }
    samples
}

/// Whether a contestant with these samples, each of so many runs, has had its share of the time.
fn rests(taken: &[Option<f64>], runs: usize, method: Method) -> bool {
    let seconds: f64 = taken.iter().flatten().sum::<f64>() * runs as f64;
    taken.iter().flatten().count() >= method.fewest && seconds > method.budget.as_secs_f64()
}

/// Runs that make a sample long enough, and a sample if one run was; finding them out warms up.
fn repetitions(contestant: &mut Contestant<'_>, method: Method) -> Result<(usize, Option<f64>), String> {
    let first = contestant(1)?;
    if first >= LONG * method.sample_seconds {
        return Ok((1, Some(first)));
    }
    let mut runs = 1;
    loop {
        let seconds = contestant(runs)?;
        if seconds >= method.sample_seconds || runs == MOST_RUNS {
            return Ok((runs, None));
        }
        let wanted = runs as f64 * 1.2 * method.sample_seconds / seconds.max(1e-9);
        runs = (wanted.ceil() as usize).clamp(runs + 1, 100 * runs).min(MOST_RUNS);
    }
}

/// How many times longer theirs took, in each round that both have a sample of.
pub fn ratios(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Vec<f64> {
    ours.iter().zip(theirs).filter_map(|(ours, theirs)| Some((*theirs)? / (*ours)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHOD: Method =
        Method { rounds: 4, fewest: 4, sample_seconds: 0.05, budget: Duration::from_secs(1), settle: Duration::ZERO };

    /// One that would take this many seconds a run, were there a clock.
    fn steady<'a>(seconds: f64, calls: &'a std::cell::RefCell<Vec<(f64, usize)>>) -> Contestant<'a> {
        Box::new(move |runs| {
            calls.borrow_mut().push((seconds, runs));
            Ok(seconds * runs as f64)
        })
    }

    #[test]
    fn samples_are_long_enough_and_alternate() {
        let calls = std::cell::RefCell::default();
        let mut both = [steady(0.001, &calls), steady(0.1, &calls)];
        let samples = interleaved(&mut both, METHOD);
        drop(both);
        for (samples, expected) in samples.iter().zip([0.001, 0.1]) {
            let samples: Vec<f64> = samples.as_ref().unwrap().iter().flatten().copied().collect();
            assert!(samples.len() == 4 && samples.iter().all(|sample| (sample - expected).abs() < 1e-12));
        }
        let calls = calls.into_inner();
        let rounds = &calls[calls.len() - 8..];
        assert!(rounds.iter().all(|(seconds, runs)| seconds * *runs as f64 >= METHOD.sample_seconds));
        let order: Vec<f64> = rounds.iter().map(|(seconds, _)| *seconds).collect();
        assert_eq!(order, [0.001, 0.1, 0.1, 0.001, 0.001, 0.1, 0.1, 0.001]);
    }

    #[test]
    fn one_that_fails_drops_out_with_its_reason_and_the_others_go_on() {
        let calls = std::cell::RefCell::default();
        let mut left = 4;
        let failing: Contestant<'_> = Box::new(move |runs| {
            left -= 1;
            if left > 0 { Ok(0.1 * runs as f64) } else { Err("out of memory".into()) }
        });
        let samples = interleaved(&mut [failing, steady(0.1, &calls)], METHOD);
        assert_eq!(samples[0], Err("out of memory".into()));
        assert_eq!(samples[1].as_ref().unwrap().iter().flatten().count(), 4);
    }

    #[test]
    fn a_long_run_is_a_sample_from_the_first_on() {
        let calls = std::cell::RefCell::default();
        let samples = interleaved(&mut [steady(0.6, &calls), steady(0.1, &calls)], METHOD);
        assert_eq!(samples[0].as_ref().unwrap()[..2], [Some(0.6), Some(0.6)]);
        assert_eq!(samples[1].as_ref().unwrap()[..2], [None, Some(0.1)]);
    }

    #[test]
    fn one_that_has_had_its_time_rests_and_the_others_go_on() {
        let calls = std::cell::RefCell::default();
        let mut both = [steady(2.0, &calls), steady(0.1, &calls)];
        let samples = interleaved(&mut both, Method { fewest: 2, ..METHOD });
        let of = |seconds: f64| Some(seconds);
        assert_eq!(samples[0], Ok(vec![of(2.0), of(2.0), None, None, None]));
        assert_eq!(samples[1].as_ref().unwrap().iter().flatten().count(), 4);
        assert_eq!(ratios(samples[1].as_ref().unwrap(), samples[0].as_ref().unwrap()), [20.0]);
    }

    #[test]
    fn ratios_are_those_of_the_rounds() {
        let some = |values: &[f64]| values.iter().copied().map(Some).collect::<Vec<_>>();
        assert_eq!(ratios(&some(&[1.0, 2.0]), &some(&[2.0, 3.0, 9.0])), [2.0, 1.5]);
        assert_eq!(ratios(&[None, Some(2.0)], &some(&[2.0, 3.0])), [1.5]);
    }
}
