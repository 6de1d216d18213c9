//! The losses that ran, in formulas.

use std::fmt::Write as _;

use super::mathml;
use crate::figure::psi;
use crate::model::Report;
use crate::summary::losses;
use crate::text::title;

const CROSS_ENTROPY: &str = include_str!("../../assets/losses/cross-entropy.html");

/// Losses the page explains: key and text.
const EXPLAINED: [(&str, &str); 3] = [
    ("softmax", include_str!("../../assets/losses/softmax.html")),
    ("modified", include_str!("../../assets/losses/modified.html")),
    ("sphereface", include_str!("../../assets/losses/sphereface.html")),
];

/// What the losses of the report are, and ψ drawn if A-Softmax is among them.
pub(super) fn section(report: &Report) -> String {
    let mut html = format!("<div class=\"losses\">\n<div>\n{CROSS_ENTROPY}<dl class=\"formulas\">\n");
    for loss in losses(report) {
        let explained = EXPLAINED.iter().find(|(key, _)| *key == loss.key);
        let text = explained.map_or_else(|| mathml::markup(loss.formula), |(_, text)| (*text).to_string());
        let _ = writeln!(
            html,
            "<div><dt><span class=\"swatch b-loss{}\"></span>{}</dt><dd>{text}</dd></div>",
            loss.colour,
            title(loss.title)
        );
    }
    html.push_str("</dl>\n</div>\n");
    if shows_psi(report) {
        let _ = write!(
            html,
            "<figure>\n{}<figcaption>The margin function ψ of A-Softmax beside cos θ. It falls ever faster as the angle θ \
             to the own class grows, so an embedding must come closer to its class for the same logit.</figcaption>\n\
             </figure>\n",
            psi::chart().inline()
        );
    }
    html.push_str("</div>\n");
    html
}

/// Whether ψ is drawn: if A-Softmax is among the losses.
pub(super) fn shows_psi(report: &Report) -> bool {
    report.trainings.iter().any(|t| t.loss == "sphereface")
}
