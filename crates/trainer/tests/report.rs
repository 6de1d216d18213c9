//! Reports drawn again from the folders of finished runs.

mod common;

use common::{fail, file_names, folder, folder_with_small_set, run, succeed, temporary};
use std::fs;

#[test]
fn a_report_is_drawn_again_and_runs_are_put_side_by_side() {
    let folder = folder_with_small_set("report");
    let settings = "--data-dir set --dims 2 --batch 32 --steps 6 --quiet";
    succeed(&folder, &format!("compare --losses softmax,modified --seeds 2 {settings} --out one"));
    succeed(&folder, &format!("compare --losses sphereface,softmax --seed 3 {settings} --out two"));

    // One run: the same page, wherever it is drawn.
    let page = |path: &str| fs::read_to_string(folder.join(path).join("report.html")).unwrap();
    let before = page("one");
    fs::remove_file(folder.join("one/report.html")).unwrap();
    succeed(&folder, "report one");
    assert!(page("one") == before, "the run's own folder");
    let said = succeed(&folder, "report one --out new/place");
    assert!(page("new/place") == before && said.contains("new/place/report.html"), "{said}");
    assert_eq!(temporary(&folder.join("new/place")), [""; 0]);

    // Two runs: all of their trainings.
    let said = succeed(&folder, "report one two --out both");
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
    for loss in ["Original softmax", "Modified softmax", "A-Softmax (SphereFace)"] {
        assert!(said.contains(loss) && page("both").contains(loss), "{loss}: {said}");
    }
    assert!(said.contains("1 to 3 seeds"), "{said}");
    let said = succeed(&folder, "report one two");
    assert!(said.contains("runs/") && said.contains("-report"), "{said}");

    // What does not belong together is told apart, and leaves nothing.
    succeed(
        &folder,
        &format!("train --loss softmax --seed 9 {} --rate 0.01 --out three", settings.replace("--dims 2 ", "")),
    );
    let line = fail(&folder, "report one three --out never");
    for word in ["three", "settings of one", "training.rate 0.01 instead of 0.05"] {
        assert!(line.contains(word), "{line}");
    }
    assert!(!line.contains("model.losses") && !line.contains("training.seed"), "{line}");
    assert!(fail(&folder, "report one one --out never").contains("given twice"));
    assert!(!folder.join("never").exists());
}

#[test]
fn what_is_no_finished_run_is_one_line() {
    let folder = folder_with_small_set("report-refusals");
    succeed(&folder, "train --loss modified --data-dir set --batch 32 --steps 6 --out run --quiet");
    let (report, sound) = (folder.join("run/report.json"), fs::read_to_string(folder.join("run/report.json")).unwrap());
    let refused = |words: &[&str]| {
        let line = fail(&folder, "report run --out never");
        assert!(words.iter().all(|word| line.contains(word)), "{words:?}: {line}");
        assert!(!folder.join("never").exists(), "{line}");
    };
    // Cut behind a comma: within a number, what is left would be another error.
    let cut = sound[..sound.len() / 2].rfind(',').unwrap() + 1;
    fs::write(&report, &sound[..cut]).unwrap();
    refused(&["run/report.json", "EOF"]);
    fs::write(&report, sound.replacen("\"test_accuracy\":", "\"test_accuracy\":null,\"x\":", 1)).unwrap();
    refused(&["run/report.json", "report.trainings[0]", "test_accuracy", "null"]);
    fs::write(&report, sound.replacen("sphereface report 1", "sphereface report 0", 1)).unwrap();
    refused(&["format", "sphereface report 1", "sphereface report 0"]);
    // A run of a version that saved no report, or one that is not finished.
    fs::remove_file(&report).unwrap();
    refused(&["run", "report.json", "train --resume run"]);
    // Which resuming mends, without training.
    succeed(&folder, "train --resume run --quiet");
    assert!(report.is_file());
    // A run that goes on is not finished any more.
    succeed(&folder, "train --resume run --steps 9 --quiet");
    assert!(report.is_file());
    fs::write(folder.join("run/config.toml"), "[model]\nlosses = 3\n").unwrap();
    refused(&["config.toml"]);
    assert!(fail(&folder, "report nowhere").contains("config.toml"));
    assert_eq!(run(&folder, "report").status.code(), Some(2));
}

#[test]
fn an_unfinished_run_has_no_report() {
    let folder = folder("unfinished");
    fs::create_dir(folder.join("run")).unwrap();
    assert!(fail(&folder, "report run").contains("no config.toml"));
    assert!(file_names(&folder.join("run")).is_empty());
}
