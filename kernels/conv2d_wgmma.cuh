// Convolutions of 64 to 64 channels on the tensor cores of sm_90a: 3×3 taps, stride 1, padding 1, bf16.
//
//   result[h, w, n, m] = Σ_{u, v, k} source[h + u − 1, w + v − 1, n, k] · tap(u, v)[k, m]
//   forward:  source is x, result y, tap(u, v)[k, m] = filter[u, v, k, m]
//   backward: source is d_y, result d_x, tap(u, v)[k, m] = filter[2 − u, 2 − v, m, k]
//
// and then what epilogue.cuh has of a rectifier, a residual and the gradients of both.
//
// source, addend, pre, kept, result  [H, W, N, 64] bf16   boxes of 64 × 8 images × 18 pixels × 4 rows (source) and of
//                                                         64 × 8 × 16 × 1 (others), 128-byte swizzle
// filter                             [576, 64] bf16       boxes of 64 × 192
// slope_sums                         [2 · blocks, 64] f32 what each consumer finds of d_slope; every one is written
// Grid: min(tiles, 132) blocks, by shape alone; 384 threads; dynamic shared memory: 214,016 bytes, 1,024 of
// them to align the rest.
//
// The product is transposed: filters are A, in registers, and activations are B, in shared memory. A tile is two rows of
// 16 pixels times 8 images. One copy brings its patch with the border, 4 × 18 pixels of 8 images of 64 channels, zeros
// outside of the image. A pixel's 8 × 128 bytes are one pattern of the swizzle, so that 16 neighbouring pixels, wherever
// they begin, are a B operand of 128 columns: a tap is a start address, and all nine read the same bytes. What lies in
// the padding above or below an image is not multiplied.
//
// Warps 0–3 copy: the first brings patches, the second and third bring what an epilogue reads and take away what it
// made, each for one consumer. Two groups of four warps multiply, a row of pixels each, in turns: one has the tensor
// cores while the other finishes its row, so that they are idle only where both do.
//
// The arithmetic, for a tile on one multiprocessor, in cycles:
//   products      2 · 36 of m64n128k16 at 64                                     4,608
//   shared memory B: 128 × 32 bytes each, 64 of 128 bytes a cycle                2,304   A is in registers
//   from L2       the patch, 73,728 bytes, 16 a cycle; with a residual or a kept value 16,384 more each a row
//   issue         a row: 36 wgmma and their descriptors, 32 values a thread of about 8 instructions to finish: some 900
//                 slots of one scheduler, twice a tile: 1,800 of 4,608
//   registers     9 · 4 · 4 of filters, 64 of sums: 208 of 240 a thread; copying warps have 24
//   shared bytes  two patches 147,456, a row of kept and of final values for each consumer 65,536
// The floor of 56 × 48 pixels, batch 256: 2,688 tiles, 21 a block: 97,000 cycles, 55 µs at 1.755 GHz; input and output
// once take 53 µs of DRAM at 3.35 TB/s. Measured on an H200 at 56 × 48, batch 256, bare: 75 µs.
//
// Sums have 576 terms; those of slopes are added up by tile first.
#pragma once
#include "conv2d.cuh"
#include "epilogue_wgmma.cuh"

constexpr u32 HALO_THREADS = 384;
constexpr u32 HALO_CONSUMERS = 2;
constexpr u32 HALO_CHANNELS = 64, HALO_TAPS = 9, HALO_STEPS = 4;  // of 16 channels
constexpr u32 HALO_IMAGES = 8, HALO_PIXELS = 16;
constexpr u32 PATCH_WIDTH = HALO_PIXELS + 2;
constexpr u32 PIXEL_BYTES = HALO_IMAGES * HALO_CHANNELS * 2;
constexpr u32 PATCH_BYTES = (HALO_CONSUMERS + 2) * PATCH_WIDTH * PIXEL_BYTES;
constexpr u32 ROW_BYTES = HALO_PIXELS * PIXEL_BYTES;
constexpr u32 FILTER_BYTES = HALO_TAPS * HALO_CHANNELS * HALO_CHANNELS * 2;
constexpr u32 FILTER_BOX_ROWS = 192;
constexpr u32 FIRST_TAPS = 1;  // the row of taps that every pixel sees
constexpr u32 TURN = 1;        // the named barrier of the first consumer's turn, before that of the second
static_assert(FILTER_BYTES <= PATCH_BYTES, "filters wait in the place of a patch");

// The places of everything in shared memory.
struct HaloShared {
    u32 patches;  // [2]
    u32 rows;     // [consumers][kept and addend or nothing, result and what is read of the same row]
    u32 filter, full, empty, ready, written;

    __device__ __forceinline__ u32 patch(u32 stage) const { return patches + stage * PATCH_BYTES; }
    __device__ __forceinline__ u32 kept(u32 consumer) const { return rows + consumer * 2 * ROW_BYTES; }
    __device__ __forceinline__ u32 result(u32 consumer) const { return kept(consumer) + ROW_BYTES; }
};

// Where a tile begins.
struct HaloTile {
    int w, h, n;

    // Neighbours in a row follow each other, then rows: what they share is in L2 when it is read again.
    __device__ __forceinline__ HaloTile(const HaloProduct &p, u32 tile) {
        u32 columns = (p.width + HALO_PIXELS - 1) / HALO_PIXELS;
        u32 rows = (p.height + HALO_CONSUMERS - 1) / HALO_CONSUMERS;
        u32 row = tile / columns;
        w = tile % columns * HALO_PIXELS;
        h = row % rows * HALO_CONSUMERS;
        n = row / rows * HALO_IMAGES;
    }
};

// Brings filters, then a patch for every tile.
__device__ __forceinline__ void copy_patches(const HaloShared &shared, const TensorMap &source, const TensorMap &filter,
                                             const HaloProduct &p) {
    arrive_expecting(shared.filter, FILTER_BYTES);
#pragma unroll
    for (u32 row = 0; row < HALO_TAPS * HALO_CHANNELS; row += FILTER_BOX_ROWS)
        load_box(shared.patch(1) + row * HALO_CHANNELS * 2, filter, {0, int(row)}, shared.filter);
    u32 stage = 0, phase = 0;
    for (u32 at = blockIdx.x; at < p.tiles; at += gridDim.x) {
        HaloTile tile(p, at);
        // The first stage is free at the beginning, the second has been free once when the filters are in registers.
        wait(shared.empty + stage * 8, phase ^ u32(stage == 0));
        u32 full = shared.full + stage * 8;
        arrive_expecting(full, PATCH_BYTES);
        load_box(shared.patch(stage), source, {0, tile.n, tile.w - 1, tile.h - 1}, full);
        phase ^= stage;
        stage ^= 1;
    }
}

// Brings what a consumer's epilogue reads, and takes away what it wrote in the same places.
__device__ __forceinline__ void copy_rows(const HaloShared &shared, u32 consumer, const TensorMap &by_kept,
                                          bool reads_kept, const TensorMap &by_result, bool reads_result,
                                          const TensorMap &kept, const TensorMap &result, const HaloProduct &p) {
    u32 ready = shared.ready + consumer * 8, written = shared.written + consumer * 8, phase = 0;
    u32 kept_at = shared.kept(consumer), result_at = shared.result(consumer);
    for (u32 at = blockIdx.x; at < p.tiles; at += gridDim.x) {
        HaloTile tile(p, at);
        int h = tile.h + int(consumer);
        if (h >= p.height) continue;
        arrive_expecting(ready, (u32(reads_kept) + u32(reads_result)) * ROW_BYTES);
        if (reads_kept) load_box(kept_at, by_kept, {0, tile.n, tile.w, h}, ready);
        if (reads_result) load_box(result_at, by_result, {0, tile.n, tile.w, h}, ready);
        wait(written, phase);
        phase ^= 1;
        if (p.operands.kept) store_box(kept, {0, tile.n, tile.w, h}, kept_at);
        store_box(result, {0, tile.n, tile.w, h}, result_at);
        commit_stores();
        wait_for_stores<0>();
    }
}

// The filters as A operands: in four warps 16 of the 64 channels of the result each.
using HaloFilters = u32[HALO_TAPS][HALO_STEPS][4];

template <bool BACKWARD>
__device__ __forceinline__ void load_filters(HaloFilters &a, u32 from) {
    u32 warp = threadIdx.x / WARP % 4, lane = threadIdx.x % WARP, matrix = lane / 8, line = lane % 8;
#pragma unroll
    for (u32 tap = 0; tap < HALO_TAPS; ++tap) {
#pragma unroll
        for (u32 step = 0; step < HALO_STEPS; ++step) {
            // Lines of the filter are its inputs: the reduction forward, the rows backward.
            u32 first = from + (BACKWARD ? HALO_TAPS - 1 - tap : tap) * HALO_CHANNELS * 128;
            u32 row = BACKWARD ? warp * 16 + matrix % 2 * 8 : step * 16 + matrix / 2 * 8;
            u32 piece = BACKWARD ? step * 2 + matrix / 2 : warp * 2 + matrix % 2;
            u32 address = first + (row + line) * 128 + (piece ^ line) * 16;
            if (BACKWARD) load_matrices(a[tap][step], address);
            else load_matrices_transposed(a[tap][step], address);
        }
    }
}

// Multiplies a row of pixels by row U of the filter's taps; `patch` is where the row's patch begins.
template <u32 U>
__device__ __forceinline__ void multiply_taps(float (&sum)[HALO_PIXELS * 4], const HaloFilters &a, u64 patch) {
    begin_products();
#pragma unroll
    for (u32 v = 0; v < 3; ++v) {
#pragma unroll
        for (u32 step = 0; step < HALO_STEPS; ++step) {
            u64 b = patch + ((U * PATCH_WIDTH + v) * PIXEL_BYTES + step * 32) / 16;
            multiply_registers<bf16, K_MAJOR>(sum, a[U * 3 + v][step], b, U != FIRST_TAPS || v + step > 0);
        }
    }
    commit_products();
}

// One consumer: a row of every tile.
template <bool BACKWARD, class Epilogue>
__device__ __forceinline__ void multiply_rows(const HaloShared &shared, u32 consumer, Epilogue &epilogue,
                                              const HaloProduct &p) {
    u32 lane = threadIdx.x % WARP;
    HaloFilters a;
    wait(shared.filter, 0);
    load_filters<BACKWARD>(a, shared.patch(1));
    __syncwarp();
    if (lane == 0) arrive(shared.empty + 8);
    ResultLines<bf16> of_kept(shared.kept(consumer)), of_result(shared.result(consumer));
    u32 ready = shared.ready + consumer * 8, written = shared.written + consumer * 8;
    u32 stage = 0, phase = 0, row_phase = 0;
    if (consumer == 1) arrive_threads(TURN, 2 * 128);
    for (u32 at = blockIdx.x; at < p.tiles; at += gridDim.x) {
        HaloTile tile(p, at);
        int h = tile.h + int(consumer);
        bool present = h < p.height;
        wait(shared.full + stage * 8, phase);
        sync_threads(TURN + consumer, 2 * 128);
        float sum[HALO_PIXELS * 4];
        u64 patch = Matrix<K_MAJOR>(shared.patch(stage) + consumer * PATCH_WIDTH * PIXEL_BYTES).descriptor;
        if (present) {
            multiply_taps<FIRST_TAPS>(sum, a, patch);
            if (h > 0) multiply_taps<0>(sum, a, patch);
            if (h + 1 < p.height) multiply_taps<2>(sum, a, patch);
        }
        if (consumer == 0 || at + gridDim.x < p.tiles) arrive_threads(TURN + (consumer ^ 1), 2 * 128);
        wait_for_products<0>();
        if (lane == 0) arrive(shared.empty + stage * 8);
        settle(sum);
        if (present) {
            wait(ready, row_phase);
            row_phase ^= 1;
            epilogue.finish(sum, of_kept, of_result);
            writes_are_ready();
            __syncwarp();
            if (lane == 0) arrive(written);
        }
        phase ^= stage;
        stage ^= 1;
    }
}

template <bool BACKWARD, class Epilogue>
__device__ __forceinline__ void halo_product(const TensorMap &source, const TensorMap &filter, const TensorMap &by_kept,
                                             bool reads_kept, const TensorMap &by_result, bool reads_result,
                                             const TensorMap &kept, const TensorMap &result, float *slope_sums,
                                             const HaloProduct &p, Epilogue make) {
    extern __shared__ unsigned char unaligned[];
    __shared__ u64 barriers[9];  // filter; full and empty patches; rows that are ready and written
    u32 base = (shared_address(unaligned) + 1023) & ~1023u, at = shared_address(barriers);
    HaloShared shared{base, base + 2 * PATCH_BYTES, at, at + 8, at + 24, at + 40, at + 56};
    if (threadIdx.x == 0) {
        prefetch(source);
        prefetch(filter);
        prefetch(result);
        barrier_init(shared.filter, 1);
#pragma unroll
        for (u32 i = 0; i < 2; ++i) {
            barrier_init(shared.full + i * 8, 1);
            barrier_init(shared.empty + i * 8, HALO_CONSUMERS * 4);
            barrier_init(shared.ready + i * 8, 1);
            barrier_init(shared.written + i * 8, 4);
        }
        barriers_are_ready();
    }
    __syncthreads();
    await_previous();
    u32 warp = __shfl_sync(0xffffffffu, threadIdx.x / WARP, 0);
    if (warp < 4) {
        fewer_registers<24>();
        if (threadIdx.x % WARP != 0) return;
        if (warp == 0) copy_patches(shared, source, filter, p);
        else if (warp <= HALO_CONSUMERS)
            copy_rows(shared, warp - 1, by_kept, reads_kept, by_result, reads_result, kept, result, p);
        return;
    }
    more_registers<240>();
    u32 consumer = warp / 4 - 1, channel = result_channel();
    auto epilogue = make(channel);
    multiply_rows<BACKWARD>(shared, consumer, epilogue, p);
    if constexpr (BACKWARD) {
        u32 part = blockIdx.x * HALO_CONSUMERS + consumer;
        if (slope_sums) epilogue.write_sums(slope_sums + part * HALO_CHANNELS + channel);
    }
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
extern "C" __global__ void __launch_bounds__(HALO_THREADS, 1)
conv2d_forward_wgmma_64_bf16(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap filter,
                             const float *bias, const float *slope, const __grid_constant__ TensorMap residual,
                             const __grid_constant__ TensorMap y, const __grid_constant__ TensorMap out,
                             HaloProduct p) {
    halo_product<false>(x, filter, residual, false, residual, p.operands.addend, y, out, nullptr, p,
                        [&](u32 channel) { return PreluColumns(bias, slope, p.operands.addend, p.operands.kept, channel); });
}

extern "C" __global__ void __launch_bounds__(HALO_THREADS, 1)
conv2d_backward_data_wgmma_64_bf16(const __grid_constant__ TensorMap d_y, const __grid_constant__ TensorMap filter,
                                   const __grid_constant__ TensorMap addend, const __grid_constant__ TensorMap pre,
                                   const float *slope, const __grid_constant__ TensorMap kept,
                                   const __grid_constant__ TensorMap out, float *slope_sums, HaloProduct p) {
    halo_product<true>(d_y, filter, addend, p.operands.addend, pre, p.operands.pre, kept, out, slope_sums, p,
                       [&](u32 channel) { return PreluGradientColumns(slope, p.operands.addend, p.operands.pre, p.operands.kept, channel); });
}
#endif
