//! A bench that is stopped keeps what it has measured, and leaves nothing else.

#![cfg(unix)]

use sphereface_benches::interrupt::EXIT_CODE;
use sphereface_benches::record::Run;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

#[test]
fn a_stopped_run_keeps_what_it_has_and_leaves_no_temporary_folder() {
    let scratch = std::env::temp_dir().join(format!("bench-interrupt-{}", std::process::id()));
    let (temporary, out) = (scratch.join("temporary"), scratch.join("run"));
    fs::create_dir_all(&temporary).unwrap();
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["--peers", "none", "--threads", "1", "--only", "gemm NN 512,conv2d_forward", "--out"])
        .arg(&out)
        .env("TMPDIR", &temporary)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(bench.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut lines = lines.skip_while(|line| !line.starts_with("gemm NN 512"));
    assert!(lines.next().is_some());
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 1);
    let kill = Command::new("kill").args(["-TERM", &bench.id().to_string()]).status().unwrap();
    assert!(kill.success());
    lines.for_each(drop);
    assert_eq!(bench.wait().unwrap().code(), Some(i32::from(EXIT_CODE)));
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
    let run = Run::read(&out).unwrap();
    assert!(run.cases[0].ours.is_some());
    let last = run.cases.last().unwrap();
    assert_eq!((last.ours, last.skipped.as_deref()), (None, Some("the run was stopped before")));
    fs::remove_dir_all(&scratch).unwrap();
}

#[test]
fn a_run_without_time_measures_nothing_and_says_so() {
    let bench = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["--peers", "none", "--threads", "1", "--only", "gemm NN 512", "--within", "0", "--out"])
        .arg(std::env::temp_dir().join("no-such-run"))
        .output()
        .unwrap();
    assert!(!bench.status.success());
    let said = String::from_utf8(bench.stderr).unwrap();
    assert!(said.contains("nothing was measured: no time was left"), "{said}");
}
