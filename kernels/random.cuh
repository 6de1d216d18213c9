// Counter-based randomness: the same numbers as crates/tensor/src/random.rs, which see.
#pragma once
#include "common.cuh"

// What a random number is used for; values as in `Stream`.
constexpr u32 STREAM_ORDER = 2;
constexpr u32 STREAM_AUGMENTATION = 3;
constexpr u32 STREAM_MARGIN = 4;

// Philox4x32-10 (Salmon et al., SC 2011).
__device__ __forceinline__ uint4 philox(u64 seed, uint4 x) {
    u32 key0 = u32(seed), key1 = u32(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        u64 first = u64(x.x) * 0xD2511F53u, second = u64(x.z) * 0xCD9E8D57u;
        x = make_uint4(u32(second >> 32) ^ x.y ^ key0, u32(second), u32(first >> 32) ^ x.w ^ key1, u32(first));
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return x;
}

// A standard normal number (Box–Muller): number `index` of tensor `tensor`.
__device__ __forceinline__ double normal(u64 seed, u32 stream, u32 tensor, u32 index) {
    uint4 x = philox(seed, make_uint4(index, 0, tensor, stream));
    // (0, 1], so that the logarithm is finite.
    double radius = (double(x.x) * 4294967296.0 + double(x.y) + 1) / 18446744073709551616.0;
    return sqrt(-2 * log(radius)) * cospi(double(x.z) / 2147483648.0);
}

// Image at `position` of the order of `epoch`: a Feistel network over the smallest even number of bits, walked until it
// falls below `length`.
__device__ __forceinline__ u32 permute(u64 seed, u32 epoch, u32 position, u32 length) {
    u32 half_bits = (32 - __clz(length - 1) + 1) / 2;
    u32 mask = u32((u64(1) << half_bits) - 1);
    u32 value = position;
    do {
        u32 left = value >> half_bits, right = value & mask;
        for (u32 round = 0; round < 4; ++round) {
            u32 mixed = philox(seed, make_uint4(right, round, epoch, STREAM_ORDER)).x & mask;
            u32 old_left = left;
            left = right;
            right = old_left ^ mixed;
        }
        value = left << half_bits | right;
    } while (value >= length);
    return value;
}
