// The head of many classes: products of embeddings and class weights a tile at a time, an online softmax over the
// tiles.
#pragma once
#include "margin_softmax_tile.cuh"

// What the tiles of the forward pass need of a row.
struct alignas(16) RowTerms {
    float factor;  // as in Target
    float cosine;  // what makes a cosine of a product, besides the class's term: 1 / ‖x‖, of rounded ones 1
    u32 label;
    u32 unused;
};

// A cosine in 16 bits, a multiple of 1 / STEPS: crates/tensor/src/cosine.rs says why.
struct Cosine {
    static constexpr int STEPS = 32512, LARGEST = 32767;
    short steps;

    static __device__ __forceinline__ Cosine of(float cosine) {
        int steps = __float2int_rn(cosine * STEPS);
        return {short(min(max(steps, -LARGEST), LARGEST))};
    }
    __device__ __forceinline__ float value() const { return float(steps) * (1.0f / STEPS); }
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

// Fours of a vector that a lane holds: the first 512 elements of it are read once.
constexpr u32 HELD = 4;

// A vector of `length` elements over its norm, rounded to bf16, to a row of `pitch`, the rest of which is zero; returns
// the norm. In f32 until it is rounded, so that it can be told exactly. By a warp.
template <bool VECTORS>
__device__ __forceinline__ double write_normalised(const float *__restrict__ vector, u32 length, bf16 *row, u32 pitch) {
    u32 first = threadIdx.x % WARP * 4;
    Four held[HELD];
#pragma unroll
    for (u32 i = 0; i < HELD; ++i) {
        u32 d = first + i * WARP * 4;
        held[i] = read_four(vector + d, int(length) - int(d), VECTORS);
    }
    double square = 0;
#pragma unroll
    for (u32 i = 0; i < HELD; ++i) square += square_of(held[i]);
    constexpr u32 REST = HELD * WARP * 4;
    for (u32 d = first + REST; d < length; d += WARP * 4)
        square += square_of(read_four(vector + d, int(length - d), VECTORS));
    double norm = floored(sqrt(warp_sum(square)));
    float inverse = 1 / float(norm);
#pragma unroll
    for (u32 i = 0; i < HELD; ++i) {
        u32 d = first + i * WARP * 4;
        if (d < pitch) write_vector(row + d, scaled(held[i], inverse));
    }
    for (u32 d = first + REST; d < pitch; d += WARP * 4)
        write_vector(row + d, scaled(read_four(vector + d, int(length) - int(d), VECTORS), inverse));
    return norm;
}

// The norm of the vector `line` of vectors [count, D], 0 of those that fill up. Where there are directions
// [to_eight(count), pitch], its own goes there, rounded to bf16, zeros where nothing is. By a warp.
__device__ __forceinline__ double write_direction(const Head &head, const float *__restrict__ vectors, bf16 *directions,
                                                  u32 count, u32 line) {
    bool present = line < count;
    u32 length = present ? head.dimension : 0;
    const float *vector = vectors + (present ? u64(line) * head.dimension : 0);
    if (!directions) return floored(sqrt(warp_square(vector, length)));
    bf16 *direction = directions + u64(line) * head.pitch;
    return length % 4 == 0 ? write_normalised<true>(vector, length, direction, head.pitch)
                           : write_normalised<false>(vector, length, direction, head.pitch);
}

// Directions of rows, and of the classes of the first chunk: there are some where products are rounded.
struct Directions {
    bf16 *rows, *classes;
    u32 count;  // classes of the chunk

    // Lines of so many vectors.
    __device__ __forceinline__ u32 lines(u32 vectors) const { return rows ? to_eight(vectors) : vectors; }
};

// A warp for each row, which writes its terms, and one for each class of the first chunk, which writes its inverse norm;
// both write their directions, if there are any.
__device__ __forceinline__ void forward_rows(const Head &head, const Operands &in, RowTerms *terms,
                                             float *inverse_norm, const Directions &to) {
    u32 at = global_thread() / WARP, rows = to.lines(head.batch);
    bool is_row = at < rows;
    u32 line = is_row ? at : at - rows, count = is_row ? head.batch : to.count;
    if (line >= to.lines(count)) return;
    double norm = write_direction(head, is_row ? in.embedding : in.weight, is_row ? to.rows : to.classes, count, line);
    if (line >= count || threadIdx.x % WARP != 0) return;
    float inverse = 1 / float(norm);
    if (is_row) terms[line] = {row_factor(head, norm), head.rounded ? 1.0f : inverse, in.labels[line], 0};
    else inverse_norm[line] = inverse;
}

// Takes note of the class `at` of a row, of its product with the embedding as it makes a logit and as it makes a cosine;
// classes from `end` on are none. Returns the logit; of none, and of the target, which the merge adds, one that makes no
// exponential.
__device__ __forceinline__ float see_class(const Head &head, const RowTerms &row, float product, float cosine, u32 at,
                                           u32 end, float bias, Online &online) {
    float logit = other_logit(head, row.factor * product, cosine * row.cosine);
    bool is_other = at != row.label && at < end;
    if (is_other) {
        online.rival = larger(online.rival, logit);
        online.rival_cosine = larger(online.rival_cosine, cosine);
    }
    if (BENDS_OTHERS && head.link == LINK_BINARY) {
        online.largest += is_other ? sigmoid(logit + bias) : 0.0f;
        online.sum += is_other ? softplus(logit + bias) : 0.0f;
    }
    return is_other ? logit : LOWEST;
}

// What the lanes that hold one row have seen, in each of them; but for sums of exponentials, which are still to be taken
// of differences from the largest, which is that of the rivals.
template <int LANES>
__device__ __forceinline__ void join_lanes(const Head &head, Online &online) {
    online.rival = row_max<LANES>(online.rival);
    online.rival_cosine = row_max<LANES>(online.rival_cosine);
    if (BENDS_OTHERS && head.link == LINK_BINARY) {
        online.largest = row_sum<LANES>(online.largest);
        online.sum = row_sum<LANES>(online.sum);
    } else {
        online.largest = online.rival;
    }
}

// The softmax of one row over a warp's classes of a tile but the target, in each of the lanes that hold the row; classes
// from `end` on are none. Where there is no class at all the sum is one of differences from LOWEST, which count for nothing
// when they are merged.
template <class Tile>
__device__ __forceinline__ Online tile_softmax(const Head &head, const RowTerms &row,
                                               const float (&products)[TILE_OF_THREAD], const ClassTerms<Tile> &terms,
                                               u32 first_class, u32 end, float bias) {
    Online online = nothing_seen(head);
    float logits[TILE_OF_THREAD];
#pragma unroll
    for (int j = 0; j < TILE_OF_THREAD; ++j)
        logits[j] = see_class(head, row, products[j] * terms.logit(head, j), products[j] * terms.cosine(j),
                              first_class + Tile::column(j), end, bias, online);
    join_lanes<Tile::LANES>(head, online);
    if (BENDS_OTHERS && head.link == LINK_BINARY) return online;
#pragma unroll
    for (int j = 0; j < TILE_OF_THREAD; ++j) online.sum += expf(logits[j] - online.largest);
    online.sum = row_sum<Tile::LANES>(online.sum);
    return online;
}

// A row's cosines of a tile to its row of those that are kept, [to_eight(C)].
template <class Tile>
__device__ __forceinline__ void keep_cosines(const Head &head, const RowTerms &row,
                                             const float (&products)[TILE_OF_THREAD], const ClassTerms<Tile> &terms,
                                             u32 first_class, Cosine *kept) {
    constexpr int GROUP = Tile::GROUP;
#pragma unroll
    for (int j = 0; j < TILE_OF_THREAD; j += GROUP) {
        Group<Cosine, GROUP> group;
#pragma unroll
        for (int k = 0; k < GROUP; ++k)
            group.values[k] = Cosine::of(products[j + k] * terms.cosine(j + k) * row.cosine);
        u32 at = first_class + Tile::column(j);
        if (at < to_eight(head.classes)) *reinterpret_cast<Group<Cosine, GROUP> *>(kept + at) = group;
    }
}

// What is known of one row from different classes, as one.
__device__ __forceinline__ Online merged(const Head &head, const Online &a, const Online &b) {
    if (BENDS_OTHERS && head.link == LINK_BINARY)
        return {a.largest + b.largest, a.sum + b.sum, larger(a.rival, b.rival), larger(a.rival_cosine, b.rival_cosine)};
    float largest = larger(a.largest, b.largest);
    return {largest, a.sum * expf(a.largest - largest) + b.sum * expf(b.largest - largest), larger(a.rival, b.rival),
            larger(a.rival_cosine, b.rival_cosine)};
}

// Softmaxes of the block's rows over the tiles of its split of a chunk of classes, partial [N, splits · PARTS]: that of
// the chunks before, unless this is the first, goes on. kept [N, to_eight(C)], if there is one. Grid: (splits, tiles of
// rows).
template <class Tile>
__device__ __forceinline__ void forward_tiles(const Head &head, const TileOperands<typename Tile::Element> &in,
                                              const RowTerms *terms, const float *inverse_norm, Online *partial,
                                              Cosine *kept, bool is_first) {
    u32 first_row = blockIdx.y * TILE_ROWS, splits = gridDim.x;
    u32 tiles = (in.count + TILE_CLASSES - 1) / TILE_CLASSES;
    u32 end = u64(tiles) * (blockIdx.x + 1) / splits;
    int lane = threadIdx.x % Tile::LANES;
    // The lanes that hold the same eight rows share out their softmaxes.
    Online online[TILE_OF_THREAD / Tile::LANES];
#pragma unroll
    for (Online &one : online) one = nothing_seen(head);
    float bias = BENDS_OTHERS && head.link == LINK_BINARY ? in.bias[0] : 0.0f;
    for (u32 tile = u64(tiles) * blockIdx.x / splits; tile < end; ++tile) {
        u32 first_class = in.first + tile * TILE_CLASSES, end_class = in.first + in.count;
        Products products = {};
        Tile::products(head, in, first_row, tile * TILE_CLASSES, products);
        ClassTerms<Tile> of_class(head, inverse_norm, first_class, end_class);
#pragma unroll
        for (int i = 0; i < TILE_OF_THREAD; ++i) {
            u32 row = min(first_row + Tile::row(i), head.batch - 1);
            RowTerms of_row = terms[row];
            Online part = tile_softmax<Tile>(head, of_row, products[i], of_class, first_class, end_class, bias);
            Online &mine = online[i / Tile::LANES];
            if (i % Tile::LANES == lane) mine = merged(head, mine, part);
            if (kept && row == first_row + Tile::row(i))
                keep_cosines<Tile>(head, of_row, products[i], of_class, first_class,
                                   kept + u64(row) * to_eight(head.classes));
        }
    }
#pragma unroll
    for (int i = 0; i < TILE_OF_THREAD; ++i) {
        u32 row = first_row + Tile::row(i);
        if (i % Tile::LANES != lane || row >= head.batch) continue;
        Online &whole = partial[(u64(row) * splits + blockIdx.x) * Tile::PARTS + Tile::part()];
        Online mine = online[i / Tile::LANES];
        whole = is_first ? mine : merged(head, whole, mine);
    }
}

// Merges the splits of a row in fixed order, adds the target, and ends it; writes the slopes that a backward pass begins
// with. A warp a row.
__device__ __forceinline__ void forward_merge(const Head &head, const Operands &in, const Online *partial,
                                              const Results &out, Slopes *slopes, u32 splits) {
    u32 row = global_thread() / WARP, lane = threadIdx.x % WARP;
    if (row >= head.batch) return;
    Online online = nothing_seen(head);
    for (u32 split = lane; split < splits; split += WARP) online = merged(head, online, partial[u64(row) * splits + split]);
    if (head.link == LINK_BINARY) {
        online.sum = warp_sum(online.sum);
        online.largest = warp_sum(online.largest);
    } else {
        float largest = warp_max(online.largest);
        online.sum = warp_sum(online.sum * expf(online.largest - largest));
        online.largest = largest;
    }
    online.rival = warp_max(online.rival);
    online.rival_cosine = warp_max(online.rival_cosine);
    Target entry = target_of(head, in, row);
    if (head.link == LINK_SOFTMAX) {
        float penalised = entry.scale * entry.bent.value, largest = larger(online.largest, penalised);
        online.sum = online.sum * expf(online.largest - largest) + expf(penalised - largest);
        online.largest = largest;
    }
    if (head.rounded) online.rival_cosine *= float(entry.norm);
    if (lane != 0) return;
    u32 count = in.count[0];
    float log_sum_exp = write_row(head, out, entry, online, row, row < count);
    slopes[row] = slopes_of(head, entry, log_sum_exp, row, count);
}

// What a backward pass does whose forward pass has left nothing: a warp for each row, which writes its slopes; directions
// as forward_rows does.
__device__ __forceinline__ void backward_rows(const Head &head, const Operands &in, const float *log_sum_exp,
                                              Slopes *slopes, const Directions &to) {
    u32 row = global_thread() / WARP, rows = to_eight(head.batch);
    if (to.rows && row < rows) write_direction(head, in.embedding, to.rows, head.batch, row);
    else if (to.rows && row - rows < to_eight(to.count))
        write_direction(head, in.weight, to.classes, to.count, row - rows);
    if (row >= head.batch) return;
    Target entry = target_of(head, in, row);
    if (threadIdx.x % WARP == 0) slopes[row] = slopes_of(head, entry, log_sum_exp[row], row, in.count[0]);
}

// Rows of the gradients of the products of so many classes: bf16 ones are filled up with zeros.
template <class T>
__device__ __forceinline__ u32 gradients_pitch(u32 classes) { return sizeof(T) == 2 ? to_eight(classes) : classes; }

// Stores neighbouring gradients of a row; those past the last class are zeros of the padding, or not there.
template <class T, int LENGTH>
__device__ __forceinline__ void store_gradients(T *row, u32 at, u32 pitch, const Group<T, LENGTH> &group) {
    if (sizeof(T) == 2 || pitch % LENGTH == 0) {
        if (at < pitch) *reinterpret_cast<Group<T, LENGTH> *>(row + at) = group;
    } else {
#pragma unroll
        for (int k = 0; k < LENGTH; ++k)
            if (at + k < pitch) row[at + k] = group.values[k];
    }
}

// The gradients of the products of a chunk of classes: gradients [N, gradients_pitch], of which a block writes a tile.
// Grid: (tiles of classes, tiles of rows).
template <class Tile>
__device__ __forceinline__ void backward_tiles(const Head &head, const TileOperands<typename Tile::Element> &in,
                                               const u32 *labels, const u32 *count, const float *log_sum_exp,
                                               const float *inverse_norm, const Slopes *slopes, const float *norm,
                                               typename Tile::Element *gradients) {
    using T = typename Tile::Element;
    constexpr int GROUP = Tile::GROUP;
    u32 first_row = blockIdx.y * TILE_ROWS, first_in_chunk = blockIdx.x * TILE_CLASSES;
    u32 first_class = in.first + first_in_chunk, end = in.first + in.count, valid = count[0];
    Products products = {};
    Tile::products(head, in, first_row, first_in_chunk, products);
    ClassTerms<Tile> terms(head, inverse_norm, first_class, end);
    u32 pitch = gradients_pitch<T>(in.count);
    float bias = BENDS_OTHERS && head.link == LINK_BINARY ? in.bias[0] : 0.0f;
#pragma unroll
    for (int i = 0; i < TILE_OF_THREAD; ++i) {
        u32 row = first_row + Tile::row(i);
        if (row >= head.batch) continue;
        Slopes slope = slopes[row];
        float normaliser = log_sum_exp[row];
        u32 label = labels[row];
        float to_cosine = BENDS_OTHERS && !ROUNDED<Tile> ? 1 / norm[row] : 1.0f;
#pragma unroll
        for (int j = 0; j < TILE_OF_THREAD; j += GROUP) {
            Group<T, GROUP> group;
#pragma unroll
            for (int k = 0; k < GROUP; ++k) {
                float factor = terms.logit(head, j + k);
                float product = products[i][j + k] * factor;
                float others = other_slope(head, slope, slope.factor * product, product * to_cosine, normaliser, bias);
                u32 at = first_class + Tile::column(j + k);
                float gradient = at == label ? slope.target : others;
                group.values[k] = from_float<T>(row < valid && at < end ? gradient * factor : 0);
            }
            store_gradients(gradients + u64(row) * pitch, first_in_chunk + Tile::column(j), pitch, group);
        }
    }
}

// The same from kept cosines. Grid: any, a thread takes four classes of a row at a time.
template <class T>
__device__ __forceinline__ void backward_kept(const Head &head, const u32 *labels, const u32 *count,
                                              const float *log_sum_exp, const float *norm, const float *inverse_norm,
                                              const Slopes *slopes, const Cosine *kept, T *gradients, u32 first,
                                              u32 classes) {
    constexpr bool OF_DIRECTIONS = sizeof(T) == 2;
    bool inner = head.scale == INNER_PRODUCT;
    u32 pitch = gradients_pitch<T>(classes), groups = (pitch + 3) / 4, valid = count[0];
    for (u32 index = global_thread(); index < head.batch * groups; index += global_threads()) {
        u32 row = index / groups, at = index % groups * 4;
        const Cosine *from = kept + u64(row) * to_eight(head.classes) + first + at;
        Group<Cosine, 4> cosines = *reinterpret_cast<const Group<Cosine, 4> *>(from);
        Slopes slope = slopes[row];
        float scale = OF_DIRECTIONS ? slope.factor : slope.factor * norm[row];
        u32 label = labels[row];
        Group<T, 4> group;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            bool present = row < valid && at + k < classes;
            float inverse = present ? inverse_norm[first + at + k] : 1;
            float omega = inner ? 1 / inverse : 1;
            float softmax = expf(scale * omega * cosines.values[k].value() - log_sum_exp[row]);
            float gradient = first + at + k == label ? slope.target : slope.weight * softmax;
            float factor = OF_DIRECTIONS ? omega : class_factor(head, inverse);
            group.values[k] = from_float<T>(present ? gradient * factor : 0);
        }
        store_gradients(gradients + u64(row) * pitch, at, pitch, group);
    }
}

// Threads of a block that adds up a row.
constexpr u32 EMBEDDING_THREADS = 128;

// Σ over parts, in order, of the four values at `from` in each.
template <bool VECTORS>
__device__ __forceinline__ Four sum_of_parts(const float *from, u64 stride, u32 parts, int valid) {
    Four sum = {};
#pragma unroll 8
    for (u32 part = 0; part < parts; ++part) {
        Four values = read_four(from + part * stride, valid, VECTORS);
#pragma unroll
        for (int i = 0; i < 4; ++i) sum.values[i] += values.values[i];
    }
    return sum;
}

// Adds a chunk's part of d_embedding, parts [splits, N, pitch], in order; of rounded products it is that of ŵ, and wants
// 1 / ‖x‖. After the last chunk, what is along x. A block a row.
__device__ __forceinline__ void embedding_gradient(const Head &head, const Operands &in, const float *norm,
                                                   const float *inverse_norm, const Slopes *slopes,
                                                   const float *parts, float *d_embedding, u32 splits, bool is_first,
                                                   bool is_last) {
    u32 row = blockIdx.x, dimension = head.dimension;
    bool vectors = dimension % 4 == 0;
    const float *x = in.embedding + u64(row) * dimension;
    float *d_x = d_embedding + u64(row) * dimension, projection = 0, scale = head.rounded ? 1 / norm[row] : 1;
    for (u32 d = threadIdx.x * 4; d < dimension; d += EMBEDDING_THREADS * 4) {
        Four before = is_first ? Four{} : four_of(d_x, d, dimension), of_x = four_of(x, d, dimension);
        const float *from = parts + u64(row) * head.pitch + d;
        u64 stride = u64(head.batch) * head.pitch;
        int valid = head.pitch - d;
        Four sum = head.pitch % 4 == 0 ? sum_of_parts<true>(from, stride, splits, valid)
                                       : sum_of_parts<false>(from, stride, splits, valid);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            sum.values[i] = before.values[i] + sum.values[i] * scale;
            projection += sum.values[i] * of_x.values[i];
        }
        write_four(d_x + d, sum, int(dimension) - int(d), vectors);
    }
    if (!is_last) return;
    Slopes slope = slopes[row];
    float radial = radial_of(head, slope, norm[row], block_sum<EMBEDDING_THREADS>(projection));
    u32 label = in.labels[row];
    const float *w = in.weight + u64(label) * dimension;
    float pull = slope.pull * inverse_norm[label];
    bool valid = row < in.count[0];
    for (u32 d = threadIdx.x * 4; d < dimension; d += EMBEDDING_THREADS * 4) {
        Four sum = four_of(d_x, d, dimension), of_x = four_of(x, d, dimension), of_w = four_of(w, d, dimension);
#pragma unroll
        for (int i = 0; i < 4; ++i)
            sum.values[i] = valid ? sum.values[i] + radial * of_x.values[i] + pull * of_w.values[i] : 0.0f;
        write_four(d_x + d, sum, int(dimension) - int(d), vectors);
    }
}

// The gradient of the bias from the rows' parts. By one warp.
__device__ __forceinline__ void bias_gradient(const Head &head, const Slopes *slopes, float *d_bias) {
    float sum = 0;
    for (u32 row = threadIdx.x; row < head.batch; row += WARP) sum += slopes[row].bias;
    sum = warp_sum(sum);
    if (threadIdx.x == 0) d_bias[0] = sum;
}
