//! A tracked file, and a view of its code without comments and literals.

/// A file as the rules see it.
pub(super) struct File {
    /// From the workspace's root, with `/`.
    pub(super) path: String,
    pub(super) size_bytes: usize,
    /// Empty for a file that is not UTF-8 text.
    pub(super) text: String,
    /// The text with comments and the contents of literals blanked, line for line; empty for other languages
    /// than Rust and CUDA.
    pub(super) code: String,
}

impl File {
    pub(super) fn new(path: &str, bytes: Vec<u8>) -> Self {
        let size_bytes = bytes.len();
        let text = String::from_utf8(bytes).unwrap_or_default();
        let mut file = File { path: path.to_owned(), size_bytes, text, code: String::new() };
        if file.is_rust() || file.is_cuda() {
            file.code = blank(&file.text, true);
        }
        file
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub(super) fn is_cuda(&self) -> bool {
        self.path.ends_with(".cu") || self.path.ends_with(".cuh")
    }

    /// The file's name without folder and extension.
    pub(super) fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        name.split('.').next().unwrap_or(name)
    }

    /// The lines of the code view, counted from 1.
    pub(super) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// For each line, whether it is test code: a file of tests, benches or examples, or an item under `cfg(test)`.
    pub(super) fn test_lines(&self) -> Vec<bool> {
        let count = self.code.lines().count();
        let folders = ["tests", "benches", "examples"];
        if self.path.split('/').any(|part| folders.contains(&part))
            || self.stem() == "tests"
            || self.stem().starts_with("test_")
        {
            return vec![true; count];
        }
        let mut marks = vec![false; count];
        let (mut inside, mut depth) = (false, 0);
        for (index, line) in self.code.lines().enumerate() {
            let mut rest = line;
            if !inside && let Some(at) = line.find("#[cfg(test)]") {
                (inside, depth) = (true, 0);
                rest = &line[at + "#[cfg(test)]".len()..];
            }
            marks[index] = inside;
            for byte in rest.bytes().filter(|_| inside) {
                match byte {
                    b'{' => depth += 1,
                    b'}' => depth -= 1,
                    _ => {}
                }
                // The item ends with its closing brace, or with a semicolon outside of braces.
                if (byte == b'}' || byte == b';') && depth == 0 {
                    inside = false;
                    break;
                }
            }
        }
        marks
    }
}

/// Whether `word` stands in `line` with no letter, digit or underscore beside it.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(part_of_name)
            && !line[at + word.len()..].chars().next().is_some_and(part_of_name)
    })
}

/// Blanks comments, and with `literals` also the contents of string and character literals. Lines stay lines.
pub(super) fn blank(text: &str, literals: bool) -> String {
    let mut out = text.as_bytes().to_vec();
    let mut at = 0;
    while at < text.len() {
        let (end, is_literal) = token(text, at);
        if let Some(is_literal) = is_literal
            && (literals || !is_literal)
        {
            for byte in &mut out[at..end] {
                *byte = if *byte == b'\n' { b'\n' } else { b' ' };
            }
        }
        at = end;
    }
    // Whole tokens were blanked and tokens end between characters, so what is left is UTF-8.
    String::from_utf8_lossy(&out).into_owned()
}

/// The end of the token at `at`, and what it is: `None` is code, `Some(false)` a comment, `Some(true)` a literal.
fn token(text: &str, at: usize) -> (usize, Option<bool>) {
    let rest = &text[at..];
    let first = rest.chars().next().unwrap_or(' ');
    let code = (at + first.len_utf8(), None);
    match first {
        '/' if rest.starts_with("//") => (at + rest.find('\n').unwrap_or(rest.len()), Some(false)),
        '/' if rest.starts_with("/*") => (at + block_comment(rest), Some(false)),
        '"' => (at + quoted(rest, '"'), Some(true)),
        '\'' => {
            // 'a' and '\n' are literals, 'a alone is a lifetime.
            let mut next = rest.chars().skip(1);
            match (next.next(), next.next()) {
                (Some('\\'), _) | (Some(_), Some('\'')) => (at + quoted(rest, '\''), Some(true)),
                _ => code,
            }
        }
        'r' if !text[..at].ends_with(|c: char| c.is_alphanumeric() && c != 'b' && c != 'c' || c == '_') => {
            let hashes = rest[1..].bytes().take_while(|&byte| byte == b'#').count();
            if !rest[1 + hashes..].starts_with('"') {
                return code;
            }
            let body = hashes + 2;
            let close = format!("\"{}", "#".repeat(hashes));
            let end = rest[body..].find(&close).map_or(rest.len(), |found| body + found + close.len());
            (at + end, Some(true))
        }
        _ => code,
    }
}

/// The length of a literal that starts with `quote`, escapes skipped.
fn quoted(rest: &str, quote: char) -> usize {
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == quote {
            return at + 1;
        }
    }
    rest.len()
}

/// The length of a block comment; they nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        let Some(found) = rest[at..].find(['/', '*']) else {
            return rest.len();
        };
        at += found;
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{File, blank, has_word};

    #[test]
    fn comments_and_literals_are_blanked() {
        for (text, code) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d\n */ e", "a               \n    e"),
            (r#"f("x \" // y") g"#, "f(           ) g"),
            (r##"f(r#"x " y"#) g"##, "f(          ) g"),
            (r#"f(br"\") g"#, "f(b    ) g"),
            ("'a' '\\'' 'é' &'a b", "              &'a b"),
            ("for\"x\" r#type", "for    r#type"),
        ] {
            let found = blank(text, true);
            assert_eq!(found.trim_end(), code.trim_end(), "{text}");
            assert_eq!((found.lines().count(), found.len()), (text.lines().count(), text.len()), "{text}");
        }
        assert_eq!(blank("asm(\"red\"); // why", false).trim_end(), "asm(\"red\");");
    }

    #[test]
    fn test_code_ends_with_its_item() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() { \"}\"; }\n}\nfn c() {}\n#[cfg(test)]\nuse x;\nfn d() {}\n";
        let marks = File::new("src/a.rs", text.into()).test_lines();
        assert_eq!(marks, [false, true, true, true, true, false, true, true, false]);
        assert_eq!(File::new("crates/a/tests/b.rs", "fn a() {}".into()).test_lines(), [true]);
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("x = unsafe { y }", "unsafe"));
        assert!(!has_word("#![allow(unsafe_code)]", "unsafe"));
    }
}
