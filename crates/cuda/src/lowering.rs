//! The kernels of a plan: one for each step, and between them the sums of what steps leave in parts.
//!
//! Gradients of parameters are read at the end of a training step only. So the sums of their parts wait for each other,
//! and a few launches make all of them: before the first step that reads one, or when so many bytes wait that they would
//! leave the second-level cache.

use crate::launch::{Kernel, Operands};
use crate::launcher::{PlacedSum, part_sum};
use sphereface_tensor::op::Op;
use sphereface_tensor::{BufferId, Error, Lifetime, Place, Plan, Step};

/// Bytes of parts that wait, at most: more are added up at once. A third of the second-level cache of an H100.
const WAITING_BYTES: u64 = 16 << 20;
/// Parts begin at multiples of this.
const ALIGNMENT: u64 = 256;

/// A launch's operand.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operand {
    Buffer(BufferId),
    /// Bytes of a region of parts.
    Parts {
        region: usize,
        offset: u64,
        bytes: u64,
    },
    /// What a step leaves to another.
    Left(usize),
}

/// A kernel with its operands.
pub(crate) struct Item {
    /// The step that it belongs to, or that it is made for.
    pub(crate) step: usize,
    pub(crate) kernel: Kernel,
    pub(crate) reads: Vec<Operand>,
    pub(crate) writes: Vec<Operand>,
    pub(crate) updates: Vec<Operand>,
    pub(crate) parts: Vec<Operand>,
    pub(crate) left: Option<Operand>,
}

/// All kernels in order; the regions of parts, and what steps leave to others: their bytes, and the steps during which they
/// stay.
pub(crate) struct Lowering {
    pub(crate) items: Vec<Item>,
    pub(crate) regions: Vec<(u64, Lifetime)>,
    pub(crate) left: Vec<(u64, Lifetime)>,
}

/// Sums that wait: the parts of all lie in one region.
#[derive(Default)]
struct Waiting {
    first: usize,
    bytes: u64,
    /// By the buffer that the result is, or lies in.
    sums: Vec<(BufferId, PlacedSum)>,
}

/// The buffer that this one is a view of, or itself; and the element of it that this one begins at.
fn block(plan: &Plan, id: BufferId) -> (BufferId, usize) {
    match plan.buffer(id).place {
        Place::View { of, offset } => (of, offset),
        Place::Arena | Place::Persistent => (id, 0),
    }
}

impl Waiting {
    /// Adds what a step leaves in parts; returns where they are.
    fn add(&mut self, plan: &Plan, index: usize, kernel: &Kernel, region: usize) -> Vec<Operand> {
        if self.sums.is_empty() {
            self.first = index;
        }
        let place = |sum: &crate::launch::PartSum| {
            let (from_bytes, bytes) = (self.bytes, sum.bytes());
            self.bytes += bytes.next_multiple_of(ALIGNMENT);
            let (of, out) = block(plan, plan.steps[index].writes[sum.write]);
            self.sums.push((of, PlacedSum { sum: *sum, from_bytes, out }));
            Operand::Parts { region, offset: from_bytes, bytes }
        };
        kernel.sums.iter().map(place).collect()
    }

    /// Whether a step reads or changes a result.
    fn is_wanted(&self, plan: &Plan, step: &Step) -> bool {
        let mut touched = step.reads.iter().chain(&step.updates).map(|&id| block(plan, id).0);
        touched.any(|touched| self.sums.iter().any(|(of, _)| *of == touched))
    }

    /// Whether the sums cannot wait any longer: they are many, or a result shares its place with other buffers.
    fn is_due(&self, plan: &Plan) -> bool {
        self.bytes > WAITING_BYTES || self.sums.iter().any(|(of, _)| plan.buffer(*of).place == Place::Arena)
    }
}

impl Lowering {
    /// The kernels that `kernel` chooses.
    pub(crate) fn new(
        plan: &Plan,
        kernel: impl Fn(&Op, &Operands<'_>) -> Result<Kernel, Error>,
    ) -> Result<Lowering, Error> {
        let mut lowering =
            Lowering { items: Vec::with_capacity(plan.steps.len()), regions: Vec::new(), left: Vec::new() };
        let mut waiting = Waiting::default();
        // By the result that a step reads which may take it.
        let mut left: Vec<BufferId> = Vec::new();
        for (index, step) in plan.steps.iter().enumerate() {
            if waiting.is_wanted(plan, step) {
                lowering.add_up(&mut waiting, index, index - 1);
            }
            let kinds = |ids: &[BufferId]| plan.kinds(ids);
            let found = left.iter().position(|of| step.reads.contains(of));
            let operands = Operands {
                reads: kinds(&step.reads),
                writes: kinds(&step.writes),
                updates: kinds(&step.updates),
                left: found.map_or(0, |found| lowering.left[found].0),
            };
            let kernel = kernel(&step.op, &operands)?;
            let taken = found.filter(|_| kernel.takes);
            if let Some(taken) = taken {
                lowering.left[taken].1.last = index;
            }
            let given = kernel.leaves.map(|leaves| {
                left.push(step.writes[leaves.write]);
                lowering.left.push((leaves.bytes, Lifetime { first: index, last: index }));
                left.len() - 1
            });
            let own = taken.or(given).map(Operand::Left);
            let parts = waiting.add(plan, index, &kernel, lowering.regions.len());
            let buffers = |ids: &[BufferId]| ids.iter().copied().map(Operand::Buffer).collect();
            let (reads, writes, updates) = (buffers(&step.reads), buffers(&step.writes), buffers(&step.updates));
            lowering.items.push(Item { step: index, kernel, reads, writes, updates, parts, left: own });
            if waiting.is_due(plan) || index + 1 == plan.steps.len() {
                lowering.add_up(&mut waiting, index, index);
            }
        }
        Ok(lowering)
    }

    /// Adds up what waits, for a step, after the step `last`.
    fn add_up(&mut self, waiting: &mut Waiting, step: usize, last: usize) {
        let Waiting { first, bytes, sums } = std::mem::take(waiting);
        if sums.is_empty() {
            return;
        }
        let mut blocks: Vec<(BufferId, Vec<PlacedSum>)> = Vec::new();
        for (of, sum) in sums {
            match blocks.iter_mut().find(|(known, _)| *known == of) {
                Some((_, sums)) => sums.push(sum),
                None => blocks.push((of, vec![sum])),
            }
        }
        let (updates, blocks): (Vec<BufferId>, Vec<Vec<PlacedSum>>) = blocks.into_iter().unzip();
        self.items.push(Item {
            step,
            kernel: part_sum(&blocks),
            reads: vec![Operand::Parts { region: self.regions.len(), offset: 0, bytes }],
            writes: vec![],
            updates: updates.into_iter().map(Operand::Buffer).collect(),
            parts: vec![],
            left: None,
        });
        self.regions.push((bytes, Lifetime { first, last }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::{Io, Slice};
    use crate::launcher::{Context, kernel};
    use crate::options::{Options, Precision};
    use sphereface_testkit::{TrainingCase, Workload};
    use std::collections::BTreeMap;

    /// Memory that is not there.
    fn slice(bytes: u64) -> Slice {
        Slice { pointer: 256, bytes }
    }

    /// How often each kernel is launched in a training step of a named network on digits, in bf16 on Hopper.
    fn launches(key: &str) -> BTreeMap<String, usize> {
        let (_, plan) = TrainingCase::digits(key).unwrap().plan().unwrap();
        let plan = plan.narrowed().unwrap();
        let options = Options { precision: Precision::Bf16, ..Options::default() };
        let context = Context { options, mma: true, wgmma: true };
        let lowering = Lowering::new(&plan, |op, operands| kernel(op, operands, &context)).unwrap();
        let slices = |operands: &[Operand]| {
            let bytes = |operand: &Operand| match *operand {
                Operand::Buffer(id) => plan.buffer(id).kind.bytes() as u64,
                Operand::Parts { bytes, .. } => bytes,
                Operand::Left(left) => lowering.left[left].0,
            };
            operands.iter().map(|operand| slice(bytes(operand))).collect::<Vec<_>>()
        };
        let mut counts = BTreeMap::new();
        // An update keeps up the copies of parameters: these are made once.
        let is_kept = |item: &&Item| {
            let step = &plan.steps[item.step];
            matches!(step.op, Op::Cast(_)) && plan.buffer(step.writes[0]).place == Place::Persistent
        };
        for item in lowering.items.iter().filter(|item| !is_kept(item)) {
            let io = Io {
                reads: slices(&item.reads),
                writes: slices(&item.writes),
                updates: slices(&item.updates),
                workspace: slice(item.kernel.workspace_bytes),
                parts: slices(&item.parts),
                left: slices(item.left.as_slice()).first().copied().unwrap_or_default(),
                constants: slice(item.kernel.constants.len() as u64),
            };
            for launch in (item.kernel.build)(&io) {
                *counts.entry(launch.kernel).or_insert(0) += 1;
            }
        }
        counts
    }

    /// Slopes and directions of rows stay from the head's forward pass to its backward pass, and those of classes if they are
    /// one chunk.
    #[test]
    fn what_a_step_leaves_stays_until_it_is_taken() {
        for (classes, left) in [(300, 304), (40_000, 0)] {
            let (_, plan) = Workload::Head { classes, dimension: 512, batch: 8 }.plan().unwrap();
            let plan = plan.narrowed().unwrap();
            let options = Options { precision: Precision::Bf16, ..Options::default() };
            let context = Context { options, mma: true, wgmma: true };
            let lowering = Lowering::new(&plan, |op, operands| kernel(op, operands, &context)).unwrap();
            let items = lowering.items.iter().filter(|item| item.left.is_some()).map(|item| item.step);
            let steps: Vec<usize> = items.collect();
            let found: Vec<_> =
                lowering.left.iter().map(|&(bytes, life)| (bytes, vec![life.first, life.last])).collect();
            assert_eq!(found, [(8 * 32 + 2 * 512 * (8 + left), steps)], "{classes} classes");
        }
    }

    /// `cargo test -p sphereface-cuda launches_of_a_step -- --nocapture` lists them.
    #[test]
    fn launches_of_a_step_are_few() {
        for (key, most) in [("sphereface20", 76), ("mnist", 60)] {
            let counts = launches(key);
            let all: usize = counts.values().sum();
            println!("{key}: {all} launches");
            counts.iter().for_each(|(kernel, count)| println!("{count:>5}  {kernel}"));
            assert!(all <= most, "{key}: {all} launches");
        }
    }
}
