//! What a finished training leaves for other tools, read by those tools.

mod common;

use common::{fail, folder_with_small_set, succeed, summary, temporary};
use sphereface_testkit::{PYTHON, has_python, run_script};
use std::fs;

const FILES: [&str; 11] = [
    "model.onnx",
    "model.safetensors",
    "embeddings.npy",
    "embeddings.labels.npy",
    "embeddings.csv",
    "curves.csv",
    "tensorboard/events.out.tfevents.sphereface",
    "tensorboard/projector_config.pbtxt",
    "tensorboard/tensors.tsv",
    "tensorboard/metadata.tsv",
    "tensorboard/sprite.png",
];
const TRAINING: &str = "train --data-dir set --loss sphereface --dim 3 --batch 32 --epochs 2 --quiet";

#[test]
fn tensorboard_and_numpy_read_the_values_of_the_log() {
    let folder = folder_with_small_set("exports-read");
    succeed(&folder, &format!("{TRAINING} --out run"));
    if has_python(PYTHON) {
        let said = run_script(PYTHON, "check_run.py", &[&folder.join("run").to_string_lossy()]);
        assert_eq!(said.trim(), "25 steps, 90 embeddings");
    }
}

#[test]
fn every_training_leaves_the_same_files_for_the_same_seed() {
    let folder = folder_with_small_set("exports-same");
    for run in ["first", "second"] {
        succeed(
            &folder,
            &format!("compare --data-dir set --losses softmax,sphereface --dims 2 --steps 3 --out {run} --quiet"),
        );
    }
    for training in ["softmax-2d", "sphereface-2d"] {
        for file in FILES {
            let read = |run: &str| fs::read(folder.join(run).join(training).join(file)).unwrap();
            // Seconds are no two runs' the same.
            let timed = file.contains("tfevents") || file == "curves.csv";
            assert!(timed || read("first") == read("second"), "{training}/{file}");
        }
    }
    // Nothing is left of the temporary files.
    for place in ["first/softmax-2d", "first/softmax-2d/tensorboard"] {
        assert_eq!(temporary(&folder.join(place)), [""; 0]);
    }
}

#[test]
fn embed_writes_what_the_training_left_wherever_the_folder_is_moved() {
    let folder = folder_with_small_set("exports-moved");
    succeed(&folder, &format!("{TRAINING} --out run"));
    fs::create_dir_all(folder.join("elsewhere/deeper")).unwrap();
    fs::rename(folder.join("run"), folder.join("elsewhere/moved")).unwrap();
    let moved = folder.join("elsewhere/moved");
    let accuracy = summary(&moved)["runs"][0]["test_accuracy"].as_f64().unwrap();
    let deeper = folder.join("elsewhere/deeper");
    let said = succeed(&deeper, "eval ../moved");
    assert!(said.contains(&format!("{accuracy:.4}")), "{said}");
    for (argument, file) in [("points.csv", "embeddings.csv"), ("points.npy", "embeddings.npy")] {
        succeed(&deeper, &format!("embed ../moved --out {argument}"));
        assert!(fs::read(deeper.join(argument)).unwrap() == fs::read(moved.join(file)).unwrap(), "{file}");
    }
    let labels = fs::read(deeper.join("points.labels.npy")).unwrap();
    assert!(labels == fs::read(moved.join("embeddings.labels.npy")).unwrap());
}

#[test]
fn the_model_and_its_configuration_are_enough_to_use_it() {
    let folder = folder_with_small_set("exports-alone");
    succeed(&folder, &format!("{TRAINING} --out run"));
    fs::create_dir(folder.join("alone")).unwrap();
    for file in ["config.toml", "model.safetensors"] {
        fs::copy(folder.join("run").join(file), folder.join("alone").join(file)).unwrap();
    }
    assert_eq!(succeed(&folder, "eval alone"), succeed(&folder, "eval run"));
    succeed(&folder, "embed alone --out points.npy");
    assert!(fs::read(folder.join("points.npy")).unwrap() == fs::read(folder.join("run/embeddings.npy")).unwrap());
    let model = fs::read(folder.join("alone/model.safetensors")).unwrap();
    fs::write(folder.join("alone/model.safetensors"), &model[..model.len() / 2]).unwrap();
    let line = fail(&folder, "eval alone");
    assert!(line.contains("model.safetensors") && line.contains("expected"), "{line}");
}

#[test]
fn what_cannot_be_written_ends_in_one_line_and_can_be_made_up_for() {
    let folder = folder_with_small_set("exports-blocked");
    succeed(&folder, &format!("{TRAINING} --out run"));
    let run = folder.join("run");
    // A folder of that name: no file can take its place, even for root.
    fs::remove_file(run.join("model.onnx")).unwrap();
    fs::create_dir(run.join("model.onnx")).unwrap();
    let line = fail(&folder, "train --resume run --quiet");
    assert!(line.contains("model.onnx") && line.contains("cannot be written"), "{line}");
    assert_eq!(temporary(&run), [""; 0]);
    fs::remove_dir(run.join("model.onnx")).unwrap();
    succeed(&folder, "train --resume run --quiet");
    assert!(fs::metadata(run.join("model.onnx")).unwrap().len() > 100_000);
}
