// The tiles of the head of many classes by the warpgroups of sm_90a: products x̂ · ŵ of directions rounded to bf16, tile by
// tile as matrix_product_wgmma.cuh makes them, and what becomes of a tile in the registers it is left in.
//
// Rows of a tile are embeddings, columns are classes. A thread holds two rows of it, four neighbouring lanes hold the same
// ones: a row's softmax needs no more than two shuffles. A chunk of classes is
//   forward    one launch: partial softmaxes of each row and tile
//   backward   the products again, as gradients [N, chunk] in bf16, which stay in the second-level cache, and the columns'
//              sums of gradient · product, Σ_d d_ŵ ŵ; gradientsᵀ · x̂, finished to d_w as it is stored, since that sum is
//              what projects it; gradients · ŵ for d_x (gemm.cu), whose parts are added up last
//
// What bounds it, at N = 256, C = 10,572, D = 512 on an H100, in cycles of an SM at 1.7 GHz:
//   products       4 · 2 N C D = 11 GFLOP, one of the four to make the tiles again: 16 µs at 700 TFLOP/s
//   bytes          w read twice in fp32 and d_w written, 65 MB: 19 µs at 3.35 TB/s, 15 at 4.3; ŵ (11 MB) and gradients
//                  (5 MB) go through the second-level cache
//   a tile         of 128 x 256 is 8,192 cycles of products at D = 512. Its end, not overlapped where there is but one
//                  tile for each SM (84 of 128 x 256 here): 128 values a thread of about 15 instructions forward, 20
//                  backward, 3,800 and 5,100 issue slots of each scheduler; 32,768 exponentials, 2,048 cycles
//   registers      128 sums a thread, in which logits and gradients take their place; 232 as in any product
//   launches       4 forward, 6 backward for each chunk of up to 16,384 classes
// So about 20 µs of products with their ends, as much of bytes, and the parts of d_x (16 of N D, 8 MB written and read).
#pragma once
#include "margin_softmax_large.cuh"
#include "matrix_product_wgmma.cuh"

// Columns of a tile that go to memory at once: a line of 128 bytes of each row.
constexpr u32 BOX_COLUMNS = 64, BOX_BYTES = 16 * LINE_BYTES;
static_assert(2 * BOX_BYTES <= EXCHANGE_BYTES, "two boxes a warp");

// Where the thread's value `k` of the row `half` of its two lies in the sums, and in which column.
__device__ __forceinline__ constexpr u32 place_of_sum(u32 k, u32 half) { return k / 2 * 4 + half * 2 + k % 2; }
__device__ __forceinline__ u32 column_of_sum(u32 k) { return k / 2 * 8 + threadIdx.x % 4 * 2 + k % 2; }

// ‖w‖ where weights are not normalised: what makes a logit of a product of directions, besides the row's factor.
__device__ __forceinline__ float norm_factor(const Head &head, const float *inverse_norm, u32 at, u32 end) {
    return head.scale == INNER_PRODUCT && at < end ? 1 / inverse_norm[at] : 1.0f;
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

// The softmax of one of a thread's rows over its classes of a tile; logits take the place of the products. The same in
// each of the lanes that hold the row.
template <u32 COUNT>
__device__ __forceinline__ Online row_softmax(const Head &head, const RowTerms &row, float (&sum)[COUNT], u32 half,
                                              const float *inverse_norm, u32 first_class, u32 end, float bias) {
    Online online = nothing_seen(head);
#pragma unroll
    for (u32 k = 0; k < COUNT / 2; ++k) {
        float &value = sum[place_of_sum(k, half)];
        u32 at = first_class + column_of_sum(k);
        float product = value * norm_factor(head, inverse_norm, at, end);
        value = see_class(head, row, product, value, at, end, bias, online);
    }
    join_lanes<4>(head, online);
    if (BENDS_OTHERS && head.link == LINK_BINARY) return online;
#pragma unroll
    for (u32 k = 0; k < COUNT / 2; ++k)
        if (first_class + column_of_sum(k) < end) online.sum += expf(sum[place_of_sum(k, half)] - online.largest);
    online.sum = row_sum<4>(online.sum);
    return online;
}

// What the forward pass is told of a chunk of classes.
struct ForwardChunk {
    u32 first;  // class
    u32 parts;  // softmaxes of a row in `partial`: tiles of the longest chunk
    u32 keeps;  // whether cosines are kept
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
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            u32 row = first_row + half * 8 + lane / 4;
            RowTerms of_row = terms[min(row, head.batch - 1)];
            Online online = row_softmax(head, of_row, sum, half, inverse_norm, first_class, end, bias);
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
        u32 group = warp / 4, first_class = first + work.column, end = first + p.columns, lines = to_eight(p.columns);
        // The rows of a warpgroup are there together, or none.
        if (work.row + group * 64 >= head.batch) return;
        float bias = BENDS_OTHERS && head.link == LINK_BINARY ? bias_of[0] : 0.0f;
        bool inner = head.scale == INNER_PRODUCT, projects = !inner && head.gradient != GRADIENT_CAFFE;
        Slopes slope[2];
        float normaliser[2], target_along[2];
        u32 label[2];
        bool has_gradient[2];
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            u32 row = first_row + half * 8 + lane / 4, there = min(row, head.batch - 1);
            slope[half] = slopes[there];
            normaliser[half] = log_sum_exp[there];
            label[half] = labels[there];
            has_gradient[half] = row < min(count[0], head.batch);
            target_along[half] = inner && has_gradient[half] ? slope[half].along * norm[there] : 0.0f;
        }
        float2 of_columns[BOXES];
#pragma unroll
        for (u32 part = 0; part < BOXES; ++part) {
            u32 bits[16];
            float terms[16] = {};
#pragma unroll
            for (u32 i = 0; i < 16; ++i) {
                u32 half = i % 2, k = part * (BOX_COLUMNS / 4) + i / 2 * 2;
                float gradient[2];
#pragma unroll
                for (u32 j = 0; j < 2; ++j) {
                    u32 at = first_class + column_of_sum(k + j);
                    float factor = norm_factor(head, inverse_norm, at, end);
                    float product = sum[place_of_sum(k + j, half)] * factor;
                    float others = other_slope(head, slope[half], slope[half].factor * product, product,
                                               normaliser[half], bias);
                    gradient[j] = (at == label[half] ? slope[half].target : others) * factor;
                    if (!has_gradient[half] || at >= end) gradient[j] = 0;
                    if (inner && at == label[half]) terms[i / 2 * 2 + j] += target_along[half];
                }
                bits[i] = pack_bf16(gradient[0], gradient[1]);
                if (projects) {
                    terms[i / 2 * 2] -= __uint_as_float(bits[i] << 16) * sum[place_of_sum(k, half)];
                    terms[i / 2 * 2 + 1] -= __uint_as_float(bits[i] & 0xffff0000u) * sum[place_of_sum(k + 1, half)];
                }
            }
            u32 column = work.column + part * BOX_COLUMNS;
            if (column < lines && first_row < head.batch)
                store_rows(bits, shared_address(exchange) + part % 2 * BOX_BYTES, gradients, column, first_row);
            of_columns[part] = column_sums(terms);
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

// d_w of a class from its sum Σ_i g_i x̂_i: (sum + along · ŵ) / ‖w‖, of four columns at a time.
struct WeightEpilogue {
    static constexpr bool SUMS = false;
    const float *weight;        // [classes, D]
    const float *inverse_norm;  // [classes]
    const float *along;         // [groups, lines]
    float *d_weight;            // [classes, D]
    int columns;                // D
    bool vectors;               // whether that is a multiple of 4
    u32 groups, lines;

    struct Terms {};
    __device__ __forceinline__ Terms terms(int) const { return {}; }

    struct Operands {
        Four weight;
        float inverse_norm, along;
    };
    __device__ __forceinline__ Operands read(u32 row, int column) const {
        Operands of = {read_four(weight + u64(row) * columns + column, columns - column, vectors), inverse_norm[row], 0};
        for (u32 group = 0; group < groups; ++group) of.along += along[u64(group) * lines + row];
        return of;
    }
    __device__ __forceinline__ void write(u32 row, int column, const Terms &, Four value, const Operands &of) const {
#pragma unroll
        for (int i = 0; i < 4; ++i)
            value.values[i] = of.inverse_norm * (value.values[i] + of.along * (of.weight.values[i] * of.inverse_norm));
        write_four(d_weight + u64(row) * columns + column, value, columns - column, vectors);
    }
    __device__ __forceinline__ void write(u32 row, int column, const Terms &terms, Four value) const {
        write(row, column, terms, value, read(row, column));
    }
};
