//! Python with the packages that tests compare our files with, in virtual environments in cargo's target folder.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{output_dir, root};

/// Names the Python that has the packages, for tests.
const PYTHON: &str = "SPHEREFACE_PYTHON";
/// Names the Python that has PyTorch and safetensors, for tests.
const TORCH_PYTHON: &str = "SPHEREFACE_TORCH_PYTHON";

/// Pinned versions of the packages.
const REQUIREMENTS: &str = "tests/python/requirements.txt";
/// The interpreters that may have PyTorch as a package of the system.
const SYSTEM: [&str; 2] = ["python3", "/usr/bin/python3"];

/// The interpreters for tests, or for each why there is none.
pub(crate) struct Pythons {
    pub(crate) packages: Result<PathBuf, String>,
    pub(crate) torch: Result<PathBuf, String>,
}

impl Pythons {
    /// The variables by which tests find the interpreters that are there.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let found = [(PYTHON, &self.packages), (TORCH_PYTHON, &self.torch)];
        found.into_iter().filter_map(|(variable, python)| Some((variable, python.as_deref().ok()?)))
    }
}

/// Makes the environments that are missing or have other versions than the pinned ones.
pub(crate) fn ensure() -> Pythons {
    let packages = ensure_packages();
    let torch = match &packages {
        Ok(python) => ensure_torch(python),
        Err(error) => Err(error.clone()),
    };
    Pythons { packages, torch }
}

fn ensure_packages() -> Result<PathBuf, String> {
    let folder = output_dir().with_file_name("python");
    environment(&folder, REQUIREMENTS, || install(&folder, REQUIREMENTS))
}

/// Makes an environment with the packages of a file in the workspace.
pub(crate) fn install(folder: &Path, requirements: &str) -> Result<(), String> {
    println!("installing {requirements} into {}", folder.display());
    run(Command::new(name()).args(["-m", "venv"]).arg(folder))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    run(Command::new(interpreter(folder)).args(pip).arg(root().join(requirements)))
}

/// PyTorch from the same packages, where they have it, or else from the system, with our version of safetensors.
fn ensure_torch(packages: &Path) -> Result<PathBuf, String> {
    if has_torch(packages.as_os_str()) {
        return Ok(packages.to_owned());
    }
    let system = SYSTEM.into_iter().find(|python| has_torch(python.as_ref()));
    let system = system.ok_or("no PyTorch found (Debian: `apt-get install --no-install-recommends python3-torch`)")?;
    let folder = output_dir().with_file_name("python-torch");
    environment(&folder, REQUIREMENTS, || {
        run(Command::new(system).args(["-m", "venv", "--without-pip", "--system-site-packages"]).arg(&folder))?;
        let text = fs::read_to_string(root().join(REQUIREMENTS)).map_err(|error| format!("{REQUIREMENTS}: {error}"))?;
        let safetensors = text.lines().find(|line| line.starts_with("safetensors==")).unwrap_or("safetensors");
        let mut pip = Command::new(packages);
        pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check", "--python"]).arg(interpreter(&folder));
        run(pip.args(["install", "--no-deps", safetensors]))
    })
}

fn has_torch(python: &OsStr) -> bool {
    let import = Command::new(python).args(["-W", "ignore", "-c", "import torch"]).output();
    import.is_ok_and(|output| output.status.success())
}

/// The interpreter of an environment, made anew by `make` unless it was made whole from the same file of requirements.
pub(crate) fn environment(
    folder: &Path,
    file: &str,
    make: impl FnOnce() -> Result<(), String>,
) -> Result<PathBuf, String> {
    let stamp = folder.join("requirements.txt");
    let requirements = fs::read(root().join(file)).map_err(|error| format!("{file}: {error}"))?;
    if fs::read(&stamp).ok().as_ref() != Some(&requirements) {
        let _ = fs::remove_dir_all(folder); // What cannot be removed cannot be written either: the next step says so.
        make()?;
        fs::write(&stamp, requirements).map_err(|error| format!("{}: {error}", stamp.display()))?;
    }
    Ok(interpreter(folder))
}

fn interpreter(folder: &Path) -> PathBuf {
    if cfg!(windows) { folder.join("Scripts/python.exe") } else { folder.join("bin/python") }
}

/// The interpreter that makes environments.
pub(crate) fn name() -> &'static str {
    if cfg!(windows) { "python" } else { "python3" }
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let last = lines.clone().rfind(|line| line.contains("ERROR") || line.contains("No module")).or(lines.next_back());
    Err(format!("{program} failed: {}", last.unwrap_or("it said nothing")))
}
