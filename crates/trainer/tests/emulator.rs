//! Training on the emulated device: the same program, the same plan, the kernels of a GPU.

mod common;

use common::{folder_with_small_set, metrics, trainer};
use sphereface_cuda::nvrtc::{Nvrtc, VARIABLE, cache_folder};
use std::path::Path;

/// Runs the program on the emulator and returns what it printed, unless there is no NVRTC.
fn emulate(folder: &Path, arguments: &str) -> Option<String> {
    if let Err(reason) = Nvrtc::find() {
        sphereface_testkit::skip(&reason);
        return None;
    }
    let mut command = trainer(folder, arguments);
    if std::env::var_os(VARIABLE).is_none() {
        command.env(VARIABLE, cache_folder().unwrap().join("nvrtc/nvidia/cu13/lib"));
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn losses_on_the_emulator_are_those_of_the_cpu() {
    let folder = folder_with_small_set("emulator");
    let train = "train --data-dir set --batch 8 --steps 3 --evaluate 8 --quiet";
    let Some(said) = emulate(&folder, &format!("{train} --device emulator --profile --out emulator")) else { return };
    assert!(said.contains("conv2d_forward") && said.contains("optimizer_sgd"), "{said}");
    emulate(&folder, &format!("{train} --device cpu --out cpu"));
    for (found, expected) in metrics(&folder.join("emulator")).iter().zip(metrics(&folder.join("cpu"))) {
        for value in ["loss", "gradient_norm", "feature_norm", "test_accuracy"] {
            let number = |line: &serde_json::Value| line[value].as_f64();
            let (Some(found), Some(expected)) = (number(found), number(&expected)) else { continue };
            assert!((found - expected).abs() <= 1e-4 * expected.abs(), "{value}: {found}, on the CPU {expected}");
        }
    }
}

#[test]
fn two_runs_on_the_emulator_are_the_same_bit_for_bit() {
    let folder = folder_with_small_set("emulator-twice");
    let train = "train --data-dir set --batch 4 --evaluate 4 --quiet --device emulator";
    if emulate(&folder, &format!("{train} --steps 3 --out first")).is_none() {
        return;
    }
    emulate(&folder, &format!("{train} --steps 3 --out second"));
    let checkpoint = |run: &str| std::fs::read(folder.join(run).join("checkpoint.safetensors")).unwrap();
    assert!(checkpoint("first") == checkpoint("second"));
}
