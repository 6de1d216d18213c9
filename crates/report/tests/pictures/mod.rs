//! What the pictures of a report must be: whole, drawn all over, of the size that is promised.

use crate::common::{files, report, still};
use resvg::usvg::{Options, Tree};
use sphereface_report::{Film, Frame, Report};

#[test]
fn every_figure_is_there_as_svg_and_as_png() {
    let files = files(&still(&report(300)));
    let names: Vec<&str> = files.iter().filter_map(|(name, _)| name.strip_suffix(".svg")).collect();
    assert!(names.len() >= 10, "{names:?}");
    for name in names {
        let of = |end: &str| files.iter().find(|(other, _)| *other == format!("{name}.{end}"));
        let (Some((_, svg)), Some((_, png))) = (of("svg"), of("png")) else { panic!("{name} lacks a file") };
        let tree = Tree::from_data(svg, &Options::default()).expect("the SVG is XML with shapes in it");
        let (width, height, pixels) = decoded(png);
        // One column or two of a paper, at 300 pixels to the inch.
        assert!([1051, 2161].contains(&width), "{name}: {width} pixels wide");
        let expected = width as f32 * tree.size().height() / tree.size().width();
        assert!((height as f32 - expected).abs() <= 1.0, "{name}: {height} high, expected {expected}");
        assert_drawn(name, width, &pixels);
    }
}

#[test]
fn text_is_drawn_and_not_left_out() {
    let mut report = still(&report(50));
    let before = files(&report);
    report.trainings.iter_mut().for_each(|t| t.title = "ψ(θ) ‖w‖ λ² −½ ±1".to_string());
    let after = files(&report);
    let dark = |files: &[(String, Vec<u8>)]| {
        let png = &files.iter().find(|(name, _)| name == "accuracy.png").expect("there is the figure").1;
        let (width, _, pixels) = decoded(png);
        let title = &pixels[..width as usize * 3 * 90];
        title.chunks(3).filter(|pixel| pixel[1] < 100).count()
    };
    // A missing glyph would be a box or nothing; the signs of the field are more ink than the short names.
    assert!(dark(&before) > 100 && dark(&after) > dark(&before), "{} and {}", dark(&before), dark(&after));
}

#[test]
fn a_film_plays_and_loops_and_stays_small() {
    let mut report = report(1000);
    report.trainings.iter_mut().for_each(|t| t.film = Some(film(t.embedding_dim, 1000, 20)));
    let films: Vec<_> = files(&report).into_iter().filter(|(name, _)| name.ends_with(".gif")).collect();
    assert_eq!(films.len(), 2);
    for (name, file) in films {
        assert!(file.len() < 3_000_000, "{name}: {} bytes", file.len());
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(&file[..]).expect("it is a GIF");
        assert_eq!((decoder.width(), decoder.repeat()), (800, gif::Repeat::Infinite), "{name}");
        let (width, height) = (usize::from(decoder.width()), usize::from(decoder.height()));
        let mut screen = vec![0; width * height * 4];
        let (mut first, mut delays) = (Vec::new(), Vec::new());
        while let Some(frame) = decoder.read_next_frame().expect("every frame decodes") {
            let (left, top, across) = (usize::from(frame.left), usize::from(frame.top), usize::from(frame.width));
            for (i, pixel) in frame.buffer.chunks(4).enumerate().filter(|(_, pixel)| pixel[3] > 0) {
                let at = ((top + i / across) * width + left + i % across) * 4;
                screen[at..at + 4].copy_from_slice(pixel);
            }
            if first.is_empty() {
                first.clone_from(&screen);
            }
            delays.push(frame.delay);
        }
        let seconds = f64::from(delays.iter().map(|&d| u32::from(d)).sum::<u32>()) / 100.0;
        assert!(delays.len() > 50 && seconds <= 12.0, "{name}: {} frames in {seconds} s", delays.len());
        assert!(delays.iter().all(|&delay| delay >= 2), "{name}: browsers slow such delays down");
        assert!(delays.last() > delays.first(), "{name}: no still at the end");
        assert!(first.chunks(4).all(|pixel| pixel[3] == 255), "{name}: the first frame has holes");
        let different = first.chunks(4).zip(screen.chunks(4)).filter(|(a, b)| a != b).count();
        assert!(different > width * height / 200, "{name}: only {different} pixels moved");
        let rgb: Vec<u8> = screen.chunks(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        assert_drawn(&name, width as u32, &rgb);
    }
}

#[test]
fn there_is_a_film_only_of_what_moves() {
    let gifs = |report: &Report| files(report).iter().filter(|(name, _)| name.ends_with(".gif")).count();
    let mut report = still(&report(50));
    report.trainings.truncate(1);
    assert_eq!(gifs(&report), 0);
    report.trainings[0].film = Some(film(2, 50, 1));
    assert_eq!(gifs(&report), 0, "a single moment");
    report.trainings[0].film = Some(film(2, 50, 3));
    assert_eq!(gifs(&report), 1, "a single training");
}

#[test]
fn gaps_and_nothing_measured_are_drawn() {
    let mut report = still(&report(50));
    for training in &mut report.trainings {
        training.steps[3].loss = f64::NAN;
        training.steps.iter_mut().skip(100).for_each(|step| step.loss = f64::INFINITY);
        training.epochs_log.iter_mut().for_each(|epoch| epoch.test_accuracy = f64::NAN);
    }
    report.trainings[1].steps.clear();
    for (name, content) in files(&report) {
        if name.ends_with(".png") {
            let (width, _, pixels) = decoded(&content);
            assert!(ink(width, &pixels).0 > 0.001, "{name}");
        }
    }
}

/// Points scattered all over that swing while they grow, in `moments` frames.
fn film(dim: usize, points: usize, moments: usize) -> Film {
    let frame = |i: usize| Frame {
        epoch: i as f64 / 4.0,
        points: (0..points * dim)
            .map(|k| ((k * 7919 % 1000) as f32 + i as f32 * 0.2).sin() * (1.0 + i as f32))
            .collect(),
        class_weights: (0..10 * dim).map(|k| (k as f32 * 0.9 + i as f32 * 0.05).cos()).collect(),
    };
    Film { frames: (0..moments).map(frame).collect() }
}

/// Width, height and RGB pixels of a PNG file that is whole.
fn decoded(file: &[u8]) -> (u32, u32, Vec<u8>) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().expect("it is a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("the size is known")];
    let info = reader.next_frame(&mut pixels).expect("the picture is whole");
    reader.finish().expect("the file is whole");
    assert_eq!(info.color_type, png::ColorType::Rgb);
    (info.width, info.height, pixels)
}

/// Share of pixels that are not paper: in all, and in the quarter that has the fewest.
fn ink(width: u32, pixels: &[u8]) -> (f64, f64) {
    let (width, height) = (width as usize, pixels.len() / 3 / width as usize);
    let mut quarters = [0_usize; 4];
    for (i, pixel) in pixels.chunks(3).enumerate() {
        let quarter = usize::from(i % width >= width / 2) + 2 * usize::from(i / width >= height / 2);
        quarters[quarter] += usize::from(pixel != [255; 3]);
    }
    let share = |count: usize, parts: f64| count as f64 * parts / (width * height) as f64;
    (share(quarters.iter().sum(), 1.0), share(quarters.into_iter().min().unwrap_or(0), 4.0))
}

/// Neither blank nor torn nor flooded.
fn assert_drawn(name: &str, width: u32, pixels: &[u8]) {
    let (all, least) = ink(width, pixels);
    assert!((0.005..0.6).contains(&all) && least > 0.001, "{name}: {all} drawn, {least} in a quarter");
    let (first, last) = (&pixels[..3], &pixels[pixels.len() - 3..]);
    assert!(first == [255; 3] && last == [255; 3], "{name}: no white margin");
}
