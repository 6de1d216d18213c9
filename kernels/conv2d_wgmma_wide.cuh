// Convolutions of many channels on the tensor cores of sm_90a: 3×3 taps, stride 1, padding 1, bf16 and TF32; the channels
// of the source are a multiple of a line's (64 in bf16, 32 in TF32), those of the result of 128.
//
//   result[h, w, n, m] = Σ_{u, v, k} source[h + u − 1, w + v − 1, n, k] · tap(u, v)[k, m]
//
// as in conv2d_wgmma.cuh, and what becomes of it likewise.
//
// source, addend, pre, kept, result  [H, W, N, C] T      boxes of a line × images × pixels + 2 (source) or pixels × 1 row
// filter                             [9 · C, K] T        boxes of a line × 64; forward in TF32 [9 · K, C]
// slope_sums                         [parts, C] f32      what each row of each tile finds of d_slope; all are written
// Grid: min(tiles, 132) blocks, by shape alone; 384 threads; dynamic shared memory: slots of rows, 64 KB of filters, and
// 1 KB to align them.
//
// The product is transposed: filters are A, activations B, both in shared memory. A tile is 128 channels of two rows of
// `pixels` times `images` columns, 192 together. Warpgroup c has row c, all 128 channels of it, so that every filter is
// brought once for both. For a line of channels of the source after the other, four rows with a pixel of border on each side
// come into a ring, and the filters of nine taps into another. As in conv2d_wgmma.cuh a tap is a start address within a
// row. What lies in the padding above or below an image is neither brought nor multiplied. After the last channels the
// ring of rows takes what the epilogue reads: a slot for 64 channels of a row of the tile, where they are finished in
// place and stored. So the next tile's rows come behind them, and filters go on meanwhile.
//
// TF32 products take the reduction only inside of a line. So backward they read the filter as it lies, and forward a copy
// with inputs and outputs exchanged, in which the filter is rounded to TF32; activations are cut to it.
//
// The arithmetic, for a tile on one multiprocessor and 64 channels of the source (TF32: 32), in cycles:
//   products      2 · 9 · 4 · 2 of m64n192k16 at 96                                     13,824
//   shared memory A 2 KB and B 6 KB each, 85 of 128 bytes a cycle                        9,216
//   from L2       filters 147,456 bytes and, at 24 pixels, rows 106,496: 18 a cycle; 4.3 TB/s for 132 at 1.755 GHz
//   registers     192 of sums, of 240 a thread
//   epilogue      about 2,500 slots of a scheduler, while tensor cores are idle: 8% at 128 channels, 4% at 256
// Floor at 28 × 24 × 128, batch 256: products 27,648 cycles a tile, 448 tiles, 3.4 of them a multiprocessor: 53 µs at
// 1.755 GHz, where the last of four rounds is not full 63. Measured on an H200, bare: 89 µs; at 14 × 12 × 256 78 µs.
//
// Sums have up to 4,608 terms, sixteen at once: 288 additions.
#pragma once
#include "conv2d.cuh"
#include "epilogue_wgmma.cuh"

constexpr u32 WIDE_THREADS = 384, WIDE_ROWS = 2;
constexpr u32 WIDE_COLUMNS = 192, WIDE_CHANNELS = 128;
constexpr u32 WIDE_FILTERS = 4, WIDE_FILTER_BYTES = WIDE_CHANNELS * LINE_BYTES, WIDE_HALF_BYTES = 64 * LINE_BYTES;
constexpr u32 WIDE_MOST_SLOTS = 8;

// Channels of a line.
template <class T>
constexpr int LINE_CHANNELS = LINE_BYTES / sizeof(T);

// Where a tile begins. Blocks of channels follow each other, then neighbours in a row, then rows.
struct WideTile {
    int channel, w, h, n;
    u32 part;  // among the tiles of the same channels

    __device__ __forceinline__ WideTile(const WideProduct &p, u32 tile) {
        channel = tile % p.channel_blocks * WIDE_CHANNELS;
        u32 rest = part = tile / p.channel_blocks;
        w = rest % p.across * p.pixels;
        rest /= p.across;
        h = rest % p.row_pairs * WIDE_ROWS;
        n = rest / p.row_pairs * p.images;
    }
};

// Which operands an epilogue has.
struct WideOperands {
    bool kept;                   // a slot for what is kept, or read in its place
    bool reads_kept, reads_out;  // what lies in the slots before
};

// Brings rows of the source, and what the epilogue reads.
template <class T>
__device__ __forceinline__ void copy_wide_rows(Ring rows, const TensorMap &source, const TensorMap &by_kept,
                                               const TensorMap &by_out, WideOperands has, const WideProduct &p) {
    u32 row_bytes = (p.pixels + 2) * p.images * LINE_BYTES, result_bytes = WIDE_COLUMNS * LINE_BYTES;
    auto bring = [&](bool present, u32 bytes, const TensorMap &map, int channel, int n, int w, int h) {
        rows.wait_empty();
        if (present) {
            arrive_expecting(rows.full(), bytes);
            load_box(rows.place(), map, {channel, n, w, h}, rows.full());
        } else {
            arrive(rows.full());
        }
        rows.advance();
    };
    for (u32 at = blockIdx.x; at < p.tiles; at += gridDim.x) {
        WideTile tile(p, at);
        for (int channel = 0; channel < p.inputs; channel += LINE_CHANNELS<T>)
            for (int h = tile.h - 1; h < tile.h + int(WIDE_ROWS) + 1; ++h)
                bring(h >= 0 && h < p.height, row_bytes, source, channel, tile.n, tile.w - 1, h);
        for (int channel = tile.channel; channel < tile.channel + int(WIDE_CHANNELS); channel += 64) {
            for (int h = tile.h; h < tile.h + int(WIDE_ROWS); ++h) {
                bool present = h < p.height;
                for (int line = channel; line < channel + 64; line += LINE_CHANNELS<T>) {
                    if (has.kept) bring(has.reads_kept && present, result_bytes, by_kept, line, tile.n, tile.w, h);
                    bring(has.reads_out && present, result_bytes, by_out, line, tile.n, tile.w, h);
                }
            }
        }
    }
}

// Brings the filter of each tap, a line of inputs of 128 channels of the result, in halves.
template <class T, Major LEFT, bool BACKWARD>
__device__ __forceinline__ void copy_wide_filters(Ring filters, const TensorMap &filter, const WideProduct &p) {
    int results = p.channel_blocks * WIDE_CHANNELS;
    for (u32 at = blockIdx.x; at < p.tiles; at += gridDim.x) {
        WideTile tile(p, at);
        for (int input = 0; input < p.inputs; input += LINE_CHANNELS<T>) {
            for (int tap = 0; tap < 9; ++tap) {
                filters.wait_empty();
                arrive_expecting(filters.full(), WIDE_FILTER_BYTES);
#pragma unroll
                for (u32 half = 0; half < 2; ++half) {
                    int channel = tile.channel + int(half) * 64;
                    u32 to = filters.place() + half * WIDE_HALF_BYTES;
                    int of = BACKWARD ? 8 - tap : tap;
                    if (LEFT == K_MAJOR) load_box(to, filter, {input, of * results + channel}, filters.full());
                    else load_box(to, filter, {channel, of * p.inputs + input}, filters.full());
                }
                filters.advance();
            }
        }
    }
}

// One tap of a line of inputs.
template <class T, Major LEFT>
__device__ __forceinline__ void multiply_tap(float (&sum)[2][WIDE_COLUMNS / 2], u32 filter, u32 row, bool add) {
    begin_products();
#pragma unroll
    for (u32 step = 0; step < LINE_BYTES / 32; ++step) {
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            u64 left = Matrix<LEFT>(filter + half * WIDE_HALF_BYTES).step(step);
            multiply_shared<T, LEFT, K_MAJOR>(sum[half], left, Matrix<K_MAJOR>(row).step(step), add || step > 0);
        }
    }
    commit_products();
}

// One warpgroup: a row of every tile. make(channel) is its epilogue.
template <class T, Major LEFT, bool BACKWARD, class Make>
__device__ __forceinline__ void multiply_wide(Ring rows, Ring filters, int consumer, const TensorMap &kept,
                                              const TensorMap &out, float *slope_sums, WideOperands has,
                                              const WideProduct &p, Make make) {
    constexpr u32 LINES = 64 / LINE_CHANNELS<T>;  // of half a result
    u32 warp = threadIdx.x / WARP % 4, result_slots = has.kept ? 2 * LINES : LINES;
    bool first_lane = threadIdx.x % WARP == 0;
    auto release = [&](u32 barrier) {
        if (first_lane) arrive(barrier);
    };
    for (u32 at = blockIdx.x; at < p.tiles; at += gridDim.x) {
        WideTile tile(p, at);
        int h = tile.h + consumer;
        bool present = h < p.height, add = false, holds = false;
        u32 held_filter = 0, held_row = 0;  // what products under way may read
        float sum[2][WIDE_COLUMNS / 2];
        for (int channel = 0; channel < p.inputs; channel += LINE_CHANNELS<T>) {
            if (consumer == 1) rows.skip(first_lane);
#pragma unroll 1
            for (int u = 0; u < 3; ++u) {
                bool seen = present && h + u >= 1 && h + u <= p.height;
                rows.wait_full();
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
                    if (holds) release(held_filter);
                    if (holds && v == 0) release(held_row);
                    held_filter = filters.empty();
                    holds = true;
                    filters.advance();
                }
                held_row = rows.empty();
                rows.advance();
            }
            if (consumer == 0) rows.skip(first_lane);
        }
        wait_for_products<0>();
        release(held_filter);
        release(held_row);
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            settle(sum[half]);
            int channel = tile.channel + int(half) * 64, own = channel + result_channel();
            auto epilogue = make(own);
            // The slots of this row, behind or before those of the other warpgroup's.
            for (u32 i = 0; i < consumer * result_slots; ++i) rows.skip(first_lane);
#pragma unroll
            for (u32 line = 0; line < LINES; ++line) {
                Ring for_kept = rows;
                if (has.kept) {
                    rows.wait_full();
                    rows.advance();
                }
                rows.wait_full();
                if (present) {
                    // In fp32 a line is of two of the warps.
                    if (warp * LINES / 4 == line)
                        epilogue.finish(sum[half], ResultLines<T>(for_kept.place()), ResultLines<T>(rows.place()));
                    writes_are_ready();
                    sync_threads(1 + consumer, 128);
                    if (warp == half * 2 + line && first_lane) {
                        int from = channel + int(line) * LINE_CHANNELS<T>;
                        if (p.operands.kept) store_box(kept, {from, tile.n, tile.w, h}, for_kept.place());
                        store_box(out, {from, tile.n, tile.w, h}, rows.place());
                        commit_stores();
                        wait_for_stores<0>();
                    }
                    __syncwarp();
                }
                if (has.kept) release(for_kept.empty());
                release(rows.empty());
                rows.advance();
            }
            for (u32 i = consumer * result_slots; i < result_slots; ++i) rows.skip(first_lane);
            if constexpr (BACKWARD) {
                u32 part = tile.part * WIDE_ROWS + consumer;
                if (slope_sums) epilogue.write_sums(slope_sums + part * p.channel_blocks * WIDE_CHANNELS + own);
            }
        }
    }
}

template <class T, Major LEFT, bool BACKWARD, class Make>
__device__ __forceinline__ void wide_product(const TensorMap &source, const TensorMap &filter, const TensorMap &by_kept,
                                             const TensorMap &by_out, const TensorMap &kept, const TensorMap &out,
                                             float *slope_sums, WideOperands has, const WideProduct &p, Make make) {
    extern __shared__ unsigned char unaligned[];
    __shared__ u64 barriers[2 * (WIDE_MOST_SLOTS + WIDE_FILTERS)];
    u32 memory = (shared_address(unaligned) + LINES_BYTES - 1) & ~(LINES_BYTES - 1), at = shared_address(barriers);
    Ring filters{memory, WIDE_FILTER_BYTES, WIDE_FILTERS, at};
    Ring rows{memory + WIDE_FILTERS * WIDE_FILTER_BYTES, p.slot_bytes, p.slots, at + WIDE_FILTERS * 16};
    if (threadIdx.x == 0) {
        for (u32 i = 0; i < WIDE_FILTERS + p.slots; ++i) {
            barrier_init(at + i * 16, 1);
            barrier_init(at + i * 16 + 8, WIDE_ROWS * 4);
        }
        barriers_are_ready();
    }
    __syncthreads();
    await_previous();
    u32 warp = __shfl_sync(0xffffffffu, threadIdx.x / WARP, 0);
    if (warp < 4) {
        fewer_registers<24>();
        if (threadIdx.x % WARP != 0) return;
        if (warp == 0) copy_wide_rows<T>(rows, source, by_kept, by_out, has, p);
        else if (warp == 1) copy_wide_filters<T, LEFT, BACKWARD>(filters, filter, p);
        return;
    }
    more_registers<240>();
    multiply_wide<T, LEFT, BACKWARD>(rows, filters, warp / 4 - 1, kept, out, slope_sums, has, p, make);
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
// FORWARD_LEFT: how the filter lies that the forward pass reads.
#define CONV2D_WIDE(DTYPE, T, FORWARD_LEFT)                                                                           \
    extern "C" __global__ void __launch_bounds__(WIDE_THREADS, 1)                                                     \
    conv2d_forward_wgmma_128_##DTYPE(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap filter,   \
                                     const float *bias, const float *slope,                                           \
                                     const __grid_constant__ TensorMap residual, const __grid_constant__ TensorMap y, \
                                     const __grid_constant__ TensorMap out, WideProduct p) {                          \
        WideOperands has{bool(p.operands.kept), false, bool(p.operands.addend)};                                      \
        wide_product<T, FORWARD_LEFT, false>(x, filter, residual, residual, y, out, nullptr, has, p, [&](u32 own) {   \
            return PreluColumns(bias, slope, p.operands.addend, p.operands.kept, own);                                \
        });                                                                                                           \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(WIDE_THREADS, 1)                                                     \
    conv2d_backward_data_wgmma_128_##DTYPE(                                                                           \
        const __grid_constant__ TensorMap d_y, const __grid_constant__ TensorMap filter,                              \
        const __grid_constant__ TensorMap addend, const __grid_constant__ TensorMap pre, const float *slope,          \
        const __grid_constant__ TensorMap kept, const __grid_constant__ TensorMap out, float *slope_sums,             \
        WideProduct p) {                                                                                              \
        const WgmmaOperands &o = p.operands;                                                                          \
        WideOperands has{o.kept || o.addend, bool(o.addend), bool(o.pre)};                                            \
        wide_product<T, K_MAJOR, true>(d_y, filter, addend, pre, kept, out, slope_sums, has, p, [&](u32 own) {        \
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
