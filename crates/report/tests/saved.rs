//! A saved report comes back as it was, or says in one line why not; several become one.

mod common;

use std::fs;

use common::{Folder, report};
use serde_json::{Value, json};
use sphereface_report::{Error, Report};

/// A folder with a small saved report.
fn saved() -> (Folder, std::path::PathBuf) {
    let folder = Folder::new();
    fs::create_dir(&folder.0).expect("a folder can be made");
    let path = folder.0.join("report.json");
    report(60).save(&path).expect("a sound report can be saved");
    (folder, path)
}

#[test]
fn a_saved_report_draws_the_same_page() {
    let mut original = report(300);
    original.trainings[0].steps[3].loss = f64::NAN;
    let (folder, path) = saved();
    original.save(&path).expect("a sound report can be saved");
    let loaded = Report::load(&path).expect("what was saved can be loaded");
    assert!(original.html().expect("a page") == loaded.html().expect("a page"));
    assert_eq!(fs::read_dir(&folder.0).expect("a folder").count(), 1, "a temporary file was left");
}

#[test]
fn what_could_not_be_shown_is_not_saved() {
    let (_folder, path) = saved();
    let before = fs::read(&path).expect("a file");
    let mut spoilt = report(60);
    spoilt.trainings[0].test_accuracy = f64::NAN;
    assert!(spoilt.save(&path).is_err());
    assert!(before == fs::read(&path).expect("a file"), "the file that was there is kept");
}

/// The line that a file with this text is refused with; it must name the file.
fn refused(path: &std::path::Path, text: &str) -> String {
    fs::write(path, text).expect("a file can be written");
    let line = Report::load(path).map(drop).expect_err("a damaged report is refused").to_string();
    assert!(line.starts_with(&path.display().to_string()) && !line.contains('\n'), "{line}");
    line
}

#[test]
fn damage_is_told_with_its_field() {
    type Spoil = fn(&mut Value);
    let cases: &[(&[&str], Spoil)] = &[
        (&["format", "sphereface report 1", "sphereface report 9"], |v| v["format"] = json!("sphereface report 9")),
        (&["missing field `format`"], |v| *v = v["report"].clone()),
        (&["report.title", "invalid type", "expected a string"], |v| v["report"]["title"] = json!(7)),
        (&["report.trainings[1].test_accuracy", "null", "f64"], |v| training(v)["test_accuracy"] = Value::Null),
        (&["test_accuracy", "a fraction from 0 to 1", "1.5"], |v| training(v)["test_accuracy"] = json!(1.5)),
        (&["report.trainings[1].seed", "-1", "u64"], |v| training(v)["seed"] = json!(-1)),
        (&["report.trainings[1]", "missing field `steps`"], |v| remove(training(v), "steps")),
        (&["trainings[1].embeddings", "missing field `points`"], |v| remove(&mut training(v)["embeddings"], "points")),
        (&["trainings[1].embeddings.points"], |v| training(v)["embeddings"]["points"] = json!("AAAA")),
        (&["trainings[1].embeddings.points"], |v| training(v)["embeddings"]["points"] = json!("not base64!")),
        (&["points[0]", "finite", "NaN"], |v| {
            let points = training(v)["embeddings"]["points"].as_str().expect("text").to_owned();
            // Six digits spell the four bytes of the NaN 0x7fffffff, and the first half of the next one.
            training(v)["embeddings"]["points"] = json!(format!("////fw{}", &points[6..]));
        }),
        (&["labels", "at least one", "0"], |v| training(v)["embeddings"]["labels"] = json!("")),
        (&["predictions", "60 values", "3"], |v| training(v)["embeddings"]["predictions"] = json!("AAAA")),
        (&["class_weights", "20 values", "3"], |v| {
            training(v)["embeddings"]["class_weights"] = json!("AAAAAAAAAAAAAAAA")
        }),
        (&["points", "values", "120"], |v| training(v)["embedding_dim"] = json!(u64::MAX)),
        (&["dataset.classes", "256"], |v| v["report"]["dataset"]["classes"] = json!(u64::MAX)),
        (&["no training"], |v| v["report"]["trainings"] = json!([])),
    ];
    let (_folder, path) = saved();
    let sound = fs::read_to_string(&path).expect("a file");
    for (words, spoil) in cases {
        let mut value: Value = serde_json::from_str(&sound).expect("a saved report is JSON");
        spoil(&mut value);
        let line = refused(&path, &value.to_string());
        assert!(words.iter().all(|word| line.contains(word)), "{words:?}: {line}");
    }
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let (_folder, path) = saved();
    let sound = fs::read_to_string(&path).expect("a file");
    for part in 0..40 {
        refused(&path, &sound[..sound.len() * part / 40]);
    }
    assert!(refused(&path, &sound.replacen("60000", "NaN", 1)).contains("at line 1 column"));
    assert!(refused(&path, &format!("{sound}{sound}")).contains("trailing"));
    fs::write(&path, [0xff; 9]).expect("a file can be written");
    assert!(matches!(Report::load(&path), Err(Error::Read { .. })), "bytes that are no text");
    fs::remove_file(&path).expect("a file can be removed");
    assert!(matches!(Report::load(&path), Err(Error::Read { .. })), "no file");
}

fn training(value: &mut Value) -> &mut Value {
    &mut value["report"]["trainings"][1]
}

fn remove(value: &mut Value, field: &str) {
    value.as_object_mut().expect("an object").remove(field).expect("the field was there");
}

/// The test's report with another seed, as another run.
fn with_seed(seed: u64) -> Report {
    let mut report = report(60);
    report.trainings.iter_mut().for_each(|training| training.seed = seed);
    report
}

fn named(reports: Vec<Report>) -> Vec<(String, Report)> {
    ["one", "two", "three"].map(str::to_owned).into_iter().zip(reports).collect()
}

#[test]
fn runs_of_several_seeds_become_one_comparison() {
    let mut other = with_seed(7);
    (other.threads, other.machine) = (8, "Another machine".to_owned());
    let merged = Report::merged(named(vec![with_seed(9), other])).expect("the runs belong together");
    assert_eq!(merged.trainings.len(), 12);
    assert!((merged.total_seconds - 1200.0).abs() < 1e-9);
    assert_eq!(merged.comparisons()[0].seeds, 2);
    let order: Vec<(&str, u64)> = merged.trainings.iter().map(|t| (t.loss.as_str(), t.seed)).take(4).collect();
    assert_eq!(order, [("softmax", 7), ("softmax", 7), ("softmax", 9), ("softmax", 9)]);
    let page = merged.html().expect("a merged report has a page");
    assert!(
        page.contains("Machine; Another machine") && !page.contains("on 2 threads") && page.contains("seeds 7 and 9")
    );
    assert!(page.contains("Two seeds say nothing"));
    let alone = Report::merged(named(vec![report(60)])).expect("a single report stays");
    assert!(alone.html().expect("a page") == report(60).html().expect("a page"));
}

#[test]
fn runs_that_do_not_belong_together_are_told_apart() {
    type Change = fn(&mut Report);
    let cases: [(&[&str], Change); 6] = [
        (&["data of two and one", "MNIST", "Fashion"], |r| r.dataset.name = "Fashion".to_owned()),
        (&["SHA-256 of the data of two and one", "abc"], |r| r.dataset.sha256 = "abc".to_owned()),
        (&["images tested on", "10000", "500"], |r| r.dataset.test_images = 500),
        (&["network of two and one", "Net", "Other"], |r| r.network.name = "Other".to_owned()),
        (&["loss softmax of two and one", "\"softmax\"", "another"], |r| r.trainings[0].title = "another".to_owned()),
        (&["seeds of two and one", "seed 1 in both"], |r| r.trainings[0].seed = 1),
    ];
    for (words, change) in cases {
        let mut other = with_seed(2);
        change(&mut other);
        let line = Report::merged(named(vec![report(60), other])).map(drop).expect_err("unlike").to_string();
        assert!(words.iter().all(|word| line.contains(word)) && !line.contains('\n'), "{words:?}: {line}");
    }
    assert!(matches!(Report::merged(Vec::new()), Err(Error::NoTrainings)));
}
