//! The network as a graph, from top to bottom: a card for each stage, equal residual units drawn once.

use super::svg::{Paint, Svg, short};
use crate::model::{LayerInfo, LayerKind, NetworkInfo};
use crate::network::{Part, Row, parts};
use crate::text::escape;

/// Width of the drawing.
pub(crate) const WIDTH: f64 = 344.0;
/// Boxes of layers, from left to right, and their height.
const BOX: [f64; 3] = [100.0, 268.0, 34.0];
/// Where the data flow down.
const FLOW: f64 = (BOX[0] + BOX[1]) / 2.0;
/// Where what a unit adds passes its layers.
const SKIP: f64 = BOX[1] + 16.0;
/// Middle of the column of feature maps.
const MAPS: f64 = 46.0;
/// Length of an arrow between two boxes, and of one that carries its shape beside it.
const ARROW: f64 = 20.0;
const LONG_ARROW: f64 = 34.0;
/// Room between a frame and what is in it.
const INSET: f64 = 12.0;
/// Largest and smallest side of a feature map.
const MAP_SIDES: [f64; 2] = [46.0, 9.0];

/// The graph as an element of the page, with its height; each box leads to the row of the layer table with its number.
pub(crate) fn inline(network: &NetworkInfo) -> (String, f64) {
    let drawing = Drawing::of(network, true);
    let label = format!("Graph of the network {}", network.name);
    let height = drawing.y.ceil();
    (drawing.svg.group([WIDTH, height], &label, "class=\"network\""), height)
}

/// The graph as a file of its own.
pub(crate) fn file(network: &NetworkInfo) -> String {
    let drawing = Drawing::of(network, false);
    drawing.svg.file([WIDTH, drawing.y.ceil()], &format!("Network {}: {}", network.name, network.summary))
}

/// Identifier of the table row of a box.
pub(crate) fn row_id(number: usize) -> String {
    format!("layer-{number}")
}

struct Drawing {
    svg: Svg,
    /// Whether boxes are links.
    linked: bool,
    /// Boxes so far.
    boxes: usize,
    /// Where the next thing begins.
    y: f64,
    /// Shape of what flows into the next thing, if anything does.
    flowing: Option<String>,
    /// Pixels of the image: feature maps are drawn to its scale.
    image: f64,
}

impl Drawing {
    fn of(network: &NetworkInfo, linked: bool) -> Self {
        let sides = network.layers.first().map_or([1, 1, 1], |layer| layer.output);
        let image = (sides[0] as f64 * sides[1] as f64).sqrt();
        let mut drawing = Drawing { svg: Svg::default(), linked, boxes: 0, y: 10.0, flowing: None, image };
        let parts = parts(network);
        for of_stage in parts.chunk_by(|a, b| a.stage == b.stage) {
            match of_stage[0].stage {
                Some(stage) => drawing.stage(stage, of_stage),
                None => of_stage.iter().for_each(|part| drawing.ends(part)),
            }
        }
        drawing.y += 10.0;
        drawing
    }

    /// What stands outside of stages: the image, the embedding, the classifier.
    fn ends(&mut self, part: &Part<'_>) {
        for row in &part.rows {
            let layer = row.layer;
            if layer.kind == LayerKind::Input {
                self.map(layer, self.y + BOX[2] / 2.0);
            }
            let title = match layer.kind {
                LayerKind::Classifier => format!("{} class weights", layer.output[2]),
                _ => layer.words(),
            };
            if let Some(shape) = self.flowing.take() {
                self.arrow(LONG_ARROW, &shape);
            }
            self.layer(row, &title);
            let name = if layer.kind == LayerKind::Linear { "embedding " } else { "" };
            self.flowing = Some(format!("{name}{}", layer.shape()));
        }
    }

    /// The card of a stage.
    fn stage(&mut self, number: usize, parts: &[Part<'_>]) {
        let enters = self.flowing.take();
        if let Some(shape) = &enters {
            self.flow(LONG_ARROW, shape);
        }
        // The card lies below what is in it: it is drawn first, at the height that is known afterwards.
        let top = self.y;
        let before = std::mem::take(&mut self.svg);
        match enters {
            Some(_) => self.arrow(INSET, ""),
            None => self.y += INSET,
        }
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                self.arrow(ARROW, "");
            }
            if part.residual {
                self.unit(part);
            } else {
                for (index, row) in part.rows.iter().enumerate() {
                    if index > 0 {
                        self.arrow(ARROW, "");
                    }
                    self.layer(row, &row.layer.words());
                }
            }
        }
        self.flow(INSET, "");
        let bottom = self.y;
        let drawn = std::mem::replace(&mut self.svg, before);
        self.svg.fill(&rounded([1.0, top, WIDTH - 1.0, bottom], 10.0), &Paint::raised(), "");
        self.svg.append(drawn);
        let last = parts.last().and_then(|part| part.rows.last()).map(|row| row.layer);
        self.svg.styled_text([14.0, top + 21.0], "start", &Paint::ink(), 12.5, &format!("Stage {number}"), BOLD);
        if let Some(layer) = last {
            self.map(layer, (top + 26.0 + bottom) / 2.0);
            self.flowing = Some(layer.shape());
        }
    }

    /// A residual unit: its layers, the way around them, the sum.
    fn unit(&mut self, part: &Part<'_>) {
        let top = self.y;
        let frame = |top: f64, bottom: f64| [BOX[0] - INSET, top, WIDTH - INSET, bottom];
        let before = std::mem::take(&mut self.svg);
        let branch = top + INSET * 0.75;
        self.flow(branch - top, "");
        for row in &part.rows {
            self.arrow(ARROW - 3.0, "");
            self.layer(row, &row.layer.words());
        }
        self.arrow(ARROW - 4.0, "");
        let sum = self.y + 9.0;
        let way = format!(
            "M{FLOW} {0}H{1}a10 10 0 0 1 10 10V{2}a10 10 0 0 1 -10 10H{3}",
            short(branch),
            SKIP - 10.0,
            short(sum - 10.0),
            FLOW + 12.0
        );
        self.svg.stroke(&way, &Paint::accent(), 1.8, "");
        self.svg.fill(&arrow_head([FLOW + 9.0, sum], [-1.0, 0.0]), &Paint::accent(), "");
        self.svg.circle([FLOW, sum, 9.0], &Paint::accent(), 1.8, "");
        let plus = format!("M{} {1}h9M{FLOW} {2}v9", FLOW - 4.5, short(sum), short(sum - 4.5));
        self.svg.stroke(&plus, &Paint::accent(), 1.8, "");
        self.y = sum + 9.0;
        self.flow(INSET * 0.75, "");
        let bottom = self.y;
        let drawn = std::mem::replace(&mut self.svg, before);
        // Frames behind the first show that there are more.
        let more = if part.times > 1 { 2 } else { 0 };
        for behind in (1..=more).rev() {
            let by = 4.0 * f64::from(behind);
            let [left, top, right, bottom] = frame(top, bottom);
            let path = rounded([left + by, top + by, right + by * 0.5, bottom + by], 8.0);
            self.svg.fill(&path, &Paint::paper(), "stroke-width=\"0\"");
            self.svg.stroke(&path, &Paint::rule(), 1.2, "");
        }
        let path = rounded(frame(top, bottom), 8.0);
        self.svg.fill(&path, &Paint::paper(), "");
        self.svg.stroke(&path, &Paint::rule(), 1.2, "");
        self.svg.append(drawn);
        if part.times > 1 {
            let at = [SKIP + 22.0, (top + bottom) / 2.0 + 5.0];
            self.svg.styled_text(at, "middle", &Paint::ink(), 15.0, &format!("×{}", part.times), BOLD);
            self.flow(4.0 * f64::from(more), "");
        }
    }

    /// The box of a layer.
    fn layer(&mut self, row: &Row<'_>, title: &str) {
        let layer = row.layer;
        let [left, right, height] = BOX;
        let top = self.y;
        let describe = describe(row);
        if self.linked {
            self.svg.raw(&format!(
                "<a href=\"#{}\" data-layer=\"{}\" aria-label=\"{}\">\n",
                row_id(self.boxes),
                self.boxes,
                escape(&describe)
            ));
        } else {
            self.svg.raw(&format!("<g data-layer=\"{}\">\n<title>{}</title>\n", self.boxes, escape(&describe)));
        }
        let end = !matches!(layer.kind, LayerKind::Convolution { .. });
        let path = match layer.downsamples() {
            true => tapered([left, top, right, top + height]),
            false => rounded([left, top, right, top + height], if end { height / 2.0 } else { 5.0 }),
        };
        let paint = if layer.downsamples() { Paint::accent() } else { Paint::ink() };
        self.svg.fill(&path, &Paint::paper(), "");
        if layer.downsamples() {
            self.svg.fill(&path, &Paint::accent(), "fill-opacity=\"0.1\"");
        }
        self.svg.stroke(&path, &paint, if end { 1.6 } else { 1.2 }, "");
        let baseline = top + height / 2.0 + 4.3;
        if layer.prelu {
            let inset = if layer.downsamples() { 13.0 } else { 11.0 };
            self.svg.text([left + inset, baseline], "start", &Paint::ink(), 12.0, title);
            self.prelu([right - inset - 6.0, top + height / 2.0]);
            if !layer.downsamples() {
                self.svg.text([right - inset - 22.0, baseline], "end", &Paint::muted(), 11.0, "PReLU");
            }
        } else {
            self.svg.text([FLOW, baseline], "middle", &Paint::ink(), 12.0, title);
        }
        self.svg.raw(if self.linked { "</a>\n" } else { "</g>\n" });
        self.boxes += 1;
        self.y = top + height;
    }

    /// The bent line of a PReLU on its axes, centred at a point.
    fn prelu(&mut self, [x, y]: [f64; 2]) {
        let axes = format!("M{} {1}h20M{2} {3}v16", short(x - 10.0), short(y + 3.0), short(x), short(y - 8.0));
        self.svg.stroke(&axes, &Paint::muted(), 0.8, "");
        let bend = format!(
            "M{} {}L{} {}L{} {}",
            short(x - 9.0),
            short(y + 5.4),
            short(x),
            short(y + 3.0),
            short(x + 9.0),
            short(y - 7.0)
        );
        self.svg.stroke(&bend, &Paint::accent(), 1.8, "stroke-linejoin=\"round\" stroke-linecap=\"round\"");
    }

    /// An arrow down with a shape beside it.
    fn arrow(&mut self, length: f64, shape: &str) {
        self.flow(length - 5.0, shape);
        self.y += 5.0;
        self.svg.fill(&arrow_head([FLOW, self.y], [0.0, 1.0]), &Paint::muted(), "");
    }

    /// A line down with a shape beside it.
    fn flow(&mut self, length: f64, shape: &str) {
        self.line_down(self.y, self.y + length);
        if !shape.is_empty() {
            self.svg.text([FLOW + 10.0, self.y + length / 2.0 + 4.0], "start", &Paint::muted(), 11.5, shape);
        }
        self.y += length;
    }

    fn line_down(&mut self, from: f64, to: f64) {
        self.svg.line([FLOW, from, FLOW, to], &Paint::muted(), 1.4);
    }

    /// A block as high as the layer's result in relation to the image, and as deep as it has channels.
    fn map(&mut self, layer: &LayerInfo, middle: f64) {
        let [height, width, channels] = layer.output.map(|size| size as f64);
        let scale = MAP_SIDES[0] / self.image.max(1.0);
        let (width, height) = ((width * scale).max(MAP_SIDES[1] * 0.6), (height * scale).max(MAP_SIDES[1] * 0.6));
        let depth = 2.0 + 2.6 * channels.max(1.0).log2();
        let (dx, dy) = (depth * 0.8, depth * 0.5);
        let [left, top] = [MAPS - (width + dx) / 2.0, middle - (height - dy) / 2.0];
        let front = format!("M{} {}h{}v{}h-{2}z", short(left), short(top), short(width), short(height));
        let side =
            format!("M{} {}l{} -{}v{}l-{2} {3}z", short(left + width), short(top), short(dx), short(dy), short(height));
        let lid = format!("M{} {}l{} -{}h{}l-{2} {3}z", short(left), short(top), short(dx), short(dy), short(width));
        for (path, opacity) in [(front, 0.16), (side, 0.36), (lid, 0.26)] {
            self.svg.fill(&path, &Paint::accent(), &format!("fill-opacity=\"{opacity}\""));
            self.svg.stroke(&path, &Paint::accent(), 0.8, "stroke-linejoin=\"round\" stroke-opacity=\"0.7\"");
        }
    }
}

const BOLD: &str = "font-weight=\"600\"";

/// A box in words, for those who do not see it.
fn describe(row: &Row<'_>) -> String {
    let layer = row.layer;
    let prelu = if layer.prelu { ", PReLU" } else { "" };
    let times = if row.sums.layers > 1 { format!(", {} times", row.sums.layers) } else { String::new() };
    format!("{}: {}{prelu}{times}, result {}", layer.name, layer.words(), layer.shape())
}

/// Path of a rectangle `[left, top, right, bottom]` with round corners.
fn rounded([left, top, right, bottom]: [f64; 4], radius: f64) -> String {
    let (across, down) = (right - left - 2.0 * radius, bottom - top - 2.0 * radius);
    let (r, x, y) = (short(radius), short(left + radius), short(top));
    let (across, down) = (short(across), short(down));
    format!(
        "M{x} {y}h{across}a{r} {r} 0 0 1 {r} {r}v{down}a{r} {r} 0 0 1 -{r} {r}h-{across}a{r} {r} 0 0 1 -{r} -{r}v-{down}a{r} {r} 0 0 1 {r} -{r}z"
    )
}

/// Path of a box that gets narrower downwards: fewer pixels leave it than enter.
fn tapered([left, top, right, bottom]: [f64; 4]) -> String {
    let by = 9.0;
    format!(
        "M{} {}H{}L{} {}H{}Z",
        short(left),
        short(top),
        short(right),
        short(right - by),
        short(bottom),
        short(left + by)
    )
}

/// Path of an arrow's head with its tip at a point, along a unit vector.
fn arrow_head([x, y]: [f64; 2], [dx, dy]: [f64; 2]) -> String {
    let corner = |side: f64| format!("{} {}", short(x - 7.0 * dx + side * dy), short(y - 7.0 * dy + side * dx));
    format!("M{} {}L{}L{}z", short(x), short(y), corner(3.8), corner(-3.8))
}
