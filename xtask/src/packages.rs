//! Packages: every library of the workspace can be packed as a registry takes it, and built from that alone.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::check::{Outcome, metadata, run_quietly};
use crate::{cargo, output_dir};

/// What a package says of itself, besides its name.
const FIELDS: [&str; 5] = ["description", "license", "readme", "keywords", "categories"];

/// Packs all that may be published, without building it.
pub(crate) fn check() -> Outcome {
    let metadata = metadata(&["--no-deps"])?;
    let published: Vec<&Value> = published(&metadata).collect();
    let mut found: Vec<String> = published.iter().flat_map(|package| unsaid(package)).collect();
    for package in &published {
        found.extend(outside(package));
    }
    if !found.is_empty() {
        return Err(found);
    }
    pack(&metadata, &folder().join("packed"), &["--no-verify", "--offline"])?;
    Ok(format!("{} packages", published.len()))
}

/// Packs them and builds each from what was packed.
pub(crate) fn build() -> Result<String, String> {
    let lines = |lines: Vec<String>| lines.join("; ");
    let metadata = metadata(&["--no-deps"]).map_err(lines)?;
    let packed = folder().join("packed");
    pack(&metadata, &packed, &["--no-verify"]).map_err(lines)?;
    // Cargo unpacks the archives of a folder once, and takes those of the same version for the same: others need another.
    let place = folder().join(format!("built-{:016x}", digest(&packed).map_err(|error| error.to_string())?));
    let others = fs::read_dir(folder()).into_iter().flatten().flatten().map(|entry| entry.path());
    for other in others.filter(|other| *other != packed && *other != place) {
        let _ = fs::remove_dir_all(other); // It only takes room.
    }
    pack(&metadata, &place, &[]).map_err(lines)
}

fn folder() -> PathBuf {
    output_dir().join("packages")
}

/// Tells archives that `cargo package` left in a folder from others.
fn digest(packed: &Path) -> io::Result<u64> {
    let entries = fs::read_dir(packed.join("package"))?.map(|entry| entry.map(|entry| entry.path()));
    let mut archives = entries.collect::<io::Result<Vec<_>>>()?;
    archives.retain(|path| path.extension().is_some_and(|extension| extension == "crate"));
    archives.sort();
    let mut hasher = DefaultHasher::new();
    for archive in archives {
        hasher.write(&fs::read(archive)?);
    }
    Ok(hasher.finish())
}

fn pack(metadata: &Value, place: &Path, args: &[&str]) -> Outcome {
    let mut command = cargo();
    command.args(["package", "--quiet", "--allow-dirty", "--target-dir"]).arg(place).args(args);
    // A package by itself has no profile of ours: it is not optimised, as in a user's debug build.
    published(metadata).filter_map(|package| package["name"].as_str()).for_each(|name| {
        command.args(["-p", name]);
    });
    run_quietly(&mut command)
}

/// Packages of the workspace that are not kept from being published.
fn published(metadata: &Value) -> impl Iterator<Item = &Value> {
    let members = metadata["packages"].as_array().into_iter().flatten();
    members.filter(|package| package["publish"].is_null())
}

/// Fields that are missing or empty, and dependencies that would have no version in a registry.
fn unsaid(package: &Value) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or_default();
    let empty = |field: &Value| {
        field.as_str().is_none_or(str::is_empty) && field.as_array().is_none_or(|entries| entries.is_empty())
    };
    let fields = FIELDS.iter().filter(|field| empty(&package[**field]));
    let fields = fields.map(|field| format!("{name}: {field}: expected in its Cargo.toml, found none"));
    let dependencies = package["dependencies"].as_array().into_iter().flatten();
    let free = dependencies.filter(|other| other["kind"] != "dev" && !other["path"].is_null() && other["req"] == "*");
    let free = free.map(|other| format!("{name}: dependency {}: expected a version, found none", other["name"]));
    fields.chain(free).collect()
}

/// Files that its sources include from beyond its folder.
fn outside(package: &Value) -> Vec<String> {
    let Some(folder) = package["manifest_path"].as_str().and_then(|path| Path::new(path).parent()) else {
        return vec!["a package without a folder".to_owned()];
    };
    let mut files = Vec::new();
    sources(&folder.join("src"), &mut files);
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        for included in included(&text) {
            let place = normal(&file.with_file_name(included));
            if !place.starts_with(folder) {
                found.push(format!("{}: includes {included}, which is not in its package", file.display()));
            }
        }
    }
    found
}

/// Rust files of a folder and the folders inside.
fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Paths that a source includes by name.
fn included(text: &str) -> impl Iterator<Item = &str> {
    let after = ["include_str!(\"", "include_bytes!(\"", "include!(\"", "#[path = \""];
    after.into_iter().flat_map(move |start| text.split(start).skip(1).filter_map(|rest| rest.split('"').next()))
}

/// The path without `..` inside it.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut place, part| {
        if part == Component::ParentDir {
            place.pop();
        } else {
            place.push(part);
        }
        place
    })
}

#[cfg(test)]
mod tests {
    use super::{included, normal, published, unsaid};
    use serde_json::json;
    use std::path::Path;

    #[test]
    fn what_a_package_does_not_say_is_named() {
        let package = json!({
            "name": "a", "publish": null, "description": "What it is", "license": "MIT", "readme": null,
            "keywords": [], "categories": ["science"],
            "dependencies": [
                { "name": "b", "path": "/b", "req": "*", "kind": null },
                { "name": "c", "path": "/c", "req": "^0.1.0", "kind": null },
                { "name": "d", "path": "/d", "req": "*", "kind": "dev" },
                { "name": "e", "path": null, "req": "*", "kind": null },
            ],
        });
        let found = unsaid(&package);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(
            found[0].contains("readme") && found[1].contains("keywords") && found[2].contains("\"b\""),
            "{found:?}"
        );
        let metadata = json!({ "packages": [package, { "name": "own", "publish": [] }] });
        assert_eq!(published(&metadata).count(), 1);
    }

    #[test]
    fn included_files_are_found_where_they_lie() {
        let text = "const A: &str = include_str!(\"../../x.md\");\n#[path = \"b.rs\"]\nmod b;";
        assert_eq!(included(text).collect::<Vec<_>>(), ["../../x.md", "b.rs"]);
        assert_eq!(normal(Path::new("/w/crates/a/src/../../x.md")), Path::new("/w/crates/x.md"));
    }
}
