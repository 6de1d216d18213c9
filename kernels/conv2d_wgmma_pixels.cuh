// Convolutions of small images, or with a stride, on the tensor cores of sm_90a: 3×3 taps, padding 1, bf16 and TF32; the
// channels of the source are a multiple of a line's (64 in bf16, 32 in TF32), those of the result of 64.
//
//   result[i, j, n, m] = Σ_{u, v, k} source[·, ·, n, k] · tap(u, v)[k, m]    pixels and taps as in TapProduct, conv2d.cuh
//
// source  [H, W, N, C] T        boxes of a line × images × pixels × 1 row
// filter  [9 · C, K] T          boxes of a line × 64 (forward in bf16) or × COLUMNS (backward); forward in TF32 [9 · K, C],
//                               see conv2d_wgmma_wide.cuh
// addend, pre, kept, result     rows are pixels and images, as in conv2d.cu; see epilogue.cuh
// slope_sums  [parts, C] f32    what each tile of rows finds of d_slope; all are written
// Grid: min(tiles, 132) blocks, by shape alone; WGMMA_THREADS; dynamic shared memory: the stages, a place for each
// consumer warp to exchange results, 1 KB to align them.
//
// Images follow each other within a pixel, so that for one pixel of the result and one tap the source is a matrix of
// images × channels as it lies: no row of a tile is in the padding, and taps there are left out. A tile is 128 images of
// one pixel, or all of fewer images (which then divide 128) of several that see neighbours, times COLUMNS channels: a product of
// matrices, with the pipeline of matrix_product_wgmma.cuh, whose reduction runs over the taps that the tile sees. Gradients
// of strided convolutions have a class of pixels for each remainder modulo the stride; those that see most taps come first.
//
// The arithmetic, for 64 channels of the source (TF32: 32) of one tap, in cycles of one multiprocessor:
//   COLUMNS                64                        128
//   products               4 · 2 · 32 = 256          4 · 2 · 64 = 512
//   from L2                16 + 8 KB: 96 a cycle     16 + 16 KB: 64 a cycle
//   shared memory          64 + 64 lines a product   64 + 128: 128 and 96 bytes a cycle
// L2 gives a multiprocessor about 60 bytes a cycle, and all 132 together 3,200: it is what bounds both, 64 columns more
// than 128, which leave multiprocessors without work where the result is small. Each source pixel is read up to nine
// times; conv2d_wgmma_wide.cuh reads it once, where an image fills its tiles.
// Stages: 192 KB under way, about 3,000 cycles of what L2 gives. What the epilogue reads is asked for before the first
// product, where registers are there for it.
// None of this has been measured by itself.
#pragma once
#include "conv2d.cuh"
#include "matrix_product_wgmma.cuh"

template <u32 COLUMNS>
constexpr u32 PIXEL_STAGES = COLUMNS == 64 ? 8 : 6;

// Where a tile begins, and what it sees. Tiles of columns follow each other, then images, then neighbours in a row.
struct PixelTile {
    u32 which;  // of the classes
    int i, j, n, column;
    u32 part;  // among the tiles of the same columns

    __device__ __forceinline__ PixelTile(const PixelProduct &p, u32 tile, u32 columns) {
        which = 0;
        while (which + 1 < p.class_count && tile >= p.classes[which + 1].first_tile) ++which;
        const PixelClass &own = p.classes[which];
        part = tile / p.column_tiles;
        column = tile % p.column_tiles * columns;
        u32 rest = (tile - own.first_tile) / p.column_tiles;
        n = rest % p.image_tiles * p.images;
        rest /= p.image_tiles;
        j = rest % own.across * p.pixels;
        i = rest / own.across;
    }

    // Calls body(tap, h, w) for each tap through which some row of the tile sees pixel (h, w) of the source, the first of
    // several.
    template <class Body>
    __device__ __forceinline__ void for_each_tap(const PixelProduct &p, Body body) const {
        const TapAxis &vertical = p.classes[which].vertical, &horizontal = p.classes[which].horizontal;
        int h = i * vertical.step + vertical.origin, first_w = j * horizontal.step + horizontal.origin;
        for (int u = 0; u < vertical.taps; ++u, h += vertical.direction) {
            if (h < 0 || h >= vertical.source) continue;
            int row = (vertical.first_tap + vertical.tap_step * u) * p.filter_width, w = first_w;
            for (int v = 0; v < horizontal.taps; ++v, w += horizontal.direction) {
                if (w + p.pixels <= 0 || w >= horizontal.source) continue;
                body(row + horizontal.first_tap + horizontal.tap_step * v, h, w);
            }
        }
    }
};

// FORWARD in bf16 reads filters across, all others along the reduction.
template <class T, Major RIGHT, u32 COLUMNS, class Epilogue>
__device__ __forceinline__ void pixel_product(const TensorMap &source, const TensorMap &filter, const Epilogue &epilogue,
                                              const PixelProduct &p) {
    constexpr u32 STAGE = WGMMA_STAGE_BYTES<COLUMNS>, LEFT_PART = WGMMA_ROWS * LINE_BYTES;
    constexpr u32 STAGES = PIXEL_STAGES<COLUMNS>;
    extern __shared__ u8 unaligned[];
    __shared__ u64 barriers[2 * STAGES];
    u8 *aligned = unaligned + (-shared_address(unaligned) & (LINES_BYTES - 1));
    Ring ring{shared_address(aligned), STAGE, STAGES, shared_address(barriers)};
    u32 warp = __shfl_sync(0xffffffffu, threadIdx.x / WARP, 0);
    if (threadIdx.x == 0) {
        for (u32 stage = 0; stage < STAGES; ++stage) {
            barrier_init(ring.barriers + stage * 16, 1);
            barrier_init(ring.barriers + stage * 16 + 8, CONSUMER_WARPS);
        }
        barriers_are_ready();
    }
    __syncthreads();
    await_previous();
    if (warp >= CONSUMER_WARPS) {
        fewer_registers<COPY_REGISTERS>();
        if (warp == CONSUMER_WARPS && elect()) {
            for (u32 at = blockIdx.x; at < p.tiles; at += gridDim.x) {
                PixelTile tile(p, at, COLUMNS);
                tile.for_each_tap(p, [&](int tap, int h, int w) {
                    int lines = tap * (RIGHT == K_MAJOR ? p.columns : p.length);
                    for (int channel = 0; channel < p.length; channel += CHUNK<T>, ring.advance()) {
                        ring.wait_empty();
                        u32 to = ring.place(), full = ring.full();
                        arrive_expecting(full, STAGE);
                        load_box(to, source, {channel, tile.n, w, h}, full);
                        if constexpr (RIGHT == K_MAJOR) {
                            load_box(to + LEFT_PART, filter, {channel, lines + tile.column}, full);
                        } else {
#pragma unroll
                            for (int column = 0; column < int(COLUMNS); column += 64)
                                load_box(to + LEFT_PART + column * LINE_BYTES, filter,
                                         {tile.column + column, lines + channel}, full);
                        }
                    }
                });
            }
        }
        __syncwarp();
        return;
    }
    more_registers<PRODUCT_REGISTERS>();
    constexpr u32 PARTS = COLUMNS / EXCHANGE_COLUMNS;
    constexpr bool EARLY = PARTS == 1 || sizeof(T) == 2;
    u32 group = warp / 4, lane = threadIdx.x % WARP;
    u8 *exchanges = aligned + STAGES * STAGE, *exchange = exchanges + warp * EXCHANGE_BYTES;
    for (u32 at = blockIdx.x; at < p.tiles; at += gridDim.x) {
        PixelTile tile(p, at, COLUMNS);
        const TapAxis &vertical = p.classes[tile.which].vertical, &horizontal = p.classes[tile.which].horizontal;
        int to_row = vertical.first_pixel + tile.i * vertical.pixel_step;
        int to_column = horizontal.first_pixel + tile.j * horizontal.pixel_step;
        u32 first = (to_row * p.result_width + to_column) * p.batch + tile.n;
        u32 rows = min(p.pixels, horizontal.pixels - tile.j) * min(p.images, p.batch - tile.n);
        // The pixels of a class lie between those of the others.
        WarpRows<Epilogue> to{epilogue, warp * 16, rows, first, p.image_bits, u32((horizontal.pixel_step - 1) * p.batch)};
        typename WarpRows<Epilogue>::Operands operands[PARTS];
        if constexpr (EARLY) {
#pragma unroll
            for (u32 part = 0; part < PARTS; ++part) operands[part] = to.read(tile.column + part * EXCHANGE_COLUMNS);
        }
        u32 steps = 0;
        tile.for_each_tap(p, [&](int, int, int) { steps += p.length / CHUNK<T>; });
        float sum[COLUMNS / 2];
        u32 before = 0;
#pragma unroll 1
        for (u32 step = 0; step < steps; ++step, ring.advance()) {
            Matrix<K_MAJOR> a(ring.place() + group * 64 * LINE_BYTES);
            Matrix<RIGHT> b(ring.place() + LEFT_PART, RIGHT == MN_MAJOR ? 64 * LINE_BYTES : 16);
            ring.wait_full();
            begin_products();
#pragma unroll
            for (u32 part = 0; part < STEPS; ++part)
                multiply_shared<T, K_MAJOR, RIGHT>(sum, a.step(part), b.step(part), part > 0 || step > 0);
            commit_products();
            // The chunk before has been read.
            wait_for_products<1>();
            if (step > 0 && lane == 0) arrive(before);
            before = ring.empty();
        }
        wait_for_products<0>();
        settle(sum);
        if (lane == 0) arrive(before);
        Four column_sums[PARTS];
#pragma unroll
        for (u32 part = 0; part < PARTS; ++part) {
            u32 column = tile.column + part * EXCHANGE_COLUMNS;
            if constexpr (!EARLY) operands[part] = to.read(column);
            column_sums[part] = to.store(sum + part * (EXCHANGE_COLUMNS / 2), exchange, column, &operands[part]);
        }
        if constexpr (Epilogue::SUMS) {
            if (!epilogue.column_sums) continue;
            // The other half of a warp has the same columns; then the warps, in order, where results were exchanged.
            constexpr u32 PIECES = WarpRows<Epilogue>::PIECES;
            __syncwarp();
#pragma unroll
            for (u32 part = 0; part < PARTS; ++part) {
                Four &of = column_sums[part];
#pragma unroll
                for (u32 i = 0; i < 4; ++i) of.values[i] += __shfl_xor_sync(0xffffffffu, of.values[i], PIECES);
                float *place = reinterpret_cast<float *>(exchange) + part * EXCHANGE_COLUMNS;
                if (lane < PIECES) store_pack(place + lane * 4, of);
            }
            sync_threads(1, CONSUMER_WARPS * WARP);
            if (threadIdx.x < COLUMNS) {
                float total = 0;
#pragma unroll
                for (u32 other = 0; other < CONSUMER_WARPS; ++other)
                    total += reinterpret_cast<const float *>(exchanges + other * EXCHANGE_BYTES)[threadIdx.x];
                epilogue.column_sums[u64(tile.part) * p.columns + tile.column + threadIdx.x] = total;
            }
            sync_threads(1, CONSUMER_WARPS * WARP);
        }
    }
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
// FORWARD_RIGHT: how the filter lies that the forward pass reads.
#define CONV2D_PIXELS(COLUMNS, DTYPE, T, FORWARD_RIGHT)                                                               \
    extern "C" __global__ void __launch_bounds__(WGMMA_THREADS, 1)                                                    \
    conv2d_forward_wgmma_128x##COLUMNS##_##DTYPE(                                                                     \
        const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap filter, const float *bias,             \
        const float *slope, const T *residual, T *y, T *out, const __grid_constant__ PixelProduct p) {                \
        PreluEpilogue<T> epilogue{bias, slope, residual, y, out, p.columns, true};                               \
        pixel_product<T, FORWARD_RIGHT, COLUMNS>(x, filter, epilogue, p);                                             \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(WGMMA_THREADS, 1)                                                    \
    conv2d_backward_data_wgmma_128x##COLUMNS##_##DTYPE(                                                               \
        const __grid_constant__ TensorMap d_y, const __grid_constant__ TensorMap filter, const T *addend,             \
        const T *pre, const float *slope, T *kept, T *out, float *slope_sums,                                         \
        const __grid_constant__ PixelProduct p) {                                                                     \
        PreluGradientEpilogue<T> epilogue{addend, pre, slope, kept, out, slope_sums, p.columns, true};           \
        pixel_product<T, K_MAJOR, COLUMNS>(d_y, filter, epilogue, p);                                                 \
    }

CONV2D_PIXELS(64, bf16, bf16, MN_MAJOR)
CONV2D_PIXELS(128, bf16, bf16, MN_MAJOR)
CONV2D_PIXELS(64, tf32, float, K_MAJOR)
CONV2D_PIXELS(128, tf32, float, K_MAJOR)
#endif
