//! A library or a GPU that is not there is one line with the reason, and no failure.

use std::process::{Command, Stdio};

/// What a peer says when it looks for a GPU that no machine has.
fn first_words(peer: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peers"));
    let output = command.args([peer, "9999"]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_is_missing_is_one_line_with_what_was_searched() {
    for (peer, library) in [("cudnn", "cuDNN"), ("cublaslt", "cuBLASLt")] {
        let said = first_words(peer);
        assert_eq!(said.lines().count(), 1, "{said}");
        let answer: serde_json::Value = serde_json::from_str(&said).unwrap();
        let reason = answer["missing"].as_str().unwrap();
        let names_driver = reason.contains("NVIDIA's driver (searched: ");
        let names_library = reason.contains(&format!("{library} (searched: "));
        assert!(
            names_driver || names_library || reason.contains("cuda:9999") || reason.contains("cuDeviceGetCount"),
            "{reason}"
        );
    }
}

#[test]
fn a_number_that_is_none_is_missing_with_what_was_found() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peers"));
    let output = command.args(["cudnn", "first"]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("missing") && said.contains("'first'"), "{said}");
}
