// The tiles of products that the head of many classes walks over: 128 rows × 64 classes, eight rows × eight classes a
// thread, on fused multiply-adds or on tensor cores.
//
//   Element                of the operands and of the products' gradients: float for x · w, bf16 for rounded x̂ · ŵ
//   LANES                  neighbouring lanes of a warp that hold the same rows
//   PARTS, part()          warps that hold the same rows, each other classes
//   GROUP                  neighbouring classes of a thread
//   row(i), column(j)      where the thread's row i and class j lie in the tile
//   products(…)            of the thread's rows and classes, from `first_row` and `first_class` on; zeros outside
#pragma once
#include "margin_softmax.cuh"
#include "matrix_product.cuh"
#if __CUDA_ARCH__ >= 800
#include "mma_tile.cuh"
#endif

constexpr int TILE_ROWS = 128, TILE_CLASSES = 64, TILE_OF_THREAD = 8;

using Products = float[TILE_OF_THREAD][TILE_OF_THREAD];

// The operands of the products of a chunk of classes, both contiguous along the reduction.
template <class T>
struct TileOperands {
    const T *rows;     // [N, pitch]
    const T *classes;  // [count, pitch]
    u32 first, count;  // the classes [first, first + count) of the head
    const float *bias;  // [1] where the link is BINARY, else null
};

// Any D: the engine's tile of this size with code for rows that are not multiples of four elements.
template <class T>
struct SimtTile : Tile<TILE_ROWS, TILE_CLASSES, TILE_OF_THREAD, TILE_OF_THREAD, false> {
    using Element = T;
    static constexpr int LANES = 8, PARTS = 1, GROUP = 4;

    static __device__ __forceinline__ int part() { return 0; }

    static __device__ __forceinline__ void products(const Head &head, const TileOperands<T> &in, u32 first_row,
                                                    u32 first_class, Products &products) {
        int length = head.pitch;
        bool vectors = sizeof(T) == 2 || length % 4 == 0;
        using Source = MatrixAlong<T>;
        Along<SimtTile, TILE_ROWS, Source> rows{
            Source{in.rows + u64(first_row) * length, 0, int(head.batch - first_row), length, length, 0, vectors}};
        Along<SimtTile, TILE_CLASSES, Source> classes{Source{in.classes + u64(first_class) * length, 0,
                                                             int(in.count - first_class), length, length, 0, vectors}};
        SegmentWalk walk{length, 0, 0};
        multiply<SimtTile>(products, rows, classes, walk, (length + DEPTH - 1) / DEPTH);
        __syncthreads();  // The next tile is loaded into the buffers that other warps may still read.
    }
};

#if __CUDA_ARCH__ >= 800
// Rows are multiples of 16 bytes; float operands are rounded to TF32. Dynamic shared memory: the stages of mma_tile.cuh.
template <class T>
struct TensorTile {
    using Element = T;
    using Engine = MmaTile<T, TILE_ROWS, TILE_CLASSES>;
    static constexpr int LANES = 4, PARTS = 2, GROUP = 2;

    static __device__ __forceinline__ int part() { return threadIdx.x / WARP % PARTS; }
    static __device__ __forceinline__ int row(int i) {
        return Engine::first_row() + i * 8 + threadIdx.x % WARP / LANES;
    }
    static __device__ __forceinline__ int column(int j) {
        return Engine::first_column() + j / GROUP * 8 + threadIdx.x % LANES * GROUP + j % GROUP;
    }

    // Embeddings are the left operand, class weights the right.
    struct Rows {
        const T *matrix;
        u32 depth, count, k;

        __device__ __forceinline__ Piece piece(u32, u32 row) const {
            bool present = k < depth && row < count;
            return {matrix + (present ? u64(row) * depth + k : 0), present};
        }
    };
    struct Product {
        using Left = Inner<T, TILE_ROWS>;
        using Right = Inner<T, TILE_CLASSES>;
        static constexpr bool PREPARES = false;
        const T *embedding, *weight;
        u32 depth, rows, classes;

        __device__ __forceinline__ Rows left(u32 k) const { return {embedding, depth, rows, k}; }
        __device__ __forceinline__ Rows right(u32 k) const { return {weight, depth, classes, k}; }
    };

    static __device__ __forceinline__ void products(const Head &head, const TileOperands<T> &in, u32 first_row,
                                                    u32 first_class, Products &products) {
        extern __shared__ __align__(128) unsigned char stages[];
        u32 length = head.pitch;
        Product product{in.rows + u64(first_row) * length, in.classes + u64(first_class) * length, length,
                        head.batch - first_row, in.count - first_class};
        Engine engine;
        engine.add(product, stages, 0, (length + CHUNK<T> - 1) / CHUNK<T>);
#pragma unroll
        for (int i = 0; i < TILE_OF_THREAD; ++i)
#pragma unroll
            for (int j = 0; j < TILE_OF_THREAD; ++j)
                products[i][j] = engine.sum[i / 2][j / GROUP][i % 2 * 2 + j % GROUP];
    }
};
#endif

// Whether a tile's products are of rounded directions.
template <class Tile>
constexpr bool ROUNDED = sizeof(typename Tile::Element) == 2;

// What multiplies the products of each of the thread's classes; 0 past the last class of the chunk.
//
// For x · w that is 1 / ‖w‖ for a cosine, and for a logit unless weights are not normalised. A product of directions is
// the cosine, and a logit of it wants ‖w‖ where weights are not normalised.
template <class Tile>
struct ClassTerms {
    float terms[TILE_OF_THREAD];

    __device__ __forceinline__ ClassTerms(const Head &head, const float *__restrict__ inverse_norm, u32 first_class,
                                          u32 end) {
#pragma unroll
        for (int j = 0; j < TILE_OF_THREAD; ++j) {
            u32 at = first_class + Tile::column(j);
            float inverse = at < end ? inverse_norm[at] : 0;
            if (ROUNDED<Tile>) inverse = at < end ? head.scale == INNER_PRODUCT ? 1 / inverse : 1.0f : 0.0f;
            terms[j] = inverse;
        }
    }
    __device__ __forceinline__ float logit(const Head &head, int j) const {
        return ROUNDED<Tile> ? terms[j] : class_factor(head, terms[j]);
    }
    __device__ __forceinline__ float cosine(int j) const { return ROUNDED<Tile> ? 1.0f : terms[j]; }
};

// Neighbouring elements that are stored at once.
template <class T, int LENGTH>
struct alignas(sizeof(T) * LENGTH) Group {
    T values[LENGTH];
};
