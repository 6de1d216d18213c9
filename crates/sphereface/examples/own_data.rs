//! Data of your own: grey pictures in the format PGM, in a folder for each class.
//!
//! `cargo run --release -p sphereface --example own_data -- FOLDER`, with `FOLDER/<class>/<picture>.pgm` of one size

use sphereface::Session;
use sphereface::data::ImageSet;
use sphereface::models::{DIGITS, Model, Network, Recipe, loss};
use sphereface::tensor::cpu::CpuBackend;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// What a folder holds, in the order of the names: that of a file system is one of chance.
fn inside(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Height, width and pixels of a picture: `P5`, width, height and `255` in text, one white space, the pixels.
fn pgm(file: &[u8]) -> Option<([usize; 2], &[u8])> {
    let mut rest = file;
    let mut word = || {
        let end = rest.iter().position(u8::is_ascii_whitespace)?;
        let word = std::str::from_utf8(&rest[..end]).ok()?;
        rest = &rest[end + 1..];
        Some(word)
    };
    let (magic, width, height, white) = (word()?, word()?.parse().ok()?, word()?.parse().ok()?, word()?);
    (magic == "P5" && white == "255").then_some(([height, width], rest))
}

/// All pictures of the folder with the number of their class, and how many classes there are.
fn load(folder: &Path) -> Result<(ImageSet, usize), Box<dyn Error>> {
    let (mut size, mut images, mut labels) = ([0, 0], Vec::new(), Vec::new());
    let classes = inside(folder)?;
    for (label, class) in classes.iter().enumerate() {
        for path in inside(class)? {
            let file = fs::read(&path)?;
            let (found, pixels) = pgm(&file).ok_or_else(|| format!("{}: no PGM of 8 bits", path.display()))?;
            if !labels.is_empty() && found != size {
                return Err(format!("{}: expected {size:?} pixels, found {found:?}", path.display()).into());
            }
            size = found;
            images.extend_from_slice(pixels);
            labels.push(u8::try_from(label)?);
        }
    }
    let [height, width] = size;
    Ok((ImageSet::new(&folder.display().to_string(), [height, width, 1], images, labels)?, classes.len()))
}

/// Trains so many epochs; returns the share of the images that are right.
fn train(folder: &Path, epochs: usize) -> Result<f64, Box<dyn Error>> {
    let (images, classes) = load(folder)?;
    let network = Network::input([images.height, images.width, 1]).stage(16, 0).stage(32, 0).linear(8);
    let model = Model { network, head: loss("cosface").ok_or("no such loss")?.head(classes) };
    let recipe = Recipe { epochs, batch: 32, ..DIGITS };
    // A set of its own to test on would be the second of these.
    let mut session = Session::with_recipe(Box::new(CpuBackend::new(0)?), model, &recipe, &images, &images)?;
    session.finish()?;
    Ok(session.evaluate_test()?.accuracy())
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("expected a folder of folders of pictures, found none")?;
    println!("{:.4} of the pictures are right", train(Path::new(&folder), 20)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sphereface::data::{Choice, Locations};

    #[test]
    fn pictures_in_folders_are_learned() {
        let folder = std::env::temp_dir().join(format!("sphereface-own-data-{}", std::process::id()));
        let digits = sphereface::data::load(Choice::Mnist10k, &Locations::default(), &mut |_| {}).unwrap().train;
        for i in 0..200 {
            let class = folder.join(format!("digit-{}", digits.labels[i]));
            fs::create_dir_all(&class).unwrap();
            let picture = [&b"P5\n28 28\n255\n"[..], digits.image(i)].concat();
            fs::write(class.join(format!("{i}.pgm")), picture).unwrap();
        }
        let (images, classes) = load(&folder).unwrap();
        assert_eq!((images.len(), classes), (200, 10));
        let accuracy = train(&folder, 10).unwrap();
        fs::write(folder.join("digit-0/torn.pgm"), b"P5\n28 28\n255\n123").unwrap();
        let message = load(&folder).unwrap_err().to_string();
        fs::remove_dir_all(&folder).unwrap();
        assert!(accuracy > 0.5, "{accuracy}");
        assert!(message.contains("pixels: expected 201 × 28 × 28 × 1"), "{message}");
    }
}
