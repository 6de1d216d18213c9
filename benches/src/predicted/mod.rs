//! Times that our kernels should take on a GPU that is not there: one block of each launch is run in the emulator, at full
//! size, and what it did is weighed with what the machine can do.

mod model;
mod page;
mod sample;

pub use model::{Chip, Limit, Timed};
pub use page::{launches, page};
pub use sample::Compiled;

use crate::record::Run;
use anyhow::{Context, Result};
use sphereface_tensor::DType;
use sphereface_tensor::roofline::Precision;
use sphereface_testkit::catalogue::{Entry, catalogue};
use sphereface_testkit::workload::{Arithmetic, Pass, Workload};
use std::path::Path;

/// What is predicted, by names of the catalogue, and the least that the best peer's time over ours has to be, if a target
/// is set.
const TARGETS: [(&[&str], Option<f64>); 9] = [
    (&["gemm NN 4096 bf16", "gemm NN 8192 bf16"], Some(0.95)),
    (
        &[
            "conv2d_forward 56x48 N256 64-64 bf16",
            "conv2d_backward_data 56x48 N256 64-64 bf16",
            "conv2d_backward_weight 56x48 N256 64-64 bf16",
        ],
        Some(1.2),
    ),
    (
        &[
            "conv2d_forward 28x24 N256 128-128 bf16",
            "conv2d_backward_data 28x24 N256 128-128 bf16",
            "conv2d_backward_weight 28x24 N256 128-128 bf16",
            "conv2d_forward 14x12 N256 256-256 bf16",
            "conv2d_backward_data 14x12 N256 256-256 bf16",
            "conv2d_backward_weight 14x12 N256 256-256 bf16",
            "conv2d_forward 7x6 N256 512-512 bf16",
            "conv2d_backward_data 7x6 N256 512-512 bf16",
            "conv2d_backward_weight 7x6 N256 512-512 bf16",
        ],
        Some(0.95),
    ),
    (
        &[
            "fused_forward 56x48 N256 64-64 bf16",
            "fused_forward 28x24 N256 128-128 bf16",
            "fused_forward 14x12 N256 256-256 bf16",
            "fused_forward 7x6 N256 512-512 bf16",
        ],
        Some(1.3),
    ),
    (
        &[
            "conv2d_forward 56x48 N256 64-64 tf32",
            "conv2d_backward_data 56x48 N256 64-64 tf32",
            "conv2d_forward 28x24 N256 128-128 tf32",
            "conv2d_backward_data 28x24 N256 128-128 tf32",
            "conv2d_forward 14x12 N256 256-256 tf32",
            "conv2d_backward_data 14x12 N256 256-256 tf32",
            "conv2d_forward 7x6 N256 512-512 tf32",
            "conv2d_backward_data 7x6 N256 512-512 tf32",
        ],
        Some(0.85),
    ),
    (&["head C10572 D512 N256 bf16", "head C1000000 D512 N512 bf16"], Some(1.2)),
    (&["sphereface20 112x96 N256 training step bf16"], Some(1.3)),
    (&["sphereface20 28x28 N256 training step bf16"], Some(2.0)),
    (
        &[
            "mnist 28x28 N128 training step bf16",
            "sphereface20 28x28 N256 training step tf32",
            "sphereface20 112x96 N16 training step bf16",
            "sphereface20 112x96 N1 forward bf16",
        ],
        None,
    ),
];

/// What is predicted of a case.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name in the catalogue.
    pub name: String,
    /// Seconds of its arithmetic at the peak or of its traffic at the bandwidth of the data sheet, step by step.
    pub floor: f64,
    /// Operations of the formula in products and elsewhere, padding multiplied.
    pub flops: f64,
    /// Its launches in order.
    pub launches: Vec<Timed>,
    /// Of a head: bytes beyond its operands over those of one copy of its logits in f32.
    pub memory: Option<f64>,
    /// The least ratio to the best peer, if there is one.
    pub target: Option<f64>,
    /// Recorded seconds of ours and of the best peer.
    pub recorded: [Option<f64>; 2],
    /// Of a product: seconds that a peer takes at least.
    pub bound: Option<f64>,
}

impl Row {
    /// Seconds of all launches.
    pub fn seconds(&self) -> f64 {
        self.launches.iter().map(|launch| launch.seconds()).sum()
    }

    /// What the launches wait for the longest, and for which share of the time.
    pub fn limit(&self) -> (Limit, f64) {
        let of = |limit| self.launches.iter().map(|launch| launch.waits(limit)).sum::<f64>();
        let all = Limit::ALL.map(|limit| (limit, of(limit) / self.seconds()));
        all.into_iter().max_by(|(_, left), (_, right)| left.total_cmp(right)).unwrap_or(all[0])
    }

    /// The best peer's time over the predicted one; where none is recorded, the least that it may be.
    pub fn ratio(&self) -> Option<f64> {
        Some(self.recorded[1].or(self.bound)? / self.seconds())
    }

    /// Multiplications and additions that tensor cores do in all blocks.
    pub fn multiplied(&self) -> f64 {
        self.launches.iter().map(|launch| launch.multiplied).sum()
    }
}

/// Predicts all cases of the page, or those whose name contains one of the patterns; with what the compiler made of
/// kernels from the table of all.
///
/// # Errors
/// When a kernel does not compile or a launch fails.
pub fn predict(run: &Run, kernels: &Path, only: &[String], mut each: impl FnMut(&Row)) -> Result<Vec<Row>> {
    let chip = Chip::of(run)?;
    let kernels = sample::kernels(kernels)?;
    let entries = catalogue(&[Arithmetic::Tf32, Arithmetic::Bf16]);
    let mut rows = Vec::new();
    for (names, target) in TARGETS {
        for &name in names.iter().filter(|name| only.is_empty() || only.iter().any(|part| name.contains(part))) {
            let entry = entries.iter().find(|entry| entry.name == name);
            let entry = entry.with_context(|| format!("{name}: no such case"))?;
            let row = row(&chip, &kernels, run, entry, target).with_context(|| name.to_owned())?;
            each(&row);
            rows.push(row);
        }
    }
    Ok(rows)
}

fn row(chip: &Chip, kernels: &sample::Kernels, run: &Run, entry: &Entry, target: Option<f64>) -> Result<Row> {
    let sampled = sample::sampled(&entry.timed, entry.arithmetic)?;
    let precision = if entry.arithmetic == Arithmetic::Tf32 { Precision::Tf32 } else { Precision::Bf16 };
    let record = run.cases.iter().find(|case| case.name == entry.name);
    let peer = record.and_then(|case| case.best()?.seconds);
    let logits =
        |classes: usize, batch: usize| sampled.arena_bytes as f64 / (size_of::<f32>() * classes * batch) as f64;
    Ok(Row {
        name: entry.name.clone(),
        floor: chip.floor(&sampled.plan, precision)?,
        flops: sampled.plan.total_cost().flops.nominal as f64,
        launches: sampled.launches.iter().map(|launch| chip.time(launch, kernels)).collect(),
        memory: match entry.timed {
            Workload::Head { classes, batch, .. } => Some(logits(classes, batch)),
            _ => None,
        },
        target,
        recorded: [record.and_then(|case| case.ours), peer].map(|spread| Some(spread?.median)),
        bound: bound(chip, &entry.timed, entry.arithmetic)?,
    })
}

/// Seconds that a peer takes at least for a product: operations of the formula, padding multiplied, at the run's fastest
/// rate; where something is fused, a pass over memory that does it afterwards, besides.
fn bound(chip: &Chip, work: &Workload, arithmetic: Arithmetic) -> Result<Option<f64>> {
    let (Workload::Conv2d { .. } | Workload::Gemm { .. }) = work else { return Ok(None) };
    let rate = if arithmetic == Arithmetic::Tf32 { chip.sustained / 2.0 } else { chip.sustained };
    let product = work.cost(arithmetic)?.flops.nominal as f64 / rate;
    let Workload::Conv2d { pass: Pass::FusedForward, sizes: [height, width, batch, _, outputs, _, stride, _] } = work
    else {
        return Ok(Some(product));
    };
    // What is before the rectifier, the residual, and the result.
    let elements = 3 * height.div_ceil(*stride) * width.div_ceil(*stride) * batch * outputs;
    let bytes = if arithmetic == Arithmetic::Bf16 { DType::Bf16.bytes() } else { DType::F32.bytes() };
    Ok(Some(product + (elements * bytes) as f64 / chip.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sphereface_cuda::nvrtc::Nvrtc;
    use sphereface_testkit::cases::LAYOUTS;
    use sphereface_testkit::workload::Pass;

    const RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/runs/2026-11-27-nvidia-h200");

    fn predicted(timed: Workload) -> Row {
        let run = Run::read(Path::new(RUN)).unwrap();
        let entry = catalogue(&[Arithmetic::Bf16]).into_iter().next().unwrap();
        row(&Chip::of(&run).unwrap(), &sample::Kernels::new(), &run, &Entry { timed, ..entry }, None).unwrap()
    }

    /// Products and their sizes, with what is multiplied of the formula at least and at most: tiles of which nothing lies
    /// outside, and a border that is left out.
    #[test]
    fn all_blocks_do_the_whole_work_and_take_no_less_than_the_floor() {
        if let Err(reason) = Nvrtc::find() {
            return sphereface_testkit::skip(&reason);
        }
        let gemm = |length| Workload::Gemm { layout: LAYOUTS[0], sizes: [1024, 1024, length] };
        let conv = |pass| Workload::Conv2d { pass, sizes: [14, 12, 32, 128, 128, 3, 1, 1] };
        let mut times = Vec::new();
        for (work, range) in [
            (gemm(256), 1.0..=1.0),
            (gemm(4096), 1.0..=1.0),
            (conv(Pass::Forward), 0.8..=2.0),
            (conv(Pass::BackwardWeight), 0.8..=2.0),
        ] {
            let row = predicted(work);
            let multiplied = row.multiplied() / row.flops;
            assert!(range.contains(&multiplied), "{work:?}: {multiplied} of the formula");
            assert!(row.seconds() >= row.floor && row.floor > 0.0, "{work:?}: {} below {}", row.seconds(), row.floor);
            times.push(row.seconds());
        }
        assert!(times[1] > times[0], "longer sums take longer");
    }

    #[test]
    fn every_target_is_a_case_and_a_run_of_another_machine_is_refused() {
        let names: Vec<String> = catalogue(&Arithmetic::ALL).into_iter().map(|entry| entry.name).collect();
        let targets = TARGETS.iter().flat_map(|(targets, _)| *targets);
        targets.for_each(|target| assert!(names.iter().any(|name| name == target), "{target}"));
        let run = Run::read(Path::new(&RUN.replace("nvidia-h200", "amd-epyc-2-threads"))).unwrap();
        assert!(Chip::of(&run).unwrap_err().to_string().contains("H200"));
    }
}
