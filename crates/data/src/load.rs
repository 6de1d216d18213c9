//! Which data set is loaded: the search, in its order, and what is said about it.

use std::path::Path;

use crate::choice::Choice;
use crate::dataset::Dataset;
use crate::embedded;
use crate::error::{Error, one_line};
use crate::fetch::{Fetcher, MIRRORS, PATIENCE, Patience};
use crate::locations::{Locations, name_of_other_set};
use crate::parts::{Edition, MNIST, PARTS};
use crate::places::{Cached, Examined, complete, counts, examine_cache, examine_environment, find_any};
use crate::progress::Progress;
use crate::raw_set::RawSet;

/// Finds or fetches, checks and reads a data set.
///
/// The places of [`Locations`] are searched in order; the first that holds MNIST is used. `--data-dir` is the only place where it is
/// given, and may hold any IDX set. With [`Choice::Auto`], the embedded digits are used when MNIST is nowhere to be had;
/// [`Dataset::note`] says so and why.
///
/// # Errors
///
/// * Files that are there but damaged, incomplete, or not what the choice asks for: never a silent fall-back.
/// * A `--data-dir` without a data set.
/// * [`Choice::Mnist`] where MNIST is nowhere to be had.
pub fn load(choice: Choice, locations: &Locations, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Dataset, Error> {
    load_edition(choice, locations, &MNIST, PATIENCE, progress)
}

/// [`load`] with another set in MNIST's place, for tests.
fn load_edition(
    choice: Choice,
    locations: &Locations,
    edition: &Edition,
    patience: Patience,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Dataset, Error> {
    if choice == Choice::Mnist10k {
        return embedded::dataset("it was asked for");
    }
    if let Some(folder) = &locations.data_dir {
        return load_data_dir(choice, folder, locations, edition);
    }
    // What was found in each place that did not have MNIST, a phrase each.
    let mut searched = Vec::new();
    if let Some(folder) = &locations.environment {
        match examine_environment(folder, edition)? {
            Examined::Edition(set) => {
                let from = format!("from {}, named by SPHEREFACE_DATA", folder.display());
                return Ok(mnist(*set, locations, &from));
            }
            Examined::Other(phrase) => {
                searched.push(format!("SPHEREFACE_DATA names {}, {phrase}", folder.display()));
            }
        }
    }
    let passed_over = match searched.first() {
        Some(phrase) => format!("; {phrase}"),
        None => String::new(),
    };
    let cached = match &locations.cache {
        Some(folder) => examine_cache(folder, edition)?,
        None => Cached::nothing("no cache folder is known".to_owned()),
    };
    searched.push(cached.phrase);
    let fetch = Fetcher { edition, mirrors: locations.mirrors.iter().map(String::as_str).collect(), patience };
    match complete(cached.files, fetch, locations, progress) {
        Ok((set, from)) => {
            let set = RawSet::new(set)?;
            Ok(mnist(set, locations, &format!("{from}{passed_over}")))
        }
        Err(reason) => {
            searched.push(format!("fetching failed: {reason}"));
            let searched = searched.join("; ");
            match choice {
                Choice::Mnist => Err(Error::NoMnist { searched, by_hand: by_hand(locations) }),
                _ => embedded::dataset(&format!("full MNIST was not to be had: {searched}")),
            }
        }
    }
}

/// Any IDX set in the folder that the user names.
fn load_data_dir(choice: Choice, folder: &Path, locations: &Locations, edition: &Edition) -> Result<Dataset, Error> {
    let set = find_any(folder)?.read_all()?;
    let from = format!("from {}, named by --data-dir", folder.display());
    let matches = set.matches(edition);
    if matches == [true; 4] {
        return Ok(mnist(set, locations, &from));
    }
    if choice == Choice::Mnist {
        set.check_edition(edition)?;
    }
    Ok(other(set, name_of_other_set(folder), &from, matches))
}

fn mnist(mut set: RawSet, locations: &Locations, from: &str) -> Dataset {
    if let Some(folder) = locations.cached_mnist() {
        // An unpacked copy is wanted for the next run, not needed for this one.
        let _ = set.keep_in(&folder);
    }
    let what = counts(&set);
    let note = format!("mnist: MNIST, {what}, {from}");
    dataset(set, "mnist".to_owned(), &note, true)
}

fn other(set: RawSet, name: String, from: &str, matches: [bool; 4]) -> Dataset {
    let shape = set.shape();
    let what = counts(&set);
    let (height, width, classes) = (shape.height, shape.width, shape.classes);
    let mut note = format!(
        "{name}: {what} of {height}×{width} pixels in {classes} classes, {from}; \
         not MNIST as published, so figures are not comparable with published ones"
    );
    let named = |wanted: bool| -> String {
        let parts = PARTS.iter().zip(matches).filter(|(_, own)| *own == wanted);
        let names: Vec<_> = parts.map(|(part, _)| part.name()).collect();
        names.join(", ")
    };
    if matches.contains(&true) {
        let (own, altered) = (named(true), named(false));
        note += &format!("; {own}: as published; {altered}: altered or damaged");
    }
    dataset(set, name, &note, false)
}

fn dataset(set: RawSet, name: String, note: &str, comparable: bool) -> Dataset {
    let classes = set.shape().classes;
    let sha256 = set.sha256();
    let (train, test) = set.into_sets();
    Dataset { name, note: one_line(note), comparable, classes, sha256, train, test }
}

fn by_hand(locations: &Locations) -> String {
    let names = PARTS.map(|part| format!("{}.gz", part.name())).join(", ");
    let folder = match locations.cached_mnist() {
        Some(folder) => format!("put them into {}, or anywhere and name", folder.display()),
        None => "name".to_owned(),
    };
    format!("by hand: get {names} from {} and {folder} their folder by --data-dir", MIRRORS[0])
}

#[cfg(test)]
mod tests;
