//! What a written report must be, whatever it is given.

mod common;
mod pictures;

use common::{assert_well_formed, json_block, report, written};
use sphereface_report::Report;

#[test]
fn page_loads_nothing() {
    // `url(#…)` is a pattern of the page itself.
    let page = report(10_000).html().expect("a sound report has a page").replace("url(#", "");
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
        training.loss = format!("other-{}", training.loss);
        training.title = evil.to_string();
    }
    for loss in &mut report.losses {
        loss.key = format!("other-{}", loss.key);
        loss.title = evil.to_string();
        loss.explanation = evil.to_string();
        loss.source = evil.to_string();
        loss.formulas[0].text = evil.to_string();
        loss.formulas[0].mathml = format!("<math>{evil}</math>");
        for parameter in &mut loss.parameters {
            parameter.symbol = evil.to_string();
            parameter.meaning = evil.to_string();
            parameter.default = evil.to_string();
        }
        loss.schedules.iter_mut().for_each(|schedule| schedule.title = evil.to_string());
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
    assert_eq!(found["points"]["values"].as_str().map(str::len), Some(4000 * 6 / 3 * 4));
    assert_eq!(found["film"]["points"].as_array().map(Vec::len), Some(21));
    assert_eq!(found["film"]["points"][20]["values"].as_str().map(str::len), Some(1000 * 6 / 3 * 4));
    assert_eq!(found["film"]["rays"][0]["values"].as_str().map(str::len), Some(30 * 2 / 3 * 4));
    assert_eq!(found["film"]["epochs"][2], 0.5);
    assert_eq!(data["digits"]["count"], 4000);
    assert_eq!(found["labels"].as_str().map(str::len), Some(4000_usize.div_ceil(3) * 4));
    assert_eq!(found["rays"].as_array().map(Vec::len), Some(30));
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
fn a_saved_report_is_compact_and_comes_back_the_same() {
    let report = report(10_000);
    let text = serde_json::to_string(&report).expect("a report can be saved");
    // 10,000 points, labels and predictions and 21 frames of 1,000 points, as f32 in base64; curves; images.
    assert!(text.len() < 6_000_000, "{} bytes", text.len());
    let read: Report = serde_json::from_str(&text).expect("and read again");
    assert_eq!(read.images, report.images);
    for (read, written) in read.trainings.iter().zip(&report.trainings) {
        assert_eq!(read.film, written.film);
        let points = |t: &sphereface_report::Training| t.embeddings.as_ref().map(|found| found.points.clone());
        assert_eq!(points(read), points(written));
    }
    assert!(read.html().expect("a sound report has a page") == report.html().expect("a sound report has a page"));
}

#[test]
fn files_are_whole_and_well_formed() {
    let files = written(&report(300));
    let mut names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let wanted = [
        "accuracy.svg",
        "angles.svg",
        "embedding-2d-modified.svg",
        "embedding-2d-softmax.svg",
        "embedding-2d-sphereface.svg",
        "embedding-3d-modified.svg",
        "embedding-3d-softmax.svg",
        "embedding-3d-sphereface.svg",
        "embeddings.svg",
        "intervals.svg",
        "loss.svg",
        "psi.svg",
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
    let cases: [(&str, Spoil); 23] = [
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
        ("film: expected at least one frame", |r| film(r).frames.clear()),
        ("film: points", |r| film(r).frames.iter_mut().for_each(|frame| frame.points.push(1.0))),
        ("film: points", |r| embeddings_of_fewer_images_than_film(r)),
        ("film: frame 3: points", |r| film(r).frames[3].points.truncate(7)),
        ("film: frame 0: class_weights", |r| film(r).frames[0].class_weights.clear()),
        ("film: frame 4: points[2]", |r| film(r).frames[4].points[2] = f32::NAN),
        ("film: frame 2: epoch", |r| film(r).frames[2].epoch = 0.25),
        ("images: pixels: expected whole images", |r| images(r).pixels.push(0)),
        ("images: height and width", |r| images(r).height = 0),
        ("images: pixels: expected at most the 3 test images", |r| r.dataset.test_images = 3),
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
        (training.embeddings, training.film) = (None, None);
        training.seconds = f64::NAN;
    }
    let page = report.html().expect("nothing measured is no error");
    for section in ["embeddings", "curves"] {
        assert!(!page.contains(&format!("id=\"{section}\"")), "{section} is empty");
        assert!(!page.contains(&format!("href=\"#{section}\"")), "{section} is in the navigation");
    }
    assert!(page.contains("0.9900") && !without_script(&page).contains("NaN"));
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
        assert!(!without_script(&content).contains("NaN"), "{name}");
    }
}

#[test]
fn published_values_stand_beside_ours_with_what_limits_them() {
    let mut report = report(50);
    report.dataset.comparable = true;
    let page = report.html().expect("a sound report has a page");
    assert!([">0.9775<", ">0.9847<", ">0.9896<"].iter().all(|value| page.contains(value)));
    assert!(page.contains("no order between the losses is claimed"));
    assert!(!page.contains("Not comparable"));
    assert!(report.terminal_table().contains("0.9775"));
    report.dataset.comparable = false;
    let (page, table) = (report.html().expect("a sound report has a page"), report.terminal_table());
    assert!(page.contains("Not comparable") && table.contains("not comparable"));
    assert!(!page.contains("Published") && !table.contains("0.9775"), "published values of other data are shown");
}

#[test]
fn held_out_images_are_never_called_a_test_set() {
    let mut report = report(50);
    (report.dataset.held_out, report.dataset.comparable) = (true, false);
    report.dataset.note = "Held out of training.".to_string();
    let mut texts = vec![("the terminal".to_string(), report.terminal_table())];
    texts.extend(written(&report).into_iter().map(|(name, text)| {
        // Of the page, what is read: its data and scripts name nothing.
        let read = text.split_once("<main>").and_then(|(_, rest)| rest.split_once("id=\"data\""));
        let read = read.map_or(text.clone(), |(read, _)| read.to_string());
        (name, read)
    }));
    for (name, text) in texts {
        let lower = text.to_lowercase();
        for word in ["test accurac", "test image", "test embedding"] {
            assert!(!lower.contains(word), "{name}: {word}");
        }
        assert!(name != "the terminal" && name != "report.html" || lower.contains("held-out acc"), "{name}");
    }
}

#[test]
fn both_accuracies_are_shown_and_told_apart() {
    let mut report = report(50);
    report.trainings[0].test_accuracy = 0.9717;
    report.trainings[0].test_accuracy_cosines = 0.5551;
    let page = report.html().expect("a sound report has a page");
    assert!(page.contains("<b>0.9717</b>") && page.contains(">0.5551<"));
    assert!(page.contains("0.9717 → 0.5551"), "the page says what the class norms are worth");
    let table = report.terminal_table();
    let row = table.lines().find(|line| line.starts_with("softmax")).expect("the table has a row of the loss");
    assert!(row.contains("0.9717") && row.contains("0.5551"), "{row}");
    assert!(table.contains("by angle") && !table.contains("plain cosines") && !page.contains("plain cosines"));
    report.trainings.retain(|t| t.loss != "softmax");
    let page = report.html().expect("a sound report has a page");
    assert!(page.contains("both are the same by construction") && !page.contains("also puts information"));
}

#[test]
fn class_norms_are_drawn_where_they_decide() {
    let data = json_block(&report(50).html().expect("a sound report has a page"));
    let lengths = |key: &str| -> Vec<f64> {
        let rays = data["embeddings"][key]["rays"].as_array().expect("the picture has rays");
        let rays: Vec<f64> = rays.iter().filter_map(serde_json::Value::as_f64).collect();
        rays.chunks(2).map(|ray| ray[0].hypot(ray[1])).collect()
    };
    assert!(lengths("2-modified").iter().all(|length| (length - 1.0).abs() < 1e-3));
    // The test's weights cos(0.9 i), in pairs.
    let norms: Vec<f64> = (0..10).map(|i| (1.8 * f64::from(i)).cos().hypot((1.8 * f64::from(i) + 0.9).cos())).collect();
    let longest = norms.iter().copied().fold(0.0, f64::max);
    for (length, norm) in lengths("2-softmax").iter().zip(norms) {
        assert!((length - norm / longest).abs() < 1e-3, "{length} for {norm}");
    }
}

#[test]
fn a_single_training_is_not_called_a_comparison() {
    let mut report = report(50);
    report.trainings.truncate(1);
    report.trainings[0].embedding_dim = 16;
    report.command = "trainer train".to_string();
    (report.trainings[0].embeddings, report.trainings[0].film) = (None, None);
    let page = report.html().expect("a sound report has a page");
    let text = page.split_once("<main>").expect("the page has a main part").1;
    let text = text.split_once("id=\"data\"").expect("the page has a data block").0;
    for word in ["compare", "no order", "id=\"embeddings\"", "class=\"forest\"", "class=\"legend\""] {
        assert!(!text.to_lowercase().contains(&word.to_lowercase()), "the page says {word}");
    }
    assert!(text.contains("16-D embedding"));
    assert_eq!(
        text.matches("Not trained in this run").count(),
        2,
        "all losses are explained, and which one ran is told"
    );
}

#[test]
fn angles_are_measured_at_any_embedding_size() {
    let mut report = report(50);
    for training in &mut report.trainings {
        (training.embedding_dim, training.film) = (4, None);
        let found = training.embeddings.as_mut().expect("the test's report has embeddings");
        // Every image lies on its class's weight, the weights of neighbouring classes at right angles.
        found.class_weights = (0..40).map(|i| f32::from(u8::from(i % 4 == i / 4 % 4))).collect();
        found.points = (0..200).map(|i| f32::from(u8::from(i % 4 == i / 4 % 10 % 4))).collect();
    }
    let page = report.html().expect("a sound report has a page");
    assert!(page.contains("data-label=\"To own class\">0.0°<"));
    assert!(!page.contains("<canvas"), "only two and three numbers can be drawn");
}

#[test]
fn page_marks_itself_as_ready_at_the_end_of_its_script() {
    let page = report(50).html().expect("a sound report has a page");
    let script = page.rsplit_once("<script>").expect("the page has a script").1;
    let script = script.split_once("</script>").expect("the script ends").0;
    assert!(script.trim_end().ends_with("document.documentElement.dataset.ready = \"true\";"));
    assert!(!script.contains("console."), "the page writes to the console");
}

#[test]
fn every_loss_is_explained_without_being_known() {
    let mut report = report(50);
    let mut new = report.losses[2].clone();
    new.key = "new-loss".to_string();
    new.title = "A loss nobody knew".to_string();
    new.explanation = "It does something new.".to_string();
    report.losses.push(new);
    report.trainings[0].loss = "new-loss".to_string();
    report.trainings[0].title = "A loss nobody knew, m = 4".to_string();
    let page = report.html().expect("a described loss has a page");
    assert!(page.contains("A loss nobody knew</h3>") && page.contains("It does something new."));
    assert!(!page.contains("formula-text\""), "every formula is MathML");
    let data = json_block(&page);
    let found = &data["mathematics"]["losses"][3];
    assert_eq!((found["key"].as_str(), found["colour"].as_u64()), (Some("new-loss"), Some(3)));
    assert_eq!(found["targets"].as_array().map(Vec::len), Some(8));
}

#[test]
fn gradients_of_one_loss_stand_side_by_side() {
    let heading = "One loss, several gradients";
    let mut report = report(200);
    assert!(!report.html().expect("it can be drawn").contains(heading));
    let mut detached = report.losses.iter().find(|loss| loss.key == "sphereface").expect("a loss").clone();
    detached.value_of = Some(std::mem::replace(&mut detached.key, "sphereface-detached".into()));
    detached.gradient = "Its <gradient> is detached.".into();
    report.losses.push(detached);
    for index in [2, 5] {
        let mut training = report.trainings[index].clone();
        training.loss = "sphereface-detached".into();
        training.title = "Detached".into();
        report.trainings.push(training);
    }
    let page = report.html().expect("it can be drawn");
    let section = page.split_once("<section id=\"gradients\">").expect("a section").1;
    let section = section.split_once("</section>").expect("it ends").0;
    assert!(section.contains(heading) && section.contains("Its &lt;gradient&gt; is detached."));
    for (of_each_size, count) in [("Loss at the end</th>", 1), ("class=\"chart\"", 4), ("class=\"histogram\"", 2)] {
        assert_eq!(section.matches(of_each_size).count(), 2 * count, "{of_each_size}");
    }
    assert!(!section.contains("modified"), "a loss of another family");
    // The mean length of points, by hand.
    let points = report.trainings[2].embeddings.as_ref().expect("embeddings").points.chunks(2);
    let lengths: Vec<f64> = points.map(|p| f64::from(p[0]).hypot(f64::from(p[1]))).collect();
    let mean = lengths.iter().sum::<f64>() / lengths.len() as f64;
    assert!(section.contains(&format!(">{mean:.1}</td>")), "{mean}");
    let data = json_block(&page);
    for id in ["loss", "test", "gradient", "norm"].map(|id| format!("gradients-sphereface-{id}-3")) {
        assert_eq!(data["charts"][&id]["series"].as_array().map(Vec::len), Some(2), "{id}");
    }
}

#[test]
fn losses_are_checked_before_they_are_shown() {
    type Spoil = fn(&mut Report);
    let cases: [(&str, Spoil); 6] = [
        ("losses[1].key", |r| r.losses[1].key = "softmax".to_string()),
        ("losses[0].key", |r| r.losses[0].key = "../evil".to_string()),
        ("modified: targets", |r| r.losses[1].targets.clear()),
        ("softmax: targets", |r| r.losses[0].targets[0].slopes.truncate(3)),
        ("sphereface: targets", |r| r.losses[2].targets[0].values[7] = f32::NAN),
        ("expected one of the losses described", |r| r.losses.truncate(1)),
    ];
    for (field, spoil) in cases {
        let mut report = report(50);
        spoil(&mut report);
        let line = report.html().expect_err(field).to_string();
        assert!(line.contains(field) && !line.contains('\n'), "{field}: {line}");
    }
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
    assert!(!table.contains('\u{1b}') && table.contains("12 seeds"), "{table}");
}

fn embeddings(report: &mut Report) -> &mut sphereface_report::Embeddings {
    report.trainings[0].embeddings.as_mut().expect("the test's report has embeddings")
}

fn film(report: &mut Report) -> &mut sphereface_report::Film {
    report.trainings[0].film.as_mut().expect("the test's report has a film")
}

fn images(report: &mut Report) -> &mut sphereface_report::Images {
    report.images.as_mut().expect("the test's report has images")
}

fn embeddings_of_fewer_images_than_film(report: &mut Report) {
    let found = embeddings(report);
    found.labels.truncate(40);
    found.predictions.truncate(40);
    found.points.truncate(80);
}

/// A page without its script, which may name what the page must not show.
fn without_script(page: &str) -> &str {
    page.rsplit_once("<script>").map_or(page, |(before, _)| before)
}
