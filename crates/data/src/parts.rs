//! The four files of an IDX data set: their names, their spellings, and MNIST's fingerprints.

use crate::idx::Kind;

/// One of the four files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    TrainImages,
    TrainLabels,
    TestImages,
    TestLabels,
}

/// In the order of every array of four in this crate.
pub(crate) const PARTS: [Part; 4] = [Part::TrainImages, Part::TrainLabels, Part::TestImages, Part::TestLabels];

impl Part {
    /// The name under which the file is published, unpacked.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Part::TrainImages => "train-images-idx3-ubyte",
            Part::TrainLabels => "train-labels-idx1-ubyte",
            Part::TestImages => "t10k-images-idx3-ubyte",
            Part::TestLabels => "t10k-labels-idx1-ubyte",
        }
    }

    /// The names to look for, in this order. Other tools write a dot in place of the last-but-one dash.
    pub(crate) fn spellings(self) -> [String; 4] {
        let dash = self.name().to_owned();
        let dot = dash.replace("-idx", ".idx");
        [dash.clone(), dot.clone(), format!("{dash}.gz"), format!("{dot}.gz")]
    }

    pub(crate) fn kind(self) -> Kind {
        match self {
            Part::TrainImages | Part::TestImages => Kind::Images,
            Part::TrainLabels | Part::TestLabels => Kind::Labels,
        }
    }
}

/// Calls `f` for the four parts and stops at the first error.
pub(crate) fn for_each_part<T, E>(mut f: impl FnMut(Part) -> Result<T, E>) -> Result<[T; 4], E> {
    let [a, b, c, d] = PARTS;
    Ok([f(a)?, f(b)?, f(c)?, f(d)?])
}

/// How one file of a known data set is recognised, unpacked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fingerprint {
    pub(crate) size_bytes: u64,
    pub(crate) sha256: &'static str,
}

/// The fingerprints of the four files of a known data set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edition(pub(crate) [Fingerprint; 4]);

impl Edition {
    pub(crate) fn fingerprint(&self, part: Part) -> Fingerprint {
        self.0[part as usize]
    }
}

/// MNIST as LeCun and Cortes published it: 60,000 + 10,000 images of 28×28 pixels.
pub(crate) const MNIST: Edition = Edition([
    Fingerprint { size_bytes: 47_040_016, sha256: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db" },
    Fingerprint { size_bytes: 60_008, sha256: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5" },
    Fingerprint { size_bytes: 7_840_016, sha256: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7" },
    Fingerprint { size_bytes: 10_008, sha256: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2" },
]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_cover_dash_and_dot_raw_and_packed() {
        assert_eq!(
            Part::TestImages.spellings(),
            [
                "t10k-images-idx3-ubyte",
                "t10k-images.idx3-ubyte",
                "t10k-images-idx3-ubyte.gz",
                "t10k-images.idx3-ubyte.gz"
            ]
        );
    }

    #[test]
    fn parts_index_the_arrays_of_four() {
        assert_eq!(PARTS.map(|part| part as usize), [0, 1, 2, 3]);
    }
}
