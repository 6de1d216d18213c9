//! The pairing rule: an operator's partners have its stem.

use super::Finding;
use super::source::{File, has_word};

/// Where the operators stand, one a file.
const OPERATORS: &str = "crates/tensor/src/op/";
/// Files there that are no operator.
const NOT_OPERATORS: &[&str] = &["mod"];

/// What each operator needs; `{stem}` is its file's stem.
const PARTNERS: &[Partner] = &[
    Partner::File("crates/tensor/src/cpu/{stem}.rs"),
    Partner::Mention("crates/testkit/src/cases"),
    Partner::FileOnceAnyExists("kernels/{stem}.cu"),
    Partner::FileOnceAnyExists("crates/cuda/src/launcher/{stem}.rs"),
];

enum Partner {
    /// A file with this path.
    File(&'static str),
    /// The stem, or the type named after it, somewhere in `<path>.rs` or below `<path>/`.
    Mention(&'static str),
    /// As `File`, from the day the folder has its first file of that extension.
    FileOnceAnyExists(&'static str),
}

pub(super) fn partners(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for operator in files.iter().filter(|file| file.is_rust() && in_folder(&file.path, OPERATORS)) {
        let stem = operator.stem();
        if NOT_OPERATORS.contains(&stem) {
            continue;
        }
        for partner in PARTNERS {
            if let Some(missing) = partner.missing(stem, files) {
                findings.push(Finding::new(&operator.path, 0, missing));
            }
        }
    }
    findings
}

impl Partner {
    fn missing(&self, stem: &str, files: &[File]) -> Option<String> {
        match self {
            Partner::FileOnceAnyExists(pattern) if !any_matches(pattern, files) => None,
            Partner::File(pattern) | Partner::FileOnceAnyExists(pattern) => {
                let path = pattern.replace("{stem}", stem);
                (!files.iter().any(|file| file.path == path)).then(|| format!("`{path}` is missing"))
            }
            Partner::Mention(place) => {
                let (file_path, folder, type_name) = (format!("{place}.rs"), format!("{place}/"), camel_case(stem));
                let mut cases = files.iter().filter(|file| file.path == file_path || file.path.starts_with(&folder));
                let mentioned = cases
                    .any(|file| file.stem() == stem || has_word(&file.code, stem) || has_word(&file.code, &type_name));
                (!mentioned).then(|| format!("no test case in `{place}` mentions `{stem}`"))
            }
        }
    }
}

/// Whether the file lies in the folder itself, not below.
fn in_folder(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|name| !name.contains('/'))
}

fn any_matches(pattern: &str, files: &[File]) -> bool {
    let Some((folder, end)) = pattern.split_once("{stem}") else {
        return false;
    };
    files.iter().any(|file| in_folder(&file.path, folder) && file.path.ends_with(end))
}

/// `margin_softmax` → `MarginSoftmax`.
fn camel_case(stem: &str) -> String {
    let word = |word: &str| word[..1].to_uppercase() + &word[1..];
    stem.split('_').filter(|part| part.is_ascii() && !part.is_empty()).map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::partners;
    use crate::tidy::source::File;

    fn missing(paths: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<File> = paths.iter().map(|(path, text)| File::new(path, text.as_bytes().to_vec())).collect();
        partners(&files).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn planted_operators_without_partners_are_found() {
        assert_eq!(missing(&[("crates/tensor/src/op/mod.rs", "")]), [""; 0]);
        let alone = [("crates/tensor/src/op/conv2d.rs", "")];
        let expected = [
            "`crates/tensor/src/cpu/conv2d.rs` is missing",
            "no test case in `crates/testkit/src/cases` mentions `conv2d`",
        ];
        assert_eq!(missing(&alone), expected);
        let mut whole = vec![
            ("crates/tensor/src/op/margin_softmax.rs", ""),
            ("crates/tensor/src/cpu/margin_softmax.rs", ""),
            ("crates/testkit/src/cases.rs", "Op::MarginSoftmax { .. }"),
            ("kernels/margin/sphereface.cuh", ""),
        ];
        assert_eq!(missing(&whole), [""; 0]);
        whole.push(("kernels/gemm.cu", ""));
        assert_eq!(missing(&whole), ["`kernels/margin_softmax.cu` is missing"]);
        whole.push(("kernels/margin_softmax.cu", ""));
        assert_eq!(missing(&whole), [""; 0]);
    }

    #[test]
    fn a_mention_in_a_comment_is_no_test_case() {
        let paths = [
            ("crates/tensor/src/op/prelu.rs", ""),
            ("crates/tensor/src/cpu/prelu.rs", ""),
            ("crates/testkit/src/cases/all.rs", "// prelu\nlet preluded = 1;"),
        ];
        assert_eq!(missing(&paths), ["no test case in `crates/testkit/src/cases` mentions `prelu`"]);
    }
}
