// Products of dense matrices on the tensor cores, see mma_tile.cuh: what matrix_product.cuh is in the portable tier.
//
// T is float (operands rounded to TF32) or bf16, sums are fp32. Pointers are 16-byte aligned; the contiguous dimensions
// of both operands, and the columns of the result, are multiples of 16 bytes of T.
#pragma once
#include "matrix_product.cuh"
#include "mma_tile.cuh"

// Where the pieces of this block's operands lie. The reduction runs over all segments, without a gap between them.
template <class T, u32 ROWS, u32 COLUMNS, Layout LAYOUT>
struct MatrixOperands {
    using Left = typename Either<LAYOUT == TN, Outer<T, ROWS>, Inner<T, ROWS>>::Type;
    using Right = typename Either<LAYOUT == NT, Inner<T, COLUMNS>, Outer<T, COLUMNS>>::Type;
    static constexpr bool PREPARES = false;

    const T *left_matrix, *right_matrix;
    const MatrixProduct &p;
    u32 first_row, first_column;
    Divisor length;

    // One place of the reduction in all rows of the left, or all columns of the right operand.
    struct Lines {
        const T *from;
        u32 pitch, first, lines;
        bool present;

        __device__ __forceinline__ Piece piece(u32, u32 line) const {
            line += first;
            bool inside = present && line < lines;
            return {from + (inside ? line * pitch : 0), inside};
        }
    };

    __device__ __forceinline__ Lines lines(const T *matrix, u32 k, u32 segment_pitch, bool inner, u32 first,
                                           u32 count) const {
        u32 place, segment = length.divide(k, place);
        bool present = segment < u32(p.segments);
        u32 at = segment * segment_pitch + (inner ? place : place * count);
        return {matrix + (present ? at : 0), inner ? length.divisor : 1, first, count, present};
    }
    __device__ __forceinline__ Lines left(u32 k) const {
        return lines(left_matrix, k, p.left_segment, LAYOUT != TN, first_row, p.rows);
    }
    __device__ __forceinline__ Lines right(u32 k) const {
        return lines(right_matrix, k, p.right_segment, LAYOUT == NT, first_column, p.columns);
    }
};

// out[b] = epilogue(left[b] · right[b]), or the parts of the sums in partial [splits, batch, rows, columns].
// Grid: (tiles of rows × tiles of columns, batch, splits); block: 128 threads; dynamic shared memory: see mma_tile.cuh.
template <u32 ROWS, u32 COLUMNS, Layout LAYOUT, class T, class Epilogue>
__device__ __forceinline__ void matrix_product_mma(const T *left, const T *right, const Epilogue &epilogue,
                                                   float *partial, const MatrixProduct &p) {
    extern __shared__ __align__(128) unsigned char stages[];
    u32 tiles = (p.columns + COLUMNS - 1) / COLUMNS, rows = p.rows;
    u32 first_row = blockIdx.x / tiles * ROWS, first_column = blockIdx.x % tiles * COLUMNS;
    left += u64(blockIdx.y) * p.left_batch, right += u64(blockIdx.y) * p.right_batch;
    MatrixOperands<T, ROWS, COLUMNS, LAYOUT> operands{left, right, p, first_row, first_column, Divisor(p.length)};
    Share share((p.segments * p.length + CHUNK<T> - 1) / CHUNK<T>);
    MmaTile<T, ROWS, COLUMNS> tile;
    tile.add(operands, stages, share.first, share.end);
    float *parts = in_parts(p, epilogue) ? partial : nullptr;
    tile.finish(stages, epilogue, parts, first_column, gridDim.y * rows, [&](u32 row) {
        row += first_row;
        return row < rows ? blockIdx.y * rows + row : NO_ROW;
    });
}
