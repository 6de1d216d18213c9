//! Runs a plan in f64 with each operator's reference: slow, obvious, and independent of every backend.

use crate::cosine::Cosine;
use crate::op::Array;
use crate::plan::{Place, Plan};
use crate::shape::DType;
use half::bf16;
use std::collections::HashMap;

/// Values of the persistent buffers by name, in f64. What a buffer of 16-bit elements holds is rounded to them.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    persistent: HashMap<String, Vec<f64>>,
}

impl Reference {
    /// Sets a persistent buffer.
    pub fn set(&mut self, name: &str, values: Vec<f64>) {
        self.persistent.insert(name.into(), values);
    }

    /// A persistent buffer; zeros are not stored before a plan has run.
    pub fn get(&self, name: &str) -> Option<&[f64]> {
        self.persistent.get(name).map(Vec::as_slice)
    }

    /// Runs the plan once and returns every buffer's value at the end, in the order of [`Plan::buffers`].
    pub fn run(&mut self, plan: &Plan) -> Vec<Array> {
        for buffer in plan.buffers.iter().filter(|buffer| buffer.place == Place::Persistent) {
            let zeros = || vec![0.0; buffer.kind.shape.elements()];
            self.persistent.entry(buffer.name.clone()).or_insert_with(zeros);
        }
        let mut arrays: Vec<Array> =
            plan.buffers.iter().map(|buffer| Array::zeros(buffer.kind.shape.clone())).collect();
        // Views are loaded from their block before a step reads them and stored back after it writes them.
        let home = |index: usize| match plan.buffers[index].place {
            Place::Arena => None,
            Place::Persistent => Some((plan.buffers[index].name.as_str(), 0)),
            Place::View { of, offset } => Some((plan.buffer(of).name.as_str(), offset)),
        };
        for step in &plan.steps {
            for id in step.reads.iter().chain(&step.updates) {
                if let Some((name, offset)) = home(id.0) {
                    let length = arrays[id.0].values.len();
                    arrays[id.0].values.copy_from_slice(&self.persistent[name][offset..offset + length]);
                }
            }
            let reads: Vec<&Array> = step.reads.iter().map(|id| &arrays[id.0]).collect();
            let mut updates: Vec<Array> = step.updates.iter().map(|id| arrays[id.0].clone()).collect();
            let written = step.op.reference(&reads, &mut updates);
            let results = step.writes.iter().zip(written).chain(step.updates.iter().zip(updates));
            for (id, mut array) in results {
                let values = array.values.iter_mut();
                match plan.buffer(*id).kind.dtype {
                    DType::Bf16 => values.for_each(|value| *value = f64::from(bf16::from_f64(*value))),
                    DType::Cosine => values.for_each(|value| *value = f64::from(Cosine::new(*value as f32).value())),
                    DType::F32 | DType::U32 | DType::U8 => {}
                }
                if let Some((name, offset)) = home(id.0)
                    && let Some(block) = self.persistent.get_mut(name)
                {
                    block[offset..offset + array.values.len()].copy_from_slice(&array.values);
                }
                arrays[id.0] = array;
            }
        }
        arrays
    }
}
