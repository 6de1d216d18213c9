//! Runs one operator on a backend and compares it with the operator's reference.

use crate::cases::{Case, Fill};
use crate::compare::{Tolerance, largest_error};
use half::bf16;
use rayon::prelude::*;
use sphereface_tensor::op::{Array, Op};
use sphereface_tensor::random::{Stream, normal, uniform};
use sphereface_tensor::{Backend, Buffer, BufferId, Cosine, DType, Error, Place, Plan, Program, Step, Type};

/// Bytes of guard on both sides of a written buffer, in elements.
const GUARD_BYTE: u8 = 0xA5;
/// Fewest elements that are worth a task of their own.
const ELEMENTS_OF_TASK: usize = 1 << 14;

/// Values of a buffer after a run, as f64.
fn decode(kind: &Type, bytes: &[u8]) -> Vec<f64> {
    let elements = kind.shape.elements();
    let of = |size: usize| bytes.chunks_exact(size).take(elements);
    match kind.dtype {
        DType::F32 => of(4).map(|b| f64::from(bytemuck::pod_read_unaligned::<f32>(b))).collect(),
        DType::U32 => of(4).map(|b| f64::from(bytemuck::pod_read_unaligned::<u32>(b))).collect(),
        DType::Bf16 => of(2).map(|b| f64::from(bytemuck::pod_read_unaligned::<bf16>(b))).collect(),
        DType::Cosine => of(2).map(|b| f64::from(bytemuck::pod_read_unaligned::<Cosine>(b).value())).collect(),
        DType::U8 => of(1).map(|b| f64::from(b[0])).collect(),
    }
}

fn encode(kind: &Type, values: &[f64]) -> Vec<u8> {
    let values = values.par_iter().with_min_len(ELEMENTS_OF_TASK);
    match kind.dtype {
        DType::F32 => values.flat_map_iter(|&v| (v as f32).to_le_bytes()).collect(),
        DType::U32 => values.flat_map_iter(|&v| (v as u32).to_le_bytes()).collect(),
        DType::Bf16 => values.flat_map_iter(|&v| bf16::from_f64(v).to_le_bytes()).collect(),
        DType::Cosine => values.flat_map_iter(|&v| bytemuck::bytes_of(&Cosine::new(v as f32)).to_vec()).collect(),
        DType::U8 => values.map(|&v| v as u8).collect(),
    }
}

/// The nearest number that an element of this type holds.
fn rounded(dtype: DType, value: f64) -> f64 {
    match dtype {
        DType::F32 => f64::from(value as f32),
        DType::U32 => f64::from(value as u32),
        DType::Bf16 => bf16::from_f64(value).to_f64(),
        DType::Cosine => f64::from(Cosine::new(value as f32).value()),
        DType::U8 => f64::from(value as u8),
    }
}

/// The nearest number of 10 bits of mantissa, ties away from zero, as `cvt.rna.tf32` rounds.
pub fn to_tf32(value: f64) -> f64 {
    f64::from(f32::from_bits((value as f32).to_bits().wrapping_add(1 << 12) & !((1 << 13) - 1)))
}

/// The operand's values, rounded to its type, so that reference and backend start from the same numbers.
fn fill(kind: &Type, fill: &Fill, operand: u32) -> Array {
    let elements = kind.shape.elements();
    let random = |i: usize| uniform(11, Stream::Augmentation, operand, i as u64);
    let standard = |i: usize| normal(11, Stream::Initialisation, operand, i as u64);
    if let Fill::Values(values) = fill {
        assert_eq!(values.len(), elements, "values of an operand {kind}");
    }
    let value = |i: usize| match fill {
        Fill::Normal => standard(i),
        Fill::Tf32 => to_tf32(standard(i)),
        Fill::Positive => 0.5 + random(i),
        Fill::Below(limit) => (random(i) * f64::from(*limit)).floor(),
        Fill::Constant(value) => *value,
        Fill::Values(values) => values[i],
    };
    // By all processors: operands that are timed have millions of elements.
    let indices = (0..elements).into_par_iter().with_min_len(ELEMENTS_OF_TASK);
    Array { shape: kind.shape.clone(), values: indices.map(|i| rounded(kind.dtype, value(i))).collect() }
}

/// A case that a backend is ready to run.
#[derive(Clone, Debug)]
pub struct PreparedCase {
    /// Its one step.
    pub program: Program,
    /// The step and its buffers, all persistent, with guards between them.
    pub plan: Plan,
    /// Values of the operands that are read, then of those that are updated.
    arrays: Vec<Array>,
}

impl PreparedCase {
    /// Values of the operands that are read, then of those that are updated, before the first run.
    pub fn operands(&self) -> &[Array] {
        &self.arrays
    }

    /// Values of the operands that are written, then of those that are updated, as the backend has them now.
    ///
    /// # Errors
    /// [`Error`], when the device fails.
    pub fn results(&self, backend: &mut dyn Backend) -> Result<Vec<Array>, Error> {
        let ids = self.step().writes.iter().chain(&self.step().updates);
        let download = |&id: &BufferId| {
            let Buffer { name, kind, .. } = self.plan.buffer(id);
            let mut bytes = vec![0; kind.bytes()];
            backend.download(name, &mut bytes)?;
            Ok(Array { shape: kind.shape.clone(), values: decode(kind, &bytes) })
        };
        ids.map(download).collect()
    }

    /// The case's only step.
    pub fn step(&self) -> &Step {
        &self.plan.steps[0]
    }

    fn guards(&self) -> impl Iterator<Item = &Buffer> {
        self.plan.buffers.iter().filter(|buffer| buffer.name.ends_with("guard"))
    }
}

/// The plan of a case's one step, with guards between all buffers.
///
/// # Errors
/// [`Error`], when the shape rule refuses the case.
pub fn plan_of_case(case: &Case) -> Result<Plan, Error> {
    let reads: Vec<&Type> = case.reads.iter().map(|(kind, _)| kind).collect();
    let updates: Vec<&Type> = case.updates.iter().map(|(kind, _)| kind).collect();
    let writes = case.op.outputs(&reads, &updates)?;
    let kinds = reads.iter().copied().chain(&writes).chain(updates.iter().copied());
    // Guards between the buffers: persistent buffers follow each other in memory.
    let mut plan = Plan::default();
    let guard = Type::u8(sphereface_tensor::Shape::vector(sphereface_tensor::Dim::Length, 64));
    let mut ids = Vec::new();
    for kind in kinds {
        let name = format!("{} {}", case.name, plan.buffers.len());
        for (name, kind) in [(format!("{name} guard"), &guard), (name, kind)] {
            plan.buffers.push(Buffer { name, kind: kind.clone(), place: Place::Persistent });
        }
        ids.push(BufferId(plan.buffers.len() - 1));
    }
    plan.buffers.push(Buffer { name: format!("{} last guard", case.name), kind: guard, place: Place::Persistent });
    let (read_ids, rest) = ids.split_at(reads.len());
    let (write_ids, update_ids) = rest.split_at(writes.len());
    plan.steps.push(Step {
        op: case.op.clone(),
        label: case.name.clone(),
        reads: read_ids.to_vec(),
        writes: write_ids.to_vec(),
        updates: update_ids.to_vec(),
    });
    Ok(plan)
}

/// Lowers a case, whose operands are still to be uploaded: see [`plan_of_case`].
///
/// # Errors
/// [`Error`], when the shape rule or the backend refuses the case.
pub fn lower_case(case: &Case, backend: &mut dyn Backend) -> Result<(Plan, Program), Error> {
    let plan = plan_of_case(case)?;
    let program = backend.lower(&plan)?;
    Ok((plan, program))
}

/// Lowers a case and uploads its operands.
///
/// # Errors
/// [`Error`], when the shape rule or the backend refuses the case.
pub fn prepare_case(case: &Case, backend: &mut dyn Backend) -> Result<PreparedCase, Error> {
    let (plan, program) = lower_case(case, backend)?;
    let mut arrays = Vec::new();
    let ids = plan.steps[0].reads.iter().chain(&plan.steps[0].updates);
    for (&id, (kind, how)) in ids.zip(case.reads.iter().chain(&case.updates)) {
        let array = fill(kind, how, arrays.len() as u32);
        backend.upload(&plan.buffer(id).name, &encode(kind, &array.values))?;
        arrays.push(array);
    }
    let prepared = PreparedCase { program, plan, arrays };
    for guard in prepared.guards() {
        backend.upload(&guard.name, &[GUARD_BYTE; 64])?;
    }
    Ok(prepared)
}

/// Written and updated arrays of a case: as the backend has them, and as the reference does.
///
/// # Errors
/// [`Error`], when the shape rule or the backend refuses the case, or something is written past the end of a buffer.
pub fn run_case(case: &Case, backend: &mut dyn Backend) -> Result<Vec<(Type, Array, Array, Array)>, Error> {
    let prepared = prepare_case(case, backend)?;
    backend.run(prepared.program, 1)?;
    backend.sync()?;
    for guard in prepared.guards() {
        let mut bytes = [0; 64];
        backend.download(&guard.name, &mut bytes)?;
        if bytes != [GUARD_BYTE; 64] {
            let message = "expected nothing to be written past the end of a buffer".into();
            return Err(Error::Buffer { name: guard.name.clone(), message });
        }
    }
    let PreparedCase { plan, arrays, .. } = &prepared;
    let (read_arrays, update_arrays) = arrays.split_at(case.reads.len());
    let read_refs: Vec<&Array> = read_arrays.iter().collect();
    let mut updated = update_arrays.to_vec();
    let expected = case.op.reference(&read_refs, &mut updated);
    let magnitude = magnitudes(&case.op, read_arrays, update_arrays);
    let step = prepared.step();
    let kinds = plan.kinds(&step.writes).into_iter().chain(plan.kinds(&step.updates));
    let all = expected.into_iter().chain(updated).zip(magnitude).zip(kinds);
    let found = prepared.results(backend)?;
    let results = found.into_iter().zip(all);
    let results = results.map(|(found, ((expected, magnitude), kind))| (kind.clone(), found, expected, magnitude));
    Ok(results.collect())
}

/// Sums of the magnitudes of the products that make up each written and updated element: what the reference makes of the
/// operands' magnitudes. Where the sign of a sum or of an operand decides what is done, both signs' together.
fn magnitudes(op: &Op, reads: &[Array], updates: &[Array]) -> Vec<Array> {
    let of = |negated: &[usize]| {
        let signed = |(i, array): (usize, &Array)| {
            let sign = if negated.contains(&i) { -1.0 } else { 1.0 };
            Array { values: array.values.iter().map(|v| sign * v.abs()).collect(), ..array.clone() }
        };
        let reads: Vec<Array> = reads.iter().enumerate().map(signed).collect();
        let mut updates: Vec<Array> =
            updates.iter().enumerate().map(|(i, array)| signed((i + reads.len(), array))).collect();
        let written = op.reference(&reads.iter().collect::<Vec<_>>(), &mut updates);
        written.into_iter().chain(updates).collect::<Vec<_>>()
    };
    let mut both = of(&[]);
    if let Some(operands) = rectified(op) {
        for (sum, other) in both.iter_mut().zip(of(operands)) {
            sum.values.iter_mut().zip(other.values).for_each(|(sum, other)| *sum = sum.abs() + other.abs());
        }
    }
    both
}

/// Operands whose signs together decide the branch of a rectifier; `None` where there is none.
fn rectified(op: &Op) -> Option<&'static [usize]> {
    match op {
        Op::PreluForward(_) => Some(&[0]),
        Op::PreluBackward(_) => Some(&[1]),
        Op::Conv2dForward(op) if op.slope => Some(&[0, 2]),
        Op::Gemm(op) if op.slope => Some(if op.bias { &[0, 2] } else { &[0] }),
        Op::Conv2dBackwardData(op) if op.slope => Some(if op.addend { &[3] } else { &[2] }),
        _ => None,
    }
}

/// Runs a case and compares every result with the reference. Returns the largest error, as [`largest_error`] does.
///
/// # Panics
/// When a result is outside the case's tolerance, or the case is refused.
pub fn check_case(case: &Case, backend: &mut dyn Backend) -> f64 {
    let results = run_case(case, backend).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    check_results(case, &results)
}

/// Compares results of [`run_case`] with the reference, and returns the largest error.
///
/// # Panics
/// When one is outside the case's tolerance.
pub fn check_results(case: &Case, results: &[(Type, Array, Array, Array)]) -> f64 {
    results_error(case, results).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a case and returns its largest error.
///
/// # Errors
/// One line, when the case is refused or a result is outside of its tolerance.
pub fn case_error(case: &Case, backend: &mut dyn Backend) -> Result<f64, String> {
    let results = run_case(case, backend).map_err(|error| format!("{}: {error}", case.name))?;
    results_error(case, &results)
}

/// The largest error of results of [`run_case`], or the first that is outside its tolerance.
pub(crate) fn results_error(case: &Case, results: &[(Type, Array, Array, Array)]) -> Result<f64, String> {
    let mut worst = 0.0f64;
    for (index, (kind, found, expected, magnitude)) in results.iter().enumerate() {
        let is_float = matches!(kind.dtype, DType::F32 | DType::Bf16 | DType::Cosine);
        let tolerance = if is_float { case.tolerance_of(index) } else { Tolerance::Exact };
        let error = largest_error(kind.dtype, &found.values, &expected.values, &magnitude.values, tolerance);
        worst = worst.max(error.map_err(|error| format!("{} result {index} {kind}: {error}", case.name))?);
    }
    Ok(worst)
}
