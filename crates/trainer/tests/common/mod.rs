//! Runs the program as a person would, on the digits inside it, in a folder of the test's own.

#![allow(dead_code, unreachable_pub)] // Each test file is a crate of its own and uses some of these.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A new folder for one test.
pub fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// A new folder for one test, with 400 training and 90 test images of its own in `set`: runs on them are short.
pub fn folder_with_small_set(name: &str) -> PathBuf {
    let folder = folder(name);
    fs::create_dir(folder.join("set")).unwrap();
    for (prefix, count) in [("train", 400_u32), ("t10k", 90)] {
        let mut images = [0, 0, 8, 3].to_vec();
        [count, 28, 28].iter().for_each(|size| images.extend(size.to_be_bytes()));
        let mut labels = [0, 0, 8, 1].to_vec();
        labels.extend(count.to_be_bytes());
        for image in 0..count {
            // A bright row for each label, and dots that differ between images.
            let label = image % 10;
            let pixel = |at: u32| if at / 56 == label { 255 } else { (image * 31 + at * 17) as u8 / 3 };
            images.extend((0..28 * 28).map(pixel));
            labels.push(label as u8);
        }
        fs::write(folder.join(format!("set/{prefix}-images-idx3-ubyte")), images).unwrap();
        fs::write(folder.join(format!("set/{prefix}-labels-idx1-ubyte")), labels).unwrap();
    }
    folder
}

/// Names of what is in a folder, in order.
pub fn file_names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// What writing a file left in a folder: hidden, as nothing else is but the lock.
pub fn temporary(folder: &Path) -> Vec<String> {
    file_names(folder).into_iter().filter(|name| name.starts_with('.') && name != ".lock").collect()
}

/// The program, away from any data set or cache of this machine.
pub fn trainer(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainer"));
    command.args(arguments.split_whitespace()).current_dir(folder);
    command.env_remove("SPHEREFACE_DATA").env("XDG_CACHE_HOME", folder.join("cache")).env("HOME", folder);
    command
}

/// Runs the program to its end.
pub fn run(folder: &Path, arguments: &str) -> Output {
    trainer(folder, arguments).output().unwrap()
}

/// Runs the program, which must succeed, and returns what it printed.
pub fn succeed(folder: &Path, arguments: &str) -> String {
    let output = run(folder, arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "trainer {arguments}: {:?}\n{errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the program, which must fail with code 1 and one line, and returns the line.
pub fn fail(folder: &Path, arguments: &str) -> String {
    let output = run(folder, arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "trainer {arguments}: {errors}");
    let lines: Vec<&str> = errors.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(
        lines.len() == 1 && !errors.contains("panicked"),
        "trainer {arguments}: expected one line, found:\n{errors}"
    );
    lines[0].to_owned()
}

/// `summary.json` of a run.
pub fn summary(run: &Path) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(run.join("summary.json")).unwrap()).unwrap()
}

/// The lines of `metrics.jsonl` without the seconds, which no two runs share.
pub fn metrics(run: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let mut lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.iter_mut().for_each(|line| drop(line.as_object_mut().unwrap().remove("seconds")));
    lines
}
