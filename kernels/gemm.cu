// gemm: the product of two dense matrices, either of them transposed.
//
//   NN: out[m, n] = Σ_k left[m, k] · right[k, n]
//   NT: out[m, n] = Σ_k left[m, k] · right[n, k]
//   TN: out[m, n] = Σ_k left[k, m] · right[k, n]
//
// left, right   row-major f32   read
// out           [M, N] f32      written
// partial       [splits, M, N] f32 workspace, where the reduction is split
//
// Products and sums are fp32; a sum has at most 4,096 terms before it is added to others. Every operand has fewer than
// 2³¹ elements; accesses are of 16 bytes where rows are multiples of four elements and pointers aligned.
// gemm_<layout>_<tile>: grid (tiles, 1, splits), block and shared memory (static) of the tile; see matrix_product.cuh.
// gemm_sum: any grid, 128 threads.
// Floor: 2·M·N·K FLOPs; 4·(M·K + K·N + M·N) bytes.
// Partners: crates/tensor/src/op/gemm.rs, crates/tensor/src/cpu/gemm.rs, crates/cuda/src/launcher/gemm.rs.
#include "matrix_product.cuh"

#define GEMM(NAME, LAYOUT, TILE)                                                                                      \
    extern "C" __global__ void __launch_bounds__(Tile##TILE::THREADS)                                                 \
    gemm_##NAME##_##TILE##_f32(const float *left, const float *right, float *out, float *partial, MatrixProduct p) {  \
        matrix_product<Tile##TILE, LAYOUT>(left, right, plain(out, p.columns, p.out_vectors), partial, p);            \
    }

GEMM(nn, NN, 128x64)
GEMM(nt, NT, 128x64)
GEMM(tn, TN, 128x64)
GEMM(nn, NN, 32x32)
GEMM(nt, NT, 32x32)
GEMM(tn, TN, 32x32)

extern "C" __global__ void __launch_bounds__(128)
gemm_sum_f32(const float *partial, float *out, u32 rows, u32 columns, u32 splits) {
    sum_splits(partial, rows, splits, plain(out, columns, columns % 4 == 0));
}
