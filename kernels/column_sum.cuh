// Sums over the rows of a matrix, in chunks of rows; part_sum adds up the chunks.
#pragma once
#include "common.cuh"

// A block sums one chunk of rows for 32 columns: a lane a column, a warp every eighth row of the chunk.
constexpr u32 SUM_WARPS = 8;

// sum[chunk, column] = Σ value(row, column) over the chunk's rows. Grid: (⌈columns / 32⌉, chunks); block: 256 threads.
template <class Value>
__device__ __forceinline__ void column_sum_chunk(u32 rows, u32 columns, u32 rows_per_chunk, float *sums, Value value) {
    __shared__ float partial[SUM_WARPS][WARP];
    u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    u32 column = blockIdx.x * WARP + lane;
    u32 first = blockIdx.y * rows_per_chunk, end = min(first + rows_per_chunk, rows);
    float sum = 0;
    if (column < columns) {
        // As many rows under way at a time: few blocks wait for memory, not for its bandwidth.
#pragma unroll 16
        for (u32 row = first + warp; row < end; row += SUM_WARPS) sum += value(row, column);
    }
    partial[warp][lane] = sum;
    __syncthreads();
    if (warp > 0 || column >= columns) return;
#pragma unroll
    for (u32 other = 1; other < SUM_WARPS; ++other) sum += partial[other][lane];
    sums[u64(blockIdx.y) * columns + column] = sum;
}
