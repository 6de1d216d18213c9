//! What each place holds, and whether it may be used.

use std::path::Path;

use crate::error::{Error, grouped};
use crate::fetch::Fetcher;
use crate::folder::{self, Files, Found};
use crate::locations::Locations;
use crate::parts::{Edition, PARTS, Part, for_each_part};
use crate::progress::Progress;
use crate::raw_set::{RawFile, RawSet, check_edition};

/// The files in a folder that must have some.
///
/// # Errors
///
/// [`Error::Content`] where there is no folder or none of the files.
pub(crate) fn find_any(folder: &Path) -> Result<Files, Error> {
    let name = folder.display().to_string();
    match folder::find(folder)? {
        Found::Files(files) => Ok(files),
        Found::NoFolder => Err(Error::content(&name, "folder", "an IDX data set", "no such folder")),
        Found::Nothing => {
            let names = PARTS.map(Part::name).join(", ");
            let expected = format!("{names}, raw or .gz, there or in its subfolder mnist");
            Err(Error::content(&name, "files", expected, "none of them"))
        }
    }
}

/// What a place that is only good for MNIST holds.
pub(crate) enum Examined {
    Edition(Box<RawSet>),
    /// Why it is passed over: a relative clause after the folder's name.
    Other(String),
}

/// # Errors
///
/// As [`Files::read_all`]; [`Error::Content`] where some of the files are MNIST's and others are not.
pub(crate) fn examine_environment(folder: &Path, edition: &Edition) -> Result<Examined, Error> {
    let files = match folder::find(folder)? {
        Found::NoFolder => return Ok(Examined::Other("which does not exist".to_owned())),
        Found::Nothing => return Ok(Examined::Other("which holds no MNIST files".to_owned())),
        Found::Files(files) => files,
    };
    let set = files.read_all()?;
    if set.matches(edition) == [false; 4] {
        let phrase = format!("which holds another data set ({})", counts(&set));
        return Ok(Examined::Other(format!("{phrase}, to be named by --data-dir")));
    }
    set.check_edition(edition)?;
    Ok(Examined::Edition(Box::new(set)))
}

/// The files of MNIST in the cache folder, right ones all.
pub(crate) struct Cached {
    pub(crate) files: [Option<RawFile>; 4],
    /// The folder and what it holds.
    pub(crate) phrase: String,
}

impl Cached {
    pub(crate) fn nothing(phrase: String) -> Cached {
        Cached { files: [None, None, None, None], phrase }
    }
}

/// # Errors
///
/// As [`Files::read`] for a file that is there; [`Error::Content`] where it is not MNIST's.
pub(crate) fn examine_cache(folder: &Path, edition: &Edition) -> Result<Cached, Error> {
    let name = folder.display();
    let files = match folder::find(folder) {
        Ok(Found::Files(files)) => files,
        Ok(_) => return Ok(Cached::nothing(format!("the cache {name} holds no files"))),
        // Nobody named this folder: that a home cannot be looked into is no reason to stop.
        Err(error) => return Ok(Cached::nothing(format!("the cache {error}"))),
    };
    let cached = for_each_part(|part| {
        let file = files.read(part).and_then(|file| {
            file.iter().try_for_each(|file| check_edition(file, part, edition))?;
            Ok(file)
        });
        file.map_err(advise_deletion)
    })?;
    let phrase = match files.missing()[..] {
        [] => format!("the cache {name}"),
        ref missing => format!("the cache {name} lacks {}", missing.join(", ")),
    };
    Ok(Cached { files: cached, phrase })
}

fn advise_deletion(error: Error) -> Error {
    match error {
        Error::Content { file, field, expected, found } => Error::Content {
            file,
            field,
            expected,
            found: format!("{found}; delete the file to have it fetched again"),
        },
        other => other,
    }
}

/// All four files, fetched where they are missing, and where they are from.
pub(crate) fn complete(
    cached: [Option<RawFile>; 4],
    mut fetcher: Fetcher<'_>,
    locations: &Locations,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<([RawFile; 4], String), String> {
    let folder = locations.cached_mnist();
    let mut cached = cached.into_iter();
    let mut fetched = false;
    let mut not_kept = String::new();
    let files = for_each_part(|part| -> Result<RawFile, String> {
        if let Some(file) = cached.next().flatten() {
            return Ok(file);
        }
        let mut file = fetcher.fetch(part, progress)?;
        fetched = true;
        // Each file is kept as soon as it is there, so that a fetch that breaks off goes on from here.
        match folder.as_deref().map(|folder| file.keep_in(folder, part)) {
            Some(Err(error)) => not_kept = format!(" ({error})"),
            None => not_kept = " (no cache folder is known)".to_owned(),
            Some(Ok(())) => {}
        }
        Ok(file)
    })?;
    let kept = match &folder {
        Some(folder) if not_kept.is_empty() => format!("kept in {}", folder.display()),
        _ => format!("not kept{not_kept}"),
    };
    let from = match (&locations.cache, fetched) {
        (Some(cache), false) => format!("from the cache {}", cache.display()),
        _ => {
            // The fetcher puts the mirror that worked first.
            let mirror = fetcher.mirrors.first().copied().unwrap_or_default();
            format!("fetched from {mirror}, {kept}")
        }
    };
    Ok((files, from))
}

/// `60,000 training and 10,000 test images`
pub(crate) fn counts(set: &RawSet) -> String {
    let shape = set.shape();
    let (train, test) = (grouped(shape.train as u64), grouped(shape.test as u64));
    format!("{train} training and {test} test images")
}
