// conv2d: two-dimensional convolution and its gradients, as products of matrices that are read where they lie.
//
//   y[p, q, n, k]        = bias[k] + Σ_{r, s, c} x[h, w, n, c] · filter[r, s, c, k]
//   out                  = residual + prelu(y), where fused
//   d_x[h, w, n, c]      = addend[h, w, n, c] + Σ_{r, s, k} d_y[p, q, n, k] · filter[r, s, c, k]
//   d_pre, d_slope       = the gradients of the prelu of which x is the result, from d_x, where fused (see prelu.cu)
//   d_filter[r, s, c, k] = Σ_{p, q, n} x[h, w, n, c] · d_y[p, q, n, k];  d_bias[k] = Σ_{p, q, n} d_y[p, q, n, k]
//   where h = p·stride + r − padding and w = q·stride + s − padding lie in x
//
// x, d_x, d_pre           [H, W, N, C] T        x read, d_x and d_pre written
// filter                  [R, S, C, K] T        read
// y, out, residual, d_y   [P, Q, N, K] T        y, out written; residual, d_y read
// addend, pre             [H, W, N, C] T        read; pre is the value before the prelu that backward passes
// bias, slope             [K] f32               read; slope of the prelu that backward passes: [C]
// d_filter, d_bias        [R, S, C, K], [K] f32 written
// slope_sums              [tiles of rows, C]    f32 written: what each tile finds of d_slope
// partial                 f32: the result's shape for each split of a reduction; workspace, or d_filter for part_sum
//
// T is float or bf16, converted when it is read; products and sums are fp32, and d_x is not rounded on its way to d_pre.
// Backward, `out` is d_pre and `kept` d_x where a prelu is fused, else out is d_x. Bias, slope, residual, addend, pre, y
// and kept may be absent (null). All pointers are 16-byte aligned. Every operand has fewer than 2³¹ elements, H and W are below 2¹⁵.
// Accesses are of 16 bytes (8 in bf16) where channels are a multiple of four; the tile 128x64 asks for that.
//
// conv2d_forward_<tile>, conv2d_backward_data_<tile>: rows are pixels and images, the reduction runs over taps and
//   channels; taps that lie in the padding under a whole tile are skipped. Gradients of strided convolutions are one
//   launch for each class of pixels modulo the stride, so that no product is with a zero in between. See tap_product.
// conv2d_backward_weight_<tile>: rows are taps and input channels, the reduction runs over pixels and images. See
//   weight_product. Grid of both: (tiles, 1, splits); block and shared memory (static) of the tile.
// conv2d_forward_mma_<tile>, conv2d_backward_data_mma_<tile>, conv2d_backward_weight_mma_<tile>: the same three on tensor
//   cores, in TF32 and bf16; see conv2d_mma.cuh.
// conv2d_forward_wgmma_64_bf16, conv2d_backward_data_wgmma_64_bf16: 64 to 64 channels by the instructions of sm_90a; see
//   conv2d_wgmma.cuh. conv2d_…_wgmma_wide_<bf16, tf32>: many, in clusters of two blocks; see conv2d_wgmma_wide.cuh.
//   conv2d_…_wgmma_128x<64, 128>…_<bf16, tf32>: small images, few, and strides; see conv2d_wgmma_pixels.cuh.
// conv2d_backward_weight_wgmma_bf16, …_wgmma_cluster<2, 4, 8>_bf16: multiples of 64, strides of 1 and 2, with the gradient
//   of the bias; see conv2d_wgmma_weight.cuh.
// conv2d_sum, conv2d_backward_data_sum: add up the splits of a reduction, in order, and finish them. See sum_splits.
// What is left of d_filter, d_bias and d_slope in parts, part_sum adds up.
// conv2d_forward_direct: for few input channels. Grid: (⌈P·Q·N / 64⌉, ⌈K / 64⌉); 128 threads; R·S·C·256 B shared.
// conv2d_backward_weight_direct_<1, 3>: the gradients of filter and bias for so many, 3×3 taps, in parts. Grid: (any,
//   ⌈K / 64⌉); 256 threads.
// conv2d_column_sum: columns of d_y for d_bias, in parts; see column_sum.cuh.
//
// A sum has at most 4,096 terms before it is added to others: the launcher splits accordingly, by shape alone.
// Floor: 2·R·S·C·K·P·Q·N FLOPs of each pass, less those with padding; each operand once.
// Partners: crates/tensor/src/op/conv2d.rs, crates/tensor/src/cpu/conv2d.rs, crates/cuda/src/launcher/conv2d.rs.
#include "common.cuh"

KERNELS_OVERLAP

#if defined TIER_WGMMA
#include "conv2d_wgmma.cuh"
#include "conv2d_wgmma_pixels.cuh"
#include "conv2d_wgmma_weight.cuh"
#include "conv2d_wgmma_wide.cuh"
#elif defined TIER_MMA
#include "conv2d_mma.cuh"
#elif defined TIER_SIMT
#include "conv2d_simt.cuh"

// The three products of one tile and element type.
#define CONV2D_PRODUCTS(TILE, DTYPE, T)                                                                               \
    extern "C" __global__ void __launch_bounds__(Tile##TILE::THREADS, Tile##TILE::BLOCKS)                             \
    conv2d_forward_##TILE##_##DTYPE(const T *x, const T *filter, const float *bias, const float *slope,               \
                                    const T *residual, T *y, T *out, float *partial, TapProduct p) {                  \
        await_previous();                                                                                             \
        PreluEpilogue<T> epilogue{bias, slope, residual, y, out, p.columns, Tile##TILE::vectors(p.out_vectors)};      \
        tap_product<Tile##TILE, false>(x, filter, epilogue, partial, p);                                              \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(Tile##TILE::THREADS, Tile##TILE::BLOCKS)                             \
    conv2d_backward_data_##TILE##_##DTYPE(const T *d_y, const T *filter, const T *addend, const T *pre,               \
                                          const float *slope, T *kept, T *out, float *slope_sums, float *partial,     \
                                          TapProduct p) {                                                             \
        await_previous();                                                                                             \
        PreluGradientEpilogue<T> epilogue{addend, pre, slope, kept, out, slope_sums, p.columns,                       \
                                          Tile##TILE::vectors(p.out_vectors)};                                        \
        tap_product<Tile##TILE, true>(d_y, filter, epilogue, partial, p);                                             \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(Tile##TILE::THREADS, Tile##TILE::BLOCKS)                             \
    conv2d_backward_weight_##TILE##_##DTYPE(const T *x, const T *d_y, float *d_filter, WeightProduct p) {             \
        await_previous();                                                                                             \
        weight_product<Tile##TILE>(x, d_y, d_filter, p);                                                              \
    }

CONV2D_PRODUCTS(128x64, f32, float)
CONV2D_PRODUCTS(128x64, bf16, bf16)
CONV2D_PRODUCTS(32x32, f32, float)
CONV2D_PRODUCTS(32x32, bf16, bf16)
#else
#include "column_sum.cuh"
#include "conv2d_direct.cuh"

// What is the same for both element types.
#define CONV2D_KERNELS(DTYPE, T)                                                                                      \
    extern "C" __global__ void __launch_bounds__(SUM_THREADS)                                                         \
    conv2d_sum_##DTYPE(const float *partial, const float *bias, const float *slope, const T *residual, T *y, T *out,  \
                       u32 rows, u32 columns, u32 splits, u32 vectors) {                                              \
        await_previous();                                                                                             \
        PreluEpilogue<T> epilogue{bias, slope, residual, y, out, int(columns), bool(vectors)};                        \
        sum_splits(partial, rows, splits, epilogue);                                                                  \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(SUM_THREADS)                                                         \
    conv2d_backward_data_sum_##DTYPE(const float *partial, const T *addend, const T *pre, const float *slope,         \
                                     T *kept, T *out, float *slope_sums, u32 rows, u32 columns, u32 splits,           \
                                     u32 vectors) {                                                                   \
        await_previous();                                                                                             \
        PreluGradientEpilogue<T> epilogue{addend, pre, slope, kept, out, slope_sums, int(columns), bool(vectors)};    \
        sum_splits(partial, rows, splits, epilogue);                                                                  \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(DIRECT_THREADS)                                                      \
    conv2d_forward_direct_##DTYPE(const T *x, const T *filter, const float *bias, const float *slope,                 \
                                  const T *residual, T *y, T *out, Conv2d sizes, u32 vectors) {                       \
        await_previous();                                                                                             \
        direct(x, filter, PreluEpilogue<T>{bias, slope, residual, y, out, int(sizes.outputs), bool(vectors)}, sizes); \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(GRADIENT_THREADS, 2)                                                 \
    conv2d_backward_weight_direct_1_##DTYPE(const T *x, const T *d_y, float *filter_sums, float *bias_sums,           \
                                            Conv2d sizes, u32 vectors) {                                              \
        await_previous();                                                                                             \
        direct_gradient<1>(x, d_y, filter_sums, bias_sums, sizes, bool(vectors));                                     \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(GRADIENT_THREADS, 1)                                                 \
    conv2d_backward_weight_direct_3_##DTYPE(const T *x, const T *d_y, float *filter_sums, float *bias_sums,           \
                                            Conv2d sizes, u32 vectors) {                                              \
        await_previous();                                                                                             \
        direct_gradient<3>(x, d_y, filter_sums, bias_sums, sizes, bool(vectors));                                     \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256)                                                                 \
    conv2d_column_sum_##DTYPE(const T *matrix, float *sums, u32 rows, u32 columns, u32 rows_per_chunk) {              \
        await_previous();                                                                                             \
        column_sum_chunk(rows, columns, rows_per_chunk, sums,                                                         \
                         [&](u32 row, u32 column) { return to_float(matrix[row * columns + column]); });              \
    }

CONV2D_KERNELS(f32, float)
CONV2D_KERNELS(bf16, bf16)
#endif
