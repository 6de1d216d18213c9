//! Names on the command line and in files: one of a list, or an error that suggests the nearest.

use anyhow::{Result, bail};

/// Fails unless `value` is one of the names; suggests the nearest.
pub(crate) fn known<'a>(field: &str, value: &str, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let names: Vec<&str> = names.into_iter().collect();
    if names.contains(&value) {
        return Ok(());
    }
    let near = nearest(value, names.iter().copied());
    // Where most letters differ it was meant to be none of them.
    let near = near.filter(|name| 2 * strsim::damerau_levenshtein(value, name) <= value.chars().count());
    let hint = near.map(|name| format!("; did you mean '{name}'?")).unwrap_or_default();
    bail!("{field}: expected one of {}, found '{value}'{hint}", names.join(", "))
}

/// The name that is fewest letters away.
pub(crate) fn nearest<'a>(value: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names.min_by_key(|name| strsim::damerau_levenshtein(value, name))
}
