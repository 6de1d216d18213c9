//! Tests that cannot run here, and say so.

use std::io::Write;

/// File to which a test that cannot run appends a line: the test harness hides what a passing test prints.
pub const SKIPPED: &str = "SPHEREFACE_SKIPPED";

/// Says that this test was not run, and why, on the screen and in the file that `cargo xtask test` shows at its end.
///
/// # Panics
/// When the file cannot be written: a skip that nobody sees is no skip.
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    let line = format!("{}: {reason}\n", thread.name().unwrap_or("a test"));
    eprint!("skipped: {line}");
    if let Some(path) = std::env::var_os(SKIPPED) {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&path);
        // In one piece: other tests write, too.
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
