//! The doctor says of recorded logs of real runs what happened in each, and what to change.
//!
//! The logs were left by `trainer train` on the tests' small set (`shrunk`: on the digits inside the program) with the
//! settings that stand beside them here.

mod common;

use common::{fail, folder, folder_with_small_set, run, succeed, trainer};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

/// Each log, what the doctor must say of it, and what it must advise.
const LOGS: [(&str, &str, &str); 10] = [
    // The authors' schedules and rate without clipping, --guard off.
    ("not_finite", "The loss became NaN in step 4, after a loss of 4.21e7", "training.rate, or optimizer.clip"),
    // A rate that rises to 0.4 without clipping, --guard warn.
    ("exploded", "gradient's norm became NaN in step 88, after a loss of 488", "training.rate, or optimizer.clip"),
    // A rate of 0.
    ("stuck", "Nothing is being learned: from step 21 to 120 the accuracy was 0.106", "training.rate"),
    // A weight decay of 1.
    ("at_ln_classes", "Nothing is being learned: from step 151", "training.warm_up"),
    // A weight decay of 0.2 at a rate that rises to 0.4, --guard warn.
    ("collapsed", "All classes collapsed into one, after an accuracy of 0.351", "training.rate"),
    // m = 4 without annealing.
    ("shrunk", "The network escapes the margin by short embeddings, of a mean length of 0.593", "training.lambda"),
    // Training images of class 3 are called 4.
    ("missing", "Class 3 got lost", "training images"),
    // Killed.
    ("interrupted", "interrupted at step", "trainer train --resume"),
    // The authors' schedules again, with the guard.
    ("recovered", "sent the training back 2 times, at first because the loss became NaN", "0.0625 of training.rate"),
    ("healthy", "The training ended well: test accuracy 1.0000 after 120 steps", "Nothing to change"),
];

fn log(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/logs").join(name)
}

#[test]
fn every_log_gets_its_sentence() {
    let folder = folder("doctor");
    for (name, happened, advice) in LOGS {
        let said = succeed(&folder, &format!("doctor {}", log(name).display()));
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines.len() == 2 && lines[0].contains(happened) && lines[1].contains(advice), "{name}: {said}");
        let others = LOGS.iter().filter(|(other, ..)| *other != name);
        assert!(others.clone().all(|(_, other, _)| !lines[0].contains(other)), "{name}: {said}");
    }
}

#[test]
fn a_clamped_loss_and_lost_numbers_are_recognised_in_logs_of_other_programs() {
    let folder = folder("doctor-others");
    let step = |step: usize, loss: &str| {
        format!(
            "{{\"kind\":\"step\",\"step\":{step},\"epoch\":0.1,\"loss\":{loss},\"accuracy\":0.25,\"accuracy_penalised\":0.25,\
             \"rate\":0.1,\"lambda\":5,\"gradient_norm\":1,\"feature_norm\":30,\"seconds\":1}}\n"
        )
    };
    let clamped: String = (1..=80).map(|at| step(at, if at < 30 { "3.1" } else { "87.3365" })).collect();
    let lost: String = (1..=80).map(|at| step(at, if at < 70 { "2.1" } else { "null" })).collect();
    for (text, words) in [(clamped, "not moved from 87.3365 = −ln(smallest fp32 number"), (lost, "loss became NaN")] {
        fs::write(folder.join("metrics.jsonl"), text).unwrap();
        let said = succeed(&folder, "doctor .");
        assert!(said.contains(words), "{said}");
    }
    fs::write(folder.join("metrics.jsonl"), "{\"kind\":\"step\"}\n{}\n").unwrap();
    assert!(fail(&folder, "doctor .").contains("metrics.jsonl: line 1"));
    assert!(fail(&folder, "doctor nowhere").contains("nowhere"));
}

#[test]
fn a_training_that_was_too_short_is_told_apart_from_one_that_lost_classes() {
    let folder = folder("doctor-brief");
    assert!(fail(&folder, "doctor .").contains("expected the folder of a run, found no metrics.jsonl in it"));
    fs::copy(log("missing").join("metrics.jsonl"), folder.join("metrics.jsonl")).unwrap();
    let summary = fs::read_to_string(log("missing").join("summary.json")).unwrap();
    fs::write(folder.join("summary.json"), summary.replace("\"epochs\": 4.8", "\"epochs\": 0.4")).unwrap();
    let said = succeed(&folder, "doctor .");
    assert!(
        said.contains("before it had seen every image once: test accuracy 0.9000") && !said.contains("lost"),
        "{said}"
    );
    assert!(said.contains("--epochs"), "{said}");
}

#[test]
fn an_interrupted_comparison_is_examined_training_by_training() {
    let folder = folder_with_small_set("doctor-compare");
    let compare = "compare --data-dir set --losses softmax,modified --dims 2 --batch 16 --steps 500 --quiet --out run";
    let mut child = trainer(&folder, compare).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let log = folder.join("run/softmax-2d/metrics.jsonl");
    while fs::read_to_string(&log).map_or(0, |text| text.lines().count()) < 30 {
        sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let output = run(&folder, "doctor run");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("softmax-2d: The run was interrupted at step"), "{said}");
    assert!(said.contains("trainer compare --resume run"), "{said}");
}
