// The head of many classes: products of embeddings and class weights a tile at a time, an online softmax over the tiles.
#pragma once
#include "margin_softmax.cuh"
#include "matrix_product.cuh"

// Rows × classes of a block. A row of the tile lies in eight neighbouring lanes of one warp, eight classes in each.
using HeadTile = Tile128x64;
constexpr int TILE_ROWS = HeadTile::THREAD_ROWS, TILE_CLASSES = HeadTile::THREAD_COLUMNS;
constexpr int LANES_OF_ROW = 8;

// What the tiles of the forward pass need of a row.
struct alignas(16) RowTerms {
    float factor;     // κ_i / ‖x‖
    float penalised;  // the target's logit
    u32 label;
};

// Maximum and sum over the lanes that hold one row, the same bits in each of them.
__device__ __forceinline__ float row_max(float value) {
#pragma unroll
    for (int offset = LANES_OF_ROW / 2; offset > 0; offset /= 2)
        value = larger(value, __shfl_xor_sync(0xffffffffu, value, offset));
    return value;
}

__device__ __forceinline__ float row_sum(float value) {
#pragma unroll
    for (int offset = LANES_OF_ROW / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
    return value;
}

// x · w of a tile: rows from `first_row`, classes from `first_class` on.
__device__ __forceinline__ void tile_products(const Head &head, const Operands &in, u32 first_row, u32 first_class,
                                              float (&products)[TILE_ROWS][TILE_CLASSES]) {
    int length = head.dimension;
    bool vectors = length % 4 == 0;
    using Source = MatrixAlong<float>;
    Along<HeadTile, HeadTile::ROWS, Source> rows{
        Source{in.embedding + u64(first_row) * length, int(head.batch - first_row), length, length, 0, vectors}};
    Along<HeadTile, HeadTile::COLUMNS, Source> classes{
        Source{in.weight + u64(first_class) * length, int(head.classes - first_class), length, length, 0, vectors}};
    SegmentWalk walk{length, 0, 0};
    multiply<HeadTile>(products, rows, classes, walk, (length + DEPTH - 1) / DEPTH);
}

// The inverse norms of the thread's classes; 0 past the last.
__device__ __forceinline__ void tile_inverse_norms(const Head &head, const float *__restrict__ inverse_norm,
                                                   u32 first_class, float (&inverse)[TILE_CLASSES]) {
#pragma unroll
    for (int j = 0; j < TILE_CLASSES; ++j) {
        u32 at = first_class + HeadTile::column(j);
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

// The softmax of one row over a tile's classes, in each of the lanes that hold the row.
__device__ __forceinline__ Online tile_softmax(const Head &head, const RowTerms &row,
                                               const float (&products)[TILE_CLASSES],
                                               const float (&inverse)[TILE_CLASSES], u32 first_class) {
    Online online = {LOWEST, 0, LOWEST, LOWEST};
    float logits[TILE_CLASSES];
#pragma unroll
    for (int j = 0; j < TILE_CLASSES; ++j) {
        u32 at = first_class + HeadTile::column(j);
        float logit = row.factor * (products[j] * class_factor(head, inverse[j]));
        if (at != row.label && at < head.classes) {
            online.rival = larger(online.rival, logit);
            online.rival_cosine = larger(online.rival_cosine, products[j] * inverse[j]);
        }
        logits[j] = at == row.label ? row.penalised : logit;
        if (at < head.classes) online.largest = larger(online.largest, logits[j]);
    }
    online.largest = row_max(online.largest);
    online.rival = row_max(online.rival);
    online.rival_cosine = row_max(online.rival_cosine);
#pragma unroll
    for (int j = 0; j < TILE_CLASSES; ++j)
        if (first_class + HeadTile::column(j) < head.classes) online.sum += expf(logits[j] - online.largest);
    online.sum = row_sum(online.sum);
    return online;
}

// Two softmaxes of one row over different classes, as one.
__device__ __forceinline__ Online merged(const Online &a, const Online &b) {
    float largest = larger(a.largest, b.largest);
    return {largest, a.sum * expf(a.largest - largest) + b.sum * expf(b.largest - largest), larger(a.rival, b.rival),
            larger(a.rival_cosine, b.rival_cosine)};
}

// Softmaxes of the block's rows over the tiles of its split, partial [N, splits]. Grid: (splits, tiles of rows).
__device__ __forceinline__ void forward_tiles(const Head &head, const Operands &in, const RowTerms *terms,
                                              const float *inverse_norm, Online *partial) {
    u32 first_row = blockIdx.y * HeadTile::ROWS, splits = gridDim.x;
    u32 tiles = (head.classes + HeadTile::COLUMNS - 1) / HeadTile::COLUMNS;
    u32 end = u64(tiles) * (blockIdx.x + 1) / splits;
    int lane = threadIdx.x % LANES_OF_ROW;
    // Of a thread's eight rows, it keeps the softmax of the one that has its lane's number.
    Online online = {LOWEST, 0, LOWEST, LOWEST};
    for (u32 tile = u64(tiles) * blockIdx.x / splits; tile < end; ++tile) {
        u32 first_class = tile * HeadTile::COLUMNS;
        float products[TILE_ROWS][TILE_CLASSES] = {}, inverse[TILE_CLASSES];
        tile_products(head, in, first_row, first_class, products);
        tile_inverse_norms(head, inverse_norm, first_class, inverse);
#pragma unroll
        for (int i = 0; i < TILE_ROWS; ++i) {
            u32 row = min(first_row + HeadTile::row(i), head.batch - 1);
            Online part = tile_softmax(head, terms[row], products[i], inverse, first_class);
            if (i == lane) online = merged(online, part);
        }
    }
#pragma unroll
    for (int i = 0; i < TILE_ROWS; ++i) {
        u32 row = first_row + HeadTile::row(i);
        if (i == lane && row < head.batch) partial[u64(row) * splits + blockIdx.x] = online;
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

// The gradients of the products x_i · w_j of the classes [first, first + classes): gradients [N, classes], of which a block
// writes a tile. Grid: (tiles of classes, tiles of rows).
__device__ __forceinline__ void backward_tiles(const Head &head, const Operands &in, const float *log_sum_exp,
                                               const float *inverse_norm, const Slopes *slopes, float *gradients,
                                               u32 first, u32 classes) {
    u32 first_row = blockIdx.y * HeadTile::ROWS, first_in_chunk = blockIdx.x * HeadTile::COLUMNS;
    u32 first_class = first + first_in_chunk, count = in.count[0];
    float products[TILE_ROWS][TILE_CLASSES] = {}, inverse[TILE_CLASSES];
    tile_products(head, in, first_row, first_class, products);
    tile_inverse_norms(head, inverse_norm, first_class, inverse);
#pragma unroll
    for (int i = 0; i < TILE_ROWS; ++i) {
        u32 row = first_row + HeadTile::row(i);
        if (row >= head.batch) continue;
        Slopes slope = slopes[row];
        float normaliser = log_sum_exp[row];
        u32 label = in.labels[row];
#pragma unroll
        for (int j = 0; j < TILE_CLASSES; j += 4) {
            Four values;
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                float factor = class_factor(head, inverse[j + k]);
                float softmax = expf(slope.factor * (products[i][j + k] * factor) - normaliser);
                bool is_target = first_class + HeadTile::column(j + k) == label;
                float gradient = is_target ? slope.target : slope.weight * softmax;
                values.values[k] = row < count ? gradient * factor : 0;
            }
            u32 at = first_in_chunk + HeadTile::column(j);
            if (at < classes)
                write_four(gradients + u64(row) * classes + at, values, classes - at, classes % 4 == 0);
        }
    }
}

// Adds a chunk's part of d_embedding, parts [splits, N, D], in order; after the last chunk, what is along x. A warp a row.
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
