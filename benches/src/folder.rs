//! Files and folders that are written whole, or not at all.

use anyhow::{Context, Result, bail};
use std::path::Path;

/// Writes a folder of files beside its place, then moves it there.
///
/// # Errors
/// When there is a folder already, or it cannot be written.
pub fn write(folder: &Path, files: &[(&str, String)]) -> Result<()> {
    if folder.exists() {
        bail!("{}: exists already", folder.display());
    }
    let partial = folder.with_extension("partial");
    let written = || -> Result<()> {
        std::fs::create_dir_all(&partial).with_context(|| partial.display().to_string())?;
        for (name, text) in files {
            let path = partial.join(name);
            std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        }
        std::fs::rename(&partial, folder).with_context(|| folder.display().to_string())
    };
    written().inspect_err(|_| {
        // The error says what went wrong first.
        let _ = std::fs::remove_dir_all(&partial);
    })
}

/// Writes a file beside its place, then moves it there.
///
/// # Errors
/// When it cannot be written.
pub fn write_file(path: &Path, text: &str) -> Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, text).with_context(|| partial.display().to_string())?;
    std::fs::rename(&partial, path).with_context(|| path.display().to_string())
}
