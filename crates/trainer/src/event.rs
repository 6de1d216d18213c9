//! What the guard found and what was done about it, as it is written down.

use serde::{Deserialize, Serialize};
use sphereface_report::GuardEvent;

/// Why a training has gone wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cause {
    /// NaN or infinity.
    NotFinite,
    /// The loss is far beyond what it was at the start.
    Exploded,
    /// The embeddings' lengths are beyond all use.
    NormsExploded,
    /// What had been learned is lost: all images are taken for one class.
    Collapsed,
    /// Nothing was ever learned.
    Stuck,
    /// The embeddings have become so short that the margin costs nothing, and the loss is that of a guess.
    Shrunk,
}

impl Cause {
    /// What a training has instead.
    pub(crate) fn expected(self) -> &'static str {
        match self {
            Cause::NotFinite => "finite numbers",
            Cause::Exploded => "a loss near that of the start",
            Cause::NormsExploded => "embeddings of bounded length",
            Cause::Collapsed | Cause::Stuck => "an accuracy above chance",
            Cause::Shrunk => "a loss below that of a guess",
        }
    }

    /// What to change, of a loss with an annealed margin or another one.
    pub(crate) fn advice(self, annealed: bool) -> &'static str {
        match self {
            Cause::NotFinite | Cause::Exploded | Cause::NormsExploded => "a smaller training.rate, or optimizer.clip",
            Cause::Collapsed | Cause::Stuck | Cause::Shrunk if annealed => {
                "a larger training.lambda, which falls later by training.lambda_until, or a smaller training.rate"
            }
            Cause::Collapsed | Cause::Stuck | Cause::Shrunk => "a smaller training.rate, or a longer training.warm_up",
        }
    }
}

/// Something that is wrong with a training, as it is found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finding {
    pub(crate) cause: Cause,
    /// Steps done when it was found.
    pub(crate) at: usize,
    /// The first step that showed it: states before are good as far as one can tell.
    pub(crate) since: usize,
    /// What was seen, without a full stop.
    pub(crate) sentence: String,
}

impl Finding {
    /// NaN or infinity in something of this name, found after a step.
    pub(crate) fn not_finite(what: &str, at: usize) -> Finding {
        let sentence = format!("{what} became NaN or infinite by step {at}");
        Finding { cause: Cause::NotFinite, at, since: at, sentence }
    }

    /// Whether nothing can be computed from there on.
    pub(crate) fn is_fatal(&self) -> bool {
        self.cause == Cause::NotFinite
    }

    /// As it is written down.
    pub(crate) fn written_down(self) -> Found {
        let Finding { cause, sentence, at, .. } = self;
        Found { cause, sentence, found_at: at }
    }
}

/// What the guard did, as the log, the summary and the report have it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub(crate) enum Event {
    /// Nothing but writing it down.
    Warned(Found),
    /// The training went back and on from there.
    Recovered(Recovery),
    /// The training ended there.
    Stopped(Found),
}

impl Event {
    /// Steps of the training that the event belongs to: those of the state that it went on from.
    pub(crate) fn step(&self) -> usize {
        match self {
            Event::Warned(found) | Event::Stopped(found) => found.found_at,
            Event::Recovered(recovery) => recovery.back_to,
        }
    }

    /// As a report shows it.
    pub(crate) fn reported(&self) -> GuardEvent {
        let (found, done) = match self {
            Event::Warned(found) => (&found.sentence, "Nothing was changed.".to_owned()),
            Event::Stopped(found) => (&found.sentence, "The training stopped.".to_owned()),
            Event::Recovered(recovery) => (&recovery.sentence, format!("The training {}.", recovery.remedy())),
        };
        let (found_at, back_to) = match self {
            Event::Warned(found) | Event::Stopped(found) => (found.found_at, None),
            Event::Recovered(recovery) => (recovery.found_at, Some(recovery.back_to as u64)),
        };
        GuardEvent { found_at: found_at as u64, back_to, found: sentence(found), done }
    }
}

/// Something that is wrong with a training, as it is written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) cause: Cause,
    /// What was seen, without a full stop.
    pub(crate) sentence: String,
    /// Steps done when it was found.
    pub(crate) found_at: usize,
}

/// Words with a large first letter and a full stop.
pub(crate) fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(char::to_uppercase).into_iter().flatten().chain(letters).chain(['.']).collect()
}

/// One return to a good state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recovery {
    pub(crate) cause: Cause,
    /// What was seen.
    pub(crate) sentence: String,
    /// Steps done when it was found.
    pub(crate) found_at: usize,
    /// Steps done in the state that the training went back to.
    pub(crate) back_to: usize,
    /// What the learning rate of the steps from there on is multiplied with.
    pub(crate) rate_factor: f64,
    /// First λ of the margin's annealing from there on; none where λ was left alone.
    pub(crate) lambda: Option<f64>,
}

impl Recovery {
    /// What was done, without a full stop.
    pub(crate) fn remedy(&self) -> String {
        let lambda = self.lambda.map_or_else(String::new, |lambda| format!(", λ annealed anew from {lambda}"));
        format!("went back to step {}, and on at {} of the rate{lambda}", self.back_to, self.rate_factor)
    }
}
