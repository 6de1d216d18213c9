//! A plan whose activations are bf16.

use crate::error::Error;
use crate::op::Cast;
use crate::plan::{Buffer, BufferId, Place, Plan, Step};
use crate::shape::{DType, Dim, Shape, Type};
use std::collections::HashMap;
use std::ops::Range;

impl Plan {
    /// The same plan with bf16 wherever an operator takes it: activations and their gradients, and copies of the
    /// weights; and with operators that round inside, such as a head of many classes. Parameters, their gradients,
    /// statistics and everything persistent stay as they are. The weights of a block that are wanted in bf16 are converted
    /// together, in one step with all that lies between them, where the first of them is read. An optimizer keeps that copy
    /// up to date, so that it holds until something else changes the block: a backend may leave the conversion out.
    ///
    /// # Errors
    /// [`Error`], when an operator that takes bf16 would write a persistent buffer in it.
    pub fn narrowed(&self) -> Result<Plan, Error> {
        let plan = Plan { buffers: self.buffers.clone(), steps: Vec::with_capacity(self.steps.len()) };
        let mut narrowing = Narrowing { original: self, plan, copies: HashMap::new(), blocks: HashMap::new() };
        for step in &self.steps {
            narrowing.step(step)?;
        }
        Ok(narrowing.plan)
    }
}

struct Narrowing<'a> {
    original: &'a Plan,
    plan: Plan,
    /// A buffer's copy in the other element type.
    copies: HashMap<BufferId, BufferId>,
    /// Of blocks, what is copied whenever a view's copy is wanted after a change: the elements, and both buffers.
    blocks: HashMap<BufferId, BlockCopy>,
}

#[derive(Clone)]
struct BlockCopy {
    elements: Range<usize>,
    from: BufferId,
    to: BufferId,
    valid: bool,
}

impl Narrowing<'_> {
    fn step(&mut self, step: &Step) -> Result<(), Error> {
        let takes_it = (0..step.reads.len()).any(|read| step.op.may_be_bf16(read));
        let reads = step.reads.iter().enumerate().map(|(index, &read)| {
            let wanted = match self.original.buffer(read).kind.dtype {
                DType::F32 if step.op.may_be_bf16(index) => DType::Bf16,
                as_before => as_before,
            };
            let there = self.plan.buffer(read).kind.dtype == wanted;
            if there { read } else { self.copy(read, wanted, &step.label) }
        });
        let reads: Vec<BufferId> = reads.collect();
        if takes_it {
            let kinds = step.op.outputs(&self.plan.kinds(&reads), &self.plan.kinds(&step.updates))?;
            for (&write, kind) in step.writes.iter().zip(kinds) {
                let buffer = &mut self.plan.buffers[write.0];
                if buffer.place != Place::Arena && buffer.kind != kind {
                    let message = format!("expected {}, found {kind} with activations in bf16", buffer.kind);
                    return Err(Error::Buffer { name: buffer.name.clone(), message });
                }
                buffer.kind = kind;
            }
        }
        // What is changed in place has no valid copy any more, but for one that is changed alike.
        let plan = &self.plan;
        let block = |id: BufferId| match plan.buffer(id).place {
            Place::View { of, .. } => of,
            _ => id,
        };
        let first = step.updates.first().filter(|&&first| block(first) == first);
        let kept = first.and_then(|first| {
            let copy = self.blocks.get(first).filter(|copy| copy.valid)?;
            Some((step.op.keeping_copy(copy.elements.clone())?, copy.to))
        });
        if kept.is_none() {
            self.copies.retain(|&of, _| !step.updates.iter().any(|&update| block(update) == block(of)));
            for update in &step.updates {
                self.blocks.entry(block(*update)).and_modify(|copy| copy.valid = false);
            }
        }
        let mut updates = step.updates.clone();
        updates.extend(kept.as_ref().map(|(_, copy)| *copy));
        let op = kept.map(|(op, _)| op).or_else(|| step.op.narrowed()).unwrap_or_else(|| step.op.clone());
        self.plan.steps.push(Step { op, reads, updates, ..step.clone() });
        Ok(())
    }

    /// The copy of a buffer in this type, made now if there is none yet.
    fn copy(&mut self, of: BufferId, dtype: DType, label: &str) -> BufferId {
        if let Some(&copy) = self.copies.get(&of) {
            return copy;
        }
        let Buffer { name, kind, place } = self.plan.buffer(of).clone();
        let kind = Type { dtype, ..kind };
        let name = format!("{name} in {dtype}");
        let copy = if let (Place::View { of: block, offset }, DType::Bf16) = (place, dtype) {
            let BlockCopy { elements, to, .. } = self.copied_block(block, label);
            // Plans share what has the same name, and another plan may want other elements.
            let name = format!("{name}, of {} to {}", elements.start, elements.end);
            self.buffer(name, kind, Place::View { of: to, offset: offset - elements.start })
        } else {
            let copy = self.buffer(name, kind, Place::Arena);
            self.cast(of, copy, dtype, label);
            copy
        };
        self.copies.insert(of, copy);
        copy
    }

    /// Copies what is wanted of this block, if it is not there already.
    fn copied_block(&mut self, block: BufferId, label: &str) -> BlockCopy {
        if !self.blocks.contains_key(&block) {
            let elements = self.wanted(block);
            let whole = self.plan.buffer(block).name.clone();
            let name = format!("{whole} {} to {}", elements.start, elements.end);
            let kind = |dtype| Type { dtype, shape: Shape::vector(Dim::Length, elements.len()) };
            let from = self.buffer(name.clone(), kind(DType::F32), Place::View { of: block, offset: elements.start });
            let to = self.buffer(format!("{name} in {}", DType::Bf16), kind(DType::Bf16), Place::Persistent);
            self.blocks.insert(block, BlockCopy { elements, from, to, valid: false });
        }
        let copy = self.blocks[&block].clone();
        if !copy.valid {
            self.cast(copy.from, copy.to, DType::Bf16, label);
            self.blocks.entry(block).and_modify(|copy| copy.valid = true);
        }
        copy
    }

    /// From the first to the last element of this block that some operator takes in bf16.
    fn wanted(&self, block: BufferId) -> Range<usize> {
        let reads = self.original.steps.iter().flat_map(|step| {
            let taken = step.reads.iter().enumerate().filter(|(index, _)| step.op.may_be_bf16(*index));
            taken.map(|(_, &read)| self.original.buffer(read))
        });
        let ranges = reads.filter_map(|buffer| match buffer.place {
            Place::View { of, offset } if of == block => Some(offset..offset + buffer.kind.shape.elements()),
            _ => None,
        });
        ranges.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
    }

    fn buffer(&mut self, name: String, kind: Type, place: Place) -> BufferId {
        self.plan.buffers.push(Buffer { name, kind, place });
        BufferId(self.plan.buffers.len() - 1)
    }

    fn cast(&mut self, from: BufferId, to: BufferId, dtype: DType, label: &str) {
        self.plan.steps.push(Step {
            op: Cast { to: dtype }.into(),
            label: label.to_owned(),
            reads: vec![from],
            writes: vec![to],
            updates: vec![],
        });
    }
}
