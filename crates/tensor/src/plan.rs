//! The plan: plain data, a list of steps over logical buffers.

use crate::arena::{Request, assign};
use crate::op::{Flops, Op};
use crate::shape::Type;
use std::fmt;

/// Index of a buffer in [`Plan::buffers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub usize);

/// Where a buffer lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the arena, from the step that writes it to the last one that reads it.
    Arena,
    /// Outside the plan, found by name; every plan of a backend shares it. Zero until it is uploaded.
    Persistent,
    /// Elements of a persistent buffer, from `offset` on.
    View {
        /// The persistent buffer.
        of: BufferId,
        /// First element.
        offset: usize,
    },
}

/// A logical buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    /// Unique among the persistent buffers and views; otherwise only to be read by people.
    pub name: String,
    /// Shape and element type.
    pub kind: Type,
    /// Where it lives.
    pub place: Place,
}

/// One operator with its operands.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is computed.
    pub op: Op,
    /// Layer it belongs to.
    pub label: String,
    /// Buffers that are only read.
    pub reads: Vec<BufferId>,
    /// Buffers that are written whole; each is written by one step only.
    pub writes: Vec<BufferId>,
    /// Persistent buffers that are changed in place.
    pub updates: Vec<BufferId>,
}

/// Arithmetic and memory traffic of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Arithmetic.
    pub flops: Flops,
    /// Bytes moved, if each operand is moved once (updated ones twice).
    pub bytes: u64,
}

/// Steps in the order in which they run.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Logical buffers.
    pub buffers: Vec<Buffer>,
    /// Steps.
    pub steps: Vec<Step>,
}

/// First and last step that touch a buffer of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Step that writes it.
    pub first: usize,
    /// Last step that reads or writes it.
    pub last: usize,
}

impl Plan {
    /// The buffer behind an index.
    pub fn buffer(&self, id: BufferId) -> &Buffer {
        &self.buffers[id.0]
    }

    /// Types of some buffers.
    pub fn kinds(&self, ids: &[BufferId]) -> Vec<&Type> {
        ids.iter().map(|&id| &self.buffer(id).kind).collect()
    }

    /// Lifetime of each buffer of the arena; `None` for persistent ones, views and buffers no step touches.
    pub fn lifetimes(&self) -> Vec<Option<Lifetime>> {
        let mut lifetimes: Vec<Option<Lifetime>> = vec![None; self.buffers.len()];
        for (index, step) in self.steps.iter().enumerate() {
            for &id in step.reads.iter().chain(&step.writes) {
                if self.buffer(id).place == Place::Arena {
                    lifetimes[id.0].get_or_insert(Lifetime { first: index, last: index }).last = index;
                }
            }
        }
        lifetimes
    }

    /// Bytes of an arena for this plan, without what a backend adds: its alignment and workspaces.
    pub fn arena_bytes(&self) -> usize {
        let buffers = self.buffers.iter().zip(self.lifetimes());
        let requests: Vec<Request> = buffers
            .filter_map(|(buffer, lifetime)| Some(Request { length: buffer.kind.bytes(), lifetime: lifetime? }))
            .collect();
        assign(&requests).1
    }

    /// Arithmetic and traffic of a step.
    pub fn cost(&self, step: &Step) -> Cost {
        let bytes = |ids: &[BufferId]| ids.iter().map(|&id| self.buffer(id).kind.bytes() as u64).sum::<u64>();
        Cost {
            flops: step.op.flops(&self.kinds(&step.reads), &self.kinds(&step.writes)),
            bytes: bytes(&step.reads) + bytes(&step.writes) + 2 * bytes(&step.updates),
        }
    }

    /// Arithmetic and traffic of all steps.
    pub fn total_cost(&self) -> Cost {
        self.steps.iter().map(|step| self.cost(step)).fold(Cost::default(), |sum, cost| Cost {
            flops: Flops {
                nominal: sum.flops.nominal + cost.flops.nominal,
                useful: sum.flops.useful + cost.flops.useful,
            },
            bytes: sum.bytes + cost.bytes,
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |ids: &[BufferId]| {
            let named: Vec<String> =
                ids.iter().map(|&id| format!("{} {}", self.buffer(id).name, self.buffer(id).kind.shape)).collect();
            named.join(", ")
        };
        for (index, step) in self.steps.iter().enumerate() {
            let cost = self.cost(step);
            writeln!(
                f,
                "{index:>4}  {:<24} {:<22} {:>9.3} MFLOP {:>9.3} MB",
                step.op.name(),
                step.label,
                cost.flops.useful as f64 * 1e-6,
                cost.bytes as f64 * 1e-6,
            )?;
            for (verb, ids) in [("reads", &step.reads), ("writes", &step.writes), ("updates", &step.updates)] {
                if !ids.is_empty() {
                    writeln!(f, "      {verb:<8} {}", names(ids))?;
                }
            }
        }
        Ok(())
    }
}
