//! The losses in formulas.

use super::mathml;
use crate::figure::psi;
use crate::model::Report;
use crate::summary::losses;
use crate::text::escape;

const FORMULAS: &str = include_str!("../../assets/formulas.html");

/// What the three losses are, ψ drawn, and the formulas of the losses that ran.
pub(super) fn section(report: &Report) -> String {
    let ran: Vec<String> = losses(report)
        .into_iter()
        .filter(|loss| !loss.formula.trim().is_empty())
        .map(|loss| {
            format!(
                "<div><dt><span class=\"swatch b-loss{}\"></span>{}</dt><dd>{}</dd></div>\n",
                loss.colour,
                escape(loss.title),
                mathml::markup(loss.formula)
            )
        })
        .collect();
    let mut html = format!("<div class=\"losses\">\n<div>\n{FORMULAS}</div>\n<figure>\n");
    html.push_str(&psi::chart().inline());
    html.push_str(
        "<figcaption>ψ falls ever faster as the angle θ to the own class grows: to score as before, an embedding \
         must stand m times closer.</figcaption>\n</figure>\n</div>\n",
    );
    if !ran.is_empty() {
        html.push_str("<h3>As run</h3>\n<dl class=\"facts\">\n");
        html.push_str(&ran.concat());
        html.push_str("</dl>\n");
    }
    html
}
