// The head of many classes: products of embeddings and class weights a tile at a time, an online softmax over the
// tiles.
#pragma once
#include "margin_softmax_tile.cuh"

// What the tiles of the forward pass need of a row.
struct alignas(16) RowTerms {
    float factor;     // κ_i / ‖x‖
    float penalised;  // the target's logit
    u32 label;
};

// Maximum and sum over the lanes that hold one row, the same bits in each of them.
template <int LANES>
__device__ __forceinline__ float row_max(float value) {
#pragma unroll
    for (int offset = LANES / 2; offset > 0; offset /= 2)
        value = larger(value, __shfl_xor_sync(0xffffffffu, value, offset));
    return value;
}

template <int LANES>
__device__ __forceinline__ float row_sum(float value) {
#pragma unroll
    for (int offset = LANES / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
    return value;
}

// The inverse norms of the thread's classes; 0 past the last.
template <class Tile>
__device__ __forceinline__ void tile_inverse_norms(const Head &head, const float *__restrict__ inverse_norm,
                                                   u32 first_class, float (&inverse)[TILE_OF_THREAD]) {
#pragma unroll
    for (int j = 0; j < TILE_OF_THREAD; ++j) {
        u32 at = first_class + Tile::column(j);
        inverse[j] = at < head.classes ? inverse_norm[at] : 0;
    }
}

// A warp for each row, which writes its terms, then one for each class, which writes its inverse norm.
__device__ __forceinline__ void forward_rows(const Head &head, const Operands &in, RowTerms *terms,
                                             float *inverse_norm) {
    u32 lane = threadIdx.x % WARP, at = global_thread() / WARP;
    if (at < head.batch) {
        Target entry = target_of(head, in, at);
        if (lane == 0) terms[at] = {entry.factor, float(entry.scale * entry.bent.value), entry.label};
    } else if (at - head.batch < head.classes) {
        u32 j = at - head.batch;
        double norm = floored(sqrt(warp_square(in.weight + u64(j) * head.dimension, head.dimension)));
        if (lane == 0) inverse_norm[j] = 1 / float(norm);
    }
}

// The softmax of one row over a warp's classes of a tile, in each of the lanes that hold the row.
template <class Tile>
__device__ __forceinline__ Online tile_softmax(const Head &head, const RowTerms &row,
                                               const float (&products)[TILE_OF_THREAD],
                                               const float (&inverse)[TILE_OF_THREAD], u32 first_class) {
    Online online = {LOWEST, 0, LOWEST, LOWEST};
    float logits[TILE_OF_THREAD];
#pragma unroll
    for (int j = 0; j < TILE_OF_THREAD; ++j) {
        u32 at = first_class + Tile::column(j);
        float logit = row.factor * (products[j] * class_factor(head, inverse[j]));
        if (at != row.label && at < head.classes) {
            online.rival = larger(online.rival, logit);
            online.rival_cosine = larger(online.rival_cosine, products[j] * inverse[j]);
        }
        logits[j] = at == row.label ? row.penalised : logit;
        if (at < head.classes) online.largest = larger(online.largest, logits[j]);
    }
    online.largest = row_max<Tile::LANES>(online.largest);
    online.rival = row_max<Tile::LANES>(online.rival);
    online.rival_cosine = row_max<Tile::LANES>(online.rival_cosine);
#pragma unroll
    for (int j = 0; j < TILE_OF_THREAD; ++j)
        if (first_class + Tile::column(j) < head.classes) online.sum += expf(logits[j] - online.largest);
    online.sum = row_sum<Tile::LANES>(online.sum);
    return online;
}

// Two softmaxes of one row over different classes, as one.
__device__ __forceinline__ Online merged(const Online &a, const Online &b) {
    float largest = larger(a.largest, b.largest);
    return {largest, a.sum * expf(a.largest - largest) + b.sum * expf(b.largest - largest), larger(a.rival, b.rival),
            larger(a.rival_cosine, b.rival_cosine)};
}

// Softmaxes of the block's rows over the tiles of its split, partial [N, splits · PARTS]. Grid: (splits, tiles of
// rows).
template <class Tile>
__device__ __forceinline__ void forward_tiles(const Head &head, const Operands &in, const RowTerms *terms,
                                              const float *inverse_norm, Online *partial) {
    u32 first_row = blockIdx.y * TILE_ROWS, splits = gridDim.x;
    u32 tiles = (head.classes + TILE_CLASSES - 1) / TILE_CLASSES;
    u32 end = u64(tiles) * (blockIdx.x + 1) / splits;
    int lane = threadIdx.x % Tile::LANES;
    // The lanes that hold the same eight rows share out their softmaxes.
    Online online[TILE_OF_THREAD / Tile::LANES];
#pragma unroll
    for (Online &one : online) one = {LOWEST, 0, LOWEST, LOWEST};
    for (u32 tile = u64(tiles) * blockIdx.x / splits; tile < end; ++tile) {
        u32 first_class = tile * TILE_CLASSES;
        float inverse[TILE_OF_THREAD];
        Products products = {};
        Tile::products(head, in, first_row, first_class, products);
        tile_inverse_norms<Tile>(head, inverse_norm, first_class, inverse);
#pragma unroll
        for (int i = 0; i < TILE_OF_THREAD; ++i) {
            u32 row = min(first_row + Tile::row(i), head.batch - 1);
            Online part = tile_softmax<Tile>(head, terms[row], products[i], inverse, first_class);
            Online &mine = online[i / Tile::LANES];
            if (i % Tile::LANES == lane) mine = merged(mine, part);
        }
    }
#pragma unroll
    for (int i = 0; i < TILE_OF_THREAD; ++i) {
        u32 row = first_row + Tile::row(i);
        if (i % Tile::LANES == lane && row < head.batch)
            partial[(u64(row) * splits + blockIdx.x) * Tile::PARTS + Tile::part()] = online[i / Tile::LANES];
    }
}

// Merges the splits of a row in fixed order and ends it. A warp a row.
__device__ __forceinline__ void forward_merge(const Head &head, const Operands &in, const Online *partial,
                                              const Results &out, u32 splits) {
    u32 row = global_thread() / WARP, lane = threadIdx.x % WARP;
    if (row >= head.batch) return;
    Online online = {LOWEST, 0, LOWEST, LOWEST};
    for (u32 split = lane; split < splits; split += WARP) online = merged(online, partial[u64(row) * splits + split]);
    float largest = warp_max(online.largest);
    online.sum = warp_sum(online.sum * expf(online.largest - largest));
    online.largest = largest;
    online.rival = warp_max(online.rival);
    online.rival_cosine = warp_max(online.rival_cosine);
    Target entry = target_of(head, in, row);
    if (lane == 0) write_row(out, entry, online, row, row < in.count[0]);
}

// A warp a row.
__device__ __forceinline__ void backward_rows(const Head &head, const Operands &in, const float *log_sum_exp,
                                              Slopes *slopes) {
    u32 row = global_thread() / WARP;
    if (row >= head.batch) return;
    Target entry = target_of(head, in, row);
    if (threadIdx.x % WARP == 0) slopes[row] = slopes_of(head, entry, log_sum_exp[row], row, in.count[0]);
}

template <int LENGTH>
struct alignas(4 * LENGTH) Group {
    float values[LENGTH];
};

// The gradients of the products x_i · w_j of the classes [first, first + classes): gradients [N, classes], of which a
// block writes a tile. Grid: (tiles of classes, tiles of rows).
template <class Tile>
__device__ __forceinline__ void backward_tiles(const Head &head, const Operands &in, const float *log_sum_exp,
                                               const float *inverse_norm, const Slopes *slopes, float *gradients,
                                               u32 first, u32 classes) {
    constexpr int GROUP = Tile::GROUP;
    u32 first_row = blockIdx.y * TILE_ROWS, first_in_chunk = blockIdx.x * TILE_CLASSES;
    u32 first_class = first + first_in_chunk, count = in.count[0];
    float inverse[TILE_OF_THREAD];
    Products products = {};
    Tile::products(head, in, first_row, first_class, products);
    tile_inverse_norms<Tile>(head, inverse_norm, first_class, inverse);
#pragma unroll
    for (int i = 0; i < TILE_OF_THREAD; ++i) {
        u32 row = first_row + Tile::row(i);
        if (row >= head.batch) continue;
        Slopes slope = slopes[row];
        float normaliser = log_sum_exp[row];
        u32 label = in.labels[row];
#pragma unroll
        for (int j = 0; j < TILE_OF_THREAD; j += GROUP) {
            Group<GROUP> group;
#pragma unroll
            for (int k = 0; k < GROUP; ++k) {
                float factor = class_factor(head, inverse[j + k]);
                float softmax = expf(slope.factor * (products[i][j + k] * factor) - normaliser);
                bool is_target = first_class + Tile::column(j + k) == label;
                float gradient = is_target ? slope.target : slope.weight * softmax;
                group.values[k] = row < count ? gradient * factor : 0;
            }
            u32 at = first_in_chunk + Tile::column(j);
            float *to = gradients + u64(row) * classes + at;
            if (classes % GROUP == 0) {
                if (at < classes) *reinterpret_cast<Group<GROUP> *>(to) = group;
            } else {
#pragma unroll
                for (int k = 0; k < GROUP; ++k)
                    if (at + k < classes) to[k] = group.values[k];
            }
        }
    }
}

// Adds a chunk's part of d_embedding, parts [splits, N, D], in order; after the last chunk, what is along x. A warp a
// row.
__device__ __forceinline__ void embedding_gradient(const Head &head, const Operands &in, const float *norm,
                                                   const Slopes *slopes, const float *parts, float *d_embedding,
                                                   u32 splits, bool is_first, bool is_last) {
    u32 row = global_thread() / WARP, lane = threadIdx.x % WARP;
    if (row >= head.batch) return;
    const float *x = in.embedding + u64(row) * head.dimension;
    float *d_x = d_embedding + u64(row) * head.dimension, projection = 0;
    for (u32 d = lane; d < head.dimension; d += WARP) {
        float sum = 0;
#pragma unroll 4
        for (u32 split = 0; split < splits; ++split)
            sum += parts[(u64(split) * head.batch + row) * head.dimension + d];
        d_x[d] = is_first ? sum : d_x[d] + sum;
        projection += d_x[d] * x[d];
    }
    if (!is_last) return;
    float radial = radial_of(head, slopes[row], norm[row], warp_sum(projection));
    for (u32 d = lane; d < head.dimension; d += WARP) d_x[d] = row < in.count[0] ? d_x[d] + radial * x[d] : 0;
}
