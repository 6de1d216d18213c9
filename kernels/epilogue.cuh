// What becomes of the sums of a product on their way to memory, whichever tile made them: four neighbouring columns of
// a row at a time.
//
//   terms(column)                      what four columns have in common in all rows
//   read(row, column)                  what memory holds of them: for many rows at once, before they are written
//   write(row, column, terms, value, operands)
//                                      finishes four sums of a row; columns beyond the last are ignored
//   SUMS                               whether `terms.sum` then is a sum over the rows that were written, one part of
//                                      `column_sums` [tiles of rows, columns], which may be null
#pragma once
#include "four.cuh"

// value = sum + bias[column]; kept = value; out = addend + prelu(value). What is absent is null.
template <class T>
struct PreluEpilogue {
    static constexpr bool SUMS = false;
    const float *bias, *slope;  // [columns]
    const T *addend;            // [rows, columns]
    T *kept, *out;              // [rows, columns]
    int columns;
    bool vectors;  // columns is a multiple of 4, and the matrices are aligned to four elements

    // A slope of 1 leaves values as they are.
    struct Terms {
        Four bias, slope;
    };
    __device__ __forceinline__ Terms terms(int column) const {
        Terms terms = {{}, {1, 1, 1, 1}};
        if (bias) terms.bias = read_four(bias + column, columns - column, false);
        if (slope) terms.slope = read_four(slope + column, columns - column, false);
        return terms;
    }

    using Operands = StoredFour<T>;
    __device__ __forceinline__ Operands read(u32 row, int column) const {
        return addend ? stored_four(addend + u64(row) * columns + column, columns - column, vectors) : Operands{};
    }

    __device__ __forceinline__ void write(u32 row, int column, const Terms &terms, Four value,
                                          const Operands &operands) const {
        finish(row, column, terms, value, [&](u64, int) { return widened(operands); });
    }
    __device__ __forceinline__ void write(u32 row, int column, const Terms &terms, Four value) const {
        finish(row, column, terms, value, [&](u64 at, int valid) { return read_four(addend + at, valid, vectors); });
    }

    // addends(at, valid): four of `addend`, if there is one.
    template <class Addends>
    __device__ __forceinline__ void finish(u32 row, int column, const Terms &terms, Four value, Addends addends) const {
        u64 at = u64(row) * columns + column;
        int valid = columns - column;
#pragma unroll
        for (int i = 0; i < 4; ++i) value.values[i] += terms.bias.values[i];
        if (kept) write_four(kept + at, value, valid, vectors);
#pragma unroll
        for (int i = 0; i < 4; ++i) value.values[i] *= value.values[i] > 0 ? 1.0f : terms.slope.values[i];
        if (addend) {
            Four of = addends(at, valid);
#pragma unroll
            for (int i = 0; i < 4; ++i) value.values[i] += of.values[i];
        }
        write_four(out + at, value, valid, vectors);
    }
};

// The sums as they are, such as partial ones.
__device__ __forceinline__ PreluEpilogue<float> plain(float *out, int columns, bool vectors) {
    return {nullptr, nullptr, nullptr, nullptr, out, columns, vectors};
}

// value = sum + addend; kept = value; out = value · prelu′(pre), and the gradient of the slopes: sums of value · pre over
// the rows where pre ≤ 0. What is absent is null; without pre, out = value. NaN goes the way of pre ≤ 0: it stays.
template <class T>
struct PreluGradientEpilogue {
    static constexpr bool SUMS = true;
    const T *addend, *pre;  // [rows, columns]
    const float *slope;     // [columns]
    T *kept, *out;          // [rows, columns]
    float *column_sums;
    int columns;
    bool vectors;  // as above

    struct Terms {
        Four slope, sum;
    };
    __device__ __forceinline__ Terms terms(int column) const {
        Terms terms = {};
        if (slope) terms.slope = read_four(slope + column, columns - column, false);
        return terms;
    }

    struct Operands {
        StoredFour<T> addend, pre;
    };
    __device__ __forceinline__ Operands read(u32 row, int column) const {
        u64 at = u64(row) * columns + column;
        Operands operands = {};
        if (addend) operands.addend = stored_four(addend + at, columns - column, vectors);
        if (pre) operands.pre = stored_four(pre + at, columns - column, vectors);
        return operands;
    }

    __device__ __forceinline__ void write(u32 row, int column, Terms &terms, Four value,
                                          const Operands &operands) const {
        finish(row, column, terms, value, [&](u64, int) { return widened(operands.addend); },
               [&](u64, int) { return widened(operands.pre); });
    }
    __device__ __forceinline__ void write(u32 row, int column, Terms &terms, Four value) const {
        finish(row, column, terms, value, [&](u64 at, int valid) { return read_four(addend + at, valid, vectors); },
               [&](u64 at, int valid) { return read_four(pre + at, valid, vectors); });
    }

    // addends(at, valid), pres(at, valid): four of `addend` and `pre`, if there are such.
    template <class Addends, class Pres>
    __device__ __forceinline__ void finish(u32 row, int column, Terms &terms, Four value, Addends addends,
                                           Pres pres) const {
        u64 at = u64(row) * columns + column;
        int valid = columns - column;
        if (addend) {
            Four of = addends(at, valid);
#pragma unroll
            for (int i = 0; i < 4; ++i) value.values[i] += of.values[i];
        }
        if (kept) write_four(kept + at, value, valid, vectors);
        if (pre) {
            Four before = pres(at, valid);
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                bool positive = before.values[i] > 0;
                terms.sum.values[i] += positive ? 0.0f : value.values[i] * before.values[i];
                value.values[i] *= positive ? 1.0f : terms.slope.values[i];
            }
        }
        write_four(out + at, value, valid, vectors);
    }
};

// Adds up, in order, the parts of a tile's column sums that `parts` [PARTS, COLUMNS] in shared memory holds. All threads
// of the block, at least COLUMNS; tiles of a row follow each other.
template <int PARTS, int COLUMNS, class Epilogue>
__device__ __forceinline__ void write_column_sums(const Epilogue &epilogue, const float *parts, int first_column) {
    __syncthreads();
    int columns = epilogue.columns, column = first_column + threadIdx.x;
    if (threadIdx.x >= COLUMNS || column >= columns) return;
    float sum = 0;
#pragma unroll
    for (int part = 0; part < PARTS; ++part) sum += parts[part * COLUMNS + threadIdx.x];
    u32 row_tile = blockIdx.x / ((columns + COLUMNS - 1) / COLUMNS);
    epilogue.column_sums[u64(row_tile) * columns + column] = sum;
}

// A block that adds up the parts of split reductions takes so many rows and columns, a thread four columns of a row.
constexpr u32 SUM_THREADS = 128, SUM_ROWS = 16, SUM_COLUMNS = 32;

// Adds up the partial sums [splits, rows, columns] of a product in order, and finishes them. Grid: tiles of rows × tiles
// of columns.
template <class Epilogue>
__device__ __forceinline__ void sum_splits(const float *partial, u32 rows, u32 splits, const Epilogue &epilogue) {
    constexpr u32 FOURS = SUM_COLUMNS / 4;
    u32 columns = epilogue.columns, column_tiles = (columns + SUM_COLUMNS - 1) / SUM_COLUMNS;
    u32 first_column = blockIdx.x % column_tiles * SUM_COLUMNS, column = first_column + threadIdx.x % FOURS * 4;
    u32 row = blockIdx.x / column_tiles * SUM_ROWS + threadIdx.x / FOURS;
    auto terms = epilogue.terms(column);
    if (row < rows && column < columns) {
        const float *from = partial + u64(row) * columns + column;
        Four sum = {};
#pragma unroll 8
        for (u32 split = 0; split < splits; ++split) {
            Four part = read_four(from + u64(split) * rows * columns, columns - column, columns % 4 == 0);
#pragma unroll
            for (int i = 0; i < 4; ++i) sum.values[i] += part.values[i];
        }
        epilogue.write(row, column, terms, sum);
    }
    if constexpr (Epilogue::SUMS) {
        if (!epilogue.column_sums) return;
        __shared__ alignas(16) float parts[SUM_ROWS * SUM_COLUMNS];
        store_pack(parts + threadIdx.x * 4, terms.sum);
        write_column_sums<SUM_ROWS, SUM_COLUMNS>(epilogue, parts, first_column);
    }
}
