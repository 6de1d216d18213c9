// What becomes of the sums of a transposed product of a warpgroup: what epilogue.cuh does, on the registers that the
// product leaves them in.
//
// Rows of the product are 64 channels of the result, columns its pixels and images. In shared memory a tile of the result,
// or of what is added to it, is a line of 128 bytes, 64 channels in bf16, for each column, with the 128-byte swizzle. A
// warp reads and writes 16 channels of every line, by ldmatrix and stmatrix transposed, in place: what it reads of a tile
// is where it writes. Thread t of a warp has channels t / 4 and t / 4 + 8 of those.
#pragma once
#include "wgmma.cuh"

// Where a lane's first line of a tile is, in bytes: lane 8i + j has line j of matrix i. Four matrices are two times eight
// columns, for each of them two times eight channels.
__device__ __forceinline__ u32 result_place() {
    u32 warp = threadIdx.x / WARP % 4, lane = threadIdx.x % WARP, matrix = lane / 8, line = lane % 8;
    return matrix / 2 * LINES_BYTES + line * LINE_BYTES + ((warp * 2 + matrix % 2) ^ line) * 16;
}

// The first of the two channels that this thread has of the warpgroup's 64.
__device__ __forceinline__ u32 result_channel() { return threadIdx.x / WARP % 4 * 16 + threadIdx.x % WARP / 4; }

// Two neighbouring values that a register has of a line.
__device__ __forceinline__ float lower(u32 bits) { return __uint_as_float(bits << 16); }
__device__ __forceinline__ float upper(u32 bits) { return __uint_as_float(bits & 0xffff0000u); }

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

    template <u32 COUNT>
    __device__ __forceinline__ void finish(const float (&sum)[COUNT], u32 kept_at, u32 result_at) {
#pragma unroll
        for (u32 pair = 0; pair < COUNT / 8; ++pair) {
            u32 addends[4] = {}, before[4], after[4];
            if (addend) load_matrices_transposed(addends, result_at + pair * 2 * LINES_BYTES);
#pragma unroll
            for (u32 matrix = 0; matrix < 4; ++matrix) {
                u32 half = matrix % 2;
                float values[2];
#pragma unroll
                for (u32 i = 0; i < 2; ++i) values[i] = sum[pair * 8 + matrix * 2 + i] + bias[half];
                before[matrix] = pack_bf16(values[0], values[1]);
#pragma unroll
                for (u32 i = 0; i < 2; ++i) values[i] *= values[i] > 0 ? 1.0f : slope[half];
                after[matrix] = pack_bf16(values[0] + lower(addends[matrix]), values[1] + upper(addends[matrix]));
            }
            if (kept) store_matrices_transposed(kept_at + pair * 2 * LINES_BYTES, before);
            store_matrices_transposed(result_at + pair * 2 * LINES_BYTES, after);
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

    template <u32 COUNT>
    __device__ __forceinline__ void finish(const float (&sum)[COUNT], u32 kept_at, u32 result_at) {
        float tile_sum[2] = {};
#pragma unroll
        for (u32 pair = 0; pair < COUNT / 8; ++pair) {
            u32 addends[4] = {}, pres[4], before[4], after[4];
            if (addend) load_matrices_transposed(addends, kept_at + pair * 2 * LINES_BYTES);
            if (pre) load_matrices_transposed(pres, result_at + pair * 2 * LINES_BYTES);
#pragma unroll
            for (u32 matrix = 0; matrix < 4; ++matrix) {
                u32 half = matrix % 2;
                float values[2] = {sum[pair * 8 + matrix * 2] + lower(addends[matrix]),
                                   sum[pair * 8 + matrix * 2 + 1] + upper(addends[matrix])};
                before[matrix] = pack_bf16(values[0], values[1]);
                if (pre) {
                    float inputs[2] = {lower(pres[matrix]), upper(pres[matrix])};
#pragma unroll
                    for (u32 i = 0; i < 2; ++i) {
                        bool positive = inputs[i] > 0;
                        tile_sum[half] += positive ? 0.0f : values[i] * inputs[i];
                        values[i] *= positive ? 1.0f : slope[half];
                    }
                }
                after[matrix] = pack_bf16(values[0], values[1]);
            }
            if (kept) store_matrices_transposed(kept_at + pair * 2 * LINES_BYTES, before);
            store_matrices_transposed(result_at + pair * 2 * LINES_BYTES, after);
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
