//! Kernels: parameters, registers, variables and body, with the scopes of their names.

use std::collections::HashMap;

use super::instruction::{Statement, instruction};
use super::lexer::{Token, Tokens, describe};
use super::module::{location, variable};
use super::{Place, Space, Type, Variable, malformed, unknown};
use crate::LoadError;

/// A `.entry` function.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    pub(crate) name: String,
    pub(crate) parameters: Vec<Parameter>,
    /// The type of every register; operands hold indices into this list.
    pub(crate) registers: Vec<Type>,
    /// Variables declared inside: shared and local.
    pub(crate) variables: Vec<Variable>,
    pub(crate) body: Vec<Statement>,
    labels: HashMap<(usize, String), Label>,
    /// The enclosing scope of every scope; the outermost is its own.
    parents: Vec<usize>,
    /// `.maxntid`: the most threads a block may have.
    pub(crate) max_threads: Option<u64>,
    /// `.reqntid`: the only shape a block may have.
    pub(crate) required: Option<[u64; 3]>,
    /// `.maxnreg`, and `.minnctapersm`: what bounds the registers of a thread.
    pub(crate) max_registers: Option<u64>,
    pub(crate) min_blocks: Option<u64>,
    /// `.reqnctapercluster`: blocks of a cluster; 1 without.
    pub(crate) cluster: [u32; 3],
}

/// A parameter of a kernel.
#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// What a label names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Label {
    /// The index of the instruction it stands before.
    Instruction(usize),
    /// `.branchtargets`: the labels of an indexed branch.
    Targets(Vec<String>),
}

impl Kernel {
    /// Looks a label up from the inside out.
    pub(crate) fn label(&self, name: &str, mut scope: usize) -> Option<&Label> {
        loop {
            if let Some(found) = self.labels.get(&(scope, name.to_owned())) {
                return Some(found);
            }
            if self.parents[scope] == scope {
                return None;
            }
            scope = self.parents[scope];
        }
    }
}

/// The names of registers in nested braces.
#[derive(Default)]
pub(super) struct Scopes {
    /// From the outermost to the current one, each with its number.
    open: Vec<(usize, Names)>,
    parents: Vec<usize>,
    types: Vec<Type>,
}

#[derive(Default)]
struct Names {
    single: HashMap<String, usize>,
    /// `%r<10>`: prefix → first register and count.
    ranges: HashMap<String, (usize, u64)>,
}

impl Scopes {
    fn enter(&mut self) {
        let number = self.parents.len();
        self.parents.push(self.open.last().map_or(number, |(parent, _)| *parent));
        self.open.push((number, Names::default()));
    }

    pub(super) fn current(&self) -> usize {
        self.open.last().map_or(0, |(number, _)| *number)
    }

    /// The register of a name, from the inside out.
    pub(super) fn register(&self, name: &str) -> Option<usize> {
        let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let index: Option<u64> = name[prefix.len()..].parse().ok();
        self.open.iter().rev().find_map(|(_, names)| {
            names.single.get(name).copied().or_else(|| {
                let (first, count) = names.ranges.get(prefix)?;
                index.filter(|index| index < count).map(|index| first + index as usize)
            })
        })
    }

    /// `.reg .b32 %r<10>, %x;` after the word `.reg`.
    fn declare(&mut self, tokens: &mut Tokens<'_>) -> Result<(), LoadError> {
        let line = tokens.line();
        let name = tokens.word()?;
        let kind = name.strip_prefix('.').and_then(Type::named);
        let kind = kind.ok_or_else(|| unknown(line, format!("registers of type `{name}`")))?;
        if kind == Type::B128 {
            return Err(unknown(line, "registers of 128 bits"));
        }
        loop {
            let name = tokens.word()?.to_owned();
            let first = self.types.len();
            let count = if tokens.take('<') {
                let count = tokens.integer()?;
                tokens.expect('>')?;
                Some(count)
            } else {
                None
            };
            if first as u64 + count.unwrap_or(1) > 1 << 20 {
                return Err(malformed(line, "more than a million registers"));
            }
            self.types.resize(first + count.unwrap_or(1) as usize, kind);
            let (_, names) = self.open.last_mut().ok_or_else(|| malformed(line, "a register outside of a kernel"))?;
            match count {
                Some(count) => drop(names.ranges.insert(name, (first, count))),
                None => drop(names.single.insert(name, first)),
            }
            if tokens.take(';') {
                return Ok(());
            }
            tokens.expect(',')?;
        }
    }
}

/// Reads a kernel after the word `.entry`.
pub(super) fn kernel(tokens: &mut Tokens<'_>) -> Result<Kernel, LoadError> {
    let name = tokens.word()?.to_owned();
    let parameters = parameters(tokens)?;
    let mut kernel = Kernel {
        name,
        parameters,
        registers: Vec::new(),
        variables: Vec::new(),
        body: Vec::new(),
        labels: HashMap::new(),
        parents: Vec::new(),
        max_threads: None,
        required: None,
        max_registers: None,
        min_blocks: None,
        cluster: [1; 3],
    };
    while tokens.peek() != Some(&Token::Mark('{')) {
        let line = tokens.line();
        match tokens.word()? {
            ".maxntid" => kernel.max_threads = Some(shape(tokens)?.iter().product()),
            ".reqntid" => kernel.required = Some(shape(tokens)?),
            ".maxnreg" => kernel.max_registers = Some(tokens.integer()?),
            ".minnctapersm" => kernel.min_blocks = Some(tokens.integer()?),
            ".reqnctapercluster" => kernel.cluster = shape(tokens)?.map(|extent| extent.clamp(1, 1 << 16) as u32),
            ".explicitcluster" => {}
            ".maxnctapersm" | ".maxclusterrank" => drop(tokens.integer()?),
            ".pragma" => pragma(tokens)?,
            other => return Err(unknown(line, format!("directive `{other}`"))),
        }
    }
    body(tokens, &mut kernel)?;
    Ok(kernel)
}

fn shape(tokens: &mut Tokens<'_>) -> Result<[u64; 3], LoadError> {
    let mut shape = [1; 3];
    shape[0] = tokens.integer()?;
    for extent in &mut shape[1..] {
        if tokens.take(',') {
            *extent = tokens.integer()?;
        }
    }
    Ok(shape)
}

/// `"nounroll";` and the like: advice to the compiler of a GPU.
fn pragma(tokens: &mut Tokens<'_>) -> Result<(), LoadError> {
    while !tokens.take(';') {
        tokens.next()?;
    }
    Ok(())
}

fn parameters(tokens: &mut Tokens<'_>) -> Result<Vec<Parameter>, LoadError> {
    let mut parameters: Vec<Parameter> = Vec::new();
    if !tokens.take('(') {
        return Ok(parameters);
    }
    let mut end = 0;
    while !tokens.take(')') {
        if !parameters.is_empty() {
            tokens.expect(',')?;
        }
        let line = tokens.line();
        if !tokens.take_word(".param") {
            return Err(malformed(line, format!("`.param` expected, {} found", describe(&tokens.next()?))));
        }
        let mut parameter = Variable {
            name: String::new(),
            space: Space::Param,
            align: 0,
            bytes: 0,
            initial: Vec::new(),
            dynamic: false,
        };
        while parameter.name.is_empty() {
            let line = tokens.line();
            match tokens.word()? {
                ".align" if parameter.bytes == 0 || parameter.align == 0 => parameter.align = tokens.integer()?,
                // `.ptr .global .align 16`: what a pointer points to; nothing depends on it.
                ".ptr" => {
                    while tokens.peek().is_some_and(|next| matches!(next, Token::Word(word) if word.starts_with('.'))) {
                        if tokens.take_word(".align") {
                            tokens.integer()?;
                        } else {
                            tokens.next()?;
                        }
                    }
                }
                word if word.starts_with('.') => {
                    let kind = Type::named(&word[1..]);
                    parameter.bytes =
                        kind.ok_or_else(|| unknown(line, format!("parameters of type `{word}`")))?.bytes();
                }
                word => parameter.name = word.to_owned(),
            }
        }
        if parameter.bytes == 0 {
            return Err(malformed(line, format!("parameter `{}` has no type", parameter.name)));
        }
        if parameter.align == 0 {
            parameter.align = parameter.bytes;
        }
        if tokens.take('[') {
            let count = tokens.integer()?;
            parameter.bytes = parameter.bytes.saturating_mul(count);
            tokens.expect(']')?;
        }
        if !parameter.align.is_power_of_two() || parameter.bytes > 1 << 16 {
            return Err(malformed(line, format!("parameter `{}` has a bad size or alignment", parameter.name)));
        }
        let offset = u64::next_multiple_of(end, parameter.align);
        end = offset + parameter.bytes;
        parameters.push(Parameter { name: parameter.name, offset, bytes: parameter.bytes });
    }
    Ok(parameters)
}

fn body(tokens: &mut Tokens<'_>, kernel: &mut Kernel) -> Result<(), LoadError> {
    let mut scopes = Scopes::default();
    let mut place = Place::default();
    tokens.expect('{')?;
    scopes.enter();
    while !scopes.open.is_empty() {
        let line = tokens.line();
        match tokens.peek() {
            Some(Token::Mark('{')) => {
                tokens.next()?;
                scopes.enter();
            }
            Some(Token::Mark('}')) => {
                tokens.next()?;
                scopes.open.pop();
            }
            Some(Token::Mark(';')) => {
                tokens.next()?;
            }
            Some(Token::Word(".reg")) => {
                tokens.next()?;
                scopes.declare(tokens)?;
            }
            Some(Token::Word(".loc")) => {
                tokens.next()?;
                place = location(tokens)?;
            }
            Some(Token::Word(".pragma")) => {
                tokens.next()?;
                pragma(tokens)?;
            }
            Some(Token::Word(word @ (".shared" | ".local"))) => {
                let space = if *word == ".shared" { Space::Shared } else { Space::Local };
                tokens.next()?;
                kernel.variables.push(variable(tokens, space, false)?);
            }
            Some(Token::Word(word)) if word.starts_with('.') => {
                return Err(unknown(line, format!("directive `{word}`")));
            }
            Some(Token::Word(name)) if tokens.peek_second() == Some(&Token::Mark(':')) => {
                let key = (scopes.current(), (*name).to_owned());
                tokens.next()?;
                tokens.next()?;
                let label = if tokens.take_word(".branchtargets") {
                    Label::Targets(targets(tokens)?)
                } else {
                    Label::Instruction(kernel.body.len())
                };
                if let Some(_earlier) = kernel.labels.insert(key.clone(), label) {
                    return Err(malformed(line, format!("label `{}` stands twice", key.1)));
                }
            }
            _ => kernel.body.push(instruction(tokens, &scopes, place)?),
        }
    }
    kernel.registers = scopes.types;
    kernel.parents = scopes.parents;
    Ok(())
}

fn targets(tokens: &mut Tokens<'_>) -> Result<Vec<String>, LoadError> {
    let mut labels = vec![tokens.word()?.to_owned()];
    while tokens.take(',') {
        labels.push(tokens.word()?.to_owned());
    }
    tokens.expect(';')?;
    Ok(labels)
}
