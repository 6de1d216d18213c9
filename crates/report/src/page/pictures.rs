//! What the page's pictures of embeddings are drawn from: points, film and digits, as compact as a pixel allows.

use serde::Serialize;

use crate::error::Error;
use crate::figure::{Drawn, SHOWN_POINTS, sample};
use crate::geometry::rays;
use crate::model::{Film, Images, Training};
use crate::packed::base64;

/// Frames of a film in the page at most: six films of 1,000 points stay under 2 MB.
const FRAMES: usize = 50;
/// Digits beside one another in the sprite.
const COLUMNS: usize = 64;
/// Grey levels of the sprite: those of four bits.
const LEVELS: u8 = 16;

/// One training's embeddings of the shown test images.
#[derive(Serialize)]
pub(super) struct EmbeddingData {
    dim: usize,
    points: Coordinates,
    /// u8 in base64. Shape `[N]`.
    labels: String,
    /// u8 in base64. Shape `[N]`.
    predictions: String,
    /// Class weights, the longest of length one. Shape `[C, D]`.
    rays: Vec<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    film: Option<FilmData>,
}

/// The moving points: the first M shown ones.
#[derive(Serialize)]
struct FilmData {
    /// M.
    count: usize,
    /// Passes over the training images at each frame.
    epochs: Vec<f64>,
    /// Shape `[M, D]` each.
    points: Vec<Coordinates>,
    /// Class weights as in [`EmbeddingData::rays`]. Shape `[C, D]` each.
    rays: Vec<Coordinates>,
}

/// Numbers as 16-bit integers times `scale`: 1/32,767 of the largest is finer than a pixel.
#[derive(Serialize)]
struct Coordinates {
    scale: f64,
    /// Little-endian i16 in base64.
    values: String,
}

/// The shown digits as tiles of one picture, in the order of the points.
#[derive(Serialize)]
pub(super) struct Digits {
    width: usize,
    height: usize,
    columns: usize,
    count: usize,
    /// A PNG of 16 grey levels in base64.
    png: String,
}

impl Coordinates {
    fn new(values: impl Iterator<Item = f64> + Clone) -> Self {
        let largest = values.clone().map(f64::abs).fold(0.0, f64::max);
        let scale = if largest > 0.0 { largest / f64::from(i16::MAX) } else { 1.0 };
        let quantised: Vec<u8> = values.flat_map(|v| ((v / scale).round() as i16).to_le_bytes()).collect();
        Self { scale, values: base64(&quantised) }
    }
}

/// The test images that all pictures show: those of the films, then every wrongly classified one, then an even sample
/// of the others. One choice for all pictures, so that an image can be followed from one to the next.
pub(super) fn shown(drawn: &[Drawn<'_>]) -> Vec<usize> {
    let count = drawn.iter().map(|d| d.embeddings.labels.len()).min().unwrap_or(0);
    let filmed = drawn.iter().map(|d| film_length(d.training)).max().unwrap_or(0);
    let wrong = |&i: &usize| drawn.iter().any(|d| d.embeddings.labels[i] != d.embeddings.predictions[i]);
    let mut shown: Vec<usize> = (0..filmed.min(count)).collect();
    shown.extend((filmed..count).filter(wrong).take(SHOWN_POINTS.saturating_sub(shown.len())));
    let others: Vec<usize> = (filmed..count).filter(|i| !wrong(i)).collect();
    let room = SHOWN_POINTS.saturating_sub(shown.len());
    shown.extend(sample(others.len(), room).map(|i| others[i]));
    shown
}

/// Images in each frame of a training's film.
fn film_length(training: &Training) -> usize {
    let first = training.film.as_ref().and_then(|film| film.frames.first());
    first.map_or(0, |frame| frame.points.len() / training.embedding_dim)
}

/// Embeddings of the shown images, and their film.
pub(super) fn embedding(drawn: &Drawn<'_>, shown: &[usize]) -> EmbeddingData {
    let (found, dim) = (drawn.embeddings, drawn.training.embedding_dim);
    let coordinates = shown.iter().flat_map(|&i| &found.points[i * dim..(i + 1) * dim]).map(|&v| f64::from(v));
    let pick = |values: &[u8]| base64(&shown.iter().map(|&i| values[i]).collect::<Vec<_>>());
    EmbeddingData {
        dim,
        points: Coordinates::new(coordinates),
        labels: pick(&found.labels),
        predictions: pick(&found.predictions),
        rays: rays(&found.class_weights, dim, drawn.by_norms)
            .concat()
            .into_iter()
            .filter_map(super::data::rounded)
            .collect(),
        film: drawn.training.film.as_ref().map(|found| film(found, dim, drawn.by_norms)),
    }
}

fn film(film: &Film, dim: usize, by_norms: bool) -> FilmData {
    let recorded = film.frames.len();
    let kept = recorded.min(FRAMES);
    // Evenly, the first and the last among them.
    let frames = (0..kept).map(|i| &film.frames[i * (recorded - 1) / (kept - 1).max(1)]);
    FilmData {
        count: film.frames.first().map_or(0, |frame| frame.points.len() / dim),
        epochs: frames.clone().map(|frame| frame.epoch).collect(),
        points: frames.clone().map(|frame| Coordinates::new(frame.points.iter().map(|&v| f64::from(v)))).collect(),
        rays: frames
            .map(|frame| Coordinates::new(rays(&frame.class_weights, dim, by_norms).concat().into_iter()))
            .collect(),
    }
}

/// The shown digits, as far as there are images of them.
pub(super) fn digits(images: &Images, shown: &[usize]) -> Result<Digits, Error> {
    let Images { height, width, pixels } = images;
    let tiles: Vec<&[u8]> = pixels.chunks(height * width).collect();
    let shown: Vec<&[u8]> = shown.iter().map_while(|&i| tiles.get(i).copied()).collect();
    let rows = shown.len().div_ceil(COLUMNS);
    let line = (COLUMNS * width).div_ceil(2); // bytes, two pixels in each
    let mut packed = vec![0u8; line * rows * height];
    for (i, tile) in shown.iter().enumerate() {
        let (row, column) = (i / COLUMNS, i % COLUMNS);
        for (at, &pixel) in tile.iter().enumerate() {
            let (y, x) = (row * height + at / width, column * width + at % width);
            packed[y * line + x / 2] |= (pixel / (u8::MAX / LEVELS + 1)) << if x % 2 == 0 { 4 } else { 0 };
        }
    }
    let png = png(COLUMNS * width, rows * height, &packed).map_err(Error::Image)?;
    Ok(Digits { width: *width, height: *height, columns: COLUMNS, count: shown.len(), png: base64(&png) })
}

/// A grey picture of four bits a pixel.
fn png(width: usize, height: usize, packed: &[u8]) -> Result<Vec<u8>, png::EncodingError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width as u32, height as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Four);
    encoder.set_compression(png::Compression::High);
    // Differences of neighbours pay with smooth pictures; digits are mostly black.
    encoder.set_filter(png::Filter::NoFilter);
    encoder.write_header()?.write_image_data(packed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Embeddings, Frame};

    fn training(wrong: &[usize], images: usize, filmed: usize) -> Training {
        let mut predictions = vec![0; images];
        wrong.iter().for_each(|&i| predictions[i] = 1);
        let frame = Frame { epoch: 0.0, points: vec![1.0; 2 * filmed], class_weights: vec![1.0; 4] };
        Training {
            loss: "modified".into(),
            title: String::new(),
            embedding_dim: 2,
            seed: 1,
            epochs: 1,
            seconds: 0.0,
            train_accuracy: 1.0,
            test_accuracy: 1.0,
            test_accuracy_cosines: 1.0,
            final_train_loss: 0.0,
            steps: Vec::new(),
            epochs_log: Vec::new(),
            embeddings: Some(Embeddings {
                labels: vec![0; images],
                predictions,
                points: vec![1.0; 2 * images],
                class_weights: vec![1.0; 4],
            }),
            film: (filmed > 0).then(|| Film { frames: vec![frame] }),
            guard: Vec::new(),
        }
    }

    fn drawn(training: &Training) -> Drawn<'_> {
        Drawn { training, embeddings: training.embeddings.as_ref().unwrap(), colour: 0, by_norms: false }
    }

    #[test]
    fn filmed_images_come_first_then_all_wrong_ones_of_any_training() {
        let trainings = [training(&[3, 8000], 10_000, 1000), training(&[9999], 10_000, 0)];
        let shown = shown(&trainings.each_ref().map(drawn));
        assert_eq!(shown.len(), SHOWN_POINTS);
        assert!(shown[..1000].iter().copied().eq(0..1000));
        assert_eq!(shown[1000..1002], [8000, 9999]);
        let mut distinct = shown.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), shown.len());
    }

    #[test]
    fn a_small_set_is_shown_whole() {
        let mut shown = shown(&[drawn(&training(&[5], 20, 10))]);
        shown.sort_unstable();
        assert!(shown.into_iter().eq(0..20));
    }

    #[test]
    fn the_sprite_holds_the_shown_digits_in_sixteen_levels() {
        // Three pixels wide, so that digits meet within a byte.
        let pixels: Vec<u8> = (0..100 * 6).map(|i| (i * 7) as u8).collect();
        let images = Images { height: 2, width: 3, pixels };
        let shown: Vec<usize> = (0..100).rev().collect();
        let digits = digits(&images, &shown).unwrap();
        assert_eq!((digits.count, digits.columns), (100, COLUMNS));
        use base64::Engine as _;
        let file = base64::engine::general_purpose::STANDARD.decode(digits.png).unwrap();
        let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut found = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut found).unwrap();
        for (i, &image) in shown.iter().enumerate() {
            for at in 0..6 {
                let (y, x) = (i / COLUMNS * 2 + at / 3, i % COLUMNS * 3 + at % 3);
                let expected = images.pixels[image * 6 + at];
                assert!(found[y * COLUMNS * 3 + x].abs_diff(expected) < 16, "digit {i}, pixel {at}");
            }
        }
    }

    #[test]
    fn long_films_keep_their_ends() {
        let mut training = training(&[], 10, 10);
        let frame = |i: usize| Frame { epoch: i as f64, points: vec![1.0; 20], class_weights: vec![1.0; 4] };
        let found = Film { frames: (0..98).map(frame).collect() };
        training.film = None;
        let data = film(&found, training.embedding_dim, false);
        assert_eq!((data.epochs.len(), data.points.len(), data.rays.len()), (FRAMES, FRAMES, FRAMES));
        assert_eq!((data.epochs[0], data.epochs[FRAMES - 1]), (0.0, 97.0));
    }
}
