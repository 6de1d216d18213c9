//! Recorded runs: their tables and pictures follow from `run.json`, and a slowed kernel is caught.

use sphereface_benches::compare::compare;
use sphereface_benches::output::adopted;
use sphereface_benches::record::Run;
use sphereface_benches::{readme, roofline, table};
use std::fs;
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Folders of runs: those of the tests, and all that are kept.
fn runs() -> Vec<PathBuf> {
    let kept = fs::read_dir(folder("runs")).map(|entries| entries.flatten().map(|entry| entry.path()).collect());
    let mut runs: Vec<PathBuf> = kept.unwrap_or_default();
    runs.extend(["tests/runs/before", "tests/runs/slowed"].map(folder));
    runs
}

#[test]
fn what_is_drawn_from_a_run_is_what_was_recorded() {
    for path in runs() {
        let run = Run::read(&path).unwrap();
        let recorded = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_default();
        let at = path.display();
        assert_eq!(table::page(&run), recorded("table.md"), "{at}: table.md");
        assert_eq!(readme::block(&run), recorded("readme.md"), "{at}: readme.md");
        assert_eq!(roofline::picture(&run), recorded("roofline.svg"), "{at}: roofline.svg");
        assert_eq!(run.to_json().unwrap(), recorded("run.json"), "{at}: run.json");
    }
}

/// Both were recorded one after the other; for the second, the product of matrices was computed twice.
#[test]
fn a_slowed_kernel_is_caught_and_nothing_else() {
    let [before, slowed] = ["tests/runs/before", "tests/runs/slowed"].map(|name| Run::read(&folder(name)).unwrap());
    let comparison = compare(&before, &slowed);
    assert!(comparison.regressed);
    let lines: Vec<&str> = comparison.text.lines().filter(|line| line.ends_with("slower")).collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| line.starts_with("gemm")), "{}", comparison.text);
    let back = compare(&slowed, &before).text;
    assert!(!back.lines().any(|line| line.starts_with("gemm") && line.ends_with("slower")), "{back}");
    assert!(!compare(&before, &before).regressed);
    let mut broken = before.clone();
    (broken.cases[0].ours, broken.cases[0].skipped) = (None, Some("wrong by 3%".into()));
    let comparison = compare(&before, &broken);
    assert!(comparison.regressed && comparison.text.contains("not after: wrong by 3%"), "{}", comparison.text);
    assert!(!compare(&broken, &before).regressed);
}

#[test]
fn a_readme_gets_the_block_of_a_run_and_keeps_the_rest() {
    let run = Run::read(&folder("tests/runs/before")).unwrap();
    let before = "# A\n<!-- bench:begin cpu old -->\nold\n<!-- bench:end -->\nB\n";
    let after = readme::replaced(before, &run).unwrap();
    let of = |run: &Run, device| {
        format!("<!-- bench:begin {device} {} -->\n{}<!-- bench:end -->", run.name, readme::block(run))
    };
    assert_eq!(after, format!("# A\n{}\nB\n", of(&run, "cpu")));
    assert_eq!(readme::replaced(&after, &run).unwrap(), after);
    assert!(readme::replaced("# A\n", &run).unwrap_err().to_string().contains("bench:begin"));
    // A run of a GPU has a block of its own, beside that of the CPU.
    let gpu = Run { device: "cuda:1".into(), name: "gpu".into(), ..run.clone() };
    let both = readme::replaced(&after, &gpu).unwrap();
    assert_eq!(both, format!("# A\n{}\n\n{}\nB\n", of(&run, "cpu"), of(&gpu, "cuda")));
    assert_eq!(readme::replaced(&both, &gpu).unwrap(), both);
    assert_eq!(readme::replaced(&both, &run).unwrap(), both);
}

#[test]
fn without_a_measured_peak_the_fastest_product_stands_for_it() {
    let run = Run::read(&folder("tests/runs/before")).unwrap();
    let shares = |run: &Run| -> Vec<String> {
        let page = table::page(run);
        let gemm = page.lines().filter(|line| line.starts_with("| gemm"));
        gemm.flat_map(|line| line.split(" | ").filter(|cell| cell.ends_with('%')).last().map(str::to_owned)).collect()
    };
    let mut gpu = run.clone();
    gpu.ceilings.flops = None;
    gpu.cases.iter_mut().for_each(|case| case.peers.clear());
    assert!(!shares(&run).contains(&"100%".into()), "{:?}", shares(&run));
    assert_eq!(shares(&gpu).iter().filter(|share| *share == "100%").count(), 1, "{:?}", shares(&gpu));
    assert!(table::page(&gpu).contains("fastest product") && !table::page(&run).contains("fastest product"));
}

#[test]
fn a_run_from_elsewhere_is_taken_in_once_and_never_over_another() {
    let scratch = std::env::temp_dir().join(format!("bench-adopted-{}", std::process::id()));
    let (runs, before) = (scratch.join("runs"), folder("tests/runs/before"));
    let first = adopted(&runs, &before).unwrap();
    assert_eq!(adopted(&runs, &before).unwrap(), first);
    assert_eq!(fs::read_dir(&runs).unwrap().count(), 1);
    let mut other = Run::read(&before).unwrap();
    other.date = "another day".into();
    fs::create_dir_all(scratch.join("other")).unwrap();
    fs::write(scratch.join("other/run.json"), other.to_json().unwrap()).unwrap();
    let second = adopted(&runs, &scratch.join("other")).unwrap();
    assert_eq!(second.name, format!("{}-2", first.name));
    assert_eq!(Run::read(&runs.join(&second.name)).unwrap(), second);
    assert_eq!(Run::read(&runs.join(&first.name)).unwrap(), first);
    // Without a name it is the latest of those that have timed what stands for all.
    readme::find_run(&runs, None).unwrap_err();
    let mut headline = Run::read(&before).unwrap();
    headline.cases[0].headline = true;
    fs::write(runs.join(&first.name).join("run.json"), headline.to_json().unwrap()).unwrap();
    assert_eq!(readme::find_run(&runs, None).unwrap(), runs.join(&first.name));
    assert_eq!(readme::find_run(&runs, Some(&second.name)).unwrap(), runs.join(&second.name));
    fs::remove_dir_all(&scratch).unwrap();
}

#[test]
fn a_damaged_run_is_refused_in_one_line() {
    let scratch = std::env::temp_dir().join(format!("bench-damaged-{}", std::process::id()));
    fs::create_dir_all(&scratch).unwrap();
    let text = fs::read_to_string(folder("tests/runs/before/run.json")).unwrap();
    for (damaged, expected) in [
        (text.replacen("\"format\": 1", "\"format\": 9", 1), "expected format 1, found 9"),
        (text[..text.len() / 2].to_owned(), "EOF"),
    ] {
        fs::write(scratch.join("run.json"), damaged).unwrap();
        let error = format!("{:#}", Run::read(&scratch).unwrap_err());
        assert!(error.contains(expected) && error.contains("run.json") && !error.contains('\n'), "{error}");
    }
    fs::remove_dir_all(&scratch).unwrap();
}
