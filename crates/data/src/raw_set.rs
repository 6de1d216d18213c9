//! The four files of a data set, unpacked and checked against each other, and what becomes of them.

use std::io;
use std::path::{Path, PathBuf};

use mnist::{Mnist, MnistBuilder};
use sha2::{Digest, Sha256};

use crate::cache;
use crate::dataset::ImageSet;
use crate::error::Error;
use crate::idx::{self, Header};
use crate::parts::{Edition, PARTS, Part};

/// One file, unpacked.
#[derive(Debug, Clone)]
pub(crate) struct RawFile {
    /// How messages name it: a path or an address.
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
    /// A file on disk with exactly this content, where there is one.
    pub(crate) unpacked_at: Option<PathBuf>,
}

/// The four files, in the order of [`PARTS`].
#[derive(Debug, Clone)]
pub(crate) struct RawSet {
    files: [RawFile; 4],
    shape: Shape,
}

/// Counts and dimensions of a checked set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) train: usize,
    pub(crate) test: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) classes: usize,
}

/// The only shape that the crate `mnist` reads; it panics on any other.
const MNIST_CRATE_SHAPE: (usize, usize, usize, usize) = (60_000, 10_000, 28, 28);

impl RawFile {
    /// Writes the file into `folder` unless it already lies unpacked somewhere, complete or not at all.
    ///
    /// # Errors
    ///
    /// The system's refusal to write.
    pub(crate) fn keep_in(&mut self, folder: &Path, part: Part) -> io::Result<()> {
        if self.unpacked_at.is_none() {
            self.unpacked_at = Some(cache::store(folder, part.name(), &self.content)?);
        }
        Ok(())
    }
}

impl RawSet {
    /// Checks each file and all of them against each other.
    ///
    /// # Errors
    ///
    /// [`Error::Content`] names the first file and field that is wrong: see [`idx::check`]; label counts that differ from image counts;
    /// test images of another size; fewer than two classes; a test label that no training image has room for.
    pub(crate) fn new(files: [RawFile; 4]) -> Result<RawSet, Error> {
        let header = |part: Part| {
            let file = &files[part as usize];
            idx::check(&file.name, part.kind(), &file.content)
        };
        let train = header(Part::TrainImages)?;
        let train_labels = header(Part::TrainLabels)?;
        let test = header(Part::TestImages)?;
        let test_labels = header(Part::TestLabels)?;
        let [_, train_labels_file, test_file, test_labels_file] = &files;
        same_count(&train_labels_file.name, &train_labels, &train)?;
        same_count(&test_labels_file.name, &test_labels, &test)?;
        for (field, expected, found) in
            [("image height", train.height, test.height), ("image width", train.width, test.width)]
        {
            if expected != found {
                let expected = format!("{expected} as in the training images");
                let found = found.to_string();
                return Err(Error::content(&test_file.name, field, expected, found));
            }
        }
        let largest = |file: &RawFile, header: &Header| {
            let labels = &file.content[header.header_bytes..];
            labels.iter().copied().max().unwrap_or(0)
        };
        let last = largest(train_labels_file, &train_labels);
        if last == 0 {
            let name = &train_labels_file.name;
            return Err(Error::content(name, "labels", "at least 2 classes", "1"));
        }
        let last_tested = largest(test_labels_file, &test_labels);
        if last_tested > last {
            return Err(Error::content(
                &test_labels_file.name,
                "largest label",
                format!("at most {last} as in the training labels"),
                last_tested.to_string(),
            ));
        }
        let shape = Shape {
            train: train.count,
            test: test.count,
            height: train.height,
            width: train.width,
            classes: usize::from(last) + 1,
        };
        Ok(RawSet { files, shape })
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Which of the four files are the edition's own.
    pub(crate) fn matches(&self, edition: &Edition) -> [bool; 4] {
        PARTS.map(|part| check_edition(&self.files[part as usize], part, edition).is_ok())
    }

    /// # Errors
    ///
    /// [`Error::Content`] for the first file that is not the edition's own.
    pub(crate) fn check_edition(&self, edition: &Edition) -> Result<(), Error> {
        PARTS.iter().try_for_each(|part| check_edition(&self.files[*part as usize], *part, edition))
    }

    /// SHA-256 over the unpacked files in order, in hex.
    pub(crate) fn sha256(&self) -> String {
        sha256(self.files.iter().map(|file| &file.content[..]))
    }

    /// Writes those files into `folder` that are not yet unpacked on disk, each complete or not at all.
    ///
    /// # Errors
    ///
    /// The first refusal to write; files written before it stay.
    pub(crate) fn keep_in(&mut self, folder: &Path) -> io::Result<()> {
        for part in PARTS {
            self.files[part as usize].keep_in(folder, part)?;
        }
        Ok(())
    }

    /// The training and the test set.
    ///
    /// The crate `mnist` reads sets of MNIST's shape that lie unpacked on disk, everything else is read here, with the same result.
    ///
    /// # Shapes
    ///
    /// `[train, H, W, 1]` and `[test, H, W, 1]`
    pub(crate) fn into_sets(self) -> (ImageSet, ImageSet) {
        let shape = self.shape;
        let for_mnist_crate = (shape.train, shape.test, shape.height, shape.width) == MNIST_CRATE_SHAPE;
        if for_mnist_crate && let Some(sets) = self.read_by_mnist_crate() {
            return sets;
        }
        self.read_here()
    }

    fn read_here(self) -> (ImageSet, ImageSet) {
        let shape = self.shape;
        let [train, train_labels, test, test_labels] = self.files;
        let content = |mut file: RawFile, header_bytes: usize| {
            file.content.drain(..header_bytes);
            file.content
        };
        (
            image_set(shape, content(train, 16), content(train_labels, 8)),
            image_set(shape, content(test, 16), content(test_labels, 8)),
        )
    }

    /// `None` where a file is not unpacked on disk or its path is not Unicode.
    ///
    /// That crate panics on a missing file, another magic, count or dimension, and slices by its counts: [`RawSet::new`] has
    /// checked all of these for the very bytes that lie at `unpacked_at`.
    fn read_by_mnist_crate(&self) -> Option<(ImageSet, ImageSet)> {
        let path = |part: Part| self.files[part as usize].unpacked_at.as_deref()?.to_str();
        let Mnist { trn_img, trn_lbl, tst_img, tst_lbl, .. } = MnistBuilder::new()
            .base_path("")
            .training_images_filename(path(Part::TrainImages)?)
            .training_labels_filename(path(Part::TrainLabels)?)
            .test_images_filename(path(Part::TestImages)?)
            .test_labels_filename(path(Part::TestLabels)?)
            .label_format_digit()
            .finalize();
        Some((image_set(self.shape, trn_img, trn_lbl), image_set(self.shape, tst_img, tst_lbl)))
    }
}

/// # Errors
///
/// [`Error::Content`] where `file` is not the edition's own.
pub(crate) fn check_edition(file: &RawFile, part: Part, edition: &Edition) -> Result<(), Error> {
    let fingerprint = edition.fingerprint(part);
    let found = sha256([&file.content[..]]);
    if found != fingerprint.sha256 {
        let expected = format!("MNIST's {}", fingerprint.sha256);
        return Err(Error::content(&file.name, "sha256 of the unpacked file", expected, found));
    }
    Ok(())
}

/// SHA-256 of the concatenation, in hex.
pub(crate) fn sha256<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = Sha256::new();
    for piece in pieces {
        hasher.update(piece);
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn same_count(labels_file: &str, labels: &Header, images: &Header) -> Result<(), Error> {
    if labels.count == images.count {
        return Ok(());
    }
    Err(Error::content(
        labels_file,
        "label count",
        format!("{}, one for each image", images.count),
        labels.count.to_string(),
    ))
}

fn image_set(shape: Shape, images: Vec<u8>, labels: Vec<u8>) -> ImageSet {
    ImageSet { height: shape.height, width: shape.width, channels: 1, images, labels }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{TempDir, idx_images, idx_labels, mnist_like};

    fn raw_set(contents: [Vec<u8>; 4]) -> Result<RawSet, Error> {
        let mut names = ["a", "b", "c", "d"].into_iter();
        RawSet::new(contents.map(|content| RawFile {
            name: names.next().unwrap().to_owned(),
            content,
            unpacked_at: None,
        }))
    }

    fn small() -> [Vec<u8>; 4] {
        [idx_images(3, 4, 5, 1), idx_labels(&[0, 1, 2]), idx_images(2, 4, 5, 2), idx_labels(&[2, 0])]
    }

    #[test]
    fn sets_hold_the_bytes_of_their_files() {
        let set = raw_set(small()).unwrap();
        assert_eq!(set.shape().classes, 3);
        let (train, test) = set.into_sets();
        assert_eq!((train.len(), train.height, train.width, train.channels), (3, 4, 5, 1));
        assert_eq!(train.images, small()[0][16..]);
        assert_eq!((test.images, test.labels), (small()[2][16..].to_vec(), vec![2, 0]));
    }

    #[test]
    fn files_are_checked_against_each_other() {
        for (part, content, expected) in [
            (1, idx_labels(&[0, 1]), "b: label count: expected 3, one for each image, found 2"),
            (3, idx_labels(&[0, 1, 1]), "d: label count: expected 2, one for each image, found 3"),
            (2, idx_images(2, 5, 5, 0), "c: image height: expected 4 as in the training images, found 5"),
            (2, idx_images(2, 4, 6, 0), "c: image width: expected 5 as in the training images, found 6"),
            (1, idx_labels(&[0, 0, 0]), "b: labels: expected at least 2 classes, found 1"),
            (3, idx_labels(&[3, 0]), "d: largest label: expected at most 2 as in the training labels, found 3"),
            (0, idx_labels(&[0, 1, 2]), "a: magic: expected 0x00000803 (images), found 0x00000801 (labels)"),
        ] {
            let mut contents = small();
            contents[part] = content;
            assert_eq!(raw_set(contents).unwrap_err().to_string(), expected);
        }
        let [train, train_labels, test, test_labels] = small();
        let swapped = raw_set([test, train_labels, train, test_labels]).unwrap_err();
        assert_eq!(swapped.to_string(), "b: label count: expected 2, one for each image, found 3");
    }

    #[test]
    fn labels_up_to_255_are_classes() {
        let mut contents = small();
        contents[1] = idx_labels(&[0, 255, 2]);
        assert_eq!(raw_set(contents).unwrap().shape().classes, 256);
    }

    #[test]
    fn the_mnist_crate_and_this_reader_give_the_same_bytes() {
        let mut set = raw_set(mnist_like(7)).unwrap();
        assert!(set.read_by_mnist_crate().is_none());
        let folder = TempDir::new();
        set.keep_in(folder.path()).unwrap();
        let by_mnist_crate = set.read_by_mnist_crate().unwrap();
        assert_eq!(by_mnist_crate.0.len(), 60_000);
        assert!(by_mnist_crate == set.read_here());
    }

    #[test]
    fn sha256_is_of_the_concatenation() {
        assert_eq!(sha256([&b"a"[..], b"bc"]), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
