//! Licences: every third-party package must be usable under a licence as permissive as ours.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::check::Outcome;

/// Licences that ask for no more than a notice.
const PERMISSIVE: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Accepted for unmodified dependencies, but named in the result: a changed file stays under the licence.
const NOTED: &[&str] = &["MPL-2.0"];

/// `WITH` exceptions that only give further rights.
const EXCEPTIONS: &[&str] = &["LLVM-exception"];

/// The folder of the fonts inside the program, and the licence beside them: SIL's Open Font License asks that it
/// travels with the fonts, and nothing of the program that carries them.
const FONTS: &str = "crates/report/assets/fonts";
const FONT_LICENCE: (&str, &str) = ("OFL.txt", "SIL OPEN FONT LICENSE Version 1.1");

/// Checks that the fonts are there with their licence.
pub(crate) fn check_fonts(root: &Path) -> Outcome {
    let folder = root.join(FONTS);
    let (file, title) = FONT_LICENCE;
    let licence = fs::read_to_string(folder.join(file)).map_err(|error| vec![format!("{FONTS}/{file}: {error}")])?;
    if !licence.contains(title) {
        return Err(vec![format!("{FONTS}/{file}: expected the {title}")]);
    }
    let entries = fs::read_dir(&folder).map_err(|error| vec![format!("{FONTS}: {error}")])?;
    let fonts = entries.flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == "ttf")).count();
    Ok(format!("{fonts} fonts (OFL-1.1)"))
}

/// Checks the licence of every package of `cargo metadata` that is not ours.
pub(crate) fn check(metadata: &Value) -> Outcome {
    let (mut count, mut noted, mut wrong) = (0, Vec::new(), Vec::new());
    for package in metadata["packages"].as_array().into_iter().flatten() {
        if package["source"].is_null() {
            continue; // A path dependency: a package of this workspace.
        }
        count += 1;
        let name =
            format!("{} {}", package["name"].as_str().unwrap_or("?"), package["version"].as_str().unwrap_or("?"));
        let Some(expression) = package["license"].as_str() else {
            wrong.push(format!("{name}: names no licence"));
            continue;
        };
        match judge(expression) {
            Ok(Verdict::Permissive) => {}
            Ok(Verdict::Noted) => noted.push(format!("{name} ({expression})")),
            Ok(Verdict::Refused) => wrong.push(format!("{name}: `{expression}` is not permissive enough")),
            Err(error) => wrong.push(format!("{name}: cannot read `{expression}`: {error}")),
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let note = if noted.is_empty() { String::new() } else { format!("; noted: {}", noted.join(", ")) };
    Ok(format!("{count} packages{note}"))
}

/// The best that a licence expression offers. Ordered: `OR` takes the larger, `AND` the smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Refused,
    Noted,
    Permissive,
}

/// Evaluates an SPDX licence expression: identifiers, `WITH`, `AND`, `OR` and parentheses, in this order of
/// precedence, and the `/` that old manifests write for `OR`.
///
/// # Source
/// SPDX specification 2.3, annex D.
fn judge(expression: &str) -> Result<Verdict, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut tokens = Tokens { rest: spaced.split_whitespace().collect() };
    tokens.rest.reverse(); // The next token is the last one.
    let verdict = tokens.any_of()?;
    match tokens.rest.pop() {
        None => Ok(verdict),
        Some(token) => Err(format!("unexpected `{token}`")),
    }
}

struct Tokens<'a> {
    rest: Vec<&'a str>,
}

impl Tokens<'_> {
    fn take(&mut self, keyword: &str) -> bool {
        let found = self.rest.last().is_some_and(|token| token.eq_ignore_ascii_case(keyword));
        if found {
            self.rest.pop();
        }
        found
    }

    fn any_of(&mut self) -> Result<Verdict, String> {
        let mut verdict = self.all_of()?;
        while self.take("OR") {
            verdict = verdict.max(self.all_of()?);
        }
        Ok(verdict)
    }

    fn all_of(&mut self) -> Result<Verdict, String> {
        let mut verdict = self.licence()?;
        while self.take("AND") {
            verdict = verdict.min(self.licence()?);
        }
        Ok(verdict)
    }

    fn licence(&mut self) -> Result<Verdict, String> {
        if self.take("(") {
            let verdict = self.any_of()?;
            return if self.take(")") { Ok(verdict) } else { Err("a `)` is missing".to_owned()) };
        }
        let name = match self.rest.pop() {
            Some(token) if !is_operator(token) => token,
            Some(token) => return Err(format!("a licence is missing before `{token}`")),
            None => return Err("a licence is missing at the end".to_owned()),
        };
        let verdict = if PERMISSIVE.contains(&name) {
            Verdict::Permissive
        } else if NOTED.contains(&name) {
            Verdict::Noted
        } else {
            Verdict::Refused
        };
        if !self.take("WITH") {
            return Ok(verdict);
        }
        match self.rest.pop() {
            Some(exception) if EXCEPTIONS.contains(&exception) => Ok(verdict),
            Some(exception) if !is_operator(exception) => Ok(Verdict::Refused),
            _ => Err("an exception is missing after `WITH`".to_owned()),
        }
    }
}

fn is_operator(token: &str) -> bool {
    ["(", ")", "AND", "OR", "WITH"].iter().any(|operator| token.eq_ignore_ascii_case(operator))
}

#[cfg(test)]
mod tests {
    use super::{Verdict, check, check_fonts, judge};
    use serde_json::json;
    use std::path::Path;

    #[test]
    fn expressions_are_evaluated_with_precedence() {
        for (expression, verdict) in [
            ("MIT", Verdict::Permissive),
            ("MIT OR Apache-2.0", Verdict::Permissive),
            ("MIT/Apache-2.0", Verdict::Permissive),
            ("GPL-3.0-only", Verdict::Refused),
            ("GPL-3.0-only OR MIT", Verdict::Permissive),
            ("GPL-3.0-only AND MIT", Verdict::Refused),
            ("MIT OR GPL-3.0-only AND ISC", Verdict::Permissive), // AND binds tighter …
            ("(MIT OR GPL-3.0-only) AND GPL-2.0-only", Verdict::Refused), // … unless there are parentheses.
            ("(MIT OR Apache-2.0) AND Unicode-3.0", Verdict::Permissive),
            ("MPL-2.0", Verdict::Noted),
            ("MPL-2.0 OR MIT", Verdict::Permissive),
            ("MPL-2.0 AND MIT", Verdict::Noted),
            ("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", Verdict::Permissive),
            ("Apache-2.0 WITH LLVM-exception AND (ISC)", Verdict::Permissive),
            ("GPL-2.0-only WITH Classpath-exception-2.0", Verdict::Refused),
            ("((0BSD))", Verdict::Permissive),
        ] {
            assert_eq!(judge(expression), Ok(verdict), "{expression}");
        }
    }

    #[test]
    fn broken_expressions_are_errors() {
        for expression in ["", "MIT OR", "AND MIT", "(MIT", "MIT)", "MIT ISC", "Apache-2.0 WITH", "()"] {
            assert!(judge(expression).is_err(), "{expression}");
        }
    }

    #[test]
    fn fonts_have_their_licence() {
        assert_eq!(check_fonts(crate::root()), Ok("2 fonts (OFL-1.1)".to_owned()));
        assert!(check_fonts(Path::new("there-is-no-such-folder")).is_err());
    }

    #[test]
    fn packages_without_a_permissive_licence_are_named() {
        let package = |name: &str, licence: Option<&str>, source: Option<&str>| json!({ "name": name, "version": "1.0.0", "license": licence, "source": source });
        let found = check(&json!({ "packages": [
            package("ours", None, None),
            package("fine", Some("MIT"), Some("registry")),
            package("copyleft", Some("AGPL-3.0-only"), Some("registry")),
            package("silent", None, Some("registry")),
        ] }));
        assert_eq!(
            found,
            Err(vec![
                "copyleft 1.0.0: `AGPL-3.0-only` is not permissive enough".to_owned(),
                "silent 1.0.0: names no licence".to_owned()
            ])
        );
        let noted = check(&json!({ "packages": [package("files", Some("MPL-2.0"), Some("registry"))] }));
        assert_eq!(noted, Ok("1 packages; noted: files 1.0.0 (MPL-2.0)".to_owned()));
    }
}
