//! What a plan takes at best on a machine that is known by a few numbers: the roofline of Williams, Waterman and Patterson
//! (2009), step by step.
//!
//! A step takes the time of its arithmetic at the peak or of its traffic at the memory's bandwidth, whichever is longer, and
//! what it costs to start it. Real kernels take longer; only what stays in a cache between two steps, or an algorithm of
//! fewer products than the formula (Winograd's), can make one shorter.

use crate::backend::StepTime;
use crate::error::Error;
use crate::op::{FEW_CLASSES, Op};
use crate::plan::{Place, Plan, Step};
use crate::shape::DType;
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// How products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// IEEE single precision.
    Fp32,
    /// Operands rounded to TF32, which has 10 bits of mantissa, on tensor cores; sums in fp32.
    Tf32,
    /// Activations and weights in bf16; sums, parameters and statistics in fp32: a plan that is
    /// [narrowed](Plan::narrowed).
    Bf16,
}

impl Precision {
    /// All, with the names that people use.
    pub const NAMED: [(&str, Precision); 3] =
        [("fp32", Precision::Fp32), ("tf32", Precision::Tf32), ("bf16", Precision::Bf16)];
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMED[*self as usize].0)
    }
}

/// A machine by what it can do at best.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// What people call it.
    pub name: Cow<'static, str>,
    /// Floating-point operations a second in fp32, outside of tensor cores.
    pub fp32: f64,
    /// The same for products in TF32, if there are any.
    pub tf32: Option<f64>,
    /// The same for products in bf16, if there are any.
    pub bf16: Option<f64>,
    /// Bytes a second from and to memory.
    pub bandwidth: f64,
    /// Seconds to start a step.
    pub overhead: f64,
    /// Bytes of memory, if that is known.
    pub memory: Option<f64>,
}

/// Starting a kernel of a replayed graph, in seconds. Data sheets do not have it: an assumption, rather too small.
const LAUNCH: f64 = 1e-6;

const fn gpu(name: &'static str, [fp32, tf32, bf16]: [f64; 3], bandwidth: f64, memory: f64) -> Machine {
    Machine {
        name: Cow::Borrowed(name),
        fp32: 1e12 * fp32,
        tf32: Some(1e12 * tf32),
        bf16: Some(1e12 * bf16),
        bandwidth: 1e9 * bandwidth,
        overhead: LAUNCH,
        memory: Some(1e9 * memory),
    }
}

/// Machines by the names of the command line, from their makers' data sheets. Rates of tensor cores are those of dense
/// matrices with sums in fp32.
///
/// # Source
/// NVIDIA, H100 Tensor Core GPU data sheet (SXM); H200 Tensor Core GPU data sheet (SXM); A100 Tensor Core GPU data sheet
/// (SXM, 80 GB); Ada GPU architecture white paper, appendix A (GeForce RTX 4090).
pub const MACHINES: [(&str, Machine); 4] = [
    ("h100", gpu("NVIDIA H100 SXM", [67.0, 494.7, 989.4], 3350.0, 80.0)),
    ("h200", gpu("NVIDIA H200 SXM", [67.0, 494.7, 989.4], 4800.0, 141.0)),
    ("a100", gpu("NVIDIA A100 SXM 80 GB", [19.5, 156.0, 312.0], 2039.0, 80.0)),
    ("rtx4090", gpu("NVIDIA GeForce RTX 4090", [82.6, 82.6, 165.2], 1008.0, 24.0)),
];

/// What a step waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Its arithmetic.
    Compute,
    /// Its traffic.
    Memory,
}

/// A step's time at best.
#[derive(Clone, Debug, PartialEq)]
pub struct StepPrediction {
    /// Layer it belongs to.
    pub label: String,
    /// Its operator.
    pub op: &'static str,
    /// Seconds.
    pub seconds: f64,
    /// What it waits for.
    pub limit: Limit,
}

/// A plan's time and memory at best.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// In the order of the plan.
    pub steps: Vec<StepPrediction>,
    /// Bytes of each persistent buffer, by name: parameters, gradients, state of the optimiser, images, tables.
    pub persistent: Vec<(String, usize)>,
    /// Bytes of all that lives within a step, as [`Plan::arena_bytes`] says.
    pub arena: usize,
}

impl Machine {
    /// Operations a second for products in a precision.
    ///
    /// # Errors
    /// [`Error::Backend`], when the machine has none.
    pub fn peak(&self, precision: Precision) -> Result<f64, Error> {
        let peak = match precision {
            Precision::Fp32 => Some(self.fp32),
            Precision::Tf32 => self.tf32,
            Precision::Bf16 => self.bf16,
        };
        peak.ok_or_else(|| Error::Backend {
            backend: "roofline",
            message: format!(
                "expected a peak of products in {precision}, found none for {} (fp32 is there)",
                self.name
            ),
        })
    }
}

impl Prediction {
    /// Seconds of the whole plan.
    pub fn seconds(&self) -> f64 {
        self.steps.iter().map(|step| step.seconds).sum()
    }

    /// Seconds of the steps that wait for memory.
    pub fn memory_bound_seconds(&self) -> f64 {
        self.steps.iter().filter(|step| step.limit == Limit::Memory).map(|step| step.seconds).sum()
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.arena + self.persistent.iter().map(|(_, bytes)| bytes).sum::<usize>()
    }

    /// The steps as a backend would have timed them, to the nanosecond.
    pub fn times(&self) -> Vec<StepTime> {
        let time = |step: &StepPrediction| StepTime {
            label: step.label.clone(),
            op: step.op,
            time: Duration::from_secs_f64(step.seconds),
        };
        self.steps.iter().map(time).collect()
    }
}

impl Plan {
    /// Time and memory of this plan at best. A precision of bf16 is that of the [narrowed](Plan::narrowed) plan.
    ///
    /// # Errors
    /// [`Error`], when the machine has no products of that precision, or the plan none in bf16.
    pub fn predict(&self, machine: &Machine, precision: Precision) -> Result<Prediction, Error> {
        let peak = machine.peak(precision)?;
        let narrowed = if precision == Precision::Bf16 { Some(self.narrowed()?) } else { None };
        let plan = narrowed.as_ref().unwrap_or(self);
        let predict = |step: &Step| {
            let cost = plan.cost(step);
            let peak = if plan.is_product_in(step, precision) { peak } else { machine.fp32 };
            let (compute, memory) = (cost.flops.useful as f64 / peak, cost.bytes as f64 / machine.bandwidth);
            StepPrediction {
                label: step.label.clone(),
                op: step.op.name(),
                seconds: compute.max(memory) + machine.overhead,
                limit: if compute > memory { Limit::Compute } else { Limit::Memory },
            }
        };
        let persistent = plan.buffers.iter().filter(|buffer| buffer.place == Place::Persistent);
        Ok(Prediction {
            steps: plan.steps.iter().map(predict).collect(),
            persistent: persistent.map(|buffer| (buffer.name.clone(), buffer.kind.bytes())).collect(),
            arena: plan.arena_bytes(),
        })
    }

    /// Whether a step is a product that a machine computes in this precision.
    fn is_product_in(&self, step: &Step, precision: Precision) -> bool {
        match &step.op {
            Op::MarginSoftmaxForward(op) if op.0.classes <= FEW_CLASSES => false,
            Op::MarginSoftmaxBackward(op) if op.0.classes <= FEW_CLASSES => false,
            Op::MarginSoftmaxForward(_) | Op::MarginSoftmaxBackward(_) => true,
            Op::Conv2dForward(_)
            | Op::Conv2dBackwardData(_)
            | Op::Conv2dBackwardWeight(_)
            | Op::LinearForward(_)
            | Op::LinearBackwardData(_)
            | Op::LinearBackwardWeight(_)
            | Op::Gemm(_) => {
                precision != Precision::Bf16 || self.kinds(&step.reads).iter().any(|kind| kind.dtype == DType::Bf16)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::PlanBuilder;
    use crate::parameters::{Init, ParameterSet};
    use crate::shape::{Shape, Type};

    /// 1,000 operations a second, 2,000 in bf16, and 100 bytes.
    fn machine() -> Machine {
        let name = "slide rule".into();
        Machine { name, fp32: 1e3, tf32: None, bf16: Some(2e3), bandwidth: 1e2, overhead: 0.5, memory: None }
    }

    /// A 1×1 convolution of 4 images of 3 channels to 5, then a residual sum of what it makes with itself.
    fn plan() -> Plan {
        let mut parameters = ParameterSet::default();
        parameters.add("filter", Shape::filter(1, 1, 3, 5), Init::Constant(1.0), 1.0, 1.0).unwrap();
        let mut plan = PlanBuilder::new(&parameters);
        let x = plan.persistent("x", Type::f32(Shape::activation(1, 1, 4, 3)));
        plan.label("conv");
        let y = plan.conv2d(x, plan.parameter("filter").unwrap(), None, 1, 0).unwrap();
        plan.label("sum");
        plan.add(y, y).unwrap();
        plan.finish()
    }

    #[test]
    fn a_tiny_plan_takes_what_a_person_computes() {
        let prediction = plan().predict(&machine(), Precision::Fp32).unwrap();
        // 2·4·3·5 = 120 operations: 0.12 s. 4·(12 + 15 + 20) = 188 bytes: 1.88 s.
        // 20 operations; 4·(20 + 20 + 20) = 240 bytes: 2.4 s.
        let seconds: Vec<f64> = prediction.steps.iter().map(|step| step.seconds).collect();
        assert_eq!(seconds, [1.88 + 0.5, 2.4 + 0.5]);
        assert!((prediction.seconds() - 5.28).abs() < 1e-12 && prediction.memory_bound_seconds() > 5.2);
        let bytes: Vec<usize> = prediction.persistent.iter().map(|(_, bytes)| *bytes).collect();
        assert_eq!((bytes, prediction.arena), (vec![4 * 16, 48], 80 + 80)); // 15 parameters fill a line
        assert_eq!(prediction.bytes(), 64 + 48 + 80 + 80);
    }

    #[test]
    fn products_take_the_peak_of_their_precision_and_other_steps_that_of_fp32() {
        let machine = Machine { bandwidth: 1e9, overhead: 0.0, ..machine() };
        for (precision, product) in [(Precision::Fp32, 0.12), (Precision::Bf16, 0.06)] {
            let prediction = plan().predict(&machine, precision).unwrap();
            let of = |op: &str| prediction.steps.iter().find(|step| step.op == op).unwrap();
            assert_eq!((of("conv2d_forward").seconds, of("conv2d_forward").limit), (product, Limit::Compute));
            assert_eq!(of("add").seconds, 0.02, "{precision}");
        }
    }

    #[test]
    fn more_of_anything_never_takes_longer() {
        let mut before = f64::INFINITY;
        for factor in [1.0, 1.5, 2.0, 10.0, 100.0, 1e4] {
            let machine = Machine { bandwidth: 1e2 * factor, ..machine() };
            let seconds = plan().predict(&machine, Precision::Fp32).unwrap().seconds();
            assert!(seconds < before || factor > 100.0, "{factor}: {seconds}, before {before}");
            assert!(seconds <= before);
            before = seconds;
        }
        // Then arithmetic is left.
        assert!((before - (0.12 + 0.02 + 1.0)).abs() < 1e-12, "{before}");
    }

    #[test]
    fn a_precision_that_a_machine_has_not_is_refused() {
        let error = plan().predict(&machine(), Precision::Tf32).unwrap_err().to_string();
        assert!(error.contains("tf32") && error.contains("slide rule"), "{error}");
    }
}
