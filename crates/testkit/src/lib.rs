//! Cases, comparators and gradient checks, shared by tests and benches.

pub mod cases;
mod compare;
mod gradient;
mod run;

pub use compare::{Tolerance, assert_close};
pub use gradient::check_gradients;
pub use run::{check_case, run_case};
