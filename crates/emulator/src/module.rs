//! A loaded module: decoded kernels and the variables they use.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::LoadError;
use crate::decode::{Program, decode};
use crate::ptx::{self, Space, Variable};

/// PTX text, parsed and decoded. It belongs to no device and may be used on several.
#[derive(Clone, Debug)]
pub struct Module {
    /// Tells modules apart; a clone is the same module.
    pub(crate) number: u64,
    pub(crate) target: u32,
    pub(crate) programs: Vec<Program>,
    pub(crate) variables: Vec<Variable>,
    pub(crate) files: HashMap<u32, String>,
}

impl Module {
    /// Parses and decodes PTX text.
    ///
    /// # Errors
    /// Names the line of the first directive, instruction or modifier that is not known.
    pub fn load(text: &str) -> Result<Module, LoadError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let parsed = ptx::parse(text)?;
        let programs: Result<Vec<Program>, LoadError> =
            parsed.kernels.iter().map(|kernel| decode(&parsed, kernel)).collect();
        Ok(Module {
            number: NEXT.fetch_add(1, Relaxed),
            target: parsed.target,
            programs: programs?,
            variables: parsed.variables,
            files: parsed.files,
        })
    }

    /// The names of the kernels, as in the text.
    pub fn kernels(&self) -> impl Iterator<Item = &str> {
        self.programs.iter().map(|program| program.name.as_str())
    }

    /// The sizes of a kernel's parameters in bytes.
    pub fn parameters(&self, kernel: &str) -> Option<Vec<u64>> {
        self.program(kernel).map(|program| program.parameters.iter().map(|parameter| parameter.bytes).collect())
    }

    /// Shared memory that a kernel declares with its size, in bytes.
    pub fn static_shared_bytes(&self, kernel: &str) -> Option<u64> {
        self.program(kernel).map(|program| program.static_shared_bytes)
    }

    pub(crate) fn program(&self, kernel: &str) -> Option<&Program> {
        self.programs.iter().find(|program| program.name == kernel)
    }

    /// Whether a variable lies in global memory, constant or not.
    pub(crate) fn in_memory(variable: &Variable) -> bool {
        matches!(variable.space, Space::Global | Space::Const)
    }
}
