//! What a written report must be, whatever it is given.

mod common;

use common::{assert_well_formed, json_block, report};
use sphereface_report::{Error, Report};

#[test]
fn page_loads_nothing() {
    let page = report(10_000).html().expect("a sound report has a page");
    for forbidden in [
        "http:",
        "https:",
        "//cdn",
        "@import",
        "url(",
        "fetch(",
        "XMLHttpRequest",
        "import(",
        "<img",
        "<iframe",
        "<object",
        "<embed",
        "WebSocket",
        "eval(",
    ] {
        assert!(!page.contains(forbidden), "the page contains {forbidden}");
    }
    let targets = page.split("href=\"").skip(1).chain(page.split("src=\"").skip(1));
    for target in targets.filter_map(|t| t.split('"').next()) {
        assert!(target.starts_with('#') || target == "data:,", "the page refers to {target}");
    }
    assert!(page.contains("default-src 'none'"), "the page forbids loads to the browser");
}

#[test]
fn page_of_six_full_trainings_stays_small() {
    let page = report(10_000).html().expect("a sound report has a page");
    assert!(page.len() < 4 << 20, "{} bytes", page.len());
}

#[test]
fn names_cannot_become_markup() {
    let evil = "</script><script>alert(1)</script><!--\"'&{{data}}";
    let mut report = report(50);
    report.title = evil.to_string();
    report.command = evil.to_string();
    report.machine = evil.to_string();
    report.version = evil.to_string();
    report.dataset.name = evil.to_string();
    report.dataset.note = evil.to_string();
    report.dataset.sha256 = evil.to_string();
    report.network.name = evil.to_string();
    report.network.summary = evil.to_string();
    for training in &mut report.trainings {
        training.title = evil.to_string();
        training.formula = format!("<math>{evil}</math>");
    }
    let page = report.html().expect("strange names are no error");
    assert!(!page.contains("<script>alert"), "a name became a script");
    assert_eq!(page.matches("<script").count(), 2, "the data block and the script");
    assert_eq!(page.matches("</script>").count(), 2);
    let data = json_block(&page);
    assert_eq!(data["charts"]["loss-2"]["series"][0]["label"], evil);
    for (name, content) in written(&report) {
        if name.ends_with(".svg") {
            assert_well_formed(&name, &content);
        }
    }
}

#[test]
fn json_block_holds_the_embeddings() {
    let report = report(10_000);
    let page = report.html().expect("a sound report has a page");
    let data = json_block(&page);
    let found = &data["embeddings"]["3-sphereface"];
    assert_eq!(found["dim"], 3);
    // 4,000 points of three 16-bit numbers in base64, and one byte each for the labels.
    assert_eq!(found["points"].as_str().map(str::len), Some(4000 * 6 / 3 * 4));
    assert_eq!(found["labels"].as_str().map(str::len), Some(4000_usize.div_ceil(3) * 4));
    assert_eq!(found["weights"].as_array().map(Vec::len), Some(30));
}

#[test]
fn gaps_travel_as_null_and_come_back_as_nan() {
    let mut report = report(50);
    report.trainings[0].steps[3].loss = f64::NAN;
    report.trainings[0].steps[4].gradient_norm = f64::INFINITY;
    report.trainings[0].epochs_log[0].test_accuracy = f64::NAN;
    let text = serde_json::to_string(&report).expect("a report can be saved");
    let read: Report = serde_json::from_str(&text).expect("and read again");
    assert!(read.trainings[0].steps[3].loss.is_nan());
    assert!(read.trainings[0].steps[4].gradient_norm.is_nan());
    let again = serde_json::to_string(&read).expect("a report can be saved");
    assert!(text == again, "a number changed on the way");
    let data = json_block(&report.html().expect("gaps are no error"));
    assert!(data["charts"]["loss-2"]["series"][0]["y"][3].is_null());
}

#[test]
fn files_are_whole_and_well_formed() {
    let files = written(&report(300));
    let mut names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let wanted = [
        "accuracy.svg",
        "embedding-2d-modified.svg",
        "embedding-2d-softmax.svg",
        "embedding-2d-sphereface.svg",
        "embedding-3d-modified.svg",
        "embedding-3d-softmax.svg",
        "embedding-3d-sphereface.svg",
        "embeddings.svg",
        "loss.svg",
        "report.html",
    ];
    assert_eq!(names, wanted);
    for (name, content) in &files {
        if name.ends_with(".svg") {
            assert_well_formed(name, content);
            assert!(!content.contains("NaN") && !content.contains("inf"), "{name}");
        }
    }
}

#[test]
fn what_cannot_be_shown_is_one_line() {
    type Spoil = fn(&mut Report);
    let cases: [(&str, Spoil); 13] = [
        ("no training", |r| r.trainings.clear()),
        ("classes", |r| r.dataset.classes = 0),
        ("test_images", |r| r.dataset.test_images = 0),
        ("embedding_dim", |r| r.trainings[0].embedding_dim = 0),
        ("loss", |r| r.trainings[0].loss = "../evil".to_string()),
        ("test_accuracy", |r| r.trainings[0].test_accuracy = f64::NAN),
        ("train_accuracy", |r| r.trainings[0].train_accuracy = 1.5),
        ("predictions", |r| embeddings(r).predictions.truncate(3)),
        ("points", |r| embeddings(r).points.truncate(3)),
        ("class_weights", |r| embeddings(r).class_weights.truncate(3)),
        ("labels", |r| embeddings(r).labels[2] = 10),
        ("points[5]", |r| embeddings(r).points[5] = f32::INFINITY),
        ("class_weights[1]", |r| embeddings(r).class_weights[1] = f32::NAN),
    ];
    for (field, spoil) in cases {
        let mut report = report(50);
        spoil(&mut report);
        let line = report.html().expect_err(field).to_string();
        assert!(line.contains(field) && !line.contains('\n'), "{field}: {line}");
        // The terminal's table has no error to give: it must only not fail.
        let _ = report.terminal_table();
        let folder = common::Folder::new();
        assert!(report.write(&folder.0).is_err());
        assert!(!folder.0.join("report.html").exists(), "{field}: a page was written");
    }
}

#[test]
fn a_report_without_measurements_still_shows_its_accuracy() {
    let mut report = report(50);
    for training in &mut report.trainings {
        training.steps.clear();
        training.epochs_log.clear();
        training.embeddings = None;
        training.seconds = f64::NAN;
    }
    let page = report.html().expect("nothing measured is no error");
    assert!(page.contains("No measurements were kept."));
    assert!(page.contains("embeddings were kept."));
    assert!(!page.contains("NaN"));
    assert!(written(&report).iter().all(|(name, _)| !name.starts_with("embedding")));
}

#[test]
fn degenerate_embeddings_are_drawn() {
    let mut report = report(1);
    report.trainings.iter_mut().for_each(|t| {
        if let Some(found) = &mut t.embeddings {
            found.points.fill(0.0);
            found.class_weights.fill(0.0);
        }
    });
    for (name, content) in written(&report) {
        assert!(!content.contains("NaN"), "{name}");
    }
}

#[test]
fn published_values_stand_beside_ours_with_what_limits_them() {
    let mut report = report(50);
    report.dataset.comparable = true;
    let page = report.html().expect("a sound report has a page");
    assert!(page.contains("0.9775") && page.contains("0.9847") && page.contains("0.9896"));
    assert!(page.contains("no order between the losses is claimed"));
    assert!(!page.contains("Not comparable"));
    report.dataset.comparable = false;
    assert!(report.html().expect("a sound report has a page").contains("Not comparable"));
    assert!(report.terminal_table().contains("not comparable"));
}

#[test]
fn terminal_table_fits_eighty_columns() {
    let mut report = report(50);
    report.trainings[0].title = "A loss with a name that is much too long for any terminal\n\u{1b}[31m".to_string();
    let more: Vec<_> = report.trainings.iter().cloned().cycle().take(66).collect();
    report.trainings.extend(more);
    let table = report.terminal_table();
    for line in table.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert!(!table.contains('\u{1b}') && table.contains("n=12"), "{table}");
}

fn embeddings(report: &mut Report) -> &mut sphereface_report::Embeddings {
    report.trainings[0].embeddings.as_mut().expect("the test's report has embeddings")
}

/// Names and contents of all files a report leaves; nothing temporary may be among them.
fn written(report: &Report) -> Vec<(String, String)> {
    let folder = common::Folder::new();
    let written: Result<(), Error> = report.write(&folder.0);
    written.expect("the folder can be written");
    std::fs::read_dir(&folder.0)
        .expect("the folder can be read")
        .map(|entry| {
            let path = entry.expect("the folder can be read").path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            assert!(!name.ends_with(".tmp"), "{name} was left");
            (name, std::fs::read_to_string(&path).expect("files are UTF-8"))
        })
        .collect()
}
