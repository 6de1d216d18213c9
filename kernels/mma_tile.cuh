// One tile of a product of matrices on the tensor cores: out [ROWS, COLUMNS] = Σ left [ROWS, k] · right [k, COLUMNS].
//
// A block has four warps, two by two, and each of them a quarter of the tile. The reduction goes in chunks of 128
// bytes (32 TF32 or 64 bf16 elements) through three stages of shared memory: while one chunk is multiplied, cp.async
// brings the next two. Where the elements of an operand lie in global memory is the product's affair: the engine asks
// it for every 16 bytes, so a convolution gathers rows and is no different from a product of plain matrices.
//
// A chunk of an operand lies in shared memory as in global memory, so that 16 bytes are always copied at once:
//   Inner  the reduction is contiguous:  [rows][128 bytes]
//   Outer  the rows are contiguous:      [chunk of the reduction][rows]
// 16-byte pieces are exchanged within 128 bytes (see swizzle), and copies, loads and the exchange of results are free
// of bank conflicts. Fragments come by ldmatrix, four registers at once. From Outer, bf16 comes by its transposing
// form; TF32, which has none, element by element: the same bytes and cycles of shared memory in four times the
// instructions.
//
// What bounds it. A step of a warp of 64x64 is 32 mma (m16n8k16 in bf16, m16n8k8 in TF32) on 4,096 bytes of shared
// memory: 128 bytes an mma; a warp of 64x32 reads 192, one of 32x32 256. A quarter of an SM takes 8 cycles for an mma
// on an A100, and 5 or so on an H100, where mma.sync reaches about 0.6 of the peak: 64, 96, 128 and 102, 154, 205 of
// the 128 bytes a cycle that shared memory delivers. So the largest tile that fills the device is best.
// Issue slots of a warp in a chunk, as compiled for sm_90a (forward, data, weight gradient of conv2d), beside the
// cycles of its mma on an A100 and H100. Beyond them: addresses and copies; in TF32 128 to 256 for rounding, as ptxas
// makes two instructions of a cvt.rna, and loads of single elements from Outer.
//   tile      mma   bf16             TF32             cycles        shared    blocks an SM of 228, 164, 100 KB
//   128x128   128   479, 340, 437    795, 597, 805    1,024, 640    96 KB     2, 1, 1
//   128x64     64   289, 226, 323    513, 419, 598      512, 320    72 KB     3, 2, 1
//   64x64      32   225, 157, 213    392, 286, 403      256, 160    48 KB     4, 3, 2
// bf16 is bound by the tensor cores in the large tile, by shared memory in the others; TF32 on an H100 by issue.
// None of this has been measured by itself.
//
// Sums are fp32. An mma adds 16 (bf16) or 8 (TF32) products to them at once, so that the 8,192 terms which launchers
// allow before parts are added up are 512 or 1,024 additions one after another.
#pragma once
#include "mma.cuh"
#include "tile.cuh"

constexpr u32 TILE_THREADS = 128;
constexpr u32 STAGES = 3;
constexpr u32 CHUNK_BYTES = 128;
constexpr u32 STEPS = 4;  // of one mma's depth in a chunk

// Elements of a chunk along the reduction.
template <class T>
constexpr u32 CHUNK = CHUNK_BYTES / sizeof(T);

// One of two types.
template <bool FIRST, class A, class B>
struct Either {
    using Type = A;
};
template <class A, class B>
struct Either<false, A, B> {
    using Type = B;
};

// A row of a tile that has no row in memory.
constexpr u32 NO_ROW = 0xffffffffu;

// 16 bytes of an operand in global memory, aligned; zeros if not present.
struct Piece {
    const void *from;
    bool present;
};

// By what the index of a piece in line `line` is xor-ed: different for eight neighbouring lines (ldmatrix), and for
// four neighbouring lines in bits 1 and 2, so that pairs of pieces stay apart (elements of Outer, results).
__device__ __forceinline__ u32 swizzle(u32 line) { return (line & 3) << 1 | (line >> 2 & 1); }

// Place in bytes of piece `piece` of line `line`, in lines of `PIECES` pieces.
template <u32 PIECES>
__device__ __forceinline__ u32 place_of(u32 line, u32 piece) { return (line * PIECES + (piece ^ swizzle(line))) * 16; }

// The address `line` lines and `piece` pieces beyond `address`, where neither sum carries between the bits of the two
// terms. For constants that is one xor, shared by many, and an offset in the instruction.
template <u32 PIECES>
__device__ __forceinline__ u32 advanced(u32 address, u32 line, u32 piece) {
    return (address ^ ((piece ^ swizzle(line)) & 7) * 16) + (line * PIECES + (piece & ~7u)) * 16;
}

// A chunk of `ROWS` rows, each with its part of the reduction contiguous.
template <class T, u32 ROWS>
struct Inner {
    static constexpr u32 PIECES = CHUNK_BYTES / 16;

    // Copies this thread's pieces of the chunk that begins at `start`. operand(k) is a cursor, see MmaTile.
    template <class Operand>
    __device__ __forceinline__ static void copy(u32 to, u32 start, Operand operand) {
        u32 row = threadIdx.x / PIECES, piece = threadIdx.x % PIECES;
        auto cursor = operand(start + piece * LANES<T>);
        to += place_of<PIECES>(row, piece);
#pragma unroll
        for (u32 pass = 0; pass < ROWS * PIECES / TILE_THREADS; ++pass) {
            u32 further = pass * (TILE_THREADS / PIECES);
            Piece found = cursor.piece(pass, row + further);
            copy_async(advanced<PIECES>(to, further, 0), found.from, found.present);
        }
    }

    // Where this lane begins to load the fragments of rows or columns from `first` on.
    __device__ __forceinline__ static u32 left_lane(u32 first) {
        u32 lane = threadIdx.x % WARP;
        return place_of<PIECES>(first + lane % 16, lane / 16);
    }
    __device__ __forceinline__ static u32 right_lane(u32 first) {
        u32 lane = threadIdx.x % WARP;
        return place_of<PIECES>(first + lane / 16 * 8 + lane % 8, lane / 8 % 2);
    }

    // Fragments of `COUNT` mma at a step of the chunk.
    template <u32 COUNT>
    __device__ __forceinline__ static void load_left(u32 (&a)[COUNT][4], u32 from, u32 step) {
#pragma unroll
        for (u32 i = 0; i < COUNT; ++i) load_matrices(a[i], advanced<PIECES>(from, i * 16, step * 2));
    }
    template <u32 COUNT>
    __device__ __forceinline__ static void load_right(u32 (&b)[COUNT][2], u32 from, u32 step) {
#pragma unroll
        for (u32 j = 0; j < COUNT; j += 2) {
            u32 loaded[4];
            load_matrices(loaded, advanced<PIECES>(from, j * 8, step * 2));
            b[j][0] = loaded[0], b[j][1] = loaded[1], b[j + 1][0] = loaded[2], b[j + 1][1] = loaded[3];
        }
    }
};

// A chunk of the reduction with `ROWS` rows contiguous.
template <class T, u32 ROWS>
struct Outer {
    static constexpr u32 PIECES = ROWS / LANES<T>;
    static constexpr bool TF32 = sizeof(T) == 4;

    template <class Operand>
    __device__ __forceinline__ static void copy(u32 to, u32 start, Operand operand) {
        u32 k = threadIdx.x / PIECES, piece = threadIdx.x % PIECES;
        to += place_of<PIECES>(k, piece);
#pragma unroll
        for (u32 pass = 0; pass < CHUNK<T> * PIECES / TILE_THREADS; ++pass) {
            u32 further = pass * (TILE_THREADS / PIECES);
            Piece found = operand(start + k + further).piece(pass, piece * LANES<T>);
            copy_async(advanced<PIECES>(to, further, 0), found.from, found.present);
        }
    }

    __device__ __forceinline__ static u32 left_lane(u32 first) {
        u32 lane = threadIdx.x % WARP;
        return TF32 ? element_lane(first) : place_of<PIECES>(lane / 16 * 8 + lane % 8, first / 8 + lane / 8 % 2);
    }
    __device__ __forceinline__ static u32 right_lane(u32 first) {
        u32 lane = threadIdx.x % WARP;
        return TF32 ? element_lane(first) : place_of<PIECES>(lane % 16, first / 8 + lane / 16);
    }
    __device__ __forceinline__ static u32 element_lane(u32 first) {
        u32 lane = threadIdx.x % WARP;
        return place_of<PIECES>(lane % 4, first / 4 + lane / 16) + lane / 4 % 4 * 4;
    }

    template <u32 COUNT>
    __device__ __forceinline__ static void load_left(u32 (&a)[COUNT][4], u32 from, u32 step) {
#pragma unroll
        for (u32 i = 0; i < COUNT; ++i) {
            if constexpr (TF32) {
#pragma unroll
                for (u32 part = 0; part < 4; ++part)
                    a[i][part] = load_shared(advanced<PIECES>(from, step * 8 + part / 2 * 4, i * 4 + part % 2 * 2));
            } else {
                load_matrices_transposed(a[i], advanced<PIECES>(from, step * 16, i * 2));
            }
        }
    }
    template <u32 COUNT>
    __device__ __forceinline__ static void load_right(u32 (&b)[COUNT][2], u32 from, u32 step) {
        if constexpr (TF32) {
#pragma unroll
            for (u32 j = 0; j < COUNT; ++j) {
#pragma unroll
                for (u32 part = 0; part < 2; ++part)
                    b[j][part] = load_shared(advanced<PIECES>(from, step * 8 + part * 4, j * 2));
            }
        } else {
#pragma unroll
            for (u32 j = 0; j < COUNT; j += 2) {
                u32 loaded[4];
                load_matrices_transposed(loaded, advanced<PIECES>(from, step * 16, j));
                b[j][0] = loaded[0], b[j][1] = loaded[1], b[j + 1][0] = loaded[2], b[j + 1][1] = loaded[3];
            }
        }
    }
};

// Operands of one mma's depth, for all of a warp's tile.
template <class T, u32 ROW_TILES, u32 COLUMN_TILES>
struct Fragments {
    u32 a[ROW_TILES][4], b[COLUMN_TILES][2];

    template <class Left, class Right>
    __device__ __forceinline__ void load(u32 left, u32 right, u32 step) {
        Left::load_left(a, left, step);
        Right::load_right(b, right, step);
    }

    __device__ __forceinline__ void multiply(float (&sum)[ROW_TILES][COLUMN_TILES][4]) {
        if constexpr (sizeof(T) == 4) {
#pragma unroll
            for (u32 i = 0; i < ROW_TILES * 4; ++i) a[i / 4][i % 4] = round_to_tf32(a[i / 4][i % 4]);
#pragma unroll
            for (u32 j = 0; j < COLUMN_TILES * 2; ++j) b[j / 2][j % 2] = round_to_tf32(b[j / 2][j % 2]);
        }
#pragma unroll
        for (u32 i = 0; i < ROW_TILES; ++i)
#pragma unroll
            for (u32 j = 0; j < COLUMN_TILES; ++j) multiply_add<T>(sum[i][j], a[i], b[j]);
    }
};

// The tile of one block. `Product` says what is multiplied:
//   Left, Right                  Inner or Outer of T and the tile's rows or columns
//   left(k), right(k)            where the operands lie at `k` along the reduction: a cursor, whose piece(pass, row)
//                                is the 16 bytes from row or column `row` of the tile on; `pass` counts the pieces of
//                                a thread
//   PREPARES, prepare(chunk)     work for a chunk that its copies read from shared memory, a barrier later
template <class T, u32 ROWS, u32 COLUMNS>
struct MmaTile {
    static constexpr u32 ROW_TILES = ROWS / 32, COLUMN_TILES = COLUMNS / 16;
    static constexpr u32 LEFT_BYTES = ROWS * CHUNK_BYTES, STAGE_BYTES = (ROWS + COLUMNS) * CHUNK_BYTES;

    float sum[ROW_TILES][COLUMN_TILES][4] = {};

    __device__ __forceinline__ static u32 first_row() { return threadIdx.x / WARP / 2 * (ROWS / 2); }
    __device__ __forceinline__ static u32 first_column() { return threadIdx.x / WARP % 2 * (COLUMNS / 2); }

    // Adds chunks first to end − 1. On return the stages are free.
    template <class Product>
    __device__ __forceinline__ void add(Product &product, unsigned char *stages, u32 first, u32 end) {
        using Left = typename Product::Left;
        using Right = typename Product::Right;
        u32 base = shared_address(stages);
        auto copy = [&](u32 chunk, u32 stage) {
            if (chunk < end) {
                u32 to = base + stage * STAGE_BYTES;
                Left::copy(to, chunk * CHUNK<T>, [&](u32 k) { return product.left(k); });
                Right::copy(to + LEFT_BYTES, chunk * CHUNK<T>, [&](u32 k) { return product.right(k); });
            }
            commit_copies();
        };
#pragma unroll
        for (u32 stage = 0; stage < STAGES - 1; ++stage) {
            if constexpr (Product::PREPARES) {
                product.prepare(first + stage);
                __syncthreads();
            }
            copy(first + stage, stage);
        }
        if constexpr (Product::PREPARES) product.prepare(first + STAGES - 1);
        u32 left_lane = base + Left::left_lane(first_row());
        u32 right_lane = base + LEFT_BYTES + Right::right_lane(first_column());
        u32 stage = 0, next = STAGES - 1;
        for (u32 chunk = first; chunk < end; ++chunk) {
            wait_for_copies<STAGES - 2>();
            __syncthreads();  // The chunk is there for all warps, and all have left the stage that is copied into next.
            copy(chunk + STAGES - 1, next);
            if constexpr (Product::PREPARES) product.prepare(chunk + STAGES);
            u32 left = left_lane + stage * STAGE_BYTES, right = right_lane + stage * STAGE_BYTES;
            Fragments<T, ROW_TILES, COLUMN_TILES> fragments[2];
            fragments[0].template load<Left, Right>(left, right, 0);
#pragma unroll
            for (u32 step = 0; step < STEPS; ++step) {
                if (step + 1 < STEPS) fragments[(step + 1) % 2].template load<Left, Right>(left, right, step + 1);
                fragments[step % 2].multiply(sum);
            }
            stage = stage + 1 == STAGES ? 0 : stage + 1;
            next = next + 1 == STAGES ? 0 : next + 1;
        }
        wait_for_copies<0>();
        __syncthreads();
    }

    // Exchanges the sums through shared memory, so that a warp stores whole rows, and finishes them as `epilogue` says,
    // or stores them as they are to this block's part of `partial` [gridDim.z, rows, columns], if there is one.
    // row_of(row) is the row in memory of a row of the tile, or NO_ROW. `columns` is a multiple of 4.
    template <class Epilogue, class RowOf>
    __device__ __forceinline__ void finish(unsigned char *stages, const Epilogue &epilogue, float *partial,
                                           u32 tile_column, u32 rows, RowOf row_of) const {
        constexpr u32 PIECES = COLUMNS / 4;
        u32 lane = threadIdx.x % WARP, columns = epilogue.columns;
        u32 from = place_of<PIECES>(first_row() + lane / 4, first_column() / 4 + lane / 2 % 2) + lane % 2 * 8;
#pragma unroll
        for (u32 i = 0; i < ROW_TILES; ++i) {
#pragma unroll
            for (u32 j = 0; j < COLUMN_TILES; ++j) {
#pragma unroll
                for (u32 half = 0; half < 2; ++half) {
                    float2 *to = reinterpret_cast<float2 *>(stages + advanced<PIECES>(from, i * 16 + half * 8, j * 2));
                    *to = make_float2(sum[i][j][half * 2], sum[i][j][half * 2 + 1]);
                }
            }
        }
        __syncthreads();
        if (partial) partial += size_t(blockIdx.z) * rows * columns;
        u32 piece = threadIdx.x % PIECES, column = tile_column + piece * 4;
        auto terms = epilogue.terms(column);
#pragma unroll 2
        for (u32 row = threadIdx.x / PIECES; row < ROWS; row += TILE_THREADS / PIECES) {
            u32 at = row_of(row);
            if (at == NO_ROW || column >= columns) continue;
            Four sums = *reinterpret_cast<const Four *>(stages + place_of<PIECES>(row, piece));
            if (partial) store_pack(partial + size_t(at) * columns + column, sums);
            else epilogue.write(at, column, terms, sums);
        }
        if constexpr (Epilogue::SUMS) {
            if (partial || !epilogue.column_sums) return;
            float *parts = reinterpret_cast<float *>(stages) + ROWS * COLUMNS;  // behind the results
            static_assert((ROWS * COLUMNS + TILE_THREADS * 4) * 4 <= STAGES * STAGE_BYTES, "room for both in the stages");
            store_pack(parts + threadIdx.x * 4, terms.sum);
            write_column_sums<TILE_THREADS / PIECES, COLUMNS>(epilogue, parts, tile_column);
        }
    }
};

// Division by a number that is not known before the launch, exact for all 32-bit numbers.
struct Divisor {
    u32 divisor, reciprocal;

    __device__ __forceinline__ explicit Divisor(u32 divisor) : divisor(divisor), reciprocal(0xffffffffu / divisor) {}

    __device__ __forceinline__ u32 divide(u32 number, u32 &rest) const {
        u32 quotient = __umulhi(number, reciprocal);  // At most one too small.
        rest = number - quotient * divisor;
        bool short_by_one = rest >= divisor;
        rest -= short_by_one ? divisor : 0;
        return quotient + short_by_one;
    }
};

// The chunks of this block where blockIdx.z counts the parts of a split reduction.
struct Share {
    u32 first, end;

    __device__ __forceinline__ explicit Share(u32 chunks) {
        u32 each = (chunks + gridDim.z - 1) / gridDim.z;
        first = min(blockIdx.z * each, chunks);
        end = min(first + each, chunks);
    }
};

// Calls KERNEL(ROWS, COLUMNS, BLOCKS, DTYPE, T) for every tile and type, with the blocks that an SM shall hold: what a
// thread may have of registers follows from them. Before compute capability 8.0 there is nothing to call it for.
#if __CUDA_ARCH__ >= 800
#define FOR_EACH_MMA_TILE(KERNEL)      \
    KERNEL(128, 128, 2, tf32, float)   \
    KERNEL(128, 64, 3, tf32, float)    \
    KERNEL(64, 64, 4, tf32, float)     \
    KERNEL(128, 128, 2, bf16, bf16)    \
    KERNEL(128, 64, 3, bf16, bf16)     \
    KERNEL(64, 64, 4, bf16, bf16)
#else
#define FOR_EACH_MMA_TILE(KERNEL)
#endif
