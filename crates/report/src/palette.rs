//! Colours of classes and losses, safe for colour-blind readers; `assets/style.css` holds the same with dark variants.

/// Classes: Petroff's ten-colour sequence (arXiv 2107.02270), reordered so that digits easily confused differ most,
/// the two palest colours darkened for white paper. Classes are also named at their rays, never by colour alone.
pub(crate) const CLASSES: [&str; 10] =
    ["#3f90da", "#f2a000", "#bd1f01", "#832db6", "#a96b59", "#e76300", "#94a4a2", "#4fbcc2", "#b0a057", "#5b6070"];

/// Losses: Tol's high-contrast triple, which also holds in grey, then further ones.
pub(crate) const LOSSES: [&str; 12] = [
    "#cc9a1f", "#004488", "#bb5566", "#117733", "#882255", "#0077bb", "#ee7733", "#009988", "#aa3377", "#999933",
    "#5c4a9c", "#777777",
];

/// Text, and lines of the same weight.
pub(crate) const INK: &str = "#1d2026";
/// Labels of axes.
pub(crate) const MUTED: &str = "#62676f";
/// Grid lines.
pub(crate) const GRID: &str = "#e4e6ea";

/// Frames.
pub(crate) const RULE: &str = "#d5d8dd";
/// Ground of what stands apart from the paper.
pub(crate) const RAISED: &str = "#f6f7f9";
/// The paper itself.
pub(crate) const PAPER: &str = "#ffffff";
/// What deserves the eye.
pub(crate) const ACCENT: &str = "#0b57a4";

/// Colour of a class; they repeat after ten.
pub(crate) fn class(index: usize) -> &'static str {
    CLASSES[index % CLASSES.len()]
}

/// Colour of a loss; they repeat after twelve.
pub(crate) fn loss(index: usize) -> &'static str {
    LOSSES[index % LOSSES.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn palette_is_the_style_sheets() {
        let style = include_str!("../assets/style.css");
        let single = [INK, MUTED, GRID, RULE, RAISED, PAPER, ACCENT];
        for colour in CLASSES.iter().chain(&LOSSES).chain(&single) {
            assert!(style.contains(&format!("light-dark({colour},")), "style.css lacks {colour}");
        }
    }
}
