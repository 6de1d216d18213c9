//! Rows of 32 lanes, and functions over whole rows that the compiler turns into vector code.
#![expect(unsafe_code, reason = "vector instructions are called after the processor was asked for them")]

use crate::number::result;

/// Values of at most 32 bits, one a lane; shorter ones are zero-extended.
pub(crate) type Row32 = [u32; 32];
/// Values of 64 bits, one a lane.
pub(crate) type Row64 = [u64; 32];

/// One source.
pub(crate) type Map1<D, A> = fn(&mut [D; 32], &[A; 32]);
/// Two sources.
pub(crate) type Map2<D, A, B> = fn(&mut [D; 32], &[A; 32], &[B; 32]);
/// Three sources.
pub(crate) type Map3<D, A, B, C> = fn(&mut [D; 32], &[A; 32], &[B; 32], &[C; 32]);
/// A comparison: one bit a lane.
pub(crate) type Test2<A> = fn(&[A; 32], &[A; 32]) -> u32;
/// A property: one bit a lane.
pub(crate) type Test1<A> = fn(&[A; 32]) -> u32;

/// A function over rows from an expression over one lane: `map!(|a: u32, b: u32| a & b)`.
macro_rules! map {
    (|$a:ident: $ta:ty| $body:expr) => {
        |to: &mut [_; 32], a: &[$ta; 32]| {
            for lane in 0..32 {
                let $a = a[lane];
                to[lane] = $body;
            }
        }
    };
    (|$a:ident: $ta:ty, $b:ident: $tb:ty| $body:expr) => {
        |to: &mut [_; 32], a: &[$ta; 32], b: &[$tb; 32]| {
            for lane in 0..32 {
                let ($a, $b) = (a[lane], b[lane]);
                to[lane] = $body;
            }
        }
    };
    (|$a:ident: $ta:ty, $b:ident: $tb:ty, $c:ident: $tc:ty| $body:expr) => {
        |to: &mut [_; 32], a: &[$ta; 32], b: &[$tb; 32], c: &[$tc; 32]| {
            for lane in 0..32 {
                let ($a, $b, $c) = (a[lane], b[lane], c[lane]);
                to[lane] = $body;
            }
        }
    };
}

/// A bit a lane from a condition over one lane: `test!(|a: u32, b: u32| a < b)`.
macro_rules! test {
    (|$a:ident: $ta:ty| $body:expr) => {
        |a: &[$ta; 32]| {
            let mut bits = 0;
            for lane in 0..32 {
                let $a = a[lane];
                bits |= u32::from($body) << lane;
            }
            bits
        }
    };
    (|$a:ident: $ta:ty, $b:ident: $tb:ty| $body:expr) => {
        |a: &[$ta; 32], b: &[$tb; 32]| {
            let mut bits = 0;
            for lane in 0..32 {
                let ($a, $b) = (a[lane], b[lane]);
                bits |= u32::from($body) << lane;
            }
            bits
        }
    };
}

pub(crate) use {map, test};

/// The lanes of a mask, from the lowest.
pub(crate) fn lanes_of(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = mask.trailing_zeros() as usize;
        mask &= mask.wrapping_sub(1);
        (lane < 32).then_some(lane)
    })
}

/// Writes the lanes of the mask.
#[inline(always)]
pub(crate) fn write<T: Copy>(to: &mut [T; 32], from: &[T; 32], mask: u32) {
    if mask == u32::MAX {
        *to = *from;
    } else {
        for lane in 0..32 {
            if mask >> lane & 1 == 1 {
                to[lane] = from[lane];
            }
        }
    }
}

/// `a · b + c` in `f32`, rounded once.
pub(crate) fn fma_f32(to: &mut Row32, a: &Row32, b: &Row32, c: &Row32) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn vector(to: &mut Row32, a: &Row32, b: &Row32, c: &Row32) {
            for lane in 0..32 {
                let (a, b, c) = (f32::from_bits(a[lane]), f32::from_bits(b[lane]), f32::from_bits(c[lane]));
                to[lane] = result(a.mul_add(b, c));
            }
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: both features have just been found on this processor.
            unsafe { vector(to, a, b, c) };
            return;
        }
    }
    for lane in 0..32 {
        to[lane] = result(f32::from_bits(a[lane]).mul_add(f32::from_bits(b[lane]), f32::from_bits(c[lane])));
    }
}

/// `a · b + c` in `f64`, rounded once.
pub(crate) fn fma_f64(to: &mut Row64, a: &Row64, b: &Row64, c: &Row64) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn vector(to: &mut Row64, a: &Row64, b: &Row64, c: &Row64) {
            for lane in 0..32 {
                let (a, b, c) = (f64::from_bits(a[lane]), f64::from_bits(b[lane]), f64::from_bits(c[lane]));
                to[lane] = a.mul_add(b, c).to_bits();
            }
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: both features have just been found on this processor.
            unsafe { vector(to, a, b, c) };
            return;
        }
    }
    for lane in 0..32 {
        to[lane] = f64::from_bits(a[lane]).mul_add(f64::from_bits(b[lane]), f64::from_bits(c[lane])).to_bits();
    }
}

/// `d[m][n] += Σ_k a[m][k] · b[k][n]` for 16×K by K×8, summed in `f64`: products of short formats are exact there.
pub(crate) fn product(d: &mut [[f64; 8]; 16], a: &[[f64; 16]; 16], b: &[[f64; 8]; 16], depth: usize) {
    #[inline(always)]
    fn body(d: &mut [[f64; 8]; 16], a: &[[f64; 16]; 16], b: &[[f64; 8]; 16], depth: usize) {
        for m in 0..16 {
            let mut sum = d[m];
            for k in 0..depth.min(16) {
                for n in 0..8 {
                    sum[n] += a[m][k] * b[k][n];
                }
            }
            d[m] = sum;
        }
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn vector(d: &mut [[f64; 8]; 16], a: &[[f64; 16]; 16], b: &[[f64; 8]; 16], depth: usize) {
            body(d, a, b, depth);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: both features have just been found on this processor.
            unsafe { vector(d, a, b, depth) };
            return;
        }
    }
    body(d, a, b, depth);
}

/// `d[m][n] += Σ_k a[m][k] · b[k][n]` for 16 rows and `width` columns, a multiple of 8, summed in `f64`.
pub(crate) fn wide_product(d: &mut [f64], a: &[f64], b: &[f64], depth: usize, width: usize) {
    #[inline(always)]
    fn body(d: &mut [f64], a: &[f64], b: &[f64], depth: usize, width: usize) {
        for column in (0..width).step_by(8) {
            for rows in 0..4 {
                let mut sums = [[0.0_f64; 8]; 4];
                for row in 0..4 {
                    sums[row].copy_from_slice(&d[(4 * rows + row) * width + column..][..8]);
                }
                for k in 0..depth {
                    let b = &b[k * width + column..][..8];
                    for row in 0..4 {
                        let a = a[(4 * rows + row) * depth + k];
                        for n in 0..8 {
                            sums[row][n] += a * b[n];
                        }
                    }
                }
                for row in 0..4 {
                    d[(4 * rows + row) * width + column..][..8].copy_from_slice(&sums[row]);
                }
            }
        }
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn vector(d: &mut [f64], a: &[f64], b: &[f64], depth: usize, width: usize) {
            body(d, a, b, depth, width);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: both features have just been found on this processor.
            unsafe { vector(d, a, b, depth, width) };
            return;
        }
    }
    body(d, a, b, depth, width);
}
