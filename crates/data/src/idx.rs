//! The IDX format: a big-endian header, then bytes.
//!
//! Images: magic `0x00000803`, N, H, W, then `[N, H, W]`. Labels: magic `0x00000801`, N, then `[N]`.

use crate::error::{Error, grouped};

/// What an IDX header claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// N
    pub(crate) count: usize,
    /// H, 1 for labels
    pub(crate) height: usize,
    /// W, 1 for labels
    pub(crate) width: usize,
    /// Where the content starts.
    pub(crate) header_bytes: usize,
    /// Header and content together.
    pub(crate) total_bytes: u64,
}

/// Which of the two kinds of file is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Images,
    Labels,
}

/// Nothing larger is read, packed or unpacked: twice the largest set in this format, EMNIST's 547 MB.
pub(crate) const MAX_BYTES: u64 = 1 << 30;

/// The longest header.
pub(crate) const MAX_HEADER_BYTES: usize = 16;

const IMAGES_MAGIC: u32 = 0x0803;
const LABELS_MAGIC: u32 = 0x0801;

impl Kind {
    fn magic(self) -> u32 {
        match self {
            Kind::Images => IMAGES_MAGIC,
            Kind::Labels => LABELS_MAGIC,
        }
    }

    fn header_bytes(self) -> usize {
        match self {
            Kind::Images => 16,
            Kind::Labels => 8,
        }
    }

    fn count_field(self) -> &'static str {
        match self {
            Kind::Images => "image count",
            Kind::Labels => "label count",
        }
    }
}

/// Checks a complete unpacked file: magic, counts, dimensions and the exact length.
///
/// # Errors
///
/// [`Error::Content`] names the first field that is wrong.
pub(crate) fn check(file: &str, kind: Kind, bytes: &[u8]) -> Result<Header, Error> {
    let header = parse_header(file, kind, bytes)?;
    let found = bytes.len() as u64;
    if found != header.total_bytes {
        let why = if found < header.total_bytes { "truncated" } else { "trailing bytes" };
        return Err(wrong_length(file, kind, &header, &format!("{} ({why})", grouped(found))));
    }
    Ok(header)
}

/// Reads the header at the start of `bytes`; the content may still be missing.
///
/// # Errors
///
/// [`Error::Content`] names the first field that is wrong.
pub(crate) fn parse_header(file: &str, kind: Kind, bytes: &[u8]) -> Result<Header, Error> {
    if bytes.is_empty() {
        return Err(Error::content(file, "header", format!("{} bytes", kind.header_bytes()), "an empty file"));
    }
    if let Some(magic) = big_endian(bytes, 0)
        && magic != kind.magic()
    {
        return Err(Error::content(file, "magic", describe_magic(kind.magic()), describe_magic(magic)));
    }
    if bytes.len() < kind.header_bytes() {
        return Err(Error::content(
            file,
            "header",
            format!("{} bytes", kind.header_bytes()),
            format!("{} (truncated)", bytes.len()),
        ));
    }
    let field = |offset| big_endian(bytes, offset).unwrap_or(0);
    let count = field(4);
    let (height, width) = match kind {
        Kind::Images => (field(8), field(12)),
        Kind::Labels => (1, 1),
    };
    for (field, value) in [(kind.count_field(), count), ("image height", height), ("image width", width)] {
        if value == 0 {
            return Err(Error::content(file, field, "at least 1", "0"));
        }
    }
    // The product of three u32 fits u128, not u64.
    let content = u128::from(count) * u128::from(height) * u128::from(width);
    let total = content + kind.header_bytes() as u128;
    if total > u128::from(MAX_BYTES) {
        return Err(Error::content(
            file,
            "size claimed by the header",
            format!("at most {} bytes", grouped(MAX_BYTES)),
            format!("{count} × {height} × {width}"),
        ));
    }
    Ok(Header {
        count: count as usize,
        height: height as usize,
        width: width as usize,
        header_bytes: kind.header_bytes(),
        total_bytes: total as u64,
    })
}

/// The error for content that is shorter or longer than its header claims.
pub(crate) fn wrong_length(file: &str, kind: Kind, header: &Header, found: &str) -> Error {
    let claim = match kind {
        Kind::Images => format!("{} × {} × {}", header.count, header.height, header.width),
        Kind::Labels => header.count.to_string(),
    };
    Error::content(
        file,
        "length",
        format!("{} bytes ({} + {claim})", grouped(header.total_bytes), header.header_bytes),
        found,
    )
}

fn big_endian(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..offset + 4)?;
    Some(u32::from_be_bytes(field.try_into().ok()?))
}

fn describe_magic(magic: u32) -> String {
    match magic {
        IMAGES_MAGIC => "0x00000803 (images)".to_owned(),
        LABELS_MAGIC => "0x00000801 (labels)".to_owned(),
        _ if magic >> 16 == 0x1f8b => format!("0x{magic:08x} (gzip, packed twice)"),
        _ => format!("0x{magic:08x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{idx_images, idx_labels};

    fn message(kind: Kind, bytes: &[u8]) -> String {
        match check("f", kind, bytes) {
            Ok(header) => panic!("accepted: {header:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn check_accepts_exact_files() {
        let header = check("f", Kind::Images, &idx_images(3, 2, 5, 0)).unwrap();
        assert_eq!((header.count, header.height, header.width), (3, 2, 5));
        assert_eq!((header.header_bytes, header.total_bytes), (16, 46));
        let header = check("f", Kind::Labels, &idx_labels(&[0, 1])).unwrap();
        assert_eq!((header.count, header.total_bytes), (2, 10));
    }

    #[test]
    fn check_names_the_field_that_is_wrong() {
        let images = idx_images(3, 2, 5, 0);
        let labels = idx_labels(&[0, 1, 2]);
        let with = |offset: usize, value: u8| {
            let mut bytes = images.clone();
            bytes[offset] = value;
            bytes
        };
        let longer = [images.clone(), vec![0]].concat();
        for (kind, bytes, expected) in [
            (Kind::Images, &[][..], "f: header: expected 16 bytes, found an empty file"),
            (Kind::Images, &images[..3], "f: header: expected 16 bytes, found 3 (truncated)"),
            (Kind::Labels, &labels[..7], "f: header: expected 8 bytes, found 7 (truncated)"),
            (Kind::Images, &labels, "f: magic: expected 0x00000803 (images), found 0x00000801 (labels)"),
            (Kind::Labels, &images, "f: magic: expected 0x00000801 (labels), found 0x00000803 (images)"),
            (Kind::Images, &with(2, 9), "f: magic: expected 0x00000803 (images), found 0x00000903"),
            (Kind::Images, &with(7, 0), "f: image count: expected at least 1, found 0"),
            (Kind::Images, &with(11, 0), "f: image height: expected at least 1, found 0"),
            (Kind::Images, &with(15, 0), "f: image width: expected at least 1, found 0"),
            (Kind::Labels, &idx_labels(&[]), "f: label count: expected at least 1, found 0"),
            (Kind::Images, &images[..45], "f: length: expected 46 bytes (16 + 3 × 2 × 5), found 45 (truncated)"),
            (Kind::Images, &longer, "f: length: expected 46 bytes (16 + 3 × 2 × 5), found 47 (trailing bytes)"),
            (Kind::Labels, &labels[..10], "f: length: expected 11 bytes (8 + 3), found 10 (truncated)"),
            (
                Kind::Images,
                &[0x1f, 0x8b, 8, 0],
                "f: magic: expected 0x00000803 (images), found 0x1f8b0800 (gzip, packed twice)",
            ),
        ] {
            assert_eq!(message(kind, bytes), expected);
        }
    }

    #[test]
    fn absurd_claims_are_refused_by_arithmetic_alone() {
        let mut bytes = idx_images(1, 1, 1, 0);
        bytes[4..16].fill(0xff);
        assert_eq!(
            message(Kind::Images, &bytes),
            "f: size claimed by the header: expected at most 1,073,741,824 bytes, found 4294967295 × 4294967295 × 4294967295"
        );
    }
}
