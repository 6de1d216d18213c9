//! Finding the four files in a folder.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::parts::{PARTS, Part, for_each_part};
use crate::raw_set::{RawFile, RawSet};
use crate::unpack;

/// What a folder holds, by names alone.
#[derive(Debug)]
pub(crate) enum Found {
    /// There is no such folder.
    NoFolder,
    /// None of the four files.
    Nothing,
    /// Some of the four files, or all.
    Files(Files),
}

/// Where the four files lie, in the order of [`PARTS`].
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) folder: PathBuf,
    paths: [Option<PathBuf>; 4],
}

/// The folder itself, the usual subfolder, and the one that torchvision makes.
const SUBFOLDERS: [&str; 3] = ["", "mnist", "MNIST/raw"];

/// Looks in `folder` and its usual subfolders: the first that holds all four files, else the first that holds any.
///
/// # Errors
///
/// [`Error::Io`] where the system refuses to look; [`Error::Content`] where `folder` is a file.
pub(crate) fn find(folder: &Path) -> Result<Found, Error> {
    match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => {
            let name = folder.display().to_string();
            return Err(Error::content(&name, "type", "a folder", "a file"));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::NoFolder),
        Err(error) => return Err(Error::io(folder, &error)),
    }
    let mut best = Found::Nothing;
    for subfolder in SUBFOLDERS {
        let folder = match subfolder {
            "" => folder.to_owned(),
            _ => folder.join(subfolder),
        };
        let paths = for_each_part(|part| locate(&folder, part))?;
        let files = Files { folder, paths };
        let present = files.paths.iter().flatten().count();
        if present == PARTS.len() {
            return Ok(Found::Files(files));
        }
        if present > 0 && matches!(best, Found::Nothing) {
            best = Found::Files(files);
        }
    }
    Ok(best)
}

impl Files {
    /// The published names of the files that are not there.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let missing = |part: &Part| self.paths[*part as usize].is_none();
        PARTS.into_iter().filter(missing).map(Part::name).collect()
    }

    /// Reads one file, `None` where it is not there.
    ///
    /// # Errors
    ///
    /// As [`unpack::read`].
    pub(crate) fn read(&self, part: Part) -> Result<Option<RawFile>, Error> {
        let Some(path) = &self.paths[part as usize] else {
            return Ok(None);
        };
        let unpacked = unpack::read(path, part.kind())?;
        Ok(Some(RawFile {
            name: path.display().to_string(),
            content: unpacked.bytes,
            unpacked_at: (!unpacked.was_packed).then(|| path.clone()),
        }))
    }

    /// Reads and checks all four.
    ///
    /// # Errors
    ///
    /// [`Error::Content`] where one is missing; else as [`unpack::read`] and [`RawSet::new`].
    pub(crate) fn read_all(&self) -> Result<RawSet, Error> {
        let missing = || {
            let name = self.folder.display().to_string();
            let found = format!("no {}", self.missing().join(", no "));
            Error::content(&name, "files", "all four of an IDX data set", found)
        };
        let files = for_each_part(|part| self.read(part)?.ok_or_else(missing))?;
        RawSet::new(files)
    }
}

/// A file under one of the part's spellings. A folder of that name counts only where no file does: some archives unpack to both.
fn locate(folder: &Path, part: Part) -> Result<Option<PathBuf>, Error> {
    let mut other = None;
    for name in part.spellings() {
        let path = folder.join(name);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => return Ok(Some(path)),
            Ok(_) => other = other.or(Some(path)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(Error::io(&path, &error)),
        }
    }
    Ok(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{TempDir, gzip, small_set};

    fn files(folder: &TempDir) -> Files {
        match find(folder.path()).unwrap() {
            Found::Files(files) => files,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_spelling_in_every_subfolder_is_found() {
        for subfolder in SUBFOLDERS {
            for spelling in 0..4 {
                let folder = TempDir::new();
                for (part, content) in PARTS.into_iter().zip(small_set()) {
                    let name = format!("{subfolder}/{}", part.spellings()[spelling]);
                    let packed = spelling >= 2;
                    let content = if packed { gzip(&content) } else { content };
                    folder.write(name.trim_start_matches('/'), &content);
                }
                let set = files(&folder).read_all().unwrap();
                assert_eq!(set.shape().train, 24);
            }
        }
    }

    #[test]
    fn a_complete_subfolder_wins_over_a_stray_file() {
        let folder = TempDir::new();
        folder.write(Part::TestLabels.name(), b"stray");
        for (part, content) in PARTS.into_iter().zip(small_set()) {
            folder.write(&format!("mnist/{}", part.name()), &content);
        }
        assert_eq!(files(&folder).folder, folder.path().join("mnist"));
    }

    #[test]
    fn missing_files_are_named() {
        let folder = TempDir::new();
        folder.write(Part::TrainImages.name(), &small_set()[0]);
        folder.write(Part::TrainLabels.name(), &small_set()[1]);
        let message = files(&folder).read_all().unwrap_err().to_string();
        let expected =
            "files: expected all four of an IDX data set, found no t10k-images-idx3-ubyte, no t10k-labels-idx1-ubyte";
        assert!(message.ends_with(expected), "{message}");
    }

    #[test]
    fn a_folder_named_like_a_file_counts_only_without_the_file() {
        let folder = TempDir::new();
        folder.write("train-images-idx3-ubyte/inside", b"");
        let found = locate(folder.path(), Part::TrainImages).unwrap().unwrap();
        let message = unpack::read(&found, Part::TrainImages.kind()).unwrap_err();
        assert!(message.to_string().ends_with("type: expected a file, found a folder"));
        let file = folder.write("train-images.idx3-ubyte", b"");
        assert_eq!(locate(folder.path(), Part::TrainImages).unwrap(), Some(file));
    }

    #[test]
    fn absent_empty_and_wrong_folders_differ() {
        let folder = TempDir::new();
        assert!(matches!(find(folder.path()), Ok(Found::Nothing)));
        assert!(matches!(find(&folder.path().join("x")), Ok(Found::NoFolder)));
        let file = folder.write("file", b"");
        let message = find(&file).unwrap_err().to_string();
        assert!(message.ends_with("type: expected a folder, found a file"), "{message}");
    }
}
