//! Data sets in memory: images and labels as bytes, with what a report must say about them.

use crate::error::Error;

/// A data set, checked and ready to train on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// `mnist` for the canonical 60,000 + 10,000 images only, `mnist-10k` for the embedded digits, else the folder's name or `idx`.
    pub name: String,
    /// One line for the user: which data set this is, from where, and why this one.
    pub note: String,
    /// Whether accuracies on `test` may stand beside published MNIST figures.
    pub comparable: bool,
    /// Labels lie in `0..classes`.
    pub classes: usize,
    /// SHA-256, in hex, over the unpacked IDX files in the order training images, training labels, test images, test labels
    /// (`mnist-10k`: images, labels).
    pub sha256: String,
    /// The images to train on.
    pub train: ImageSet,
    /// The images to report accuracy on.
    pub test: ImageSet,
}

/// Images of one size with their labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSet {
    /// H, in pixels.
    pub height: usize,
    /// W, in pixels.
    pub width: usize,
    /// C: 1 for grey images.
    pub channels: usize,
    /// Pixels, 0 to 255. `[N, H, W, C]`
    pub images: Vec<u8>,
    /// Class of each image. `[N]`
    pub labels: Vec<u8>,
}

impl Dataset {
    /// Replaces the test images by the last twelfth of the training images (MNIST: the last 5,000 of 60,000), held out of training.
    ///
    /// Settings are chosen on these, never on the test images. At least one image is held out and at least one stays to train on;
    /// a single training image stays where it is and the test set becomes empty.
    pub fn with_validation(self) -> Dataset {
        let images = self.train.len();
        let held_out = (images / 12).max(1).min(images.saturating_sub(1));
        let (train, test) = self.train.split_at(images - held_out);
        Dataset {
            note: format!(
                "{}; tested on the last {held_out} training images, held out of training, instead of the test set",
                self.note
            ),
            comparable: false,
            train,
            test,
            ..self
        }
    }

    /// The same data set with the first `images` images of its test set only.
    pub fn with_first_test_images(self, images: usize) -> Dataset {
        if images >= self.test.len() {
            return self;
        }
        Dataset {
            note: format!("{}; tested on the first {images} images only", self.note),
            comparable: false,
            test: self.test.split_at(images).0,
            ..self
        }
    }
}

impl ImageSet {
    /// Images from any source: `[H, W, C]` is the size of each.
    ///
    /// # Shapes
    ///
    /// `images` `[N, H, W, C]`, `labels` `[N]`
    ///
    /// # Errors
    ///
    /// [`Error::Content`], named `name`, where there are not as many pixels as the labels ask for.
    pub fn new(name: &str, size: [usize; 3], images: Vec<u8>, labels: Vec<u8>) -> Result<ImageSet, Error> {
        let [height, width, channels] = size;
        let pixels = size.iter().try_fold(labels.len(), |pixels, &side| pixels.checked_mul(side));
        if pixels != Some(images.len()) {
            let expected = format!("{} × {height} × {width} × {channels}", labels.len());
            return Err(Error::content(name, "pixels", expected, images.len().to_string()));
        }
        Ok(ImageSet { height, width, channels, images, labels })
    }

    /// N, the number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of one image, H·W·C.
    pub fn image_bytes(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Pixels of image `index`.
    ///
    /// # Shapes
    ///
    /// `[H, W, C]`
    ///
    /// # Panics
    ///
    /// As a slice does, where `index` is not below [`len`](Self::len).
    pub fn image(&self, index: usize) -> &[u8] {
        let size = self.image_bytes();
        &self.images[index * size..][..size]
    }

    /// The first `count` images, and the rest; all and nothing where there are fewer.
    ///
    /// # Shapes
    ///
    /// `[N, H, W, C]` becomes `[count, H, W, C]` and `[N - count, H, W, C]`.
    pub fn split_at(mut self, count: usize) -> (ImageSet, ImageSet) {
        let count = count.min(self.len());
        let rest = ImageSet {
            images: self.images.split_off(count * self.image_bytes()),
            labels: self.labels.split_off(count),
            ..self
        };
        (self, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(count: usize) -> ImageSet {
        ImageSet {
            height: 1,
            width: 2,
            channels: 1,
            images: (0..2 * count).map(|i| i as u8).collect(),
            labels: (0..count).map(|i| (i % 10) as u8).collect(),
        }
    }

    fn dataset(train: usize) -> Dataset {
        Dataset {
            name: "mnist".to_owned(),
            note: "note".to_owned(),
            comparable: true,
            classes: 10,
            sha256: String::new(),
            train: set(train),
            test: set(5),
        }
    }

    #[test]
    fn images_have_as_many_pixels_as_their_labels_ask_for() {
        let new = |size, pixels| ImageSet::new("faces", size, vec![7; pixels], vec![0, 1, 1]);
        assert_eq!(new([2, 5, 3], 90).unwrap().image_bytes(), 30);
        let message = |size, pixels| new(size, pixels).unwrap_err().to_string();
        assert_eq!(message([2, 5, 3], 60), "faces: pixels: expected 3 × 2 × 5 × 3, found 60");
        assert!(message([usize::MAX, usize::MAX, 1], 3).ends_with("found 3"));
    }

    #[test]
    fn split_at_keeps_every_image_with_its_label() {
        let (first, rest) = set(7).split_at(3);
        assert_eq!((first.len(), rest.len()), (3, 4));
        assert_eq!((first.image(2), first.labels[2]), (&[4, 5][..], 2));
        assert_eq!((rest.image(0), rest.labels[0]), (&[6, 7][..], 3));
        let (all, nothing) = set(7).split_at(8);
        assert_eq!(all, set(7));
        assert!(nothing.is_empty() && nothing.images.is_empty());
    }

    #[test]
    fn with_validation_holds_out_exactly_the_last_5000_of_60000() {
        let whole = dataset(60_000);
        let images = whole.train.images.clone();
        let held_out = whole.with_validation();
        assert_eq!((held_out.train.len(), held_out.test.len()), (55_000, 5_000));
        assert_eq!(held_out.train.images, images[..110_000]);
        assert_eq!(held_out.test.images, images[110_000..]);
        assert!(!held_out.comparable);
        assert!(held_out.note.contains("last 5000 training images"));
    }

    #[test]
    fn with_validation_leaves_an_image_to_train_on() {
        for (images, expected) in [(0, (0, 0)), (1, (1, 0)), (2, (1, 1)), (11, (10, 1)), (24, (22, 2))] {
            let held_out = dataset(images).with_validation();
            assert_eq!((held_out.train.len(), held_out.test.len()), expected);
        }
    }
}
