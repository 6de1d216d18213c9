//! What a caller is told while files are fetched.

/// What a fetch is doing, for a progress line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// A mirror is asked for a file.
    Asking {
        /// The file's published name.
        file: &'a str,
        /// The mirror's address.
        mirror: &'a str,
    },
    /// A part of a file has come.
    Receiving {
        /// The file's published name.
        file: &'a str,
        /// The mirror's address.
        mirror: &'a str,
        /// Bytes so far, packed.
        received_bytes: u64,
        /// Bytes of the whole, where the mirror tells.
        total_bytes: Option<u64>,
    },
    /// A file is complete and right.
    Fetched {
        /// The file's published name.
        file: &'a str,
        /// The mirror's address.
        mirror: &'a str,
    },
    /// A mirror gave no file, or a wrong one; the next is asked.
    Refused {
        /// The file's published name.
        file: &'a str,
        /// The mirror's address.
        mirror: &'a str,
        /// Why, in one line.
        reason: &'a str,
    },
}
