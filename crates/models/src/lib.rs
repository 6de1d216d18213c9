//! SphereFace networks, margins and schedules, and the plans made of them. Nothing here knows a backend.
//!
//! A [`Model`] is a network, from images to embeddings, and a head, from embeddings to the loss. The network is a
//! [`Network`] of SphereFace's shape, perhaps one of the [`NETWORKS`] that have a name, or any [`Backbone`] of your own; the
//! head is made by one of the [`LOSSES`], or from a [`Margin`](sphereface_tensor::op::Margin) of your own.
//!
//! ```
//! use sphereface_models::{DIGITS, Model, loss, named_network};
//! use sphereface_tensor::roofline::{MACHINES, Precision};
//!
//! let network = named_network("sphereface20").ok_or("no such network")?.network([112, 96, 3], 512);
//! assert_eq!(network.parameter_count(), 22_666_944);
//! let model = Model { network, head: loss("arcface").ok_or("no such loss")?.head(10_572) };
//!
//! // A training step, as data: what it would take on the first known machine, at best.
//! let plan = model.training_plan(&model.parameters()?, &DIGITS.training(60_000))?;
//! let prediction = plan.predict(&MACHINES[0].1, Precision::Bf16)?;
//! assert!(prediction.steps.iter().map(|step| step.seconds).sum::<f64>() > 0.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Recipe`] holds all settings of a training ([`DIGITS`] those of MNIST), [`Rate`] and [`Lambda`] are schedules, and
//! [`margin`] explains every loss. Training itself, on a backend, is the package `sphereface`.

mod backbone;
pub mod margin;
mod model;
mod network;
mod networks;
mod recipe;
mod schedule;

pub use backbone::Backbone;
pub use margin::{GRADIENTS, LOSSES, Loss, OF_THE_PAPER, effective_margin, loss, loss_and_gradient};
pub use model::{
    CLASS_BIAS, CLASS_WEIGHTS, ImageSource, LAMBDAS, LOG, Model, PIXEL_FACTOR, PIXEL_OFFSET, RATES, STEP, Training,
};
pub use network::{Initialisation, Layer, LayerKind, Network, Stage, TAPS};
pub use networks::{NETWORKS, NamedNetwork, named_network};
pub use recipe::{DIGITS, Recipe};
pub use schedule::{Lambda, Rate};
