//! What one training step on eight H100s with ten million classes comes to: the tables of ARCHITECTURE.md.

use sphereface_models::{ImageSource, Model, Training, loss, named_network};
use sphereface_tensor::op::{Augmentation, Rule};
use sphereface_tensor::roofline::{MACHINES, Precision};
use std::fmt::Write as _;

const GPUS: usize = 8;
const CLASSES: usize = 10_000_000;
const DIMENSION: usize = 512;
/// Images a GPU and step.
const BATCH: usize = 256;
/// Part of the classes that partial FC takes.
const SAMPLED: f64 = 0.1;
/// Bytes a second from each GPU in one direction: NVLink of the fourth generation, PCIe 5.0 of 16 lanes.
const LINKS: [f64; 2] = [450e9, 64e9];

type Failure = Box<dyn std::error::Error>;

/// Parameters, milliseconds of a step without head, and bytes that live within it, of a network on one GPU in bf16.
fn network(key: &str) -> Result<[f64; 3], Failure> {
    let head = loss("sphereface").ok_or("a loss")?.head(2);
    let network = named_network(key).ok_or("a network")?.network([112, 96, 3], DIMENSION);
    let parameters = network.parameter_count() as f64;
    let model = Model { network, head };
    let training = Training {
        source: ImageSource { name: "train", images: BATCH },
        batch: BATCH,
        steps: 1,
        seed: 1,
        augmentation: Augmentation::default(),
        rule: Rule::Sgd { momentum: 0.9, nesterov: false },
        decay: 5e-4,
        clip: None,
        log_rows: 1,
    };
    let plan = model.training_plan(&model.parameters()?, &training)?;
    let prediction = plan.predict(&MACHINES[0].1, Precision::Bf16)?;
    let own = prediction.steps.iter().filter(|step| step.label != "head").map(|step| step.seconds);
    Ok([parameters, 1e3 * own.sum::<f64>(), prediction.arena as f64])
}

/// The tables, as Markdown.
fn tables() -> Result<String, Failure> {
    let machine = &MACHINES[0].1;
    let peak = machine.peak(Precision::Bf16)?;
    let gpus = GPUS as f64;
    let mut text = String::from(
        "| network, one GPU | parameters | step without head | activations | all-reduce | NVLink | PCIe |\n",
    );
    text += "|---|---|---|---|---|---|---|\n";
    for key in ["sphereface20", "sphereface64"] {
        let [parameters, step, arena] = network(key)?;
        // A ring sends all but one part, of as many as there are GPUs, twice.
        let bytes = 4.0 * parameters;
        let [nvlink, pcie] = LINKS.map(|link| 1e3 * 2.0 * (gpus - 1.0) / gpus * bytes / link);
        writeln!(
            text,
            "| {key} | {:.1} M | {step:.2} ms | {:.1} GB | {:.0} MB | {nvlink:.2} ms | {pcie:.2} ms |",
            1e-6 * parameters,
            1e-9 * arena,
            1e-6 * bytes,
        )?;
    }
    let [rows, dimension] = [(GPUS * BATCH) as f64, DIMENSION as f64];
    text += "\n| head, one GPU | all classes | partial FC, 10% |\n|---|---|---|\n";
    let mut row = |name: &str, all: f64, sampled: f64, digits: usize, unit: &str| {
        writeln!(text, "| {name} | {all:.digits$} {unit} | {sampled:.digits$} {unit} |")
    };
    let shard = CLASSES as f64 / gpus;
    let weights = shard * dimension;
    row("classes", 1e-6 * shard, 1e-6 * SAMPLED * shard, 3, "M")?;
    row("weights in fp32", 4e-9 * weights, 4e-9 * weights, 2, "GB")?;
    row("momentum in fp32", 4e-9 * weights, 4e-9 * weights, 2, "GB")?;
    row("gradient in fp32", 4e-9 * weights, 4e-9 * SAMPLED * weights, 2, "GB")?;
    row("copy in bf16, if kept", 2e-9 * weights, 2e-9 * SAMPLED * weights, 2, "GB")?;
    row("together", 14e-9 * weights, (8e-9 + 6e-9 * SAMPLED) * weights, 2, "GB")?;
    row("logits in fp32, if they were kept", 4e-9 * rows * shard, 4e-9 * rows * SAMPLED * shard, 2, "GB")?;
    // One product forward, three backward.
    let flops = 4.0 * 2.0 * rows * weights;
    row("arithmetic", 1e-12 * flops, 1e-12 * SAMPLED * flops, 2, "TFLOP")?;
    row("at the peak of bf16", 1e3 * flops / peak, 1e3 * SAMPLED * flops / peak, 2, "ms")?;
    // Weights and momentum are read and written, the gradient is read.
    let update = 1e3 * 20.0 * weights / machine.bandwidth;
    row("SGD at full bandwidth", update, SAMPLED * update, 2, "ms")?;

    text += "\n| from each GPU to others | bytes | NVLink | PCIe |\n|---|---|---|---|\n";
    let part = (gpus - 1.0) / gpus;
    for (name, bytes) in [
        ("all-gather of embeddings in fp32, reduce-scatter of their gradients", 2.0 * part * 4.0 * rows * dimension),
        ("all-reduce of the softmax's maximum and sum", 2.0 * part * 2.0 * 4.0 * rows),
    ] {
        let [nvlink, pcie] = LINKS.map(|link| 1e3 * bytes / link);
        writeln!(text, "| {name} | {:.3} MB | {nvlink:.4} ms | {pcie:.4} ms |", 1e-6 * bytes)?;
    }
    Ok(text)
}

fn main() -> Result<(), Failure> {
    print!("{}", tables()?);
    Ok(())
}

#[cfg(test)]
mod tests {
    /// The page quotes what this program prints.
    #[test]
    fn the_page_has_these_tables() {
        let page = include_str!("../../../ARCHITECTURE.md");
        for table in super::tables().unwrap().split("\n\n") {
            assert!(page.contains(table.trim_end()), "ARCHITECTURE.md lacks\n{table}");
        }
    }
}
