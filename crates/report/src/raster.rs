//! SVG as pixels, for papers and films.
//!
//! Text is set in Inter, which lies inside the program: a picture looks the same on every machine. The fonts are
//! subsets (Latin, Greek, super- and subscript digits, a few signs) under the SIL Open Font License.

use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::fontdb::{Database, Source};
use resvg::usvg::{Options, Tree};

const FONTS: [&[u8]; 2] =
    [include_bytes!("../assets/fonts/Inter-Regular.ttf"), include_bytes!("../assets/fonts/Inter-SemiBold.ttf")];

const FAMILY: &str = "Inter";

/// Pixels of a printed figure to the millimetre: 300 to the inch.
const PIXELS_PER_MILLIMETRE: f64 = 300.0 / 25.4;

static OPTIONS: LazyLock<Options<'static>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    for font in FONTS {
        fonts.load_font_source(Source::Binary(Arc::new(font)));
    }
    fonts.set_sans_serif_family(FAMILY);
    Options { font_family: FAMILY.to_string(), fontdb: Arc::new(fonts), ..Options::default() }
});

/// Draws an SVG file on white paper of `width` pixels; the height follows.
///
/// # Errors
/// In one line, what is wrong with the drawing.
pub(crate) fn pixels(svg: &str, width: u32) -> Result<Pixmap, String> {
    let tree = Tree::from_str(svg, &OPTIONS).map_err(|error| error.to_string())?;
    let scale = width as f32 / tree.size().width();
    let height = (tree.size().height() * scale).ceil() as u32;
    let mut pixmap = Pixmap::new(width, height).ok_or_else(|| format!("{width} × {height} pixels"))?;
    pixmap.fill(Color::WHITE);
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixmap.as_mut());
    Ok(pixmap)
}

/// A PNG file of an SVG file, at 300 pixels to the inch when printed `millimetres` wide.
///
/// # Errors
/// In one line, what is wrong with the drawing.
pub(crate) fn png(svg: &str, millimetres: f64) -> Result<Vec<u8>, String> {
    let pixmap = pixels(svg, (millimetres * PIXELS_PER_MILLIMETRE).round() as u32)?;
    let per_metre = (1000.0 * PIXELS_PER_MILLIMETRE).round() as u32;
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, pixmap.width(), pixmap.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_pixel_dims(Some(png::PixelDimensions { xppu: per_metre, yppu: per_metre, unit: png::Unit::Meter }));
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(&rgb(&pixmap).concat())?;
        writer.finish()
    });
    written.map_err(|error| error.to_string())?;
    Ok(file)
}

/// The colours of a picture on opaque paper, row by row.
pub(crate) fn rgb(pixmap: &Pixmap) -> Vec<[u8; 3]> {
    pixmap.pixels().iter().map(|pixel| [pixel.red(), pixel.green(), pixel.blue()]).collect()
}
