//! Files that are either whole or absent.

use std::fs;
use std::path::Path;

use crate::error::Error;

/// Creates a folder with its parents.
pub(crate) fn create_dir(dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(|source| Error::Write { path: dir.to_path_buf(), source })
}

/// Writes `content` under a temporary name beside `path`, then renames it, replacing what was there.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    let mut name = path.as_os_str().to_os_string();
    // The process number keeps two programs that write the same report from sharing a temporary file.
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = Path::new(&name);
    let written = fs::write(temporary, content).and_then(|()| fs::rename(temporary, path));
    written.map_err(|source| {
        // The first error is the one to tell; a left-over that cannot be removed changes nothing about it.
        let _ = fs::remove_file(temporary);
        Error::Write { path: path.to_path_buf(), source }
    })
}
