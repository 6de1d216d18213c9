// Convolutions of small images, or with a stride, on the tensor cores of sm_90a: 3×3 taps, padding 1, bf16 and TF32; the
// channels of the source are a multiple of a line's (64 in bf16, 32 in TF32), those of the result of 64.
//
//   result[i, j, n, m] = Σ_{u, v, k} source[·, ·, n, k] · tap(u, v)[k, m]    pixels and taps as in TapProduct, conv2d.cuh
//
// source  [H, W, N, C] T        boxes of a line × images × pixels × rows, which step over what a stride leaves out
// filter  [9 · C, K] T          boxes of a line × 64 (forward in bf16) or × COLUMNS (backward); forward in TF32 [9 · K, C],
//                               see conv2d_wgmma_wide.cuh
// addend, pre, kept, result     rows are pixels and images, as in conv2d.cu; see epilogue.cuh
// slope_sums  [parts, C] f32    what each tile of rows, or half of it, finds of d_slope; all are written
// Grid: min(tiles, 132) blocks, whole clusters, by shape alone, or a cluster for each pair of tiles; WGMMA_THREADS;
// dynamic shared memory: the stages, a place for each consumer warp to exchange results, 1 KB to align them.
//
// Images follow each other within a pixel, so that for one pixel of the result and one tap the source is a matrix of
// images × channels as it lies: no row of a tile is in the padding, and taps there are left out. A tile is 128 images of
// one pixel, or fewer images of several pixels in several rows, times COLUMNS channels: a product of matrices, with the
// pipeline of matrix_product_wgmma.cuh, whose reduction runs over the taps that some pixel of the tile sees. Gradients of
// strided convolutions have a class of pixels for each remainder modulo the stride; those that see most taps come first.
//
// The arithmetic, for 64 channels of the source (TF32: 32) of one tap, in cycles of one multiprocessor:
//   COLUMNS                64                        128                      128, clusters
//   products               4 · 2 · 32 = 256          4 · 2 · 64 = 512         512
//   from L2                16 + 8 KB: 96 a cycle     16 + 16 KB: 64 a cycle   16 + 8 KB: 48 a cycle
//   shared memory          read and written: 448     640                      640
// L2 gives a multiprocessor about 60 bytes a cycle, and all 132 together 3,200: it is what bounds both without clusters, 64
// columns more than 128. Each source pixel is read up to nine times; conv2d_wgmma_wide.cuh reads it once, where an image
// fills its tiles.
//
// One image of 28 × 24 pixels is six tiles, of 14 × 12 two: there each part of a reduction has its block of a cluster.
//
// Where there is an even number of tiles of images, the two blocks of a cluster have the same pixel and columns of
// neighbouring images: each copies half of the filter to both. Small results leave multiprocessors without work, and a
// pixel in the middle sees 9 taps where one in a corner sees 4: 4 × 4 pixels of 256 channels, batch 256, are 64 tiles of up
// to 36 steps, 1,600 steps together. Then clusters of 4 or 8 have two or four parts of each reduction. A block keeps its
// share of the tile and stores the others in the shared memory of those whose they are, 32 KB of two parts, 48 KB of four:
// at 14 bytes a cycle (Luo et al. 2024) 2,300 and 3,500 cycles, against 18 steps of 640 that are saved in that example.
// Stages: 192 KB under way, about 3,000 cycles of what L2 gives. What the epilogue reads is asked for before the first
// product, where registers are there for it.
// None of this has been measured by itself.
#pragma once
#include "conv2d.cuh"
#include "matrix_product_wgmma.cuh"

template <u32 COLUMNS>
constexpr u32 PIXEL_STAGES = COLUMNS == 64 ? 8 : 6;

// Where a tile begins, and what it sees. Tiles of columns follow each other, then images, then neighbours in a row, rows.
// The first is in the middle, where a pixel sees most taps: what takes longest begins first.
struct PixelTile {
    u32 which;  // of the classes
    int i, j, n, column;
    u32 part;  // among the tiles of the same columns

    // Of tiles of the same columns, the one number `member` of `members` that follow each other.
    __device__ __forceinline__ PixelTile(const PixelProduct &p, u32 number, u32 columns, u32 members, u32 member) {
        part = number / p.column_tiles * members + member;
        column = number % p.column_tiles * columns;
        which = 0;
        while (which + 1 < p.class_count && part * p.column_tiles >= p.classes[which + 1].first_tile) ++which;
        const PixelClass &own = p.classes[which];
        u32 rest = part - own.first_tile / p.column_tiles;
        n = rest % p.image_tiles << p.image_bits;
        rest /= p.image_tiles;
        // Of two in the middle, the one that more taps see where there is a stride.
        u32 down = (own.vertical.pixels + (1 << p.row_bits) - 1) >> p.row_bits, backward = own.vertical.direction < 0;
        j = (rest % own.across + (own.across - backward) / 2) % own.across << p.pixel_bits;
        i = (rest / own.across + (down - backward) / 2) % down << p.row_bits;
    }

    // Calls body(tap, h, w) for each tap through which some row of the tile sees pixel (h, w) of the source, the first of
    // several.
    template <class Body>
    __device__ __forceinline__ void for_each_tap(const PixelProduct &p, Body body) const {
        const TapAxis &vertical = p.classes[which].vertical, &horizontal = p.classes[which].horizontal;
        int h = i * vertical.step + vertical.origin, first_w = j * horizontal.step + horizontal.origin;
        // From the first to the last of the tile.
        int height = vertical.step * ((1 << p.row_bits) - 1), width = horizontal.step * ((1 << p.pixel_bits) - 1);
        for (int u = 0; u < vertical.taps; ++u, h += vertical.direction) {
            if (h + height < 0 || h >= vertical.source) continue;
            int row = (vertical.first_tap + vertical.tap_step * u) * p.filter_width, w = first_w;
            for (int v = 0; v < horizontal.taps; ++v, w += horizontal.direction) {
                if (w + width < 0 || w >= horizontal.source) continue;
                body(row + horizontal.first_tap + horizontal.tap_step * v, h, w);
            }
        }
    }
};

// Where the rows of a tile lie in the result. The pixels of a class lie between those of the others.
struct PixelRows {
    const PixelProduct &p;
    const PixelTile &tile;

    __device__ __forceinline__ u32 operator()(u32 number) const {
        const TapAxis &vertical = p.classes[tile.which].vertical, &horizontal = p.classes[tile.which].horizontal;
        int image = tile.n + (number & (1 << p.image_bits) - 1);
        int pixel = tile.j + (number >> p.image_bits & (1 << p.pixel_bits) - 1);
        int row = tile.i + (number >> p.image_bits >> p.pixel_bits);
        if (image >= p.batch || pixel >= horizontal.pixels || row >= vertical.pixels) return NO_ROW;
        row = vertical.first_pixel + row * vertical.pixel_step;
        pixel = horizontal.first_pixel + pixel * horizontal.pixel_step;
        return (row * p.result_width + pixel) * p.batch + image;
    }
};

// A tile's sums over the parts of its reduction that the blocks of a cluster have, every SHARED-th of which has the same
// tile: `sum` ends with the 64 columns of a warp that this block finishes, first of its registers, added in the order of the
// parts. Which those are is `share`: of two parts each has 64 columns, of four each 64 rows of 64 columns. Through
// `memory`, where the rings were, [parts, fours of 64 columns, threads]. All warps that multiply.
template <u32 SHARED, u32 SPLITS>
__device__ __forceinline__ void add_parts(float (&sum)[64], u32 memory, u32 split, u32 member) {
    constexpr u32 FOURS = EXCHANGE_COLUMNS / 8, THREADS = CONSUMERS * WARPGROUP;
    u32 group = threadIdx.x / WARPGROUP, place = memory + threadIdx.x * 16;
    auto owner = [&](u32 part) { return SPLITS == 2 ? part : group * 2 + part; };
    sync_cluster();
#pragma unroll
    for (u32 part = 0; part < 2; ++part) {
        if (owner(part) == split) continue;
        u32 there = in_block(place + split * FOURS * THREADS * 16, owner(part) * SHARED + member);
#pragma unroll
        for (u32 i = 0; i < FOURS; ++i) {
            const float *four = sum + (part * FOURS + i) * 4;
            store_in_block(there + i * THREADS * 16, four[0], four[1], four[2], four[3]);
        }
    }
    sync_cluster();
    if (owner(split % 2) != split) return;
#pragma unroll
    for (u32 i = 0; i < FOURS; ++i) {
        Four own, total = {};
#pragma unroll
        for (u32 k = 0; k < 4; ++k) own.values[k] = split % 2 ? sum[(FOURS + i) * 4 + k] : sum[i * 4 + k];
#pragma unroll
        for (u32 from = 0; from < SPLITS; ++from) {
            Four term = own;
            if (from != split) term = load_four(place + (from * FOURS + i) * THREADS * 16);
#pragma unroll
            for (u32 k = 0; k < 4; ++k) total.values[k] += term.values[k];
        }
#pragma unroll
        for (u32 k = 0; k < 4; ++k) sum[i * 4 + k] = total.values[k];
    }
}

// FORWARD in bf16 reads filters across, all others along the reduction. A cluster has SHARED tiles, one or two of the same
// columns and pixels, each in SPLITS parts of its reduction; with several parts it has no others.
template <class T, Major RIGHT, u32 COLUMNS, u32 SHARED, u32 SPLITS, class Epilogue>
__device__ __forceinline__ void pixel_product(const TensorMap &source, const TensorMap &filter, const Epilogue &epilogue,
                                              const PixelProduct &p) {
    constexpr u32 STAGE = WGMMA_STAGE_BYTES<COLUMNS>, LEFT_PART = WGMMA_ROWS * LINE_BYTES;
    constexpr u32 STAGES = PIXEL_STAGES<COLUMNS>;
    constexpr u32 BLOCKS = SHARED * SPLITS;
    static_assert(BLOCKS == 1 || COLUMNS == 128, "a block of two copies 64 columns, and of parts finishes as many");
    extern __shared__ u8 unaligned[];
    __shared__ u64 barriers[2 * STAGES];
    u8 *aligned = unaligned + (-shared_address(unaligned) & (LINES_BYTES - 1));
    Ring ring{shared_address(aligned), STAGE, STAGES, shared_address(barriers)};
    u32 warp = __shfl_sync(0xffffffffu, threadIdx.x / WARP, 0);
    if (threadIdx.x == 0) {
        prefetch(source);
        prefetch(filter);
        for (u32 stage = 0; stage < STAGES; ++stage) {
            barrier_init(ring.barriers + stage * 16, 1);
            barrier_init(ring.barriers + stage * 16 + 8, CONSUMER_WARPS * SHARED);
        }
        barriers_are_ready();
    }
    if constexpr (BLOCKS > 1) sync_cluster();
    else __syncthreads();
    await_previous();
    u32 member = blockIdx.x % SHARED, split = blockIdx.x % BLOCKS / SHARED;
    u32 first_tile = blockIdx.x / BLOCKS, tiles = p.tiles / SHARED, stride = gridDim.x / BLOCKS;
    // The part of a tile's steps, each a line of channels of a tap. None is empty: of the steps of the tile that has most a
    // part has four at least, and no tile has less than a quarter of them.
    u32 begin, end;
    auto split_steps = [&](const PixelTile &tile) {
        u32 steps = 0;
        tile.for_each_tap(p, [&](int, int, int) { steps += p.length / CHUNK<T>; });
        begin = steps * split / SPLITS;
        end = steps * (split + 1) / SPLITS;
    };
    if (warp >= CONSUMER_WARPS) {
        fewer_registers<COPY_REGISTERS>();
        if (warp == CONSUMER_WARPS && elect()) {
            for (u32 at = first_tile; at < tiles; at += stride) {
                PixelTile tile(p, at, COLUMNS, SHARED, member);
                split_steps(tile);
                u32 step = 0;
                tile.for_each_tap(p, [&](int tap, int h, int w) {
                    int lines = tap * (RIGHT == K_MAJOR ? p.columns : p.length);
                    for (int channel = 0; channel < p.length; channel += CHUNK<T>, ++step) {
                        if (SPLITS > 1 && (step < begin || step >= end)) continue;
                        ring.wait_empty();
                        u32 to = ring.place(), full = ring.full();
                        arrive_expecting(full, STAGE);
                        load_box(to, source, {channel, tile.n, w, h}, full);
                        to += LEFT_PART;
                        auto at_column = [&](int column, int(&at)[2]) {
                            at[0] = RIGHT == K_MAJOR ? channel : tile.column + column;
                            at[1] = lines + (RIGHT == K_MAJOR ? tile.column + column : channel);
                        };
                        int at[2];
                        if constexpr (SHARED > 1) {
                            at_column(member * 64, at);
                            load_box_to(3 << split * SHARED, to + member * 64 * LINE_BYTES, filter, at, full);
                        } else {
#pragma unroll
                            for (int column = 0; column < int(COLUMNS); column += RIGHT == K_MAJOR ? COLUMNS : 64) {
                                at_column(column, at);
                                load_box(to + column * LINE_BYTES, filter, at, full);
                            }
                        }
                        ring.advance();
                    }
                });
            }
        }
        __syncwarp();
        return;
    }
    more_registers<PRODUCT_REGISTERS>();
    // Parts of 64 columns that a warp finishes, and blocks among which the rows of a tile are.
    constexpr u32 PARTS = SPLITS > 1 ? 1 : COLUMNS / EXCHANGE_COLUMNS, ROW_PARTS = SPLITS == 4 ? 2 : 1;
    // Of how many of them what memory holds is read before the first product.
    constexpr int EARLY = PARTS == 1 ? 1 : sizeof(T) == 4 ? 0 : Epilogue::SUMS ? 1 : PARTS;
    using Rows = WarpRows<Epilogue, PixelRows>;
    u32 group = warp / 4, lane = threadIdx.x % WARP, first_column = SPLITS > 1 ? split % 2 * EXCHANGE_COLUMNS : 0;
    bool finishes = ROW_PARTS == 1 || split / 2 == group;
    u8 *exchanges = aligned + STAGES * STAGE, *exchange = exchanges + warp * EXCHANGE_BYTES;
    // One lane for each block that copies to this stage.
    auto release = [&](u32 empty) {
        if (lane >= SHARED) return;
        if constexpr (SHARED > 1) arrive_at(empty, split * SHARED + lane);
        else arrive(empty);
    };
    for (u32 at = first_tile; at < tiles; at += stride) {
        PixelTile tile(p, at, COLUMNS, SHARED, member);
        Rows to{epilogue, warp * 16, {p, tile}};
        typename Rows::Operands operands[PARTS];
#pragma unroll
        for (int part = 0; part < EARLY; ++part)
            if (finishes) operands[part] = to.read(tile.column + first_column + part * EXCHANGE_COLUMNS);
        split_steps(tile);
        float sum[COLUMNS / 2];
        u32 before = 0;
#pragma unroll 1
        for (u32 step = begin; step < end; ++step, ring.advance()) {
            Matrix<K_MAJOR> a(ring.place() + group * 64 * LINE_BYTES);
            Matrix<RIGHT> b(ring.place() + LEFT_PART, RIGHT == MN_MAJOR ? 64 * LINE_BYTES : 16);
            ring.wait_full();
            begin_products();
#pragma unroll
            for (u32 part = 0; part < STEPS; ++part)
                multiply_shared<T, K_MAJOR, RIGHT>(sum, a.step(part), b.step(part), part > 0 || step > begin);
            commit_products();
            // The chunk before has been read.
            wait_for_products<1>();
            if (step > begin) release(before);
            before = ring.empty();
        }
        wait_for_products<0>();
        settle(sum);
        release(before);
        if constexpr (SPLITS > 1) {
            add_parts<SHARED, SPLITS>(sum, ring.memory, split, member);
            if (!finishes) break;
        }
        Four column_sums[PARTS];
#pragma unroll
        for (u32 part = 0; part < PARTS; ++part) {
            u32 column = tile.column + first_column + part * EXCHANGE_COLUMNS;
            if (int(part) >= EARLY) operands[part] = to.read(column);
            column_sums[part] = to.store(sum + part * (EXCHANGE_COLUMNS / 2), exchange, column, &operands[part]);
        }
        if constexpr (Epilogue::SUMS) {
            if (!epilogue.column_sums) continue;
            // The other half of a warp has the same columns; then the warps, in order, where results were exchanged.
            constexpr u32 PIECES = Rows::PIECES, WARPS = CONSUMER_WARPS / ROW_PARTS;
            __syncwarp();
#pragma unroll
            for (u32 part = 0; part < PARTS; ++part) {
                Four &of = column_sums[part];
#pragma unroll
                for (u32 i = 0; i < 4; ++i) of.values[i] += __shfl_xor_sync(0xffffffffu, of.values[i], PIECES);
                float *place = reinterpret_cast<float *>(exchange) + part * EXCHANGE_COLUMNS;
                if (lane < PIECES) store_pack(place + lane * 4, of);
            }
            sync_threads(1, WARPS * WARP);
            u32 thread = threadIdx.x % (WARPS * WARP);
            if (thread < PARTS * EXCHANGE_COLUMNS) {
                float total = 0;
#pragma unroll
                for (u32 other = 0; other < WARPS; ++other) {
                    const u8 *of_warp = exchanges + (warp / WARPS * WARPS + other) * EXCHANGE_BYTES;
                    total += reinterpret_cast<const float *>(of_warp)[thread];
                }
                u32 part = tile.part * ROW_PARTS + (ROW_PARTS > 1 ? split / 2 : 0);
                epilogue.column_sums[u64(part) * p.columns + tile.column + first_column + thread] = total;
            }
            sync_threads(1, WARPS * WARP);
        }
    }
    if constexpr (SHARED > 1 && SPLITS == 1) sync_cluster();
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
// FORWARD_RIGHT: how the filter lies that the forward pass reads. NAME: that of the tile, and of a cluster.
#define CONV2D_PIXELS(NAME, COLUMNS, SHARED, SPLITS, DTYPE, T, FORWARD_RIGHT)                                         \
    extern "C" __global__ void __cluster_dims__(SHARED *SPLITS, 1, 1) __launch_bounds__(WGMMA_THREADS, 1)             \
    conv2d_forward_wgmma_##NAME##_##DTYPE(                                                                            \
        const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap filter, const float *bias,             \
        const float *slope, const T *residual, T *y, T *out, const __grid_constant__ PixelProduct p) {                \
        PreluEpilogue<T> epilogue{bias, slope, residual, y, out, p.columns, true};                                    \
        pixel_product<T, FORWARD_RIGHT, COLUMNS, SHARED, SPLITS>(x, filter, epilogue, p);                             \
    }                                                                                                                 \
    extern "C" __global__ void __cluster_dims__(SHARED *SPLITS, 1, 1) __launch_bounds__(WGMMA_THREADS, 1)             \
    conv2d_backward_data_wgmma_##NAME##_##DTYPE(                                                                      \
        const __grid_constant__ TensorMap d_y, const __grid_constant__ TensorMap filter, const T *addend,             \
        const T *pre, const float *slope, T *kept, T *out, float *slope_sums,                                         \
        const __grid_constant__ PixelProduct p) {                                                                     \
        PreluGradientEpilogue<T> epilogue{addend, pre, slope, kept, out, slope_sums, p.columns, true};                \
        pixel_product<T, K_MAJOR, COLUMNS, SHARED, SPLITS>(d_y, filter, epilogue, p);                                 \
    }

#define CONV2D_PIXELS_OF(DTYPE, T, FORWARD_RIGHT)                                                                     \
    CONV2D_PIXELS(128x64, 64, 1, 1, DTYPE, T, FORWARD_RIGHT)                                                          \
    CONV2D_PIXELS(128x128, 128, 1, 1, DTYPE, T, FORWARD_RIGHT)                                                        \
    CONV2D_PIXELS(128x128_split2, 128, 1, 2, DTYPE, T, FORWARD_RIGHT)                                                 \
    CONV2D_PIXELS(128x128_split4, 128, 1, 4, DTYPE, T, FORWARD_RIGHT)                                                 \
    CONV2D_PIXELS(128x128_pair, 128, 2, 1, DTYPE, T, FORWARD_RIGHT)                                                   \
    CONV2D_PIXELS(128x128_pair_split2, 128, 2, 2, DTYPE, T, FORWARD_RIGHT)                                            \
    CONV2D_PIXELS(128x128_pair_split4, 128, 2, 4, DTYPE, T, FORWARD_RIGHT)

CONV2D_PIXELS_OF(bf16, bf16, MN_MAJOR)
CONV2D_PIXELS_OF(tf32, float, K_MAJOR)
#endif
