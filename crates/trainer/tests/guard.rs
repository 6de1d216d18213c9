//! A training that goes wrong goes back to its last good state, goes on more gently, and says so; one that goes well is
//! left alone.

mod common;

use common::{fail, folder_with_small_set, metrics, succeed, summary, trainer};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

/// The authors' schedules and rate, without clipping: on this set the numbers overflow within a few steps.
const OFFICIAL: &str = "[training]\nrate = 0.1\nrate_schedule = \"steps\"\nlambda_schedule = \"inverse\"\n\
                        [optimizer]\nrule = \"sgd\"\nclip = 0.0\n";
/// The pure margin from the first step: the network escapes it by short embeddings.
const COLD: &str = "[training]\nlambda = 0.0\n";
const TRAINING: &str = "train --data-dir set --batch 16 --steps 130 --threads 1 --quiet";

fn bytes(run: &Path, file: &str) -> Vec<u8> {
    fs::read(run.join(file)).unwrap()
}

fn events(run: &Path) -> Vec<serde_json::Value> {
    metrics(run).into_iter().filter(|line| line["kind"] == "guard").collect()
}

fn good_states(run: &Path) -> usize {
    let names = fs::read_dir(run).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("good-")).count()
}

#[test]
fn a_diverging_training_recovers_and_writes_it_down() {
    let folder = folder_with_small_set("recovers");
    fs::write(folder.join("official.toml"), OFFICIAL).unwrap();
    let train = format!("{TRAINING} --config official.toml --loss sphereface --dim 2");
    let line = fail(&folder, &format!("{train} --guard off --out off"));
    assert!(line.contains("finite") && line.contains("training.rate"), "{line}");
    succeed(&folder, &format!("{train} --out run"));
    let run = folder.join("run");
    let events = events(&run);
    assert!(!events.is_empty() && events.len() <= 5, "{events:?}");
    let first = &events[0];
    assert!(first["action"] == "recovered" && first["cause"] == "not_finite" && first["back_to"] == 0, "{first}");
    let found = summary(&run);
    let guard = found["runs"][0]["guard"].as_array().unwrap();
    assert_eq!(guard.len(), events.len());
    assert_eq!(guard[0]["sentence"], first["sentence"]);
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("id=\"guard\"") && page.contains("The training went back to step 0"));
    // Every step of the course that was taken in the end is there once, at the eased rate, and something was learned.
    let steps: Vec<_> = metrics(&run).into_iter().filter(|line| line["kind"] == "step").collect();
    assert_eq!(steps.len(), 130);
    let rate = 0.1 * 0.25_f64.powi(events.len() as i32);
    assert!((steps[0]["rate"].as_f64().unwrap() - rate).abs() < 1e-12, "{}", steps[0]);
    assert!(found["runs"][0]["train_accuracy"].as_f64().unwrap() > 0.25, "{found}");
    assert_eq!(good_states(&run), 0, "a finished training needs no states to go back to");
}

#[test]
fn a_training_that_goes_wrong_late_goes_back_to_a_later_state() {
    let folder = folder_with_small_set("late");
    // The rate rises until the numbers overflow, some 130 steps from the start.
    fs::write(folder.join("late.toml"), "[training]\nrate = 0.15\nwarm_up = 0.9\n[optimizer]\nclip = 0.0\n").unwrap();
    let train = "train --data-dir set --batch 16 --steps 300 --threads 1 --quiet --config late.toml";
    succeed(&folder, &format!("{train} --loss sphereface --dim 2 --out run"));
    let run = folder.join("run");
    let events = events(&run);
    let from = |event: &serde_json::Value| event["back_to"].as_u64().unwrap();
    assert!(events.iter().any(|event| from(event) > 0), "{events:?}");
    // Steps before the first state that it went back to are those of the plan, later ones those of the eased schedule.
    let first = events.iter().map(from).min().unwrap();
    let rate = |step: u64| {
        let lines = metrics(&run);
        let line = lines.iter().find(|line| line["kind"] == "step" && line["step"] == step).unwrap();
        line["rate"].as_f64().unwrap()
    };
    let planned = |step: u64| 0.15 * step as f64 / 270.0;
    assert!((rate(first) - planned(first)).abs() < 1e-9 && rate(first + 1) < 0.3 * planned(first + 1));
}

#[test]
fn a_network_that_escapes_the_margin_gets_a_gentler_one() {
    let folder = folder_with_small_set("escapes");
    fs::write(folder.join("cold.toml"), COLD).unwrap();
    let train = format!("{TRAINING} --config cold.toml --loss sphereface --dim 2").replace("130", "200");
    succeed(&folder, &format!("{train} --out recover"));
    let recovered = events(&folder.join("recover"));
    assert!(recovered[0]["cause"] == "shrunk" && recovered[0]["lambda"] == 20.0, "{recovered:?}");
    // A guard that warns says the same and changes nothing.
    let said = trainer(&folder, &format!("{train} --guard warn --out warn").replace(" --quiet", "")).output().unwrap();
    let said = String::from_utf8(said.stderr).unwrap();
    succeed(&folder, &format!("{train} --guard off --out off"));
    let warned = events(&folder.join("warn"));
    assert!(warned.len() == 1 && warned[0]["action"] == "warned", "{warned:?}");
    assert_eq!(warned[0]["sentence"], recovered[0]["sentence"]);
    assert!(said.contains(warned[0]["sentence"].as_str().unwrap()), "{said}");
    let [warn, off] = ["warn", "off"].map(|run| bytes(&folder.join(run), "checkpoint.safetensors"));
    assert!(warn == off);
    let accuracy = |run: &str| summary(&folder.join(run))["runs"][0]["train_accuracy"].as_f64().unwrap();
    assert!(accuracy("recover") > accuracy("off"), "{} after {}", accuracy("recover"), accuracy("off"));
}

#[test]
fn the_deepest_network_begins_to_learn_with_the_stock_recipe() {
    let folder = folder_with_small_set("deep");
    let train = "train --data-dir set --model sphereface64 --batch 8 --steps 48 --evaluate 64 --quiet";
    succeed(&folder, &format!("{train} --loss sphereface --dim 2 --out run"));
    let found = summary(&folder.join("run"));
    let training = &found["runs"][0];
    assert_eq!(training["guard"].as_array().unwrap().len(), 0, "{training}");
    assert!(training["train_accuracy"].as_f64().unwrap() > 0.3, "{training}");
}

#[test]
fn a_healthy_training_is_the_same_under_every_guard() {
    let folder = folder_with_small_set("healthy");
    for mode in ["off", "warn", "recover"] {
        succeed(&folder, &format!("{TRAINING} --guard {mode} --out {mode}"));
    }
    let off = folder.join("off");
    for mode in ["warn", "recover"] {
        let run = folder.join(mode);
        for file in ["checkpoint.safetensors", "film.safetensors", "model.onnx"] {
            assert!(bytes(&off, file) == bytes(&run, file), "{mode}: {file}");
        }
        assert_eq!(metrics(&off), metrics(&run));
    }
    assert_eq!(summary(&folder.join("recover"))["runs"][0]["guard"].as_array().unwrap().len(), 0);
}

#[test]
fn a_recovered_training_that_was_killed_resumes_bit_for_bit() {
    let folder = folder_with_small_set("killed-guard");
    fs::write(folder.join("official.toml"), OFFICIAL).unwrap();
    let train = format!("{TRAINING} --config official.toml --loss sphereface --dim 2");
    succeed(&folder, &format!("{train} --out whole"));
    let killed = folder.join("killed");
    let (mut delay, mut kills) = (11_u64, 0);
    for attempt in 0..=20 {
        let started = killed.join("checkpoint.safetensors").is_file();
        let arguments =
            if started { "train --resume killed --quiet".to_owned() } else { format!("{train} --out killed") };
        if !started {
            let _ = fs::remove_dir_all(&killed);
        }
        let mut child = trainer(&folder, &arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        delay = (delay * 1_103_515_245 + 12_345) % 4096;
        sleep(Duration::from_millis(20 + delay / 8 + 40 * kills));
        if attempt < 20 && child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            kills += 1;
        }
        child.wait().unwrap();
        if killed.join("summary.json").is_file() {
            break;
        }
    }
    assert!(kills >= 2, "killed {kills} times");
    let whole = folder.join("whole");
    assert!(!events(&whole).is_empty());
    for file in ["checkpoint.safetensors", "film.safetensors"] {
        assert!(bytes(&whole, file) == bytes(&killed, file), "{file} differs");
    }
    assert_eq!(metrics(&whole), metrics(&killed));
    assert_eq!(summary(&whole)["runs"][0]["guard"], summary(&killed)["runs"][0]["guard"]);
}

#[test]
fn recoveries_are_bounded_and_the_last_good_state_is_kept() {
    let folder = folder_with_small_set("bounded");
    let hopeless = "[training]\nrate = 1000.0\nwarm_up = 0.0\nrate_schedule = \"steps\"\n\
                    [optimizer]\nrule = \"sgd\"\nclip = 0.0\nweight_decay = 1000.0\n";
    fs::write(folder.join("hopeless.toml"), hopeless).unwrap();
    let train = format!("{TRAINING} --config hopeless.toml --loss softmax --dim 2 --out run");
    let line = fail(&folder, &train);
    assert!(line.contains("after 5 recoveries") && line.contains("training.rate"), "{line}");
    let run = folder.join("run");
    let events = events(&run);
    let actions: Vec<&str> = events.iter().map(|event| event["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["recovered", "recovered", "recovered", "recovered", "recovered", "stopped"]);
    assert!(!run.join("summary.json").exists());
    succeed(&folder, "eval run");
    assert_eq!(fail(&folder, "train --resume run --quiet"), line, "it ends the same way again");
}

#[test]
fn a_comparison_goes_on_when_one_of_its_trainings_is_stopped() {
    let folder = folder_with_small_set("one-stopped");
    fs::write(folder.join("official.toml"), OFFICIAL).unwrap();
    // Without a guard the softmax overflows; cosines times a constant do not.
    let compare = format!("{} --config official.toml --guard off", TRAINING.replacen("train", "compare", 1));
    let line = fail(&folder, &format!("{compare} --losses softmax,normface --dims 2 --out run"));
    assert!(line.contains("1 of 2 trainings: [1/2] softmax-2d: step "), "{line}");
    let run = folder.join("run");
    let summary = summary(&run);
    let losses: Vec<_> = summary["runs"].as_array().unwrap().iter().map(|run| run["loss"].as_str()).collect();
    assert_eq!(losses, [Some("normface")]);
    assert!(run.join("report.html").is_file());
    succeed(&folder, "report run --out again");
}
