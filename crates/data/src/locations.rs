//! Where data sets are looked for.

use std::env;
use std::path::{Path, PathBuf};

use crate::fetch::MIRRORS;

/// The places to search for full MNIST, in this order. The default has none, which leaves the embedded digits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Locations {
    /// The folder that the user names, `--data-dir`. Where it is given, it is the only place.
    pub data_dir: Option<PathBuf>,
    /// The folder that the environment names, `SPHEREFACE_DATA`.
    pub environment: Option<PathBuf>,
    /// The user's cache folder; fetched and unpacked files go to `mnist/` in it.
    pub cache: Option<PathBuf>,
    /// Addresses (`http://.../`) that serve the four files packed by gzip, in the order to ask them; none: nothing is fetched.
    pub mirrors: Vec<String>,
}

impl Locations {
    /// The places that the process environment gives, and `--data-dir` where the user gave one.
    pub fn from_environment(data_dir: Option<PathBuf>) -> Locations {
        let variable = |name: &str| {
            let value = env::var_os(name)?;
            (!value.is_empty()).then(|| PathBuf::from(value))
        };
        Locations {
            data_dir,
            environment: variable("SPHEREFACE_DATA"),
            cache: cache_folder(&variable),
            mirrors: MIRRORS.map(str::to_owned).to_vec(),
        }
    }

    /// Where fetched and unpacked files of MNIST go.
    pub(crate) fn cached_mnist(&self) -> Option<PathBuf> {
        Some(self.cache.as_deref()?.join("mnist"))
    }
}

/// The user's cache folder for this program by the custom of the system, from the variables of its environment.
///
/// # Source
///
/// XDG Base Directory Specification: a relative `XDG_CACHE_HOME` is to be ignored.
fn cache_folder(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
    let base = if cfg!(windows) {
        absolute("LOCALAPPDATA")
    } else if let Some(base) = absolute("XDG_CACHE_HOME") {
        Some(base)
    } else {
        let inside = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
        absolute("HOME").map(|home| home.join(inside))
    };
    base.map(|base| base.join("sphereface"))
}

/// The name of a set that is not MNIST: its folder's, as far as that is a plain name and not MNIST's, else `idx`.
pub(crate) fn name_of_other_set(folder: &Path) -> String {
    // `.` and `..` have no name of their own.
    let absolute = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    // torchvision unpacks to `FashionMNIST/raw`.
    let named = match absolute.file_name() {
        Some(name) if name == "raw" => absolute.parent().unwrap_or(&absolute),
        _ => &absolute,
    };
    let name: String = named
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' => c,
            _ => '-',
        })
        .collect();
    let reserved = ["mnist", "mnist-10k", "mnist10k"];
    if name.starts_with(['.', '-']) || name.is_empty() {
        return "idx".to_owned();
    }
    match reserved.contains(&name.to_ascii_lowercase().as_str()) {
        true => "idx".to_owned(),
        false => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(all(unix, not(target_os = "macos")))]
    fn cache_folder_follows_xdg() {
        for (xdg, home, expected) in [
            (Some("/x"), Some("/h"), Some("/x/sphereface")),
            (Some("relative"), Some("/h"), Some("/h/.cache/sphereface")),
            (None, Some("/h"), Some("/h/.cache/sphereface")),
            (None, None, None),
        ] {
            let variable = |name: &str| {
                let value = match name {
                    "XDG_CACHE_HOME" => xdg,
                    "HOME" => home,
                    _ => None,
                };
                value.map(PathBuf::from)
            };
            assert_eq!(cache_folder(&variable), expected.map(PathBuf::from));
        }
    }

    #[test]
    fn other_sets_are_named_by_their_folder_but_never_mnist() {
        for (folder, expected) in [
            ("/data/fashion-mnist", "fashion-mnist"),
            ("/data/FashionMNIST/raw", "FashionMNIST"),
            ("/data/mnist", "idx"),
            ("/data/MNIST/raw", "idx"),
            ("/data/mnist-10k", "idx"),
            ("/data/my digits\n", "my-digits-"),
            ("/data/.hidden", "idx"),
            ("/", "idx"),
        ] {
            assert_eq!(name_of_other_set(Path::new(folder)), expected);
        }
    }
}
