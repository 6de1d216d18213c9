//! Serde form of a measurement that may be missing: NaN and infinities travel as `null` and come back as NaN.
//!
//! JSON has no NaN; without this a report with one diverged step could be saved but not read again.

use serde::{Deserialize, Deserializer, Serializer};

/// A measurement that an older report does not know.
pub(crate) fn missing() -> f64 {
    f64::NAN
}

/// Writes a finite value as it is, anything else as `null`.
pub(crate) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() { serializer.serialize_some(value) } else { serializer.serialize_none() }
}

/// Reads a value, `null` as NaN.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}
