// Products of dense matrices by the warpgroups of sm_90a: what matrix_product_mma.cuh is for mma.sync.
//
// T is float (operands cut to TF32, both with the reduction contiguous: NT) or bf16 (NN, NT, TN), sums are fp32.
// Operands come through tensor maps of three dimensions, the innermost of which is a multiple of 16 bytes; what lies
// outside of a matrix comes as zeros, so that no size needs care.
//   [matrices][rows or columns][reduction]  boxes of 128 bytes x 128 x 1
//   [matrices][reduction][rows or columns]  boxes of 128 bytes (64 bf16) x 64 x 1, several of them side by side
// A matrix is that of a segment, or of a product of the batch.
//
// A block has two warpgroups that multiply, each 64 rows of the tile, and one of which a lane copies. Chunks of 128
// bytes of the reduction go through a ring of four stages (bulk.cuh). Two blocks whose tiles of 128 x 256 lie one below
// the other are a cluster: each copies half of the columns to both, so that a stage is free when all four warpgroups
// have read it. Blocks stay: there is one for each SM, which takes one tile after the other, so that the next tile's
// chunks come while this one is stored. 16 rows of tiles go side by side along the columns, so that the tiles under way
// at a time are about a square (2,048 x 2,112 of 128 x 256) and share most of what they read in the second-level cache.
//
// What bounds it. A chunk of a tile of 128 x 256 is eight products m64n256k16 (bf16) or m64n256k8 (TF32) of 128 cycles:
// 1,024 cycles, in which
//   L2             gives 256 lines of 128 bytes, the other block another 128: 32 bytes a cycle and SM (48 alone)
//   shared memory  takes all, and gives each product 64 + 256 lines of 32 bytes: 48 + 80 of 128 bytes a cycle
//   issue          the loop of a warp has 53 instructions, those of all eight 424 of 4,096 slots
//   registers      384 threads begin with 168 each, of which those that copy keep 40 and leave 232 to the others, who
//                  have 128 sums
//   occupancy      one block: 192 KB of stages, 32 KB to exchange results
// and a tile of 128 x 128 half of the cycles, with 64 bytes a cycle from L2 and 64 + 96 of shared memory: it is for
// results that the larger tile would leave SMs without work, and has no clusters.
// Floor of a tile: 16 cycles a term (128 x 256, bf16), 65,536 at 4,096. Beside it: the first chunk's way from memory,
// once a block (about 1,000 cycles); the end of a tile, 128 KB of fp32 at 64 bytes a cycle, 2,048 cycles, in which the
// other consumer may still multiply, as it need not be at the same chunk: 3% at 4,096 terms, 1.5% at 8,192. None of
// this was measured apart; as a whole, on an H200 in bf16 with fp32 results: 4,096 cubed 211 µs, 8,192 cubed 1.57 ms.
//
// Sums are fp32. A product adds 16 (bf16) or 8 (TF32) terms to them at once, so that the 8,192 terms which launchers
// allow before parts are added up are 512 or 1,024 additions one after another.
#pragma once
#include "matrix_product.cuh"
#include "mma_tile.cuh"
#include "wgmma.cuh"

constexpr u32 WARPGROUP = 4 * WARP, CONSUMERS = 2, CONSUMER_WARPS = CONSUMERS * 4;
constexpr u32 WGMMA_THREADS = (CONSUMERS + 1) * WARPGROUP;
// Registers of a thread of the warpgroup that copies, and of those that multiply.
constexpr int COPY_REGISTERS = 40, PRODUCT_REGISTERS = 232;
constexpr u32 WGMMA_ROWS = CONSUMERS * 64;
constexpr u32 RING_STAGES = 4;
// Rows of tiles that go side by side.
constexpr u32 BAND = 16;
// Blocks of a cluster, one below the other, which share their columns of the right operand.
template <u32 COLUMNS>
constexpr u32 CLUSTER = COLUMNS / 128;
// Columns of a warp's 16 rows that are exchanged at once.
constexpr u32 EXCHANGE_COLUMNS = 64, EXCHANGE_BYTES = 16 * EXCHANGE_COLUMNS * 4;

// Dynamic shared memory: stages, a place for each consumer warp to exchange results, room to align them.
template <u32 COLUMNS>
constexpr u32 WGMMA_STAGE_BYTES = (WGMMA_ROWS + COLUMNS) * LINE_BYTES;

// One tile's product, or a part of its reduction: the steps from `begin` to `end`.
struct WgmmaWork {
    u32 split, batch, row, column, begin, end;
};

// All of them: tiles, of each product, of each part. The tiles of a cluster are one entry.
template <u32 COLUMNS>
struct WgmmaList {
    static constexpr u32 GROUP_ROWS = WGMMA_ROWS * CLUSTER<COLUMNS>, GROUPS = BAND / CLUSTER<COLUMNS>;

    const MatrixProduct &p;
    u32 rank, row_groups, column_tiles, chunks, steps, count;

    __device__ __forceinline__ WgmmaList(const MatrixProduct &p, u32 chunk)
        : p(p),
          rank(blockIdx.x % CLUSTER<COLUMNS>),
          row_groups((p.rows + GROUP_ROWS - 1) / GROUP_ROWS),
          column_tiles((p.columns + COLUMNS - 1) / COLUMNS),
          chunks((p.length + chunk - 1) / chunk),
          steps(p.segments * chunks),
          count(row_groups * column_tiles * p.batch * p.splits) {}

    __device__ __forceinline__ WgmmaWork operator[](u32 number) const {
        u32 tiles = row_groups * column_tiles, tile = number % tiles, product = number / tiles;
        u32 batch = product % p.batch, split = product / p.batch;
        u32 band = tile / (GROUPS * column_tiles), inside = tile % (GROUPS * column_tiles);
        u32 height = min(GROUPS, row_groups - band * GROUPS);
        return {split,
                batch,
                (band * GROUPS + inside % height) * GROUP_ROWS + rank * WGMMA_ROWS,
                inside / height * COLUMNS,
                first_step(steps, split, p.splits),
                first_step(steps, split + 1, p.splits)};
    }
};

// Copies a chunk of an operand, `LINES` rows or columns from `first` on, at `k` of the reduction, to the first `BLOCKS`
// blocks of the cluster, or to this one alone.
template <class T, Major MAJOR, u32 LINES, u32 BLOCKS>
__device__ __forceinline__ void copy_operand(u32 to, const TensorMap &map, u32 k, u32 first, u32 matrix, u32 full) {
    constexpr u32 BOX = MAJOR == K_MAJOR ? LINES : 64;
#pragma unroll
    for (u32 line = 0; line < LINES; line += BOX) {
        int along = int(k), across = int(first + line);
        int at[3] = {MAJOR == K_MAJOR ? along : across, MAJOR == K_MAJOR ? across : along, int(matrix)};
        if constexpr (BLOCKS > 1) load_box_to((1 << BLOCKS) - 1, to + line * LINE_BYTES, map, at, full);
        else load_box(to + line * LINE_BYTES, map, at, full);
    }
}

// Rows before `end`, which in memory follow each other from `base` on.
struct PlainRows {
    u32 end, base;

    __device__ __forceinline__ u32 operator()(u32 row) const { return row < end ? base + row : NO_ROW; }
};

// Where a warp's 16 rows of a tile go, those from `first` on, `EXCHANGE_COLUMNS` columns at a time; rows(row) is a row in
// memory, or NO_ROW. A lane has four columns of every second of them, so that the warp stores whole rows.
template <class Epilogue, class Rows>
struct WarpRows {
    static constexpr u32 PIECES = EXCHANGE_COLUMNS / 4, AT_ONCE = WARP / PIECES, PASSES = 16 / AT_ONCE;
    struct Operands {
        typename Epilogue::Operands of[PASSES];
    };

    const Epilogue &epilogue;
    u32 first;
    Rows rows;

    // What memory holds for the columns from `column` on: all before anything is written, so that it is waited for once.
    __device__ __forceinline__ Operands read(u32 column) const {
        u32 lane = threadIdx.x % WARP;
        Operands operands = {};
        column += lane % PIECES * 4;
        if (column >= u32(epilogue.columns)) return operands;
#pragma unroll
        for (u32 pass = 0; pass < PASSES; ++pass) {
            u32 row = rows(first + pass * AT_ONCE + lane / PIECES);
            if (row != NO_ROW) operands.of[pass] = epilogue.read(row, column);
        }
        return operands;
    }

    // Finishes and stores sums[0] to sums[EXCHANGE_COLUMNS / 2 - 1], exchanged through 4 KB of shared memory. Returns what
    // the epilogue sums over this lane's rows. Without operands they are read row by row.
    __device__ __forceinline__ Four store(const float *sums, u8 *exchange, u32 column, const Operands *operands) const {
        u32 lane = threadIdx.x % WARP, piece = lane % PIECES;
        u32 from = place_of<PIECES>(lane / 4, lane / 2 % 2) + lane % 2 * 8;
        __syncwarp();
#pragma unroll
        for (u32 j = 0; j < EXCHANGE_COLUMNS / 8; ++j) {
#pragma unroll
            for (u32 half = 0; half < 2; ++half) {
                float2 *to = reinterpret_cast<float2 *>(exchange + advanced<PIECES>(from, half * 8, j * 2));
                *to = make_float2(sums[j * 4 + half * 2], sums[j * 4 + half * 2 + 1]);
            }
        }
        __syncwarp();
        column += piece * 4;
        if (column >= u32(epilogue.columns)) return {};
        auto terms = epilogue.terms(column);
#pragma unroll
        for (u32 pass = 0; pass < PASSES; ++pass) {
            u32 line = pass * AT_ONCE + lane / PIECES, row = rows(first + line);
            if (row == NO_ROW) continue;
            Four four = *reinterpret_cast<const Four *>(exchange + place_of<PIECES>(line, piece));
            if (operands) epilogue.write(row, column, terms, four, operands->of[pass]);
            else epilogue.write(row, column, terms, four);
        }
        if constexpr (Epilogue::SUMS) return terms.sum;
        else return {};
    }
};

// Stores a warp's 16 rows of the tile. MOST_HELD: registers that sums and what the epilogue reads beforehand may take.
template <u32 MOST_HELD = 128, u32 COUNT, class Epilogue>
__device__ __forceinline__ void store_sums(const float (&sum)[COUNT], u8 *exchange, const Epilogue &epilogue,
                                           u32 first_row, u32 rows, u32 first_column, u32 row_offset) {
    WarpRows<Epilogue, PlainRows> to{epilogue, first_row, {rows, row_offset}};
#pragma unroll
    for (u32 part = 0; part < COUNT * 2 / EXCHANGE_COLUMNS; ++part) {
        u32 column = first_column + part * EXCHANGE_COLUMNS;
        const float *sums = sum + part * (EXCHANGE_COLUMNS / 2);
        if constexpr (COUNT + sizeof(typename WarpRows<Epilogue, PlainRows>::Operands) / 4 <= MOST_HELD) {
            auto operands = to.read(column);
            to.store(sums, exchange, column, &operands);
        } else {
            to.store(sums, exchange, column, nullptr);  // Registers are short.
        }
    }
}

// Calls finish(work, sum, exchange) in each warp that multiplies for every tile and part, with the sums of 64 rows of the
// tile that its warpgroup has, and EXCHANGE_BYTES of shared memory for the warp alone, aligned to as many.
// Grid: as many blocks as there are SMs, or tiles of all products and parts if they are fewer, whole clusters; block:
// WGMMA_THREADS.
template <class T, Layout LAYOUT, u32 COLUMNS, class Finish>
__device__ __forceinline__ void multiply_tiles(const TensorMap &left, const TensorMap &right, const MatrixProduct &p,
                                               const Finish &finish) {
    constexpr Major LEFT = LAYOUT == TN ? MN_MAJOR : K_MAJOR, RIGHT = LAYOUT == NT ? K_MAJOR : MN_MAJOR;
    constexpr u32 STAGE = WGMMA_STAGE_BYTES<COLUMNS>, LEFT_PART = WGMMA_ROWS * LINE_BYTES;
    constexpr u32 BLOCKS = CLUSTER<COLUMNS>, SHARE = COLUMNS / BLOCKS;
    extern __shared__ u8 unaligned[];
    __shared__ u64 barriers[2 * RING_STAGES];
    u8 *aligned = unaligned + (-shared_address(unaligned) & (LINES_BYTES - 1));
    Ring ring{shared_address(aligned), STAGE, RING_STAGES, shared_address(barriers)};
    u32 warp = __shfl_sync(0xffffffffu, threadIdx.x / WARP, 0);
    if (threadIdx.x == 0) {
        prefetch(left);
        prefetch(right);
        for (u32 stage = 0; stage < RING_STAGES; ++stage) {
            barrier_init(ring.barriers + stage * 16, 1);
            barrier_init(ring.barriers + stage * 16 + 8, CONSUMER_WARPS * BLOCKS);
        }
        barriers_are_ready();
    }
    if constexpr (BLOCKS > 1) sync_cluster();
    else __syncthreads();
    await_previous();
    WgmmaList<COLUMNS> list(p, CHUNK<T>);
    u32 first = blockIdx.x / BLOCKS, stride = gridDim.x / BLOCKS;

    if (warp >= CONSUMER_WARPS) {
        fewer_registers<COPY_REGISTERS>();
        if (warp == CONSUMER_WARPS && elect()) {
            for (u32 number = first; number < list.count; number += stride) {
                WgmmaWork work = list[number];
                u32 segment = work.begin / list.chunks, k = work.begin % list.chunks * CHUNK<T>;
                u32 share = list.rank * SHARE;
                for (u32 step = work.begin; step < work.end; ++step, ring.advance()) {
                    ring.wait_empty();
                    u32 to = ring.place(), full = ring.full();
                    arrive_expecting(full, STAGE);
                    u32 left_matrix = p.left_batch ? work.batch : segment;
                    u32 right_matrix = p.right_batch ? work.batch : segment;
                    copy_operand<T, LEFT, WGMMA_ROWS, 1>(to, left, k, work.row, left_matrix, full);
                    copy_operand<T, RIGHT, SHARE, BLOCKS>(to + LEFT_PART + share * LINE_BYTES, right, k,
                                                          work.column + share, right_matrix, full);
                    k += CHUNK<T>;
                    if (k >= u32(p.length)) k = 0, ++segment;
                }
            }
        }
        __syncwarp();
    } else {
        more_registers<PRODUCT_REGISTERS>();
        u32 group = warp / 4, lane = threadIdx.x % WARP;
        u8 *exchange = aligned + RING_STAGES * STAGE + warp * EXCHANGE_BYTES;
        // One lane for each block that copies to this stage.
        auto release = [&](u32 empty) {
            if (lane >= BLOCKS) return;
            if constexpr (BLOCKS > 1) arrive_at(empty, lane);
            else arrive(empty);
        };
        for (u32 number = first; number < list.count; number += stride) {
            WgmmaWork work = list[number];
            float sum[COLUMNS / 2];
            u32 before = 0;
#pragma unroll 1
            for (u32 step = work.begin; step < work.end; ++step, ring.advance()) {
                Matrix<LEFT> a(ring.place() + group * 64 * LINE_BYTES);
                Matrix<RIGHT> b(ring.place() + LEFT_PART, RIGHT == MN_MAJOR ? 64 * LINE_BYTES : 16);
                ring.wait_full();
                begin_products();
#pragma unroll
                for (u32 part = 0; part < STEPS; ++part)
                    multiply_shared<T, LEFT, RIGHT>(sum, a.step(part), b.step(part), part > 0 || step > work.begin);
                commit_products();
                // The chunk before has been read.
                wait_for_products<1>();
                if (step > work.begin) release(before);
                before = ring.empty();
            }
            wait_for_products<0>();
            settle(sum);
            release(before);
            finish(work, sum, exchange);
        }
    }
    if constexpr (BLOCKS > 1) sync_cluster();
}

// out[b] = epilogue(left[b] · right[b]), or the parts of the sums in partial [splits, batch, rows, columns]. Grid and
// block as above.
template <class T, Layout LAYOUT, u32 COLUMNS, class Epilogue>
__device__ __forceinline__ void matrix_product_wgmma(const TensorMap &left, const TensorMap &right,
                                                     const Epilogue &epilogue, float *partial,
                                                     const MatrixProduct &p) {
    using Sums = float[COLUMNS / 2];
    multiply_tiles<T, LAYOUT, COLUMNS>(left, right, p, [&](const WgmmaWork &work, const Sums &sum, u8 *exchange) {
        u32 first_row = work.row + threadIdx.x / WARP * 16, row_offset = work.batch * p.rows;
        if (in_parts(p, epilogue)) {
            float *to = partial + u64(work.split) * p.batch * p.rows * p.columns;
            auto part = plain(to, p.columns, p.columns % 4 == 0);
            store_sums(sum, exchange, part, first_row, p.rows, work.column, row_offset);
        } else {
            store_sums(sum, exchange, epilogue, first_row, p.rows, work.column, row_offset);
        }
    });
}

// Calls KERNEL(COLUMNS, DTYPE, T) for every tile and type.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define FOR_EACH_WGMMA_TILE(KERNEL) \
    KERNEL(128, bf16, bf16)         \
    KERNEL(256, bf16, bf16)
#define FOR_EACH_WGMMA_TILE_TF32(KERNEL) \
    KERNEL(128, tf32, float)             \
    KERNEL(256, tf32, float)
#else
#define FOR_EACH_WGMMA_TILE(KERNEL)
#define FOR_EACH_WGMMA_TILE_TF32(KERNEL)
#endif
