//! Fuses convolution, PReLU and residual sum into one step, and a convolution's backward pass with that of a PReLU.

use crate::op::{Add, Conv2dBackwardData, Conv2dForward, Op, PreluBackward, PreluForward};
use crate::plan::{BufferId, Place, Plan, Step};

/// The plan with every `conv2d → prelu (→ add)` chain, and every `conv2d backward data → prelu backward`, as one step.
///
/// The convolution keeps its own result only where a backward step reads it.
pub(crate) fn fuse(mut plan: Plan) -> Plan {
    let mut index = 0;
    while index < plan.steps.len() {
        fuse_prelu(&mut plan, index);
        fuse_add(&mut plan, index);
        fuse_prelu_backward(&mut plan, index);
        index += 1;
    }
    plan
}

/// Steps that read a buffer.
fn readers(plan: &Plan, buffer: BufferId) -> Vec<usize> {
    let reads = |step: &Step| step.reads.contains(&buffer) || step.updates.contains(&buffer);
    plan.steps.iter().enumerate().filter(|(_, step)| reads(step)).map(|(index, _)| index).collect()
}

/// Whether a buffer holds its value before the step at `index` runs: nothing from there on changes it.
fn is_ready(plan: &Plan, buffer: BufferId, index: usize) -> bool {
    !plan.steps[index..].iter().any(|step| step.writes.contains(&buffer) || step.updates.contains(&buffer))
}

fn fuse_prelu(plan: &mut Plan, index: usize) {
    let Op::Conv2dForward(conv @ Conv2dForward { slope: false, .. }) = plan.steps[index].op else { return };
    let y = plan.steps[index].writes[0];
    let readers = readers(plan, y);
    let is_prelu =
        |&i: &usize| matches!(plan.steps[i].op, Op::PreluForward(PreluForward)) && plan.steps[i].reads[0] == y;
    let Some(prelu) = readers.iter().copied().find(is_prelu) else { return };
    if plan.buffer(y).place != Place::Arena {
        return;
    }
    let keep = readers.len() > 1;
    let prelu = plan.steps.remove(prelu);
    let step = &mut plan.steps[index];
    step.op = Conv2dForward { slope: true, keep, ..conv }.into();
    step.reads.push(prelu.reads[1]);
    step.writes = if keep { vec![y, prelu.writes[0]] } else { prelu.writes };
}

fn fuse_add(plan: &mut Plan, index: usize) {
    let Op::Conv2dForward(conv @ Conv2dForward { slope: true, residual: false, .. }) = plan.steps[index].op else {
        return;
    };
    let Some(&z) = plan.steps[index].writes.last() else { return };
    let [reader] = readers(plan, z)[..] else { return };
    let Op::Add(Add) = plan.steps[reader].op else { return };
    let operands = &plan.steps[reader].reads;
    let Some(&residual) = operands.iter().find(|&&operand| operand != z) else { return };
    if plan.buffer(z).place != Place::Arena || !is_ready(plan, residual, index) {
        return;
    }
    let add = plan.steps.remove(reader);
    let step = &mut plan.steps[index];
    step.op = Conv2dForward { residual: true, ..conv }.into();
    step.reads.push(residual);
    step.writes.pop();
    step.writes.extend(add.writes);
}

fn fuse_prelu_backward(plan: &mut Plan, index: usize) {
    let Op::Conv2dBackwardData(conv @ Conv2dBackwardData { slope: false, .. }) = plan.steps[index].op else { return };
    let d_x = plan.steps[index].writes[0];
    let readers = readers(plan, d_x);
    let is_prelu =
        |&i: &usize| matches!(plan.steps[i].op, Op::PreluBackward(PreluBackward)) && plan.steps[i].reads[0] == d_x;
    let Some(reader) = readers.iter().copied().find(is_prelu) else { return };
    let ready = plan.steps[reader].reads[1..].iter().all(|&operand| is_ready(plan, operand, index));
    if plan.buffer(d_x).place != Place::Arena || !ready {
        return;
    }
    let keep = readers.len() > 1;
    let prelu = plan.steps.remove(reader);
    let step = &mut plan.steps[index];
    step.op = Conv2dBackwardData { slope: true, keep, ..conv }.into();
    step.reads.extend(&prelu.reads[1..]);
    if !keep {
        step.writes.clear();
    }
    step.writes.extend(prelu.writes);
}
