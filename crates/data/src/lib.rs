//! Data sets.
mod dataset;
mod error;
mod idx;
mod parts;
#[cfg(test)]
mod test_support;
mod unpack;
pub use dataset::{Dataset, ImageSet};
pub use error::Error;
