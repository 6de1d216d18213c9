//! Rules on README.md, ARCHITECTURE.md, CHANGELOG.md and the README.md of each folder.

use super::Finding;
use super::source::File;

const ARCHITECTURE: &str = "ARCHITECTURE.md";
const CHANGELOG: &str = "CHANGELOG.md";
const README: &str = "README.md";
/// Documents that must be there.
const DOCUMENTS: &[&str] = &[README, ARCHITECTURE, CHANGELOG];

pub(super) fn dependency_sentences(files: &[File]) -> Vec<Finding> {
    let Some(architecture) = get(files, ARCHITECTURE) else {
        return missing(ARCHITECTURE);
    };
    let mut findings = Vec::new();
    let mut seen = Vec::new();
    for manifest in files.iter().filter(|file| file.path.ends_with("Cargo.toml")) {
        for (number, name) in dependencies(&manifest.text) {
            if name.starts_with("sphereface") || seen.contains(&name) {
                continue;
            }
            if !architecture.text.contains(&format!("`{name}`")) {
                findings.push(Finding::new(
                    &manifest.path,
                    number,
                    format!("{ARCHITECTURE} has no sentence on `{name}`"),
                ));
            }
            seen.push(name);
        }
    }
    findings
}

/// The dependencies that a manifest names, with their lines: `name = …`, `name.workspace = true` and
/// `[dependencies.name]`, for every kind of dependency and every target.
fn dependencies(manifest: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut inside = false;
    for (index, line) in manifest.lines().map(str::trim).enumerate() {
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(header, _)| header) {
            inside = header.ends_with("dependencies");
            if let Some((section, name)) = header.rsplit_once('.')
                && section.ends_with("dependencies")
            {
                found.push((index + 1, name));
            }
        } else if inside && let Some((key, _)) = line.split_once('=') {
            let name = key.trim().split('.').next().unwrap_or_default();
            if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
                found.push((index + 1, name));
            }
        }
    }
    found
}

pub(super) fn dead_paths(files: &[File]) -> Vec<Finding> {
    let absent = DOCUMENTS.iter().filter(|document| get(files, document).is_none());
    let mut findings: Vec<Finding> = absent.flat_map(|document| missing(document)).collect();
    let is_read = |file: &&File| DOCUMENTS.contains(&file.path.as_str()) || file.path.ends_with(&format!("/{README}"));
    for document in files.iter().filter(is_read) {
        let folder = document.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut fenced = false;
        for (index, line) in document.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
                continue;
            }
            let links = if fenced { Vec::new() } else { links(line) };
            // Links begin at the document; what is named in code may begin at the root, too.
            let dead_links = links.into_iter().filter(|path| !exists(&within(folder, path), files));
            let named = named_paths(line, fenced, files).into_iter();
            let dead_names = named.filter(|path| !exists(path, files) && !exists(&within(folder, path), files));
            for path in dead_links.chain(dead_names) {
                findings.push(Finding::new(&document.path, index + 1, format!("`{path}` does not exist")));
            }
        }
    }
    findings
}

/// The targets of relative links, `[text](target)` and `src="target"`, without their anchors.
fn links(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (open, close) in [("](", ')'), ("src=\"", '"'), ("href=\"", '"')] {
        for (at, _) in line.match_indices(open) {
            let target = line[at + open.len()..].split([close, '#', ' ']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains(':') {
                found.push(target);
            }
        }
    }
    found
}

/// The paths that a line names in code: words with a `/` whose first part is a folder of ours.
fn named_paths<'a>(line: &'a str, fenced: bool, files: &[File]) -> Vec<&'a str> {
    // Outside of fences every second part between backquotes is code.
    let code: Vec<&str> = if fenced { vec![line] } else { line.split('`').skip(1).step_by(2).collect() };
    let words = code.into_iter().flat_map(str::split_whitespace);
    let paths = words.map(|word| word.trim_end_matches([',', '.', ':', ';']).split(':').next().unwrap_or(word));
    paths
        .filter(|path| {
            let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            let ours = |first: &str| {
                files.iter().any(|file| file.path.strip_prefix(first).is_some_and(|rest| rest.starts_with('/')))
            };
            plain && path.split_once('/').is_some_and(|(first, _)| !first.is_empty() && ours(first))
        })
        .collect()
}

/// Whether a tracked file or folder has this path.
/// A path from the root on, of one that begins in a folder.
fn within(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn exists(path: &str, files: &[File]) -> bool {
    let path = path.trim_start_matches("./").trim_end_matches('/');
    files.iter().any(|file| file.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

pub(super) fn changelog(files: &[File]) -> Vec<Finding> {
    let Some(changelog) = get(files, CHANGELOG) else {
        return missing(CHANGELOG);
    };
    let version = get(files, "Cargo.toml")
        .and_then(|manifest| {
            manifest.text.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
        })
        .unwrap_or("no version");
    let mut headings = changelog.text.lines().filter(|line| line.starts_with("## "));
    let entry =
        headings.any(|line| line.contains("Unreleased") || line.split([' ', '[', ']']).any(|word| word == version));
    if entry {
        Vec::new()
    } else {
        vec![Finding::new(CHANGELOG, 0, format!("no heading for {version} or `Unreleased`"))]
    }
}

fn get<'a>(files: &'a [File], path: &str) -> Option<&'a File> {
    files.iter().find(|file| file.path == path)
}

fn missing(path: &str) -> Vec<Finding> {
    vec![Finding::new(path, 0, "the file is missing")]
}

#[cfg(test)]
mod tests {
    use super::{changelog, dead_paths, dependencies, dependency_sentences};
    use crate::tidy::{Finding, source::File};

    fn found(find: fn(&[File]) -> Vec<Finding>, files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<File> = files.iter().map(|(path, text)| File::new(path, text.as_bytes().to_vec())).collect();
        find(&files).into_iter().map(|Finding { path, line, what }| format!("{path}:{line}: {what}")).collect()
    }

    #[test]
    fn every_form_of_dependency_is_read() {
        let manifest = "[package]\nname = \"a\"\n[dependencies]\nhalf.workspace = true\nserde = \"1\"\n# rayon = \"1\"\n\
                        [target.'cfg(windows)'.dev-dependencies]\nwinapi = { version = \"1\" }\n[dependencies.toml]\nversion = \"1\"\n[features]\nb = []\n";
        assert_eq!(dependencies(manifest), [(4, "half"), (5, "serde"), (8, "winapi"), (9, "toml")]);
    }

    #[test]
    fn a_planted_dependency_without_sentence_is_found() {
        let manifest = (
            "Cargo.toml",
            "[workspace.dependencies]\nsphereface = { path = \"b\" }\nsphereface-data = { path = \"a\" }\nhalf = \"2\"\nserde = \"1\"\n",
        );
        let architecture = ("ARCHITECTURE.md", "`half` holds 16-bit floats.");
        assert_eq!(
            found(dependency_sentences, &[manifest, architecture]),
            ["Cargo.toml:5: ARCHITECTURE.md has no sentence on `serde`"]
        );
        assert_eq!(found(dependency_sentences, &[manifest]), ["ARCHITECTURE.md:0: the file is missing"]);
    }

    #[test]
    fn planted_dead_paths_are_found() {
        let readme = "See [design](ARCHITECTURE.md#why), [b](gone.md), [c](https://a.org/b), [d](#e).\n\
                      `crates/data/src/idx.rs:3`, `crates/gone.rs`, `crates/`, `crates/<name>/x`, `runs/x`, `a/b`.\n\
                      ```\ncargo run crates/gone/x.toml # [e](gone2.md)\n```\n";
        let files = [
            ("README.md", readme),
            ("ARCHITECTURE.md", ""),
            ("CHANGELOG.md", ""),
            ("crates/data/src/idx.rs", "//! IDX."),
            ("crates/data/README.md", "[a](src/idx.rs), [b](../../README.md), [c](gone.rs), `crates/data`"),
        ];
        assert_eq!(
            found(dead_paths, &files),
            [
                "README.md:1: `gone.md` does not exist",
                "README.md:2: `crates/gone.rs` does not exist",
                "README.md:4: `crates/gone/x.toml` does not exist",
                "crates/data/README.md:1: `gone.rs` does not exist",
            ]
        );
        let without_changelog = found(dead_paths, &[files[1], ("README.md", "")]);
        assert_eq!(without_changelog, ["CHANGELOG.md:0: the file is missing"]);
    }

    #[test]
    fn a_planted_changelog_without_entry_is_found() {
        let manifest = ("Cargo.toml", "[workspace.package]\nversion = \"0.2.0\"\n");
        for (text, fine) in [("## Unreleased\n", true), ("## [0.2.0] - 2026\n", true), ("## 0.1.0\n0.2.0\n", false)] {
            assert_eq!(found(changelog, &[manifest, ("CHANGELOG.md", text)]).is_empty(), fine, "{text}");
        }
        assert_eq!(found(changelog, &[manifest]), ["CHANGELOG.md:0: the file is missing"]);
    }
}
