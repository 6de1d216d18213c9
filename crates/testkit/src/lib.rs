//! Cases, comparators and gradient checks, shared by tests and benches.

pub mod cases;
mod compare;
mod gradient;
mod head;
mod run;
mod skip;
mod training;

pub use compare::{Tolerance, assert_close};
pub use gradient::check_gradients;
pub use head::HeadCase;
pub use run::{PreparedCase, check_case, check_results, prepare_case, run_case, to_tf32};
pub use skip::{SKIPPED, skip};
pub use training::TrainingCase;
