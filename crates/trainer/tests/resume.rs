//! A training that was stopped anywhere goes on bit for bit as if it never had been.

mod common;

use common::{folder_with_small_set, metrics, run, succeed, summary, trainer};
use safetensors::SafeTensors;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

const TRAINING: &str = "train --data-dir set --batch 16 --steps 90 --threads 1 --quiet";

fn assert_same_run(uninterrupted: &Path, resumed: &Path) {
    for file in ["checkpoint.safetensors", "film.safetensors"] {
        let of = |run: &Path| fs::read(run.join(file)).unwrap();
        assert!(of(uninterrupted) == of(resumed), "{file} differs");
    }
    assert_eq!(metrics(uninterrupted), metrics(resumed));
    let accuracy = |run: &Path| summary(run)["runs"][0]["test_accuracy"].clone();
    assert_eq!(accuracy(uninterrupted), accuracy(resumed));
}

/// The moments of a run's film.
fn film_steps(run: &Path) -> Vec<u32> {
    let file = fs::read(run.join("film.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let steps = tensors.tensor("steps").unwrap();
    assert_eq!(tensors.tensor("points").unwrap().shape(), [steps.shape()[0], 90, 2]);
    assert_eq!(tensors.tensor("class_weights").unwrap().shape(), [steps.shape()[0], 10, 2]);
    steps.data().chunks(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

#[test]
fn training_killed_at_random_moments_resumes_bit_for_bit() {
    let folder = folder_with_small_set("killed");
    succeed(&folder, &format!("{TRAINING} --out whole"));
    // A fixed sequence of delays that looks random: the moments differ from machine to machine anyway.
    let mut delay = 7_u64;
    let mut kills = 0;
    let mut started = false;
    for attempt in 0..=60 {
        let arguments =
            if started { "train --resume killed --quiet".to_owned() } else { format!("{TRAINING} --out killed") };
        let mut child = trainer(&folder, &arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        delay = (delay * 1_103_515_245 + 12_345) % 4096;
        // Later attempts get more time, so that slow machines end too.
        sleep(Duration::from_millis(20 + delay / 8 + 40 * kills));
        // The last attempt is left alone: a machine that is busy with other things ends too.
        if attempt < 60 && child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            kills += 1;
        }
        child.wait().unwrap();
        started = folder.join("killed/checkpoint.safetensors").is_file();
        if !started {
            let _ = fs::remove_dir_all(folder.join("killed"));
        }
        if folder.join("killed/summary.json").is_file() {
            break;
        }
    }
    assert!(kills >= 2, "killed {kills} times");
    assert_same_run(&folder.join("whole"), &folder.join("killed"));
}

#[test]
fn frames_beyond_the_checkpoint_are_recorded_again() {
    let folder = folder_with_small_set("beyond");
    succeed(&folder, &format!("{TRAINING} --out whole"));
    let at = |file: &str| folder.join("run").join(file);
    succeed(&folder, &format!("{TRAINING} --out run"));
    let finished = fs::read(at("film.safetensors")).unwrap();
    let expected = [0, 7, 13, 19, 25, 32, 38, 44, 50, 57, 63, 69, 75, 82, 88, 90];
    assert_eq!(film_steps(&folder.join("run")), expected);
    // A process that died between its last film and its last checkpoint: the film is ahead.
    fs::remove_dir_all(folder.join("run")).unwrap();
    let mut child = trainer(&folder, &format!("{TRAINING} --out run")).stdout(Stdio::null()).spawn().unwrap();
    while !at("checkpoint.safetensors").is_file() {
        sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    succeed(&folder, "train --resume run --steps 40 --quiet");
    assert_eq!(film_steps(&folder.join("run")), expected[..7]);
    let mut ahead = finished.clone();
    let last = ahead.len() - 4;
    ahead[last..].copy_from_slice(&0.5_f32.to_le_bytes());
    fs::write(at("film.safetensors"), ahead).unwrap();
    succeed(&folder, "train --resume run --quiet");
    assert_same_run(&folder.join("whole"), &folder.join("run"));
}

#[test]
fn training_paused_at_a_step_resumes_bit_for_bit() {
    let folder = folder_with_small_set("paused");
    succeed(&folder, &format!("{TRAINING} --out whole"));
    // A new run that is planned for 90 steps but stopped early: its checkpoint after one step is resumed to step 33.
    let mut child = trainer(&folder, &format!("{TRAINING} --out paused")).stdout(Stdio::null()).spawn().unwrap();
    while !folder.join("paused/checkpoint.safetensors").is_file() {
        sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let said = succeed(&folder, "train --resume paused --steps 33 --quiet");
    assert!(said.contains("saved at step 33 of 90") && said.contains("--resume paused"), "{said}");
    succeed(&folder, "train --resume paused --quiet");
    assert_same_run(&folder.join("whole"), &folder.join("paused"));
}

#[test]
fn a_run_that_died_before_its_first_step_begins_again() {
    let folder = folder_with_small_set("unborn");
    succeed(&folder, &format!("{TRAINING} --out whole"));
    let mut child = trainer(&folder, &format!("{TRAINING} --out unborn")).stdout(Stdio::null()).spawn().unwrap();
    while !folder.join("unborn/config.toml").is_file() {
        sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // Whatever it had come to: only the configuration is left.
    for file in ["checkpoint.safetensors", "metrics.jsonl"] {
        let _ = fs::remove_file(folder.join("unborn").join(file));
    }
    succeed(&folder, "train --resume unborn --quiet");
    assert_same_run(&folder.join("whole"), &folder.join("unborn"));
}

#[test]
fn a_stretched_run_has_each_epoch_once() {
    let folder = folder_with_small_set("stretched");
    // 25 steps an epoch: 30 steps end within the second one.
    succeed(&folder, "train --data-dir set --batch 16 --steps 30 --threads 1 --quiet --out run");
    succeed(&folder, "train --resume run --steps 60 --quiet");
    let lines = metrics(&folder.join("run"));
    let epochs: Vec<u64> =
        lines.iter().filter(|line| line["kind"] == "epoch").map(|line| line["epoch"].as_u64().unwrap()).collect();
    assert_eq!(epochs, [1, 2, 3]);
    assert_eq!(lines.iter().filter(|line| line["kind"] == "step").count(), 60);
    assert_eq!(summary(&folder.join("run"))["runs"][0]["steps"], 60);
    // Quarters of 25 steps up to the 60th; the end of the shorter run is none of them.
    assert_eq!(film_steps(&folder.join("run")), [0, 7, 13, 19, 25, 32, 38, 44, 50, 57, 60]);
}

#[test]
fn threads_do_not_change_the_result() {
    let folder = folder_with_small_set("threads");
    for threads in [1, 2, 8] {
        succeed(
            &folder,
            &format!("train --data-dir set --batch 33 --steps 12 --quiet --threads {threads} --out t{threads}"),
        );
    }
    let checkpoint = |threads: usize| fs::read(folder.join(format!("t{threads}/checkpoint.safetensors"))).unwrap();
    assert!(checkpoint(1) == checkpoint(2) && checkpoint(1) == checkpoint(8));
}

#[cfg(unix)]
#[test]
fn interrupt_saves_and_says_how_to_go_on() {
    let folder = folder_with_small_set("interrupted");
    let child = trainer(&folder, "train --data-dir set --batch 16 --steps 100000 --threads 1 --out run")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while !folder.join("run/checkpoint.safetensors").is_file() {
        sleep(Duration::from_millis(5));
    }
    sleep(Duration::from_millis(300));
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("to continue: ") && said.contains("train --resume run"), "{said}");
    let steps = || metrics(&folder.join("run")).iter().filter(|line| line["kind"] == "step").count();
    let step = steps();
    let more = run(&folder, &format!("train --resume run --steps {} --quiet", step + 3));
    assert!(more.status.success(), "{}", String::from_utf8_lossy(&more.stderr));
    assert_eq!(steps(), step + 3);
}
