//! What can keep something from being exported, or read back.

use std::fmt;

/// Why there is no file, or nothing in it. Displays as one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A parameter of the network is not among the trained ones, or the network is none.
    Model(sphereface_tensor::Error),
    /// The block of trained values has another length than its parameters.
    Values {
        /// Length of the parameters.
        expected: usize,
        /// Length of the values.
        found: usize,
    },
    /// A file of this format cannot be that large.
    TooLarge {
        /// Name of the format.
        format: &'static str,
        /// Most bytes of a file.
        expected: usize,
        /// Bytes that it would have.
        found: usize,
    },
    /// A model's file holds something else than the model.
    File {
        /// The tensor, or the fact in its metadata.
        part: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The header of a file could not be written.
    Header(serde_json::Error),
    /// The sprite could not be encoded.
    Sprite(png::EncodingError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model(source) => write!(f, "export: {source}"),
            Self::Values { expected, found } => {
                write!(f, "export: parameters: expected {expected} values, found {found}")
            }
            Self::TooLarge { format, expected, found } => {
                write!(f, "export: {format}: expected at most {expected} bytes, found {found}")
            }
            Self::File { part, expected, found } => {
                write!(f, "'{part}': expected {expected}, found {found}")
            }
            Self::Header(source) => write!(f, "export: safetensors: the header cannot be encoded: {source}"),
            Self::Sprite(source) => write!(f, "export: sprite: the images cannot be encoded: {source}"),
        }
    }
}

// What caused it stands in the line already: a chain of causes would tell it twice.
impl std::error::Error for Error {}

impl From<sphereface_tensor::Error> for Error {
    fn from(source: sphereface_tensor::Error) -> Self {
        Self::Model(source)
    }
}
