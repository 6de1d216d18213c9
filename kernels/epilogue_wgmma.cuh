// What becomes of the sums of a transposed product of a warpgroup: what epilogue.cuh does, on the registers that the
// product leaves them in.
//
// Rows of the product are 64 channels of the result, columns its pixels and images. In shared memory a tile of the result,
// or of what is added to it, is a line of 128 bytes of channels for each column, with the 128-byte swizzle: 64 channels in
// bf16, all of the warpgroup; 32 in fp32, those of two warps. A warp reads and writes 16 channels of every line, in place:
// what a thread reads of a tile is where it writes. Thread t of a warp has channels t / 4 and t / 4 + 8 of those.
#pragma once
#include "wgmma.cuh"

// The first of the two channels that this thread has of the warpgroup's 64.
__device__ __forceinline__ u32 result_channel() { return threadIdx.x / WARP % 4 * 16 + threadIdx.x % WARP / 4; }

// What this thread has of a tile at `tile`. Number `pair` of its values are eight, in the order of the registers of a
// product: of two times eight columns, two channels of two columns.
template <class T>
struct ResultLines;

// By ldmatrix and stmatrix, transposed: lane 8i + j has line j of matrix i.
template <>
struct ResultLines<bf16> {
    u32 at;

    __device__ __forceinline__ explicit ResultLines(u32 tile) {
        u32 warp = threadIdx.x / WARP % 4, lane = threadIdx.x % WARP, matrix = lane / 8, line = lane % 8;
        at = tile + matrix / 2 * LINES_BYTES + line * LINE_BYTES + ((warp * 2 + matrix % 2) ^ line) * 16;
    }
    __device__ __forceinline__ void load(float (&values)[8], u32 pair) const {
        u32 bits[4];
        load_matrices_transposed(bits, at + pair * 2 * LINES_BYTES);
#pragma unroll
        for (u32 i = 0; i < 8; ++i) values[i] = __uint_as_float(i % 2 ? bits[i / 2] & 0xffff0000u : bits[i / 2] << 16);
    }
    __device__ __forceinline__ void store(const float (&values)[8], u32 pair) const {
        u32 bits[4];
#pragma unroll
        for (u32 i = 0; i < 4; ++i) bits[i] = pack_bf16(values[i * 2], values[i * 2 + 1]);
        store_matrices_transposed(at + pair * 2 * LINES_BYTES, bits);
    }
};

// One by one: a warp's 32 values are in 32 banks.
template <>
struct ResultLines<float> {
    u32 at[4];  // of two channels, of two columns

    __device__ __forceinline__ explicit ResultLines(u32 tile) {
        u32 warp = threadIdx.x / WARP % 2, lane = threadIdx.x % WARP, row = lane / 4;
#pragma unroll
        for (u32 i = 0; i < 4; ++i) {
            u32 line = lane % 4 * 2 + i % 2, piece = warp * 4 + i / 2 * 2 + row / 4;
            at[i] = tile + line * LINE_BYTES + (piece ^ line) * 16 + row % 4 * 4;
        }
    }
    __device__ __forceinline__ void load(float (&values)[8], u32 pair) const {
#pragma unroll
        for (u32 i = 0; i < 8; ++i)
            values[i] = __uint_as_float(load_shared(at[i % 4] + (pair * 2 + i / 4) * LINES_BYTES));
    }
    __device__ __forceinline__ void store(const float (&values)[8], u32 pair) const {
#pragma unroll
        for (u32 i = 0; i < 8; ++i) store_shared(at[i % 4] + (pair * 2 + i / 4) * LINES_BYTES, values[i]);
    }
};

// As PreluEpilogue. The addend lies where the result will.
struct PreluColumns {
    float bias[2], slope[2];
    bool addend, kept;

    __device__ __forceinline__ PreluColumns(const float *bias_of, const float *slope_of, bool addend, bool kept,
                                            u32 channel)
        : addend(addend), kept(kept) {
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            bias[half] = bias_of ? bias_of[channel + half * 8] : 0;
            slope[half] = slope_of ? slope_of[channel + half * 8] : 1;
        }
    }

    template <class T, u32 COUNT>
    __device__ __forceinline__ void finish(const float (&sum)[COUNT], ResultLines<T> of_kept, ResultLines<T> of_result) {
#pragma unroll
        for (u32 pair = 0; pair < COUNT / 8; ++pair) {
            float values[8], addends[8] = {};
            if (addend) of_result.load(addends, pair);
#pragma unroll
            for (u32 i = 0; i < 8; ++i) values[i] = sum[pair * 8 + i] + bias[i / 2 % 2];
            if (kept) of_kept.store(values, pair);
#pragma unroll
            for (u32 i = 0; i < 8; ++i) values[i] = values[i] * (values[i] > 0 ? 1.0f : slope[i / 2 % 2]) + addends[i];
            of_result.store(values, pair);
        }
    }
};

// As PreluGradientEpilogue. The addend lies where the kept value will, what was before the prelu where the result will.
struct PreluGradientColumns {
    float slope[2], slope_sum[2] = {};  // the sum of all tiles so far
    bool addend, pre, kept;

    __device__ __forceinline__ PreluGradientColumns(const float *slope_of, bool addend, bool pre, bool kept, u32 channel)
        : addend(addend), pre(pre), kept(kept) {
#pragma unroll
        for (u32 half = 0; half < 2; ++half) slope[half] = slope_of ? slope_of[channel + half * 8] : 0;
    }

    template <class T, u32 COUNT>
    __device__ __forceinline__ void finish(const float (&sum)[COUNT], ResultLines<T> of_kept, ResultLines<T> of_result) {
        float tile_sum[2] = {};
#pragma unroll
        for (u32 pair = 0; pair < COUNT / 8; ++pair) {
            float values[8], addends[8] = {}, inputs[8];
            if (addend) of_kept.load(addends, pair);
#pragma unroll
            for (u32 i = 0; i < 8; ++i) values[i] = sum[pair * 8 + i] + addends[i];
            if (kept) of_kept.store(values, pair);
            if (pre) {
                of_result.load(inputs, pair);
#pragma unroll
                for (u32 i = 0; i < 8; ++i) {
                    bool positive = inputs[i] > 0;
                    tile_sum[i / 2 % 2] += positive ? 0.0f : values[i] * inputs[i];
                    values[i] *= positive ? 1.0f : slope[i / 2 % 2];
                }
            }
            of_result.store(values, pair);
        }
#pragma unroll
        for (u32 half = 0; half < 2; ++half) slope_sum[half] += tile_sum[half];
    }

    // Writes the sums of this warpgroup: those of the four lanes that have the same channels, in pairs.
    __device__ __forceinline__ void write_sums(float *to) {
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            float sum = slope_sum[half];
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            if (threadIdx.x % 4 == 0) to[half * 8] = sum;
        }
    }
};
