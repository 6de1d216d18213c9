//! Plan-once tensor core: operators, adjoints, planner, arena and CPU backend.
//!
//! Forward steps are written with a [`PlanBuilder`]; [`backward`](PlanBuilder::backward) appends the gradients, and
//! [`finish`](PlanBuilder::finish) gives a [`Plan`]: plain data. A [`Backend`] lowers it once and runs it many times, on
//! memory that persistent buffers and the [`ParameterSet`] name. Every shape is checked while the plan is built; the
//! [`Reference`] runs any plan slowly in f64.
//!
//! ```
//! use sphereface_tensor::cpu::CpuBackend;
//! use sphereface_tensor::{Backend, Dim, Init, PARAMETERS, ParameterSet, PlanBuilder, Shape, Type};
//!
//! // One convolution of 3×3 taps, from 1 channel to 2, on 4 images of 5×5.
//! let mut parameters = ParameterSet::default();
//! parameters.add("filter", Shape::filter(3, 3, 1, 2), Init::Normal { std: 0.1 }, 1.0, 1.0)?;
//! parameters.add("slope", Shape::vector(Dim::C, 2), Init::Constant(0.25), 1.0, 1.0)?;
//! let mut plan = PlanBuilder::new(&parameters);
//! let x = plan.persistent("x", Type::f32(Shape::activation(5, 5, 4, 1))); // [H, W, N, C]
//! let y = plan.conv2d(x, plan.parameter("filter")?, None, 1, 1)?; // stride 1, padding 1
//! let y = plan.prelu(y, plan.parameter("slope")?)?;
//! plan.keep(y, "y");
//!
//! let mut backend = CpuBackend::new(1)?; // threads
//! let program = backend.lower(&plan.finish())?;
//! backend.upload(PARAMETERS, bytemuck::cast_slice(&parameters.initial(7)))?;
//! backend.upload("x", bytemuck::cast_slice(&[1.0f32; 5 * 5 * 4]))?;
//! backend.run(program, 1)?;
//! let mut values = vec![0.0f32; 5 * 5 * 4 * 2];
//! backend.download("y", bytemuck::cast_slice_mut(&mut values))?;
//! assert!(values.iter().all(|y| y.is_finite()) && values.iter().any(|&y| y != 0.0));
//! # Ok::<(), sphereface_tensor::Error>(())
//! ```
//!
//! Where to look: [`op`] (one operator a module: shapes, cost, reference, adjoint; the head of all losses is
//! [`op::MarginSoftmax`], a margin is anything that implements [`op::Margin`]), [`cpu`], [`roofline`] (what a plan takes at
//! best), [`arena`] (where buffers lie), [`random`] (numbers as functions of seed, step and position).

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
mod persistent;
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
pub use persistent::Persistent;
pub use plan::{Buffer, BufferId, Cost, Lifetime, Place, Plan, Step};
pub use reference::Reference;
pub use shape::{DType, Dim, MAX_RANK, Shape, Type};
