//! Serde form of large arrays: one base64 string of the elements' little-endian bytes, a quarter of what JSON's numbers
//! take, and exact for floats.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

/// Base64 with padding, as `atob` in browsers reads it.
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A number with a fixed count of bytes.
pub(crate) trait Element: Sized {
    /// Little-endian bytes of all values.
    fn to_bytes(values: &[Self]) -> Vec<u8>;
    /// The values of these bytes; `None` if the last one is cut off.
    fn from_bytes(bytes: Vec<u8>) -> Option<Vec<Self>>;
}

impl Element for u8 {
    fn to_bytes(values: &[u8]) -> Vec<u8> {
        values.to_vec()
    }

    fn from_bytes(bytes: Vec<u8>) -> Option<Vec<u8>> {
        Some(bytes)
    }
}

impl Element for f32 {
    fn to_bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn from_bytes(bytes: Vec<u8>) -> Option<Vec<f32>> {
        let (values, rest) = bytes.as_chunks::<4>();
        rest.is_empty().then(|| values.iter().map(|&value| f32::from_le_bytes(value)).collect())
    }
}

/// Writes the values as one string.
pub(crate) fn serialize<T: Element, S: Serializer>(values: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&base64(&T::to_bytes(values)))
}

/// Reads the values of one string.
pub(crate) fn deserialize<'de, T: Element, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let bytes = STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)?;
    let length = bytes.len();
    T::from_bytes(bytes)
        .ok_or_else(|| D::Error::custom(format!("expected whole numbers, found {length} bytes of them")))
}

/// The same for bytes that compress well, with zlib in between: images.
pub(crate) mod deflated {
    use super::{Deserializer, Serializer};
    use flate2::Compression;
    use flate2::read::ZlibDecoder;
    use flate2::write::ZlibEncoder;
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use std::io::{Read, Write};

    /// Writes the bytes as one string.
    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        let encoded = encoder.write_all(bytes).and_then(|()| encoder.finish()).map_err(S::Error::custom)?;
        super::serialize(&encoded, serializer)
    }

    /// Reads the bytes of one string.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let encoded: Vec<u8> = super::deserialize(deserializer)?;
        let mut bytes = Vec::new();
        ZlibDecoder::new(encoded.as_slice()).read_to_end(&mut bytes).map_err(D::Error::custom)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Arrays {
        #[serde(with = "super")]
        floats: Vec<f32>,
        #[serde(with = "super::deflated")]
        pixels: Vec<u8>,
    }

    #[test]
    fn arrays_come_back_bit_for_bit() {
        let arrays = Arrays { floats: vec![0.1, -0.0, f32::MIN_POSITIVE, 3e38], pixels: vec![7; 10_000] };
        let text = serde_json::to_string(&arrays).unwrap();
        assert!(text.len() < 200, "{text}");
        let read: Arrays = serde_json::from_str(&text).unwrap();
        assert_eq!(read, arrays);
        assert!(read.floats[1].is_sign_negative());
        assert!(text.contains("\"floats\":\"zczMPQAAAIA"), "{text}");
    }

    #[test]
    fn damaged_arrays_are_refused() {
        let good = serde_json::to_string(&Arrays { floats: vec![1.0], pixels: vec![0; 100] }).unwrap();
        for (from, to, said) in [
            ("AACAPw==", "AACA", "expected whole numbers, found 3 bytes"),
            ("AACAPw==", "AAC!", "Invalid"),
            ("\"pixels\":\"eJ", "\"pixels\":\"eK", "corrupt"),
        ] {
            assert!(good.contains(from), "{good}");
            let error = serde_json::from_str::<Arrays>(&good.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
