//! The outermost level of PTX: version, target, variables, kernels and debug sections.

use std::collections::HashMap;

use super::kernel::{Kernel, kernel};
use super::lexer::{Token, Tokens, describe};
use super::{Place, SourceLine, Space, Type, Variable, malformed, unknown};
use crate::LoadError;

/// A parsed module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Module {
    /// The number of `.target sm_80`.
    pub(crate) target: u32,
    /// Whether it ends in `a`: instructions of this very architecture are allowed.
    pub(crate) specific: bool,
    pub(crate) variables: Vec<Variable>,
    pub(crate) kernels: Vec<Kernel>,
    /// `.file`: index → name.
    pub(crate) files: HashMap<u32, String>,
}

/// Parses the text of a module.
pub(crate) fn parse(text: &str) -> Result<Module, LoadError> {
    let mut tokens = Tokens::new(text)?;
    let mut module = Module::default();
    while tokens.peek().is_some() {
        let line = tokens.line();
        match tokens.next()? {
            Token::Word(".version") => {
                tokens.next()?;
            }
            Token::Word(".target") => (module.target, module.specific) = target(&mut tokens)?,
            Token::Word(".address_size") => {
                let bits = tokens.integer()?;
                if bits != 64 {
                    return Err(unknown(line, format!("addresses of {bits} bits")));
                }
            }
            Token::Word(".file") => {
                let index = tokens.integer()? as u32;
                let Token::Text(name) = tokens.next()? else {
                    return Err(malformed(line, "`.file` without a name"));
                };
                module.files.insert(index, name.to_owned());
                while tokens.take(',') {
                    tokens.integer()?;
                }
            }
            Token::Word(".loc") => drop(location(&mut tokens)?),
            Token::Word(".section") => {
                tokens.word()?;
                tokens.skip_braces()?;
            }
            Token::Word(".visible" | ".weak" | ".common") => {}
            Token::Word(".extern") => external(&mut tokens, &mut module)?,
            Token::Word(".entry") => module.kernels.push(kernel(&mut tokens)?),
            Token::Word(word @ (".global" | ".const" | ".shared")) => {
                let space = Space::named(&word[1..]).unwrap_or(Space::Global);
                module.variables.push(variable(&mut tokens, space, false)?);
            }
            // A function is not executed; a call of it is refused where it stands.
            Token::Word(".func") => skip_function(&mut tokens)?,
            Token::Word(word @ (".tex" | ".alias" | ".noreturn")) => {
                return Err(unknown(line, format!("directive `{word}`")));
            }
            other => return Err(unknown(line, format!("directive {}", describe(&other)))),
        }
    }
    if module.target == 0 {
        return Err(malformed(1, "no `.target`"));
    }
    Ok(module)
}

/// `sm_80`, `sm_90a, debug`: the number, and whether an `a` follows.
fn target(tokens: &mut Tokens<'_>) -> Result<(u32, bool), LoadError> {
    let line = tokens.line();
    let name = tokens.word()?;
    let digits: String = name.chars().filter(char::is_ascii_digit).collect();
    while tokens.take(',') {
        tokens.word()?;
    }
    match digits.parse() {
        Ok(number) if name.starts_with("sm_") => Ok((number, name.ends_with('a'))),
        _ => Err(unknown(line, format!("target `{name}`"))),
    }
}

/// A function's declaration, or its body in braces.
fn skip_function(tokens: &mut Tokens<'_>) -> Result<(), LoadError> {
    loop {
        match tokens.peek() {
            Some(Token::Mark('{')) => return tokens.skip_braces(),
            Some(Token::Mark(';')) => return tokens.next().map(|_semicolon| ()),
            _ => {
                tokens.next()?;
            }
        }
    }
}

/// After `.extern`: shared memory sized at the launch, or a function that is only declared.
fn external(tokens: &mut Tokens<'_>, module: &mut Module) -> Result<(), LoadError> {
    let line = tokens.line();
    match tokens.word()? {
        ".shared" => {
            module.variables.push(variable(tokens, Space::Shared, true)?);
            Ok(())
        }
        // A declaration is harmless; a call of it is refused where it stands.
        ".func" => {
            while !tokens.take(';') {
                tokens.next()?;
            }
            Ok(())
        }
        other => Err(unknown(line, format!("directive `.extern {other}`"))),
    }
}

/// `.loc 1 10 5, function_name …, inlined_at 1 20 3` after the word `.loc`.
pub(super) fn location(tokens: &mut Tokens<'_>) -> Result<Place, LoadError> {
    let source = |tokens: &mut Tokens<'_>| {
        let source = SourceLine { file: tokens.integer()? as u32, line: tokens.integer()? as u32 };
        tokens.integer()?; // The column.
        Ok::<_, LoadError>(source)
    };
    let mut sources = [source(tokens)?, SourceLine::default()];
    while tokens.take(',') {
        let line = tokens.line();
        match tokens.word()? {
            "function_name" => {
                tokens.word()?;
                if tokens.take('+') {
                    tokens.integer()?;
                }
            }
            "inlined_at" => sources[1] = source(tokens)?,
            other => return Err(unknown(line, format!("`{other}` in `.loc`"))),
        }
    }
    Ok(Place { line: 0, sources })
}

/// A variable after its space: `.align 16 .b8 name[64] = {1, 2};`
pub(super) fn variable(tokens: &mut Tokens<'_>, space: Space, external: bool) -> Result<Variable, LoadError> {
    let mut align = 0;
    let mut kind = None;
    let mut vector = 1;
    let name = loop {
        let line = tokens.line();
        match tokens.word()? {
            ".align" => align = tokens.integer()?,
            ".v2" => vector = 2,
            ".v4" => vector = 4,
            word if word.starts_with('.') => {
                let named = Type::named(&word[1..]);
                kind = Some(named.ok_or_else(|| unknown(line, format!("variables of type `{word}`")))?);
            }
            word => break word.to_owned(),
        }
    };
    let line = tokens.line();
    let kind = kind.ok_or_else(|| malformed(line, format!("variable `{name}` has no type")))?;
    let element = kind.bytes() * vector;
    let mut count = 1_u64;
    let mut dynamic = false;
    while tokens.take('[') {
        if tokens.take(']') {
            dynamic = true;
            continue;
        }
        count = count.saturating_mul(tokens.integer()?);
        tokens.expect(']')?;
    }
    let mut initial = Vec::new();
    if tokens.take('=') {
        initializer(tokens, kind, &mut initial)?;
        if dynamic {
            count = (initial.len() as u64).div_ceil(element);
            dynamic = false;
        }
    }
    tokens.expect(';')?;
    let bytes = if dynamic { 0 } else { element.saturating_mul(count) };
    let align = if align == 0 { element } else { align };
    if !align.is_power_of_two() || align > 1 << 16 || bytes > 1 << 32 || initial.len() as u64 > bytes {
        return Err(malformed(line, format!("variable `{name}` has a bad size, alignment or initial value")));
    }
    if dynamic && !external {
        return Err(malformed(line, format!("variable `{name}` has no size")));
    }
    Ok(Variable { name, space, align, bytes, initial, dynamic })
}

/// A number, or numbers in nested braces.
fn initializer(tokens: &mut Tokens<'_>, kind: Type, bytes: &mut Vec<u8>) -> Result<(), LoadError> {
    if tokens.take('{') {
        while !tokens.take('}') {
            initializer(tokens, kind, bytes)?;
            tokens.take(',');
        }
        return Ok(());
    }
    let line = tokens.line();
    let negative = tokens.take('-');
    let bits = match (tokens.next()?, kind) {
        (Token::Integer(value), _) => {
            if negative {
                value.wrapping_neg()
            } else {
                value
            }
        }
        (Token::Single(bits), Type::F32 | Type::B32) => u64::from(bits ^ (u32::from(negative) << 31)),
        (Token::Double(value), Type::F32) => u64::from((if negative { -value } else { value } as f32).to_bits()),
        (Token::Double(value), Type::F64 | Type::B64) => (if negative { -value } else { value }).to_bits(),
        (other, _) => return Err(unknown(line, format!("{} as an initial value", describe(&other)))),
    };
    bytes.extend_from_slice(&bits.to_le_bytes()[..kind.bytes().min(8) as usize]);
    Ok(())
}
