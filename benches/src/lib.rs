//! The bench: our backends beside other people's programs, on the same numbers, in the same rounds.
//!
//! `cargo xtask bench` runs the program `bench`; README.md of this folder says how to read what it writes.

pub mod ceilings;
pub mod compare;
pub mod device;
pub mod folder;
pub mod installed;
pub mod interrupt;
pub mod machine;
pub mod measure;
pub mod output;
pub mod peer;
pub mod predicted;
pub mod prepared;
pub mod protocol;
pub mod readme;
pub mod record;
pub mod roofline;
pub mod schedule;
pub mod session;
pub mod statistics;
pub mod table;
pub mod wall_clock;
