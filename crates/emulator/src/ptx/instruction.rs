//! Instructions as written: an opcode, a guard and operands.

use super::lexer::{Token, Tokens, describe};
use super::{Place, Scopes, malformed};
use crate::LoadError;

/// One instruction of a kernel.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    /// With all modifiers: `ld.global.v4.f32`.
    pub(crate) opcode: String,
    pub(crate) guard: Option<Guard>,
    pub(crate) operands: Vec<Operand>,
    pub(crate) place: Place,
    /// The scope in which the names of labels are looked up.
    pub(crate) scope: usize,
}

/// `@%p` or `@!%p` before an instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard {
    pub(crate) register: usize,
    pub(crate) negated: bool,
}

/// An operand. Registers are indices into the kernel's list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    Register(usize),
    /// A special register: `%tid.x`.
    Special(String),
    /// The address of a variable plus an offset, or a label.
    Symbol(String, i64),
    /// Two's complement, 64 bits.
    Integer(u64),
    Single(u32),
    Double(f64),
    Vector(Vec<Operand>),
    Address(Box<Operand>, i64),
    /// `[%rd1, {%r1, %r2}]`: a tensor map and coordinates.
    Tensor(Box<Operand>, Vec<Operand>),
    /// `%r1|%p1`: a value and a predicate.
    Pair(Box<Operand>, Box<Operand>),
    /// `!%p1`.
    Not(Box<Operand>),
    /// `_`: the result is not wanted.
    Sink,
}

/// Reads the instruction that comes next, up to its semicolon.
pub(super) fn instruction(tokens: &mut Tokens<'_>, scopes: &Scopes, mut place: Place) -> Result<Statement, LoadError> {
    place.line = tokens.line();
    let guard = if tokens.take('@') { Some(guard(tokens, scopes)?) } else { None };
    let opcode = tokens.word()?.to_owned();
    let mut operands = Vec::new();
    while !tokens.take(';') {
        if !operands.is_empty() {
            tokens.expect(',')?;
        }
        operands.push(pair(tokens, scopes)?);
    }
    Ok(Statement { opcode, guard, operands, place, scope: scopes.current() })
}

fn guard(tokens: &mut Tokens<'_>, scopes: &Scopes) -> Result<Guard, LoadError> {
    let negated = tokens.take('!');
    let line = tokens.line();
    let name = tokens.word()?;
    let register =
        scopes.register(name).ok_or_else(|| malformed(line, format!("`{name}` is no register of this kernel")))?;
    Ok(Guard { register, negated })
}

fn pair(tokens: &mut Tokens<'_>, scopes: &Scopes) -> Result<Operand, LoadError> {
    let first = operand(tokens, scopes)?;
    if tokens.take('|') {
        return Ok(Operand::Pair(Box::new(first), Box::new(operand(tokens, scopes)?)));
    }
    Ok(first)
}

fn operand(tokens: &mut Tokens<'_>, scopes: &Scopes) -> Result<Operand, LoadError> {
    let line = tokens.line();
    match tokens.next()? {
        Token::Word("_") => Ok(Operand::Sink),
        Token::Word(name) => {
            if let Some(register) = scopes.register(name) {
                return Ok(Operand::Register(register));
            }
            if name.starts_with('%') {
                return Ok(Operand::Special(name.to_owned()));
            }
            let offset = offset(tokens)?;
            Ok(Operand::Symbol(name.to_owned(), offset))
        }
        Token::Integer(value) => Ok(Operand::Integer(value)),
        Token::Single(bits) => Ok(Operand::Single(bits)),
        Token::Double(value) => Ok(Operand::Double(value)),
        Token::Mark('-') => match operand(tokens, scopes)? {
            Operand::Integer(value) => Ok(Operand::Integer(value.wrapping_neg())),
            Operand::Single(bits) => Ok(Operand::Single(bits ^ 0x8000_0000)),
            Operand::Double(value) => Ok(Operand::Double(-value)),
            _ => Err(malformed(line, "a number expected after `-`")),
        },
        Token::Mark('!') => Ok(Operand::Not(Box::new(operand(tokens, scopes)?))),
        Token::Mark('{') => {
            let mut parts = Vec::new();
            while !tokens.take('}') {
                if !parts.is_empty() {
                    tokens.expect(',')?;
                }
                parts.push(operand(tokens, scopes)?);
            }
            Ok(Operand::Vector(parts))
        }
        Token::Mark('[') => {
            let base = operand(tokens, scopes)?;
            let mut offset = offset(tokens)?;
            let base = match base {
                Operand::Symbol(name, inner) => {
                    offset = offset.wrapping_add(inner);
                    Operand::Symbol(name, 0)
                }
                base => base,
            };
            let address = Operand::Address(Box::new(base), offset);
            if tokens.take(',') {
                let line = tokens.line();
                let Operand::Vector(coordinates) = operand(tokens, scopes)? else {
                    return Err(malformed(line, "coordinates in braces expected"));
                };
                tokens.expect(']')?;
                return Ok(Operand::Tensor(Box::new(address), coordinates));
            }
            tokens.expect(']')?;
            Ok(address)
        }
        other => Err(malformed(line, format!("an operand expected, {} found", describe(&other)))),
    }
}

/// `+16`, `+-16`, `-16` or nothing.
fn offset(tokens: &mut Tokens<'_>) -> Result<i64, LoadError> {
    let negative = if tokens.take('+') {
        tokens.take('-')
    } else if tokens.take('-') {
        true
    } else {
        return Ok(0);
    };
    let value = tokens.integer()? as i64;
    Ok(if negative { value.wrapping_neg() } else { value })
}
