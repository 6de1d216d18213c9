// The tiles of x · w that the head of many classes walks over: 128 rows × 64 classes, eight rows × eight classes a
// thread, on fused multiply-adds or on tensor cores.
//
//   LANES                  neighbouring lanes of a warp that hold the same rows
//   PARTS, part()          warps that hold the same rows, each other classes
//   GROUP                  neighbouring classes of a thread
//   row(i), column(j)      where the thread's row i and class j lie in the tile
//   products(…)            x_i · w_j of the thread's rows and classes, from `first_row` and `first_class` on; zeros outside
#pragma once
#include "margin_softmax.cuh"
#include "matrix_product.cuh"
#if __CUDA_ARCH__ >= 800
#include "mma_tile.cuh"
#endif

constexpr int TILE_ROWS = 128, TILE_CLASSES = 64, TILE_OF_THREAD = 8;

using Products = float[TILE_OF_THREAD][TILE_OF_THREAD];

// Any D: the engine's tile of this size with code for rows that are not multiples of four elements.
struct SimtTile : Tile<TILE_ROWS, TILE_CLASSES, TILE_OF_THREAD, TILE_OF_THREAD, false> {
    static constexpr int LANES = 8, PARTS = 1, GROUP = 4;

    static __device__ __forceinline__ int part() { return 0; }

    static __device__ __forceinline__ void products(const Head &head, const Operands &in, u32 first_row,
                                                    u32 first_class, Products &products) {
        int length = head.dimension;
        bool vectors = length % 4 == 0;
        using Source = MatrixAlong<float>;
        Along<SimtTile, TILE_ROWS, Source> rows{
            Source{in.embedding + u64(first_row) * length, 0, int(head.batch - first_row), length, length, 0, vectors}};
        Along<SimtTile, TILE_CLASSES, Source> classes{Source{in.weight + u64(first_class) * length, 0,
                                                             int(head.classes - first_class), length, length, 0,
                                                             vectors}};
        SegmentWalk walk{length, 0, 0};
        multiply<SimtTile>(products, rows, classes, walk, (length + DEPTH - 1) / DEPTH);
        __syncthreads();  // The next tile is loaded into the buffers that other warps may still read.
    }
};

#if __CUDA_ARCH__ >= 800
// Operands rounded to TF32. D is a multiple of 4. Dynamic shared memory: the stages of mma_tile.cuh.
struct MmaTf32Tile {
    using Engine = MmaTile<float, TILE_ROWS, TILE_CLASSES>;
    static constexpr int LANES = 4, PARTS = 2, GROUP = 2;

    static __device__ __forceinline__ int part() { return threadIdx.x / WARP % PARTS; }
    static __device__ __forceinline__ int row(int i) {
        return Engine::first_row() + i * 8 + threadIdx.x % WARP / LANES;
    }
    static __device__ __forceinline__ int column(int j) {
        return Engine::first_column() + j / GROUP * 8 + threadIdx.x % LANES * GROUP + j % GROUP;
    }

    // Embeddings are the left operand, class weights the right; both contiguous along the reduction.
    struct Rows {
        const float *matrix;
        u32 depth, count, k;

        __device__ __forceinline__ Piece piece(u32, u32 row) const {
            bool present = k < depth && row < count;
            return {matrix + (present ? u64(row) * depth + k : 0), present};
        }
    };
    struct Product {
        using Left = Inner<float, TILE_ROWS>;
        using Right = Inner<float, TILE_CLASSES>;
        static constexpr bool PREPARES = false;
        const float *embedding, *weight;
        u32 depth, rows, classes;

        __device__ __forceinline__ Rows left(u32 k) const { return {embedding, depth, rows, k}; }
        __device__ __forceinline__ Rows right(u32 k) const { return {weight, depth, classes, k}; }
    };

    static __device__ __forceinline__ void products(const Head &head, const Operands &in, u32 first_row,
                                                    u32 first_class, Products &products) {
        extern __shared__ __align__(128) unsigned char stages[];
        u32 length = head.dimension;
        Product product{in.embedding + u64(first_row) * length, in.weight + u64(first_class) * length, length,
                        head.batch - first_row, head.classes - first_class};
        Engine engine;
        engine.add(product, stages, 0, (length + CHUNK<float> - 1) / CHUNK<float>);
#pragma unroll
        for (int i = 0; i < TILE_OF_THREAD; ++i)
#pragma unroll
            for (int j = 0; j < TILE_OF_THREAD; ++j)
                products[i][j] = engine.sum[i / 2][j / GROUP][i % 2 * 2 + j % GROUP];
    }
};
#endif
