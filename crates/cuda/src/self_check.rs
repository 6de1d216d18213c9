//! A device is judged by its own results before it is used: a GPU that nobody has tried trains correctly, or not at all.

use crate::backend::CudaBackend;
use crate::cache::{Job, write_whole};
use crate::driver::Driver;
use crate::launch::units;
use crate::nvrtc::Nvrtc;
use crate::options::{Options, Precision, Tier};
use sha2::{Digest, Sha256};
use sphereface_tensor::op::{MarginSoftmaxBackward, MarginSoftmaxForward, Op};
use sphereface_testkit::cases::Case;
use sphereface_testkit::{case_error, every_operator};
use std::collections::BTreeSet;
use std::path::Path;

/// What came out of one case.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The operator.
    pub operator: &'static str,
    /// Its largest error, or what is wrong, with the case, in one line.
    pub error: Result<f64, String>,
}

/// Runs one small case of every operator, and with every loss, against the f64 reference, by kernels of the tier wherever
/// it has one.
///
/// # Errors
/// When there is no device, or it stops working.
pub fn self_check<D: Driver>(new: &dyn Fn() -> Result<D, String>, options: Options) -> Result<Vec<Finding>, String> {
    let mut backend = CudaBackend::new(new()?, Options { forced: true, ..options });
    let finding = |case: Case| {
        let finding = Finding { operator: case.op.name(), error: case_error(&case, &mut backend) };
        // A kernel that faults takes the device with it: what comes after would only say so again.
        backend.driver_mut().sync().map_err(|error| format!("{}: {error}", case.name))?;
        Ok(finding)
    };
    cases(options.precision).into_iter().map(finding).collect()
}

/// The cases with operands as this precision has them. A plan of bf16 activations has heads of many classes round their
/// operands, no other has.
fn cases(precision: Precision) -> Vec<Case> {
    let is_planned = |case: &Case| match (precision, &case.op) {
        (Precision::Bf16, op) => op.narrowed().is_none(),
        (
            _,
            Op::MarginSoftmaxForward(MarginSoftmaxForward(head))
            | Op::MarginSoftmaxBackward(MarginSoftmaxBackward(head)),
        ) => !head.rounded,
        _ => true,
    };
    let product = |case: &Case| ["conv2d", "linear", "gemm"].iter().any(|op| case.op.name().starts_with(op));
    let of_precision = |case: Case| match precision {
        Precision::Fp32 => case,
        // The head takes f32, whatever the precision; its operands hold what TF32 does.
        _ if case.op.name() == "margin_softmax_forward" => case.on_tensor_cores(),
        _ if case.op.name() == "margin_softmax_backward" => case.with_rounded_gradients(),
        Precision::Tf32 if product(&case) => case.in_tf32(),
        Precision::Bf16 if product(&case) => case.in_bf16().map_or(case, Case::on_tensor_cores),
        Precision::Tf32 => case,
        Precision::Bf16 => case.in_bf16().unwrap_or(case),
    };
    every_operator().into_iter().filter(is_planned).map(of_precision).collect()
}

/// Operators that fail in one tier, each with the first of its failures.
fn wrong(findings: Vec<Finding>) -> Vec<(&'static str, String)> {
    let mut seen = BTreeSet::new();
    let failures = findings.into_iter().filter_map(|finding| Some((finding.operator, finding.error.err()?)));
    failures.filter(|(operator, _)| seen.insert(*operator)).collect()
}

impl<D: Driver> CudaBackend<D> {
    /// A backend that uses the portable kernels of those operators whose better ones compute something wrong on this
    /// device, and a line for each of them. The verdict is kept in `folder`, until version, kernels, device or driver
    /// change.
    ///
    /// # Errors
    /// When there is no device, or the portable kernels are wrong on it, too.
    pub fn checked(
        new: &dyn Fn() -> Result<D, String>,
        options: Options,
        folder: Option<&Path>,
    ) -> Result<(Self, Vec<String>), String> {
        let driver = new()?;
        let name = verdict_name(&driver, options)?;
        let path = folder.map(|folder| folder.join(name));
        let known = path.as_ref().and_then(|path| std::fs::read_to_string(path).ok()).and_then(|text| read(&text));
        let refused = match known {
            Some(refused) => refused,
            None => {
                let refused = judge(new, options)?;
                if let Some(path) = path {
                    let text: String = refused.iter().map(|operator| format!("{operator}\n")).collect();
                    // Where it cannot be kept, the check runs again next time.
                    let _ = write_whole(&path, format!("{text}{END}\n").as_bytes());
                }
                refused
            }
        };
        let line = |operator: &String| {
            format!(
                "{operator}: its tensor-core kernel computes something wrong on {}; the portable one is used",
                driver.name()
            )
        };
        let lines = refused.iter().map(line).collect();
        let mut backend = CudaBackend::new(driver, options);
        backend.refuse(refused);
        Ok((backend, lines))
    }
}

/// Last line of a verdict that is whole.
const END: &str = "checked";

fn read(text: &str) -> Option<BTreeSet<String>> {
    Some(text.strip_suffix(&format!("{END}\n"))?.lines().map(str::to_owned).collect())
}

/// The operators whose portable kernels must be used.
fn judge<D: Driver>(new: &dyn Fn() -> Result<D, String>, options: Options) -> Result<BTreeSet<String>, String> {
    let failures = wrong(self_check(new, options)?);
    if failures.is_empty() {
        return Ok(BTreeSet::new());
    }
    let portable = wrong(self_check(new, Options { tier: Tier::Simt, ..options })?);
    if let Some((operator, message)) = portable.first() {
        return Err(format!("{operator} computes something wrong on this device, which is not used: {message}"));
    }
    Ok(failures.into_iter().map(|(operator, _)| operator.to_owned()).collect())
}

/// Name of the verdict on these kernels on this device, with this driver, by this version of the check.
fn verdict_name(driver: &dyn Driver, options: Options) -> Result<String, String> {
    let nvrtc = Nvrtc::find()?;
    let mut hash = Sha256::new();
    // Launchers and cases may change where no kernel does.
    let version = env!("CARGO_PKG_VERSION");
    hash.update(format!("{version} {} {:?} {:?}", driver.name(), options.precision, options.tier));
    for unit in &units() {
        hash.update(Job { unit, architecture: driver.architecture(), output: driver.output() }.key(nvrtc)?);
    }
    Ok(hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_that_is_cut_off_is_none() {
        assert_eq!(read("checked\n"), Some(BTreeSet::new()));
        assert_eq!(read("linear_forward\nchecked\n"), Some(BTreeSet::from(["linear_forward".to_owned()])));
        assert_eq!((read(""), read("linear_forward\n"), read("linear_forward\nchec")), (None, None, None));
    }
}
