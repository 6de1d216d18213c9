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
