//! Copies of parameters in bf16 that outlive a run: an update keeps them up, so that the next run need not make them.

use crate::launch::Slice;
use sphereface_tensor::op::Op;
use sphereface_tensor::{BufferId, Plan, Step};

/// Memory and what was made from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    from: Slice,
    to: Slice,
}

impl Copy {
    fn is_of(&self, memory: Slice) -> bool {
        let overlaps =
            |own: Slice| own.pointer < memory.pointer + memory.bytes && memory.pointer < own.pointer + own.bytes;
        overlaps(self.from) || overlaps(self.to)
    }
}

/// What a step does to copies.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Effect {
    /// It changes memory: a copy from there, or that lies there, holds no longer.
    Change(Slice),
    /// It makes a copy, or changes it as what it was made from.
    Make(Copy),
}

/// The copies that hold what they should.
#[derive(Clone, Debug, Default)]
pub(crate) struct Copies(Vec<Copy>);

impl Copies {
    pub(crate) fn hold(&self, copy: Copy) -> bool {
        self.0.contains(&copy)
    }

    pub(crate) fn apply(&mut self, effects: &[Effect]) {
        for effect in effects {
            match *effect {
                Effect::Change(memory) => self.0.retain(|copy| !copy.is_of(memory)),
                Effect::Make(copy) => self.0.push(copy),
            }
        }
    }
}

/// What a step does to persistent buffers, whose places are given: last, it may make a copy.
fn effects_of(step: &Step, place: &impl Fn(BufferId) -> Option<Slice>) -> Vec<Effect> {
    let changed = step.writes.iter().chain(&step.updates).filter_map(|&id| Some(Effect::Change(place(id)?)));
    let made = || match &step.op {
        Op::Cast(_) => Some(Copy { from: place(step.reads[0])?, to: place(step.writes[0])? }),
        Op::Optimizer(op) => {
            let (copied, parameters) = (op.copied.clone()?, place(*step.updates.first()?)?);
            let from = parameters.part(4 * copied.start as u64, 4 * copied.len() as u64);
            Some(Copy { from, to: place(*step.updates.last()?)? })
        }
        _ => None,
    };
    changed.chain(made().map(Effect::Make)).collect()
}

/// What a run of a plan does to copies; and of each step the copy that is all it makes, from what nothing before it in the
/// plan has changed: where that one holds, the step may be left out.
pub(crate) fn effects(plan: &Plan, place: impl Fn(BufferId) -> Option<Slice>) -> (Vec<Effect>, Vec<Option<Copy>>) {
    let mut before: Vec<Effect> = Vec::new();
    let mut only = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        let effects = effects_of(step, &place);
        let changed = |copy: &Copy| before.iter().any(|one| matches!(one, Effect::Change(at) if copy.is_of(*at)));
        only.push(match (&step.op, effects.last()) {
            (Op::Cast(_), Some(Effect::Make(copy))) if !changed(copy) => Some(*copy),
            _ => None,
        });
        before.extend(effects);
    }
    (before, only)
}
