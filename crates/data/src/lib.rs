//! Data sets.
mod cache;
mod dataset;
mod error;
mod folder;
mod idx;
mod parts;
mod raw_set;
#[cfg(test)]
mod test_support;
mod unpack;
pub use dataset::{Dataset, ImageSet};
pub use error::Error;
