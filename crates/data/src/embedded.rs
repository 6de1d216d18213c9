//! Real digits inside the binary: the first 10,000 of MNIST's training images.

use crate::dataset::{Dataset, ImageSet};
use crate::error::{Error, one_line};
use crate::idx::{self, Kind};
use crate::raw_set::sha256;
use crate::unpack::unpack;

const IMAGES: &[u8] = include_bytes!("../mnist10k/images-idx3-ubyte.gz");
const LABELS: &[u8] = include_bytes!("../mnist10k/labels-idx1-ubyte.gz");

/// The first of the images to train on, the others to test on.
const TRAIN: usize = 8_000;

/// The embedded digits; `why` ends the sentence "..., because".
///
/// # Errors
///
/// None unless the build is damaged: they go through the same checks as files.
pub(crate) fn dataset(why: &str) -> Result<Dataset, Error> {
    let images_file = "embedded images-idx3-ubyte.gz";
    let labels_file = "embedded labels-idx1-ubyte.gz";
    let mut images = unpack(images_file, Kind::Images, IMAGES.to_vec())?.bytes;
    let mut labels = unpack(labels_file, Kind::Labels, LABELS.to_vec())?.bytes;
    let sha256 = sha256([&images[..], &labels]);
    let images_header = idx::check(images_file, Kind::Images, &images)?;
    let labels_header = idx::check(labels_file, Kind::Labels, &labels)?;
    images.drain(..images_header.header_bytes);
    labels.drain(..labels_header.header_bytes);
    let whole = ImageSet { height: images_header.height, width: images_header.width, channels: 1, images, labels };
    let (train, test) = whole.split_at(TRAIN);
    let note = format!(
        "mnist-10k: 10,000 of MNIST's training images that ship with this program, 8,000 to train and 2,000 to test, \
         because {why}; figures are not comparable with published ones"
    );
    Ok(Dataset {
        name: "mnist-10k".to_owned(),
        note: one_line(&note),
        comparable: false,
        classes: 10,
        sha256,
        train,
        test,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_digits_are_8000_and_2000_of_ten_classes() {
        let set = dataset("it was asked for").unwrap();
        assert_eq!((set.train.len(), set.test.len()), (8_000, 2_000));
        for part in [&set.train, &set.test] {
            assert_eq!((part.height, part.width, part.channels), (28, 28, 1));
            assert_eq!(part.images.len(), part.len() * 28 * 28);
            for digit in 0..10 {
                assert!(part.labels.contains(&digit));
            }
            assert_eq!(part.labels.iter().max(), Some(&9));
        }
        // The first five labels of MNIST's training set.
        assert_eq!(set.train.labels[..5], [5, 0, 4, 1, 9]);
        assert!(!set.comparable && set.note.contains("not comparable"));
    }
}
