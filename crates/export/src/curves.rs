//! Measurements along a training: one table, from which `curves.csv` and TensorBoard's scalars are made.

use std::fmt::Write as _;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name in `curves.csv`.
    pub name: &'static str,
    /// Name in TensorBoard, where the part before the slash makes a group.
    pub tag: &'static str,
}

/// What was measured after a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Steps done.
    pub step: u64,
    /// Passes over the training images.
    pub epoch: f64,
    /// Seconds of training.
    pub seconds: f64,
    /// One value for each column, where there is one at this step.
    pub values: Vec<Option<f64>>,
}

/// All measurements of one training, in the order of the steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Curves {
    /// What is measured.
    pub columns: Vec<Column>,
    /// One row a step.
    pub rows: Vec<Row>,
}

impl Curves {
    /// The table as CSV: step, epoch, seconds, then the columns; what was not measured at a step is empty there.
    pub fn csv(&self) -> String {
        let mut text = String::from("step,epoch,seconds");
        self.columns.iter().for_each(|column| {
            let _ = write!(text, ",{}", column.name);
        });
        text.push('\n');
        for Row { step, epoch, seconds, values } in &self.rows {
            let _ = write!(text, "{step},{epoch},{seconds}");
            for value in values {
                let _ = match value {
                    Some(value) => write!(text, ",{value}"),
                    None => write!(text, ","),
                };
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{Column, Curves, Row};

    #[test]
    fn what_was_not_measured_is_empty() {
        let columns = vec![Column { name: "loss", tag: "train/loss" }, Column { name: "test", tag: "test/accuracy" }];
        let row = |step, test| Row { step, epoch: 0.5, seconds: 1.25, values: vec![Some(0.1), test] };
        let curves = Curves { columns, rows: vec![row(1, None), row(2, Some(0.75))] };
        assert_eq!(curves.csv(), "step,epoch,seconds,loss,test\n1,0.5,1.25,0.1,\n2,0.5,1.25,0.1,0.75\n");
    }
}
