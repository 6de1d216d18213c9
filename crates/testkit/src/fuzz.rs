//! Damaged inputs: mutations of a kept corpus, the same ones every time.

use std::env;

/// Names the number of inputs of each fuzz test; without it there are few.
pub const INPUTS: &str = "SPHEREFACE_FUZZ_INPUTS";

/// How many inputs a fuzz test tries: as [`INPUTS`] says, else `few`.
pub fn inputs(few: usize) -> usize {
    env::var(INPUTS).ok().and_then(|count| count.parse().ok()).unwrap_or(few)
}

/// Numbers that look random.
///
/// # Source
/// SplitMix64: Steele, Lea, Flood, OOPSLA 2014.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 if there is none.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.bits() % end as u64) as usize }
    }

    /// One of these.
    ///
    /// # Panics
    /// If there are none.
    pub fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// Values at which sizes and counts go wrong.
const EDGES: [u64; 10] =
    [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, 0x1_0000_0000, 0x7fff_ffff_ffff_ffff, u64::MAX, 0xffff_0000];

/// One to eight changes of one of these inputs: bits, bytes, sizes in either order of bytes, parts cut, doubled, put in
/// from elsewhere, lines and numbers of a text among them.
///
/// # Panics
/// If the corpus is empty.
pub fn mutated(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = random.of(corpus).clone();
    for _ in 0..=random.below(8) {
        // Headers stand at the start: half of the changes are made there.
        let reach = if random.below(2) == 0 { input.len().min(64) } else { input.len() };
        let at = random.below(reach);
        let end = (at + 1 + random.below(32)).min(input.len());
        match random.below(10) {
            0 if !input.is_empty() => input[at] ^= 1 << random.below(8),
            1 if !input.is_empty() => input[at] = random.bits() as u8,
            2 => put(&mut input, at, &(*random.of(&EDGES) as u32).to_be_bytes()),
            3 => put(&mut input, at, &(*random.of(&EDGES) as u32).to_le_bytes()),
            4 => put(&mut input, at, &random.of(&EDGES).to_le_bytes()),
            5 => input.truncate(at),
            6 => drop(input.drain(at.min(end)..end)),
            7 => {
                let part = input[at.min(end)..end].to_vec();
                input.splice(at..at, part);
            }
            8 => {
                let other = random.of(corpus);
                let from = random.below(other.len());
                let part = other[from..(from + random.below(64)).min(other.len())].to_vec();
                input.splice(at..at, part);
            }
            _ => {
                let text = random.of(&EDGES).to_string();
                let digit = (at..input.len()).find(|&index| input[index].is_ascii_digit());
                if let Some(digit) = digit {
                    input.splice(digit..digit + 1, text.bytes());
                }
            }
        }
    }
    input
}

fn put(input: &mut [u8], at: usize, value: &[u8]) {
    let end = (at + value.len()).min(input.len());
    if at < end {
        input[at..end].copy_from_slice(&value[..end - at]);
    }
}

/// More address space than this, beyond what there was, is memory that an input claimed: threads and their stacks take
/// some.
const MOST_BYTES: u64 = 1 << 30;

/// Runs a fuzz test in bounded address space.
///
/// # Panics
/// If an input claimed memory.
pub fn bounded(run: impl FnOnce()) {
    let before = peak_address_space_bytes();
    run();
    if let (Some(before), Some(after)) = (before, peak_address_space_bytes()) {
        assert!(after - before < MOST_BYTES, "{} bytes of address space for damaged inputs", after - before);
    }
}

/// The most address space that this process ever had, in bytes, where the system says so.
fn peak_address_space_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmPeak:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kibibytes| 1024 * kibibytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutations_differ_from_their_corpus_and_repeat() {
        let corpus = [b"[training]\nepochs = 5\n".to_vec(), vec![0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2]];
        let all = |seed| {
            let mut random = Random(seed);
            (0..500).map(|_| mutated(&mut random, &corpus)).collect::<Vec<_>>()
        };
        let inputs = all(1);
        assert_eq!(inputs, all(1));
        assert_ne!(inputs, all(2));
        assert!(inputs.iter().filter(|input| !corpus.contains(input)).count() > 400);
        assert!(inputs.iter().any(Vec::is_empty) && inputs.iter().any(|input| input.len() > corpus[0].len()));
    }
}
