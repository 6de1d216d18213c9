//! What a run leaves, and what can be done with it afterwards.

mod common;

use common::{fail, folder, folder_with_small_set, metrics, succeed, summary};
use std::fs;

#[test]
fn compare_leaves_everything_and_can_be_repeated_from_its_config() {
    let folder = folder_with_small_set("compare");
    let said = succeed(
        &folder,
        "compare --data-dir set --losses softmax,sphereface --dims 2,3 --batch 32 --steps 6 --out first --quiet",
    );
    assert!(said.contains("report.html") && said.lines().all(|line| line.chars().count() <= 80), "{said}");
    let first = folder.join("first");
    for file in [
        "config.toml",
        "metrics.jsonl",
        "summary.json",
        "report.html",
        "figures/loss.svg",
        "figures/accuracy.png",
        "figures/network.svg",
        "figures/network.dot",
        "figures/network.txt",
    ] {
        assert!(first.join(file).is_file(), "{file}");
    }
    let found = summary(&first);
    assert_eq!(found["dataset"], "set");
    assert!(found["total_seconds"].as_f64().unwrap() > 0.0);
    let runs = found["runs"].as_array().unwrap();
    let named: Vec<(&str, u64)> =
        runs.iter().map(|run| (run["loss"].as_str().unwrap(), run["embedding_dim"].as_u64().unwrap())).collect();
    assert_eq!(named, [("softmax", 2), ("sphereface", 2), ("softmax", 3), ("sphereface", 3)]);
    for run in runs {
        for number in ["test_accuracy", "train_accuracy", "seconds", "final_train_loss"] {
            assert!(run[number].as_f64().unwrap().is_finite(), "{number}");
        }
        let inside = first.join(run["folder"].as_str().unwrap());
        for file in ["checkpoint.safetensors", "film.safetensors"] {
            assert!(inside.join(file).is_file(), "{}", inside.display());
        }
        // Six steps and the end of an epoch.
        assert_eq!(metrics(&inside).len(), 7);
    }
    assert_eq!(metrics(&first).len(), 28);

    succeed(&folder, "compare --config first/config.toml --out second --quiet");
    for run in ["softmax-2d", "sphereface-3d"] {
        let checkpoint = |of: &str| fs::read(folder.join(of).join(run).join("checkpoint.safetensors")).unwrap();
        assert!(checkpoint("first") == checkpoint("second"), "{run}");
    }
    assert_eq!(fs::read(first.join("config.toml")).unwrap(), fs::read(folder.join("second/config.toml")).unwrap());
}

#[test]
fn a_comparison_starts_all_losses_from_the_same_network_and_data() {
    let folder = folder_with_small_set("fair");
    succeed(&folder, "compare --data-dir set --dims 2 --batch 16 --steps 1 --out run --quiet");
    let first = |loss: &str| metrics(&folder.join(format!("run/{loss}-2d"))).remove(0);
    // λ starts at 20, so A-Softmax's first accuracy is that of modified softmax: same images, same embeddings.
    assert_eq!(first("modified")["accuracy"], first("sphereface")["accuracy"]);
    assert_eq!(first("modified")["feature_norm"], first("softmax")["feature_norm"]);
    assert_eq!(first("modified")["feature_norm"], first("sphereface")["feature_norm"]);
}

#[test]
fn eval_and_embed_read_a_run_from_anywhere() {
    let folder = folder("trained");
    succeed(&folder, "train --loss modified --dim 3 --data mnist-10k --batch 50 --steps 20 --out run --quiet");
    assert_eq!(summary(&folder.join("run"))["dataset"], "mnist-10k");
    let accuracy = summary(&folder.join("run"))["runs"][0]["test_accuracy"].as_f64().unwrap();
    let elsewhere = folder.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let said = succeed(&elsewhere, "eval ../run");
    assert!(said.contains(&format!("{accuracy:.4}")) && said.contains("2000"), "{said}");

    succeed(&elsewhere, "embed ../run --out points.csv");
    let csv = fs::read_to_string(elsewhere.join("points.csv")).unwrap();
    assert_eq!(csv.lines().next().unwrap(), "label,e0,e1,e2");
    assert_eq!(csv.lines().count(), 2001);
    succeed(&elsewhere, "embed ../run --out points.npy");
    let npy = fs::read(elsewhere.join("points.npy")).unwrap();
    let data = &npy[npy.len() - 2000 * 3 * 4..];
    let first: Vec<f32> = data[..12].chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let second_line: Vec<f32> = csv.lines().nth(1).unwrap().split(',').skip(1).map(|v| v.parse().unwrap()).collect();
    assert_eq!(first, second_line);
    assert!(elsewhere.join("points.labels.npy").is_file());

    // On another device than that of the run, which its configuration names; the same numbers, but rounded.
    let config = fs::read_to_string(folder.join("run/config.toml")).unwrap();
    assert!(config.contains("device = \"cpu\"") || config.contains("device = \"cuda\""), "{config}");
    succeed(&elsewhere, "embed ../run --out rounded.csv --device cpu --precision bf16 --threads 1");
    let rounded = fs::read_to_string(elsewhere.join("rounded.csv")).unwrap();
    assert!(rounded != csv && rounded.lines().count() == csv.lines().count());
    assert!(fail(&elsewhere, "eval ../run --device cpu --precision tf32").contains("fp32 or bf16"));
    assert!(fail(&elsewhere, "eval ../run --evaluate 0").contains("data.evaluate"));

    assert!(fail(&elsewhere, "embed ../run --out points.txt").contains("points.txt"));
    assert!(fail(&elsewhere, "eval ../nowhere").contains("config.toml"));
}

#[test]
fn time_is_measured_without_changing_the_training() {
    let folder = folder_with_small_set("profile");
    let train = "train --data-dir set --batch 16 --steps 4 --device cpu --quiet --out";
    let said = succeed(&folder, &format!("{train} first --profile"));
    assert!(said.contains("one training step") && said.lines().all(|line| line.chars().count() <= 80), "{said}");
    succeed(&folder, &format!("{train} second"));
    let checkpoint = |run: &str| fs::read(folder.join(run).join("checkpoint.safetensors")).unwrap();
    assert!(checkpoint("first") == checkpoint("second"));
    // Of a training that had ended already, too.
    let table = |run: &str| fs::read_to_string(folder.join(run).join("figures/network.txt")).unwrap();
    fs::remove_file(folder.join("first/figures/network.txt")).unwrap();
    succeed(&folder, "train --resume first --quiet");
    for run in ["first", "second"] {
        let table = table(run);
        let shares = table.lines().filter(|line| line.starts_with("stage") && line.ends_with('%'));
        assert_eq!(shares.count(), 12, "{table}");
    }
    assert!(checkpoint("first") == checkpoint("second"));
}

#[test]
fn several_seeds_are_reported_with_an_interval() {
    let folder = folder_with_small_set("seeds");
    let said = succeed(
        &folder,
        "compare --data-dir set --losses modified,softmax --dims 2 --seeds 3 --batch 32 --steps 8 --out run --quiet",
    );
    let found = summary(&folder.join("run"));
    assert_eq!(found["runs"].as_array().unwrap().len(), 6);
    let comparisons = found["comparisons"].as_array().unwrap();
    assert!(comparisons.len() == 1 && comparisons[0]["seeds"] == 3 && comparisons[0]["p"].is_f64(), "{comparisons:?}");
    assert!(said.contains("3 seeds") && said.contains("significant"), "{said}");
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
}

#[test]
fn commands_that_show_something_do() {
    let folder = folder("show");
    let plan = succeed(&folder, "plan --model sphereface20 --input 112x96x3");
    assert!(plan.contains("28,079,808 parameters") && plan.contains("stage4.unit1.conv2"), "{plan}");
    for network in ["mnist", "sphereface4", "sphereface64-official"] {
        let plan = succeed(&folder, &format!("plan --model {network} --svg {network}.svg --dot {network}.dot"));
        assert!(plan.lines().all(|line| line.chars().count() <= 80) && !plan.contains('\u{1b}'), "{plan}");
        let file = |ending: &str| fs::read_to_string(folder.join(format!("{network}.{ending}"))).unwrap();
        assert!(file("svg").contains(">112×96×3<") && file("svg").ends_with("</svg>\n"));
        assert!(file("dot").contains("\"embedding\" -> \"classifier\""));
    }
    let steps = succeed(&folder, "plan --model mnist --input 28x28x1 --dim 2 --classes 10 --steps");
    assert!(steps.contains("margin_softmax_backward") && steps.contains("optimizer"), "{steps}");
    assert!(succeed(&folder, "devices").contains("cpu"));
    let losses = succeed(&folder, "losses");
    assert!(losses.contains("sphereface") && losses.lines().all(|line| line.chars().count() <= 80), "{losses}");
    assert!(succeed(&folder, "data").contains("embedded"));
    let help = succeed(&folder, "--help");
    assert!(help.contains("Exit codes") && help.contains("compare"), "{help}");
}

/// Equal but for the last digits of numbers, which the machine's own sine and logarithm decide.
fn same(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (a, b) {
        (Number(a), Number(b)) => (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-5,
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Object(a), Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        (a, b) => a == b,
    }
}

#[test]
fn the_sample_report_shows_the_losses_as_they_are() {
    let folder = folder("losses");
    let printed: Vec<serde_json::Value> = serde_json::from_str(&succeed(&folder, "losses --json")).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../report/examples/losses.json");
    let kept: Vec<serde_json::Value> = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    // The first ones: those of the paper, which a comparison shows unless it is told otherwise.
    let alike = kept.iter().zip(&printed).all(|(kept, printed)| same(printed, kept));
    assert!(kept.len() == 3 && alike, "{path} is not what `trainer losses --json` prints first");
}
