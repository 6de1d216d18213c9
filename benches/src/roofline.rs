//! The picture of a run: work a second over work a byte, below the measured roof.

use crate::record::{CaseRecord, Run};
use std::fmt::{self, Write as _};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 640.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 932.0;
const TOP: f64 = 118.0;
const BOTTOM: f64 = 576.0;

/// Families of groups, each with a colour that can be told on white and on black.
const FAMILIES: [(&str, &[&str], &str); 7] = [
    ("training step", &["training step"], "#d1495b"),
    ("forward", &["forward"], "#e08e2b"),
    ("gemm", &["gemm"], "#8a63d2"),
    ("convolution", &["conv2d_forward", "conv2d_backward_data", "conv2d_backward_weight"], "#2f80d0"),
    ("fused convolution", &["fused_forward", "fused_backward"], "#2aa198"),
    ("head", &["head"], "#4f9a3a"),
    ("optimizer", &["optimizer"], "#8c7b6b"),
];

/// White paper, or black where the reader prefers it.
const STYLE: &str = "<style>\
.paper{fill:#fff}.ink{fill:#1f2328}.muted{fill:#59636e}.grid{stroke:#d8dee4}.roof{stroke:#1f2328}.hole{fill:#fff}\
.halo{paint-order:stroke;stroke:#fff;stroke-width:4px}\
@media (prefers-color-scheme:dark){\
.paper{fill:#0d1117}.ink{fill:#e6edf3}.muted{fill:#9198a1}.grid{stroke:#2b323b}.roof{stroke:#e6edf3}.hole{fill:#0d1117}.halo{stroke:#0d1117}}\
</style>";

/// A logarithmic axis from one power of ten to another.
#[derive(Clone, Copy)]
struct Axis {
    first: i32,
    last: i32,
    from: f64,
    to: f64,
}

impl Axis {
    /// From the powers of ten around all values to pixels.
    fn around(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Axis {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        values.filter(|value| *value > 0.0 && value.is_finite()).for_each(|value| {
            low = low.min(value.log10());
            high = high.max(value.log10());
        });
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let (first, last) = (low.floor() as i32, high.ceil() as i32);
        Axis { first, last: last.max(first + 1), from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.log10() - f64::from(self.first)) / f64::from(self.last - self.first);
        self.from + share * (self.to - self.from)
    }

    /// Powers of ten, and their doubles and fives where that leaves room.
    fn ticks(&self) -> impl Iterator<Item = f64> + use<> {
        let Axis { first, last, .. } = *self;
        let factors: &[f64] = if last - first <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let ticks = (first..=last).flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
        ticks.filter(move |tick| *tick <= 1.001 * 10f64.powi(last))
    }
}

/// A case's place: work a byte, and work a second of ours and of the best peer.
struct Point<'a> {
    case: &'a CaseRecord,
    colour: &'static str,
    intensity: f64,
    ours: f64,
    peer: Option<f64>,
}

fn points(run: &Run) -> Vec<Point<'_>> {
    let point = |case: &'_ CaseRecord| {
        let flops = case.flops_useful as f64;
        let (_, _, colour) = FAMILIES.into_iter().find(|(_, groups, _)| groups.contains(&case.group.as_str()))?;
        let peer = case.best().and_then(|rival| Some(flops / rival.seconds?.median / 1e9));
        Some((colour, flops / case.bytes as f64, flops / case.ours?.median / 1e9, peer))
    };
    let of = |case| point(case).map(|(colour, intensity, ours, peer)| Point { case, colour, intensity, ours, peer });
    run.cases.iter().filter_map(of).collect()
}

/// The picture as the text of an SVG file.
pub fn picture(run: &Run) -> String {
    let mut svg = String::new();
    // Writing to a String cannot fail.
    let _ = draw(run, &mut svg);
    svg
}

fn draw(run: &Run, svg: &mut String) -> fmt::Result {
    let points = points(run);
    let (bandwidth, peak) = (run.ceilings.bytes / 1e9, run.ceilings.flops.map(|flops| flops / 1e9));
    let x = Axis::around(points.iter().map(|point| point.intensity), LEFT, RIGHT);
    let rates = points.iter().flat_map(|point| [Some(point.ours), point.peer]).flatten();
    let y = Axis::around(rates.chain(peak), BOTTOM, TOP);
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         role=\"img\" font-family=\"system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif\">\n\
         <title>Roofline of {}</title>\n{STYLE}\n<rect class=\"paper\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>",
        escape(&run.name)
    )?;
    let device = run.machine.gpu.as_deref().unwrap_or(&run.machine.cpu);
    text(svg, [LEFT, 34.0], "start", "ink", 18, &format!("{device}, {} threads", run.machine.threads))?;
    legend(svg, &points)?;
    axes(svg, x, y)?;
    roof(svg, x, y, bandwidth, peak)?;
    for point in &points {
        mark(svg, x, y, point)?;
    }
    labels(svg, x, y, &points)?;
    writeln!(svg, "</svg>")
}

fn text(svg: &mut String, [x, y]: [f64; 2], anchor: &str, class: &str, size: u32, words: &str) -> fmt::Result {
    writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\" font-size=\"{size}\">{}</text>",
        escape(words)
    )
}

/// Families that occur, and what the two marks mean.
fn legend(svg: &mut String, points: &[Point<'_>]) -> fmt::Result {
    let mut at = LEFT;
    for (name, _, colour) in FAMILIES.iter().filter(|(_, _, colour)| points.iter().any(|p| p.colour == *colour)) {
        writeln!(svg, "<circle cx=\"{:.1}\" cy=\"58\" r=\"5\" fill=\"{colour}\"/>", at + 5.0)?;
        text(svg, [at + 15.0, 63.0], "start", "ink", 14, name)?;
        at += 32.0 + 8.0 * name.len() as f64;
    }
    writeln!(svg, "<circle class=\"muted\" cx=\"{:.1}\" cy=\"84\" r=\"5\"/>", LEFT + 5.0)?;
    text(svg, [LEFT + 15.0, 89.0], "start", "muted", 14, "ours")?;
    let square = LEFT + 62.0;
    writeln!(
        svg,
        "<rect class=\"hole\" x=\"{square}\" y=\"79\" width=\"10\" height=\"10\" stroke=\"#7d8590\" stroke-width=\"1.5\"/>"
    )?;
    text(svg, [square + 17.0, 89.0], "start", "muted", 14, "the fastest peer")?;
    let line = square + 138.0;
    writeln!(svg, "<path class=\"roof\" d=\"M{line} 84h26\" stroke-width=\"2\" fill=\"none\"/>")?;
    text(svg, [line + 33.0, 89.0], "start", "muted", 14, "measured roof")
}

fn axes(svg: &mut String, x: Axis, y: Axis) -> fmt::Result {
    for value in x.ticks() {
        let at = x.place(value);
        writeln!(svg, "<path class=\"grid\" d=\"M{at:.1} {TOP}V{BOTTOM}\" fill=\"none\"/>")?;
        text(svg, [at, BOTTOM + 20.0], "middle", "muted", 13, &tick(value))?;
    }
    for value in y.ticks() {
        let at = y.place(value);
        writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{RIGHT}\" fill=\"none\"/>")?;
        text(svg, [LEFT - 8.0, at + 4.5], "end", "muted", 13, &tick(value))?;
    }
    text(svg, [(LEFT + RIGHT) / 2.0, BOTTOM + 46.0], "middle", "muted", 14, "FLOP a byte, each operand moved once")?;
    text(svg, [LEFT - 8.0, TOP - 14.0], "end", "muted", 14, "GFLOP/s")
}

fn tick(value: f64) -> String {
    if value >= 0.999 { format!("{value:.0}") } else { format!("{value:.3}").trim_end_matches('0').to_owned() }
}

/// The bandwidth's slope up to the ridge, then the peak.
fn roof(svg: &mut String, x: Axis, y: Axis, bandwidth: f64, peak: Option<f64>) -> fmt::Result {
    let ends = [x.first, x.last].map(|power| 10f64.powi(power));
    // Below the axes' corner nothing is drawn.
    let start = ends[0].max(10f64.powi(y.first) / bandwidth);
    let top = peak.unwrap_or(10f64.powi(y.last));
    let ridge = (top / bandwidth).min(ends[1]);
    let mut path = String::new();
    if start < ridge {
        write!(path, "M{:.1} {:.1}", x.place(start), y.place(start * bandwidth))?;
        write!(path, "L{:.1} {:.1}", x.place(ridge), y.place(ridge * bandwidth))?;
    }
    if let Some(peak) = peak {
        let from = ridge.max(ends[0]);
        write!(path, "M{:.1} {:.1}H{RIGHT}", x.place(from), y.place(peak))?;
        text(svg, [RIGHT - 4.0, y.place(peak) - 7.0], "end", "ink", 13, &format!("{peak:.0} GFLOP/s"))?;
    }
    writeln!(svg, "<path class=\"roof\" d=\"{path}\" stroke-width=\"2\" fill=\"none\"/>")?;
    if start < ridge {
        let middle = (start * ridge).sqrt();
        let (at, height) = (x.place(middle), y.place(middle * bandwidth));
        let run = x.place(10.0) - x.place(1.0);
        let angle = ((y.place(10.0) - y.place(1.0)) / run).atan().to_degrees();
        writeln!(svg, "<g transform=\"translate({at:.1} {height:.1}) rotate({angle:.1})\">")?;
        text(svg, [0.0, -8.0], "middle", "ink", 13, &format!("{bandwidth:.1} GB/s"))?;
        writeln!(svg, "</g>")?;
    }
    Ok(())
}

/// Our mark, that of the best peer, and a line between them; a browser shows the name under the pointer.
fn mark(svg: &mut String, x: Axis, y: Axis, point: &Point<'_>) -> fmt::Result {
    let (at, ours, colour) = (x.place(point.intensity), y.place(point.ours), point.colour);
    let opacity = if point.case.headline { 1.0 } else { 0.75 };
    writeln!(svg, "<g opacity=\"{opacity}\"><title>{}: {:.1} GFLOP/s</title>", escape(&point.case.name), point.ours)?;
    if let Some(peer) = point.peer {
        let peer = y.place(peer);
        writeln!(
            svg,
            "<path d=\"M{at:.1} {ours:.1}V{peer:.1}\" stroke=\"{colour}\" stroke-width=\"1\" fill=\"none\"/>"
        )?;
        writeln!(
            svg,
            "<rect class=\"hole\" x=\"{:.1}\" y=\"{:.1}\" width=\"7\" height=\"7\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            at - 3.5,
            peer - 3.5
        )?;
    }
    let radius = if point.case.headline { 6.0 } else { 4.0 };
    writeln!(svg, "<circle cx=\"{at:.1}\" cy=\"{ours:.1}\" r=\"{radius}\" fill=\"{colour}\"/></g>")
}

/// Names of the headline cases, each beside its mark where no other name is.
fn labels(svg: &mut String, x: Axis, y: Axis, points: &[Point<'_>]) -> fmt::Result {
    const SIZE: f64 = 13.0;
    // No name lies on a mark.
    let spot = |point: &Point<'_>| {
        let (at, height) = (x.place(point.intensity), y.place(point.ours));
        [at - 6.0, height - 6.0, at + 6.0, height + 6.0]
    };
    let mut taken: Vec<[f64; 4]> = points.iter().map(spot).collect();
    for point in points.iter().filter(|point| point.case.headline) {
        let (at, height) = (x.place(point.intensity), y.place(point.ours));
        let width = 6.9 * point.case.name.len() as f64;
        let places = (0..8).flat_map(|step| {
            let offset = f64::from(step) * (SIZE + 4.0);
            [(at - 12.0 - width, height + 4.5 + offset), (at + 12.0, height + 4.5 + offset)]
                .into_iter()
                .chain([(at - 12.0 - width, height + 4.5 - offset), (at + 12.0, height + 4.5 - offset)])
        });
        let free = |&(left, base): &(f64, f64)| {
            let [l, t, r, b] = [left, base - SIZE, left + width, base + 4.0];
            let inside = l > LEFT && r < RIGHT && t > TOP && b < BOTTOM;
            inside && taken.iter().all(|[ol, ot, or, ob]| r < *ol || l > *or || b < *ot || t > *ob)
        };
        let found = places.into_iter().find(free);
        if let Some((left, base)) = found {
            taken.push([left, base - SIZE, left + width, base + 4.0]);
            let anchor = if left < at { "end" } else { "start" };
            let edge = if left < at { left + width } else { left };
            writeln!(
                svg,
                "<path d=\"M{at:.1} {height:.1}L{edge:.1} {:.1}\" stroke=\"{}\" stroke-width=\"0.8\" fill=\"none\"/>",
                base - 4.5,
                point.colour
            )?;
            text(svg, [edge, base], anchor, "ink halo", SIZE as u32, &point.case.name)?;
        }
    }
    Ok(())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
