//! What a bulk tensor copy knows of a tensor in global memory, and the 128 bytes in which a kernel gets it.

use crate::FaultKind;

/// Marks the 128 bytes of a map; NVIDIA's encoding is a secret, so this one is the emulator's own.
const MAGIC: u64 = 0x7350_6865_7265_4d61;

/// How 16-byte pieces of shared memory are exchanged so that rows and columns lie in different banks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Swizzle {
    /// Not at all.
    #[default]
    None,
    /// Pairs in each 32 bytes, in a pattern of 256.
    Bytes32,
    /// Four in each 64 bytes, in a pattern of 512.
    Bytes64,
    /// Eight in each 128 bytes, in a pattern of 1,024.
    Bytes128,
}

impl Swizzle {
    /// The bytes inside of which pieces are exchanged: the longest inner extent of a box. 16 without a swizzle.
    pub fn span_bytes(self) -> u64 {
        match self {
            Swizzle::None => 16,
            Swizzle::Bytes32 => 32,
            Swizzle::Bytes64 => 64,
            Swizzle::Bytes128 => 128,
        }
    }

    /// The bytes after which the pattern repeats.
    pub(crate) fn pattern_bytes(self) -> u64 {
        8 * self.span_bytes()
    }

    /// Where the byte of an unswizzled address lies, with the pattern's begin at `base` times 128 bytes.
    #[inline]
    pub(crate) fn apply(self, address: u64, base: u64) -> u64 {
        let mask = self.span_bytes() / 16 - 1;
        address ^ (((address >> 7).wrapping_sub(base) & mask) << 4)
    }
}

/// A tensor in global memory and the box of it that one copy moves. Dimensions go from the innermost outwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMap {
    /// Where element 0 lies; a multiple of 16.
    pub pointer: u64,
    /// Bytes of an element: 1, 2, 4 or 8.
    pub element_bytes: u64,
    /// Elements in each of the one to five dimensions.
    pub extents: Vec<u64>,
    /// Bytes between neighbours in each dimension but the innermost; multiples of 16.
    pub strides_bytes: Vec<u64>,
    /// Elements of the box in each dimension, at most 256, with those that it steps over.
    pub box_extents: Vec<u64>,
    /// From one element of the box to the next, 1 to 8, in each dimension; 1 in the innermost. Empty where all are 1.
    pub steps: Vec<u64>,
    /// How the box lies in shared memory.
    pub swizzle: Swizzle,
}

impl TensorMap {
    /// Bytes of the box in shared memory.
    pub fn box_bytes(&self) -> u64 {
        self.box_extents.iter().product::<u64>() * self.element_bytes
    }

    /// The step of a dimension.
    pub fn step(&self, dimension: usize) -> u64 {
        self.steps.get(dimension).copied().unwrap_or(1)
    }

    /// Elements from the first to the last of the box, in each dimension.
    pub fn spans(&self) -> Vec<u64> {
        let spans = self.box_extents.iter().enumerate();
        spans.map(|(dimension, &extent)| (extent.max(1) - 1) * self.step(dimension) + u64::from(extent > 0)).collect()
    }

    /// Checks what `cuTensorMapEncodeTiled` asks for.
    ///
    /// # Errors
    /// One line that names the field, what is expected and what was found.
    pub fn check(&self) -> Result<(), String> {
        let wrong = |field: &str, expected: &str, found: String| {
            Err(format!("tensor map: {field}: expected {expected}, found {found}"))
        };
        let rank = self.extents.len();
        if !(1..=5).contains(&rank) {
            return wrong("extents", "1 to 5 dimensions", rank.to_string());
        }
        if self.strides_bytes.len() != rank - 1 || self.box_extents.len() != rank {
            let found = format!("{} and {}", self.strides_bytes.len(), self.box_extents.len());
            return wrong("strides and box", &format!("{} and {rank} numbers", rank - 1), found);
        }
        if !self.steps.is_empty() && (self.steps.len() != rank || self.steps[0] != 1) {
            return wrong("steps", &format!("none, or {rank}, of which the first is 1"), format!("{:?}", self.steps));
        }
        if let Some(step) = self.steps.iter().find(|step| !(1..=8).contains(*step)) {
            return wrong("step", "1 to 8", step.to_string());
        }
        if !matches!(self.element_bytes, 1 | 2 | 4 | 8) {
            return wrong("element", "1, 2, 4 or 8 bytes", self.element_bytes.to_string());
        }
        if !self.pointer.is_multiple_of(16) {
            return wrong("pointer", "a multiple of 16", format!("{:#x}", self.pointer));
        }
        if let Some(extent) = self.extents.iter().find(|extent| !(1..=1 << 32).contains(*extent)) {
            return wrong("extent", "1 to 2^32", extent.to_string());
        }
        if let Some(stride) = self.strides_bytes.iter().find(|stride| *stride % 16 != 0 || **stride >= 1 << 40) {
            return wrong("stride", "a multiple of 16 bytes below 2^40", stride.to_string());
        }
        if let Some(extent) = self.spans().into_iter().find(|extent| !(1..=256).contains(extent)) {
            return wrong("extent of the box", "1 to 256", extent.to_string());
        }
        let inner = self.box_extents[0] * self.element_bytes;
        if !inner.is_multiple_of(16) {
            return wrong("inner extent of the box", "a multiple of 16 bytes", inner.to_string());
        }
        let span = self.swizzle.span_bytes();
        if self.swizzle != Swizzle::None && inner != span {
            return wrong("inner extent of the box", &format!("the {span} bytes of its swizzle"), inner.to_string());
        }
        Ok(())
    }

    /// The map as a kernel of the emulator takes it: a parameter of 128 bytes.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn encode(&self) -> Result<[u8; 128], String> {
        self.check()?;
        let mut words = [0_u64; 16];
        words[0] = MAGIC;
        words[1] = self.pointer;
        words[2] = self.extents.len() as u64 | self.element_bytes << 8 | (self.swizzle as u64) << 16;
        for (index, step) in self.steps.iter().enumerate() {
            words[2] |= step << (24 + 4 * index);
        }
        for (index, extent) in self.box_extents.iter().enumerate() {
            words[3 + index / 3] |= extent << (16 * (index % 3));
        }
        words[5..][..self.extents.len()].copy_from_slice(&self.extents);
        words[10..][..self.strides_bytes.len()].copy_from_slice(&self.strides_bytes);
        words[15] = checksum(&words);
        let mut bytes = [0; 128];
        bytes.chunks_exact_mut(8).zip(words).for_each(|(to, word)| to.copy_from_slice(&word.to_le_bytes()));
        Ok(bytes)
    }

    pub(crate) fn decode(words: &[u64; 16]) -> Result<TensorMap, FaultKind> {
        if words[0] != MAGIC || words[15] != checksum(words) {
            return Err(FaultKind::BulkCopy("no tensor map lies at the address that the copy names".to_owned()));
        }
        let rank = (words[2] & 0xff) as usize % 6;
        let swizzles = [Swizzle::None, Swizzle::Bytes32, Swizzle::Bytes64, Swizzle::Bytes128];
        Ok(TensorMap {
            pointer: words[1],
            element_bytes: words[2] >> 8 & 0xff,
            extents: words[5..][..rank].to_vec(),
            strides_bytes: words[10..][..rank.saturating_sub(1)].to_vec(),
            box_extents: (0..rank).map(|index| words[3 + index / 3] >> (16 * (index % 3)) & 0xffff).collect(),
            swizzle: swizzles[(words[2] >> 16 & 3) as usize],
            steps: (0..rank).map(|index| words[2] >> (24 + 4 * index) & 15).filter(|&step| step > 0).collect(),
        })
    }
}

fn checksum(words: &[u64; 16]) -> u64 {
    words[..15]
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, word| (sum ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(17))
}

#[cfg(test)]
mod tests {
    use super::{Swizzle, TensorMap};

    fn map() -> TensorMap {
        TensorMap {
            pointer: 0x7000_0000_0100,
            element_bytes: 2,
            extents: vec![64, 1 << 32, 3, 4, 5],
            strides_bytes: vec![128, 256, 512, 1 << 39],
            box_extents: vec![64, 8, 3, 2, 1],
            steps: vec![1, 2, 1, 8, 1],
            swizzle: Swizzle::Bytes128,
        }
    }

    #[test]
    fn a_map_survives_its_128_bytes() {
        let bytes = map().encode().unwrap();
        let words = std::array::from_fn(|index| u64::from_le_bytes(bytes[8 * index..][..8].try_into().unwrap()));
        assert_eq!(TensorMap::decode(&words).unwrap(), map());
        let mut damaged = words;
        damaged[6] += 1;
        assert!(TensorMap::decode(&damaged).is_err());
    }

    #[test]
    fn a_map_that_the_hardware_would_refuse_names_its_field() {
        let refused = |change: fn(&mut TensorMap), words: &str| {
            let mut map = map();
            change(&mut map);
            let message = map.encode().unwrap_err();
            assert!(message.contains(words), "{message}");
        };
        refused(|map| map.pointer += 8, "pointer: expected a multiple of 16");
        refused(|map| map.extents[1] = 0, "extent: expected 1 to 2^32, found 0");
        refused(|map| map.strides_bytes[0] = 130, "stride: expected a multiple of 16 bytes");
        refused(|map| map.box_extents[1] = 257, "extent of the box: expected 1 to 256");
        refused(|map| map.box_extents[1] = 129, "extent of the box: expected 1 to 256, found 257");
        refused(|map| map.steps[3] = 9, "step: expected 1 to 8, found 9");
        refused(|map| map.steps[0] = 2, "steps: expected none, or 5, of which the first is 1");
        refused(|map| map.box_extents[0] = 32, "expected the 128 bytes of its swizzle, found 64");
        refused(|map| map.box_extents[0] = 12, "expected a multiple of 16 bytes, found 24");
        refused(|map| map.element_bytes = 3, "element: expected 1, 2, 4 or 8 bytes");
        refused(|map| map.strides_bytes.clear(), "strides and box: expected 4 and 5 numbers");
        refused(|map| map.extents.clear(), "extents: expected 1 to 5 dimensions");
    }

    /// The first eight rows of 128 bytes, as the PTX ISA's figures show them: which piece lies where.
    #[test]
    fn swizzles_exchange_pieces_as_the_figures_show() {
        let piece = |swizzle: Swizzle, row: u64, piece: u64| swizzle.apply(128 * row + 16 * piece, 0) / 16 % 8;
        for row in 0..8 {
            for at in 0..8 {
                assert_eq!(piece(Swizzle::Bytes128, row, at), at ^ row);
                assert_eq!(piece(Swizzle::Bytes64, row, at), at ^ (row % 4));
                assert_eq!(piece(Swizzle::Bytes32, row, at), at ^ (row % 2));
                assert_eq!(piece(Swizzle::None, row, at), at);
            }
        }
        // A pattern that begins 256 bytes further.
        assert_eq!(Swizzle::Bytes128.apply(256 + 128 + 32, 2) % 128, 48);
    }
}
