// out = epilogue(left · right) on the tensor cores; see mma_tile.cuh for how, epilogue.cuh for what follows the sum.
//
// nn: left [rows, depth], right [depth, columns];  nt: right [columns, depth];  tn: left [depth, rows].
//
// left, right     T, read; 16-byte aligned; their contiguous dimension is a multiple of 16 bytes, as columns is
// bias, slope     [columns] float, read, or null
// residual        [rows, columns] T, read, or null
// kept            [rows, columns] T, written before PReLU, or null
// out             [rows, columns] T, written; null if the reduction is split
// partial         [gridDim.z, rows, columns] float, written if the reduction is split; then split_sum.cu adds the parts
//
// T is float (operands rounded to TF32) or bf16; sums are fp32. Grid: (tiles of columns · tiles of rows, 1, parts of the
// reduction); block: 128 threads; dynamic shared memory: 3 · (tile rows + columns) · 128 bytes. Tiles 128x128, 128x64 and 64x64.
// Floor: 2 · rows · columns · depth FLOPs, (rows · depth + depth · columns + rows · columns) · sizeof(T) bytes.
#pragma once
#include "mma_tile.cuh"

// Sizes of a product, as crates/cuda/src/launcher/gemm.rs passes them.
struct GemmSizes {
    u32 rows, columns, depth;
};

// Where the pieces of plain matrices lie.
template <class T, u32 ROWS, u32 COLUMNS, bool LEFT_TRANSPOSED, bool RIGHT_TRANSPOSED>
struct PlainProduct {
    using Left = typename Either<LEFT_TRANSPOSED, Outer<T, ROWS>, Inner<T, ROWS>>::Type;
    using Right = typename Either<RIGHT_TRANSPOSED, Inner<T, COLUMNS>, Outer<T, COLUMNS>>::Type;
    static constexpr bool PREPARES = false;

    const T *left_matrix, *right_matrix;
    GemmSizes sizes;
    u32 first_row, first_column;

    // Element `k` of all rows of an operand: [count, depth], or [depth, count] if outer.
    struct Cursor {
        const T *matrix;
        u32 k, depth, count, first;
        bool outer;

        __device__ __forceinline__ Piece piece(u32, u32 row) const {
            row += first;
            bool present = k < depth && row < count;
            return {matrix + (present ? outer ? size_t(k) * count + row : size_t(row) * depth + k : 0), present};
        }
    };

    __device__ __forceinline__ Cursor left(u32 k) const {
        return {left_matrix, k, sizes.depth, sizes.rows, first_row, LEFT_TRANSPOSED};
    }
    __device__ __forceinline__ Cursor right(u32 k) const {
        return {right_matrix, k, sizes.depth, sizes.columns, first_column, !RIGHT_TRANSPOSED};
    }
};

template <class T, u32 ROWS, u32 COLUMNS, bool LEFT_TRANSPOSED, bool RIGHT_TRANSPOSED>
__device__ __forceinline__ void gemm_mma(const T *left, const T *right, Epilogue<T> epilogue, float *partial, GemmSizes sizes) {
    extern __shared__ __align__(128) unsigned char stages[];
    u32 tiles = (sizes.columns + COLUMNS - 1) / COLUMNS;
    u32 first_row = blockIdx.x / tiles * ROWS, first_column = blockIdx.x % tiles * COLUMNS;
    PlainProduct<T, ROWS, COLUMNS, LEFT_TRANSPOSED, RIGHT_TRANSPOSED> product{left, right, sizes, first_row, first_column};
    Share share((sizes.depth + CHUNK<T> - 1) / CHUNK<T>);
    MmaTile<T, ROWS, COLUMNS> tile;
    tile.add(product, stages, share.first, share.end);
    tile.finish(stages, epilogue, partial, first_column, sizes.rows,
                [&](u32 row) { return first_row + row < sizes.rows ? first_row + row : NO_ROW; });
}

#define GEMM_MMA(FORM, LEFT_TRANSPOSED, RIGHT_TRANSPOSED, ROWS, COLUMNS, BLOCKS, T, NAME)                              \
    extern "C" __global__ void __launch_bounds__(TILE_THREADS, BLOCKS) gemm_##FORM##_mma_##ROWS##x##COLUMNS##_##NAME(  \
        const T *left, const T *right, const float *bias, const float *slope, const T *residual, T *kept, T *out,      \
        float *partial, GemmSizes sizes) {                                                                             \
        gemm_mma<T, ROWS, COLUMNS, LEFT_TRANSPOSED, RIGHT_TRANSPOSED>(                                                 \
            left, right, {bias, slope, residual, kept, out, int(sizes.columns), true}, partial, sizes);                                          \
    }
#define GEMM_MMA_FORMS(ROWS, COLUMNS, BLOCKS, T, NAME)            \
    GEMM_MMA(nn, false, false, ROWS, COLUMNS, BLOCKS, T, NAME)    \
    GEMM_MMA(nt, false, true, ROWS, COLUMNS, BLOCKS, T, NAME)     \
    GEMM_MMA(tn, true, false, ROWS, COLUMNS, BLOCKS, T, NAME)

GEMM_MMA_FORMS(128, 128, 2, float, tf32)
GEMM_MMA_FORMS(128, 64, 3, float, tf32)
GEMM_MMA_FORMS(64, 64, 4, float, tf32)
GEMM_MMA_FORMS(128, 128, 2, bf16, bf16)
GEMM_MMA_FORMS(128, 64, 3, bf16, bf16)
GEMM_MMA_FORMS(64, 64, 4, bf16, bf16)
