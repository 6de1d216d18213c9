//! Times operators on a device, one JSON object a line: `timings [--device cuda|cuda:N|emulator] [--small]`.
//!
//! A case has several sets of operands, together larger than the cache of any GPU, and runs on them in turn; a sample is
//! a batch of runs between two events, and the median sample counts. `kit/peers.py` times the same shapes in PyTorch.

use sphereface_cuda::nvrtc::Architecture;
use sphereface_cuda::{CudaBackend, CudaDriver, Driver, EmulatorDriver, Options, Precision};
use sphereface_tensor::op::{Conv2dBackwardData, Conv2dBackwardWeight, Conv2dForward, Op, Rule};
use sphereface_tensor::{Backend, Error, Program};
use sphereface_testkit::cases::{self, Case, Fill};
use sphereface_testkit::{TrainingCase, prepare_case};
use std::process::ExitCode;

/// Bytes that all sets of operands of a case have together, at least: twice the largest second-level cache.
const ROTATED_BYTES: u64 = 256 << 20;
/// No more sets than this, however small they are.
const MOST_SETS: u64 = 8;
/// Samples, of which the median counts.
const SAMPLES: usize = 9;
/// How long a sample takes, about.
const SAMPLE_SECONDS: f64 = 0.01;

/// A case, and its shape as JSON.
struct Timed {
    case: Case,
    shape: String,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let small = args.iter().any(|arg| arg == "--small");
    let device = args.iter().position(|arg| arg == "--device").and_then(|at| args.get(at + 1));
    match run(device.map_or("cuda", String::as_str), small) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("timings: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(device: &str, small: bool) -> Result<(), String> {
    if device == "emulator" {
        return time_all(|| Ok(EmulatorDriver::new(Architecture::new(80))), small);
    }
    let number = device.strip_prefix("cuda").map(|rest| rest.strip_prefix(':').unwrap_or("0"));
    let ordinal = number.and_then(|number| number.parse().ok());
    let ordinal = ordinal.ok_or_else(|| format!("--device: expected cuda, cuda:N or emulator, found {device}"))?;
    time_all(|| CudaDriver::new(ordinal), small)
}

/// Times every case in every precision, each on a backend of its own, so that memory is given back.
fn time_all<D: Driver>(new: impl Fn() -> Result<D, String>, small: bool) -> Result<(), String> {
    for Timed { case, shape } in timed(small) {
        let narrow = case.op.narrowed().map_or_else(|| case.in_bf16(), |op| Some(Case { op, ..case.clone() }));
        let products = case.op.name().starts_with("conv2d") || case.op.name().starts_with("linear");
        let mut variants = vec![(Precision::Fp32, "fp32", case.clone())];
        variants.extend(products.then(|| (Precision::Tf32, "tf32", case.clone())));
        variants.extend(narrow.map(|narrow| (Precision::Bf16, "bf16", narrow)));
        for (precision, name, case) in variants {
            let mut backend = CudaBackend::new(new()?, Options { precision, ..Options::default() });
            let operator = case.op.name();
            match time(&case, &mut backend, small) {
                Ok(measured) => println!(r#"{{"operator":"{operator}",{shape},"precision":"{name}",{measured}}}"#),
                Err(Error::Attribute { message, .. }) => {
                    println!(r#"{{"operator":"{operator}",{shape},"precision":"{name}","missing":"{message}"}}"#);
                }
                Err(error) => return Err(format!("{}: {error}", case.name)),
            }
        }
    }
    Ok(())
}

/// Time of a run in microseconds, and what it had to do, as JSON.
fn time<D: Driver>(case: &Case, backend: &mut CudaBackend<D>, small: bool) -> Result<String, Error> {
    let failed = |message: String| Error::Backend { backend: "timings", message };
    let first = prepare_case(case, backend)?;
    let cost = first.plan.cost(first.step());
    let sets = if small { 2 } else { ROTATED_BYTES.div_ceil(cost.bytes.max(1)).clamp(2, MOST_SETS) };
    let mut programs: Vec<Program> = vec![first.program];
    for set in 1..sets {
        let again = Case { name: format!("{} set {set}", case.name), ..case.clone() };
        programs.push(prepare_case(&again, backend)?.program);
    }
    let mut sample = |rounds: usize| -> Result<f64, Error> {
        backend.driver_mut().record(0).map_err(failed)?;
        for _ in 0..rounds {
            programs.iter().try_for_each(|&program| backend.run(program, 1))?;
        }
        backend.driver_mut().record(1).map_err(failed)?;
        let elapsed = backend.driver_mut().elapsed(0, 1).map_err(failed)?;
        Ok(elapsed.as_secs_f64() / (rounds * programs.len()) as f64)
    };
    for _ in 0..3 {
        sample(1)?; // Modules are loaded, graphs captured, clocks up.
    }
    let once = sample(1)? * sets as f64;
    let rounds = if small { 1 } else { (SAMPLE_SECONDS / once.max(1e-7)).clamp(1.0, 1000.0) as usize };
    let mut seconds = (0..if small { 3 } else { SAMPLES }).map(|_| sample(rounds)).collect::<Result<Vec<f64>, _>>()?;
    seconds.sort_by(f64::total_cmp);
    let [low, median, high] = [0, seconds.len() / 2, seconds.len() - 1].map(|at| seconds[at] * 1e6);
    Ok(format!(
        r#""median_us":{median:.2},"low_us":{low:.2},"high_us":{high:.2},"useful_flops":{},"nominal_flops":{},"bytes":{}"#,
        cost.flops.useful, cost.flops.nominal, cost.bytes
    ))
}

/// What is timed: the layers of SphereFace-20, its head, and what is around them; or one tiny case of each.
fn timed(small: bool) -> Vec<Timed> {
    let convolutions: &[[usize; 8]] = if small {
        &[[4, 4, 8, 4, 8, 3, 1, 1]]
    } else {
        &[
            [28, 28, 256, 1, 64, 3, 2, 1],
            [14, 14, 256, 64, 64, 3, 1, 1],
            [14, 14, 256, 64, 128, 3, 2, 1],
            [7, 7, 256, 128, 128, 3, 1, 1],
            [4, 4, 256, 256, 256, 3, 1, 1],
            [2, 2, 256, 512, 512, 3, 1, 1],
            [112, 96, 64, 3, 64, 3, 2, 1],
            [56, 48, 64, 64, 64, 3, 1, 1],
        ]
    };
    let activations = if small { [4, 4, 8, 8] } else { [14, 14, 256, 64] };
    let [height, width, batch, channels] = activations;
    let mut timed: Vec<Timed> = convolutions.iter().flat_map(|&shape| convolution(shape)).collect();
    let shape = format!(r#""h":{height},"w":{width},"n":{batch},"c":{channels}"#);
    timed.push(Timed { case: cases::prelu_backward(activations), shape });
    let length = if small { 5000 } else { 12_000_000 };
    for rule in [
        Rule::Sgd { momentum: 0.9, nesterov: true },
        Rule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decoupled: true },
    ] {
        let name = if matches!(rule, Rule::Sgd { .. }) { "sgd" } else { "adamw" };
        let shape = format!(r#""rule":"{name}","length":{length}"#);
        timed.push(Timed { case: cases::optimizer_of(rule, None, length), shape });
    }
    let (batch, images) = if small { (8, 40) } else { (256, 60_000) };
    let shape = format!(r#""h":28,"w":28,"n":{batch},"images":{images}"#);
    timed.push(Timed { case: cases::gather_batch_of([28, 28, 1], batch, images), shape });
    let heads: &[[usize; 4]] = if small { &[[10, 2, 8, 8]] } else { &[[10, 2, 256, 256], [10_572, 512, 512, 512]] };
    timed.extend(heads.iter().flat_map(|&sizes| head(sizes)));
    timed
}

/// Forward as in a training, and both backward passes.
fn convolution(sizes @ [h, w, n, c, k, r, stride, padding]: [usize; 8]) -> Vec<Timed> {
    let wanted = |op: &Op| match op {
        Op::Conv2dForward(Conv2dForward { slope, keep, residual, .. }) => !residual && slope == keep,
        // Images have no gradient.
        Op::Conv2dBackwardData(Conv2dBackwardData { addend, keep, .. }) => !addend && !keep && c > 3,
        Op::Conv2dBackwardWeight(Conv2dBackwardWeight { bias, .. }) => *bias,
        _ => false,
    };
    let timed = |case: Case| {
        let fused = match &case.op {
            Op::Conv2dForward(op) => op.slope,
            Op::Conv2dBackwardData(op) => op.slope,
            _ => false,
        };
        let shape = format!(
            r#""h":{h},"w":{w},"n":{n},"c":{c},"k":{k},"r":{r},"stride":{stride},"padding":{padding},"prelu":{fused}"#
        );
        Timed { case, shape }
    };
    cases::conv2d_passes(sizes).into_iter().filter(|case| wanted(&case.op)).map(timed).collect()
}

/// SphereFace's head, forward and backward.
fn head(sizes @ [classes, dimension, batch, _]: [usize; 4]) -> Vec<Timed> {
    let Some(training) = TrainingCase::tiny().pop() else { return Vec::new() };
    let forward = cases::margin_softmax_forward_of(&training.model.head, 5.0, sizes);
    // Logits of normal vectors have the size of √D: this sum keeps their exponentials finite and above zero.
    let root = (dimension as f64).sqrt();
    let statistics = [4.0 * root, 0.0, root, 1.0 / root].map(Fill::Constant).to_vec();
    let backward = cases::margin_softmax_backward_of(&forward, statistics, forward.tolerance);
    let shape = format!(r#""n":{batch},"d":{dimension},"classes":{classes}"#);
    vec![Timed { case: forward, shape: shape.clone() }, Timed { case: backward, shape }]
}
