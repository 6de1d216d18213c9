//! A formula from the caller: MathML if it is nothing but presentation markup, text otherwise.

use crate::text::escape;

const ELEMENTS: [&str; 22] = [
    "math",
    "mrow",
    "mi",
    "mn",
    "mo",
    "mtext",
    "mspace",
    "mfrac",
    "msqrt",
    "mroot",
    "msub",
    "msup",
    "msubsup",
    "munder",
    "mover",
    "munderover",
    "mtable",
    "mtr",
    "mtd",
    "mstyle",
    "mpadded",
    "mphantom",
];

/// Markup of the formula. Unknown elements, any attribute but `display="block"` on `<math>`, or unbalanced tags
/// turn the whole into escaped text: nothing a caller passes can run or break the page.
pub(super) fn markup(formula: &str) -> String {
    let trimmed = formula.trim();
    if trimmed.starts_with("<math") && is_plain_mathml(trimmed) {
        trimmed.to_string()
    } else {
        format!("<span class=\"formula-text\">{}</span>", escape(trimmed))
    }
}

fn is_plain_mathml(text: &str) -> bool {
    let mut open: Vec<&str> = Vec::new();
    let mut closed_math = 0;
    for piece in text.split('<').skip(1) {
        let Some((tag, content)) = piece.split_once('>') else {
            return false;
        };
        if content.contains('>') || (open.is_empty() && closed_math > 0) {
            return false;
        }
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return false;
            }
            closed_math += usize::from(name == "math");
        } else {
            let empty = tag.strip_suffix('/').map(str::trim_end);
            let name = empty.unwrap_or(tag);
            let name = if name == "math display=\"block\"" { "math" } else { name };
            if !ELEMENTS.contains(&name) || (name == "math") != open.is_empty() {
                return false;
            }
            if empty.is_none() {
                open.push(name);
            }
        }
        if open.is_empty() && !content.is_empty() {
            return false;
        }
    }
    open.is_empty() && closed_math == 1
}

#[cfg(test)]
mod tests {
    use super::markup;

    #[test]
    fn plain_mathml_stays() {
        let formula = "<math display=\"block\"><mi>ψ</mi><mo>=</mo><mfrac><mn>1</mn><mi>m</mi></mfrac><mspace/></math>";
        assert_eq!(markup(formula), formula);
    }

    #[test]
    fn everything_else_becomes_text() {
        for formula in [
            "cos θ < 1",
            "<math><script>alert(1)</script></math>",
            "<math onclick=\"x()\"><mi>x</mi></math>",
            "<math><mi>x</mi>",
            "<math><mi>x</math></mi>",
            "<math><mi>x</mi></math><math><mi>y</mi></math>",
            "<math><mi>x</mi></math>text",
            "<math><mi>x</mi",
            "<script>alert(1)</script>",
        ] {
            let written = markup(formula);
            assert!(written.starts_with("<span") && !written.contains("<math"), "{written}");
        }
    }
}
