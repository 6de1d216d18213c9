//! Files that are either whole or absent.

use std::fs;
use std::io::Write;
use std::path::Path;

use atomicwrites::{AllowOverwrite, AtomicFile};

use crate::error::Error;

/// Creates a folder with its parents.
pub(crate) fn create_dir(dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(|source| Error::Write { path: dir.to_path_buf(), source })
}

/// Writes `content` to `path`, replacing what was there in one step.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    let written = AtomicFile::new(path, AllowOverwrite).write(|file| file.write_all(content));
    written.map_err(|error| Error::Write { path: path.to_path_buf(), source: error.into() })
}
