// Convolutions on the tensor cores: implicit products of matrices, tiles and pipeline of mma_tile.cuh.
//
// conv2d_forward_mma_<tile>, conv2d_backward_data_mma_<tile>: rows are pixels of the result times images, columns its
//   channels. The reduction runs over the taps that any row of the tile sees and the channels of the source, without a
//   gap between taps, so that few channels still fill the tensor cores. A row of the source is gathered for each tap,
//   16 bytes at a time, zeros where that row's tap lies in the padding. Forward reads the filter of a tap as it lies,
//   [channels of the source][columns]; backward reads it transposed, [columns][channels of the source].
// conv2d_backward_weight_mma_<tile>: for each tap, rows are input and columns output channels; the reduction runs over
//   the pixels whose tap is not in the padding, times images. Both operands have their rows contiguous.
//
// Operands as in conv2d.cu, and: T is float (rounded to TF32) or bf16; every pointer is 16-byte aligned; C and K are
// multiples of 16 bytes of T; at most 16 rows, 16 columns and 64 taps in a filter.
// partial [splits, rows, columns] is written, and out is not, where the reduction is split; conv2d_sum or
// conv2d_backward_data_sum adds the parts.
// Grid: (tiles of columns · tiles of rows, 1 or taps, splits); block: 128 threads; shared memory: dynamic
// 3 · (tile rows + columns) · 128 bytes, static at most 1.25 KB.
// Floor: 2·R·S·C·K·P·Q·N FLOPs of each pass, less those with padding; each operand once.
#pragma once
#include "conv2d.cuh"
#include "mma_tile.cuh"

// A tap that some row of the tile sees.
struct SeenTap {
    int offset;  // from a row's origin to the source's element, in elements
    u32 bits;    // of its vertical and horizontal index, as in RowTable::seen
    u32 index;   // among the taps of the filter
};

// What a block knows of its taps and of the result, in shared memory: at most a kilobyte for 64 rows, so that two of
// these blocks fit an SM of 100 KB.
template <u32 ROWS>
struct TapTable {
    u32 result[ROWS];  // row in memory, or NO_ROW
    SeenTap taps[64];
};

// What it knows of its rows until they are in registers: where the stages will be.
template <u32 ROWS>
struct RowTable {
    u64 warp_taps[TILE_THREADS / WARP];
    int origin[ROWS];  // element of the source under tap (0, 0); may lie outside
    u32 seen[ROWS];    // bit u: vertical tap u lies in the source; bit 16 + v: horizontal tap v
};

// Bits of the taps through which pixel `pixel` of the result sees a pixel of the source.
__device__ __forceinline__ u32 seen_taps(const TapAxis &axis, int first) {
    u32 bits = 0;
    for (int u = 0, at = first; u < axis.taps; ++u, at += axis.direction) bits |= u32(at >= 0 && at < axis.source) << u;
    return bits;
}

// Fills the tables for the rows from `first_row` on and returns the number of taps that they see.
template <u32 ROWS>
__device__ __forceinline__ u32 fill(TapTable<ROWS> &table, RowTable<ROWS> &row_table, const TapProduct &p,
                                    u32 first_row) {
    static_assert(ROWS <= TILE_THREADS, "a thread a row");
    const TapAxis &vertical = p.vertical, &horizontal = p.horizontal;
    u64 taps = 0;
    if (threadIdx.x < ROWS) {
        u32 row = first_row + threadIdx.x, pixel = row / p.batch, n = row % p.batch;
        int i = pixel / horizontal.pixels, j = pixel % horizontal.pixels;
        bool present = i < vertical.pixels;
        int h = i * vertical.step + vertical.origin, w = j * horizontal.step + horizontal.origin;
        u32 rows = present ? seen_taps(vertical, h) : 0, columns = present ? seen_taps(horizontal, w) : 0;
        row_table.origin[threadIdx.x] = ((h * horizontal.source + w) * p.batch + int(n)) * p.length;
        row_table.seen[threadIdx.x] = rows | columns << 16;
        int to_row = vertical.first_pixel + i * vertical.pixel_step;
        int to_column = horizontal.first_pixel + j * horizontal.pixel_step;
        table.result[threadIdx.x] = present ? (to_row * p.result_width + to_column) * p.batch + n : NO_ROW;
        for (int u = 0; u < vertical.taps; ++u)
            if (rows >> u & 1) taps |= u64(columns) << u * horizontal.taps;
    }
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2) taps |= __shfl_xor_sync(0xffffffffu, taps, offset);
    if (threadIdx.x % WARP == 0) row_table.warp_taps[threadIdx.x / WARP] = taps;
    __syncthreads();
    taps = 0;
#pragma unroll
    for (u32 warp = 0; warp < TILE_THREADS / WARP; ++warp) taps |= row_table.warp_taps[warp];
    if (threadIdx.x < 64 && taps >> threadIdx.x & 1) {
        int u = threadIdx.x / horizontal.taps, v = threadIdx.x % horizontal.taps;
        int further = vertical.direction * u * horizontal.source + horizontal.direction * v;
        int r = vertical.first_tap + vertical.tap_step * u, s = horizontal.first_tap + horizontal.tap_step * v;
        SeenTap &tap = table.taps[__popcll(taps & ((u64(1) << threadIdx.x) - 1))];
        tap.offset = further * p.batch * p.length;
        tap.bits = 1u << u | 1u << (16 + v);
        tap.index = r * p.filter_width + s;
    }
    __syncthreads();
    return __popcll(taps);
}

// Forward and data gradient: gathered rows times filters.
template <class T, u32 ROWS, u32 COLUMNS, bool BACKWARD>
struct TapOperands {
    using Left = Inner<T, ROWS>;
    using Right = typename Either<BACKWARD, Inner<T, COLUMNS>, Outer<T, COLUMNS>>::Type;
    static constexpr bool PREPARES = false;
    static constexpr u32 PASSES = ROWS * CHUNK_BYTES / 16 / TILE_THREADS;

    const T *source, *filter;
    const TapTable<ROWS> &table;
    Divisor length;
    u32 taps, columns, first_column;
    int origin[PASSES];
    u32 seen[PASSES];

    __device__ __forceinline__ TapOperands(const T *source, const T *filter, const TapTable<ROWS> &table,
                                           const RowTable<ROWS> &rows, const TapProduct &p, u32 taps, u32 first_column)
        : source(source), filter(filter), table(table), length(p.length), taps(taps), columns(p.columns),
          first_column(first_column) {
#pragma unroll
        for (u32 pass = 0; pass < PASSES; ++pass) {
            u32 row = (pass * TILE_THREADS + threadIdx.x) / (CHUNK_BYTES / 16);
            origin[pass] = rows.origin[row];
            seen[pass] = rows.seen[row];
        }
    }

    // One channel of one tap of all rows.
    struct Rows {
        const TapOperands &operands;
        int offset;
        u32 bits;

        __device__ __forceinline__ Piece piece(u32 pass, u32) const {
            bool present = (operands.seen[pass] & bits) == bits;
            return {operands.source + (present ? operands.origin[pass] + offset : 0), present};
        }
    };
    __device__ __forceinline__ Rows left(u32 k) const {
        u32 channel, tap = length.divide(k, channel);
        if (tap >= taps) return {*this, 0, 0xffffffffu};  // No row sees a tap of all bits: there are at most 64.
        return {*this, table.taps[tap].offset + int(channel), table.taps[tap].bits};
    }

    // The same of the filter.
    struct Filter {
        const T *from;
        u32 pitch, columns, first;
        bool present;

        __device__ __forceinline__ Piece piece(u32, u32 column) const {
            column += first;
            bool inside = present && column < columns;
            return {from + (inside ? column * pitch : 0), inside};
        }
    };
    __device__ __forceinline__ Filter right(u32 k) const {
        u32 channel, tap = length.divide(k, channel);
        bool present = tap < taps;
        u32 index = present ? table.taps[tap].index : 0;
        u32 at = BACKWARD ? index * columns * length.divisor + channel : (index * length.divisor + channel) * columns;
        return {filter + (present ? at : 0), BACKWARD ? length.divisor : 1, columns, first_column, present};
    }
};

template <u32 ROWS, u32 COLUMNS, bool BACKWARD, class T, class Epilogue>
__device__ __forceinline__ void tap_product_mma(const T *source, const T *filter, const Epilogue &epilogue,
                                                float *partial, const TapProduct &p) {
    extern __shared__ __align__(128) unsigned char stages[];
    __shared__ TapTable<ROWS> table;
    u32 tiles = (p.columns + COLUMNS - 1) / COLUMNS;
    u32 first_column = blockIdx.x % tiles * COLUMNS;
    RowTable<ROWS> &rows = *reinterpret_cast<RowTable<ROWS> *>(stages);
    u32 taps = fill(table, rows, p, blockIdx.x / tiles * ROWS);
    TapOperands<T, ROWS, COLUMNS, BACKWARD> operands(source, filter, table, rows, p, taps, first_column);
    __syncthreads();  // All have read their rows.
    Share share((taps * p.length + CHUNK<T> - 1) / CHUNK<T>);
    MmaTile<T, ROWS, COLUMNS> tile;
    tile.add(operands, stages, share.first, share.end);
    tile.finish(stages, epilogue, p.splits > 1 ? partial : nullptr, first_column, p.result_rows,
                [&](u32 row) { return table.result[row]; });
}

// Weight gradient: columns of x, transposed, times columns of d_y, over the pixels that a tap sees.
template <class T, u32 ROWS, u32 COLUMNS>
struct PixelOperands {
    using Left = Outer<T, ROWS>;
    using Right = Outer<T, COLUMNS>;
    static constexpr bool PREPARES = true;

    // First elements of x and d_y of a pixel and image, or −1.
    struct Pixel {
        int x, d_y;
    };

    const T *x, *d_y;
    const WeightProduct &p;
    Pixel (&pixels)[2 * CHUNK<T>];  // of two chunks, in shared memory
    Divisor batch, width;           // images; seen pixels of a row
    u32 length;                     // seen pixels times images
    int first_row, first_column;    // of the seen pixels
    int row_shift, column_shift;    // from stride · output pixel to input pixel
    u32 first_input, first_output;

    // Finds a thread's pixel of a chunk, a barrier before its copies and one after those of the chunk whose place it takes.
    __device__ __forceinline__ void prepare(u32 chunk) const {
        if (threadIdx.x >= CHUNK<T>) return;
        u32 k = chunk * CHUNK<T> + threadIdx.x, n, column;
        u32 row = width.divide(batch.divide(k, n), column);
        int at_row = first_row + int(row), at_column = first_column + int(column);
        int from_row = at_row * p.stride + row_shift, from_column = at_column * p.stride + column_shift;
        Pixel pixel{((from_row * p.width + from_column) * p.batch + int(n)) * p.inputs,
                    ((at_row * p.output_width + at_column) * p.batch + int(n)) * p.outputs};
        pixels[k % (2 * CHUNK<T>)] = k < length ? pixel : Pixel{-1, -1};
    }

    struct Channels {
        const T *from;
        u32 first, channels;
        int offset;

        __device__ __forceinline__ Piece piece(u32, u32 channel) const {
            channel += first;
            bool present = offset >= 0 && channel < channels;
            return {from + (present ? offset + int(channel) : 0), present};
        }
    };
    __device__ __forceinline__ Channels left(u32 k) const {
        return {x, first_input, u32(p.inputs), pixels[k % (2 * CHUNK<T>)].x};
    }
    __device__ __forceinline__ Channels right(u32 k) const {
        return {d_y, first_output, u32(p.outputs), pixels[k % (2 * CHUNK<T>)].d_y};
    }
};

// The outputs [first, end) along one axis whose tap `tap` lies within `size` inputs.
struct SeenOutputs {
    int first, end;

    __device__ __forceinline__ SeenOutputs(int outputs, int size, int tap, int stride, int padding) {
        first = min((max(padding - tap, 0) + stride - 1) / stride, outputs);
        end = max(min((max(size + padding - tap, 0) + stride - 1) / stride, outputs), first);
    }
};

template <class T, u32 ROWS, u32 COLUMNS>
__device__ __forceinline__ void weight_product_mma(const T *x, const T *d_y, float *d_filter, const WeightProduct &p) {
    extern __shared__ __align__(128) unsigned char stages[];
    using Operands = PixelOperands<T, ROWS, COLUMNS>;
    __shared__ typename Operands::Pixel pixels[2 * CHUNK<T>];
    int r = blockIdx.y / p.filter_width, s = blockIdx.y % p.filter_width;
    SeenOutputs rows(p.output_height, p.height, r, p.stride, p.padding);
    SeenOutputs columns(p.output_width, p.width, s, p.stride, p.padding);
    u32 width = columns.end - columns.first, length = (rows.end - rows.first) * width * p.batch;
    u32 tiles = (p.outputs + COLUMNS - 1) / COLUMNS;
    u32 first_input = blockIdx.x / tiles * ROWS, first_output = blockIdx.x % tiles * COLUMNS;
    Operands operands{x, d_y, p, pixels, Divisor(p.batch), Divisor(max(width, 1)), length, rows.first, columns.first,
                      r - p.padding, s - p.padding, first_input, first_output};
    Share share((length + CHUNK<T> - 1) / CHUNK<T>);
    MmaTile<T, ROWS, COLUMNS> tile;
    tile.add(operands, stages, share.first, share.end);
    // Every part is a whole filter, also the only one.
    u32 inputs = p.inputs, first = blockIdx.y * inputs;
    u32 filter_rows = p.filter_height * p.filter_width * inputs;
    tile.finish(stages, plain(nullptr, p.outputs, true), d_filter, first_output, filter_rows,
                [&](u32 row) { return first_input + row < inputs ? first + first_input + row : NO_ROW; });
}

#define CONV2D_MMA(ROWS, COLUMNS, BLOCKS, DTYPE, T)                                                                   \
    extern "C" __global__ void __launch_bounds__(TILE_THREADS, BLOCKS)                                                \
    conv2d_forward_mma_##ROWS##x##COLUMNS##_##DTYPE(const T *x, const T *filter, const float *bias,                   \
                                                    const float *slope, const T *residual, T *y, T *out,              \
                                                    float *partial, TapProduct p) {                                   \
        await_previous();                                                                                             \
        PreluEpilogue<T> epilogue{bias, slope, residual, y, out, p.columns, true};                                    \
        tap_product_mma<ROWS, COLUMNS, false>(x, filter, epilogue, partial, p);                                       \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(TILE_THREADS, BLOCKS)                                                \
    conv2d_backward_data_mma_##ROWS##x##COLUMNS##_##DTYPE(const T *d_y, const T *filter, const T *addend,             \
                                                          const T *pre, const float *slope, T *kept, T *out,          \
                                                          float *slope_sums, float *partial, TapProduct p) {          \
        await_previous();                                                                                             \
        PreluGradientEpilogue<T> epilogue{addend, pre, slope, kept, out, slope_sums, p.columns, true};                \
        tap_product_mma<ROWS, COLUMNS, true>(d_y, filter, epilogue, partial, p);                                      \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(TILE_THREADS, BLOCKS)                                                \
    conv2d_backward_weight_mma_##ROWS##x##COLUMNS##_##DTYPE(const T *x, const T *d_y, float *d_filter,                \
                                                            WeightProduct p) {                                        \
        await_previous();                                                                                             \
        weight_product_mma<T, ROWS, COLUMNS>(x, d_y, d_filter, p);                                                    \
    }

FOR_EACH_MMA_TILE(CONV2D_MMA)
