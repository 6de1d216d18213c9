// Convolutions of many channels on the tensor cores of sm_90a: 3×3 taps, stride 1, padding 1, bf16 and TF32; the channels
// of the source are a multiple of a line's (64 in bf16, 32 in TF32), those of the result of 64.
//
//   result[h, w, n, m] = Σ_{u, v, k} source[h + u − 1, w + v − 1, n, k] · tap(u, v)[k, m]
//
// as in conv2d_wgmma.cuh, and what becomes of it likewise.
//
// source, addend, pre, kept, result  [H, W, N, C] T      boxes of a line × images × pixels + 2 (source) or pixels × 1 row
// filter                             [9 · C, K] T        boxes of a line × 64; forward in TF32 [9 · K, C]
// slope_sums                         [parts, C] f32      what each tile finds of d_slope; all are written
// Grid: clusters of two blocks, at most 66, by shape alone; 384 threads; dynamic shared memory: 64 KB of filters, 48 KB of
// results, slots of rows, and 1 KB to align them.
//
// The product is transposed: filters are A, activations B, both in shared memory. A tile is 128 channels, or 64, of a row
// of `pixels` times `images` columns, 192 together. For a line of channels of the source after the other, three rows with
// a pixel of border on each side come into a ring, and the filters of nine taps into another. As in conv2d_wgmma.cuh a tap
// is a start address within a row. What lies in the padding above or below an image is neither brought nor multiplied.
//
// Two groups of four warps multiply, a tile each, in turns: one has the tensor cores while the other finishes its tile, in
// a ring of its own of what the epilogue reads and writes, so that tensor cores wait for no epilogue. The two blocks of a
// cluster have tiles of the same channels at a time. Each brings half of their filters, to both.
//
// Clusters take tiles from a list, one after the other, those with a row of padding last. Of the last round, which has
// fewer tiles than there are clusters, tiles of 128 channels are two of 64 each, as many as clusters would be idle.
//
// TF32 products take the reduction only inside of a line. So backward they read the filter as it lies, and forward a copy
// with inputs and outputs exchanged, in which the filter is rounded to TF32; activations are cut to it.
//
// The arithmetic, for a tile on one multiprocessor and a line of channels of the source, in cycles:
//   channels                                                     128                64
//   products      9 · 4 of m64n192k16 (k8) at 96, each 64      6,912             3,456
//   shared memory A 2 KB and B 6 KB each, 85 of 128 bytes a cycle
//   from L2       half of the filters, 73,728 bytes or 36,864, and, at 24 pixels, rows of 79,872: 22 a cycle, or 34;
//                 at 1.35 GHz, what power allows, 3.9 TB/s for 132, or 6.0
//   registers     192 of sums, or 96, of 232 a thread
//   issue         epilogue: about 1,300 slots of a scheduler for 64 channels, beside the products of the other group
// Floor at 28 × 24 × 128, batch 256: products 13,824 cycles a tile, 896 tiles, 6.8 of them a multiprocessor, of which the
// busiest have 7: 96,768 cycles, 55 µs at 1.755 GHz; at 14 × 12 × 256 and at most 3.5 tiles of 27,648 cycles as much.
// Before, both groups had a tile of two rows together and finished it while tensor cores were idle, there were no
// clusters and no half tiles: on an H200, bare, 89 µs and 78 µs. This has not been measured.
//
// Sums have up to 4,608 terms, sixteen at once: 288 additions.
#pragma once
#include "conv2d.cuh"
#include "epilogue_wgmma.cuh"

constexpr u32 WIDE_THREADS = 384, WIDE_GROUPS = 2, WIDE_BLOCKS = 2;
constexpr u32 WIDE_COLUMNS = 192, WIDE_HALF = 64;  // a tile has one or two halves
constexpr u32 WIDE_HALF_BYTES = WIDE_HALF * LINE_BYTES;
constexpr u32 WIDE_FILTER_BYTES = 8 * WIDE_HALF_BYTES;  // of the ring
constexpr u32 WIDE_RESULTS = 2, WIDE_RESULT_BYTES = WIDE_COLUMNS * LINE_BYTES;
constexpr u32 WIDE_MOST_FILTERS = 8, WIDE_MOST_ROWS = 8;
// Named barriers: of a group, of its turn with the tensor cores, of its turn with results.
constexpr u32 WIDE_GROUP = 1, WIDE_PRODUCT_TURN = 3, WIDE_RESULT_TURN = 5;

// Channels of a line.
template <class T>
constexpr int LINE_CHANNELS = LINE_BYTES / sizeof(T);

// Where a tile begins: number `at` of the list, for block `rank` of a cluster. Blocks of channels follow each other, then
// neighbours in a row, images, rows; the first and the last row of the image, which see fewer taps, come last.
struct WideTile {
    u32 halves;
    int channel, w, n;
    u32 part;              // among the tiles of the same channels
    int height, h, other;  // rows of this block and of the other one; what does not exist sees nothing

    __device__ __forceinline__ WideTile(const WideProduct &p, u32 at, u32 rank) : height(p.height) {
        u32 item = at, half = 0;
        halves = at < p.wholes ? 2 : 1;
        if (at >= p.last_round) {
            u32 split = at - p.wholes;
            item = halves == 2 ? at + p.halved : p.last_round + split / 2;
            half = halves == 2 ? 0 : split % 2;
        }
        u32 blocks = p.results / p.channels;
        channel = item % blocks * p.channels + half * WIDE_HALF;
        part = item / blocks * WIDE_BLOCKS + rank;
        w = part % p.across * p.pixels;
        n = part / p.across % p.image_tiles * p.images;
        h = row(p, part);
        other = row(p, part ^ 1);
    }
    __device__ __forceinline__ static int row(const WideProduct &p, u32 part) {
        if (part >= p.parts) return -3;
        int number = part / (p.across * p.image_tiles), inner = p.height - 2;
        return number < inner ? number + 1 : number == inner ? 0 : p.height - 1;
    }
    __device__ __forceinline__ bool exists() const { return h >= 0; }
    // Whether the row of the source that tap u reads is there, for this block, or for any.
    __device__ __forceinline__ bool sees(int u) const { return h + u >= 1 && h + u <= height; }
    __device__ __forceinline__ bool any_sees(int u) const { return sees(u) || other + u >= 1 && other + u <= height; }
};

// Which operands an epilogue has.
struct WideOperands {
    bool kept;                   // a slot for what is kept, or read in its place
    bool reads_kept, reads_out;  // what lies in the slots before
};

// Where an epilogue writes.
struct WideOutputs {
    const TensorMap &kept, &out;
    float *slope_sums;
};

// Whose turn a tile is, of the two groups.
struct WideTurn {
    u32 group;
    bool first, last;  // of the block's tiles

    __device__ __forceinline__ void wait(u32 turn) const {
        if (!first) sync_threads(turn + group, 2 * 128);
    }
    __device__ __forceinline__ void pass_on(u32 turn) const {
        if (!last) arrive_threads(turn + (group ^ 1), 2 * 128);
    }
};

// The rings of a block, as one of its users walks over them.
struct WideRings {
    Ring filters, rows, results;

    // Goes on behind a tile, as if its stages had been used.
    template <class T>
    __device__ __forceinline__ void pass(const WideTile &tile, WideOperands has, const WideProduct &p) {
        u32 lines = p.inputs / LINE_CHANNELS<T>, rows_seen = 0, rows_of_any = 0;
#pragma unroll
        for (int u = 0; u < 3; ++u) rows_seen += tile.sees(u), rows_of_any += tile.any_sees(u);
        rows.pass(lines * rows_seen);
        filters.pass(lines * rows_of_any * 3);
        if (tile.exists()) results.pass(tile.halves * (WIDE_HALF / LINE_CHANNELS<T>)*(has.kept ? 2 : 1));
    }
};

// Calls body(tile) for the tiles of this block.
template <class Body>
__device__ __forceinline__ void for_each_wide_tile(const WideProduct &p, Body body) {
    for (u32 at = blockIdx.x / WIDE_BLOCKS; at < p.count; at += gridDim.x / WIDE_BLOCKS)
        body(WideTile(p, at, blockIdx.x % WIDE_BLOCKS));
}

// Brings rows of the source.
template <class T>
__device__ __forceinline__ void copy_wide_rows(Ring rows, const TensorMap &source, const WideProduct &p) {
    u32 bytes = (p.pixels + 2) * p.images * LINE_BYTES;
    for_each_wide_tile(p, [&](const WideTile &tile) {
        for (int channel = 0; channel < p.inputs; channel += LINE_CHANNELS<T>) {
            for (int u = 0; u < 3; ++u) {
                if (!tile.sees(u)) continue;
                rows.wait_empty();
                arrive_expecting(rows.full(), bytes);
                load_box(rows.place(), source, {channel, tile.n, tile.w - 1, tile.h + u - 1}, rows.full());
                rows.advance();
            }
        }
    });
}

// Brings the filter of each tap, a line of inputs of the tile's channels: of 128 this block's half, of 64 every second, to
// both blocks.
template <class T, Major LEFT, bool BACKWARD>
__device__ __forceinline__ void copy_wide_filters(Ring filters, const TensorMap &filter, const WideProduct &p) {
    u32 rank = blockIdx.x % WIDE_BLOCKS;
    for_each_wide_tile(p, [&](const WideTile &tile) {
        for (int input = 0; input < p.inputs; input += LINE_CHANNELS<T>) {
            for (int u = 0; u < 3; ++u) {
                if (!tile.any_sees(u)) continue;
                for (int v = 0; v < 3; ++v, filters.advance()) {
                    filters.wait_empty();
                    arrive_expecting(filters.full(), tile.halves * WIDE_HALF_BYTES);
                    bool both = tile.halves == 2;
                    if (!both && filters.stage % WIDE_BLOCKS != rank) continue;
                    int channel = tile.channel + (both ? rank * WIDE_HALF : 0);
                    u32 to = filters.place() + (both ? rank * WIDE_HALF_BYTES : 0);
                    int of = BACKWARD ? 8 - (u * 3 + v) : u * 3 + v;
                    int inner = LEFT == K_MAJOR ? input : channel;
                    int outer = LEFT == K_MAJOR ? of * p.results + channel : of * p.inputs + input;
                    load_box_to((1 << WIDE_BLOCKS) - 1, to, filter, {inner, outer}, filters.full());
                }
            }
        }
    });
}

// Brings what the epilogue reads, in the places where it writes.
template <class T>
__device__ __forceinline__ void copy_wide_results(Ring results, const TensorMap &by_kept, const TensorMap &by_out,
                                                  WideOperands has, const WideProduct &p) {
    for_each_wide_tile(p, [&](const WideTile &tile) {
        if (!tile.exists()) return;
        auto bring = [&](bool reads, const TensorMap &map, int channel) {
            results.wait_empty();
            if (reads) {
                arrive_expecting(results.full(), WIDE_RESULT_BYTES);
                load_box(results.place(), map, {channel, tile.n, tile.w, tile.h}, results.full());
            } else {
                arrive(results.full());
            }
            results.advance();
        };
        int end = tile.channel + tile.halves * WIDE_HALF;
        for (int channel = tile.channel; channel < end; channel += LINE_CHANNELS<T>) {
            if (has.kept) bring(has.reads_kept, by_kept, channel);
            bring(has.reads_out, by_out, channel);
        }
    });
}

// One tap of a line of inputs.
template <class T, Major LEFT, u32 HALVES>
__device__ __forceinline__ void multiply_tap(float (&sum)[HALVES][WIDE_COLUMNS / 2], u32 filter, u32 row, bool add) {
    begin_products();
#pragma unroll
    for (u32 step = 0; step < LINE_BYTES / 32; ++step) {
#pragma unroll
        for (u32 half = 0; half < HALVES; ++half) {
            u64 left = Matrix<LEFT>(filter + half * WIDE_HALF_BYTES).step(step);
            multiply_shared<T, LEFT, K_MAJOR>(sum[half], left, Matrix<K_MAJOR>(row).step(step), add || step > 0);
        }
    }
    commit_products();
}

// A tile's sums, in turn: in the order of the list, for a stage is full for the tile that it was brought for when those
// before have been.
template <class T, Major LEFT, u32 HALVES>
__device__ __forceinline__ void multiply_wide(float (&sum)[HALVES][WIDE_COLUMNS / 2], WideRings &rings,
                                              const WideTile &tile, const WideTurn &turn, const WideProduct &p) {
    Ring &rows = rings.rows, &filters = rings.filters;
    u32 lane = threadIdx.x % WARP;
    u32 held_filter = 0, held_row = 0;  // what products under way may read
    auto release = [&](bool with_row) {
        // One lane for each block that copies to this stage.
        if (held_filter && lane < WIDE_BLOCKS) arrive_at(held_filter, lane);
        if (with_row && held_row) {
            if (lane == 0) arrive(held_row);
            held_row = 0;
        }
    };
    bool add = false;
    turn.wait(WIDE_PRODUCT_TURN);
    for (int channel = 0; channel < p.inputs; channel += LINE_CHANNELS<T>) {
#pragma unroll 1
        for (int u = 0; u < 3; ++u) {
            if (!tile.any_sees(u)) continue;
            bool seen = tile.sees(u);
            if (seen) rows.wait_full();
#pragma unroll 1
            for (int v = 0; v < 3; ++v) {
                filters.wait_full();
                if (seen) {
                    multiply_tap<T, LEFT>(sum, filters.place(), rows.place() + v * p.images * LINE_BYTES, add);
                    add = true;
                    wait_for_products<1>();
                } else {
                    wait_for_products<0>();
                }
                release(v == 0);
                held_filter = filters.empty();
                filters.advance();
            }
            if (seen) {
                held_row = rows.empty();
                rows.advance();
            }
        }
    }
    turn.pass_on(WIDE_PRODUCT_TURN);
    wait_for_products<0>();
    release(true);
#pragma unroll
    for (u32 half = 0; half < HALVES; ++half) settle(sum[half]);
}

// Finishes 64 channels of a tile in place and stores them.
template <class T, class Epilogue>
__device__ __forceinline__ void finish_wide(const float (&sum)[WIDE_COLUMNS / 2], Epilogue &epilogue, Ring &results,
                                            int channel, const WideTile &tile, u32 group, const WideOutputs &to,
                                            WideOperands has, const WideProduct &p) {
    constexpr u32 LINES = WIDE_HALF / LINE_CHANNELS<T>;
    u32 warp = threadIdx.x / WARP % 4;
    bool first_lane = threadIdx.x % WARP == 0;
#pragma unroll
    for (u32 line = 0; line < LINES; ++line) {
        Ring for_kept = results;
        if (has.kept) {
            results.wait_full();
            results.advance();
        }
        results.wait_full();
        // In fp32 a line is of two of the warps.
        if (warp * LINES / 4 == line)
            epilogue.finish(sum, ResultLines<T>(for_kept.place()), ResultLines<T>(results.place()));
        writes_are_ready();
        sync_threads(WIDE_GROUP + group, 128);
        if (warp == line && first_lane) {
            int from = channel + int(line) * LINE_CHANNELS<T>;
            if (p.operands.kept) store_box(to.kept, {from, tile.n, tile.w, tile.h}, for_kept.place());
            store_box(to.out, {from, tile.n, tile.w, tile.h}, results.place());
            commit_stores();
            wait_for_stores<0>();
            if (has.kept) arrive(for_kept.empty());
            arrive(results.empty());
        }
        __syncwarp();
        results.advance();
    }
}

// A tile. make(channel) is its epilogue.
template <class T, Major LEFT, bool BACKWARD, u32 HALVES, class Make>
__device__ __forceinline__ void make_tile(WideRings &rings, const WideTile &tile, const WideTurn &turn,
                                          const WideOutputs &to, WideOperands has, const WideProduct &p, Make make) {
    float sum[HALVES][WIDE_COLUMNS / 2];
    multiply_wide<T, LEFT, HALVES>(sum, rings, tile, turn, p);
    turn.wait(WIDE_RESULT_TURN);
    if (tile.exists()) {
#pragma unroll
        for (u32 half = 0; half < HALVES; ++half) {
            int channel = tile.channel + int(half * WIDE_HALF), own = channel + result_channel();
            auto epilogue = make(own);
            finish_wide<T>(sum[half], epilogue, rings.results, channel, tile, turn.group, to, has, p);
            if constexpr (BACKWARD) {
                if (to.slope_sums) epilogue.write_sums(to.slope_sums + tile.part * p.results + own);
            }
        }
    }
    turn.pass_on(WIDE_RESULT_TURN);
}

// Makes every second tile of this block from `at` to `end`, those with so many halves, and goes on behind them.
template <class T, Major LEFT, bool BACKWARD, u32 HALVES, class Make>
__device__ __forceinline__ void make_tiles(u32 &at, u32 end, u32 group, WideRings &rings, const WideOutputs &to,
                                           WideOperands has, const WideProduct &p, Make make) {
    u32 first = blockIdx.x / WIDE_BLOCKS, clusters = gridDim.x / WIDE_BLOCKS;
    for (; at < end; at += clusters) {
        WideTile tile(p, at, blockIdx.x % WIDE_BLOCKS);
        WideTurn turn{group, at == first, at + clusters >= p.count};
        bool own = at / clusters % WIDE_GROUPS == group;
        if (own) make_tile<T, LEFT, BACKWARD, HALVES>(rings, tile, turn, to, has, p, make);
        else rings.pass<T>(tile, has, p);
    }
}

template <class T, Major LEFT, bool BACKWARD, class Make>
__device__ __forceinline__ void wide_product(const TensorMap &source, const TensorMap &filter, const TensorMap &by_kept,
                                             const TensorMap &by_out, const WideOutputs &to, WideOperands has,
                                             const WideProduct &p, Make make) {
    extern __shared__ unsigned char unaligned[];
    __shared__ u64 barriers[2 * (WIDE_MOST_FILTERS + WIDE_RESULTS + WIDE_MOST_ROWS)];
    u32 memory = (shared_address(unaligned) + LINES_BYTES - 1) & ~(LINES_BYTES - 1), at = shared_address(barriers);
    // Of a tile of 64 channels twice as many filters.
    u32 filter_bytes = p.channels * LINE_BYTES;
    WideRings rings;
    rings.filters = Ring{memory, filter_bytes, WIDE_FILTER_BYTES / filter_bytes, at};
    rings.results = Ring{memory + WIDE_FILTER_BYTES, WIDE_RESULT_BYTES, WIDE_RESULTS, at + WIDE_MOST_FILTERS * 16};
    rings.rows = Ring{memory + WIDE_FILTER_BYTES + WIDE_RESULTS * WIDE_RESULT_BYTES, p.slot_bytes, p.slots,
                      at + (WIDE_MOST_FILTERS + WIDE_RESULTS) * 16};
    if (threadIdx.x == 0) {
        prefetch(source);
        prefetch(filter);
        auto init = [](const Ring &ring, u32 readers) {
            for (u32 stage = 0; stage < ring.stages; ++stage) {
                barrier_init(ring.barriers + stage * 16, 1);
                barrier_init(ring.barriers + stage * 16 + 8, readers);
            }
        };
        init(rings.filters, 4 * WIDE_BLOCKS);
        init(rings.results, 1);
        init(rings.rows, 4);
        barriers_are_ready();
    }
    sync_cluster();
    await_previous();
    u32 warp = __shfl_sync(0xffffffffu, threadIdx.x / WARP, 0);
    if (warp < 4) {
        fewer_registers<40>();
        if (warp == 0 && elect()) copy_wide_rows<T>(rings.rows, source, p);
        else if (warp == 1 && elect()) copy_wide_filters<T, LEFT, BACKWARD>(rings.filters, filter, p);
        else if (warp == 2 && elect()) copy_wide_results<T>(rings.results, by_kept, by_out, has, p);
        __syncwarp();
    } else {
        more_registers<232>();
        u32 group = warp / 4 - 1, at = blockIdx.x / WIDE_BLOCKS;
        make_tiles<T, LEFT, BACKWARD, 2>(at, p.wholes, group, rings, to, has, p, make);
        make_tiles<T, LEFT, BACKWARD, 1>(at, p.count, group, rings, to, has, p, make);
    }
    // A block may still send filters here, or wait for what is given back there.
    sync_cluster();
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
// FORWARD_LEFT: how the filter lies that the forward pass reads.
#define CONV2D_WIDE(DTYPE, T, FORWARD_LEFT)                                                                           \
    extern "C" __global__ void __cluster_dims__(WIDE_BLOCKS, 1, 1) __launch_bounds__(WIDE_THREADS, 1)                 \
    conv2d_forward_wgmma_wide_##DTYPE(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap filter,  \
                                     const float *bias, const float *slope,                                           \
                                     const __grid_constant__ TensorMap residual, const __grid_constant__ TensorMap y, \
                                     const __grid_constant__ TensorMap out, WideProduct p) {                          \
        WideOperands has{bool(p.operands.kept), false, bool(p.operands.addend)};                                      \
        wide_product<T, FORWARD_LEFT, false>(x, filter, residual, residual, {y, out, nullptr}, has, p, [&](u32 own) { \
            return PreluColumns(bias, slope, p.operands.addend, p.operands.kept, own);                                \
        });                                                                                                           \
    }                                                                                                                 \
    extern "C" __global__ void __cluster_dims__(WIDE_BLOCKS, 1, 1) __launch_bounds__(WIDE_THREADS, 1)                 \
    conv2d_backward_data_wgmma_wide_##DTYPE(                                                                          \
        const __grid_constant__ TensorMap d_y, const __grid_constant__ TensorMap filter,                              \
        const __grid_constant__ TensorMap addend, const __grid_constant__ TensorMap pre, const float *slope,          \
        const __grid_constant__ TensorMap kept, const __grid_constant__ TensorMap out, float *slope_sums,             \
        WideProduct p) {                                                                                              \
        const WgmmaOperands &o = p.operands;                                                                          \
        WideOperands has{o.kept || o.addend, bool(o.addend), bool(o.pre)};                                            \
        wide_product<T, K_MAJOR, true>(d_y, filter, addend, pre, {kept, out, slope_sums}, has, p, [&](u32 own) {      \
            return PreluGradientColumns(slope, o.addend, o.pre, o.kept, own);                                         \
        });                                                                                                           \
    }

CONV2D_WIDE(bf16, bf16, MN_MAJOR)
CONV2D_WIDE(tf32, float, K_MAJOR)

// The filter as the forward pass in TF32 reads it: exchanged [9, K, C] from filter [9, C, K], rounded to TF32. Grid:
// (C / 32, K / 32, 9), 256 threads; channels are multiples of 32.
extern "C" __global__ void __launch_bounds__(256)
conv2d_exchange_wgmma_tf32(const float *filter, float *exchanged, u32 inputs, u32 outputs) {
    await_previous();
    __shared__ float tile[32][33];
    u32 input = blockIdx.x * 32, output = blockIdx.y * 32, lane = threadIdx.x % WARP;
    u32 tap = blockIdx.z * inputs * outputs;
#pragma unroll
    for (u32 row = threadIdx.x / WARP; row < 32; row += 8)
        tile[row][lane] = filter[tap + (input + row) * outputs + output + lane];
    __syncthreads();
#pragma unroll
    for (u32 row = threadIdx.x / WARP; row < 32; row += 8) {
        u32 rounded = round_to_tf32(__float_as_uint(tile[lane][row]));
        exchanged[tap + (output + row) * inputs + input + lane] = __uint_as_float(rounded);
    }
}
#endif
