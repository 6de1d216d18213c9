//! Trains networks with margin-softmax losses and takes embeddings from them: SphereFace and its family, as a library.
//!
//! [`Session`] trains: a [`Model`](models::Model) (a network and the head that makes a loss of its embeddings) on images
//! on a backend. [`Embedder`] uses what was trained, by a session here or by the program `trainer`.
//!
//! ```
//! use sphereface::data::{Choice, Locations, load};
//! use sphereface::models::{DIGITS, Model, Network, Recipe, loss};
//! use sphereface::tensor::cpu::CpuBackend;
//! use sphereface::{Embedder, Session};
//!
//! // The 10,000 digits inside the program; `Locations::from_environment(None)` finds or fetches all of MNIST.
//! let digits = load(Choice::Mnist10k, &Locations::default(), &mut |_| {})?;
//!
//! // A small network with embeddings of 3 dimensions, under A-Softmax, trained as digits are, but for one epoch.
//! let network = Network::input([28, 28, 1]).stage(8, 0).stage(16, 0).stage(32, 0).linear(3);
//! let head = loss("sphereface").ok_or("no such loss")?.head(digits.classes);
//! let recipe = Recipe { epochs: 1, ..DIGITS };
//! let cpu = || CpuBackend::new(0).map(Box::new); // on as many threads as there are cores
//! let mut session = Session::with_recipe(cpu()?, Model { network, head }, &recipe, &digits.train, &digits.test)?;
//! session.finish()?;
//! println!("{:.3} of the test images are right", session.evaluate_test()?.accuracy());
//!
//! // The same model without what only training needs, for any images of its size.
//! let values = session.values()?;
//! let mut embedder = Embedder::new(cpu()?, session.model(), &values, 32)?;
//! let embedding = embedder.embed(digits.test.image(0))?;
//! assert_eq!(embedding.len(), 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What can be your own, each an example of a page (`crates/sphereface/examples`, run with
//! `cargo run --release -p sphereface --example NAME`):
//!
//! | example | shows |
//! |---|---|
//! | `own_loss` | a margin of your own: its value and slope as a function of the target's cosine |
//! | `own_network` | a network of any topology, built of operators that know their derivatives |
//! | `own_data` | images and labels from anywhere |
//! | `embed` | embeddings, and which images are alike, from the folder that `trainer` left |
//!
//! The packages behind it, each with a front page of its own: [`tensor`] (plans, operators, the CPU backend), [`models`]
//! (networks, losses, schedules), [`data`] (MNIST and other sets), [`export`] (models in the formats of other tools). The
//! backend for GPUs is the package `sphereface-cuda`, whose `CudaBackend` goes wherever a `Box<dyn Backend>` does.

mod embedder;
mod error;
mod metrics;
mod session;

pub use embedder::Embedder;
pub use error::Error;
pub use metrics::Metrics;
pub use session::{Embedded, Session};
pub use sphereface_data as data;
pub use sphereface_export as export;
pub use sphereface_models as models;
pub use sphereface_tensor as tensor;
