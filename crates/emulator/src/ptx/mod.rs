//! PTX text as plain data: a module with its variables and kernels, names resolved, nothing executed yet.

mod instruction;
mod kernel;
mod lexer;
mod module;
mod types;

pub(crate) use instruction::{Operand, Statement};
pub(crate) use kernel::{Kernel, Label, Parameter};
pub(crate) use module::{Module, parse};
pub(crate) use types::{Space, Type};

use kernel::Scopes;

use crate::LoadError;

/// A variable of a module or of a kernel.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) space: Space,
    pub(crate) align: u64,
    pub(crate) bytes: u64,
    /// What the variable starts with; shorter than `bytes` if the rest is zero.
    pub(crate) initial: Vec<u8>,
    /// `.extern .shared`: the size is given at the launch.
    pub(crate) dynamic: bool,
}

/// Where an instruction comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Line in the PTX text, from 1.
    pub(crate) line: u32,
    /// Its source, and where that was inlined.
    pub(crate) sources: [SourceLine; 2],
}

/// A line of a source file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SourceLine {
    /// Index of the file in the module's `.file` list; 0 is none.
    pub(crate) file: u32,
    /// Line, from 1; 0 is none.
    pub(crate) line: u32,
}

/// The error of a construct that this crate does not know.
pub(crate) fn unknown(line: u32, what: impl Into<String>) -> LoadError {
    LoadError::Unsupported { line, what: what.into() }
}

/// The error of a construct that no PTX may contain.
pub(crate) fn malformed(line: u32, what: impl Into<String>) -> LoadError {
    LoadError::Malformed { line, what: what.into() }
}
