// margin_softmax: the classifier head, loss and gradients, without the logits of the batch in memory.
//
//     z_ij = κ_i ω_j cos θ_ij,  z_iy = κ_i ω_y h(cos θ_iy),  loss_i = log Σ_j exp z_ij − z_iy
//
// or, where the margin bends the others, too, z_ij = s h_o(cos θ_ij), and perhaps another loss of them (Link); for rows
// x_i, class weights w_j and labels y_i; κ and ω are ‖x‖ and ‖w‖, or ‖x‖ and 1, or a constant and 1. A unit is compiled for
// each margin, MARGIN_HEADER="margin/<name>.cuh", which defines h. Tiles of the head of many classes are units of their
// own, one for each tier and for each h_o: the target's logit comes from the row's terms.
// Formulas and gradients: crates/tensor/src/op/margin_softmax.rs.
//
// embedding      [N, D] f32      read; finite also in rows past `count`
// weight         [C, D] f32      read
// labels         [N] u32         read; each below C, also those of rows past `count`
// count          [1] u32         read; rows from there on have loss 0, hits 0 and no gradient
// modifiers      [steps] f32     read: λ at `counter`, past its end at the last entry; or [N], a number of each row
// counter        [1] u32         read
// bias           [1] f32         read where the loss is one of yes and no, else null
// loss           [N] f32         written
// log_sum_exp, target_cosine, norm  [N] f32  written by the forward pass, read by the backward pass
// inverse_norm   [C] f32         likewise: 1 / ‖w‖
// kept           [N, C8] Cosine  likewise where the head keeps its cosines, else null; C8 is C to a multiple of 8
// hits           [N] u32         written: bits of Hit
// d_embedding    [N, D] f32      written
// d_weight       [C, D] f32      written
// d_bias         [1] f32         written, of a bias
//
// Matrices are aligned to 16 bytes. The target's entry is f64 from the f32 operands, all else f32; sums of more than
// 4,096 terms have two levels, and their parts are set by the shapes alone.
//
// At most 32 classes (margin_softmax_small.cuh), forward in one launch, backward in two: a warp a row, a lane a class,
// 256 threads, C · (D | 1) · 4 bytes of dynamic shared memory for the weights. Bound by the launch: 2 N C D forward,
// 6 N C D backward are microseconds. fp32 in every precision.
//
// More classes (margin_softmax_large.cuh): tiles of 128 rows × 64 classes, 128 threads, each followed by an online
// softmax in registers. Forward: terms of rows and classes, directions; tiles, with a running softmax (largest logit, sum, rivals)
// for each row and split of the classes; merge of the splits. Backward, over chunks of classes: the gradients with
// respect to the products [N, chunk], to a workspace that stays in the L2 cache; their two products with weights and
// embeddings (gemm.cu); what norms add to those. What the products of a tile are, and by which engine:
//   f32       x · w, in fp32, tile.cuh (static shared memory)
//   mma_tf32  x · w rounded to TF32, mma_tile.cuh (73,728 bytes of dynamic shared memory); D is a multiple of 4
//   bf16, mma_bf16  x̂ · ŵ rounded to bf16, by the same engines: what a plan of bf16 activations asks for. Directions
//             have 8 bits each and no scale, so that κ and ‖w‖ multiply sums, in f32. Gradients of products are bf16,
//             too: small ones keep their 8 bits, as its exponents are those of f32.
//   wgmma_bf16  the same in tiles of 128 rows × 256 or 128 classes by the warpgroups of sm_90a, in a unit of their own:
//             margin_softmax_wgmma.cuh, which says what bounds them. The gradient of the weights is finished where it is
//             summed, by what the tiles sum along the columns.
//
// Rows of directions are padded with zeros to a multiple of 8, and so are the classes of a chunk: D and C may be odd.
// They are written once a pass, not converted where they are loaded: cp.async copies bytes as they are, and each weight
// is loaded by every tile of rows. A bf16 copy of all weights would be 1 GB at C = 10⁶, D = 512; that of a chunk of
// 16,384 classes (8,192 backward, 32,768 by warpgroups) is 16 MiB (8, 32), written to and read from the L2 cache. What the
// forward pass leaves is not made again backward: slopes, directions of rows, and those of classes if they are one chunk.
//
// Kept cosines replace the tiles of the backward pass by a pass over 2 N C bytes: written and read at N = 512, C = 10⁶
// that is 2 GB, 0.6 ms at 3.35 TB/s, for a product of 2 N C D, 0.9 ms at D = 512 and 600 TFLOP/s, 0.2 ms at D = 128. So
// they pay for wide embeddings, in fp32 most. Not measured yet.
//
// Memory O(N + C) + N · chunk + partial sums; with kept cosines 2 N C bytes more. Floor: 2 N C D FLOPs forward, 8 N C D
// backward, 2 of them to make the tiles again, unless cosines are kept; the weights read once forward (twice where they
// are not rounded: norms, tiles), backward once more for directions of several chunks and for each product and gradient that
// is not of directions, and their gradient written once.
//
// Partners: crates/tensor/src/op/margin_softmax.rs, crates/tensor/src/cpu/margin_softmax.rs,
// crates/cuda/src/launcher/margin_softmax.rs, crates/models/src/margin/, gemm.cu.
#if defined TIER_WGMMA
#include "margin_softmax_wgmma.cuh"

KERNELS_OVERLAP

// The passes over tiles of a chunk of classes by warpgroups, and their gradients turned times embeddings; launches as
// matrix_product_wgmma.cuh has them. partial and kept are updated from the second chunk on.
#define MARGIN_SOFTMAX_WGMMA(COLUMNS, DTYPE, T)                                                                       \
    extern "C" __global__ void __cluster_dims__(COLUMNS / 128, 1, 1) __launch_bounds__(WGMMA_THREADS, 1)              \
    margin_softmax_forward_tiles_wgmma_128x##COLUMNS##_##DTYPE(                                                       \
        const __grid_constant__ TensorMap rows, const __grid_constant__ TensorMap classes, const RowTerms *terms,     \
        const float *inverse_norm, const float *bias, Online *partial, const __grid_constant__ TensorMap kept,        \
        Head head, u32 first, u32 parts, u32 keeps, MatrixProduct p) {                                                \
        forward_tiles_wgmma<COLUMNS>(rows, classes, kept, head, terms, inverse_norm, bias, partial,                   \
                                     {first, parts, bool(keeps)}, p);                                                 \
    }                                                                                                                 \
    extern "C" __global__ void __cluster_dims__(COLUMNS / 128, 1, 1) __launch_bounds__(WGMMA_THREADS, 1)              \
    margin_softmax_backward_tiles_wgmma_128x##COLUMNS##_##DTYPE(                                                      \
        const __grid_constant__ TensorMap rows, const __grid_constant__ TensorMap classes, const u32 *labels,         \
        const u32 *count, const float *log_sum_exp, const float *norm, const float *inverse_norm, const float *bias,  \
        const Slopes *slopes, const __grid_constant__ TensorMap gradients, float *along, Head head, u32 first,        \
        MatrixProduct p) {                                                                                            \
        backward_tiles_wgmma<COLUMNS>(rows, classes, gradients, head, labels, count, log_sum_exp, norm, inverse_norm, \
                                      bias, slopes, along, first, p);                                                 \
    }                                                                                                                 \
    extern "C" __global__ void __cluster_dims__(COLUMNS / 128, 1, 1) __launch_bounds__(WGMMA_THREADS, 1)              \
    margin_softmax_backward_weight_wgmma_128x##COLUMNS##_##DTYPE(                                                     \
        const __grid_constant__ TensorMap gradients, const __grid_constant__ TensorMap rows, const float *weight,     \
        const float *inverse_norm, const float *along, float *d_weight, Head head, u32 groups, MatrixProduct p) {     \
        backward_weight_wgmma<COLUMNS>(gradients, rows, head, weight, inverse_norm, along, d_weight, groups, p);      \
    }                                                                                                                 \
    extern "C" __global__ void __cluster_dims__(COLUMNS / 128, 1, 1) __launch_bounds__(WGMMA_THREADS, 1)              \
    margin_softmax_backward_parts_wgmma_128x##COLUMNS##_##DTYPE(                                                      \
        const __grid_constant__ TensorMap gradients, const __grid_constant__ TensorMap classes, float *parts,         \
        u32 adds, MatrixProduct p) {                                                                                  \
        backward_parts_wgmma<COLUMNS>(gradients, classes, parts, bool(adds), p);                                      \
    }

FOR_EACH_WGMMA_TILE(MARGIN_SOFTMAX_WGMMA)
#elif defined TIER_MMA || defined TIER_SIMT
#include "margin_softmax_large.cuh"

// The passes over tiles of a chunk of classes, 128 threads, BLOCKS a multiprocessor; grids as forward_tiles and
// backward_tiles say. partial and kept are updated from the second chunk on.
#define MARGIN_SOFTMAX_TILES(NAME, TILE, T, BLOCKS)                                                                   \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS)                                                         \
    margin_softmax_forward_tiles_##NAME(const T *rows, const T *weights, const RowTerms *terms,                       \
                                        const float *inverse_norm, const float *bias, Online *partial, Cosine *kept,  \
                                        Head head, u32 first, u32 classes) {                                          \
        forward_tiles<TILE<T>>(head, {rows, weights, first, classes, bias}, terms, inverse_norm, partial, kept,       \
                               first == 0);                                                                           \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS)                                                         \
    margin_softmax_backward_tiles_##NAME(const T *rows, const T *weights, const u32 *labels, const u32 *count,        \
                                         const float *log_sum_exp, const float *norm, const float *inverse_norm,      \
                                         const float *bias, const Slopes *slopes, T *gradients, Head head, u32 first, \
                                         u32 classes) {                                                               \
        backward_tiles<TILE<T>>(head, {rows, weights, first, classes, bias}, labels, count, log_sum_exp,              \
                                inverse_norm, slopes, norm, gradients);                                               \
    }

#ifdef TIER_SIMT
MARGIN_SOFTMAX_TILES(f32, SimtTile, float, 2)
MARGIN_SOFTMAX_TILES(bf16, SimtTile, bf16, 2)
#elif __CUDA_ARCH__ >= 800
MARGIN_SOFTMAX_TILES(mma_tf32, TensorTile, float, 3)
MARGIN_SOFTMAX_TILES(mma_bf16, TensorTile, bf16, 3)
#endif
#else
#include "margin_softmax_energy.cuh"
#include "margin_softmax_large.cuh"
#include "margin_softmax_small.cuh"

// Blocks a multiprocessor of what takes a row's target: 64 registers a thread, 1,024 threads. Without a number the
// compiler spills a few bytes to let in one block more, which rows seldom fill.
constexpr u32 ROW_BLOCKS = 4;

// Grid: N / 8 blocks, rounded up.
extern "C" __global__ void __launch_bounds__(SMALL_THREADS, ROW_BLOCKS)
margin_softmax_forward_small(const float *embedding, const float *weight, const u32 *labels, const u32 *count,
                             const float *modifiers, const u32 *counter, const float *bias, float *loss,
                             float *log_sum_exp, float *target_cosine, float *norm, float *inverse_norm, u32 *hits,
                             Head head) {
    small_forward(head, {embedding, weight, labels, count, modifiers, counter, bias},
                  {loss, log_sum_exp, target_cosine, norm, inverse_norm, hits});
}

// Writes slopes [N] and partial [blocks, C, D] for the next launch. Grid: N / 8 blocks, rounded up.
extern "C" __global__ void __launch_bounds__(SMALL_THREADS, ROW_BLOCKS)
margin_softmax_backward_small(const float *embedding, const float *weight, const u32 *labels, const u32 *count,
                              const float *modifiers, const u32 *counter, const float *bias, const float *log_sum_exp,
                              const float *inverse_norm, float *d_embedding, Slopes *slopes, float *partial,
                              Head head) {
    small_backward(head, {embedding, weight, labels, count, modifiers, counter, bias}, log_sum_exp, inverse_norm, d_embedding,
                   slopes, partial);
}

// d_weight of the classes [first, first + classes) from their sums [parts, classes, D]. Grid: classes / 8 blocks,
// rounded up, of 256 threads: a warp a class. Reads `parts + 1` and writes one value for each of d_weight.
extern "C" __global__ void __launch_bounds__(256)
margin_softmax_backward_weight(const float *weight, const u32 *labels, const u32 *count, const float *norm,
                               const float *inverse_norm, const Slopes *slopes, const float *sums, float *d_weight,
                               Head head, u32 first, u32 classes, u32 parts) {
    weight_gradient(head, {nullptr, weight, labels, count, nullptr, nullptr}, norm, inverse_norm, slopes, sums,
                    d_weight, first, classes, parts);
}

// A block fewer a multiprocessor, as a lane holds 16 elements of a vector.
// Directions are null where products are of operands as they are. Grid: (N + C) / 8 blocks, rounded up, of 256 threads;
// with directions for N to a multiple of 8 and the `classes` of the first chunk.
extern "C" __global__ void __launch_bounds__(256, ROW_BLOCKS - 1)
margin_softmax_forward_rows(const float *embedding, const float *weight, const u32 *labels, RowTerms *terms,
                            float *inverse_norm, bf16 *row_directions, bf16 *class_directions, Head head,
                            u32 classes) {
    forward_rows(head, {embedding, weight, labels}, terms, inverse_norm, {row_directions, class_directions, classes});
}

// Grid: N / 8 blocks, rounded up, of 256 threads.
extern "C" __global__ void __launch_bounds__(256, ROW_BLOCKS)
margin_softmax_forward_merge(const float *embedding, const float *weight, const u32 *labels, const u32 *count,
                             const float *modifiers, const u32 *counter, const float *bias, const Online *partial,
                             float *loss, float *log_sum_exp, float *target_cosine, float *norm, u32 *hits,
                             Slopes *slopes, Head head, u32 splits) {
    forward_merge(head, {embedding, weight, labels, count, modifiers, counter, bias}, partial,
                  {loss, log_sum_exp, target_cosine, norm, nullptr, hits}, slopes, splits);
}

// Directions as above. Grid: N / 8 blocks, rounded up, of 256 threads, or as above.
extern "C" __global__ void __launch_bounds__(256, ROW_BLOCKS)
margin_softmax_backward_rows(const float *embedding, const float *weight, const u32 *labels, const u32 *count,
                             const float *modifiers, const u32 *counter, const float *bias, const float *log_sum_exp,
                             Slopes *slopes, bf16 *row_directions, bf16 *class_directions, Head head, u32 classes) {
    backward_rows(head, {embedding, weight, labels, count, modifiers, counter, bias}, log_sum_exp, slopes,
                  {row_directions, class_directions, classes});
}

// Grid: N blocks.
extern "C" __global__ void __launch_bounds__(EMBEDDING_THREADS)
margin_softmax_backward_embedding(const float *embedding, const float *weight, const u32 *labels, const u32 *count,
                                  const float *norm, const float *inverse_norm, const Slopes *slopes,
                                  const float *parts, float *d_embedding, Head head, u32 splits, u32 is_first,
                                  u32 is_last) {
    embedding_gradient(head, {embedding, weight, labels, count}, norm, inverse_norm, slopes, parts, d_embedding, splits,
                       is_first, is_last);
}

// d_bias [1] from the rows' slopes. Grid: one block of a warp.
extern "C" __global__ void __launch_bounds__(32)
margin_softmax_backward_bias(const Slopes *slopes, float *d_bias, Head head) {
    bias_gradient(head, slopes, d_bias);
}

// Energies [C] f64 of the class weights. Grid: C / 8 blocks, rounded up, of 256 threads.
extern "C" __global__ void __launch_bounds__(256)
margin_softmax_forward_energy(const float *weight, double *energies, Head head) {
    class_energies(head, weight, energies);
}

// loss is updated. Grid: one block of a warp.
extern "C" __global__ void __launch_bounds__(32)
margin_softmax_forward_add_energy(const double *energies, const u32 *count, float *loss, Head head) {
    add_energy(head, energies, count, loss);
}

// d_weight is updated. Grid: C / 8 blocks, rounded up, of 256 threads.
extern "C" __global__ void __launch_bounds__(256)
margin_softmax_backward_energy(const float *weight, float *d_weight, Head head) {
    add_energy_gradient(head, weight, d_weight);
}

// Directions of the weights of a chunk of classes after the first. Grid: classes / 8 blocks, rounded up, of 256 threads.
extern "C" __global__ void __launch_bounds__(256)
margin_softmax_directions(const float *weight, float *inverse_norm, bf16 *directions, Head head, u32 classes) {
    u32 line = global_thread() / WARP;
    if (line >= to_eight(classes)) return;
    double norm = write_direction(head, weight, directions, classes, line);
    if (line < classes && threadIdx.x % WARP == 0 && inverse_norm) inverse_norm[line] = 1 / float(norm);
}

// The gradients of the products of a chunk of classes from kept cosines. Grid: any, of 256 threads.
#define MARGIN_SOFTMAX_KEPT(DTYPE, T)                                                                                 \
    extern "C" __global__ void __launch_bounds__(256)                                                                 \
    margin_softmax_backward_kept_##DTYPE(const u32 *labels, const u32 *count, const float *log_sum_exp,               \
                                         const float *norm, const float *inverse_norm, const Slopes *slopes,          \
                                         const Cosine *kept, T *gradients, Head head, u32 first, u32 classes) {       \
        backward_kept(head, labels, count, log_sum_exp, norm, inverse_norm, slopes, kept, gradients, first, classes); \
    }

MARGIN_SOFTMAX_KEPT(f32, float)
MARGIN_SOFTMAX_KEPT(bf16, bf16)
#endif
