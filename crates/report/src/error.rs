//! What can keep a report from being written, or read again.

use std::path::PathBuf;

/// Why a report was not written or read. Displays as one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The report has no training.
    NoTrainings,
    /// A field of the report holds something that cannot be shown.
    Invalid {
        /// The field, with the training it belongs to.
        field: String,
        /// What must hold for it.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// A figure could not be drawn.
    Draw {
        /// Its name.
        figure: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file could not be written.
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A saved report could not be read.
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A saved report is cut off, of another version, or holds what no report can.
    Damaged {
        /// The file.
        path: PathBuf,
        /// The field, and what is wrong with it.
        problem: String,
    },
    /// Two reports cannot be shown as one.
    Unlike {
        /// What differs, and between which two.
        what: String,
        /// That of the first.
        expected: String,
        /// That of the second.
        found: String,
    },
    /// The data could not be put into the page.
    Encode(serde_json::Error),
    /// A picture could not be encoded.
    Image(png::EncodingError),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoTrainings => write!(f, "report: no training to show"),
            Self::Invalid { field, expected, found } => {
                write!(f, "report: {field}: expected {expected}, found {found}")
            }
            Self::Draw { figure, reason } => write!(f, "report: cannot draw figure {figure}: {reason}"),
            Self::Write { path, source } => {
                write!(f, "report: cannot write {}: {source}", path.display())
            }
            Self::Read { path, source } => write!(f, "report: cannot read {}: {source}", path.display()),
            Self::Damaged { path, problem } => write!(f, "{}: {problem}", path.display()),
            Self::Unlike { what, expected, found } => {
                write!(f, "report: {what}: expected {expected}, found {found}")
            }
            Self::Encode(source) => write!(f, "report: cannot encode the page's data: {source}"),
            Self::Image(source) => write!(f, "report: cannot encode a picture: {source}"),
        }
    }
}

// What caused it stands in the line already: a chain of causes would tell it twice.
impl std::error::Error for Error {}
