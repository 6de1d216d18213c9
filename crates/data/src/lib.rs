//! Data sets.
mod cache;
mod choice;
mod dataset;
mod embedded;
mod error;
mod fetch;
mod folder;
mod idx;
mod load;
mod locations;
mod parts;
mod places;
mod raw_set;
mod survey;
#[cfg(test)]
mod test_server;
#[cfg(test)]
mod test_support;
mod unpack;

pub use choice::Choice;
pub use dataset::{Dataset, ImageSet};
pub use error::Error;
pub use fetch::Progress;
pub use load::load;
pub use locations::Locations;
pub use survey::{Finding, Place, survey};
