//! Compiled kernels, kept in a folder of the user's: the second start of a program compiles nothing.
//!
//! An entry's name holds a hash of everything it was made from, so entries never go stale. It is written under another
//! name and renamed, so several processes may do this at once; its own hash stands at its end, so a damaged one is made
//! again. A folder that cannot be written costs time, not results. Anybody may delete it.

use crate::launch::Unit;
use crate::nvrtc::{Architecture, Compiled, Nvrtc, Output, cache_folder, options};
use atomicwrites::{AllowOverwrite, AtomicFile};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Two lengths of eight bytes and a SHA-256.
const FOOTER_BYTES: usize = 16 + 32;

/// What a compilation makes, and of what.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// A file of kernels and what is defined in it.
    pub unit: &'a Unit,
    /// What it is compiled for.
    pub architecture: Architecture,
    /// What is made of it.
    pub output: Output,
}

impl Job<'_> {
    fn file(&self) -> Result<sphereface_kernels::File, String> {
        sphereface_kernels::source(self.unit.stem).ok_or_else(|| format!("no file kernels/{}.cu", self.unit.stem))
    }

    /// Hash of the file, the headers, the options and the compiler's version: 64 hexadecimal digits.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn key(&self, nvrtc: Nvrtc) -> Result<String, String> {
        let file = self.file()?;
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        let (major, minor) = nvrtc.version;
        add(&format!("NVRTC {major}.{minor}, entry 1"));
        options(&self.unit.defines, self.architecture, self.output).iter().for_each(|option| add(option));
        for file in std::iter::once(&file).chain(sphereface_kernels::HEADERS) {
            add(file.path);
            add(file.text);
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// A folder of compiled kernels.
#[derive(Clone, Debug)]
pub struct Cache {
    /// `None` keeps nothing.
    folder: Option<PathBuf>,
}

impl Cache {
    /// The user's.
    pub fn of_user() -> Cache {
        Cache { folder: cache_folder().map(|folder| folder.join("kernels")) }
    }

    /// Any folder.
    pub fn at(folder: impl Into<PathBuf>) -> Cache {
        Cache { folder: Some(folder.into()) }
    }

    /// What was compiled before, or else what the compiler makes now.
    ///
    /// # Errors
    /// The compiler's messages, or where NVRTC was searched.
    pub fn get(&self, job: Job<'_>) -> Result<Compiled, String> {
        self.find(job)?.map_or_else(|| self.make(job), Ok)
    }

    /// What was compiled before, if it is there and whole.
    ///
    /// # Errors
    /// When NVRTC is not there, whose version counts, or there is no such file.
    pub fn find(&self, job: Job<'_>) -> Result<Option<Compiled>, String> {
        let path = self.path(job)?;
        Ok(path.and_then(|path| decode(&std::fs::read(path).ok()?)))
    }

    /// Compiles and keeps the result.
    ///
    /// # Errors
    /// The compiler's messages, or where NVRTC was searched.
    pub fn make(&self, job: Job<'_>) -> Result<Compiled, String> {
        let Job { unit, architecture, output } = job;
        let compiled = Nvrtc::find()?.compile(job.file()?, &unit.defines, architecture, output)?;
        if let Some(path) = self.path(job)? {
            // A full disk or a read-only folder: the kernels are compiled again next time.
            let _ = write_whole(&path, &encode(&compiled));
        }
        Ok(compiled)
    }

    fn path(&self, job: Job<'_>) -> Result<Option<PathBuf>, String> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let key = job.key(Nvrtc::find()?)?;
        let ending = match job.output {
            Output::Ptx => "ptx",
            Output::Cubin => "cubin",
        };
        Ok(Some(folder.join(format!("{}-sm_{}-{}.{ending}", job.unit.stem, job.architecture, &key[..32]))))
    }
}

/// The image first, so that NVIDIA's tools read the file; then the log, both lengths, and the hash of all that.
fn encode(compiled: &Compiled) -> Vec<u8> {
    let mut bytes = compiled.image.clone();
    bytes.extend(compiled.log.bytes());
    for length in [compiled.image.len(), compiled.log.len()] {
        bytes.extend((length as u64).to_le_bytes());
    }
    let hash = Sha256::digest(&bytes);
    bytes.extend(hash);
    bytes
}

fn decode(bytes: &[u8]) -> Option<Compiled> {
    let (content, footer) = bytes.split_at_checked(bytes.len().checked_sub(FOOTER_BYTES)?)?;
    let hashed = &bytes[..bytes.len() - 32];
    if Sha256::digest(hashed)[..] != footer[16..] {
        return None;
    }
    let length = |at: usize| Some(u64::from_le_bytes(footer[at..at + 8].try_into().ok()?) as usize);
    let (image, log) = content.split_at_checked(length(0)?)?;
    (log.len() == length(8)?).then_some(())?;
    Some(Compiled { image: image.to_vec(), log: String::from_utf8(log.to_vec()).ok()? })
}

/// Writes a file that is whole whenever it has its name.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(AtomicFile::new(path, AllowOverwrite).write(|file| file.write_all(bytes))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that is gone when the test ends.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let folder = std::env::temp_dir().join(format!("sphereface-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&folder);
            Folder(folder)
        }

        fn entries(&self) -> Vec<PathBuf> {
            std::fs::read_dir(&self.0).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn unit(defines: &[&str]) -> Unit {
        Unit { stem: "advance", defines: defines.iter().map(|&define| define.to_owned()).collect() }
    }

    fn job(unit: &Unit) -> Job<'_> {
        Job { unit, architecture: Architecture::new(80), output: Output::Cubin }
    }

    #[test]
    fn an_entry_is_read_back_and_anything_else_is_refused() {
        let compiled = Compiled { image: b"\x7fELF image".to_vec(), log: "registers: 8".into() };
        let bytes = encode(&compiled);
        assert_eq!(decode(&bytes), Some(compiled));
        for damaged in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[damaged] ^= 1;
            assert_eq!(decode(&bytes), None, "byte {damaged}");
            assert_eq!(decode(&bytes[..damaged]), None, "cut at {damaged}");
        }
    }

    #[test]
    fn every_ingredient_changes_the_key() {
        let nvrtc = Nvrtc { version: (13, 0) };
        let (plain, defined) = (unit(&[]), unit(&["M=4"]));
        let key = job(&plain).key(nvrtc).unwrap();
        assert_eq!(job(&plain).key(nvrtc).unwrap(), key);
        for other in [
            job(&defined).key(nvrtc),
            job(&Unit { stem: "add", defines: vec![] }).key(nvrtc),
            Job { architecture: Architecture::specific(90), ..job(&plain) }.key(nvrtc),
            Job { output: Output::Ptx, ..job(&plain) }.key(nvrtc),
            job(&plain).key(Nvrtc { version: (13, 1) }),
        ] {
            assert_ne!(other.unwrap(), key);
        }
        assert!(job(&Unit { stem: "nothing", defines: vec![] }).key(nvrtc).unwrap_err().contains("nothing.cu"));
    }

    #[test]
    fn what_was_compiled_once_is_found_and_what_was_damaged_is_made_again() {
        if let Err(reason) = Nvrtc::find() {
            return sphereface_testkit::skip(&reason);
        }
        let folder = Folder::new("cache");
        let (cache, unit) = (Cache::at(&folder.0), unit(&[]));
        assert_eq!(cache.find(job(&unit)).unwrap(), None);
        let made = cache.get(job(&unit)).unwrap();
        assert_eq!(cache.find(job(&unit)).unwrap(), Some(made.clone()));
        assert!(made.image.starts_with(b"\x7fELF") && made.log.contains("advance"), "{}", made.log);
        let [path] = &folder.entries()[..] else { panic!("{:?}", folder.entries()) };
        std::fs::write(path, b"half a file").unwrap();
        assert_eq!(cache.find(job(&unit)).unwrap(), None);
        assert_eq!(cache.get(job(&unit)).unwrap().image.len(), made.image.len());
        assert!(cache.find(job(&unit)).unwrap().is_some());
    }

    #[test]
    fn several_writers_leave_one_whole_entry() {
        let folder = Folder::new("writers");
        let path = folder.0.join("entry.cubin");
        let compiled = |byte: u8| Compiled { image: vec![byte; 100_000], log: String::new() };
        std::thread::scope(|scope| {
            for byte in 0..4 {
                let path = &path;
                scope.spawn(move || (0..20).for_each(|_| write_whole(path, &encode(&compiled(byte))).unwrap()));
            }
            for _ in 0..200 {
                // Whatever is there at any time is whole.
                if let Ok(bytes) = std::fs::read(&path) {
                    assert!(decode(&bytes).is_some());
                }
            }
        });
        assert_eq!(folder.entries(), [path]);
    }

    #[test]
    fn a_folder_that_cannot_be_written_costs_nothing_but_time() {
        if let Err(reason) = Nvrtc::find() {
            return sphereface_testkit::skip(&reason);
        }
        let folder = Folder::new("refused");
        std::fs::write(&folder.0, b"a file where the folder should be").unwrap();
        let compiled = Cache::at(folder.0.join("kernels")).get(job(&unit(&[])));
        std::fs::remove_file(&folder.0).unwrap();
        assert!(compiled.is_ok(), "{compiled:?}");
    }
}
