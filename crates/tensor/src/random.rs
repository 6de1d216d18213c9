//! Counter-based randomness: every number is a pure function of a key and a position.
//!
//! There is no generator state to save, and any thread or device can compute any number.

/// Philox4x32-10: 128 random bits for a 64-bit key and a 128-bit counter.
///
/// # Source
/// Salmon et al., *Parallel random numbers: as easy as 1, 2, 3*, SC 2011.
pub fn philox(key: u64, counter: [u32; 4]) -> [u32; 4] {
    let mut keys = [key as u32, (key >> 32) as u32];
    let mut x = counter;
    for _ in 0..10 {
        let first = u64::from(x[0]) * 0xD251_1F53;
        let second = u64::from(x[2]) * 0xCD9E_8D57;
        x = [
            (second >> 32) as u32 ^ x[1] ^ keys[0],
            second as u32,
            (first >> 32) as u32 ^ x[3] ^ keys[1],
            first as u32,
        ];
        keys = [keys[0].wrapping_add(0x9E37_79B9), keys[1].wrapping_add(0xBB67_AE85)];
    }
    x
}

/// What a random number is used for; streams of one seed never overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stream {
    /// Initial values of parameters.
    Initialisation = 1,
    /// Order of the images in an epoch.
    Order = 2,
    /// Shift and mirror of an image.
    Augmentation = 3,
    /// What makes the margin of one row differ from that of another.
    Margin = 4,
}

/// A uniform number in `[0, 1)` with 53 random bits: number `index` of tensor `tensor`.
pub fn uniform(seed: u64, stream: Stream, tensor: u32, index: u64) -> f64 {
    let x = philox(seed, [index as u32, (index >> 32) as u32, tensor, stream as u32]);
    ((u64::from(x[0]) << 32 | u64::from(x[1])) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// A standard normal number (Box–Muller): number `index` of tensor `tensor`.
pub fn normal(seed: u64, stream: Stream, tensor: u32, index: u64) -> f64 {
    let x = philox(seed, [index as u32, (index >> 32) as u32, tensor, stream as u32]);
    // (0, 1], so that the logarithm is finite.
    let radius = (f64::from(x[0]) * 4_294_967_296.0 + f64::from(x[1]) + 1.0) / 18_446_744_073_709_551_616.0;
    let angle = f64::from(x[2]) / 4_294_967_296.0;
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// Image at `position` of the order of `epoch`: a permutation of `0..length`, without a table.
///
/// A four-round Feistel network over the smallest even number of bits, walked until it falls below `length`.
///
/// # Panics
/// If `position` is not below `length`.
pub fn permute(seed: u64, epoch: u32, position: u32, length: u32) -> u32 {
    assert!(position < length, "position {position} of {length} images");
    let half_bits = (u32::BITS - (length - 1).leading_zeros()).div_ceil(2);
    let mask = (1u64 << half_bits) as u32 - 1;
    let mut value = position;
    loop {
        let (mut left, mut right) = (value >> half_bits, value & mask);
        for round in 0..4 {
            let mixed = philox(seed, [right, round, epoch, Stream::Order as u32])[0] & mask;
            (left, right) = (right, left ^ mixed);
        }
        value = left << half_bits | right;
        if value < length {
            return value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers published with the reference implementation (Random123, `kat_vectors`).
    #[test]
    fn philox_gives_the_published_answers() {
        assert_eq!(philox(0, [0; 4]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox(u64::MAX, [u32::MAX; 4]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let key = 0x299f_31d0_a409_3822;
        let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        assert_eq!(philox(key, counter), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn permute_visits_every_image_once_and_differs_between_epochs() {
        for length in [1, 2, 3, 5, 16, 17, 1000, 8000] {
            let order = |epoch| (0..length).map(|i| permute(7, epoch, i, length)).collect::<Vec<_>>();
            let mut sorted = order(0);
            sorted.sort_unstable();
            assert!(sorted.iter().copied().eq(0..length), "length {length}");
            if length > 16 {
                assert_ne!(order(0), order(1));
            }
        }
    }

    #[test]
    fn permute_mixes_neighbours() {
        let length = 60_000u32;
        let mean: f64 = (0..1000).map(|i| f64::from(permute(1, 0, i, length))).sum::<f64>() / 1000.0;
        // The mean of 1,000 uniform positions has a standard deviation of 548.
        assert!((mean - 30_000.0).abs() < 2_500.0, "mean {mean}");
    }

    #[test]
    fn normal_has_mean_zero_and_variance_one() {
        let numbers: Vec<f64> = (0..20_000).map(|i| normal(3, Stream::Initialisation, 0, i)).collect();
        let mean = numbers.iter().sum::<f64>() / 20_000.0;
        let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "mean {mean}, variance {variance}");
        assert!((0..20_000).all(|i| (0.0..1.0).contains(&uniform(3, Stream::Order, 1, i))));
    }
}
