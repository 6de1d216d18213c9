// gemm: the product of two dense matrices, either of them transposed, and what a layer does with it.
//
//   out[m, n] = residual[m, n] + prelu(bias[n] + product[m, n])
//   NN: product[m, n] = Σ_k left[m, k] · right[k, n]
//   NT: product[m, n] = Σ_k left[m, k] · right[n, k]
//   TN: product[m, n] = Σ_k left[k, m] · right[k, n]
//
// left, right   row-major T     read; float or bf16, converted when it is read
// bias, slope   [N] f32         read; slope of the prelu
// residual      [M, N]          read; of the factors' type
// out           [M, N]          written, likewise
// partial       [splits, M, N] f32 written instead, where the reduction is split or there is no `out`
//
// Bias, slope and residual may be absent (null). Products and sums are fp32; a sum has at most 4,096 terms before it is
// added to others. All pointers are 16-byte aligned, every operand has fewer than 2³¹ elements. Accesses are of 16 bytes
// (8 in bf16) where rows are multiples of four elements; the tile 128x64 asks for that.
// gemm_<layout>_<tile>: grid (tiles, 1, splits), block and shared memory (static) of the tile; see matrix_product.cuh.
// gemm_<layout>_mma_<tile>: the same on tensor cores, in TF32 and bf16; see matrix_product_mma.cuh.
// gemm_<layout>_wgmma_<tile>: the same on Hopper's, in bf16, and NT in TF32; see matrix_product_wgmma.cuh.
// gemm_sum_<f32, bf16>: adds up splits; see sum_splits in epilogue.cuh.
// Floor: 2·M·N·K FLOPs; M·K + K·N + M·N elements once, and M·N more with a residual.
// Partners: crates/tensor/src/op/gemm.rs, crates/tensor/src/cpu/gemm.rs, crates/cuda/src/launcher/gemm.rs.
#include "common.cuh"

KERNELS_OVERLAP

#if defined TIER_WGMMA
#include "matrix_product_wgmma.cuh"

#define GEMM_WGMMA(LAYOUT, NAME, COLUMNS, DTYPE, T)                                                                   \
    extern "C" __global__ void __cluster_dims__(COLUMNS / 128, 1, 1) __launch_bounds__(WGMMA_THREADS, 1)              \
    gemm_##NAME##_wgmma_128x##COLUMNS##_##DTYPE(const __grid_constant__ TensorMap left,                               \
                                                const __grid_constant__ TensorMap right, const float *bias,           \
                                                const float *slope, const T *residual, T *out,                        \
                                                float *partial, MatrixProduct p) {                                    \
        PreluEpilogue<T> epilogue{bias, slope, residual, nullptr, out, p.columns, bool(p.out_vectors)};               \
        matrix_product_wgmma<T, LAYOUT, COLUMNS>(left, right, epilogue, partial, p);                                  \
    }
#define GEMM_WGMMA_NT(COLUMNS, DTYPE, T) GEMM_WGMMA(NT, nt, COLUMNS, DTYPE, T)
#define GEMM_WGMMA_OTHERS(COLUMNS, DTYPE, T)                                                                          \
    GEMM_WGMMA(NN, nn, COLUMNS, DTYPE, T)                                                                             \
    GEMM_WGMMA(TN, tn, COLUMNS, DTYPE, T)

FOR_EACH_WGMMA_TILE(GEMM_WGMMA_NT)
FOR_EACH_WGMMA_TILE(GEMM_WGMMA_OTHERS)
FOR_EACH_WGMMA_TILE_TF32(GEMM_WGMMA_NT)
#elif defined TIER_MMA
#include "matrix_product_mma.cuh"

#define GEMM_MMA(LAYOUT, NAME, ROWS, COLUMNS, BLOCKS, DTYPE, T)                                                       \
    extern "C" __global__ void __launch_bounds__(TILE_THREADS, BLOCKS)                                                \
    gemm_##NAME##_mma_##ROWS##x##COLUMNS##_##DTYPE(const T *left, const T *right, const float *bias,                  \
                                                   const float *slope, const T *residual, T *out,                     \
                                                   float *partial, MatrixProduct p) {                                 \
        await_previous();                                                                                             \
        PreluEpilogue<T> epilogue{bias, slope, residual, nullptr, out, p.columns, true};                              \
        matrix_product_mma<ROWS, COLUMNS, LAYOUT>(left, right, epilogue, partial, p);                                 \
    }
#define GEMM_MMA_LAYOUTS(ROWS, COLUMNS, BLOCKS, DTYPE, T)                                                             \
    GEMM_MMA(NN, nn, ROWS, COLUMNS, BLOCKS, DTYPE, T)                                                                 \
    GEMM_MMA(NT, nt, ROWS, COLUMNS, BLOCKS, DTYPE, T)                                                                 \
    GEMM_MMA(TN, tn, ROWS, COLUMNS, BLOCKS, DTYPE, T)

FOR_EACH_MMA_TILE(GEMM_MMA_LAYOUTS)
#elif defined TIER_SIMT
#include "matrix_product.cuh"

// The three products of one tile and element type.
#define GEMM(LAYOUT, NAME, TILE, DTYPE, T)                                                                            \
    extern "C" __global__ void __launch_bounds__(Tile##TILE::THREADS, Tile##TILE::BLOCKS)                             \
    gemm_##NAME##_##TILE##_##DTYPE(const T *left, const T *right, const float *bias, const float *slope,              \
                                   const T *residual, T *out, float *partial, MatrixProduct p) {                      \
        await_previous();                                                                                             \
        PreluEpilogue<T> epilogue{bias, slope, residual, nullptr, out, p.columns,                                     \
                                      Tile##TILE::vectors(p.out_vectors)};                                            \
        matrix_product<Tile##TILE, LAYOUT>(left, right, epilogue, partial, p);                                        \
    }
#define GEMM_LAYOUTS(TILE, DTYPE, T)                                                                                  \
    GEMM(NN, nn, TILE, DTYPE, T)                                                                                      \
    GEMM(NT, nt, TILE, DTYPE, T)                                                                                      \
    GEMM(TN, tn, TILE, DTYPE, T)

GEMM_LAYOUTS(128x64, f32, float)
GEMM_LAYOUTS(128x64, bf16, bf16)
GEMM_LAYOUTS(32x32, f32, float)
GEMM_LAYOUTS(32x32, bf16, bf16)
#else
#include "epilogue.cuh"

#define GEMM_SUM(DTYPE, T)                                                                                            \
    extern "C" __global__ void __launch_bounds__(SUM_THREADS)                                                         \
    gemm_sum_##DTYPE(const float *partial, const float *bias, const float *slope, const T *residual, T *out,          \
                     u32 rows, u32 columns, u32 splits, u32 vectors) {                                                \
        await_previous();                                                                                             \
        PreluEpilogue<T> epilogue{bias, slope, residual, nullptr, out, int(columns), bool(vectors)};                  \
        sum_splits(partial, rows, splits, epilogue);                                                                  \
    }

GEMM_SUM(f32, float)
GEMM_SUM(bf16, bf16)
#endif
