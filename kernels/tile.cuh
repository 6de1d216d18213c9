// The product engine of the portable tier: out = left · right, a tile a block, every thread's part in registers.
//
// A block walks along the reduction in steps of DEPTH. In each step it brings DEPTH × ROWS values of the left and
// DEPTH × COLUMNS of the right operand through registers into shared memory, as f32, while it multiplies the values of
// the step before: two buffers, one barrier a step. What differs from product to product is where the values lie:
//
//   a source   says what stands at a line (a row of the left or a column of the right operand) and a place of the
//              reduction: four neighbouring values at once, zeros beyond the edges;
//   a loader   (Along, Across) deals a source's vectors to threads, as they run along the reduction or across it;
//   a walk     is the block's place in the reduction, the same for all threads: `segment` (a filter's tap, a pixel, or
//              nothing) and `first`, the place inside of it. A step never straddles two segments.
#pragma once
#include "epilogue.cuh"

// Steps of the reduction between two barriers; a multiple of 4.
constexpr int DEPTH = 8;

// A tile of the result: ROWS × COLUMNS a block, THREAD_ROWS × THREAD_COLUMNS a thread. VECTORS: only for operands and
// results whose rows are multiples of four elements; there is no code for others then.
template <int ROWS_, int COLUMNS_, int THREAD_ROWS_, int THREAD_COLUMNS_, bool VECTORS>
struct Tile {
    static __device__ __forceinline__ bool vectors(int allowed) { return VECTORS || allowed; }
    static constexpr int ROWS = ROWS_, COLUMNS = COLUMNS_;
    static constexpr int THREAD_ROWS = THREAD_ROWS_, THREAD_COLUMNS = THREAD_COLUMNS_;
    static constexpr int THREADS = ROWS * COLUMNS / (THREAD_ROWS * THREAD_COLUMNS);
    // Blocks that a multiprocessor shall have registers for: 16 warps of at most 128 registers a thread. From compute
    // capability 10 on, where the compiler needs a few more: 12 warps.
#if __CUDA_ARCH__ >= 1000
    static constexpr int BLOCKS = 12 * WARP / THREADS;
#else
    static constexpr int BLOCKS = 16 * WARP / THREADS;
#endif
    // A warp is 4 × 8 threads, so that it reads 64 bytes of the left and 128 of the right operand at a time.
    static constexpr int WARP_ROWS = 4 * THREAD_ROWS, WARP_COLUMNS = 8 * THREAD_COLUMNS;
    static_assert(ROWS % WARP_ROWS == 0 && COLUMNS % WARP_COLUMNS == 0, "whole warps");
    static_assert(THREAD_ROWS % 4 == 0 && THREAD_COLUMNS % 4 == 0, "vectors of 4");

    // Row of the tile that is this thread's row `i`, and likewise its columns: groups of four, apart by what the
    // warp's other threads hold, so that every read of a fragment is one of neighbouring 16-byte vectors.
    static __device__ __forceinline__ int row(int i) {
        int warp = threadIdx.x / WARP / (COLUMNS / WARP_COLUMNS);
        return warp * WARP_ROWS + i / 4 * 16 + threadIdx.x % WARP / 8 * 4 + i % 4;
    }
    static __device__ __forceinline__ int column(int j) {
        int warp = threadIdx.x / WARP % (COLUMNS / WARP_COLUMNS);
        return warp * WARP_COLUMNS + j / 4 * 32 + threadIdx.x % 8 * 4 + j % 4;
    }
};

// The tiles there are. The name of a kernel says which one it has.
using Tile128x64 = Tile<128, 64, 8, 8, true>;
using Tile32x32 = Tile<32, 32, 4, 4, false>;

// Loads vectors that run along the reduction, and turns them: shared memory is [DEPTH][LINES].
template <class Tile, int LINES_, class Source>
struct Along {
    static constexpr int LINES = LINES_, VECTORS = LINES * DEPTH / 4 / Tile::THREADS;
    // The four extra floats keep the rows of one store in different banks, and vectors aligned.
    static constexpr int PITCH = LINES + 4;
    static_assert(VECTORS * Tile::THREADS * 4 == LINES * DEPTH, "whole vectors a thread");
    Source source;
    Four values[VECTORS];

    static __device__ __forceinline__ int line(int v) { return (v * Tile::THREADS + threadIdx.x) / (DEPTH / 4); }
    static __device__ __forceinline__ int depth() { return threadIdx.x % (DEPTH / 4) * 4; }

    template <class Walk>
    __device__ __forceinline__ void load(const Walk &walk) {
#pragma unroll
        for (int v = 0; v < VECTORS; ++v) values[v] = source.read(walk, v, line(v), depth());
    }
    __device__ __forceinline__ void store(float *buffer) const {
#pragma unroll
        for (int v = 0; v < VECTORS; ++v) {
            float *to = buffer + depth() * PITCH + line(v);
#pragma unroll
            for (int i = 0; i < 4; ++i) to[i * PITCH] = values[v].values[i];
        }
    }
};

// Loads vectors that run across the reduction: as they lie in shared memory.
template <class Tile, int LINES_, class Source>
struct Across {
    static constexpr int LINES = LINES_, VECTORS = LINES * DEPTH / 4 / Tile::THREADS;
    static constexpr int PITCH = LINES;
    static_assert(VECTORS * Tile::THREADS * 4 == LINES * DEPTH, "whole vectors a thread");
    Source source;
    Four values[VECTORS];

    static __device__ __forceinline__ int line(int v) { return (v * Tile::THREADS + threadIdx.x) % (LINES / 4) * 4; }
    static __device__ __forceinline__ int depth(int v) { return (v * Tile::THREADS + threadIdx.x) / (LINES / 4); }

    template <class Walk>
    __device__ __forceinline__ void load(const Walk &walk) {
#pragma unroll
        for (int v = 0; v < VECTORS; ++v) values[v] = source.read(walk, v, line(v), depth(v));
    }
    __device__ __forceinline__ void store(float *buffer) const {
#pragma unroll
        for (int v = 0; v < VECTORS; ++v)
            store_pack(buffer + depth(v) * PITCH + line(v), values[v]);
    }
};

// A matrix for each segment, its lines `pitch` apart, each contiguous along the reduction: a source for Along.
template <class T>
struct MatrixAlong {
    const T *data;
    int start;                 // element of the tile's first line
    int lines, length, pitch;  // lines from there on; places of the reduction in a segment
    int segment_pitch;
    bool vectors;

    template <class Walk>
    __device__ __forceinline__ Four read(const Walk &walk, int, int line, int depth) const {
        int place = walk.first + depth;
        int at = start + line * pitch + walk.segment() * segment_pitch + place;
        return read_four(data + at, line < lines ? length - place : 0, vectors);
    }
};

// As MatrixAlong, but places of the reduction are `pitch` apart and lines are contiguous: a source for Across.
template <class T>
struct MatrixAcross {
    const T *data;
    int start, lines, length, pitch;
    int segment_pitch;
    bool vectors;

    template <class Walk>
    __device__ __forceinline__ Four read(const Walk &walk, int, int line, int depth) const {
        int place = walk.first + depth;
        int at = start + line + walk.segment() * segment_pitch + place * pitch;
        return read_four(data + at, place < length ? lines - line : 0, vectors);
    }
};

// sums += left · right over the DEPTH places of the reduction that two buffers hold.
template <class Tile, class Left, class Right>
__device__ __forceinline__ void multiply_step(float (&sums)[Tile::THREAD_ROWS][Tile::THREAD_COLUMNS],
                                              const float *left_buffer, const float *right_buffer) {
    left_buffer += Tile::row(0), right_buffer += Tile::column(0);
#pragma unroll
    for (int depth = 0; depth < DEPTH; ++depth) {
        Four rows[Tile::THREAD_ROWS / 4], columns[Tile::THREAD_COLUMNS / 4];
#pragma unroll
        for (int i = 0; i < Tile::THREAD_ROWS / 4; ++i)
            rows[i] = load_pack<4>(left_buffer + depth * Left::PITCH + i * 16);
#pragma unroll
        for (int j = 0; j < Tile::THREAD_COLUMNS / 4; ++j)
            columns[j] = load_pack<4>(right_buffer + depth * Right::PITCH + j * 32);
#pragma unroll
        for (int i = 0; i < Tile::THREAD_ROWS; ++i)
#pragma unroll
            for (int j = 0; j < Tile::THREAD_COLUMNS; ++j)
                sums[i][j] += rows[i / 4].values[i % 4] * columns[j / 4].values[j % 4];
    }
}

// sums += left · right over `steps` steps from the walk's place on. All threads of the block.
template <class Tile, class Left, class Right, class Walk>
__device__ __forceinline__ void multiply(float (&sums)[Tile::THREAD_ROWS][Tile::THREAD_COLUMNS], Left &left,
                                         Right &right, Walk &walk, int steps) {
    __shared__ alignas(16) float left_buffers[2][DEPTH * Left::PITCH];
    __shared__ alignas(16) float right_buffers[2][DEPTH * Right::PITCH];
    if (steps <= 0) return;
    left.load(walk);
    right.load(walk);
    left.store(left_buffers[0]);
    right.store(right_buffers[0]);
    __syncthreads();
    // The last step stands alone: where loads and stores are conditional, the compiler moves the loads behind the
    // products that are to hide them.
    int now = 0;
    for (int step = 1; step < steps; ++step, now ^= 1) {
        walk.advance();
        left.load(walk);
        right.load(walk);
        multiply_step<Tile, Left, Right>(sums, left_buffers[now], right_buffers[now]);
        left.store(left_buffers[now ^ 1]);  // last read a barrier ago
        right.store(right_buffers[now ^ 1]);
        __syncthreads();
    }
    multiply_step<Tile, Left, Right>(sums, left_buffers[now], right_buffers[now]);
}

// First step of a split, so that all have the same number of steps, or one less.
__device__ __forceinline__ u32 first_step(u32 steps, u32 split, u32 splits) {
    return steps / splits * split + min(steps % splits, split);
}

// Writes a block's tile: `result_row` says where a row of the product belongs, or is negative.
template <class Tile, class Epilogue>
__device__ __forceinline__ void write_tile(float (&sums)[Tile::THREAD_ROWS][Tile::THREAD_COLUMNS],
                                           const Epilogue &epilogue, int first_column,
                                           const int (&result_rows)[Tile::THREAD_ROWS]) {
    Four column_sums[Tile::THREAD_COLUMNS / 4];
#pragma unroll
    for (int j = 0; j < Tile::THREAD_COLUMNS; j += 4) {
        int column = first_column + Tile::column(j);
        // Columns beyond the last count for sums over columns alone, as zeros.
        if (!Epilogue::SUMS && column >= epilogue.columns) continue;
        auto terms = epilogue.terms(column);
        if (column < epilogue.columns) {
#pragma unroll
            for (int i = 0; i < Tile::THREAD_ROWS; ++i) {
                Four sum = {sums[i][j], sums[i][j + 1], sums[i][j + 2], sums[i][j + 3]};
                if (result_rows[i] >= 0) epilogue.write(result_rows[i], column, terms, sum);
            }
        }
        if constexpr (Epilogue::SUMS) column_sums[j / 4] = terms.sum;
    }
    if constexpr (Epilogue::SUMS) {
        if (!epilogue.column_sums) return;
        // First over the rows of a warp, whose threads of the same columns are eight apart, then over the warps.
        constexpr int PARTS = Tile::ROWS / Tile::WARP_ROWS;
        __shared__ alignas(16) float parts[PARTS * Tile::COLUMNS];
#pragma unroll
        for (int j = 0; j < Tile::THREAD_COLUMNS; ++j) {
            float &sum = column_sums[j / 4].values[j % 4];
            sum += __shfl_xor_sync(0xffffffffu, sum, 8);
            sum += __shfl_xor_sync(0xffffffffu, sum, 16);
        }
        if (threadIdx.x % WARP < 8) {
#pragma unroll
            for (int j = 0; j < Tile::THREAD_COLUMNS; j += 4)
                store_pack(parts + Tile::row(0) / Tile::WARP_ROWS * Tile::COLUMNS + Tile::column(j), column_sums[j / 4]);
        }
        write_column_sums<PARTS, Tile::COLUMNS>(epilogue, parts, first_column);
    }
}
