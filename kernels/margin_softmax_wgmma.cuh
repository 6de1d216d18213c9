// The tiles of the head of many classes by the warpgroups of sm_90a: products x̂ · ŵ of directions rounded to bf16, tile by
// tile as matrix_product_wgmma.cuh makes them, and what becomes of a tile in the registers it is left in.
//
// Rows of a tile are embeddings, columns are classes. A thread holds two rows of it, four neighbouring lanes hold the same
// ones: a row's softmax needs no more than two shuffles. A chunk of classes is
//   forward    one launch: partial softmaxes of each row and tile
//   backward   the products again, as gradients [N, chunk] in bf16, which stay in the second-level cache, and the columns'
//              sums of gradient · product, Σ_d d_ŵ ŵ; gradientsᵀ · x̂, finished to d_w as it is stored, since that sum is
//              what projects it; gradients · ŵ for d_x, added to the parts of the chunks before, which are added up last
//
// What bounds it, at N = 256, C = 10,572, D = 512 on an H200:
//   products       4 · 2 N C D = 11 GFLOP, one of the four to make the tiles again: 16 µs at 700 TFLOP/s
//   memory         w read in fp32, ŵ written; w read once more where its gradient is finished, d_w written: 76 MB, 17 µs at
//                  4.3 TB/s. ŵ (11 MB) and gradients (5 MB) then go through the second-level cache. To make ŵ again
//                  backward would be 33 MB more, 8 µs and a launch
//   second-level   tiles 22 MB forward and 28 MB backward; the gradient of w 104 MB, 15 µs at 6.8 TB/s: a tile of 128 x 256
//   cache          reads 64 KB each of gradients and x̂, 128 KB of w and writes as many, and of 168 the busiest SM has two;
//                  the parts of d_x 55 MB, 8 µs, of 8 tiles of 128 x 128 in 16 parts
//   a tile         of 128 x 256 is 8,192 cycles of products at D = 512. Its end, not overlapped where there is but one
//                  tile for each SM (84 of 128 x 256 here): 128 values a thread of about 15 instructions forward, 20
//                  backward, 3,800 and 5,100 issue slots of each scheduler; 32,768 exponentials, 2,048 cycles
//   registers      128 sums a thread, in which logits and gradients take their place; 232 as in any product
//   launches       3 forward, 4 backward, which takes slopes and directions that the forward pass has left; one more for
//                  the directions of each further chunk, whose parts of d_x need no launch of their own. With mma.sync
//                  there are 3 and 11 here, as chunks are of 8,192 classes backward
// Of 10⁶ classes at N = 512 a chunk is 32,768: each of its four products takes 24 µs on tensor cores, and 21, 26, 41 and 24
// of the second-level cache; from memory, if that cache held nothing from one launch to the next, 9, 16, 38 and 23. So
// longer chunks cost nothing but memory, and shorter ones launches (2 µs each) and the parts of d_x (16 of N D, 17 MB read
// and written, 8 µs). Directions, w read and ŵ written, are 23 µs from memory, and made twice: ŵ of all classes is 1 GB.
// This is arithmetic: no GPU has run these kernels yet.
#pragma once
#include "margin_softmax_large.cuh"
#include "matrix_product_wgmma.cuh"

// Columns of a tile that go to memory at once: a line of 128 bytes of each row.
constexpr u32 BOX_COLUMNS = 64, BOX_BYTES = 16 * LINE_BYTES;
static_assert(2 * BOX_BYTES <= EXCHANGE_BYTES, "two boxes a warp");
// As store_sums has it: all of a tile of 128 x 256, and four columns of eight rows.
constexpr u32 MOST_HELD = 160;

// Where the thread's value `k` of the row `half` of its two lies in the sums, and in which column, counted from its first.
__device__ __forceinline__ constexpr u32 place_of_sum(u32 k, u32 half) { return k / 2 * 4 + half * 2 + k % 2; }
__device__ __forceinline__ constexpr u32 column_of_sum(u32 k) { return k / 2 * 8 + k % 2; }
__device__ __forceinline__ u32 first_column() { return threadIdx.x % 4 * 2; }

// Columns from `first` on that lie before `end`.
__device__ __forceinline__ u32 columns_before(u32 end, u32 first) { return end > first ? end - first : 0; }

// eᵘ for sums of many, and for what is rounded to bf16: a relative error of about 2⁻²² · (1 + |u|), and 0 far below 0.
__device__ __forceinline__ float exponential(float u) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(u * 1.44269504f));
    return power;
}

// What makes a logit of a product of directions, besides the row's factor: ‖w‖ where weights are not normalised, INNER.
template <bool INNER>
__device__ __forceinline__ float norm_factor(const float *inverse_norm, u32 at, u32 end) {
    return INNER && at < end ? __fdividef(1.0f, inverse_norm[at]) : 1.0f;
}

// Stores a warp's 16 rows of BOX_COLUMNS columns of 16 bits each, of which bits[4q + 2c + h] has this thread's two of row
// half h in columns 16q + 8c and on. `box` is one of two that take turns, aligned to LINES_BYTES.
__device__ __forceinline__ void store_rows(const u32 (&bits)[16], u32 box, const TensorMap &map, u32 column, u32 row) {
    u32 lane = threadIdx.x % WARP, matrix = lane / 8, line = lane % 8;
    u32 at = box + (matrix % 2 * 8 + line) * LINE_BYTES + (matrix / 2 ^ line) * 16;
    if (lane == 0) wait_for_stores<1>();
    __syncwarp();
#pragma unroll
    for (u32 i = 0; i < 4; ++i) {
        u32 matrices[4] = {bits[i * 4], bits[i * 4 + 1], bits[i * 4 + 2], bits[i * 4 + 3]};
        store_matrices(at ^ i * 32, matrices);
    }
    writes_are_ready();
    __syncwarp();
    if (lane != 0) return;
    int to[2] = {int(column), int(row)};
    store_box(map, to, box);
    commit_stores();
}

// Has columns that are no classes count for nothing, in a tile that has such: products so small that their logits make no
// exponentials. Where a margin bends logits it may lift these, so that they are left out one by one.
template <u32 COUNT>
__device__ __forceinline__ void leave_out(float (&sum)[COUNT], u32 end) {
#pragma unroll
    for (u32 k = 0; k < COUNT / 2; ++k) {
        if (column_of_sum(k) < end) continue;
        sum[place_of_sum(k, 0)] = sum[place_of_sum(k, 1)] = LOWEST;
    }
}

// The softmax of one of a thread's rows over a tile's classes but the target; logits take the place of the products. The same
// in each of the lanes that hold the row. Classes are counted from the thread's first: the label, those before `end`.
template <bool INNER, u32 COUNT>
__device__ __forceinline__ Online row_softmax(const Head &head, const RowTerms &row, float (&sum)[COUNT], u32 half,
                                              const float *inverse_norm, u32 end, float bias) {
    Online online = nothing_seen(head);
#pragma unroll
    for (u32 k = 0; k < COUNT / 2; ++k) {
        float &value = sum[place_of_sum(k, half)];
        u32 at = column_of_sum(k);
        float product = value * norm_factor<INNER>(inverse_norm, at, end);
        value = see_class(head, row, product, value, at, BENDS_OTHERS ? end : COUNT * 2, bias, online);
    }
    join_lanes<4>(head, online);
    if (BENDS_OTHERS && head.link == LINK_BINARY) return online;
#pragma unroll
    for (u32 k = 0; k < COUNT / 2; ++k) online.sum += exponential(sum[place_of_sum(k, half)] - online.largest);
    online.sum = row_sum<4>(online.sum);
    return online;
}

// What the forward pass is told of a chunk of classes.
struct ForwardChunk {
    u32 first;  // class
    u32 parts;  // softmaxes of a row in `partial`: tiles of the longest chunk
    bool keeps; // whether cosines are kept
};

// Softmaxes of each row over each tile of a chunk of classes, partial [N, parts]: that of the chunks before, unless this
// is the first, goes on. kept [N, to_eight(C)] through its map. Grid and block of multiply_tiles.
template <u32 COLUMNS>
__device__ __forceinline__ void forward_tiles_wgmma(const TensorMap &rows, const TensorMap &classes,
                                                    const TensorMap &kept, const Head &head, const RowTerms *terms,
                                                    const float *inverse_norm, const float *bias_of, Online *partial,
                                                    const ForwardChunk &chunk, const MatrixProduct &p) {
    using Sums = float[COLUMNS / 2];
    multiply_tiles<bf16, NT, COLUMNS>(rows, classes, p, [&](const WgmmaWork &work, Sums &sum, u8 *exchange) {
        u32 lane = threadIdx.x % WARP, first_row = work.row + threadIdx.x / WARP * 16;
        u32 first_class = chunk.first + work.column, end = chunk.first + p.columns;
        if (first_row >= head.batch) return;
        float bias = BENDS_OTHERS && head.link == LINK_BINARY ? bias_of[0] : 0.0f;
#pragma unroll
        for (u32 part = 0; part < COLUMNS / BOX_COLUMNS; ++part) {
            u32 column = first_class + part * BOX_COLUMNS, bits[16];
            if (!chunk.keeps || column >= end) continue;
#pragma unroll
            for (u32 i = 0; i < 16; ++i) {
                const float *pair = sum + part * BOX_COLUMNS / 2 + i * 2;
                bits[i] = u16(Cosine::of(pair[0]).steps) | u32(u16(Cosine::of(pair[1]).steps)) << 16;
            }
            store_rows(bits, shared_address(exchange) + part % 2 * BOX_BYTES, kept, column, first_row);
        }
        u32 first = first_class + first_column(), classes = columns_before(end, first);
        if (!BENDS_OTHERS && first_class + COLUMNS > end) leave_out(sum, classes);
        bool inner = !BENDS_OTHERS && head.scale == INNER_PRODUCT;
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            u32 row = first_row + half * 8 + lane / 4;
            RowTerms of_row = terms[min(row, head.batch - 1)];
            of_row.label -= first;
            Online online = inner ? row_softmax<true>(head, of_row, sum, half, inverse_norm + first, classes, bias)
                                  : row_softmax<false>(head, of_row, sum, half, nullptr, classes, bias);
            if (row >= head.batch || lane % 4 != 0) continue;
            Online &whole = partial[u64(row) * chunk.parts + work.column / COLUMNS];
            whole = chunk.first == 0 ? online : merged(head, whole, online);
        }
    });
    wait_for_stores<0>();
}

// Sums of 2 COUNT values over the eight lanes lane % 4 + 4i, where COUNT is 8: a lane ends up with number
// 2 · (lane / 4) and the next.
template <u32 COUNT = 8>
__device__ __forceinline__ float2 column_sums(float (&values)[16]) {
    bool upper = threadIdx.x & (COUNT * 2);
#pragma unroll
    for (u32 i = 0; i < COUNT; ++i) {
        float kept = upper ? values[COUNT + i] : values[i], given = upper ? values[i] : values[COUNT + i];
        values[i] = kept + __shfl_xor_sync(0xffffffffu, given, COUNT * 2);
    }
    if constexpr (COUNT > 2) return column_sums<COUNT / 2>(values);
    else return make_float2(values[0], values[1]);
}

// What the gradients of a thread's two rows of a tile come from. Classes are counted from the thread's first.
struct GradientRows {
    Slopes slope[2];
    float log_sum_exp[2], along[2];  // `along`: of the target, where weights are not normalised
    u32 label[2], end[2];            // classes from `end` on have no gradient; none has in a row without
    float bias;
};

// The gradients of a thread's products of BOX_COLUMNS classes in bf16, as store_rows takes them; returns what they give
// along ŵ, the sums of two classes over the warp's rows. Columns from `end` on are no classes.
template <bool INNER>
__device__ __forceinline__ float2 gradients_of(const Head &head, const GradientRows &rows, const float *products,
                                               const float *inverse_norm, u32 first, u32 end, u32 (&bits)[16]) {
    float terms[16];
#pragma unroll
    for (u32 i = 0; i < 16; ++i) {
        u32 half = i % 2, k = i / 2 * 2;
        const Slopes &slope = rows.slope[half];
        float gradient[2];
#pragma unroll
        for (u32 j = 0; j < 2; ++j) {
            u32 at = first + column_of_sum(k + j);
            float factor = norm_factor<INNER>(inverse_norm, at, end);
            float product = products[place_of_sum(k + j, half)] * factor, straight = slope.factor * product, others;
            if constexpr (BENDS_OTHERS)
                others = other_slope(head, slope, straight, product, rows.log_sum_exp[half], rows.bias);
            else others = slope.weight * exponential(straight - rows.log_sum_exp[half]);
            gradient[j] = (at == rows.label[half] ? slope.target : others) * factor;
            if (at >= rows.end[half]) gradient[j] = 0;
        }
        bits[i] = pack_bf16(gradient[0], gradient[1]);
#pragma unroll
        for (u32 j = 0; j < 2; ++j) {
            u32 at = first + column_of_sum(k + j);
            float rounded = __uint_as_float(j == 0 ? bits[i] << 16 : bits[i] & 0xffff0000u);
            float term = INNER ? at == rows.label[half] ? rows.along[half] : 0.0f
                               : -rounded * products[place_of_sum(k + j, half)];
            terms[k + j] = half == 0 ? term : terms[k + j] + term;
        }
    }
    return column_sums(terms);
}

// The gradients of the products of a chunk of classes, [N, to_eight(classes)] through their map, and what they give along
// ŵ, along [N / 64 rounded up, to_eight(classes)]: sums over 64 rows each. Grid and block of multiply_tiles.
//
// Along ŵ is −Σ_i g_ij x̂_i · ŵ_j, of gradients as they are rounded: with it the gradient is one of ŵ. Where weights are not
// normalised it is what bending the targets' logits gives instead, and nothing in the gradient of Caffe.
template <u32 COLUMNS>
__device__ __forceinline__ void backward_tiles_wgmma(const TensorMap &rows, const TensorMap &classes,
                                                     const TensorMap &gradients, const Head &head, const u32 *labels,
                                                     const u32 *count, const float *log_sum_exp, const float *norm,
                                                     const float *inverse_norm, const float *bias_of,
                                                     const Slopes *slopes, float *along, u32 first,
                                                     const MatrixProduct &p) {
    using Sums = float[COLUMNS / 2];
    constexpr u32 BOXES = COLUMNS / BOX_COLUMNS;
    multiply_tiles<bf16, NT, COLUMNS>(rows, classes, p, [&](const WgmmaWork &work, Sums &sum, u8 *exchange) {
        u32 warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, first_row = work.row + warp * 16;
        u32 group = warp / 4, lines = to_eight(p.columns);
        u32 first_class = first + work.column + first_column(), end = columns_before(first + p.columns, first_class);
        // The rows of a warpgroup are there together, or none.
        if (work.row + group * 64 >= head.batch) return;
        GradientRows of_rows;
        of_rows.bias = BENDS_OTHERS && head.link == LINK_BINARY ? bias_of[0] : 0.0f;
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            u32 row = first_row + half * 8 + lane / 4, there = min(row, head.batch - 1);
            bool has_gradient = row < min(count[0], head.batch);
            of_rows.slope[half] = slopes[there];
            of_rows.log_sum_exp[half] = log_sum_exp[there];
            of_rows.label[half] = labels[there] - first_class;
            of_rows.end[half] = has_gradient ? end : 0;
            of_rows.along[half] = has_gradient ? slopes[there].along * norm[there] : 0.0f;
        }
        float2 of_columns[BOXES];
#pragma unroll
        for (u32 part = 0; part < BOXES; ++part) {
            u32 bits[16], column = work.column + part * BOX_COLUMNS;
            const float *products = sum + part * (BOX_COLUMNS / 2);
            of_columns[part] =
                !BENDS_OTHERS && head.scale == INNER_PRODUCT
                    ? gradients_of<true>(head, of_rows, products, inverse_norm + first_class, part * BOX_COLUMNS, end, bits)
                    : gradients_of<false>(head, of_rows, products, nullptr, part * BOX_COLUMNS, end, bits);
            if (head.gradient == GRADIENT_CAFFE) of_columns[part] = make_float2(0, 0);
            if (column < lines && first_row < head.batch)
                store_rows(bits, shared_address(exchange) + part % 2 * BOX_BYTES, gradients, column, first_row);
        }
        // The four warps' sums, where their boxes were.
        if (lane == 0) wait_for_stores<0>();
        __syncwarp();
        float2 *sums = reinterpret_cast<float2 *>(exchange);
#pragma unroll
        for (u32 part = 0; part < BOXES; ++part) sums[part * WARP + lane] = of_columns[part];
        sync_threads(1 + group, WARPGROUP);
        const float *of_warps = reinterpret_cast<const float *>(exchange - warp % 4 * EXCHANGE_BYTES);
        float *to = along + u64(work.row / 64 + group) * lines + work.column;
#pragma unroll
        for (u32 column = threadIdx.x % WARPGROUP; column < COLUMNS; column += WARPGROUP) {
            float total = 0;
#pragma unroll
            for (u32 i = 0; i < 4; ++i) total += of_warps[i * (EXCHANGE_BYTES / 4) + column];
            if (work.column + column < lines) to[column] = total;
        }
        sync_threads(1 + group, WARPGROUP);
    });
    wait_for_stores<0>();
}

// d_w of a class from its sum Σ_i g_i x̂_i: (sum + along · ŵ) / ‖w‖, of four columns at a time. ŵ is not the rounded one: where
// the sum is nearly along it, what is left would be wrong by more than products are.
template <bool VECTORS>
struct WeightEpilogue {
    static constexpr bool SUMS = false;
    const float *weight;     // [classes, D]
    float *d_weight;         // [classes, D]
    int columns;             // D
    const float2 *terms_of;  // in shared memory, of 16 classes from `first` on: 1 / ‖w‖, and along / ‖w‖²
    u32 first;

    struct Terms {};
    __device__ __forceinline__ Terms terms(int) const { return {}; }

    using Operands = Four;
    __device__ __forceinline__ Operands read(u32 row, int column) const {
        return read_four(weight + u64(row) * columns + column, columns - column, VECTORS);
    }
    __device__ __forceinline__ void write(u32 row, int column, const Terms &, Four value, const Operands &of) const {
        float2 factors = terms_of[row - first];
#pragma unroll
        for (int i = 0; i < 4; ++i) value.values[i] = factors.x * value.values[i] + factors.y * of.values[i];
        write_four(d_weight + u64(row) * columns + column, value, columns - column, VECTORS);
    }
    __device__ __forceinline__ void write(u32 row, int column, const Terms &terms, Four value) const {
        write(row, column, terms, value, read(row, column));
    }
};

// d_weight [classes, D] of a chunk from its gradients [N, to_eight(classes)], embeddings' directions, and what the gradients
// give along ŵ, along [groups, to_eight(classes)]. Grid and block of multiply_tiles.
template <u32 COLUMNS>
__device__ __forceinline__ void backward_weight_wgmma(const TensorMap &gradients, const TensorMap &rows,
                                                      const Head &head, const float *weight,
                                                      const float *inverse_norm, const float *along, float *d_weight,
                                                      u32 groups, const MatrixProduct &p) {
    using Sums = float[COLUMNS / 2];
    __shared__ float2 terms[CONSUMER_WARPS][16];
    multiply_tiles<bf16, TN, COLUMNS>(gradients, rows, p, [&](const WgmmaWork &work, const Sums &sum, u8 *exchange) {
        u32 warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, first = work.row + warp * 16, at = first + lane;
        if (lane < 16 && at < u32(p.rows)) {
            float inverse = inverse_norm[at], total = 0;
#pragma unroll 4
            for (u32 group = 0; group < groups; ++group) total += along[u64(group) * to_eight(p.rows) + at];
            terms[warp][lane] = make_float2(inverse, total * inverse * inverse);
        }
        __syncwarp();
        int dimension = head.dimension;
        if (dimension % 4 == 0) {
            WeightEpilogue<true> epilogue{weight, d_weight, dimension, terms[warp], first};
            store_sums<MOST_HELD>(sum, exchange, epilogue, first, p.rows, work.column, 0);
        } else {
            WeightEpilogue<false> epilogue{weight, d_weight, dimension, terms[warp], first};
            store_sums<MOST_HELD>(sum, exchange, epilogue, first, p.rows, work.column, 0);
        }
        __syncwarp();
    });
}

// Sums of a split of a chunk's classes, of four columns at a time, to those of the chunks before.
struct PartEpilogue {
    static constexpr bool SUMS = false;
    float *part;  // [N, pitch]
    int columns;  // pitch
    bool adds;

    struct Terms {};
    __device__ __forceinline__ Terms terms(int) const { return {}; }

    using Operands = Four;
    __device__ __forceinline__ Operands read(u32 row, int column) const {
        return adds ? read_four(part + u64(row) * columns + column, columns - column, true) : Four{};
    }
    __device__ __forceinline__ void write(u32 row, int column, const Terms &, Four value, const Operands &before) const {
#pragma unroll
        for (int i = 0; i < 4; ++i) value.values[i] += before.values[i];
        write_four(part + u64(row) * columns + column, value, columns - column, true);
    }
    __device__ __forceinline__ void write(u32 row, int column, const Terms &terms, Four value) const {
        write(row, column, terms, value, read(row, column));
    }
};

// What the gradients of a chunk [N, to_eight(classes)] times the classes' directions add to parts [splits, N, pitch]. Grid and
// block of multiply_tiles.
template <u32 COLUMNS>
__device__ __forceinline__ void backward_parts_wgmma(const TensorMap &gradients, const TensorMap &classes, float *parts,
                                                     bool adds, const MatrixProduct &p) {
    using Sums = float[COLUMNS / 2];
    multiply_tiles<bf16, NN, COLUMNS>(gradients, classes, p, [&](const WgmmaWork &work, const Sums &sum, u8 *exchange) {
        PartEpilogue epilogue{parts + u64(work.split) * p.rows * p.columns, p.columns, adds};
        store_sums<MOST_HELD>(sum, exchange, epilogue, work.row + threadIdx.x / WARP * 16, p.rows, work.column, 0);
    });
}
