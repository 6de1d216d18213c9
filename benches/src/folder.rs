//! Files and folders that are written whole, or not at all.

use anyhow::{Context, Result, bail};
use atomicwrites::{AllowOverwrite, AtomicFile};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes a folder of files beside its place, then moves it there.
///
/// # Errors
/// When there is a folder already, or it cannot be written.
pub fn write(folder: &Path, files: &[(&str, String)]) -> Result<()> {
    if folder.exists() {
        bail!("{}: exists already", folder.display());
    }
    // Its name with an ending, whatever dots it has.
    let mut partial = folder.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = || -> Result<()> {
        std::fs::create_dir_all(&partial).with_context(|| partial.display().to_string())?;
        for (name, text) in files {
            write_file(&partial.join(name), text)?;
        }
        std::fs::rename(&partial, folder).with_context(|| folder.display().to_string())
    };
    written().inspect_err(|_| {
        // The error says what went wrong first.
        let _ = std::fs::remove_dir_all(&partial);
    })
}

/// The first of `name`, `name-2`, `name-3` … that does not exist in a folder.
pub fn free(folder: &Path, name: &str) -> PathBuf {
    let numbered = (2..).map(|number| folder.join(format!("{name}-{number}")));
    let mut names = std::iter::once(folder.join(name)).chain(numbered);
    names.find(|path| !path.exists()).unwrap_or_else(|| folder.join(name))
}

/// Writes a file, replacing what was there in one step.
///
/// # Errors
/// When it cannot be written.
pub fn write_file(path: &Path, text: &str) -> Result<()> {
    let written = AtomicFile::new(path, AllowOverwrite).write(|file| file.write_all(text.as_bytes()));
    written.with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_written_whole_or_not_at_all_and_never_over_another() {
        let scratch = std::env::temp_dir().join(format!("bench-folder-{}", std::process::id()));
        let place = free(&scratch, "run-1.2");
        write(&place, &[("a", "one".into())]).unwrap();
        assert_eq!(std::fs::read_to_string(place.join("a")).unwrap(), "one");
        assert!(write(&place, &[("a", "two".into())]).unwrap_err().to_string().contains("exists already"));
        assert_eq!(free(&scratch, "run-1.2"), scratch.join("run-1.2-2"));
        assert!(write(&scratch.join("other"), &[("no/such/folder", "one".into())]).is_err());
        let left: Vec<_> = std::fs::read_dir(&scratch).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["run-1.2"]);
        std::fs::remove_dir_all(&scratch).unwrap();
    }
}
