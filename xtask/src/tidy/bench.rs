//! The rule on the README's table of a bench run.

use super::Finding;
use super::source::File;

const README: &str = "README.md";
const RUNS: &str = "benches/runs/";
const BEGIN: &str = "<!-- bench:begin ";
const END: &str = "<!-- bench:end -->";

/// Each block between marks is, letter for letter, the `readme.md` of the run that its first mark names behind the device.
pub(super) fn readme_block(files: &[File]) -> Vec<Finding> {
    let text = |path: &str| files.iter().find(|file| file.path == path).map(|file| file.text.as_str());
    let Some(readme) = text(README) else { return Vec::new() }; // Another rule's business.
    let blocks: Vec<usize> = readme.match_indices(BEGIN).map(|(begin, _)| begin).collect();
    let recorded = files.iter().any(|file| file.path.starts_with(RUNS) && file.path.ends_with("/readme.md"));
    if blocks.is_empty() && recorded {
        let what = format!("{RUNS} has a run, but there is no `{BEGIN}DEVICE RUN -->`: write marks, then run `{MEND}`");
        return vec![Finding::new(README, 0, what)];
    }
    blocks.into_iter().filter_map(|begin| wrong_block(readme, begin, text)).collect()
}

fn wrong_block<'a>(readme: &str, begin: usize, text: impl Fn(&str) -> Option<&'a str>) -> Option<Finding> {
    let line = readme[..begin].lines().count() + 1;
    let finding = |line: usize, what: String| Some(Finding::new(README, line, what));
    let marked = readme[begin + BEGIN.len()..].split_once(" -->\n").and_then(|(mark, rest)| {
        let (_, run) = mark.split_once(' ')?;
        Some((run, rest.split_once(END)?.0))
    });
    let Some((run, block)) = marked else {
        return finding(line, format!("`{BEGIN}` without device, run and ` -->`, or without `{END}` after it"));
    };
    let source = format!("{RUNS}{run}/readme.md");
    match text(&source) {
        None => finding(line, format!("the table of a run, but `{source}` is no tracked file")),
        Some(expected) if expected != block => {
            let same = block.lines().zip(expected.lines()).take_while(|(found, expected)| found == expected).count();
            finding(line + 1 + same, format!("differs from `{source}`: run `{MEND}`"))
        }
        Some(_) => None,
    }
}

const MEND: &str = "cargo xtask bench --readme RUN";

#[cfg(test)]
mod tests {
    use super::readme_block;
    use crate::tidy::{Finding, source::File};

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<File> = files.iter().map(|(path, text)| File::new(path, text.as_bytes().to_vec())).collect();
        readme_block(&files).into_iter().map(|Finding { line, what, .. }| format!("{line}: {what}")).collect()
    }

    const RUN: (&str, &str) = ("benches/runs/a/readme.md", "| ours |\n| 1 |\n");

    #[test]
    fn a_block_that_is_its_runs_passes_and_so_does_none_without_a_run() {
        let readme = "# A\n<!-- bench:begin cpu a -->\n| ours |\n| 1 |\n<!-- bench:end -->\n";
        assert_eq!(found(&[("README.md", readme), RUN]), [""; 0]);
        assert_eq!(found(&[("README.md", "# A\n")]), [""; 0]);
    }

    #[test]
    fn a_block_that_was_edited_is_found_in_its_line() {
        let readme = "# A\n<!-- bench:begin cpu a -->\n| ours |\n| 2 |\n<!-- bench:end -->\n";
        let found = found(&[("README.md", readme), RUN]);
        assert!(found.len() == 1 && found[0].starts_with("4: differs from `benches/runs/a/readme.md`"), "{found:?}");
    }

    #[test]
    fn every_block_is_looked_at() {
        let good = "<!-- bench:begin cpu a -->\n| ours |\n| 1 |\n<!-- bench:end -->\n";
        let readme = format!("{good}\n{}", good.replace("cpu", "cuda").replace("1", "3"));
        let found = found(&[("README.md", &readme), RUN]);
        assert!(found.len() == 1 && found[0].starts_with("8: differs"), "{found:?}");
    }

    #[test]
    fn a_block_without_run_or_end_and_a_run_without_block_are_found() {
        let readme = "# A\n<!-- bench:begin cpu b -->\n| 1 |\n<!-- bench:end -->\n";
        assert!(found(&[("README.md", readme), RUN])[0].contains("`benches/runs/b/readme.md` is no tracked file"));
        assert!(found(&[("README.md", "<!-- bench:begin cpu a -->\n| 1 |\n"), RUN])[0].contains("without"));
        assert!(found(&[("README.md", "<!-- bench:begin a -->\n<!-- bench:end -->\n"), RUN])[0].contains("without"));
        assert!(found(&[("README.md", "# A\n"), RUN])[0].contains("has a run"));
    }
}
