//! SphereFace networks, margins and schedules, and the plans made of them. Nothing here knows a backend.

pub mod margin;
mod model;
mod network;
mod networks;
mod recipe;
mod schedule;

pub use margin::{LOSSES, Loss, effective_margin, loss};
pub use model::{CLASS_WEIGHTS, ImageSource, LAMBDAS, LOG, Model, PIXEL_FACTOR, PIXEL_OFFSET, RATES, STEP, Training};
pub use network::{Initialisation, Layer, LayerKind, Network, Stage, TAPS};
pub use networks::{NETWORKS, NamedNetwork, named_network};
pub use recipe::{DIGITS, Recipe};
pub use schedule::{Lambda, Rate};
