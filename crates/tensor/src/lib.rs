//! Plan-once tensor core: operators, adjoints, planner, arena and CPU backend.

pub mod arena;
mod backend;
mod builder;
mod cosine;
pub mod cpu;
mod error;
mod fuse;
mod narrow;
pub mod op;
mod parameters;
mod plan;
pub mod random;
mod reference;
pub mod roofline;
mod shape;

pub use backend::{Backend, Program, StepTime};
pub use builder::{GRADIENTS, HeadOutput, PARAMETERS, PlanBuilder, Tape};
pub use cosine::Cosine;
pub use error::Error;
pub use parameters::{Init, Parameter, ParameterSet};
pub use plan::{Buffer, BufferId, Cost, Lifetime, Place, Plan, Step};
pub use reference::Reference;
pub use shape::{DType, Dim, MAX_RANK, Shape, Type};
