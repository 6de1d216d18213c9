//! Writing files so that a reader sees a complete one or none.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use atomicwrites::{AllowOverwrite, AtomicFile};

/// Writes `folder/name`, replacing what is there, and returns its path. A file with this very content is left alone.
///
/// Several processes may do this at once, and a crash leaves no half file under `name`.
///
/// # Errors
///
/// The system's refusal; no temporary file is left.
pub(crate) fn store(folder: &Path, name: &str, content: &[u8]) -> io::Result<PathBuf> {
    let path = folder.join(name);
    if holds(&path, content) {
        return Ok(path);
    }
    fs::create_dir_all(folder)?;
    AtomicFile::new(&path, AllowOverwrite).write(|file| file.write_all(content))?;
    Ok(path)
}

fn holds(path: &Path, content: &[u8]) -> bool {
    fs::metadata(path).is_ok_and(|metadata| {
        metadata.is_file()
            && metadata.len() == content.len() as u64
            && fs::read(path).is_ok_and(|bytes| bytes == content)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::TempDir;

    #[test]
    fn store_creates_folders_and_replaces_files() {
        let folder = TempDir::new();
        let deep = folder.path().join("a/b");
        let path = store(&deep, "name", b"old").unwrap();
        assert_eq!(store(&deep, "name", b"new").unwrap(), path);
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(folder.files(), ["a/b/name"]);
    }

    #[test]
    fn store_leaves_equal_files_alone() {
        let folder = TempDir::new();
        let path = store(folder.path(), "name", b"same").unwrap();
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        store(folder.path(), "name", b"same").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
    }

    #[test]
    fn a_refused_store_leaves_nothing() {
        let folder = TempDir::new();
        // A folder that is in the way of the final name.
        folder.write("name/inside", b"");
        assert!(store(folder.path(), "name", b"new").is_err());
        // A file in the way of the folder.
        folder.write("file", b"");
        assert!(store(&folder.path().join("file"), "name", b"new").is_err());
        assert_eq!(folder.files(), ["file", "name/inside"]);
    }
}
