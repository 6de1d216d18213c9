//! The figures in the README are those of the recorded run beside its picture.

use serde_json::Value;
use std::fs;
use std::path::Path;

/// Mean of a field over the seeds of one loss and dimension, and how many there are.
fn mean(runs: &[&Value], field: &str) -> f64 {
    runs.iter().map(|run| run[field].as_f64().unwrap()).sum::<f64>() / runs.len() as f64
}

#[test]
fn readme_shows_the_recorded_accuracies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let summary: Value =
        serde_json::from_str(&fs::read_to_string(root.join("docs/mnist/summary.json")).unwrap()).unwrap();
    let runs = summary["runs"].as_array().unwrap();
    let mut rows = 0;
    for (loss, title) in
        [("softmax", "Original softmax"), ("modified", "Modified softmax"), ("sphereface", "A-Softmax")]
    {
        for dim in [2, 3] {
            let same: Vec<&Value> =
                runs.iter().filter(|run| run["loss"] == loss && run["embedding_dim"] == dim).collect();
            let (accuracy, angle) = (mean(&same, "test_accuracy"), mean(&same, "test_accuracy_cosines"));
            let row = readme
                .lines()
                .find(|line| line.starts_with(&format!("| {title}")) && line.contains(&format!("| {dim}-D |")));
            let row = row.unwrap_or_else(|| panic!("no row for {title}, {dim}-D"));
            assert!(row.contains(&format!("| {accuracy:.4} ±")), "{row}: expected {accuracy:.4}");
            assert!(row.contains(&format!("| {angle:.4} |")), "{row}: expected {angle:.4} by angle");
            rows += 1;
        }
    }
    assert_eq!((rows, summary["dataset"].as_str()), (6, Some("mnist")));
    assert!(readme.contains(&format!("{} seeds", runs.len() / rows)));
}
