//! The one error type of this crate: every message is a single line.

use std::fmt;
use std::io;
use std::path::Path;

/// What kept a data set from being loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder does not hold what it should.
    Content {
        /// The file or folder, as the user would name it.
        file: String,
        /// What in it is wrong: `magic`, `image count`, `sha256`, ...
        field: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The operating system refused to read a file or folder.
    Io {
        /// The file or folder, as the user would name it.
        file: String,
        /// The system's reason.
        reason: String,
    },
    /// Full MNIST was asked for, is in none of the places, and could not be fetched.
    NoMnist {
        /// Each place with what was found there.
        searched: String,
        /// How to get the files by hand.
        by_hand: String,
    },
    /// A text that names no [`Choice`](crate::Choice).
    UnknownChoice {
        /// The text.
        given: String,
    },
}

impl Error {
    pub(crate) fn content(
        file: &str,
        field: &'static str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Error {
        Error::Content { file: file.to_owned(), field, expected: expected.into(), found: found.into() }
    }

    pub(crate) fn io(path: &Path, error: &io::Error) -> Error {
        Error::Io { file: path.display().to_string(), reason: error.to_string() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Error::Content { file, field, expected, found } => {
                format!("{file}: {field}: expected {expected}, found {found}")
            }
            Error::Io { file, reason } => format!("{file}: cannot be read: {reason}"),
            Error::NoMnist { searched, by_hand } => {
                format!("full MNIST is not here and could not be fetched: {searched}; {by_hand}")
            }
            Error::UnknownChoice { given } => {
                format!("data set '{given}': expected auto, mnist or mnist-10k")
            }
        };
        f.write_str(&one_line(&text))
    }
}

impl std::error::Error for Error {}

/// Escapes control characters: a folder's name may hold a line break, a message may not.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// `60000` as `60,000`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_one_line() {
        let error = Error::content("a\nb", "magic", "1", "2\r\n");
        assert_eq!(error.to_string(), "a\\nb: magic: expected 1, found 2\\r\\n".to_owned());
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let texts = [0, 999, 1000, 60_000, 47_040_016].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "60,000", "47,040,016"]);
    }
}
