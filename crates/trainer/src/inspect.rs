//! The commands that show something: `plan`, `devices`, `data`.

use crate::checkpoint::replace;
use crate::cli::{DevicesArgs, PlanArgs, SurveyArgs};
use crate::config::{Config, logits};
use crate::device::{self, EMULATED, HOPPER};
use crate::network;
use crate::prediction;
use anyhow::{Context, Result, anyhow, bail, ensure};
use sphereface_cuda::driver::gpus;
use sphereface_cuda::nvrtc::Nvrtc;
use sphereface_cuda::{CudaDriver, Driver, Options, Precision, Tier, self_check};
use sphereface_data::Locations;
use sphereface_models::{ImageSource, Model, NETWORKS, Training, loss, named_network};
use sphereface_tensor::Backend;
use sphereface_tensor::cpu::CpuBackend;
use sphereface_tensor::op::MarginSoftmax;
use std::collections::BTreeMap;
use std::io::Write;

/// Layer table of a network, or the steps of its training plan.
pub(crate) fn plan(args: &PlanArgs) -> Result<()> {
    let image = parse_input(&args.input)?;
    let Some(named) = named_network(&args.model) else {
        let names: Vec<&str> = NETWORKS.iter().map(|network| network.key).collect();
        bail!("--model: expected one of {}, found '{}'", names.join(", "), args.model);
    };
    ensure!((1..=65_536).contains(&args.dim), "--dim: expected 1 to 65536, found {}", args.dim);
    ensure!((2..=10_000_000).contains(&args.classes), "--classes: expected 2 to 10000000, found {}", args.classes);
    ensure!((1..=65_536).contains(&args.batch), "--batch: expected 1 to 65536, found {}", args.batch);
    let logits = logits("--logits", &args.logits)?;
    let precision = prediction::precision(&args.precision)?;
    let machine = args.machine.as_deref().map(|name| prediction::machine(name, args.threads)).transpose()?;
    let network = named.network(image, args.dim);
    let sphereface = loss("sphereface").context("the loss 'sphereface'")?;
    let model = Model { network, head: MarginSoftmax { logits, ..sphereface.head(args.classes) } };
    let parameters = model.parameters()?;
    let info = network::info(named, &model, 4)?;
    let config = Config::default();
    let training = Training {
        source: ImageSource { name: "train", images: args.batch },
        batch: args.batch,
        steps: 1,
        seed: 1,
        augmentation: config.augmentation(),
        rule: config.rule(),
        decay: 5e-4,
        clip: None,
        log_rows: 1,
    };
    let plan = model.training_plan(&parameters, &training)?;
    if args.steps {
        tell!("{plan}");
    } else {
        tell!("{}", info.table());
    }
    if let Some(path) = &args.svg {
        replace(path, info.svg()?.as_bytes())?;
    }
    if let Some(path) = &args.dot {
        replace(path, info.dot().as_bytes())?;
    }
    let cost = plan.total_cost();
    tell!("{}", named.title);
    tell!(
        "{:>14} parameters, {} of them class weights ({} classes)",
        grouped(parameters.count()),
        grouped(args.classes * args.dim),
        grouped(args.classes),
    );
    tell!("{:>14} multiply-adds an image, forward", grouped(info.multiply_adds as usize));
    tell!(
        "{:>14.3} GFLOP a step of batch {} ({:.3} with padding multiplied)",
        cost.flops.useful as f64 * 1e-9,
        args.batch,
        cost.flops.nominal as f64 * 1e-9
    );
    let arena = plan.arena_bytes() as f64 * 1e-6;
    let blocks = (2 + training.rule.states().len()) as f64 * 4e-6 * parameters.length() as f64;
    tell!("{arena:>14.1} MB of activations, {blocks:.1} MB of parameters, gradients, state");
    if let Some(machine) = &machine {
        tell!("\n{}", prediction::table(&model, &plan, args.batch, machine, precision)?);
    }
    Ok(())
}

fn parse_input(text: &str) -> Result<[usize; 3]> {
    let sizes: Vec<usize> = text.split('x').map_while(|size| size.parse().ok()).collect();
    match sizes[..] {
        [h, w, c] if [h, w, c].iter().all(|size| (1..=4096).contains(size)) && text.split('x').count() == 3 => {
            Ok([h, w, c])
        }
        _ => bail!("--input: expected HxWxC such as 112x96x3, each 1 to 4096, found '{text}'"),
    }
}

/// `1,234,567`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What can compute here.
pub(crate) fn devices(args: &DevicesArgs) -> Result<()> {
    let backend = CpuBackend::new(0)?;
    tell!("cpu       {}", device::processor());
    tell!("          {}; vector instructions: {}", backend.name(), device::instruction_sets().join(", "));
    let gpus = gpus();
    match &gpus {
        Ok(gpus) => gpus.iter().for_each(|gpu| {
            let ((major, minor), gigabytes) = (gpu.capability, gpu.memory_bytes as f64 / 1e9);
            tell!("cuda:{:<4} {}, compute capability {major}.{minor}, {gigabytes:.0} GB", gpu.ordinal, gpu.name);
        }),
        Err(reason) => tell!("cuda      none: {reason}"),
    }
    let nvrtc = Nvrtc::find();
    match &nvrtc {
        Ok(nvrtc) => {
            tell!("emulator  of sm_{EMULATED}; NVRTC {}.{} compiles the kernels", nvrtc.version.0, nvrtc.version.1);
        }
        Err(reason) => tell!("emulator  none: {reason}"),
    }
    if !args.self_check {
        return Ok(());
    }
    let mut wrong = 0;
    match gpus {
        Ok(gpus) => {
            for gpu in gpus {
                wrong += check_device(&format!("cuda:{}", gpu.ordinal), &|_| CudaDriver::new(gpu.ordinal))?;
            }
        }
        Err(_) if nvrtc.is_ok() => wrong += check_device("emulator", &|tier| Ok(device::emulator(tier)))?,
        Err(reason) => bail!("--self-check: {reason}"),
    }
    ensure!(wrong == 0, "--self-check: {wrong} results are wrong");
    Ok(())
}

/// Prints each operator's largest error in every precision and tier that the device has, and returns how many cases are
/// wrong.
fn check_device<D: Driver>(device: &str, new: &dyn Fn(Tier) -> Result<D, String>) -> Result<usize> {
    let mut wrong = 0;
    for (name, precision) in Precision::NAMED {
        for (tier_name, tier) in [("simt", Tier::Simt), ("mma", Tier::Mma), ("wgmma", Tier::Wgmma)] {
            let new = || new(tier);
            if tier == Tier::Wgmma {
                let architecture = new().map_err(|error| anyhow!("{device}: {error}"))?.architecture();
                if architecture != HOPPER {
                    continue;
                }
            }
            let options = Options { precision, tier, ..Options::default() };
            let findings =
                self_check(&new, options).map_err(|error| anyhow!("{device}: {name}, {tier_name}: {error}"))?;
            let mut worst: BTreeMap<&str, f64> = BTreeMap::new();
            for finding in &findings {
                match &finding.error {
                    Ok(error) => {
                        let worst = worst.entry(finding.operator).or_default();
                        *worst = worst.max(*error);
                    }
                    Err(message) => {
                        tell!("{device}  {name}  {tier_name}  WRONG  {message}");
                        wrong += 1;
                    }
                }
            }
            let errors: Vec<String> = worst.iter().map(|(operator, error)| format!("{operator} {error:.0e}")).collect();
            tell!("{device}  {name}  {tier_name:<5}  {}", errors.join(", "));
        }
    }
    Ok(wrong)
}

/// Where data sets are looked for.
pub(crate) fn data(args: &SurveyArgs) -> Result<()> {
    for place in sphereface_data::survey(&Locations::from_environment(args.data_dir.clone())) {
        let address = if place.address.is_empty() { String::new() } else { format!("{}: ", place.address) };
        tell!("{:<16} {address}{}", place.kind, place.finding);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_three_positive_sizes() {
        assert_eq!(parse_input("112x96x3").unwrap(), [112, 96, 3]);
        for wrong in ["", "112x96", "0x96x3", "112x96x3x1", "axbxc", "112x96x-3", "99999x9x9"] {
            assert!(parse_input(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(
            (grouped(0).as_str(), grouped(999).as_str(), grouped(1_234_567).as_str()),
            ("0", "999", "1,234,567")
        );
    }
}
