//! Bad input of every kind ends in one clear line and a non-zero exit code, and leaves no file.

mod common;

use common::{fail, folder, folder_with_small_set, run, succeed};
use std::fs;

#[test]
fn wrong_settings_name_field_expected_and_found() {
    let folder = folder("settings");
    for (arguments, words) in [
        ("train --loss spherefce", vec!["model.losses", "sphereface", "spherefce"]),
        ("train --model mnits", vec!["model.network", "mnist", "mnits"]),
        ("train --dim 0", vec!["model.dims", "0"]),
        ("train --m 7", vec!["model.m", "1 to 4", "7"]),
        ("train --epochs 0", vec!["training.epochs", "0"]),
        ("train --batch 0", vec!["training.batch", "0"]),
        ("train --rate nan", vec!["training.rate", "NaN"]),
        ("train --device cuda:99 --data mnist-10k", vec!["cuda", "cpu"]),
        ("train --device gpu --data mnist-10k", vec!["backend.device", "gpu"]),
        ("train --precision tf32 --data mnist-10k", vec!["tf32", "fp32"]),
        ("train --precision half", vec!["backend.precision", "half"]),
        ("train --data mnits", vec!["mnits", "mnist-10k"]),
        ("train --data-dir nowhere", vec!["nowhere"]),
        ("train --config nowhere.toml", vec!["nowhere.toml"]),
        ("train --resume nowhere", vec!["nowhere", "config.toml"]),
        ("compare --losses softmax,softmax", vec!["twice"]),
        ("plan --input 112x96", vec!["--input", "112x96"]),
        ("plan --model nothing", vec!["--model", "nothing"]),
        ("train --logits none", vec!["model.logits", "recompute", "kept", "none"]),
        ("train --logits kept --data mnist-10k", vec!["model.logits", "more than 32 classes", "10"]),
        ("plan --machine nothing", vec!["--machine", "h100", "this", "nothing"]),
        ("plan --machine h100 --precision fp64", vec!["--precision", "fp32", "fp64"]),
        ("plan --machine this --precision tf32", vec!["tf32", "fp32"]),
        ("plan --logits none", vec!["--logits", "recompute", "none"]),
        ("plan --logits kept --classes 32", vec!["logits", "more than 32 classes", "32"]),
    ] {
        let line = fail(&folder, arguments);
        assert!(words.iter().all(|word| line.contains(word)), "trainer {arguments}: {line}");
    }
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn wrong_usage_exits_with_2() {
    let folder = folder("usage");
    for arguments in ["train --epochs three", "trian", "train --epochs 1 --steps 2", "embed", "--nonsense"] {
        let output = run(&folder, arguments);
        assert_eq!(output.status.code(), Some(2), "trainer {arguments}");
    }
}

#[test]
fn config_files_with_mistakes_are_refused() {
    let folder = folder("config");
    for (text, words) in [
        ("[training]\nepocs = 1\n", vec!["config.toml", "training.epocs", "training.epochs"]),
        ("[training]\nepochs = \"one\"\n", vec!["config.toml", "epochs"]),
        ("[[[", vec!["config.toml"]),
        ("[model]\nlosses = []\n", vec!["model.losses"]),
    ] {
        fs::write(folder.join("config.toml"), text).unwrap();
        let line = fail(&folder, "train --data mnist-10k --config config.toml");
        assert!(words.iter().all(|word| line.contains(word)), "{text}: {line}");
    }
}

#[test]
fn a_folder_with_files_in_it_is_not_written_to() {
    let folder = folder("occupied");
    fs::create_dir(folder.join("run")).unwrap();
    fs::write(folder.join("run/precious"), "text").unwrap();
    let line = fail(&folder, "train --data mnist-10k --steps 1 --out run");
    assert!(line.contains("run") && line.contains("--resume"), "{line}");
    assert_eq!(fs::read_dir(folder.join("run")).unwrap().count(), 1);
}

#[test]
fn damaged_checkpoints_are_refused() {
    let folder = folder("damaged");
    succeed(&folder, "train --data mnist-10k --steps 2 --batch 8 --out run --quiet");
    let path = folder.join("run/checkpoint.safetensors");
    let whole = fs::read(&path).unwrap();
    let mut other_dim = whole.clone();
    let at = other_dim.windows(8).position(|w| w == b"[2,2,128").unwrap();
    other_dim[at + 1] = b'1';
    for (name, contents) in [
        ("empty", vec![]),
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("garbage", vec![7; 1000]),
        ("shape", other_dim),
    ] {
        fs::write(&path, &contents).unwrap();
        for command in ["eval run", "train --resume run", "embed run --out e.csv"] {
            let line = fail(&folder, command);
            assert!(line.contains("checkpoint.safetensors"), "{name}: {command}: {line}");
        }
    }
    assert!(!folder.join("e.csv").exists());
    fs::write(&path, &whole).unwrap();
    let config = folder.join("run/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("dims = [2]", "dims = [5]")).unwrap();
    let line = fail(&folder, "eval run --data mnist-10k");
    assert!(line.contains("embedding.weight") && line.contains("expected"), "{line}");
}

#[test]
fn damaged_films_are_refused() {
    let folder = folder_with_small_set("film");
    succeed(&folder, "train --data-dir set --steps 12 --batch 40 --out run --quiet");
    let path = folder.join("run/film.safetensors");
    let whole = fs::read(&path).unwrap();
    let edited = |from: &str, to: &str| {
        let mut file = whole.clone();
        let at = file.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        file[at..at + from.len()].copy_from_slice(to.as_bytes());
        file
    };
    let mut not_finite = whole.clone();
    let length = not_finite.len();
    not_finite[length / 2..][..8].fill(0xff); // among the points, by far the largest tensor
    for (contents, word) in [
        (vec![], "damaged"),
        (whole[..length / 2].to_vec(), "damaged"),
        (edited("film 1", "film 9"), "format"),
        (edited("\"epochs\"", "\"epocha\""), "epochs"),
        (edited("\"F64\"", "\"I64\""), "F64"),
        (not_finite, "finite"),
    ] {
        fs::write(&path, &contents).unwrap();
        let line = fail(&folder, "train --resume run");
        assert!(line.contains("film.safetensors") && line.contains("expected") && line.contains(word), "{line}");
    }
    // The training needs no film: without one it goes on.
    fs::remove_file(&path).unwrap();
    succeed(&folder, "train --resume run --quiet");
}

#[test]
fn a_run_folder_with_missing_or_damaged_parts_is_refused() {
    let folder = folder_with_small_set("parts");
    succeed(&folder, "train --data-dir set --steps 12 --batch 40 --out run --quiet");
    let (config, log) = (folder.join("run/config.toml"), folder.join("run/metrics.jsonl"));
    let (config_text, log_text) = (fs::read_to_string(&config).unwrap(), fs::read_to_string(&log).unwrap());
    for (path, whole, damaged, words) in [
        (&config, &config_text, String::new(), vec!["config.toml", "augmentation"]),
        (
            &config,
            &config_text,
            config_text[..config_text.find("[optimizer]").unwrap()].into(),
            vec!["config.toml", "expected the key"],
        ),
        (&log, &log_text, log_text.replacen("gradient_norm", "gradientnorm", 1), vec!["metrics.jsonl", "line 1"]),
        (&log, &log_text, log_text.lines().next().unwrap().into(), vec!["metrics.jsonl", "12", "found 1"]),
    ] {
        fs::write(path, damaged).unwrap();
        let line = fail(&folder, "train --resume run");
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
        fs::write(path, whole).unwrap();
    }
    succeed(&folder, "train --resume run --quiet");
}

#[test]
fn a_run_goes_on_with_its_own_data_and_settings_only() {
    let folder = folder_with_small_set("own");
    succeed(&folder, "train --data-dir set --steps 3 --batch 8 --out run --quiet");
    let labels = folder.join("set/train-labels-idx1-ubyte");
    let mut changed = fs::read(&labels).unwrap();
    changed[8] = 9;
    fs::write(&labels, changed).unwrap();
    for command in ["train --resume run", "eval run"] {
        let line = fail(&folder, command);
        assert!(line.contains("SHA-256") && line.contains("--data-dir"), "{line}");
    }
    succeed(&folder, "eval run --data-dir set");
    assert!(fail(&folder, "train --resume run --data mnist-10k").contains("--resume"));
    for setting in ["--m 2", "--rate 0.9", "--device cuda", "--batch 7", "--model sphereface20", "--seed 3"] {
        assert_eq!(run(&folder, &format!("train --resume run {setting}")).status.code(), Some(2), "{setting}");
    }
}

#[test]
fn two_processes_cannot_work_on_one_run() {
    let folder = folder_with_small_set("locked");
    succeed(&folder, "train --data-dir set --steps 3 --batch 8 --out run --quiet");
    let lock = fs::File::open(folder.join("run/.lock")).unwrap();
    lock.lock().unwrap();
    assert!(fail(&folder, "train --resume run").contains("another process"));
    drop(lock);
    succeed(&folder, "train --resume run --quiet");
}

#[test]
fn a_training_that_diverges_keeps_its_last_good_checkpoint() {
    let folder = folder_with_small_set("diverging");
    let settings = "[training]\nrate = 1000.0\nwarm_up = 0.0\nrate_schedule = \"steps\"\n[optimizer]\nrule = \"sgd\"\nclip = 0.0\nweight_decay = 1000.0\n";
    fs::write(folder.join("hot.toml"), settings).unwrap();
    // Embeddings of size 2 are filmed: nothing of what is not finite gets into that file either.
    for dim in [4, 2] {
        let train = "train --config hot.toml --loss softmax --data-dir set --batch 8 --steps 40";
        let line = fail(&folder, &format!("{train} --dim {dim} --out run-{dim}"));
        assert!(line.contains("finite") && line.contains("training.rate"), "{line}");
        assert!(!folder.join(format!("run-{dim}/summary.json")).exists());
        succeed(&folder, &format!("eval run-{dim}"));
        assert!(fail(&folder, &format!("train --resume run-{dim}")).contains("training.rate"));
    }
}

#[test]
fn damaged_data_is_refused() {
    let folder = folder("data");
    fs::create_dir(folder.join("set")).unwrap();
    for name in
        ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
    {
        fs::write(folder.join("set").join(name), [0, 0, 8, 3, 0, 0]).unwrap();
    }
    let line = fail(&folder, "train --data-dir set --steps 1 --out run");
    assert!(line.contains("idx") && line.contains("expected"), "{line}");
    assert!(!folder.join("run").exists());
}
