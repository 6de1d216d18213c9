//! Updates all parameters.

use super::bf16::narrow;
use super::{CHUNK, Kernel};
use crate::op::{Optimizer, Rule};
use pulp::Arch;
use rayon::prelude::*;

pub(super) fn optimizer(op: Optimizer) -> Kernel {
    Kernel::new(0, move |mut io| {
        let gradients = io.reads[0];
        let step = bytemuck::cast_slice::<f32, u32>(io.reads[3])[0];
        let rate = io.reads[2][(step as usize).min(io.reads[2].len() - 1)];
        let factor = op.clip_factor(f64::from(io.reads[1][0])) as f32;
        let Some((parameters, rest)) = io.updates.split_first_mut() else { return };
        let (states, copy) = rest.split_at_mut(op.rule.states().len());
        for group in &op.groups {
            let rate = rate * group.rate;
            let decay = group.decay;
            let p = parameters[group.range.clone()].par_chunks_mut(CHUNK);
            let g = gradients[group.range.clone()].par_chunks(CHUNK);
            match (op.rule, &mut states[..]) {
                (Rule::Sgd { momentum, nesterov }, [velocity]) => {
                    let v = velocity[group.range.clone()].par_chunks_mut(CHUNK);
                    p.zip(g).zip(v).for_each(|((p, g), v)| {
                        Arch::new().dispatch(|| {
                            for ((p, g), v) in p.iter_mut().zip(g).zip(v) {
                                let g = g * factor + decay * *p;
                                *v = momentum * *v + g;
                                *p -= rate * if nesterov { g + momentum * *v } else { *v };
                            }
                        });
                    });
                }
                (Rule::Adam { beta1, beta2, epsilon, decoupled }, [first, second]) => {
                    let m = first[group.range.clone()].par_chunks_mut(CHUNK);
                    let s = second[group.range.clone()].par_chunks_mut(CHUNK);
                    let correct = |beta: f32| (1.0 / (1.0 - f64::from(beta).powf(f64::from(step) + 1.0))) as f32;
                    let (correct1, correct2) = (correct(beta1), correct(beta2));
                    let (shrink, inner) = if decoupled { (1.0 - rate * decay, 0.0) } else { (1.0, decay) };
                    p.zip(g).zip(m.zip(s)).for_each(|((p, g), (m, s))| {
                        Arch::new().dispatch(|| {
                            for ((p, g), (m, s)) in p.iter_mut().zip(g).zip(m.iter_mut().zip(s)) {
                                let g = g * factor + inner * *p;
                                *m = beta1 * *m + (1.0 - beta1) * g;
                                *s = beta2 * *s + (1.0 - beta2) * g * g;
                                *p = shrink * *p - rate * (*m * correct1) / ((*s * correct2).sqrt() + epsilon);
                            }
                        });
                    });
                }
                _ => unreachable!("a rule updates the states its shape rule says"),
            }
        }
        if let (Some(copied), [copy]) = (&op.copied, copy) {
            let copy = bytemuck::cast_slice_mut(copy);
            for group in &op.groups {
                let (start, end) = (group.range.start.max(copied.start), group.range.end.min(copied.end));
                if start < end {
                    narrow(&parameters[start..end], &mut copy[start - copied.start..end - copied.start]);
                }
            }
        }
    })
}
