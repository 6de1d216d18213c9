//! What a run leaves in its folder, and how a folder from elsewhere becomes one of ours.

use crate::record::Run;
use crate::{folder, readme, roofline, table};
use anyhow::{Context, Result};
use std::path::Path;

/// The files of a run's folder.
///
/// # Errors
/// When a number is not finite.
pub fn files(run: &Run) -> Result<[(&'static str, String); 4]> {
    Ok([
        ("run.json", run.to_json()?),
        ("table.md", table::page(run)),
        ("readme.md", readme::block(run)),
        ("roofline.svg", roofline::picture(run)),
    ])
}

/// Reads a run, and writes it into the folder of runs unless it is there already; where another one has its name, it gets a
/// number behind that.
///
/// # Errors
/// When there is no run, or it cannot be written.
pub fn adopted(runs: &Path, found: &Path) -> Result<Run> {
    let mut run = Run::read(found)?;
    if Run::read(&runs.join(&run.name)).is_ok_and(|known| known == run) {
        return Ok(run);
    }
    let place = folder::free(runs, &run.name);
    let name = place.file_name().with_context(|| format!("{}: expected a name of a run", found.display()))?;
    run.name = name.to_string_lossy().into_owned();
    folder::write(&place, &files(&run)?)?;
    Ok(run)
}
