//! Text for people: escaping, numbers, durations.

/// Escapes text for HTML and XML, content and quoted attributes alike; control characters XML forbids are dropped.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(character),
            '\u{fffe}' | '\u{ffff}' => {}
            c if c.is_control() => {}
            c => escaped.push(c),
        }
    }
    escaped
}

/// A loss's title, escaped; an equation in it does not break over lines.
pub(crate) fn title(text: &str) -> String {
    escape(text).replace(" = ", "\u{a0}=\u{a0}")
}

/// An integer with commas between thousands.
pub(crate) fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Items as a sentence lists them: `a, b and c`.
pub(crate) fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// A count with its noun: `1 epoch`, `2 epochs`.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    format!("{} {noun}{}", thousands(count as u64), if count == 1 { "" } else { "s" })
}

/// A count in the unit that leaves one to three digits before the point: `5.01 M`.
pub(crate) fn short_count(value: u64) -> String {
    let exact = value as f64;
    let (scaled, unit) = match exact {
        v if v >= 1e9 => (v / 1e9, "\u{a0}G"),
        v if v >= 1e6 => (v / 1e6, "\u{a0}M"),
        v if v >= 1e4 => (v / 1e3, "\u{a0}k"),
        _ => return thousands(value),
    };
    format!("{scaled:.2}{unit}")
}

/// A number of bytes in the unit that leaves one to three digits before the point: `688 kB`.
pub(crate) fn bytes(value: u64) -> String {
    let exact = value as f64;
    let (scaled, unit) = match exact {
        v if v >= 999_500_000.0 => (v / 1e9, "GB"),
        v if v >= 999_500.0 => (v / 1e6, "MB"),
        v if v >= 1e3 => (v / 1e3, "kB"),
        _ => return format!("{value}\u{a0}B"),
    };
    let decimals = if scaled < 9.995 { 2 } else { usize::from(scaled < 99.95) };
    format!("{scaled:.decimals$}\u{a0}{unit}")
}

/// The text on one line, cut with an ellipsis above `width` characters.
pub(crate) fn fit(text: &str, width: usize) -> String {
    let one_line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if one_line.chars().count() <= width {
        return one_line;
    }
    one_line.chars().take(width - 1).collect::<String>() + "…"
}

/// Seconds as people say them; a dash if not finite.
pub(crate) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "–".to_string();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

/// A value of a measurement; a dash if not finite.
pub(crate) fn measured(value: f64, decimals: usize) -> String {
    if value.is_finite() { format!("{value:.decimals$}") } else { "–".to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_leaves_no_markup() {
        assert_eq!(escape("<a b='c'>\"&\u{0}"), "&lt;a b=&#39;c&#39;&gt;&quot;&amp;");
    }

    #[test]
    fn titles_hold_their_equations_together() {
        assert_eq!(title("A < B, m = 4"), "A &lt; B, m\u{a0}=\u{a0}4");
    }

    #[test]
    fn lists_read_well() {
        let items = ["a", "b", "c"].map(str::to_string);
        assert_eq!([listed(&items[..0]), listed(&items[..1]), listed(&items)], ["", "a", "a, b and c"]);
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(12), "12");
        assert_eq!([plural(1, "epoch"), plural(2_000, "epoch")], ["1 epoch", "2,000 epochs"]);
        assert_eq!(short_count(5_010_000), "5.01\u{a0}M");
        assert_eq!(
            [bytes(8), bytes(37_124), bytes(999_499), bytes(999_500)],
            ["8\u{a0}B", "37.1\u{a0}kB", "999\u{a0}kB", "1.00\u{a0}MB"]
        );
        assert_eq!(duration(59.7), "1 min 00 s");
        assert_eq!(duration(3_725.0), "1 h 02 min");
        assert_eq!(duration(f64::NAN), "–");
        assert_eq!(measured(f64::INFINITY, 2), "–");
    }
}
