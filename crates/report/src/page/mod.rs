//! The page: sections written here, style and script from `assets/`, all in one document.

mod curves;
mod data;
mod embeddings;
mod gradients;
mod guard;
mod mathematics;
mod mathml;
mod network;
mod pictures;
mod results;
mod run;
mod table;

use crate::error::Error;
use crate::model::Report;
use crate::text::escape;

const TEMPLATE: &str = include_str!("../../assets/page.html");
const STYLES: [&str; 3] = [
    include_str!("../../assets/style.css"),
    include_str!("../../assets/mathematics.css"),
    include_str!("../../assets/network.css"),
];
const SCRIPTS: [&str; 16] = [
    include_str!("../../assets/base.js"),
    include_str!("../../assets/theme.js"),
    include_str!("../../assets/copy.js"),
    include_str!("../../assets/chart.js"),
    include_str!("../../assets/plane.js"),
    include_str!("../../assets/sphere.js"),
    include_str!("../../assets/film.js"),
    include_str!("../../assets/embeddings.js"),
    // A block, so that the names of one section are not those of all.
    "{",
    include_str!("../../assets/mathematics/head.js"),
    include_str!("../../assets/mathematics/plot.js"),
    include_str!("../../assets/mathematics/margin.js"),
    include_str!("../../assets/mathematics/boundaries.js"),
    include_str!("../../assets/mathematics/scale.js"),
    "}",
    include_str!("../../assets/network.js"),
];

/// The document of a checked report.
pub(crate) fn html(report: &Report) -> Result<String, Error> {
    let title = escape(&report.title);
    // Identifier, name in the navigation, heading and content; a section without content is left out.
    let mut sections = vec![
        ("results", "Result", "What came out", results::section(report)),
        ("mathematics", "The mathematics", "The mathematics", mathematics::section(report)),
        ("embeddings", "Embeddings", "Embeddings of the test images", embeddings::section(report)),
        ("curves", "Curves", "Training curves", curves::section(report)),
        ("gradients", "Gradients", "One loss, several gradients", gradients::section(report)),
        ("guard", "The guard", "What went wrong on the way", guard::section(report)),
        ("network", "Network", "The network", network::section(report)),
        ("run", "The run", "How it was run", run::section(report)),
    ];
    sections.retain(|(.., content)| !content.is_empty());
    let nav: String = sections.iter().map(|(id, name, ..)| format!("<a href=\"#{id}\">{name}</a>\n")).collect();
    let section = |(id, _, heading, content): &(&str, &str, &str, String)| {
        format!("<section id=\"{id}\">\n<h2>{heading}</h2>\n{content}</section>\n")
    };
    let parts = [
        ("title", title.as_str()),
        ("style", &STYLES.join("\n")),
        ("nav", &nav),
        ("intro", &report.dataset.named(run::intro(report))),
        ("sections", &report.dataset.named(sections.iter().map(section).collect())),
        ("data", &data::json(report)?),
        ("script", &SCRIPTS.join("\n")),
    ];
    Ok(fill(TEMPLATE, &parts))
}

/// Puts the parts at their `{{name}}`s in one pass, so that a part's own braces are never read as a name.
fn fill(template: &str, parts: &[(&str, &str)]) -> String {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        rest = match after.split_once("}}") {
            Some((name, after)) => {
                let part = parts.iter().find(|(key, _)| *key == name.trim());
                filled.push_str(part.map_or("", |(_, text)| text));
                after
            }
            None => after,
        };
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::{TEMPLATE, fill};

    #[test]
    fn parts_are_not_templates() {
        assert_eq!(fill("a{{x}}b{{y}}", &[("x", "{{y}}"), ("y", "2")]), "a{{y}}b2");
    }

    #[test]
    fn every_name_of_the_template_has_a_part() {
        let names = ["title", "style", "nav", "intro", "sections", "data", "script"];
        for name in TEMPLATE.split("{{").skip(1).filter_map(|s| s.split("}}").next()) {
            assert!(names.contains(&name.trim()), "{name}");
        }
    }
}
