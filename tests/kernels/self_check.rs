//! A device is checked before it is used, and what it computes wrong is not used.

use crate::device::TestDevice;
use sphereface_cuda::{CudaBackend, Options, Precision, self_check};
use sphereface_tensor::Backend;
use sphereface_testkit::cases;
use sphereface_testkit::check_case;

fn tf32() -> Options {
    Options { precision: Precision::Tf32, ..Options::default() }
}

/// A device whose kernels with this in their names write zeros.
fn broken(kernels: &'static str) -> impl Fn() -> Result<TestDevice, String> {
    move || {
        let mut device = TestDevice::new().ok_or("no device")?;
        device.broken = Some(kernels);
        Ok(device)
    }
}

#[test]
fn every_operator_passes_the_self_check() {
    for precision in [Precision::Fp32, Precision::Tf32, Precision::Bf16] {
        let Some(device) = TestDevice::new() else { return };
        drop(device);
        let findings = self_check(&broken("none of them"), Options { precision, ..Options::default() }).unwrap();
        let wrong: Vec<_> = findings.iter().filter(|finding| finding.error.is_err()).collect();
        assert!(wrong.is_empty() && findings.len() > 40, "{precision:?}: {wrong:?}");
    }
}

#[test]
fn a_kernel_that_is_wrong_is_replaced_by_the_portable_one() {
    let Some(device) = TestDevice::new() else { return };
    drop(device);
    let new = broken("linear_forward_mma");
    let (mut backend, lines) = CudaBackend::checked(&new, tf32(), None).unwrap();
    assert!(lines.len() == 1 && lines[0].starts_with("linear_forward"), "{lines:?}");
    let [forward, backward, _] = cases::linear_passes([2, 2, 33, 24, 40]).map(|case| case.in_tf32());
    check_case(&forward, &mut backend);
    check_case(&backward, &mut backend);
    backend.sync().unwrap();
    let names: Vec<&String> = backend.driver().launches.keys().collect();
    assert!(names.iter().any(|name| name.contains("mma")), "only what is wrong is replaced: {names:?}");
}

#[test]
fn a_device_whose_portable_kernels_are_wrong_is_not_used() {
    let Some(device) = TestDevice::new() else { return };
    drop(device);
    let error = CudaBackend::checked(&broken("prelu_forward"), tf32(), None).err().unwrap();
    assert!(error.contains("prelu_forward") && !error.contains('\n'), "{error}");
}

#[test]
fn a_wrong_kernel_of_a_head_of_many_classes_is_found() {
    let Some(device) = TestDevice::new() else { return };
    drop(device);
    for (kernels, operator) in
        [("margin_softmax_forward_tiles_mma", "margin_softmax_forward"), ("gemm_tn_mma", "margin_softmax_backward")]
    {
        let findings = self_check(&broken(kernels), tf32()).unwrap();
        assert!(findings.iter().any(|finding| finding.operator == operator && finding.error.is_err()), "{kernels}");
    }
}
