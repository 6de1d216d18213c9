//! A report as `report.json`: all that is needed to draw it again, large arrays as base64.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_path_to_error as located;

use crate::error::Error;
use crate::model::Report;
use crate::{check, file};

/// What the file says it is; another number means that fields have changed their meaning.
const FORMAT: &str = "sphereface report 1";

#[derive(Serialize)]
struct Saved<'a> {
    format: &'a str,
    report: &'a Report,
}

#[derive(Deserialize)]
struct Format {
    format: String,
}

#[derive(Deserialize)]
struct Loaded {
    report: Report,
}

impl Report {
    /// Saves the report in one step: the file is whole, or what was there before is.
    ///
    /// # Errors
    /// [`Error::NoTrainings`] or [`Error::Invalid`] if it could not be shown; [`Error::Write`] if the disk refuses.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        check::report(self)?;
        let text = serde_json::to_string(&Saved { format: FORMAT, report: self }).map_err(Error::Encode)?;
        file::write(path, text.as_bytes())
    }

    /// Loads a saved report, bit for bit, and checks that it can be shown.
    ///
    /// # Errors
    /// [`Error::Read`] if there is no such file; [`Error::Damaged`] if it is cut off, of another version, or holds what
    /// no report can, with the field.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let damaged = |problem: String| Error::Damaged { path: path.to_path_buf(), problem };
        let text = fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
        // The format first: what is missing in a file of another version would only confuse.
        let found: Format = parse(&text).map_err(damaged)?;
        if found.format != FORMAT {
            return Err(damaged(format!("format: expected \"{FORMAT}\", found {:?}", found.format)));
        }
        let Loaded { report } = parse(&text).map_err(damaged)?;
        match check::report(&report) {
            Ok(()) => Ok(report),
            Err(Error::Invalid { field, expected, found }) => {
                Err(damaged(format!("report.{field}: expected {expected}, found {found}")))
            }
            Err(other) => Err(damaged(other.to_string())),
        }
    }
}

/// Reads JSON; an error names the field it is about.
fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = located::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        let problem = error.into_inner();
        if field == "." { problem.to_string() } else { format!("{field}: {problem}") }
    })?;
    json.end().map_err(|error| error.to_string())?;
    Ok(value)
}
