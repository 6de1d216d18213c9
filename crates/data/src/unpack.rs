//! Files from disk and gzip, with bounds on both: a header's claim is checked before anything is unpacked for it.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use flate2::bufread::GzDecoder;

use crate::error::{Error, grouped};
use crate::idx::{self, Kind, MAX_BYTES, MAX_HEADER_BYTES};

/// An unpacked file.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) bytes: Vec<u8>,
    /// Whether it had to be unpacked.
    pub(crate) was_packed: bool,
}

/// Deflate packs at most 258 bytes into two bits.
const MAX_DEFLATE_RATIO: u64 = 1032;

/// Reads an IDX file, raw or gzip. The content tells which; only a name in `.gz` must tell the truth.
///
/// # Errors
///
/// [`Error::Io`] where the file cannot be read; [`Error::Content`] for a folder or device in its place, a file over
/// [`MAX_BYTES`], and everything [`unpack`] and [`idx::check`] refuse.
pub(crate) fn read(path: &Path, kind: Kind) -> Result<Unpacked, Error> {
    let file = path.display().to_string();
    let metadata = fs::metadata(path).map_err(|error| Error::io(path, &error))?;
    if !metadata.is_file() {
        let found = if metadata.is_dir() { "a folder" } else { "a device or pipe" };
        return Err(Error::content(&file, "type", "a file", found));
    }
    let mut packed = Vec::new();
    File::open(path)
        .and_then(|open| open.take(MAX_BYTES + 1).read_to_end(&mut packed))
        .map_err(|error| Error::io(path, &error))?;
    if packed.len() as u64 > MAX_BYTES {
        return Err(Error::content(&file, "size", format!("at most {} bytes", grouped(MAX_BYTES)), "more"));
    }
    let named_gz = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
    if named_gz && !is_gzip(&packed) {
        let found = match packed.get(..2) {
            Some(start) => format!("0x{:02x}{:02x} (not packed)", start[0], start[1]),
            None => "an empty file".to_owned(),
        };
        return Err(Error::content(&file, "gzip magic", "0x1f8b", found));
    }
    unpack(&file, kind, packed)
}

/// Unpacks `packed` where it is gzip, and checks the result as [`idx::check`] does.
///
/// Unpacks no more than the header claims and one byte, and nothing where the claim exceeds what `packed` could hold.
///
/// # Errors
///
/// [`Error::Content`] for damaged gzip, for bytes after its end, and for everything [`idx::check`] refuses.
pub(crate) fn unpack(file: &str, kind: Kind, packed: Vec<u8>) -> Result<Unpacked, Error> {
    if !is_gzip(&packed) {
        idx::check(file, kind, &packed)?;
        return Ok(Unpacked { bytes: packed, was_packed: false });
    }
    let damaged = |error: std::io::Error| {
        let found = match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "a truncated file".to_owned(),
            _ => error.to_string(),
        };
        Error::content(file, "gzip", "intact data", found)
    };
    let mut decoder = GzDecoder::new(&packed[..]);
    let mut bytes = Vec::new();
    (&mut decoder).take(MAX_HEADER_BYTES as u64).read_to_end(&mut bytes).map_err(damaged)?;
    let header = idx::parse_header(file, kind, &bytes)?;
    let most = packed.len() as u64 * MAX_DEFLATE_RATIO;
    if header.total_bytes > most {
        let found = format!("a gzip file that holds at most {}", grouped(most));
        return Err(idx::wrong_length(file, kind, &header, &found));
    }
    // One byte more than claimed, so that the decoder reaches the checksum or shows that there is more.
    let wanted = (header.total_bytes + 1).saturating_sub(bytes.len() as u64);
    (&mut decoder).take(wanted).read_to_end(&mut bytes).map_err(damaged)?;
    if bytes.len() as u64 > header.total_bytes {
        return Err(idx::wrong_length(file, kind, &header, "more (trailing bytes)"));
    }
    idx::check(file, kind, &bytes)?;
    let rest = decoder.into_inner().len();
    if rest > 0 {
        let found = format!("{} more bytes", grouped(rest as u64));
        return Err(Error::content(file, "gzip", "nothing after its end", found));
    }
    Ok(Unpacked { bytes, was_packed: true })
}

fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{TempDir, gzip, idx_images, idx_labels};

    fn message(kind: Kind, packed: Vec<u8>) -> String {
        unpack("f", kind, packed).unwrap_err().to_string()
    }

    fn message_of(path: &Path) -> String {
        let message = read(path, Kind::Labels).unwrap_err().to_string();
        message.replace(&path.display().to_string(), "f")
    }

    #[test]
    fn gzip_and_raw_give_the_same_bytes() {
        let raw = idx_images(9, 4, 5, 1);
        let a = unpack("f", Kind::Images, raw.clone()).unwrap();
        let b = unpack("f", Kind::Images, gzip(&raw)).unwrap();
        assert_eq!((a.bytes, a.was_packed), (raw.clone(), false));
        assert_eq!((b.bytes, b.was_packed), (raw, true));
    }

    #[test]
    fn damaged_gzip_is_refused() {
        let packed = gzip(&idx_images(90, 4, 5, 1));
        let mut wrong_sum = packed.clone();
        let end = wrong_sum.len() - 8;
        wrong_sum[end] ^= 1;
        let truncated = packed[..packed.len() / 2].to_vec();
        let trailing = [&packed[..], b"xyz"].concat();
        assert!(message(Kind::Images, wrong_sum).starts_with("f: gzip: expected intact data, found "));
        assert_eq!(message(Kind::Images, truncated), "f: gzip: expected intact data, found a truncated file");
        assert_eq!(message(Kind::Images, trailing), "f: gzip: expected nothing after its end, found 3 more bytes");
        assert_eq!(message(Kind::Labels, packed), "f: magic: expected 0x00000801 (labels), found 0x00000803 (images)");
    }

    #[test]
    fn every_truncation_of_gzip_is_refused() {
        let packed = gzip(&idx_labels(&[0, 1, 2, 3]));
        for length in 0..packed.len() {
            assert!(unpack("f", Kind::Labels, packed[..length].to_vec()).is_err(), "{length}");
        }
    }

    #[test]
    fn a_gzip_bomb_is_not_unpacked() {
        // 64 MiB of zeros after a header that claims one pixel: unpacking stops a byte after it.
        let mut bomb = idx_images(1, 1, 1, 0);
        bomb.resize(64 << 20, 0);
        assert_eq!(
            message(Kind::Images, gzip(&bomb)),
            "f: length: expected 17 bytes (16 + 1 × 1 × 1), found more (trailing bytes)"
        );
        // A claim that so short a file cannot hold: nothing is unpacked for it.
        let mut claim = idx_images(1, 1, 1, 0);
        claim[4..8].copy_from_slice(&(1u32 << 29).to_be_bytes());
        let message = message(Kind::Images, gzip(&claim));
        assert!(message.contains("found a gzip file that holds at most"), "{message}");
    }

    #[test]
    fn read_goes_by_content_and_by_a_name_in_gz() {
        let folder = TempDir::new();
        let raw = idx_labels(&[3, 1]);
        let hidden = folder.write("labels", &gzip(&raw));
        assert_eq!(read(&hidden, Kind::Labels).unwrap().bytes, raw);
        let liar = folder.write("labels.gz", &raw);
        assert_eq!(message_of(&liar), "f: gzip magic: expected 0x1f8b, found 0x0000 (not packed)");
        let empty = folder.write("empty.gz", &[]);
        assert_eq!(message_of(&empty), "f: gzip magic: expected 0x1f8b, found an empty file");
    }

    #[test]
    fn read_names_folders_and_missing_files() {
        let folder = TempDir::new();
        assert_eq!(message_of(folder.path()), "f: type: expected a file, found a folder");
        let missing = folder.path().join("nowhere");
        assert!(message_of(&missing).starts_with("f: cannot be read: "));
    }

    #[cfg(unix)]
    #[test]
    fn read_does_not_wait_for_devices() {
        let message = message_of(Path::new("/dev/zero"));
        assert_eq!(message, "f: type: expected a file, found a device or pipe");
    }
}
