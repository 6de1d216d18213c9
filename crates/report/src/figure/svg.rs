//! A small SVG writer: every shape carries a class, for the page's theme, and a colour, for a file on its own.

use std::fmt::Write as _;

use crate::palette;
use crate::text::escape;

/// A colour by its role.
#[derive(Debug, Clone)]
pub(crate) struct Paint {
    class: String,
    colour: &'static str,
}

impl Paint {
    pub(crate) fn ink() -> Self {
        Self { class: "ink".to_string(), colour: palette::INK }
    }
    pub(crate) fn muted() -> Self {
        Self { class: "muted".to_string(), colour: palette::MUTED }
    }
    pub(crate) fn grid() -> Self {
        Self { class: "grid".to_string(), colour: palette::GRID }
    }
    pub(crate) fn rule() -> Self {
        Self { class: "rule".to_string(), colour: palette::RULE }
    }
    pub(crate) fn raised() -> Self {
        Self { class: "raised".to_string(), colour: palette::RAISED }
    }
    pub(crate) fn paper() -> Self {
        Self { class: "paper".to_string(), colour: palette::PAPER }
    }
    pub(crate) fn accent() -> Self {
        Self { class: "accent".to_string(), colour: palette::ACCENT }
    }
    pub(crate) fn loss(index: usize) -> Self {
        let class = format!("loss{}", index % palette::LOSSES.len());
        Self { class, colour: palette::loss(index) }
    }
    pub(crate) fn class(index: usize) -> Self {
        let class = format!("class{}", index % palette::CLASSES.len());
        Self { class, colour: palette::class(index) }
    }
}

/// A drawing in progress.
#[derive(Debug, Default)]
pub(crate) struct Svg {
    body: String,
}

impl Svg {
    /// Text with its baseline at `[x, y]`; `anchor` is `start`, `middle` or `end`.
    pub(crate) fn text(&mut self, [x, y]: [f64; 2], anchor: &str, paint: &Paint, size: f64, text: &str) {
        self.styled_text([x, y], anchor, paint, size, text, "");
    }

    /// Text with further attributes.
    pub(crate) fn styled_text(
        &mut self,
        [x, y]: [f64; 2],
        anchor: &str,
        paint: &Paint,
        size: f64,
        text: &str,
        attributes: &str,
    ) {
        let (x, y) = (short(x), short(y));
        let Paint { class, colour } = paint;
        self.push(format_args!(
            "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" font-size=\"{size}\" \
             class=\"f-{class}\" fill=\"{colour}\" {attributes}>{}</text>\n",
            escape(text)
        ));
    }

    /// A line from `[x1, y1]` to `[x2, y2]`.
    pub(crate) fn line(&mut self, [x1, y1, x2, y2]: [f64; 4], paint: &Paint, width: f64) {
        let path = format!("M{} {}L{} {}", short(x1), short(y1), short(x2), short(y2));
        self.stroke(&path, paint, width, "");
    }

    /// The outline of a path.
    pub(crate) fn stroke(&mut self, path: &str, paint: &Paint, width: f64, attributes: &str) {
        let Paint { class, colour } = paint;
        self.push(format_args!(
            "<path d=\"{path}\" fill=\"none\" class=\"s-{class}\" stroke=\"{colour}\" \
             stroke-width=\"{width}\" {attributes}/>\n"
        ));
    }

    /// The inside of a path.
    pub(crate) fn fill(&mut self, path: &str, paint: &Paint, attributes: &str) {
        let Paint { class, colour } = paint;
        self.push(format_args!("<path d=\"{path}\" class=\"f-{class}\" fill=\"{colour}\" {attributes}/>\n"));
    }

    /// A circle's outline.
    pub(crate) fn circle(&mut self, [x, y, r]: [f64; 3], paint: &Paint, width: f64, attributes: &str) {
        self.stroke(&circle_path([x, y, r]), paint, width, attributes);
    }

    /// Equal dots: one path of zero-length strokes with round caps, a third of the size of as many circles.
    pub(crate) fn dots(&mut self, points: &[[f64; 2]], paint: &Paint, diameter: f64, opacity: f64) {
        if points.is_empty() {
            return;
        }
        let mut path = String::with_capacity(points.len() * 14);
        for &[x, y] in points {
            let _ = write!(path, "M{} {}h0", short(x), short(y));
        }
        let attributes = format!("stroke-linecap=\"round\" stroke-opacity=\"{opacity}\"");
        self.stroke(&path, paint, diameter, &attributes);
    }

    /// Another drawing on top.
    pub(crate) fn append(&mut self, other: Svg) {
        self.body.push_str(&other.body);
    }

    /// Markup written by the caller.
    pub(crate) fn raw(&mut self, markup: &str) {
        self.body.push_str(markup);
    }

    /// As an element inside the page, without a name space (HTML supplies it).
    pub(crate) fn inline(&self, [width, height]: [f64; 2], label: &str, attributes: &str) -> String {
        format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\" {attributes}>\n{}</svg>\n",
            escape(label),
            self.body
        )
    }

    /// As an element of the page whose parts can be reached one by one.
    pub(crate) fn group(&self, [width, height]: [f64; 2], label: &str, attributes: &str) -> String {
        format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"group\" aria-label=\"{}\" {attributes}>\n{}</svg>\n",
            escape(label),
            self.body
        )
    }

    /// As a file on white paper.
    pub(crate) fn file(&self, [width, height]: [f64; 2], label: &str) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" font-family=\"system-ui, -apple-system, 'Segoe UI', \
             Roboto, 'Helvetica Neue', Arial, sans-serif\">\n<title>{}</title>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n{}</svg>\n",
            escape(label),
            self.body
        )
    }

    fn push(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.body.write_fmt(arguments);
    }
}

/// Path data of a circle.
pub(crate) fn circle_path([x, y, r]: [f64; 3]) -> String {
    let (left, y, r2, r) = (short(x - r), short(y), short(2.0 * r), short(r));
    format!("M{left} {y}a{r} {r} 0 1 0 {r2} 0a{r} {r} 0 1 0 -{r2} 0z")
}

/// A coordinate with at most two decimals; what is not finite would break the drawing and becomes 0.
pub(crate) fn short(value: f64) -> String {
    if !value.is_finite() {
        return "0".to_string();
    }
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_string() } else { text.to_string() }
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn coordinates_are_short_and_finite() {
        assert_eq!(short(1.5), "1.5");
        assert_eq!(short(-0.001), "0");
        assert_eq!(short(100.0), "100");
        assert_eq!(short(f64::NAN), "0");
    }
}
