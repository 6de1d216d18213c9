//! The dotted parts of an opcode; one that nobody takes is an error.

use crate::LoadError;
use crate::ptx::{Type, unknown};

/// An opcode taken apart.
pub(super) struct Modifiers<'a> {
    opcode: &'a str,
    head: &'a str,
    rest: Vec<&'a str>,
    line: u32,
}

impl<'a> Modifiers<'a> {
    pub(super) fn new(opcode: &'a str, line: u32) -> Self {
        let mut parts = opcode.split('.');
        let head = parts.next().unwrap_or_default();
        Modifiers { opcode, head, rest: parts.collect(), line }
    }

    pub(super) fn opcode(&self) -> &'a str {
        self.opcode
    }

    pub(super) fn head(&self) -> &'a str {
        self.head
    }

    /// Takes a modifier wherever it stands.
    pub(super) fn take(&mut self, name: &str) -> bool {
        let found = self.rest.iter().position(|part| *part == name);
        if let Some(at) = found {
            self.rest.remove(at);
        }
        found.is_some()
    }

    /// Whether a modifier is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.rest.contains(&name)
    }

    /// Takes the first of the names that is there.
    pub(super) fn take_any(&mut self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().copied().find(|name| self.take(name))
    }

    /// Takes the first modifier that the function accepts.
    pub(super) fn take_as<T>(&mut self, accept: impl Fn(&str) -> Option<T>) -> Option<T> {
        let (at, value) = self.rest.iter().enumerate().find_map(|(at, part)| Some((at, accept(part)?)))?;
        self.rest.remove(at);
        Some(value)
    }

    /// Takes the first type.
    pub(super) fn kind(&mut self) -> Result<Type, LoadError> {
        self.take_as(Type::named).ok_or_else(|| unknown(self.line, format!("`{}` without a type", self.opcode)))
    }

    /// The error of a combination that is not known.
    pub(super) fn unknown(&self) -> LoadError {
        unknown(self.line, format!("instruction `{}`", self.opcode))
    }

    /// All modifiers must have been understood.
    pub(super) fn finish(&self) -> Result<(), LoadError> {
        match self.rest.first() {
            None => Ok(()),
            Some(left) => Err(unknown(self.line, format!("modifier `.{left}` of `{}`", self.opcode))),
        }
    }
}
