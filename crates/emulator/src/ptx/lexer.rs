//! Words, numbers and punctuation of PTX text, each with its line.

use super::malformed;
use crate::LoadError;

/// One token. Words keep their dots: `ld.global.f32` and `%tid.x` are one word each.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token<'a> {
    Word(&'a str),
    Integer(u64),
    /// `0f…`: the bits of an `f32`.
    Single(u32),
    /// `0d…` or a decimal number with a point.
    Double(f64),
    Text(&'a str),
    Mark(char),
}

/// The tokens of a text, read one after the other.
pub(crate) struct Tokens<'a> {
    tokens: Vec<(Token<'a>, u32)>,
    next: usize,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(text: &'a str) -> Result<Self, LoadError> {
        Ok(Tokens { tokens: split(text)?, next: 0 })
    }

    pub(crate) fn peek(&self) -> Option<&Token<'a>> {
        self.tokens.get(self.next).map(|(token, _)| token)
    }

    /// The token after the next one.
    pub(crate) fn peek_second(&self) -> Option<&Token<'a>> {
        self.tokens.get(self.next + 1).map(|(token, _)| token)
    }

    /// The line of the next token, or of the last one at the end.
    pub(crate) fn line(&self) -> u32 {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(1, |(_, line)| *line)
    }

    pub(crate) fn next(&mut self) -> Result<Token<'a>, LoadError> {
        let token = self.peek().cloned().ok_or_else(|| malformed(self.line(), "the text ends too early"))?;
        self.next += 1;
        Ok(token)
    }

    /// Takes the mark if it comes next.
    pub(crate) fn take(&mut self, mark: char) -> bool {
        let found = self.peek() == Some(&Token::Mark(mark));
        self.next += usize::from(found);
        found
    }

    /// Takes the word if it comes next.
    pub(crate) fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(&Token::Word(word));
        self.next += usize::from(found);
        found
    }

    pub(crate) fn expect(&mut self, mark: char) -> Result<(), LoadError> {
        let line = self.line();
        match self.next()? {
            Token::Mark(found) if found == mark => Ok(()),
            other => Err(malformed(line, format!("`{mark}` expected, {} found", describe(&other)))),
        }
    }

    pub(crate) fn word(&mut self) -> Result<&'a str, LoadError> {
        let line = self.line();
        match self.next()? {
            Token::Word(word) => Ok(word),
            other => Err(malformed(line, format!("a name expected, {} found", describe(&other)))),
        }
    }

    pub(crate) fn integer(&mut self) -> Result<u64, LoadError> {
        let line = self.line();
        match self.next()? {
            Token::Integer(value) => Ok(value),
            other => Err(malformed(line, format!("a whole number expected, {} found", describe(&other)))),
        }
    }

    /// Skips `{ … }` with everything inside.
    pub(crate) fn skip_braces(&mut self) -> Result<(), LoadError> {
        self.expect('{')?;
        let mut depth = 1;
        while depth > 0 {
            match self.next()? {
                Token::Mark('{') => depth += 1,
                Token::Mark('}') => depth -= 1,
                _ => {}
            }
        }
        Ok(())
    }
}

/// A token as an error message shows it.
pub(crate) fn describe(token: &Token<'_>) -> String {
    match token {
        Token::Word(word) => format!("`{word}`"),
        Token::Integer(value) => format!("`{value}`"),
        Token::Single(bits) => format!("`0f{bits:08X}`"),
        Token::Double(value) => format!("`{value}`"),
        Token::Text(text) => format!("\"{text}\""),
        Token::Mark(mark) => format!("`{mark}`"),
    }
}

fn split(text: &str) -> Result<Vec<(Token<'_>, u32)>, LoadError> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::with_capacity(text.len() / 4);
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'\n' => {
                line += 1;
                at += 1;
            }
            byte if byte.is_ascii_whitespace() || byte == 0 => at += 1,
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at += bytes[at..].iter().take_while(|byte| **byte != b'\n').count();
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                let length = text[at + 2..].find("*/").ok_or_else(|| malformed(line, "a comment without end"))?;
                at += length + 4;
                line += text[start..at].matches('\n').count() as u32;
            }
            b'"' => {
                let length = text[at + 1..].find('"').ok_or_else(|| malformed(line, "a text without end"))?;
                at += length + 2;
                tokens.push((Token::Text(&text[start + 1..at - 1]), line));
                line += text[start..at].matches('\n').count() as u32;
            }
            byte if byte.is_ascii_digit() => {
                at += bytes[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'.').count();
                let word = &text[start..at];
                // `1.5e-7`: the exponent's sign belongs to the number.
                let exponent = !word.starts_with("0x") && !word.starts_with("0f") && word.contains('.');
                if exponent && word.ends_with(['e', 'E']) && matches!(bytes.get(at), Some(b'-' | b'+')) {
                    at += 1;
                    at += bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                }
                let token = number(&text[start..at])
                    .ok_or_else(|| malformed(line, format!("`{}` is no number", &text[start..at])))?;
                tokens.push((token, line));
            }
            byte if starts_word(byte) => {
                at += 1;
                while at < bytes.len() {
                    let scope = bytes[at..].starts_with(b"::");
                    if scope {
                        at += 2;
                    } else if continues_word(bytes[at]) {
                        at += 1;
                    } else {
                        break;
                    }
                }
                tokens.push((Token::Word(&text[start..at]), line));
            }
            byte if byte.is_ascii() => {
                at += 1;
                tokens.push((Token::Mark(char::from(byte)), line));
            }
            _ => return Err(malformed(line, "a character that is not ASCII")),
        }
    }
    Ok(tokens)
}

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || b"_$%.".contains(&byte)
}

fn continues_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_$.".contains(&byte)
}

fn number(word: &str) -> Option<Token<'static>> {
    let radix = |digits: &str, radix| u64::from_str_radix(digits.trim_end_matches('U'), radix).ok();
    let prefix = word.get(..2).unwrap_or_default();
    match prefix {
        "0f" | "0F" => u32::from_str_radix(&word[2..], 16).ok().map(Token::Single),
        "0d" | "0D" => u64::from_str_radix(&word[2..], 16).ok().map(|bits| Token::Double(f64::from_bits(bits))),
        "0x" | "0X" => radix(&word[2..], 16).map(Token::Integer),
        "0b" | "0B" => radix(&word[2..], 2).map(Token::Integer),
        _ if word.contains('.') => word.parse().ok().map(Token::Double),
        _ if word.len() > 1 && word.starts_with('0') => radix(&word[1..], 8).map(Token::Integer),
        _ => radix(word, 10).map(Token::Integer),
    }
}

#[cfg(test)]
mod tests {
    use super::{Token, split};

    #[test]
    fn tokens_keep_their_lines_and_dots() {
        let text =
            "ld.v2.f32 {%f1, %f2}, [%rd1+-0x10]; // tail\n/* a\nb */ @!%p1 bra $L__BB0_1;\nmov.f32 %f1, 0f3F800000;";
        let tokens = split(text).unwrap();
        assert_eq!(tokens[0], (Token::Word("ld.v2.f32"), 1));
        assert!(tokens.contains(&(Token::Integer(16), 1)));
        assert!(tokens.contains(&(Token::Word("$L__BB0_1"), 3)));
        assert!(tokens.contains(&(Token::Single(0x3f80_0000), 4)));
    }

    #[test]
    fn numbers_of_every_form_are_read() {
        for (text, expected) in [
            ("42U", Token::Integer(42)),
            ("017", Token::Integer(15)),
            ("0b101", Token::Integer(5)),
            ("0d3FF8000000000000", Token::Double(1.5)),
            ("2.5e-1", Token::Double(0.25)),
        ] {
            assert_eq!(split(text).unwrap(), [(expected, 1)], "{text}");
        }
        assert!(split("0fXY").is_err() && split("\"open").is_err() && split("/* open").is_err());
    }
}
