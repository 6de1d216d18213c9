//! What all parts of the soak stand on: the program, a folder, and a small set of images.

use std::fs;
use std::io::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::{cargo, output_dir};

/// The authors' schedules without clipping: such a training overflows at once, and the guard sends it back.
const OFFICIAL: &str = "[training]\nrate = 0.1\nrate_schedule = \"steps\"\nlambda_schedule = \"inverse\"\n\
                        [optimizer]\nrule = \"sgd\"\nclip = 0.0\n";

/// A rate that rises until the numbers overflow.
const LATE: &str = "[training]\nrate = 0.15\nwarm_up = 0.9\n[optimizer]\nclip = 0.0\n";

/// The program and where it works.
pub(super) struct Work {
    trainer: PathBuf,
    /// Holds `set`, `official.toml` and `late.toml`.
    pub(super) folder: PathBuf,
}

/// Numbers that look random: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
pub(super) struct Random(pub(super) u64);

impl Random {
    /// A number from 0 to 1.
    pub(super) fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as f64 / u64::MAX as f64
    }
}

/// An error with the path that it is about.
pub(super) fn at(path: &Path) -> impl Fn(Error) -> String + '_ {
    move |error| format!("{}: {error}", path.display())
}

impl Work {
    /// Builds the program and makes the folder anew.
    pub(super) fn prepare() -> Result<Work, String> {
        let status = cargo().args(["build", "--release", "-p", "trainer"]).status();
        if !status.map_err(|error| format!("cannot start cargo: {error}"))?.success() {
            return Err("the trainer does not build".into());
        }
        let name = format!("trainer{}", std::env::consts::EXE_SUFFIX);
        let trainer = output_dir().with_file_name("release").join(name);
        let folder = output_dir().join("soak");
        let _ = fs::remove_dir_all(&folder);
        let work = Work { trainer, folder };
        let set = work.folder.join("set");
        fs::create_dir_all(&set).map_err(at(&set))?;
        for (prefix, count) in [("train", 400), ("t10k", 90)] {
            let [images, labels] = small_set(count);
            for (kind, content) in [("images-idx3", images), ("labels-idx1", labels)] {
                let path = set.join(format!("{prefix}-{kind}-ubyte"));
                fs::write(&path, content).map_err(at(&path))?;
            }
        }
        for (name, settings) in [("official.toml", OFFICIAL), ("late.toml", LATE)] {
            let path = work.folder.join(name);
            fs::write(&path, settings).map_err(at(&path))?;
        }
        Ok(work)
    }

    /// The program, in the folder, away from any data set or cache of this machine.
    pub(super) fn trainer(&self, arguments: &str) -> Command {
        let mut command = Command::new(&self.trainer);
        command.args(arguments.split_whitespace()).current_dir(&self.folder);
        command.env_remove("SPHEREFACE_DATA").env("XDG_CACHE_HOME", self.folder.join("cache"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub(super) fn output(&self, arguments: &str) -> Result<Output, String> {
        self.trainer(arguments).output().map_err(|error| format!("cannot start the trainer: {error}"))
    }

    /// Runs the program, which must succeed.
    pub(super) fn succeed(&self, arguments: &str) -> Result<(), String> {
        let output = self.output(arguments)?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("trainer {arguments}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// Runs the program, which must fail with code 1 and one line, and returns the line.
    pub(super) fn fail(&self, arguments: &str) -> Result<String, String> {
        one_line(arguments, &self.output(arguments)?)
    }
}

/// The one line of a program that failed with code 1.
pub(super) fn one_line(arguments: &str, output: &Output) -> Result<String, String> {
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    match (output.status.code(), &lines[..]) {
        (Some(1), [line]) if !said.contains("panicked") => Ok((*line).to_owned()),
        _ => Err(format!("trainer {arguments}: expected one line and code 1, found {}: {said}", output.status)),
    }
}

/// Images of 28×28 with a bright row for each label, and their labels, as IDX files.
fn small_set(count: u32) -> [Vec<u8>; 2] {
    let mut images = vec![0, 0, 8, 3];
    [count, 28, 28].iter().for_each(|size| images.extend(size.to_be_bytes()));
    let mut labels = vec![0, 0, 8, 1];
    labels.extend(count.to_be_bytes());
    for image in 0..count {
        let label = image % 10;
        images.extend((0..28 * 28).map(|at| if at / 56 == label { 255 } else { (image * 31 + at * 17) as u8 / 3 }));
        labels.push(label as u8);
    }
    [images, labels]
}

/// The lines of a log without the seconds, which no two runs share. A last line may be cut off if `cut` says so.
pub(super) fn metrics(run: &Path, cut: bool) -> Result<Vec<Value>, String> {
    let path = run.join("metrics.jsonl");
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    let count = text.lines().count();
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        match serde_json::from_str::<Value>(line) {
            Ok(mut line) => {
                if let Some(fields) = line.as_object_mut() {
                    fields.remove("seconds");
                }
                lines.push(line);
            }
            Err(_) if cut && index + 1 == count => {}
            Err(error) => return Err(format!("{}: line {}: {error}", path.display(), index + 1)),
        }
    }
    Ok(lines)
}
