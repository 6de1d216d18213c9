//! What is where, without loading or fetching anything: for a command that shows it.

use std::fmt;
use std::path::Path;

use crate::error::{Error, grouped, one_line};
use crate::folder::{self, Found};
use crate::locations::{Locations, name_of_other_set};
use crate::parts::{Edition, MNIST};
use crate::places::{examine_cache, find_any};
use crate::raw_set::{RawFile, RawSet};

/// One place where a data set may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What kind of place: `--data-dir`, `SPHEREFACE_DATA`, `cache`, `mirror` or `embedded`.
    pub kind: &'static str,
    /// The folder or address; empty where there is none.
    pub address: String,
    /// What it holds.
    pub finding: Finding,
}

/// What a place holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// The place is not named.
    NotSet,
    /// It is not looked at, because `--data-dir` is the only place where it is given.
    NotSearched,
    /// There is no such folder.
    NoFolder,
    /// None of the four files.
    NoFiles,
    /// Some of the four files; the missing ones are fetched into the cache when they are needed.
    Incomplete {
        /// The published names of the missing files.
        missing: Vec<&'static str>,
    },
    /// MNIST, every file verified.
    Mnist,
    /// Another valid IDX set, used where `--data-dir` names it.
    Other {
        /// The name it is given.
        name: String,
        /// Number of training images.
        train: usize,
        /// Number of test images.
        test: usize,
    },
    /// Files that are damaged or not what they should be; loading ends in this error.
    Refused(Error),
    /// A mirror, asked when MNIST is in none of the folders.
    WhenNeeded,
    /// The digits in the binary, 8,000 to train and 2,000 to test.
    Embedded,
}

/// Looks into every place of `locations`, one entry each, in the order of the search. Reads and verifies files; fetches nothing.
pub fn survey(locations: &Locations) -> Vec<Place> {
    survey_edition(locations, &MNIST)
}

fn survey_edition(locations: &Locations, edition: &Edition) -> Vec<Place> {
    let only_data_dir = locations.data_dir.is_some();
    type Look = fn(&Path, &Edition) -> Result<Finding, Error>;
    let folders: [(&'static str, _, Look); 3] = [
        ("--data-dir", &locations.data_dir, look_into_data_dir),
        ("SPHEREFACE_DATA", &locations.environment, look_into_environment),
        ("cache", &locations.cache, look_into_cache),
    ];
    let mut places = Vec::new();
    for (kind, folder, look) in folders {
        let finding = match folder {
            None => Finding::NotSet,
            Some(_) if only_data_dir && kind != "--data-dir" => Finding::NotSearched,
            Some(folder) => look(folder, edition).unwrap_or_else(Finding::Refused),
        };
        let address = folder.as_deref().map(|folder| folder.display().to_string());
        places.push(Place { kind, address: address.unwrap_or_default(), finding });
    }
    for mirror in &locations.mirrors {
        let finding = match only_data_dir {
            true => Finding::NotSearched,
            false => Finding::WhenNeeded,
        };
        places.push(Place { kind: "mirror", address: mirror.clone(), finding });
    }
    places.push(Place { kind: "embedded", address: String::new(), finding: Finding::Embedded });
    places
}

fn look_into_data_dir(folder: &Path, edition: &Edition) -> Result<Finding, Error> {
    let set = find_any(folder)?.read_all()?;
    Ok(mnist_or_other(folder, &set, edition))
}

fn look_into_environment(folder: &Path, edition: &Edition) -> Result<Finding, Error> {
    let files = match folder::find(folder)? {
        Found::NoFolder => return Ok(Finding::NoFolder),
        Found::Nothing => return Ok(Finding::NoFiles),
        Found::Files(files) => files,
    };
    let set = files.read_all()?;
    if set.matches(edition).contains(&true) {
        set.check_edition(edition)?;
    }
    Ok(mnist_or_other(folder, &set, edition))
}

fn look_into_cache(folder: &Path, edition: &Edition) -> Result<Finding, Error> {
    let missing = match folder::find(folder)? {
        Found::NoFolder => return Ok(Finding::NoFolder),
        Found::Nothing => return Ok(Finding::NoFiles),
        Found::Files(files) => files.missing(),
    };
    let files: [Option<RawFile>; 4] = examine_cache(folder, edition)?.files;
    Ok(match files.iter().all(Option::is_some) {
        true => Finding::Mnist,
        false => Finding::Incomplete { missing },
    })
}

fn mnist_or_other(folder: &Path, set: &RawSet, edition: &Edition) -> Finding {
    if set.matches(edition) == [true; 4] {
        return Finding::Mnist;
    }
    Finding::Other { name: name_of_other_set(folder), train: set.shape().train, test: set.shape().test }
}

impl Finding {
    /// Whether a data set can be read here, now.
    pub fn is_usable(&self) -> bool {
        matches!(self, Finding::Mnist | Finding::Other { .. } | Finding::Embedded)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Finding::NotSet => "not set".to_owned(),
            Finding::NotSearched => "not searched: --data-dir is the only place".to_owned(),
            Finding::NoFolder => "no such folder".to_owned(),
            Finding::NoFiles => "no data set".to_owned(),
            Finding::Incomplete { missing } => format!("incomplete: lacks {}", missing.join(", ")),
            Finding::Mnist => "MNIST, verified".to_owned(),
            Finding::Other { name, train, test } => {
                let (train, test) = (grouped(*train as u64), grouped(*test as u64));
                format!("{name}: {train} training and {test} test images, not MNIST as published")
            }
            Finding::Refused(error) => format!("refused: {error}"),
            Finding::WhenNeeded => "asked when MNIST is in no folder".to_owned(),
            Finding::Embedded => "mnist-10k, always there".to_owned(),
        };
        f.pad(&one_line(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::Part;
    use crate::test_support::{TempDir, edition_of, gzip, small_set};

    fn findings(locations: &Locations) -> Vec<(&'static str, String)> {
        let places = survey_edition(locations, &edition_of(&small_set()));
        let line = |place: Place| (place.kind, place.finding.to_string());
        places.into_iter().map(line).collect()
    }

    #[test]
    fn every_place_has_an_entry_in_the_order_of_the_search() {
        let locations =
            Locations { mirrors: vec!["http://a/".to_owned(), "http://b/".to_owned()], ..Locations::default() };
        assert_eq!(
            findings(&locations),
            [
                ("--data-dir", "not set".to_owned()),
                ("SPHEREFACE_DATA", "not set".to_owned()),
                ("cache", "not set".to_owned()),
                ("mirror", "asked when MNIST is in no folder".to_owned()),
                ("mirror", "asked when MNIST is in no folder".to_owned()),
                ("embedded", "mnist-10k, always there".to_owned()),
            ]
        );
    }

    #[test]
    fn findings_tell_complete_incomplete_other_and_damaged_apart() {
        let folder = TempDir::new();
        let mut locations = Locations {
            environment: Some(folder.path().to_owned()),
            cache: Some(folder.path().join("cache")),
            ..Locations::default()
        };
        let cache = |contents: &[Vec<u8>]| {
            for (part, content) in crate::parts::PARTS.into_iter().zip(contents) {
                folder.write(&format!("cache/mnist/{}.gz", part.name()), &gzip(content));
            }
        };
        assert_eq!(findings(&locations)[1].1, "no data set");
        assert_eq!(findings(&locations)[2].1, "no such folder");
        cache(&small_set()[..3]);
        assert_eq!(findings(&locations)[2].1, "incomplete: lacks t10k-labels-idx1-ubyte");
        cache(&small_set());
        assert_eq!(findings(&locations)[2].1, "MNIST, verified");
        locations.data_dir = Some(folder.path().join("cache"));
        assert_eq!(findings(&locations)[0].1, "MNIST, verified");
        assert!(findings(&locations)[2].1.starts_with("not searched"));
        locations.data_dir = None;
        let mut altered = small_set();
        altered[0][40] ^= 1;
        cache(&altered);
        let damaged = &findings(&locations)[2].1;
        assert!(damaged.starts_with("refused: ") && damaged.contains("sha256"), "{damaged}");
        locations.data_dir = Some(folder.path().join("cache"));
        let other = "cache: 24 training and 12 test images, not MNIST as published";
        assert_eq!(findings(&locations)[0].1, other);
        folder.write(&format!("cache/mnist/{}", Part::TestImages.name()), b"");
        assert!(findings(&locations)[0].1.contains("an empty file"));
    }
}
