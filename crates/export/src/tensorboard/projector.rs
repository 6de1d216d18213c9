//! The files of the embedding projector: points, labels, and one picture with all images.

use crate::embeddings::Labelled;
use crate::error::Error;
use std::fmt::Write as _;

/// Name of the projector's configuration, which TensorBoard looks for.
pub const PROJECTOR_CONFIG: &str = "projector_config.pbtxt";
/// Name of the file of points.
pub const TENSORS: &str = "tensors.tsv";
/// Name of the file of labels.
pub const METADATA: &str = "metadata.tsv";
/// Name of the picture.
pub const SPRITE: &str = "sprite.png";

/// Largest side of the picture, in pixels: what graphics cards take as one texture.
const MAX_SIDE: usize = 8192;

/// One picture of many images: rows of them, from left to right, from top to bottom.
#[derive(Clone, Copy, Debug)]
pub struct Sprite<'a> {
    /// Bytes `[N, H, W, C]`.
    pub images: &'a [u8],
    /// H, W and C.
    pub size: [usize; 3],
}

impl Sprite<'_> {
    /// Number of images, and of columns and rows that hold them: a square, as TensorBoard expects it.
    fn grid(&self) -> (usize, usize) {
        let images = self.images.len() / self.size.iter().product::<usize>().max(1);
        let side = (1..).find(|side| side * side >= images).unwrap_or(1);
        (images, side)
    }

    /// Whether there is such a picture: images in grey or colour, not more than fit.
    fn is_possible(&self) -> bool {
        let (images, side) = self.grid();
        let [height, width, channels] = self.size;
        images > 0 && [1, 3].contains(&channels) && side * height.max(width) <= MAX_SIDE
    }

    /// The picture as the bytes of a PNG file, if it is possible.
    ///
    /// # Errors
    /// [`Error::Sprite`], when it cannot be encoded.
    pub fn png(&self) -> Result<Option<Vec<u8>>, Error> {
        if !self.is_possible() {
            return Ok(None);
        }
        let (_, side) = self.grid();
        let [height, width, channels] = self.size;
        let (line, row) = (width * channels, side * width * channels);
        let mut pixels = vec![0; side * height * row];
        for (number, image) in self.images.chunks_exact(height * line).enumerate() {
            for (y, values) in image.chunks_exact(line).enumerate() {
                let at = (number / side * height + y) * row + number % side * line;
                pixels[at..at + line].copy_from_slice(values);
            }
        }
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, (side * width) as u32, (side * height) as u32);
        encoder.set_color(if channels == 1 { png::ColorType::Grayscale } else { png::ColorType::Rgb });
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header().map_err(Error::Sprite)?;
        writer.write_image_data(&pixels).map_err(Error::Sprite)?;
        writer.finish().map_err(Error::Sprite)?;
        Ok(Some(file))
    }
}

/// The configuration: `name` is shown, `sprite` holds height and width of one image if there is a picture.
pub fn projector_config(name: &str, labelled: &Labelled<'_>, sprite: Option<[usize; 2]>) -> String {
    let (images, dim) = (labelled.labels.len(), labelled.dim);
    let mut text = format!(
        "embeddings {{\n  tensor_name: \"{name}\"\n  tensor_path: \"{TENSORS}\"\n  tensor_shape: {images}\n  \
         tensor_shape: {dim}\n  metadata_path: \"{METADATA}\"\n"
    );
    if let Some([height, width]) = sprite {
        let _ = writeln!(
            text,
            "  sprite {{\n    image_path: \"{SPRITE}\"\n    single_image_dim: {width}\n    single_image_dim: {height}\n  }}"
        );
    }
    text.push_str("}\n");
    text
}

/// One line a point, its coordinates separated by tabs.
pub fn tensors(labelled: &Labelled<'_>) -> String {
    let mut text = String::new();
    for point in labelled.points.chunks_exact(labelled.dim) {
        for (d, value) in point.iter().enumerate() {
            let _ = write!(text, "{}{value}", if d == 0 { "" } else { "\t" });
        }
        text.push('\n');
    }
    text
}

/// One line a point: its class, and the class it is taken for.
pub fn metadata(labels: &[u8], predictions: &[u8]) -> String {
    let mut text = String::from("label\tpredicted\n");
    for (label, predicted) in labels.iter().zip(predictions) {
        let _ = writeln!(text, "{label}\t{predicted}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::Sprite;

    #[test]
    fn images_stand_in_rows_and_what_is_left_is_black() {
        // Three images of one row and two pixels: a square of two by two.
        let sprite = Sprite { images: &[1, 2, 3, 4, 5, 6], size: [1, 2, 1] };
        let file = sprite.png().unwrap().unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; 8];
        let frame = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((frame.width, frame.height), (4, 2));
        assert_eq!(pixels, [1, 2, 3, 4, 5, 6, 0, 0]);
    }

    #[test]
    fn what_makes_no_picture_is_left_out() {
        let all = vec![0; 300 * 300 * 28 * 28];
        for (images, size) in [(&all[..0], [28, 28, 1]), (&all[..8], [2, 2, 2]), (&all[..], [28, 28, 1])] {
            assert!(Sprite { images, size }.png().unwrap().is_none(), "{size:?}");
        }
    }
}
