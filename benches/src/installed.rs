//! Where peers are installed, and how each is started.

use crate::device::Choice;
use std::path::{Path, PathBuf};

/// How a peer is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Name on the command line.
    pub key: String,
    /// Program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Folders in which it looks for shared libraries first.
    pub libraries: Vec<PathBuf>,
}

/// What peers are started from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The interpreter that has PyTorch.
    pub python: PathBuf,
    /// The peer in Python.
    pub script: PathBuf,
    /// The peers in Rust.
    pub binary: PathBuf,
    /// Folders of NVIDIA's libraries.
    pub libraries: Vec<PathBuf>,
}

impl Installed {
    /// What `cargo xtask bench --install-peers` has put into the folder `built`, for a checkout.
    pub fn into(built: &Path, checkout: &Path) -> Installed {
        let environment = built.join("python");
        Installed {
            python: environment.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" }),
            libraries: nvidia_folders(&environment),
            ..Installed::files(checkout, built)
        }
    }

    /// What `cargo xtask kit` has packed into a folder, and the Python of this machine with what its `LD_LIBRARY_PATH` names.
    pub fn in_kit(kit: &Path) -> Installed {
        Installed::files(kit, &kit.join("peers"))
    }

    fn files(root: &Path, built: &Path) -> Installed {
        let name = PathBuf::from(if cfg!(windows) { "python.exe" } else { "python3" });
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).map(|folder| folder.join(&name)).find(|file| file.is_file());
        Installed {
            python: found.unwrap_or(name),
            script: root.join("benches/peers/pytorch.py"),
            binary: built.join("release").join(format!("peers{}", std::env::consts::EXE_SUFFIX)),
            libraries: Vec::new(),
        }
    }
}

/// The peers that there are for a device.
pub fn launches(device: Choice, installed: &Installed) -> Vec<Launch> {
    let pytorch = |key: &str, arguments: &[&str]| Launch {
        key: key.into(),
        program: installed.python.clone(),
        arguments: std::iter::once(installed.script.display().to_string())
            .chain(arguments.iter().map(|&argument| argument.into()))
            .collect(),
        libraries: Vec::new(),
    };
    let binary = |key: &str, number: Option<usize>| Launch {
        key: key.into(),
        program: installed.binary.clone(),
        arguments: std::iter::once(key.into()).chain(number.map(|number| number.to_string())).collect(),
        libraries: if number.is_some() { installed.libraries.clone() } else { Vec::new() },
    };
    match device {
        Choice::Cpu => vec![
            pytorch("pytorch", &[]),
            pytorch("pytorch-bf16", &["--bf16"]),
            binary("burn", None),
            binary("candle", None),
            binary("gemm", None),
        ],
        Choice::Cuda(number) => vec![
            pytorch("pytorch", &["--device", &format!("cuda:{number}")]),
            binary("cudnn", Some(number)),
            binary("cublaslt", Some(number)),
        ],
        Choice::Emulator => Vec::new(),
    }
}

/// Where PyTorch's packages put NVIDIA's libraries, in a Python environment: their names alone would not find them.
fn nvidia_folders(python: &Path) -> Vec<PathBuf> {
    let entries = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let versions = entries(python.join("lib"));
    let packages = versions.flat_map(|version| entries(version.join("site-packages/nvidia")));
    let mut folders: Vec<PathBuf> = packages.map(|package| package.join("lib")).filter(|it| it.is_dir()).collect();
    folders.sort();
    folders
}
