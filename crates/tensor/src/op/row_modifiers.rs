//! A number for each row of a batch, by which its margin differs from those of others.

use super::{Array, Flops, Operator, operands};
use crate::error::Error;
use crate::random::{Stream, normal};
use crate::shape::{DType, Dim, Shape, Type};
use std::ops::RangeInclusive;

/// What makes the margin of one row differ from that of another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RowModifier {
    /// Chance: a standard normal number, another one for each row and step.
    Drawn,
    /// Where the embedding's length stands among those of its batch, `clip(h (l − μ) / (σ + 10⁻³), −1, 1)` with
    /// `l = clip(‖x‖, 10⁻³, 100)`, whose mean over the valid rows is `μ` and whose standard deviation `σ` (of a sample; 0 of
    /// a single row). It is a constant to the backward pass.
    ///
    /// # Source
    /// Kim et al., AdaFace, CVPR 2022, section 3.3, with the statistics of one batch, as the authors' code has them unless told
    /// otherwise.
    Length {
        /// `h`, how much of the spread lies within −1 to 1.
        spread: f32,
    },
}

/// Lengths are cut off at the ends of it.
const LENGTHS: RangeInclusive<f64> = 1e-3..=100.0;
/// Added to their standard deviation.
const NEAR_NOTHING: f64 = 1e-3;

/// The [`RowModifier`] of each row; those of rows past `count` are 0.
///
/// # Shapes
/// Reads `embedding` `[N, D]`, `count` `u32 [1]` (valid rows), `counter` `u32 [1]`. Writes `modifiers` `[N]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowModifiers {
    /// What the numbers are.
    pub of: RowModifier,
    /// Seed of those that are drawn.
    pub seed: u64,
}

impl RowModifiers {
    /// The number that row `n` draws in a step.
    pub(crate) fn drawn(&self, step: u32, n: usize) -> f64 {
        normal(self.seed, Stream::Margin, step, n as u64)
    }
}

/// Turns embeddings' lengths into where they stand among each other.
pub(crate) fn standings(lengths: &mut [f64], spread: f32) {
    let count = lengths.len() as f64;
    lengths.iter_mut().for_each(|length| *length = length.clamp(*LENGTHS.start(), *LENGTHS.end()));
    let mean = lengths.iter().sum::<f64>() / count;
    let squares: f64 = lengths.iter().map(|length| (length - mean).powi(2)).sum();
    let deviation = (squares / (count - 1.0).max(1.0)).sqrt();
    let standing = |length: f64| (f64::from(spread) * (length - mean) / (deviation + NEAR_NOTHING)).clamp(-1.0, 1.0);
    lengths.iter_mut().for_each(|length| *length = standing(*length));
}

impl Operator for RowModifiers {
    fn name(&self) -> &'static str {
        "row_modifiers"
    }

    fn outputs(&self, reads: &[&Type], _updates: &[&Type]) -> Result<Vec<Type>, Error> {
        let op = self.name();
        let [embedding, count, counter] = operands(op, reads)?;
        let [batch, _] = embedding.shape.expect(op, "embedding", [Dim::N, Dim::D])?;
        embedding.expect_dtype(op, "embedding", DType::F32)?;
        for (read, operand) in [(count, "count"), (counter, "counter")] {
            read.expect_dtype(op, operand, DType::U32)?;
            read.shape.expect_equal(op, operand, &Shape::vector(Dim::Length, 1))?;
        }
        Ok(vec![Type::f32(Shape::vector(Dim::N, batch))])
    }

    fn flops(&self, reads: &[&Type], _writes: &[&Type]) -> Flops {
        match self.of {
            RowModifier::Drawn => Flops::default(),
            RowModifier::Length { .. } => Flops::exactly(2 * reads[0].shape.elements()),
        }
    }

    fn reference(&self, reads: &[&Array], _updates: &mut [Array]) -> Vec<Array> {
        let [batch, columns] = reads[0].sizes();
        let (valid, step) = ((reads[1].values[0] as usize).min(batch), reads[2].values[0] as u32);
        let mut modifiers: Vec<f64> = match self.of {
            RowModifier::Drawn => (0..valid).map(|n| self.drawn(step, n)).collect(),
            RowModifier::Length { spread } => {
                let rows = reads[0].values.chunks(columns).take(valid);
                let mut lengths: Vec<f64> = rows.map(|x| x.iter().map(|a| a * a).sum::<f64>().sqrt()).collect();
                standings(&mut lengths, spread);
                lengths
            }
        };
        modifiers.resize(batch, 0.0);
        vec![Array { shape: Shape::vector(Dim::N, batch), values: modifiers }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_stand_where_the_paper_has_them() {
        // Mean 3, standard deviation 1 of a sample: √((1 + 0 + 1) / 2).
        let mut lengths = [2.0, 3.0, 4.0];
        standings(&mut lengths, 0.5);
        let expected = [-0.5 / 1.001, 0.0, 0.5 / 1.001];
        assert!(lengths.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12), "{lengths:?}");
        // What stands far out is cut off, as are lengths beyond 100.
        let mut far = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1e9];
        standings(&mut far, 1.0);
        assert_eq!(far[8], 1.0);
        let mut capped = [100.0, 1e9];
        standings(&mut capped, 1.0);
        assert_eq!(capped, [0.0, 0.0]);
        // What is no number is not hidden.
        let mut broken = [1.0, f64::NAN];
        standings(&mut broken, 1.0);
        assert!(broken.iter().all(|standing| standing.is_nan()), "{broken:?}");
        let mut single = [7.0];
        standings(&mut single, 0.333);
        assert_eq!(single, [0.0]);
    }

    #[test]
    fn numbers_are_drawn_anew_for_each_row_and_step() {
        let of = RowModifiers { of: RowModifier::Drawn, seed: 1 };
        let found = [of.drawn(0, 0), of.drawn(0, 1), of.drawn(1, 0), RowModifiers { seed: 2, ..of }.drawn(0, 0)];
        for (i, a) in found.iter().enumerate() {
            assert!(found[..i].iter().all(|b| a != b), "{found:?}");
        }
    }
}
