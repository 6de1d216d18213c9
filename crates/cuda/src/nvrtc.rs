//! NVRTC: finds the library and compiles kernels with it. It needs no GPU.

use cudarc::nvrtc::sys;
use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The version that this project is tested with; `pip install` takes it by this name.
pub const PACKAGE: &str = "nvidia-cuda-nvrtc==13.0.88";

/// Folder or file to load NVRTC from, before any other.
pub const VARIABLE: &str = "SPHEREFACE_NVRTC";

/// A GPU architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Architecture {
    /// 80 for `sm_80`.
    pub number: u32,
    /// Whether instructions of this very architecture may be used: the `a` of `sm_90a`.
    pub specific: bool,
}

impl Architecture {
    /// An architecture whose code also runs on later ones of the same major version.
    pub const fn new(number: u32) -> Self {
        Architecture { number, specific: false }
    }

    /// An architecture with all its instructions.
    pub const fn specific(number: u32) -> Self {
        Architecture { number, specific: true }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.number, if self.specific { "a" } else { "" })
    }
}

/// What the compiler makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Text, for the emulator or for a driver that compiles it further; without a zero at its end.
    Ptx,
    /// Machine code for a driver.
    Cubin,
}

/// A compiled file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// PTX text or a cubin.
    pub image: Vec<u8>,
    /// Warnings, and for a cubin registers and spills of each kernel.
    pub log: String,
}

/// The loaded library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nvrtc {
    /// Major and minor version.
    pub version: (i32, i32),
}

impl Nvrtc {
    /// The library, searched for once.
    ///
    /// # Errors
    /// One line that says where it was searched and how to get it.
    pub fn find() -> Result<Nvrtc, String> {
        static FOUND: OnceLock<Result<Nvrtc, String>> = OnceLock::new();
        FOUND.get_or_init(load).clone()
    }

    /// Compiles a file of the kernels with the headers they share.
    ///
    /// # Errors
    /// The compiler's messages.
    pub fn compile(
        self,
        file: sphereface_kernels::File,
        defines: &[String],
        architecture: Architecture,
        output: Output,
    ) -> Result<Compiled, String> {
        let options = options(defines, architecture, output);
        self.compile_text(file.path, file.text, &options, output)
    }

    /// Compiles a text with these options.
    ///
    /// # Errors
    /// The compiler's messages.
    pub fn compile_text(self, name: &str, text: &str, options: &[String], output: Output) -> Result<Compiled, String> {
        let c = |text: &str| CString::new(text).map_err(|_| format!("{name}: expected text without a zero byte"));
        let headers = sphereface_kernels::HEADERS;
        let texts = headers.iter().map(|header| c(header.text)).collect::<Result<Vec<_>, _>>()?;
        let names = headers.iter().map(|header| c(header.path)).collect::<Result<Vec<_>, _>>()?;
        let options = options.iter().map(|option| c(option)).collect::<Result<Vec<_>, _>>()?;
        let program = Program::new(&c(text)?, &c(name)?, &texts, &names)?;
        let status = program.compile(&options);
        let log = program.log();
        status.map_err(|error| format!("{name}: {error}: {}", log.trim()))?;
        Ok(Compiled { image: program.image(output)?, log })
    }
}

/// Options of a compilation.
pub(crate) fn options(defines: &[String], architecture: Architecture, output: Output) -> Vec<String> {
    let arch = match output {
        Output::Ptx => format!("--gpu-architecture=compute_{architecture}"),
        Output::Cubin => format!("--gpu-architecture=sm_{architecture}"),
    };
    let mut options = vec![arch, "--std=c++17".into(), "-lineinfo".into()];
    if output == Output::Cubin {
        options.push("--ptxas-options=-v".into());
    }
    options.extend(defines.iter().map(|define| format!("-D{define}")));
    options
}

/// A program of the compiler, destroyed when it goes out of scope.
struct Program(sys::nvrtcProgram);

/// Calls an NVRTC function; `call` is its result.
fn check(what: &str, call: sys::nvrtcResult) -> Result<(), String> {
    call.result().map_err(|error| format!("{what} failed with {error}"))
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).collect()
}

impl Program {
    fn new(text: &CStr, name: &CStr, headers: &[CString], names: &[CString]) -> Result<Program, String> {
        let (headers, names) = (pointers(headers), pointers(names));
        let mut program: sys::nvrtcProgram = std::ptr::null_mut();
        // SAFETY: the library is loaded (only `Nvrtc::find` makes an `Nvrtc`), all texts end in a zero, the two arrays
        // have the length given, and NVRTC copies what it is passed.
        let status = unsafe {
            let count = headers.len() as c_int;
            sys::nvrtcCreateProgram(&mut program, text.as_ptr(), name.as_ptr(), count, headers.as_ptr(), names.as_ptr())
        };
        check("nvrtcCreateProgram", status)?;
        Ok(Program(program))
    }

    fn compile(&self, options: &[CString]) -> Result<(), String> {
        let options = pointers(options);
        // SAFETY: the program lives, and the array has the length given.
        check("compilation", unsafe { sys::nvrtcCompileProgram(self.0, options.len() as c_int, options.as_ptr()) })
    }

    fn log(&self) -> String {
        let mut length = 0;
        // SAFETY: the program lives; NVRTC writes the length, then that many bytes.
        let bytes = unsafe {
            if sys::nvrtcGetProgramLogSize(self.0, &mut length).result().is_err() {
                return String::new();
            }
            let mut bytes = vec![0u8; length];
            let _ = sys::nvrtcGetProgramLog(self.0, bytes.as_mut_ptr().cast());
            bytes
        };
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
    }

    fn image(&self, output: Output) -> Result<Vec<u8>, String> {
        let mut length = 0;
        // SAFETY: the program lives and is compiled; NVRTC writes the length, then that many bytes.
        unsafe {
            match output {
                Output::Ptx => {
                    check("nvrtcGetPTXSize", sys::nvrtcGetPTXSize(self.0, &mut length))?;
                    let mut bytes = vec![0u8; length];
                    check("nvrtcGetPTX", sys::nvrtcGetPTX(self.0, bytes.as_mut_ptr().cast()))?;
                    bytes.pop(); // The zero at its end.
                    Ok(relative(bytes))
                }
                Output::Cubin => {
                    check("nvrtcGetCUBINSize", sys::nvrtcGetCUBINSize(self.0, &mut length))?;
                    let mut bytes = vec![0u8; length];
                    check("nvrtcGetCUBIN", sys::nvrtcGetCUBIN(self.0, bytes.as_mut_ptr().cast()))?;
                    Ok(bytes)
                }
            }
        }
    }
}

/// PTX with the paths of our files as they are from the workspace: NVRTC takes them to lie in the working directory.
fn relative(ptx: Vec<u8>) -> Vec<u8> {
    let Ok(folder) = std::env::current_dir() else { return ptx };
    match String::from_utf8(ptx) {
        Ok(text) => text.replace(&format!("\"{}/", folder.display()), "\"kernels/").into_bytes(),
        Err(error) => error.into_bytes(),
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made by nvrtcCreateProgram, and destroyed nowhere else.
        let _ = unsafe { sys::nvrtcDestroyProgram(&mut self.0) };
    }
}

/// Loads NVRTC from the first folder that has it, or else from where the system's loader looks.
fn load() -> Result<Nvrtc, String> {
    let mut searched = Vec::new();
    let folders = known_folders();
    let found = folders.iter().any(|folder| {
        searched.push(folder.display().to_string());
        open(folder)
    });
    // SAFETY: runs the initialisers of the library that the system finds by name.
    if !found && !unsafe { sys::is_culib_present() } && !python_folder().is_some_and(|folder| open(&folder)) {
        searched.extend(["the system's library path".to_owned(), "the packages of python3".to_owned()]);
        return Err(format!(
            "NVRTC, the run-time compiler of CUDA, was not found in {}; `cargo xtask kernels` or `pip install {PACKAGE}` \
             gets it, {VARIABLE} names its folder",
            searched.join(", "),
        ));
    }
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the library is loaded; it writes two integers.
    check("nvrtcVersion", unsafe { sys::nvrtcVersion(&mut major, &mut minor) })?;
    Ok(Nvrtc { version: (major, minor) })
}

/// The user's folder for what can be made again: compiled kernels, and an NVRTC that `cargo xtask kernels` fetched.
pub fn cache_folder() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else {
        let inside = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
        variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(inside)))
    };
    Some(cache?.join("sphereface"))
}

fn known_folders() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let mut folders: Vec<PathBuf> = variable(VARIABLE).into_iter().collect();
    folders.extend(cache_folder().map(|cache| cache.join("nvrtc/nvidia/cu13/lib")));
    for root in [variable("CUDA_PATH"), variable("CUDA_HOME"), Some("/usr/local/cuda".into())].into_iter().flatten() {
        folders.extend(["lib64", "bin"].map(|inside| root.join(inside)));
    }
    folders
}

/// Where Python has NVRTC, if it has.
fn python_folder() -> Option<PathBuf> {
    let script = "import nvidia, glob; \
        print(next(f for p in nvidia.__path__ for d in ('cu13', 'cuda_nvrtc') for f in glob.glob(p + '/' + d + '/lib')))";
    let output = Command::new("python3").args(["-c", script]).output().ok().filter(|output| output.status.success())?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}

/// Loads the two libraries of a folder for good, so that later opens by name find them.
fn open(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    let mut names: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            (name.starts_with("libnvrtc") || name.starts_with("nvrtc"))
                && !name.contains(".alt.")
                && !name.contains("static")
        })
        .collect();
    // The built-ins first: the compiler opens them by name.
    names.sort_by_key(|path| !path.to_string_lossy().contains("builtins"));
    let mut compiler = false;
    for path in names {
        // SAFETY: NVIDIA's libraries have harmless initialisers; they stay loaded until the process ends.
        if let Ok(library) = unsafe { libloading::Library::new(&path) } {
            compiler |= !path.to_string_lossy().contains("builtins");
            std::mem::forget(library);
        }
    }
    // SAFETY: as above.
    compiler && unsafe { sys::is_culib_present() }
}
