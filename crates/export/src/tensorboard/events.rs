//! An event file: TensorFlow's record format around protocol buffers. Field numbers are those of `event.proto` and
//! `summary.proto`.

use crate::curves::Curves;
use crate::protobuf::Message;

/// Name of the file. TensorBoard looks for `tfevents` in it; a fixed name lets a training that goes on replace it.
pub const EVENTS: &str = "events.out.tfevents.sphereface";

/// Marks the version of the format, in the first event of a file.
const FILE_VERSION: &str = "brain.Event:2";

/// The curves as the bytes of an event file.
///
/// # Units
/// `started` is the time at which the training began, in seconds since 1970.
pub fn events(curves: &Curves, started: f64) -> Vec<u8> {
    let mut file = Vec::new();
    record(&mut file, &Message::default().double(1, started).bytes(3, FILE_VERSION).finish());
    for row in &curves.rows {
        let scalars = curves
            .columns
            .iter()
            .zip(&row.values)
            .filter_map(|(column, value)| Some(Message::default().bytes(1, column.tag).float(2, (*value)? as f32)));
        let summary = Message::default().messages(1, scalars);
        let event = Message::default().double(1, started + row.seconds).int(2, row.step).message(5, summary);
        record(&mut file, &event.finish());
    }
    file
}

/// Appends a record: length and contents, each with its checksum.
///
/// # Source
/// TensorFlow, `tensorflow/core/lib/io/record_writer.h`.
fn record(file: &mut Vec<u8>, contents: &[u8]) {
    let length = (contents.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked(crc32c(&length)).to_le_bytes());
    file.extend(contents);
    file.extend(masked(crc32c(contents)).to_le_bytes());
}

/// A checksum made different from those inside the contents, which may be records themselves.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// The cyclic redundancy check of Castagnoli's polynomial, reflected.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| (crc >> 8) ^ TABLE[((crc ^ u32::from(byte)) & 0xFF) as usize])
}

/// What each value of a byte does to the check.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::{crc32c, masked};

    /// RFC 3720, appendix B.4, and the check value of the polynomial.
    #[test]
    fn crc32c_gives_the_published_values() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
    }

    /// The header of a record of length 0, as TensorFlow writes it.
    #[test]
    fn a_masked_check_can_be_unmasked() {
        let crc = crc32c(&0u64.to_le_bytes());
        assert_eq!(masked(crc).wrapping_sub(0xA282_EAD8).rotate_left(15), crc);
        assert_ne!(masked(crc), crc);
    }
}
