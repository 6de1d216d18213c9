// part_sum: adds up the parts that reductions were split into, of many results in one launch.
//
//   out[i] = Σ over parts of parts[part, i]
//
// parts  f32            read: of each result [parts, columns], one result after the other
// out    f32            written: the block of memory that the results lie in, at places of their own
// tiles  [tiles] Tile   read: neighbouring columns of one result each, and how a block shares them out
//
// A block of 256 threads a tile: `groups` rows of 256 / groups threads with four columns each. A group adds up every
// groups-th part in order, then the groups are added in order, so that a sum has two levels, set by its shape. Columns move
// 16 bytes at a time where a result has a multiple of four of them. Grid: tiles; 4 KB of shared memory.
// Floor: 4 · (parts + 1) · columns bytes of each result.
// Partner: crates/cuda/src/launcher/part_sum.rs; no operator's, but a piece of many.
#include "four.cuh"

KERNELS_OVERLAP

constexpr u32 THREADS = 256;

struct Tile {
    u32 first;          // element of `parts` where the tile's first column of the first part lies
    u32 out;            // element of `out` for it
    u32 columns;        // of the result: from one part to the next
    u32 valid;          // columns from the first of the tile to the result's last
    u32 parts, groups;  // groups: a power of two up to 32
};

extern "C" __global__ void __launch_bounds__(THREADS)
part_sum(const float *parts, float *out, const Tile *tiles) {
    __shared__ Four sums[THREADS];
    await_previous();
    Tile tile = tiles[blockIdx.x];
    u32 width = THREADS / tile.groups, lane = threadIdx.x % width, group = threadIdx.x / width;
    int valid = int(tile.valid) - int(lane * 4);
    bool vectors = tile.columns % 4 == 0;
    const float *from = parts + tile.first + lane * 4;
    Four sum = {};
#pragma unroll 8
    for (u32 part = group; part < tile.parts; part += tile.groups) {
        Four value = read_four(from + u64(part) * tile.columns, valid, vectors);
#pragma unroll
        for (u32 i = 0; i < 4; ++i) sum.values[i] += value.values[i];
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (group > 0 || valid <= 0) return;
    for (u32 other = 1; other < tile.groups; ++other) {
#pragma unroll
        for (u32 i = 0; i < 4; ++i) sum.values[i] += sums[other * width + lane].values[i];
    }
    write_four(out + tile.out + lane * 4, sum, valid, vectors);
}
