//! The command `losses`: every loss in formulas and words, with a curve, in 80 columns of plain text.

use crate::cli::LossesArgs;
use crate::config::Config;
use crate::losses::describe;
use anyhow::Result;
use sphereface_models::{LOSSES, Loss};
use std::fmt::Write as _;
use std::io::Write;

/// Columns of the terminal.
const WIDTH: usize = 80;
/// Columns and rows of a curve. Each cell is two dots wide and four high.
const CURVE: (usize, usize) = (60, 9);
/// Columns before a curve.
const LEFT: usize = 11;
/// Steps of the training whose λ `--json` shows: the default one on full MNIST.
const STEPS: usize = 2344;

/// Prints every loss.
pub(crate) fn losses(args: &LossesArgs) -> Result<()> {
    if args.json {
        let mut config = Config::default();
        config.model.losses = LOSSES.iter().map(|loss| loss.key.to_owned()).collect();
        tell!("{}", serde_json::to_string(&describe(&config, STEPS)?)?);
        return Ok(());
    }
    for (i, loss) in LOSSES.into_iter().enumerate() {
        tell!("{}{}", if i > 0 { "\n" } else { "" }, described(loss).trim_end());
    }
    Ok(())
}

/// One loss in at most [`WIDTH`] columns.
fn described(loss: &Loss) -> String {
    let mut text = format!("{} (--loss {})\n", loss.title, loss.key);
    for formula in loss.formulas {
        let _ = writeln!(text, "    {}", formula.text);
    }
    for line in wrapped(loss.explanation, WIDTH - 2) {
        let _ = writeln!(text, "  {line}");
    }
    let symbols = loss.parameters.iter().map(|parameter| parameter.symbol.chars().count()).max().unwrap_or(0).max(2);
    for parameter in loss.parameters {
        let option = match parameter.setting.key() {
            Some("m") if !loss.margins.is_empty() => "--m; ".into(),
            Some(key) => format!("--set {}.{key}; ", loss.key),
            None => String::new(),
        };
        let line = format!("{} ({option}default: {})", parameter.meaning, parameter.setting.default());
        for (i, line) in wrapped(&line, WIDTH - 5 - symbols).iter().enumerate() {
            let _ = writeln!(text, "    {:<symbols$} {line}", if i == 0 { parameter.symbol } else { "" });
        }
    }
    for line in wrapped(&format!("Source: {}", loss.source), WIDTH - 2) {
        let _ = writeln!(text, "  {line}");
    }
    let (margins, lambdas) = (loss.margins, if loss.annealed { "λ = 0" } else { "" });
    let shown = margins.last().copied();
    let chosen = shown.map_or_else(String::new, |m| format!("m = {m}"));
    let settings: Vec<&str> = [chosen.as_str(), lambdas].into_iter().filter(|part| !part.is_empty()).collect();
    let settings = if settings.is_empty() { String::new() } else { format!(" with {}", settings.join(", ")) };
    let _ = writeln!(text, "  What becomes of cos θ of the true class{settings}:");
    let mut values = loss.stock();
    values.iter_mut().zip(shown).for_each(|(value, m)| *value = f64::from(m));
    let margin = (loss.make)(10, &values).margin;
    text.push_str(&curve(|theta| margin.target(theta.cos(), 0.0).value));
    if margin.bends_others() {
        text.push_str("  And of every other class:\n");
        text.push_str(&curve(|theta| margin.other(theta.cos()).value));
    }
    text
}

/// A curve over θ from 0° to 180° in braille dots, with the values of its ends.
fn curve(value: impl Fn(f64) -> f64) -> String {
    let (columns, rows) = CURVE;
    let (across, down) = (2 * columns, 4 * rows);
    let values: Vec<f64> = (0..across).map(|i| value(std::f64::consts::PI * i as f64 / (across - 1) as f64)).collect();
    let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
    let place = |v: f64| ((high - v) / (high - low).max(1e-9) * (down - 1) as f64).round() as usize;
    let mut cells = vec![vec![0u8; columns]; rows];
    // The dots of a braille cell, by column and row: U+2800 plus these bits.
    const DOTS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
    for (i, pair) in values.windows(2).enumerate() {
        // A steep curve is drawn down to where its next dot begins.
        let (from, to) = (place(pair[0]), place(pair[1]));
        for y in from.min(to)..=from.max(to).saturating_sub(usize::from(from != to)).max(from.min(to)) {
            cells[y / 4][i / 2] |= DOTS[i % 2][y % 4];
        }
    }
    let last = place(values[across - 1]);
    cells[last / 4][columns - 1] |= DOTS[1][last % 4];
    let mut text = String::new();
    for (row, cells) in cells.iter().enumerate() {
        let label = match row {
            0 => short(high),
            _ if row == rows - 1 => short(low),
            _ => String::new(),
        };
        let line: String = cells.iter().map(|&dots| dot_cell(dots)).collect();
        let _ = writeln!(text, "    {label:>5} ┤{}", line.trim_end());
    }
    let ticks = ["0°", "45°", "90°", "135°", "180°"];
    let mut axis: Vec<char> = vec![' '; LEFT + columns + 3];
    for (i, tick) in ticks.iter().enumerate() {
        let start = LEFT + (columns - 1) * i / (ticks.len() - 1);
        let start = if i == 0 { start } else { start - (tick.chars().count() - 1) / 2 };
        tick.chars().enumerate().for_each(|(k, c)| axis[start + k] = c);
    }
    let _ = writeln!(text, "{}", axis.iter().collect::<String>().trim_end());
    text
}

/// A value with at most two decimals.
fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A braille cell; an empty one is a space, since some fonts draw its empty dots.
fn dot_cell(dots: u8) -> char {
    if dots == 0 { ' ' } else { char::from_u32(0x2800 + u32::from(dots)).unwrap_or(' ') }
}

/// The text in lines of at most `width` characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loss_fits_eighty_columns() {
        for loss in LOSSES {
            let text = described(loss);
            assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
            assert!(text.contains(loss.key) && text.contains("Source: "), "{text}");
        }
    }

    #[test]
    fn a_curve_falls_from_its_first_corner_to_its_last() {
        let text = curve(f64::cos);
        let lines: Vec<&str> = text.lines().collect();
        let (columns, rows) = CURVE;
        assert_eq!(lines.len(), rows + 1);
        let cell = |row: usize, column: usize| {
            lines[row].chars().nth(LEFT + column).map_or(0, |c| (c as u32).saturating_sub(0x2800))
        };
        assert!(cell(0, 0) > 0 && cell(rows - 1, columns - 1) > 0, "{text}");
        assert!(cell(0, columns - 1) == 0 && cell(rows - 1, 0) == 0, "{text}");
        for column in 0..columns {
            assert!((0..rows).any(|row| cell(row, column) > 0), "column {column} is empty: {text}");
        }
    }
}
