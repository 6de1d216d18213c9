// linear: the fully connected layer over a whole activation, and its gradients.
//
//   out[n, d]            = bias[d] + Σ_{h, w, c} x[h, w, n, c] · weight[h, w, c, d]
//   d_x[h, w, n, c]      = Σ_d d_out[n, d] · weight[h, w, c, d]
//   d_weight[h, w, c, d] = Σ_n x[h, w, n, c] · d_out[n, d];  d_bias[d] = Σ_n d_out[n, d]
//
// x, d_x              [H·W, N, C] T         x read, d_x written
// weight              [H·W, C, D] T         read
// out                 [N, D] f32            written: embeddings are never rounded
// d_out               [N, D] T              read
// bias                [D] f32               read
// d_weight, d_bias    [H·W, C, D], [D] f32  written
// partial             f32 workspace: the result's shape for each split of a reduction
//
// T is float or bf16, converted when it is read; products and sums are fp32. All pointers are 16-byte aligned, every
// operand has fewer than 2³¹ elements. Accesses are of 16 bytes (8 in bf16) where rows are multiples of four elements;
// the tile 128x64 asks for that.
//
// linear_forward_<tile>: one product whose reduction has a segment for each pixel. linear_backward_data_<tile>,
//   linear_backward_weight_<tile>: a product for each pixel. See matrix_product.cuh. linear_sum adds up splits of the
//   others.
// linear_…_mma_<tile>: the same three on tensor cores, in TF32 and bf16; see matrix_product_mma.cuh.
// linear_…_wgmma_<tile>: on those of Hopper, in bf16, and backward_data in TF32; see matrix_product_wgmma.cuh.
// linear_…_direct: for D ≤ 4, where a tile would be empty but for a few columns; see there.
// linear_column_sum: column sums of d_out where it has more, see column_sum.cuh. Of both of its gradients part_sum adds up
//   the parts.
//
// A sum has at most 4,096 terms before it is added to others.
// Floor: 2·H·W·N·C·D FLOPs of each pass; each operand once.
// Partners: crates/tensor/src/op/linear.rs, crates/tensor/src/cpu/linear.rs, crates/cuda/src/launcher/linear.rs.
#include "common.cuh"

KERNELS_OVERLAP

#if defined TIER_WGMMA
#include "matrix_product_wgmma.cuh"

#define LINEAR_BACKWARD_DATA_WGMMA(COLUMNS, DTYPE, T)                                                                 \
    extern "C" __global__ void __cluster_dims__(COLUMNS / 128, 1, 1) __launch_bounds__(WGMMA_THREADS, 1)              \
    linear_backward_data_wgmma_128x##COLUMNS##_##DTYPE(const __grid_constant__ TensorMap d_out,                       \
                                                       const __grid_constant__ TensorMap weight, T *d_x,              \
                                                       float *partial, MatrixProduct p) {                             \
        PreluEpilogue<T> epilogue{nullptr, nullptr, nullptr, nullptr, d_x, p.columns, bool(p.out_vectors)};           \
        matrix_product_wgmma<T, NT, COLUMNS>(d_out, weight, epilogue, partial, p);                                    \
    }
#define LINEAR_WGMMA(COLUMNS, DTYPE, T)                                                                               \
    extern "C" __global__ void __cluster_dims__(COLUMNS / 128, 1, 1) __launch_bounds__(WGMMA_THREADS, 1)              \
    linear_forward_wgmma_128x##COLUMNS##_##DTYPE(const __grid_constant__ TensorMap x,                                 \
                                                 const __grid_constant__ TensorMap weight, const float *bias,         \
                                                 float *out, float *partial, MatrixProduct p) {                       \
        PreluEpilogue<float> epilogue{bias, nullptr, nullptr, nullptr, out, p.columns, bool(p.out_vectors)};          \
        matrix_product_wgmma<T, NN, COLUMNS>(x, weight, epilogue, partial, p);                                        \
    }                                                                                                                 \
    extern "C" __global__ void __cluster_dims__(COLUMNS / 128, 1, 1) __launch_bounds__(WGMMA_THREADS, 1)              \
    linear_backward_weight_wgmma_128x##COLUMNS##_##DTYPE(const __grid_constant__ TensorMap x,                         \
                                                         const __grid_constant__ TensorMap d_out, float *d_weight,    \
                                                         float *partial, MatrixProduct p) {                           \
        auto epilogue = plain(d_weight, p.columns, bool(p.out_vectors));                                              \
        matrix_product_wgmma<T, TN, COLUMNS>(x, d_out, epilogue, partial, p);                                         \
    }

FOR_EACH_WGMMA_TILE(LINEAR_WGMMA)
FOR_EACH_WGMMA_TILE(LINEAR_BACKWARD_DATA_WGMMA)
FOR_EACH_WGMMA_TILE_TF32(LINEAR_BACKWARD_DATA_WGMMA)
#elif defined TIER_MMA
#include "matrix_product_mma.cuh"

#define LINEAR_MMA(ROWS, COLUMNS, BLOCKS, DTYPE, T)                                                                   \
    extern "C" __global__ void __launch_bounds__(TILE_THREADS, BLOCKS)                                                \
    linear_forward_mma_##ROWS##x##COLUMNS##_##DTYPE(const T *x, const T *weight, const float *bias, float *out,       \
                                                    float *partial, MatrixProduct p) {                                \
        await_previous();                                                                                             \
        PreluEpilogue<float> epilogue{bias, nullptr, nullptr, nullptr, out, p.columns, true};                         \
        matrix_product_mma<ROWS, COLUMNS, NN>(x, weight, epilogue, partial, p);                                       \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(TILE_THREADS, BLOCKS)                                                \
    linear_backward_data_mma_##ROWS##x##COLUMNS##_##DTYPE(const T *d_out, const T *weight, T *d_x, float *partial,    \
                                                          MatrixProduct p) {                                          \
        await_previous();                                                                                             \
        PreluEpilogue<T> epilogue{nullptr, nullptr, nullptr, nullptr, d_x, p.columns, true};                          \
        matrix_product_mma<ROWS, COLUMNS, NT>(d_out, weight, epilogue, partial, p);                                   \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(TILE_THREADS, BLOCKS)                                                \
    linear_backward_weight_mma_##ROWS##x##COLUMNS##_##DTYPE(const T *x, const T *d_out, float *d_weight,              \
                                                            float *partial, MatrixProduct p) {                        \
        await_previous();                                                                                             \
        matrix_product_mma<ROWS, COLUMNS, TN>(x, d_out, plain(d_weight, p.columns, true), partial, p);                \
    }

FOR_EACH_MMA_TILE(LINEAR_MMA)
#elif defined TIER_SIMT
#include "matrix_product.cuh"

// The three products of one tile and element type.
#define LINEAR_PRODUCTS(TILE, DTYPE, T)                                                                               \
    extern "C" __global__ void __launch_bounds__(Tile##TILE::THREADS, Tile##TILE::BLOCKS)                             \
    linear_forward_##TILE##_##DTYPE(const T *x, const T *weight, const float *bias, float *out, float *partial,       \
                                    MatrixProduct p) {                                                                \
        await_previous();                                                                                             \
        PreluEpilogue<float> epilogue{bias, nullptr, nullptr, nullptr, out, p.columns,                                \
                                      Tile##TILE::vectors(p.out_vectors)};                                            \
        matrix_product<Tile##TILE, NN>(x, weight, epilogue, partial, p);                                              \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(Tile##TILE::THREADS, Tile##TILE::BLOCKS)                             \
    linear_backward_data_##TILE##_##DTYPE(const T *d_out, const T *weight, T *d_x, float *partial, MatrixProduct p) { \
        await_previous();                                                                                             \
        PreluEpilogue<T> epilogue{nullptr, nullptr, nullptr, nullptr, d_x, p.columns,                                 \
                                  Tile##TILE::vectors(p.out_vectors)};                                                \
        matrix_product<Tile##TILE, NT>(d_out, weight, epilogue, partial, p);                                          \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(Tile##TILE::THREADS, Tile##TILE::BLOCKS)                             \
    linear_backward_weight_##TILE##_##DTYPE(const T *x, const T *d_out, float *d_weight, float *partial,              \
                                            MatrixProduct p) {                                                        \
        await_previous();                                                                                             \
        auto epilogue = plain(d_weight, p.columns, Tile##TILE::vectors(p.out_vectors));                               \
        matrix_product<Tile##TILE, TN>(x, d_out, epilogue, partial, p);                                               \
    }

LINEAR_PRODUCTS(128x64, f32, float)
LINEAR_PRODUCTS(128x64, bf16, bf16)
LINEAR_PRODUCTS(32x32, f32, float)
LINEAR_PRODUCTS(32x32, bf16, bf16)
#else
#include "column_sum.cuh"
#include "epilogue.cuh"

// The most outputs that a thread of the direct kernels sums at a time.
constexpr u32 FEW = 4;

// Sizes of the direct kernels.
struct Linear {
    u32 pixels, batch, inputs, outputs;
};

// A block sums the whole reduction of one image. Grid: N; 256 threads.
template <class T>
__device__ __forceinline__ void forward_direct(const T *x, const T *weight, const float *bias, float *out,
                                               const Linear &sizes) {
    float sums[FEW] = {};
    for (u32 i = threadIdx.x; i < sizes.pixels * sizes.inputs; i += 256) {
        u32 pixel = i / sizes.inputs, channel = i % sizes.inputs;
        float value = to_float(x[(pixel * sizes.batch + blockIdx.x) * sizes.inputs + channel]);
#pragma unroll
        for (u32 d = 0; d < FEW; ++d)
            if (d < sizes.outputs) sums[d] += value * to_float(weight[i * sizes.outputs + d]);
    }
#pragma unroll
    for (u32 d = 0; d < FEW; ++d) {
        float sum = block_sum<256>(sums[d]);
        if (threadIdx.x == 0 && d < sizes.outputs) out[blockIdx.x * sizes.outputs + d] = sum + bias[d];
    }
}

// A thread makes four channels of a pixel of an image. Grid: any; 256 threads.
template <class T>
__device__ __forceinline__ void backward_data_direct(const T *d_out, const T *weight, T *d_x, const Linear &sizes,
                                                     bool vectors) {
    u32 fours = (sizes.inputs + 3) / 4;
    for (u32 i = global_thread(); i < sizes.pixels * sizes.batch * fours; i += global_threads()) {
        u32 row = i / fours, channel = i % fours * 4, image = row % sizes.batch, pixel = row / sizes.batch;
        Four sum = {};
        for (u32 d = 0; d < sizes.outputs; ++d) {
            float value = to_float(d_out[image * sizes.outputs + d]);
#pragma unroll
            for (u32 j = 0; j < 4; ++j) {
                u32 place = pixel * sizes.inputs + min(channel + j, sizes.inputs - 1);
                sum.values[j] += value * to_float(weight[place * sizes.outputs + d]);
            }
        }
        write_four(d_x + row * sizes.inputs + channel, sum, sizes.inputs - channel, vectors);
    }
}

// A block sums over the images for 32 places (pixel, channel): a lane a place, a warp every eighth image. Behind the last
// place is one that sees 1 in every image: its sums are those of the bias. Grid: ⌈(H·W·C + 1) / 32⌉; 256 threads.
template <class T>
__device__ __forceinline__ void backward_weight_direct(const T *x, const T *d_out, float *d_weight, float *d_bias,
                                                       const Linear &sizes) {
    constexpr u32 WARPS = 8, GROUP = 4096;  // images in a group, whose sum is added to those of others
    __shared__ float partial[WARPS][FEW][WARP];
    u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    u32 place = blockIdx.x * WARP + lane, places = sizes.pixels * sizes.inputs;
    float totals[FEW] = {};
    if (place <= places) {
        const T *from = x + place / sizes.inputs * sizes.batch * sizes.inputs + place % sizes.inputs;
        for (u32 group = 0; group < sizes.batch; group += GROUP) {
            float sums[FEW] = {};
#pragma unroll 8
            for (u32 image = group + warp; image < min(group + GROUP, sizes.batch); image += WARPS) {
                float value = place < places ? to_float(from[image * sizes.inputs]) : 1.0f;
#pragma unroll
                for (u32 d = 0; d < FEW; ++d)
                    if (d < sizes.outputs) sums[d] += value * to_float(d_out[image * sizes.outputs + d]);
            }
#pragma unroll
            for (u32 d = 0; d < FEW; ++d) totals[d] += sums[d];
        }
    }
#pragma unroll
    for (u32 d = 0; d < FEW; ++d) partial[warp][d][lane] = totals[d];
    __syncthreads();
    // Warp d adds up output d.
    if (warp >= sizes.outputs || place > places) return;
    float sum = 0;
#pragma unroll
    for (u32 other = 0; other < WARPS; ++other) sum += partial[other][warp][lane];
    (place < places ? d_weight + place * sizes.outputs : d_bias)[warp] = sum;
}

// What is the same for both element types.
#define LINEAR_KERNELS(DTYPE, T)                                                                                      \
    extern "C" __global__ void __launch_bounds__(SUM_THREADS)                                                         \
    linear_sum_##DTYPE(const float *partial, const float *bias, T *out, u32 rows, u32 columns, u32 splits,            \
                       u32 vectors) {                                                                                 \
        await_previous();                                                                                             \
        sum_splits(partial, rows, splits,                                                                             \
                   PreluEpilogue<T>{bias, nullptr, nullptr, nullptr, out, int(columns), bool(vectors)});                   \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256)                                                                 \
    linear_forward_direct_##DTYPE(const T *x, const T *weight, const float *bias, float *out, Linear sizes) {         \
        await_previous();                                                                                             \
        forward_direct(x, weight, bias, out, sizes);                                                                  \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256)                                                                 \
    linear_backward_data_direct_##DTYPE(const T *d_out, const T *weight, T *d_x, Linear sizes, u32 vectors) {         \
        await_previous();                                                                                             \
        backward_data_direct(d_out, weight, d_x, sizes, vectors);                                                     \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256)                                                                 \
    linear_backward_weight_direct_##DTYPE(const T *x, const T *d_out, float *d_weight, float *d_bias, Linear sizes) { \
        await_previous();                                                                                             \
        backward_weight_direct(x, d_out, d_weight, d_bias, sizes);                                                    \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256)                                                                 \
    linear_column_sum_##DTYPE(const T *matrix, float *sums, u32 rows, u32 columns, u32 rows_per_chunk) {              \
        await_previous();                                                                                             \
        column_sum_chunk(rows, columns, rows_per_chunk, sums,                                                         \
                         [&](u32 row, u32 column) { return to_float(matrix[row * columns + column]); });              \
    }

LINEAR_KERNELS(f32, float)
LINEAR_KERNELS(bf16, bf16)
#endif
