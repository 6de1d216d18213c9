//! What a screenshot shows, in two numbers: how much of it is drawn, and how bright it is.

use std::io::Cursor;

/// A measured picture.
#[derive(Debug, PartialEq)]
pub(crate) struct Picture {
    pub(crate) width: u32,
    /// The share of pixels unlike the first one, which is background.
    pub(crate) drawn: f64,
    /// The mean of all colour samples, 0 to 255.
    pub(crate) brightness: f64,
}

impl Picture {
    /// Decodes and measures a PNG.
    ///
    /// # Errors
    /// When it is no whole PNG.
    pub(crate) fn decode(file: &[u8]) -> Result<Self, String> {
        let mut decoder = png::Decoder::new(Cursor::new(file));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
        let mut pixels = vec![0; reader.output_buffer_size().ok_or("too large")?];
        let info = reader.next_frame(&mut pixels).map_err(|error| error.to_string())?;
        Ok(Picture::measure(info.width, &pixels, info.color_type.samples()))
    }

    /// Measures 8-bit pixels of 1 to 4 samples.
    fn measure(width: u32, pixels: &[u8], samples: usize) -> Self {
        let colours = if samples.is_multiple_of(2) { samples - 1 } else { samples }; // Without the alpha sample.
        let (mut drawn, mut sum, mut count) = (0_u32, 0_u64, 0_u32);
        for pixel in pixels.chunks_exact(samples) {
            drawn += u32::from(pixel != &pixels[..samples]);
            sum += pixel[..colours].iter().map(|&sample| u64::from(sample)).sum::<u64>();
            count += 1;
        }
        let count = f64::from(count.max(1));
        Picture { width, drawn: f64::from(drawn) / count, brightness: sum as f64 / (count * colours as f64) }
    }
}

#[cfg(test)]
mod tests {
    use super::Picture;

    #[test]
    fn a_blank_picture_is_told_from_a_drawn_one() {
        let mut pixels = vec![255; 100 * 4];
        assert_eq!(Picture::measure(10, &pixels, 4), Picture { width: 10, drawn: 0.0, brightness: 255.0 });
        pixels[40..44].fill(0);
        let drawn = Picture::measure(10, &pixels, 4);
        assert!(drawn.drawn == 0.01 && (drawn.brightness - 252.45).abs() < 1e-9, "{drawn:?}");
    }

    #[test]
    fn what_is_no_picture_is_an_error() {
        assert!(Picture::decode(b"").is_err());
        assert!(Picture::decode(b"\x89PNG\r\n\x1a\n and nothing more").is_err());
    }
}
