//! One row of the log that is read back every few steps.

use super::{Array, Flops, Hit, Operator, operands};
use crate::error::Error;
use crate::shape::{DType, Dim, Shape, Type};

/// Columns of the log, in order.
pub const METRICS: [&str; 7] =
    ["rows", "loss", "hits_logits", "hits_cosines", "hits_penalised", "feature_norm", "gradient_norm"];

/// Writes row `counter mod steps` of the log: sums over the valid rows of the batch, and the gradient's norm.
///
/// # Shapes
/// Reads `loss` `[N]`, `hits` `u32 [N]`, `norm` `[N]`, `count` `u32 [1]`, `counter` `u32 [1]`, `gradient_norm` `[1]`
/// (absent outside training); updates `log` `[steps, columns]`, see [`METRICS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics;

impl Operator for Metrics {
    fn name(&self) -> &'static str {
        "metrics"
    }

    fn outputs(&self, reads: &[&Type], updates: &[&Type]) -> Result<Vec<Type>, Error> {
        let op = self.name();
        let (&[loss, hits, norm, count, counter] | &[loss, hits, norm, count, counter, _]) = reads else {
            let message = format!("expected 5 or 6 operands, found {}", reads.len());
            return Err(Error::Attribute { op, message });
        };
        let [batch] = loss.shape.expect(op, "loss", [Dim::N])?;
        loss.expect_dtype(op, "loss", DType::F32)?;
        hits.expect_dtype(op, "hits", DType::U32)?;
        norm.expect_dtype(op, "norm", DType::F32)?;
        hits.shape.expect_equal(op, "hits", &Shape::vector(Dim::N, batch))?;
        norm.shape.expect_equal(op, "norm", &Shape::vector(Dim::N, batch))?;
        for (read, operand) in [(count, "count"), (counter, "counter")] {
            read.shape.expect_equal(op, operand, &Shape::vector(Dim::Length, 1))?;
            read.expect_dtype(op, operand, DType::U32)?;
        }
        if let Some(gradient_norm) = reads.get(5) {
            gradient_norm.shape.expect_equal(op, "gradient_norm", &Shape::vector(Dim::Length, 1))?;
            gradient_norm.expect_dtype(op, "gradient_norm", DType::F32)?;
        }
        let [log] = operands(op, updates)?;
        log.expect_dtype(op, "log", DType::F32)?;
        let [steps, _] = log.shape.expect(op, "log", [Dim::Steps, Dim::Columns])?;
        log.shape.expect_equal(op, "log", &Shape::matrix((Dim::Steps, steps), (Dim::Columns, METRICS.len())))?;
        Ok(vec![])
    }

    fn flops(&self, reads: &[&Type], _writes: &[&Type]) -> Flops {
        Flops::exactly(5 * reads[0].shape.elements())
    }

    fn reference(&self, reads: &[&Array], updates: &mut [Array]) -> Vec<Array> {
        let [steps, columns] = updates[0].sizes();
        let valid = reads[3].values[0] as usize;
        let hits = |hit: Hit| reads[1].values[..valid].iter().filter(|&&bits| bits as u32 & hit as u32 != 0).count();
        let row = [
            valid as f64,
            reads[0].values[..valid].iter().sum(),
            hits(Hit::Logits) as f64,
            hits(Hit::Cosines) as f64,
            hits(Hit::Penalised) as f64,
            reads[2].values[..valid].iter().sum(),
            reads.get(5).map_or(0.0, |norm| norm.values[0]),
        ];
        let start = reads[4].values[0] as usize % steps * columns;
        updates[0].values[start..start + columns].copy_from_slice(&row);
        vec![]
    }
}
