//! Tables with one row a loss, grouped by embedding size.

use std::fmt::Write as _;

use crate::summary::Group;
use crate::text::title;

/// A column: its heading and what stands in it, as markup.
pub(super) struct Column<'a> {
    pub(super) heading: &'a str,
    pub(super) cell: Box<dyn Fn(&Group<'_>) -> String + 'a>,
}

impl<'a> Column<'a> {
    pub(super) fn new(heading: &'a str, cell: impl Fn(&Group<'_>) -> String + 'a) -> Self {
        Self { heading, cell: Box::new(cell) }
    }
}

/// The table; on a phone each row becomes a list, whose terms are the headings.
pub(super) fn table(groups: &[Group<'_>], columns: &[Column<'_>]) -> String {
    let mut html = String::from("<table>\n<thead><tr><th scope=\"col\">Loss</th>");
    for column in columns {
        let _ = write!(html, "<th scope=\"col\" class=\"number\">{}</th>", column.heading);
    }
    html.push_str("</tr></thead>\n");
    for of_dim in groups.chunk_by(|a, b| a.dim == b.dim) {
        let span = columns.len() + 1;
        let dim = of_dim[0].dim;
        let _ = writeln!(
            html,
            "<tbody>\n<tr class=\"dim\"><th colspan=\"{span}\" scope=\"rowgroup\">{dim}-D embedding</th></tr>"
        );
        for group in of_dim {
            let title = title(group.title);
            let _ =
                write!(html, "<tr><th scope=\"row\"><span class=\"swatch b-loss{}\"></span>{title}</th>", group.colour);
            for Column { heading, cell } in columns {
                let _ = write!(html, "<td class=\"number\" data-label=\"{heading}\">{}</td>", cell(group));
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody>\n");
    }
    html.push_str("</table>\n");
    html
}
