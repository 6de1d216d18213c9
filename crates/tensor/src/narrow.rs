//! A plan whose activations are bf16.

use crate::error::Error;
use crate::op::Cast;
use crate::plan::{Buffer, BufferId, Place, Plan, Step};
use crate::shape::{DType, Type};
use std::collections::HashMap;

impl Plan {
    /// The same plan with bf16 wherever an operator takes it: activations and their gradients, and copies of the
    /// weights; and with operators that round inside, such as a head of many classes. Parameters, their gradients,
    /// statistics and everything persistent stay as they are. A weight is converted once, where it is first read.
    ///
    /// # Errors
    /// [`Error`], when an operator that takes bf16 would write a persistent buffer in it.
    pub fn narrowed(&self) -> Result<Plan, Error> {
        let plan = Plan { buffers: self.buffers.clone(), steps: Vec::with_capacity(self.steps.len()) };
        let mut narrowing = Narrowing { original: self, plan, copies: HashMap::new() };
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
        // What is changed in place has no valid copy any more.
        let plan = &self.plan;
        let block = |id: BufferId| match plan.buffer(id).place {
            Place::View { of, .. } => of,
            _ => id,
        };
        self.copies.retain(|&of, _| !step.updates.iter().any(|&update| block(update) == block(of)));
        let op = step.op.narrowed().unwrap_or_else(|| step.op.clone());
        self.plan.steps.push(Step { op, reads, ..step.clone() });
        Ok(())
    }

    /// The copy of a buffer in this type, made now if there is none yet.
    fn copy(&mut self, of: BufferId, dtype: DType, label: &str) -> BufferId {
        if let Some(&copy) = self.copies.get(&of) {
            return copy;
        }
        let original = self.plan.buffer(of);
        let kind = Type { dtype, ..original.kind.clone() };
        let name = format!("{} in {dtype}", original.name);
        let copy = BufferId(self.plan.buffers.len());
        self.plan.buffers.push(Buffer { name, kind, place: Place::Arena });
        self.plan.steps.push(Step {
            op: Cast { to: dtype }.into(),
            label: label.to_owned(),
            reads: vec![of],
            writes: vec![copy],
            updates: vec![],
        });
        self.copies.insert(of, copy);
        copy
    }
}
