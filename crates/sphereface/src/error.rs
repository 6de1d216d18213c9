//! The one error type of this crate: every message is a single line.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// What kept a model from being trained, read or used.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The network does not fit, or the backend failed.
    Plan(sphereface_tensor::Error),
    /// A model's file holds no model, or another one.
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: sphereface_export::Error,
    },
    /// A model's file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Something given does not go with the rest.
    Given {
        /// What.
        field: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
}

impl Error {
    pub(crate) fn given(field: &'static str, expected: impl fmt::Display, found: impl fmt::Display) -> Error {
        Error::Given { field, expected: expected.to_string(), found: found.to_string() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Plan(source) => write!(f, "{source}"),
            Error::File { path, source } => write!(f, "{}: {source}", path.display()),
            Error::Unreadable { path, source } => write!(f, "{}: cannot be read: {source}", path.display()),
            Error::Given { field, expected, found } => write!(f, "{field}: expected {expected}, found {found}"),
        }
    }
}

// What caused it stands in the line already: a chain of causes would tell it twice.
impl std::error::Error for Error {}

impl From<sphereface_tensor::Error> for Error {
    fn from(source: sphereface_tensor::Error) -> Self {
        Error::Plan(source)
    }
}
