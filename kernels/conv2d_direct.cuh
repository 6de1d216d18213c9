// Convolution of images with few channels, such as a network's first: the whole filter in shared memory, no steps.
#pragma once
#include "conv2d.cuh"
#include "tile.cuh"

constexpr u32 DIRECT_THREADS = 128, DIRECT_ROWS = 64, DIRECT_COLUMNS = 64;

// A thread computes 4 rows (pixels and images) × 8 columns; a warp 4 neighbouring rows × 64 columns at a time.
// Such a layer is bound by writing y: an input value is read once for 8 products, from the first-level cache.
template <class T>
__device__ __forceinline__ void direct(const T *x, const T *filter, const PreluEpilogue<T> &epilogue, const Conv2d &sizes) {
    extern __shared__ Four filters[];  // [R · S · C][DIRECT_COLUMNS] floats
    u32 first_column = blockIdx.y * DIRECT_COLUMNS;
    u32 depth = sizes.filter_height * sizes.filter_width * sizes.inputs;
    for (u32 i = threadIdx.x; i < depth * DIRECT_COLUMNS; i += DIRECT_THREADS) {
        u32 column = first_column + i % DIRECT_COLUMNS;
        u32 at = i / DIRECT_COLUMNS * sizes.outputs + column;
        reinterpret_cast<float *>(filters)[i] = column < sizes.outputs ? to_float(filter[at]) : 0.0f;
    }
    __syncthreads();

    constexpr u32 ROWS = 4;
    u32 rows = sizes.output_height * sizes.output_width * sizes.batch;
    u32 row[ROWS], top[ROWS], left[ROWS], image[ROWS];  // positions before the image's edge wrap around
#pragma unroll
    for (u32 i = 0; i < ROWS; ++i) {
        row[i] = blockIdx.x * DIRECT_ROWS + i * (DIRECT_ROWS / ROWS) + threadIdx.x / 8;
        u32 pixel = row[i] / sizes.batch;
        image[i] = row[i] % sizes.batch;
        top[i] = pixel / sizes.output_width * sizes.stride - sizes.padding;
        left[i] = pixel % sizes.output_width * sizes.stride - sizes.padding;
    }
    Four sums[ROWS][2] = {};
    const Four *taps = filters + threadIdx.x % 8;
    for (u32 r = 0; r < sizes.filter_height; ++r) {
        for (u32 s = 0; s < sizes.filter_width; ++s) {
            const T *pixel[ROWS];  // null in the padding
#pragma unroll
            for (u32 i = 0; i < ROWS; ++i) {
                u32 h = top[i] + r, w = left[i] + s;
                bool inside = row[i] < rows && h < sizes.height && w < sizes.width;
                pixel[i] = inside ? x + ((h * sizes.width + w) * sizes.batch + image[i]) * sizes.inputs : nullptr;
            }
            for (u32 c = 0; c < sizes.inputs; ++c, taps += DIRECT_COLUMNS / 4) {
                Four columns[2] = {taps[0], taps[8]};
#pragma unroll
                for (u32 i = 0; i < ROWS; ++i) {
                    float value = pixel[i] ? to_float(pixel[i][c]) : 0.0f;
#pragma unroll
                    for (u32 j = 0; j < 8; ++j) sums[i][j / 4].values[j % 4] += value * columns[j / 4].values[j % 4];
                }
            }
        }
    }
#pragma unroll
    for (u32 j = 0; j < 2; ++j) {
        u32 column = first_column + threadIdx.x % 8 * 4 + j * 32;
        if (column >= sizes.outputs) break;
        auto terms = epilogue.terms(column);
#pragma unroll
        for (u32 i = 0; i < ROWS; ++i)
            if (row[i] < rows) epilogue.write(row[i], column, terms, sums[i][j]);
    }
}

// The gradient of such a filter of 3×3 taps, CHANNELS inputs, and of the bias: what a block finds of both. Sixteen threads
// have four columns each of all taps in registers, and go over the images of every sixteenth; a block over every so many
// pixels. Bound by reading d_y: x is read nine times, from the first-level cache.
constexpr u32 GRADIENT_THREADS = 256, GRADIENT_COLUMNS = 64;

// filter_sums [blocks, 9 · C, K], bias_sums [blocks, K]; of which the second may be null. Grid: (any, ⌈K / 64⌉).
template <u32 CHANNELS, class T>
__device__ __forceinline__ void direct_gradient(const T *x, const T *d_y, float *filter_sums, float *bias_sums,
                                                const Conv2d &sizes, bool vectors) {
    constexpr u32 TAPS = 9, LANES_OF_ROW = GRADIENT_COLUMNS / 4, GROUPS = GRADIENT_THREADS / LANES_OF_ROW;
    u32 lane = threadIdx.x % LANES_OF_ROW, group = threadIdx.x / LANES_OF_ROW;
    u32 column = blockIdx.y * GRADIENT_COLUMNS + lane * 4, pixels = sizes.output_height * sizes.output_width;
    int valid = int(sizes.outputs) - int(column);
    Four sums[TAPS * CHANNELS + 1] = {};
    for (u32 pixel = blockIdx.x; pixel < pixels; pixel += gridDim.x) {
        u32 top = pixel / sizes.output_width * sizes.stride - sizes.padding;
        u32 left = pixel % sizes.output_width * sizes.stride - sizes.padding;
        for (u32 n = group; n < sizes.batch; n += GROUPS) {
            Four slope = read_four(d_y + (u64(pixel) * sizes.batch + n) * sizes.outputs + column, valid, vectors);
#pragma unroll
            for (u32 tap = 0; tap < TAPS; ++tap) {
                u32 h = top + tap / 3, w = left + tap % 3;  // before the image's edge it wraps around
                bool inside = h < sizes.height && w < sizes.width;
                const T *from = x + ((h * sizes.width + w) * sizes.batch + n) * CHANNELS;
#pragma unroll
                for (u32 c = 0; c < CHANNELS; ++c) {
                    float value = inside ? to_float(from[c]) : 0.0f;
#pragma unroll
                    for (u32 i = 0; i < 4; ++i) sums[tap * CHANNELS + c].values[i] += value * slope.values[i];
                }
            }
#pragma unroll
            for (u32 i = 0; i < 4; ++i) sums[TAPS * CHANNELS].values[i] += slope.values[i];
        }
    }
    // The two rows of a warp, then the warps one after the other.
    __shared__ Four all[TAPS * CHANNELS + 1][LANES_OF_ROW];
#pragma unroll
    for (u32 row = 0; row <= TAPS * CHANNELS; ++row) {
#pragma unroll
        for (u32 i = 0; i < 4; ++i) sums[row].values[i] += __shfl_xor_sync(0xffffffffu, sums[row].values[i], LANES_OF_ROW);
    }
    for (u32 warp = 0; warp < GRADIENT_THREADS / WARP; ++warp) {
        if (threadIdx.x / WARP == warp && threadIdx.x % WARP < LANES_OF_ROW) {
#pragma unroll
            for (u32 row = 0; row <= TAPS * CHANNELS; ++row) {
#pragma unroll
                for (u32 i = 0; i < 4; ++i) {
                    float &to = all[row][lane].values[i];
                    to = warp > 0 ? to + sums[row].values[i] : sums[row].values[i];
                }
            }
        }
        __syncthreads();
    }
    for (u32 i = threadIdx.x; i < (TAPS * CHANNELS + 1) * LANES_OF_ROW; i += GRADIENT_THREADS) {
        u32 row = i / LANES_OF_ROW, at = blockIdx.y * GRADIENT_COLUMNS + i % LANES_OF_ROW * 4;
        bool is_bias = row == TAPS * CHANNELS;
        float *to = is_bias ? bias_sums : filter_sums;
        if (!to || at >= sizes.outputs) continue;
        u64 first = is_bias ? u64(blockIdx.x) * sizes.outputs : (u64(blockIdx.x) * TAPS * CHANNELS + row) * sizes.outputs;
        write_four(to + first + at, all[row][i % LANES_OF_ROW], int(sizes.outputs - at), sizes.outputs % 4 == 0);
    }
}
