//! A workload that a backend is ready to run, with what went in and what came out.

use anyhow::{Context, Result};
use sphereface_export::Trained;
use sphereface_models::{LOG, Model, Training};
use sphereface_tensor::op::{GatherBatch, METRICS, MarginSoftmax, Scale};
use sphereface_tensor::random::{Stream, uniform};
use sphereface_tensor::{Backend, Cost, PARAMETERS, Plan, Program, Type};
use sphereface_testkit::workload::{Arithmetic, BATCHES, LAMBDA, SEED, STEPS, Task, Workload, losses};
use sphereface_testkit::{TrainingCase, prepare_case};

/// Numbers of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Single precision.
    F32(Vec<f32>),
    /// Labels.
    I32(Vec<i32>),
    /// Pixels.
    U8(Vec<u8>),
}

/// An operand by the name that the protocol gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Name in the formula.
    pub name: String,
    /// Sizes, slowest dimension first.
    pub shape: Vec<usize>,
    /// Elements in that order.
    pub values: Values,
}

impl Tensor {
    fn f32(name: &str, shape: Vec<usize>, values: Vec<f32>) -> Tensor {
        Tensor { name: name.into(), shape, values: Values::F32(values) }
    }
}

/// Programs of one workload, and its numbers.
#[derive(Debug)]
pub struct Prepared {
    /// The same work on different memory.
    pub programs: Vec<Program>,
    /// Operands before the first run.
    pub inputs: Vec<Tensor>,
    /// What the first run, or the first steps of a training, made of them.
    pub outputs: Vec<Tensor>,
    /// Arithmetic and traffic of a run.
    pub cost: Cost,
}

impl Prepared {
    /// Lowers a workload `sets` times, each time with memory of its own, and runs it once.
    ///
    /// # Errors
    /// When the backend refuses it or fails.
    pub fn new(work: &Workload, arithmetic: Arithmetic, backend: &mut dyn Backend, sets: usize) -> Result<Prepared> {
        if let Some((case, names)) = work.case() {
            let case = if arithmetic == Arithmetic::Bf16 { case.in_bf16().unwrap_or(case) } else { case };
            return operator(&case, &names, backend, sets);
        }
        match work {
            Workload::Head { .. } => head(work, backend, sets),
            _ => network(work, backend),
        }
    }
}

fn operator(
    case: &sphereface_testkit::cases::Case,
    names: &sphereface_testkit::workload::Names,
    backend: &mut dyn Backend,
    sets: usize,
) -> Result<Prepared> {
    let tensors = |names: &[&str], arrays: &[sphereface_tensor::op::Array]| -> Vec<Tensor> {
        let named = names.iter().zip(arrays).filter(|(name, _)| !name.is_empty());
        let tensor = |(name, array): (&&str, &sphereface_tensor::op::Array)| {
            let values = array.values.iter().map(|&value| value as f32).collect();
            Tensor::f32(name, array.shape.sizes().collect(), values)
        };
        named.map(tensor).collect()
    };
    let first = prepare_case(case, backend)?;
    let inputs = tensors(names.inputs, first.operands());
    backend.run(first.program, 1)?;
    let outputs = tensors(names.outputs, &first.results(backend)?);
    let mut programs = vec![first.program];
    let cost = first.plan.total_cost();
    drop(first); // Its values in f64 are twice as large as the operands.
    for set in 1..sets {
        let again = sphereface_testkit::cases::Case { name: format!("{} set {set}", case.name), ..case.clone() };
        programs.push(prepare_case(&again, backend)?.program);
    }
    Ok(Prepared { programs, inputs, outputs, cost })
}

/// The plan with other names for its buffers outside of the arena.
fn renamed(plan: &Plan, set: usize) -> Plan {
    let mut plan = plan.clone();
    plan.buffers.iter_mut().for_each(|buffer| buffer.name = in_set(&buffer.name, set));
    plan
}

fn in_set(name: &str, set: usize) -> String {
    if set == 0 { name.to_owned() } else { format!("{name} set {set}") }
}

/// Uploads how many rows a head's batch has, and λ.
pub(crate) fn head_controls(backend: &mut dyn Backend, set: usize, batch: usize) -> Result<()> {
    backend.upload(&in_set("count", set), bytemuck::bytes_of(&(batch as u32)))?;
    Ok(backend.upload(&in_set("lambdas", set), bytemuck::bytes_of(&LAMBDA))?)
}

fn head(work: &Workload, backend: &mut dyn Backend, sets: usize) -> Result<Prepared> {
    let &Workload::Head { classes, dimension, batch } = work else { anyhow::bail!("expected a head, found {work:?}") };
    let (parameters, plan) = work.plan()?;
    let block = parameters.initial(SEED);
    let label = |row: usize| (uniform(SEED, Stream::Order, 0, row as u64) * classes as f64) as u32;
    let labels: Vec<u32> = (0..batch).map(label).collect();
    let mut programs = Vec::new();
    for set in 0..sets {
        let program = backend.lower(&renamed(&plan, set))?;
        backend.upload(&in_set(PARAMETERS, set), bytemuck::cast_slice(&block))?;
        backend.upload(&in_set("labels", set), bytemuck::cast_slice(&labels))?;
        head_controls(backend, set, batch)?;
        programs.push(program);
    }
    backend.run(programs[0], 1)?;
    let mut download = |name: &str, length: usize| -> Result<Vec<f32>> {
        let mut values = vec![0.0f32; length];
        backend.download(name, bytemuck::cast_slice_mut(&mut values))?;
        Ok(values)
    };
    let rows = download("loss", batch)?;
    let mean = rows.iter().copied().map(f64::from).sum::<f64>() / batch as f64;
    let (x, w) = (vec![batch, dimension], vec![classes, dimension]);
    let outputs = vec![
        Tensor::f32("loss", vec![1], vec![mean as f32]),
        Tensor::f32("d_x", x.clone(), download("d_x", batch * dimension)?),
        Tensor::f32("d_w", w.clone(), download("d_w", classes * dimension)?),
    ];
    let values = |name: &str| parameters.get(name).map(|parameter| block[parameter.range()].to_vec());
    let mut inputs: Vec<Tensor> = [("x", x), ("w", w)]
        .into_iter()
        .filter_map(|(name, shape)| Some(Tensor::f32(name, shape, values(name)?)))
        .collect();
    let labels = labels.into_iter().map(|label| label as i32).collect();
    inputs.push(Tensor { name: "labels".into(), shape: vec![batch], values: Values::I32(labels) });
    Ok(Prepared { programs, inputs, outputs, cost: plan.total_cost() })
}

fn network(work: &Workload, backend: &mut dyn Backend) -> Result<Prepared> {
    let case = work.training().with_context(|| format!("expected a named network, found {work:?}"))?;
    let (parameters, plan) = work.plan()?;
    let program = backend.lower(&plan)?;
    let trains = matches!(work, Workload::Network { task: Task::TrainingStep, .. });
    let block = parameters.initial(case.training.seed);
    let mut inputs = images(&case, trains);
    // Of a scale by the lengths of both vectors, class weights are written as they are, not as unit vectors.
    let head = MarginSoftmax { scale: Scale::InnerProduct, ..case.model.head.clone() };
    let model = Model { head, network: case.model.network.clone() };
    let trained = Trained { model: &model, parameters: &parameters, values: &block, facts: &[] };
    inputs.extend(trained.tensors()?.into_iter().map(|it| Tensor::f32(&it.name, it.shape, it.values)));
    let mut download = |name: &str, length: usize, runs: usize| -> Result<Vec<f32>> {
        if trains {
            case.upload(&parameters, backend)?
        } else {
            case.upload_model(&parameters, backend)?
        }
        backend.run(program, runs)?;
        let mut values = vec![0.0f32; length];
        backend.download(name, bytemuck::cast_slice_mut(&mut values))?;
        Ok(values)
    };
    let outputs = if trains {
        let log = download(LOG, case.training.log_rows * METRICS.len(), STEPS)?;
        let log: Vec<f64> = log.into_iter().map(f64::from).collect();
        let losses: Vec<f32> = losses(&log, STEPS).into_iter().map(|loss| loss as f32).collect();
        vec![Tensor::f32("losses", vec![STEPS], losses)]
    } else {
        let (batch, dimension) = (case.training.batch, case.model.network.embedding);
        let embeddings = download(&case.training.source.embedding_buffer(), batch * dimension, 1)?;
        vec![Tensor::f32("embeddings", vec![batch, dimension], embeddings)]
    };
    Ok(Prepared { programs: vec![program], inputs, outputs, cost: plan.total_cost() })
}

/// The batches in the order in which the plan visits them; embeddings are those of the first batch.
fn images(case: &TrainingCase, trains: bool) -> Vec<Tensor> {
    let Training { batch, seed, augmentation, source, .. } = case.training;
    let image = case.model.network.image;
    let pixels: usize = image.iter().product();
    let gather = GatherBatch { image, batch, seed, shuffle: trains, augmentation, offset: 0.0, factor: 1.0 };
    let batches = if trains { BATCHES } else { 1 };
    let rows = (0..batches).flat_map(|step| (0..batch).map(move |n| (step, n)));
    let order: Vec<usize> =
        rows.map(|(step, n)| gather.sample(step as u32, n, source.images).0.image as usize).collect();
    let bytes = order.iter().flat_map(|&index| case.images[index * pixels..][..pixels].iter().copied()).collect();
    let labels = order.iter().map(|&index| i32::from(case.labels[index])).collect();
    let [height, width, channels] = image;
    vec![
        Tensor {
            name: "images".into(),
            shape: vec![batches, batch, height, width, channels],
            values: Values::U8(bytes),
        },
        Tensor { name: "labels".into(), shape: vec![batches, batch], values: Values::I32(labels) },
    ]
}

/// The largest difference between what two programs made of the same numbers, relative to the largest of ours.
///
/// # Errors
/// One line, when a tensor is missing, of another shape, or not finite.
pub fn difference(ours: &[Tensor], theirs: &[Tensor]) -> Result<f64, String> {
    let mut worst = 0.0f64;
    for Tensor { name, shape, values } in ours {
        let Values::F32(ours) = values else { return Err(format!("{name}: expected f32")) };
        let found = theirs.iter().find(|tensor| tensor.name == *name).ok_or_else(|| format!("{name}: missing"))?;
        let Values::F32(theirs) = &found.values else { return Err(format!("{name}: expected f32, found integers")) };
        if found.shape != *shape {
            return Err(format!("{name}: expected shape {shape:?}, found {:?}", found.shape));
        }
        let largest = ours.iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
        for (ours, theirs) in ours.iter().zip(theirs) {
            let difference = f64::from((ours - theirs).abs()) / f64::from(largest);
            if !difference.is_finite() {
                return Err(format!("{name}: found {theirs} where ours is {ours}"));
            }
            worst = worst.max(difference);
        }
    }
    Ok(worst)
}

/// How far a peer may be from ours, as [`difference`] counts.
pub fn tolerance(work: &Workload, arithmetic: Arithmetic) -> f64 {
    let of_f32 = if matches!(work, Workload::Network { .. }) { 1e-3 } else { 1e-4 };
    match arithmetic {
        Arithmetic::F32 => of_f32,
        Arithmetic::Tf32 => 1e-2,
        Arithmetic::Bf16 => 5e-2,
    }
}

/// Bytes of all operands of a plan, each counted once.
pub fn operand_bytes(plan: &Plan) -> u64 {
    let outside = plan.buffers.iter().filter(|buffer| buffer.place == sphereface_tensor::Place::Persistent);
    outside.map(|buffer| Type::bytes(&buffer.kind) as u64).sum::<u64>() + plan.arena_bytes() as u64
}
