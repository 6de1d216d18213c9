//! The one error type of the tensor core.

use crate::shape::{DType, Shape};
use std::fmt;

/// What can go wrong while a plan is built, lowered or fed; every message is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// An operand has the wrong dimensions.
    Shape {
        /// Operator.
        op: &'static str,
        /// Operand of the operator.
        operand: &'static str,
        /// What the operator wants.
        expected: String,
        /// What it was given.
        found: Box<Shape>,
    },
    /// An operand has the wrong element type.
    DType {
        /// Operator.
        op: &'static str,
        /// Operand of the operator.
        operand: &'static str,
        /// What the operator wants.
        expected: DType,
        /// What it was given.
        found: DType,
    },
    /// An attribute of an operator makes no sense with these operands.
    Attribute {
        /// Operator.
        op: &'static str,
        /// Expected and found.
        message: String,
    },
    /// The operator has no adjoint, and a gradient was asked to flow through it.
    NotDifferentiable {
        /// Operator.
        op: &'static str,
    },
    /// A trained parameter does not influence the loss.
    NoGradient {
        /// Parameter.
        parameter: String,
    },
    /// A buffer is not known, or differs from what was said of it before.
    Buffer {
        /// Buffer.
        name: String,
        /// Expected and found.
        message: String,
    },
    /// The backend cannot do what was asked.
    Backend {
        /// Backend.
        backend: &'static str,
        /// What, and what to do instead.
        message: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Shape { op, operand, expected, found } => {
                write!(f, "{op}: {operand}: expected {expected}, found {found}")
            }
            Error::DType { op, operand, expected, found } => {
                write!(f, "{op}: {operand}: expected {expected}, found {found}")
            }
            Error::Attribute { op, message } => write!(f, "{op}: {message}"),
            Error::NotDifferentiable { op } => write!(f, "{op}: has no adjoint"),
            Error::NoGradient { parameter } => {
                write!(f, "parameter '{parameter}': expected a path to the loss, found none")
            }
            Error::Buffer { name, message } => write!(f, "buffer '{name}': {message}"),
            Error::Backend { backend, message } => write!(f, "{backend} backend: {message}"),
        }
    }
}

impl std::error::Error for Error {}
