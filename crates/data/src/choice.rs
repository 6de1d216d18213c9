//! The names by which a user picks a data set.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// Which data set to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// Full MNIST where it is found or can be fetched, or whatever IDX set `--data-dir` holds; else the embedded digits.
    #[default]
    Auto,
    /// Full MNIST or an error.
    Mnist,
    /// The embedded digits.
    Mnist10k,
}

impl Choice {
    const ALL: [Choice; 3] = [Choice::Auto, Choice::Mnist, Choice::Mnist10k];

    fn name(self) -> &'static str {
        match self {
            Choice::Auto => "auto",
            Choice::Mnist => "mnist",
            Choice::Mnist10k => "mnist-10k",
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Choice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Choice, Error> {
        let found = Choice::ALL.into_iter().find(|choice| choice.name() == text);
        found.ok_or_else(|| Error::UnknownChoice { given: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_as_they_are_written() {
        for choice in Choice::ALL {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert_eq!(Choice::default(), Choice::Auto);
    }

    #[test]
    fn an_unknown_choice_is_told_the_choices() {
        let message = "MNIST".parse::<Choice>().unwrap_err().to_string();
        assert_eq!(message, "data set 'MNIST': expected auto, mnist or mnist-10k");
    }
}
