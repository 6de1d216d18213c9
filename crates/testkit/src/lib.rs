//! Cases, comparators and gradient checks, shared by tests and benches.

pub mod cases;
pub mod catalogue;
mod compare;
mod every_operator;
pub mod fuzz;
mod gradient;
mod head;
mod python;
mod run;
mod skip;
mod training;
pub mod workload;

pub use compare::{Tolerance, assert_close, largest_error};
pub use every_operator::every_operator;
pub use gradient::check_gradients;
pub use head::{HeadCase, HeadProducts};
pub use python::{PYTHON, TORCH_PYTHON, has_python, run_script};
pub use run::{
    PreparedCase, case_error, check_case, check_results, lower_case, plan_of_case, prepare_case, run_case, to_tf32,
};
pub use skip::{SKIPPED, skip};
pub use training::TrainingCase;
pub use workload::Workload;
