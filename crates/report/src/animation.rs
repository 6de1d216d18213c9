//! Pictures in few colours as one GIF that plays for ever.

use std::borrow::Cow;
use std::collections::HashMap;

/// One picture of an animation.
#[derive(Debug)]
pub(crate) struct Picture {
    /// Indices into the palette, row by row.
    pub(crate) pixels: Vec<u8>,
    /// How long it is seen, in hundredths of a second.
    pub(crate) centiseconds: u16,
}

/// At most 255 colours; the index after the last one stands for "as before".
#[derive(Debug)]
pub(crate) struct Palette(Vec<[u8; 3]>);

impl Palette {
    /// White, and every colour in `shades` steps from white to itself: what smooth edges on paper are made of.
    /// Colours beyond the first 255 are left out.
    pub(crate) fn on_white(colours: &[[u8; 3]], shades: u16) -> Self {
        let mut found = vec![[255; 3]];
        for &colour in colours {
            for step in 1..=shades {
                let shade = colour.map(|c| (255 - (255 - u16::from(c)) * step / shades) as u8);
                if !found.contains(&shade) {
                    found.push(shade);
                }
            }
        }
        found.truncate(255);
        Self(found)
    }

    /// The nearest colour of each pixel; a colour of the palette is its own.
    pub(crate) fn indices(&self, pixels: &[[u8; 3]]) -> Vec<u8> {
        let mut known: HashMap<[u8; 3], u8> = HashMap::new();
        let mut last = ([255; 3], 0);
        let index = |&pixel: &[u8; 3]| {
            if pixel != last.0 {
                last = (pixel, *known.entry(pixel).or_insert_with(|| self.nearest(pixel)));
            }
            last.1
        };
        pixels.iter().map(index).collect()
    }

    fn nearest(&self, pixel: [u8; 3]) -> u8 {
        let distance =
            |colour: &[u8; 3]| -> u32 { colour.iter().zip(pixel).map(|(&a, b)| u32::from(a.abs_diff(b)).pow(2)).sum() };
        let nearest = self.0.iter().enumerate().min_by_key(|(_, colour)| distance(colour));
        nearest.map_or(0, |(i, _)| i as u8)
    }
}

/// A GIF of pictures of one size, `[width, height]`. Of each only the rectangle that changed is written, and in that
/// only the pixels that did.
///
/// # Errors
/// In one line, what the format refuses.
pub(crate) fn gif(palette: &Palette, [width, height]: [u16; 2], pictures: &[Picture]) -> Result<Vec<u8>, String> {
    let same = palette.0.len() as u8;
    // A place for "as before" in the table, which the format rounds up to a power of two.
    let mut table = palette.0.concat();
    table.extend([255; 3]);
    let mut file = Vec::new();
    let mut encoder = gif::Encoder::new(&mut file, width, height, &table).map_err(|error| error.to_string())?;
    encoder.set_repeat(gif::Repeat::Infinite).map_err(|error| error.to_string())?;
    let mut before: Option<&[u8]> = None;
    for picture in pictures {
        let [left, top, right, bottom] = before.map_or([0, 0, width, height], |b| changed(b, &picture.pixels, width));
        let mut buffer = Vec::with_capacity(picture.pixels.len());
        for y in top..bottom {
            let row = usize::from(y) * usize::from(width);
            for i in row + usize::from(left)..row + usize::from(right) {
                let pixel = picture.pixels[i];
                buffer.push(if before.is_some_and(|before| before[i] == pixel) { same } else { pixel });
            }
        }
        let frame = gif::Frame {
            delay: picture.centiseconds,
            dispose: gif::DisposalMethod::Keep,
            transparent: Some(same),
            top,
            left,
            width: right - left,
            height: bottom - top,
            buffer: Cow::Owned(buffer),
            ..gif::Frame::default()
        };
        encoder.write_frame(&frame).map_err(|error| error.to_string())?;
        before = Some(&picture.pixels);
    }
    drop(encoder);
    Ok(file)
}

/// Left, top, right and bottom of the rectangle that holds all differences; one pixel if there are none.
fn changed(before: &[u8], after: &[u8], width: u16) -> [u16; 4] {
    let mut found: Option<[u16; 4]> = None;
    let rows = before.chunks(usize::from(width)).zip(after.chunks(usize::from(width)));
    for (y, (before, after)) in (0..).zip(rows) {
        let differs = |(a, b): (&u8, &u8)| a != b;
        let Some(first) = before.iter().zip(after).position(differs) else { continue };
        let last = before.iter().zip(after).rposition(differs).unwrap_or(first);
        let (first, last) = (first as u16, last as u16);
        let [left, top, right, _] = found.unwrap_or([first, y, last + 1, y]);
        found = Some([left.min(first), top, right.max(last + 1), y + 1]);
    }
    found.unwrap_or([0, 0, 1, 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_of_the_palette_stay_exact() {
        let palette = Palette::on_white(&[[200, 0, 0], [0, 0, 255]], 4);
        assert_eq!(palette.0.len(), 9);
        let colours = [[255; 3], [200, 0, 0], [0, 0, 255], [201, 2, 1]];
        let found: Vec<[u8; 3]> = palette.indices(&colours).iter().map(|&i| palette.0[usize::from(i)]).collect();
        assert_eq!(found, [[255; 3], [200, 0, 0], [0, 0, 255], [200, 0, 0]]);
    }

    #[test]
    fn what_is_decoded_is_what_was_drawn() {
        let palette = Palette::on_white(&[[0; 3]], 2);
        let shown: [[u8; 6]; 3] = [[0, 1, 2, 0, 0, 0], [0, 1, 0, 0, 2, 0], [0, 1, 0, 0, 2, 0]];
        let pictures = shown.map(|pixels| Picture { pixels: pixels.to_vec(), centiseconds: 7 });
        let file = gif(&palette, [3, 2], &pictures).expect("three pictures make a film");
        let mut decoder = gif::DecodeOptions::new();
        decoder.set_color_output(gif::ColorOutput::Indexed);
        let mut decoder = decoder.read_info(&file[..]).expect("it is a GIF");
        let mut screen = [9; 6];
        for pixels in shown {
            let frame = decoder.read_next_frame().expect("it decodes").expect("there are three frames");
            assert_eq!(frame.delay, 7);
            for (i, &pixel) in frame.buffer.iter().enumerate() {
                let (x, y) = (i % usize::from(frame.width), i / usize::from(frame.width));
                if Some(pixel) != frame.transparent {
                    screen[(y + usize::from(frame.top)) * 3 + x + usize::from(frame.left)] = pixel;
                }
            }
            assert_eq!(screen, pixels);
        }
    }

    #[test]
    fn the_changed_rectangle_is_the_smallest() {
        assert_eq!(changed(&[0; 12], &[0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0], 4), [1, 1, 4, 2]);
        assert_eq!(changed(&[0; 4], &[0; 4], 2), [0, 0, 1, 1]);
    }
}
