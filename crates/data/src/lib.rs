//! MNIST and other IDX data sets: finding, fetching, checking, reading.
//!
//! [`load`] searches the places of [`Locations`] in order: the folder named by `--data-dir` (alone, where it is given), the one named by
//! `SPHEREFACE_DATA`, the user's cache folder, two mirrors. Where full MNIST is in none of them, [`Choice::Auto`] falls back to 10,000 real digits
//! inside the binary, and [`Dataset::note`] says so: there is always a data set to train on, and never a doubt which.
//!
//! Nothing is trusted by name. `mnist` is what has the SHA-256 of MNIST's four files; everything else gets another name and is not
//! [`comparable`](Dataset::comparable). Every byte of a header is checked before the crate `mnist` or anything here relies on it; bad files end in an
//! [`Error`] of one line, never in a panic.
//!
//! ```
//! use sphereface_data::{Choice, Locations, load};
//!
//! // `Locations::from_environment(None)` searches this machine and the mirrors; the default searches nowhere.
//! let locations = Locations::default();
//! let digits = load(Choice::Auto, &locations, &mut |progress| eprintln!("{progress:?}"))?;
//! assert_eq!(digits.name, "mnist-10k");
//! assert_eq!((digits.train.len(), digits.test.len()), (8_000, 2_000));
//! assert_eq!(digits.train.image(0).len(), 28 * 28);
//!
//! // Settings are chosen on images held out of training, never on the test set.
//! let tuning = digits.with_validation();
//! assert_eq!((tuning.train.len(), tuning.test.len()), (7_334, 666));
//! # Ok::<(), sphereface_data::Error>(())
//! ```
//!
//! Data of your own need no loader here: an [`ImageSet`] is bytes, a size and labels, made by [`ImageSet::new`].
//!
//! ```
//! let two = sphereface_data::ImageSet::new("squares", [2, 2, 1], vec![0, 0, 0, 0, 255, 255, 255, 255], vec![0, 1])?;
//! assert_eq!(two.image(1), [255; 4]);
//! # Ok::<(), sphereface_data::Error>(())
//! ```

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
mod progress;
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
pub use load::load;
pub use locations::Locations;
pub use progress::Progress;
pub use survey::{Finding, Place, survey};
