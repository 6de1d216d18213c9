// The head of at most 32 classes: a lane of a warp is a class, so that the whole row of logits lies in registers.
#pragma once
#include "margin_softmax.cuh"

constexpr u32 SMALL_CLASSES = WARP;
constexpr u32 SMALL_THREADS = 256;
constexpr u32 SMALL_WARPS = SMALL_THREADS / WARP;
// Rows of a block of the backward pass, which adds up their part of the weights' gradient.
constexpr u32 SMALL_ROWS = 8;

// Brings the class weights to shared memory, [C][pitch]; the odd pitch lets lanes read their classes' values at once.
__device__ __forceinline__ u32 pitch_of(const Head &head) { return head.dimension | 1; }

__device__ __forceinline__ void stage_weights(const Head &head, const float *__restrict__ weight, float *staged) {
    for (u32 j = threadIdx.x / WARP; j < head.classes; j += SMALL_WARPS)
        for (u32 d = threadIdx.x % WARP; d < head.dimension; d += WARP)
            staged[j * pitch_of(head) + d] = weight[j * head.dimension + d];
}

// x · w of the lane's class; 0 in lanes without a class.
__device__ __forceinline__ float class_product(const Head &head, const float *__restrict__ x, const float *staged,
                                               u32 lane) {
    if (lane >= head.classes) return 0;
    const float *w = staged + lane * pitch_of(head);
    float sum = 0;
#pragma unroll 8
    for (u32 d = 0; d < head.dimension; ++d) sum += x[d] * w[d];
    return sum;
}

// A warp a row.
__device__ __forceinline__ void small_forward(const Head &head, const Operands &in, const Results &out) {
    extern __shared__ float staged[];
    __shared__ float inverse_norms[SMALL_CLASSES];
    u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    stage_weights(head, in.weight, staged);
    for (u32 j = warp; j < head.classes; j += SMALL_WARPS) {
        double norm = floored(sqrt(warp_square(in.weight + j * head.dimension, head.dimension)));
        if (lane == 0) inverse_norms[j] = 1 / norm;
    }
    __syncthreads();
    if (blockIdx.x == 0 && threadIdx.x < head.classes) out.inverse_norm[threadIdx.x] = inverse_norms[threadIdx.x];
    u32 row = blockIdx.x * SMALL_WARPS + warp;
    if (row >= head.batch) return;

    Target entry = target_of(head, in, row);
    float product = class_product(head, in.embedding + u64(row) * head.dimension, staged, lane);
    bool is_class = lane < head.classes, is_rival = is_class && lane != entry.label;
    float inverse_norm = is_class ? inverse_norms[lane] : 0;
    float logit = entry.factor * (product * class_factor(head, inverse_norm));
    logit = other_logit(head, logit, product * inverse_norm / float(entry.norm));
    Online online;
    online.rival = warp_max(is_rival ? logit : LOWEST);
    online.rival_cosine = warp_max(is_rival ? product * inverse_norm : LOWEST);
    if (head.link == LINK_BINARY) {
        online.largest = warp_sum(is_rival ? sigmoid(logit + entry.bias) : 0.0f);
        online.sum = warp_sum(is_rival ? softplus(logit + entry.bias) : 0.0f);
    } else {
        if (lane == entry.label) logit = entry.scale * entry.bent.value;
        online.largest = warp_max(is_class ? logit : LOWEST);
        online.sum = warp_sum(is_class ? expf(logit - online.largest) : 0.0f);
    }
    if (lane == 0) write_row(head, out, entry, online, row, row < in.count[0]);
}

// SMALL_ROWS rows a block, a warp for each: d_embedding, the rows' slopes, and the block's part of Σ_i g_ij
// x_i, partial [blocks, C, D].
__device__ __forceinline__ void small_backward(const Head &head, const Operands &in, const float *log_sum_exp,
                                               const float *inverse_norm, float *d_embedding, Slopes *slopes,
                                               float *partial) {
    extern __shared__ float staged[];
    __shared__ float gradients[SMALL_ROWS][SMALL_CLASSES];
    u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    u32 first = blockIdx.x * SMALL_ROWS, count = min(in.count[0], head.batch);
    stage_weights(head, in.weight, staged);
    __syncthreads();
    bool is_class = lane < head.classes;
    float factor = is_class ? class_factor(head, inverse_norm[lane]) : 0;
    for (u32 i = warp; i < SMALL_ROWS && first + i < head.batch; i += SMALL_WARPS) {
        u32 row = first + i;
        const float *x = in.embedding + u64(row) * head.dimension;
        Target entry = target_of(head, in, row);
        Slopes slope = slopes_of(head, entry, log_sum_exp[row], row, count);
        float product = class_product(head, x, staged, lane) * factor;
        float gradient = other_slope(head, slope, slope.factor * product, product / float(entry.norm), log_sum_exp[row],
                                     entry.bias);
        if (!is_class || row >= count) gradient = 0;
        if (lane == entry.label) gradient = slope.target;
        gradient *= factor;
        gradients[i][lane] = gradient;
        if (lane == 0) slopes[row] = slope;

        float *d_x = d_embedding + u64(row) * head.dimension, projection = 0;
        for (u32 d = lane; d - lane < head.dimension; d += WARP) {
            float sum = 0;
            for (u32 j = 0; j < head.classes; ++j) {
                float of_class = __shfl_sync(0xffffffffu, gradient, j);
                if (d < head.dimension) sum += of_class * staged[j * pitch_of(head) + d];
            }
            if (d < head.dimension) {
                d_x[d] = sum;
                projection += sum * x[d];
            }
        }
        float radial = radial_of(head, slope, entry.norm, warp_sum(projection));
        const float *w = staged + entry.label * pitch_of(head);
        float pull = slope.pull * inverse_norm[entry.label];
        for (u32 d = lane; d < head.dimension; d += WARP)
            d_x[d] = row < count ? d_x[d] + radial * x[d] + pull * w[d] : 0;
    }
    __syncthreads();
    u32 rows = count > first ? min(SMALL_ROWS, count - first) : 0;
    const float *x = in.embedding + u64(first) * head.dimension;
    float *sums = partial + u64(blockIdx.x) * head.classes * head.dimension;
    for (u32 j = warp; j < head.classes; j += SMALL_WARPS) {
        for (u32 d = lane; d < head.dimension; d += WARP) {
            float sum = 0;
            for (u32 i = 0; i < rows; ++i) sum += gradients[i][j] * x[i * head.dimension + d];
            sums[j * head.dimension + d] = sum;
        }
    }
}
