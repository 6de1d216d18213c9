// The weight gradient on the tensor cores of sm_90a: 3×3 taps, stride 1 or 2, padding 1, bf16, both channels multiples
// of 64.
//
//   d_filter[u, v, c, k] = Σ_{p, q, n} x[stride · p + u − 1, stride · q + v − 1, n, c] · d_y[p, q, n, k]
//
// x     [H, W, N, C] bf16          boxes of 64 × images × pixels + 2 × 1 row, 128-byte swizzle
// d_y   [P, Q, N, K] bf16          boxes of 64 × images × pixels × 1 row
// out   [parts, 9, C, K] f32       written: a part of the reduction each, which part_sum adds up
// bias  [parts · blocks of a cluster, K] f32 or null    written: the same of Σ_{p, q, n} d_y[p, q, n, k]
// Grid: (C / 64 · K / 64, parts · blocks of a cluster), 512 threads; dynamic shared memory: slots of rows of x, three rows
// of d_y, and 1 KB to align them; at least 145 KB where there are clusters.
//
// A block has 64 of C, 64 of K and all taps. The reduction runs over steps: a row of `pixels` times `images`, 128
// together, of d_y, and the same of x with a pixel of border on each side, row by row down an image. Warpgroup u multiplies by row u of
// the taps: A [64 of K, step] is d_y, and B [step, 3 · 64 of C] is x, where the 64 channels of the next tap begin one
// pixel further: so the leading offset of the descriptor is the tap. Both lie in memory with the reduction outside, which
// bf16 products take. A row of x comes once and is used by all three, by the last row of taps first; zeros come for what
// lies outside of the image at its sides, and rows outside above and below are neither brought nor multiplied.
// With a stride of 2 the next pixel of a step would be two pixels further, so that no box holds a tap's pixels side by
// side: a step is one pixel of 128 images. Two rows of x pass for one of d_y; a warpgroup skips the one between its own.
//
// The arithmetic, for a step of 128 columns on one multiprocessor, in cycles:
//   products      3 · 8 of m64n192k16 at 96                                  2,304
//   shared memory A 2 KB and B 6 KB each, 85 of 128 bytes a cycle            1,536
//   from L2       d_y 16,384 bytes, x at 16 pixels 18,432: 15 a cycle, 3.5 TB/s for 132 at 1.755 GHz; with a stride of 2
//                 x is two rows of three pixels, 98,304 bytes: 50 a cycle, more than L2 has for all, but for few steps
//   registers     96 of sums, of 160 a thread
//   at the end    147,456 bytes, and as much again for adding up the parts: at 64 channels 132 parts, 19 MB twice, 12 µs
// Where a block has few steps, that is as much as they. So 2, 4 or 8 blocks of a cluster, one part each, add up theirs:
// each stores the share of each of the others in that one's shared memory, where the rings were, and that one adds them in
// the order of their ranks. 147,456 bytes go over the network of the cluster, and what goes to memory is that much less.
// Measured on an H200 at 14 × 12 × 256, batch 256: 72 µs.
//
// The gradient of the bias costs no launch: in the blocks of the first 64 of C a warp of those that copy adds up d_y, too, a
// lane two channels, 128 lines of a step and then the steps; about 900 instructions a step, while others multiply.
//
// A part has at most 8,192 terms, sixteen at once: 512 additions.
#pragma once
#include "conv2d.cuh"
#include "epilogue_wgmma.cuh"

constexpr u32 WEIGHT_THREADS = 512, WEIGHT_GROUPS = 3;
constexpr u32 WEIGHT_COLUMNS = 192;   // of B: three taps of 64 channels
constexpr u32 WEIGHT_STEP = 128;       // of the reduction: pixels times images
constexpr u32 WEIGHT_D_Y_SLOTS = 3;
constexpr u32 WEIGHT_MOST_SLOTS = 8;

// Walks over a block's part of the steps: over the strips of images that it lies in, and their rows `first` to `end` − 1.
struct Strips {
    const WeightTiles &p;
    u32 step, last;
    int w, n, first, end;

    __device__ __forceinline__ explicit Strips(const WeightTiles &p)
        : p(p), step(min(blockIdx.y * p.steps_of_part, p.steps)), last(min(step + p.steps_of_part, p.steps)) {}

    __device__ __forceinline__ bool next() {
        if (step >= last) return false;
        u32 strip = step / p.height;
        w = strip % p.across * p.pixels;
        n = strip / p.across * p.images;
        first = step % p.height;
        end = min(u32(p.height), first + last - step);
        step += end - first;
        return true;
    }
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
// `memory`: where the rings begin.
template <u32 BLOCKS>
__device__ __forceinline__ void multiply_strips(Ring rows, Ring d_y, u32 memory, int u, float *out, const WeightTiles &p) {
    bool first_lane = threadIdx.x % WARP == 0;
    auto release = [&](u32 barrier) {
        if (first_lane) arrive(barrier);
    };
    u32 tap_bytes = p.images * LINE_BYTES;
    float sum[WEIGHT_COLUMNS / 2] = {};
    Strips strip(p);
    while (strip.next()) {
        auto skip = [&](int count) {
            for (int i = 0; i < count; ++i) rows.skip(first_lane);
        };
        skip(u);
        bool holds = false;
        u32 held_row = 0, held_d_y = 0;  // what products under way may read
#pragma unroll 1
        for (int row = strip.first; row < strip.end; ++row) {
            if (row > strip.first) skip(p.stride - 1);
            rows.wait_full();
            d_y.wait_full();
            int h = row * p.stride + u - 1;
            if (h >= 0 && h < p.source_height) {
                begin_products();
                Matrix<MN_MAJOR> left(d_y.place()), right(rows.place(), tap_bytes);
#pragma unroll
                for (u32 step = 0; step < WEIGHT_STEP / 16; ++step)
                    multiply_shared<bf16, MN_MAJOR, MN_MAJOR>(sum, left.step(step), right.step(step), true);
                commit_products();
                wait_for_products<1>();
            } else {
                wait_for_products<0>();
            }
            if (holds) release(held_row), release(held_d_y);
            held_row = rows.empty(), held_d_y = d_y.empty();
            holds = true;
            rows.advance();
            d_y.advance();
        }
        wait_for_products<0>();
        release(held_row), release(held_d_y);
        skip(2 - u);
    }
    settle(sum);
    u32 blocks = p.outputs / 64, lane = threadIdx.x % WARP;
    u32 input = blockIdx.x / blocks * 64 + lane % 4 * 2, output = blockIdx.x % blocks * 64 + result_channel();
    out += size_t((blockIdx.y / BLOCKS * 9 + u * 3) * p.inputs + input) * p.outputs + output;
    u32 next_tap = (p.inputs - 64) * p.outputs, next_columns = 8 * p.outputs;
    auto write = [&](float *to, float a, float b, float c, float d) {
        to[0] = a;
        to[p.outputs] = b;
        to[8] = c;
        to[p.outputs + 8] = d;
    };
    if constexpr (BLOCKS == 1) {
#pragma unroll
        for (u32 i = 0; i < WEIGHT_COLUMNS / 2; i += 4) {
            write(out, sum[i], sum[i + 1], sum[i + 2], sum[i + 3]);
            out += i % 32 == 28 ? next_columns + next_tap : next_columns;
        }
    } else {
        // Of each thread's fours of sums every block has a share, [blocks, fours of a share, threads].
        constexpr u32 SHARE = WEIGHT_COLUMNS / 2 / 4 / BLOCKS, THREADS = WEIGHT_THREADS - 128;
        u32 rank = blockIdx.y % BLOCKS, thread = threadIdx.x - 128;
        sync_cluster();
#pragma unroll
        for (u32 to = 0; to < BLOCKS; ++to) {
            u32 there = in_block(memory + (rank * SHARE * THREADS + thread) * 16, to);
#pragma unroll
            for (u32 i = 0; i < SHARE; ++i) {
                const float *four = sum + (to * SHARE + i) * 4;
                store_in_block(there + i * THREADS * 16, four[0], four[1], four[2], four[3]);
            }
        }
        sync_cluster();
#pragma unroll
        for (u32 i = 0; i < SHARE; ++i) {
            Four total = {};
#pragma unroll
            for (u32 from = 0; from < BLOCKS; ++from) {
                Four part = load_four(memory + ((from * SHARE + i) * THREADS + thread) * 16);
#pragma unroll
                for (u32 k = 0; k < 4; ++k) total.values[k] += part.values[k];
            }
            u32 four = rank * SHARE + i;
            write(out + four * next_columns + four / 8 * next_tap, total.values[0], total.values[1], total.values[2],
                  total.values[3]);
        }
    }
}

// Adds up the columns of d_y into sums [parts, K]. One warp; a lane reads two channels of every line.
__device__ __forceinline__ void sum_strips(Ring d_y, float *sums, const WeightTiles &p) {
    u32 lane = threadIdx.x % WARP, blocks = p.outputs / 64;
    float total[2] = {};
    Strips strip(p);
    while (strip.next()) {
        for (int row = strip.first; row < strip.end; ++row) {
            d_y.wait_full();
            float sum[2] = {};
#pragma unroll 1
            for (u32 lines = d_y.place() + lane % 4 * 4; lines < d_y.place() + WEIGHT_STEP * LINE_BYTES; lines += LINES_BYTES) {
#pragma unroll
                for (u32 line = 0; line < 8; ++line) {
                    u32 two = load_shared(lines + line * LINE_BYTES + (lane / 4 ^ line) * 16);
                    sum[0] += __uint_as_float(two << 16);
                    sum[1] += __uint_as_float(two & 0xffff0000u);
                }
            }
            total[0] += sum[0];
            total[1] += sum[1];
            __syncwarp();
            if (lane == 0) arrive(d_y.empty());
            d_y.advance();
        }
    }
    float *to = sums + blockIdx.y * p.outputs + blockIdx.x % blocks * 64 + lane * 2;
    to[0] = total[0];
    to[1] = total[1];
}

template <u32 BLOCKS>
__device__ __forceinline__ void weight_product(const TensorMap &x, const TensorMap &d_y, float *out, float *bias,
                                               const WeightTiles &p) {
    extern __shared__ unsigned char unaligned[];
    __shared__ u64 barriers[2 * (WEIGHT_MOST_SLOTS + WEIGHT_D_Y_SLOTS)];
    u32 memory = (shared_address(unaligned) + LINES_BYTES - 1) & ~(LINES_BYTES - 1), at = shared_address(barriers);
    u32 d_y_bytes = WEIGHT_STEP * LINE_BYTES, row_bytes = d_y_bytes + 2 * p.images * LINE_BYTES;
    Ring of_d_y{memory, d_y_bytes, WEIGHT_D_Y_SLOTS, at};
    Ring rows{memory + WEIGHT_D_Y_SLOTS * d_y_bytes, row_bytes, p.slots, at + WEIGHT_D_Y_SLOTS * 16};
    u32 blocks = p.outputs / 64;
    bool sums_bias = bias && blockIdx.x < blocks;
    if (threadIdx.x == 0) {
        prefetch(x);
        prefetch(d_y);
        for (u32 i = 0; i < WEIGHT_D_Y_SLOTS + p.slots; ++i) {
            barrier_init(at + i * 16, 1);
            barrier_init(at + i * 16 + 8, WEIGHT_GROUPS * 4 + (i < WEIGHT_D_Y_SLOTS && sums_bias));
        }
        barriers_are_ready();
    }
    __syncthreads();
    await_previous();
    u32 warp = __shfl_sync(0xffffffffu, threadIdx.x / WARP, 0);
    if (warp >= 4) {
        more_registers<160>();
        multiply_strips<BLOCKS>(rows, of_d_y, memory, warp / 4 - 1, out, p);
        return;
    }
    fewer_registers<32>();
    if (warp == 2 && sums_bias) {
        sum_strips(of_d_y, bias, p);
        if constexpr (BLOCKS > 1) sync_cluster();  // Sums of other blocks come where it read.
    }
    if (threadIdx.x % WARP != 0 || warp > 1) return;
    int input = blockIdx.x / blocks * 64, output = blockIdx.x % blocks * 64;
    // The first warp brings x, the second d_y.
    bool of_x = warp == 0;
    Ring ring = of_x ? rows : of_d_y;
    const TensorMap &map = of_x ? x : d_y;
    int stride = of_x ? p.stride : 1, border = of_x, height = of_x ? p.source_height : p.height;
    Strips strip(p);
    while (strip.next()) {
        for (int h = strip.first * stride - border; h <= (strip.end - 1) * stride + border; ++h) {
            ring.wait_empty();
            if (h >= 0 && h < height) {
                arrive_expecting(ring.full(), ring.stage_bytes);
                load_box(ring.place(), map, {of_x ? input : output, strip.n, strip.w * stride - border, h}, ring.full());
            } else {
                arrive(ring.full());
            }
            ring.advance();
        }
    }
}

#define CONV2D_WEIGHT_WGMMA(NAME, BLOCKS)                                                                             \
    extern "C" __global__ void __cluster_dims__(1, BLOCKS, 1) __launch_bounds__(WEIGHT_THREADS, 1)                    \
    conv2d_backward_weight_##NAME##_bf16(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap d_y,  \
                                         float *out, float *bias, WeightTiles p) {                                    \
        weight_product<BLOCKS>(x, d_y, out, bias, p);                                                                 \
    }

extern "C" __global__ void __launch_bounds__(WEIGHT_THREADS, 1)
conv2d_backward_weight_wgmma_bf16(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap d_y, float *out,
                                  float *bias, WeightTiles p) {
    weight_product<1>(x, d_y, out, bias, p);
}
CONV2D_WEIGHT_WGMMA(wgmma_cluster2, 2)
CONV2D_WEIGHT_WGMMA(wgmma_cluster4, 4)
CONV2D_WEIGHT_WGMMA(wgmma_cluster8, 8)
#endif
