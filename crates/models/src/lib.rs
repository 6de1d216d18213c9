//! SphereFace networks, margins and schedules, and the plans made of them. Nothing here knows a backend.

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
