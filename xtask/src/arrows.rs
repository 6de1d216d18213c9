//! Dependency arrows: which package of the workspace may depend on which.
//!
//! The arrows keep models free of backends, the emulator free of the code it judges, and the tensor core
//! at the bottom. They are data below; the check compares them with what cargo sees in the manifests.

use serde_json::Value;

use crate::check::Outcome;

/// What a package may depend on among the packages of the workspace.
enum Allowed {
    Only(&'static [&'static str]),
    /// Everything but `xtask`: for packages that nothing else stands on.
    Anything,
}
use Allowed::{Anything, Only};

/// Normal and build dependencies. Every package of the workspace has its line here.
const ARROWS: &[(&str, Allowed)] = &[
    ("sphereface-tensor", Only(&[])),
    ("sphereface-models", Only(&["sphereface-tensor"])),
    ("sphereface-data", Only(&[])),
    ("sphereface-export", Only(&["sphereface-tensor", "sphereface-models"])),
    // Where a backend meets models: one that is handed in, not one of its own.
    ("sphereface", Only(&["sphereface-tensor", "sphereface-models", "sphereface-data", "sphereface-export"])),
    ("sphereface-report", Only(&[])),
    ("sphereface-kernels", Only(&[])),
    // A device is checked at its first use by the cases of the tests.
    (
        "sphereface-cuda",
        Only(&["sphereface-tensor", "sphereface-kernels", "sphereface-emulator", "sphereface-testkit"]),
    ),
    ("sphereface-emulator", Only(&[])),
    ("sphereface-testkit", Only(&["sphereface-tensor", "sphereface-models", "sphereface-data"])),
    (
        "trainer",
        Only(&[
            "sphereface",
            "sphereface-tensor",
            "sphereface-models",
            "sphereface-data",
            "sphereface-export",
            "sphereface-report",
            "sphereface-cuda",
            "sphereface-emulator",
        ]),
    ),
    ("sphereface-tests", Anything),
    ("sphereface-benches", Anything),
    ("xtask", Only(&[])),
];

/// Tests of any package may use this one besides …
const TESTKIT: &str = "sphereface-testkit";
/// … except of these: the emulator proves our kernels and shares nothing with them, `xtask` builds alone.
const WITHOUT_TESTKIT: &[&str] = &["sphereface-emulator", "xtask"];

/// One arrow as a manifest draws it.
struct Arrow<'a> {
    from: &'a str,
    to: &'a str,
    dev: bool,
}

/// Checks the arrows of `cargo metadata --no-deps`.
pub(crate) fn check(metadata: &Value) -> Outcome {
    let (packages, arrows) = read(metadata);
    let wrong = violations(&packages, &arrows);
    if wrong.is_empty() { Ok(format!("{} packages, {} arrows", packages.len(), arrows.len())) } else { Err(wrong) }
}

/// The packages of the workspace, and the arrows among them.
fn read(metadata: &Value) -> (Vec<&str>, Vec<Arrow<'_>>) {
    let members = || metadata["packages"].as_array().into_iter().flatten();
    let packages: Vec<&str> = members().filter_map(|package| package["name"].as_str()).collect();
    let mut arrows = Vec::new();
    for package in members() {
        let Some(from) = package["name"].as_str() else {
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let Some(to) = dependency["name"].as_str() else {
                continue;
            };
            if packages.contains(&to) {
                arrows.push(Arrow { from, to, dev: dependency["kind"] == "dev" });
            }
        }
    }
    (packages, arrows)
}

fn violations(packages: &[&str], arrows: &[Arrow<'_>]) -> Vec<String> {
    let allowed = |name: &str| ARROWS.iter().find(|(package, _)| *package == name).map(|(_, allowed)| allowed);
    let mut found: Vec<String> = packages
        .iter()
        .filter(|package| allowed(package).is_none())
        .map(|package| format!("{package}: unknown package; give it a line in ARROWS"))
        .collect();
    for Arrow { from, to, dev } in arrows {
        let fine = match allowed(from) {
            None => continue, // Reported above.
            Some(Anything) => *to != "xtask",
            Some(Only(list)) => list.contains(to) || (*dev && *to == TESTKIT && !WITHOUT_TESTKIT.contains(from)),
        };
        if !fine {
            let kind = if *dev { "dev-dependency" } else { "dependency" };
            found.push(format!("{from} → {to}: this {kind} is not allowed"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{check, read, violations};
    use serde_json::{Value, json};

    /// Metadata of a workspace with the given packages and arrows (from, to, kind).
    fn workspace(packages: &[&str], arrows: &[(&str, &str, Option<&str>)]) -> Value {
        let packages: Vec<Value> = packages
            .iter()
            .map(|name| {
                let own = arrows.iter().filter(|(from, _, _)| from == name);
                let dependencies: Vec<Value> = own.map(|(_, to, kind)| json!({ "name": to, "kind": kind })).collect();
                json!({ "name": name, "dependencies": dependencies })
            })
            .collect();
        json!({ "packages": packages })
    }

    fn found(packages: &[&str], arrows: &[(&str, &str, Option<&str>)]) -> Vec<String> {
        let metadata = workspace(packages, arrows);
        let (packages, arrows) = read(&metadata);
        violations(&packages, &arrows)
    }

    #[test]
    fn the_designed_arrows_pass() {
        let packages = ["sphereface-tensor", "sphereface-models", "sphereface-testkit", "sphereface-tests", "trainer"];
        let arrows = [
            ("sphereface-models", "sphereface-tensor", None),
            ("sphereface-models", "serde", None), // Not ours: another check's business.
            ("sphereface-tensor", "sphereface-testkit", Some("dev")),
            ("sphereface-tests", "trainer", None),
            ("trainer", "sphereface-models", None),
        ];
        assert_eq!(check(&workspace(&packages, &arrows)), Ok("5 packages, 4 arrows".to_owned()));
    }

    #[test]
    fn forbidden_arrows_are_found() {
        let packages = [
            "sphereface-models",
            "sphereface-cuda",
            "sphereface-emulator",
            "sphereface-testkit",
            "sphereface-tests",
            "xtask",
        ];
        for arrow in [
            ("sphereface-models", "sphereface-cuda", None),
            ("sphereface-models", "sphereface-cuda", Some("dev")),
            ("sphereface-models", "sphereface-cuda", Some("build")),
            ("sphereface-models", "sphereface-testkit", None),
            ("sphereface-emulator", "sphereface-testkit", Some("dev")),
            ("xtask", "sphereface-testkit", Some("dev")),
            ("sphereface-tests", "xtask", None),
        ] {
            let found = found(&packages, &[arrow]);
            assert!(
                found.len() == 1 && found[0].starts_with(&format!("{} → {}", arrow.0, arrow.1)),
                "{arrow:?}: {found:?}"
            );
        }
    }

    #[test]
    fn an_unknown_package_is_an_error() {
        let found = found(&["sphereface-extras"], &[]);
        assert_eq!(found, ["sphereface-extras: unknown package; give it a line in ARROWS"]);
    }
}
