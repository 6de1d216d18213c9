//! Matrix descriptors of asynchronous products: where the 16-byte pieces of an operand lie in shared memory.
//!
//! # Source
//! PTX ISA, "Matrix Descriptor Format" and the canonical layouts of `wgmma`.

use crate::FaultKind;
use crate::tensor_map::Swizzle;

/// A decoded descriptor. Offsets are in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptor {
    start: u64,
    leading: u64,
    stride: u64,
    base: u64,
    pub(crate) swizzle: Swizzle,
    transposed: bool,
}

impl Descriptor {
    /// Decodes the 64 bits. `transposed`: the operand is MN-major.
    pub(crate) fn decode(bits: u64, transposed: bool) -> Result<Descriptor, FaultKind> {
        let wrong = |what: String| Err(FaultKind::Descriptor(format!("descriptor {bits:#018x}: {what}")));
        let field = |first: u32| (bits >> first & 0x3fff) << 4;
        if bits & 0x3ff1_c000_c000_c000 != 0 {
            return wrong("bits that must be zero are set".to_owned());
        }
        let swizzle = match bits >> 62 {
            0 => Swizzle::None,
            1 => Swizzle::Bytes128,
            2 => Swizzle::Bytes64,
            _ => Swizzle::Bytes32,
        };
        let base = bits >> 49 & 7;
        let found = Descriptor { start: field(0), leading: field(16), stride: field(32), base, swizzle, transposed };
        if swizzle == Swizzle::None {
            return if base == 0 { Ok(found) } else { wrong(format!("base offset {base} without a swizzle")) };
        }
        let (span, pattern) = (swizzle.span_bytes(), swizzle.pattern_bytes());
        let inside = found.start.wrapping_sub(base << 7) & (pattern - 1);
        let room = if transposed { span } else { 32 };
        if inside + room > span {
            let start = found.start;
            return wrong(format!(
                "start address {start} lies {inside} bytes behind the begin of a pattern of {pattern}"
            ));
        }
        if !found.stride.is_multiple_of(pattern) {
            return wrong(format!("stride offset {} is no multiple of the swizzle's {pattern}", found.stride));
        }
        Ok(found)
    }

    /// The address of a piece of 16 bytes. K-major: row `mn`, piece `k`. MN-major: piece `mn`, row `k`.
    #[inline]
    pub(crate) fn piece(&self, mn: u64, k: u64) -> u64 {
        let span = self.swizzle.span_bytes();
        let pieces = span / 16;
        let address = match (self.transposed, self.swizzle) {
            (false, Swizzle::None) => mn / 8 * self.stride + mn % 8 * 16 + k * self.leading,
            (false, _) => mn / 8 * self.stride + mn % 8 * span + k * 16,
            (true, Swizzle::None) => mn * self.stride + k / 8 * self.leading + k % 8 * 16,
            (true, _) => mn / pieces * self.leading + mn % pieces * 16 + k / 8 * self.stride + k % 8 * span,
        };
        self.swizzle.apply(self.start + address, self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::Descriptor;

    fn bits(start: u64, leading: u64, stride: u64, base: u64, swizzle: u64) -> u64 {
        start >> 4 | (leading >> 4) << 16 | (stride >> 4) << 32 | base << 49 | swizzle << 62
    }

    /// The canonical layouts of the PTX ISA in 16-byte pieces, by an independent formula.
    #[test]
    fn pieces_lie_where_the_canonical_layouts_say() {
        // K-major, no swizzle: core matrices of 8 rows x 16 bytes are contiguous.
        let plain = Descriptor::decode(bits(256, 128, 512, 0, 0), false).unwrap();
        for (row, piece, at) in [(0, 0, 256), (1, 0, 272), (7, 0, 368), (8, 0, 768), (0, 1, 384), (9, 1, 912)] {
            assert_eq!(plain.piece(row, piece), at, "row {row}, piece {piece}");
        }
        // K-major, 128 bytes: row 3 of the second group, third and fourth piece (start 32 bytes in), 1,024 a group: pieces
        // 2 and 3 lie at 2 ^ 3 and 3 ^ 3.
        let swizzled = Descriptor::decode(bits(2048 + 32, 16, 1024, 0, 1), false).unwrap();
        assert_eq!(swizzled.piece(11, 0), 2048 + 1024 + 3 * 128 + 16);
        assert_eq!(swizzled.piece(11, 1), 2048 + 1024 + 3 * 128);
        // 64 bytes: two rows in each 128, which are one step of the pattern.
        let swizzled = Descriptor::decode(bits(512, 16, 512, 0, 2), false).unwrap();
        assert_eq!(swizzled.piece(3, 0), 512 + 3 * 64 + 16);
        assert_eq!(swizzled.piece(5, 1), 512 + 5 * 64 + (1 ^ 2) * 16);
        // 32 bytes: four rows in each 128.
        let swizzled = Descriptor::decode(bits(256, 16, 256, 0, 3), false).unwrap();
        assert_eq!(swizzled.piece(2, 1), 256 + 2 * 32 + 16);
        assert_eq!(swizzled.piece(4, 1), 256 + 4 * 32);
        // MN-major, no swizzle: eight k of 8 elements are contiguous, the next elements a stride further.
        let plain = Descriptor::decode(bits(0, 2048, 128, 0, 0), true).unwrap();
        for (piece, k, at) in [(0, 0, 0), (0, 1, 16), (0, 8, 2048), (1, 0, 128), (3, 9, 2048 + 384 + 16)] {
            assert_eq!(plain.piece(piece, k), at, "piece {piece}, k {k}");
        }
        // MN-major, 128 bytes: 64 elements a row, the next 64 a leading offset further.
        let swizzled = Descriptor::decode(bits(1024, 4096, 1024, 0, 1), true).unwrap();
        assert_eq!(swizzled.piece(2, 5), 1024 + 5 * 128 + (2 ^ 5) * 16);
        assert_eq!(swizzled.piece(8 + 2, 8 + 5), 1024 + 4096 + 1024 + 5 * 128 + (2 ^ 5) * 16);
        // MN-major, 32 bytes: 16 elements a row.
        let swizzled = Descriptor::decode(bits(256, 1024, 256, 0, 3), true).unwrap();
        assert_eq!(swizzled.piece(3, 5), 256 + 1024 + 5 * 32);
    }

    #[test]
    fn a_base_offset_moves_the_pattern() {
        let moved = Descriptor::decode(bits(1024 + 384, 16, 1024, 3, 1), false).unwrap();
        assert_eq!(moved.piece(2, 1), 1024 + 384 + 256 + (1 ^ 2) * 16);
    }

    #[test]
    fn impossible_descriptors_are_refused() {
        for (bits, transposed, words) in [
            (bits(1024, 16, 1024, 0, 1) | 1 << 14, false, "bits that must be zero"),
            (bits(1024, 16, 1024, 0, 1) | 1 << 52, false, "bits that must be zero"),
            (
                bits(128, 16, 1024, 0, 1),
                false,
                "start address 128 lies 128 bytes behind the begin of a pattern of 1024",
            ),
            (bits(112, 16, 1024, 0, 1), false, "start address 112"),
            (bits(32, 16, 1024, 0, 1), true, "start address 32"),
            (bits(1024, 16, 512, 0, 1), false, "stride offset 512 is no multiple"),
            (bits(1024, 16, 1024, 1, 0), false, "base offset 1 without a swizzle"),
        ] {
            let fault = Descriptor::decode(bits, transposed).unwrap_err().to_string();
            assert!(fault.contains(words), "{fault}");
        }
    }
}
