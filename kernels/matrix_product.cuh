// Products of dense matrices of the portable tier, for the engine of tile.cuh.
#pragma once
#include "tile.cuh"

// out[b] = Σ over segments of left[b, segment] · right[b, segment], of `rows` × `length` and `length` × `columns`.
// Matrices are row-major and whole; out[b] follow each other.
struct MatrixProduct {
    int rows, columns, length;
    int segments;
    int left_segment, right_segment;               // distance of an operand's segments
    int left_batch, right_batch;                   // distance of an operand's matrices of b and b + 1; 0 if it has one
    int batch;                                     // products
    int splits;                                    // parts of the reduction
    int left_vectors, right_vectors, out_vectors;  // whether operands and result allow vectors of four elements
};

// Which operand is transposed, as in BLAS: its rows run along the reduction where they usually do not.
enum Layout { NN, NT, TN };

// The block's place in the reduction.
struct SegmentWalk {
    int length, number, first;

    __device__ __forceinline__ int segment() const { return number; }
    __device__ __forceinline__ void advance() {
        first += DEPTH;
        if (first >= length) first = 0, ++number;
    }
};

// Whether sums go to `partial` [splits, batch, rows, columns], which others finish: those of parts, and all where the
// epilogue has nowhere to write.
template <class Epilogue>
__device__ __forceinline__ bool in_parts(const MatrixProduct &p, const Epilogue &epilogue) {
    return p.splits > 1 || !epilogue.out;
}

// Grid: (tiles of rows × tiles of columns, batch, splits). The epilogue's matrices are [batch, rows, columns].
template <class Tile, Layout LAYOUT, class T, class Epilogue>
__device__ __forceinline__ void matrix_product(const T *left, const T *right, const Epilogue &epilogue,
                                               float *partial, const MatrixProduct &p) {
    u32 column_tiles = (p.columns + Tile::COLUMNS - 1) / Tile::COLUMNS;
    int first_row = blockIdx.x / column_tiles * Tile::ROWS, first_column = blockIdx.x % column_tiles * Tile::COLUMNS;
    int rows = p.rows - first_row, columns = p.columns - first_column;
    int left_start = blockIdx.y * p.left_batch, right_start = blockIdx.y * p.right_batch;

    u32 chunks = (p.length + DEPTH - 1) / DEPTH, steps = p.segments * chunks;
    u32 begin = first_step(steps, blockIdx.z, p.splits), end = first_step(steps, blockIdx.z + 1, p.splits);
    SegmentWalk walk{p.length, int(begin / chunks), int(begin % chunks * DEPTH)};
    bool left_vectors = Tile::vectors(p.left_vectors), right_vectors = Tile::vectors(p.right_vectors);
    float sums[Tile::THREAD_ROWS][Tile::THREAD_COLUMNS] = {};

    int left_pitch = LAYOUT == TN ? p.rows : p.length, right_pitch = LAYOUT == NT ? p.length : p.columns;
    left_start += first_row * (LAYOUT == TN ? 1 : left_pitch);
    right_start += first_column * (LAYOUT == NT ? right_pitch : 1);
    if constexpr (LAYOUT == NN) {
        Along<Tile, Tile::ROWS, MatrixAlong<T>> a{
            {left, left_start, rows, p.length, left_pitch, p.left_segment, left_vectors}};
        Across<Tile, Tile::COLUMNS, MatrixAcross<T>> b{
            {right, right_start, columns, p.length, right_pitch, p.right_segment, right_vectors}};
        multiply<Tile>(sums, a, b, walk, end - begin);
    } else if constexpr (LAYOUT == NT) {
        Along<Tile, Tile::ROWS, MatrixAlong<T>> a{
            {left, left_start, rows, p.length, left_pitch, p.left_segment, left_vectors}};
        Along<Tile, Tile::COLUMNS, MatrixAlong<T>> b{
            {right, right_start, columns, p.length, right_pitch, p.right_segment, right_vectors}};
        multiply<Tile>(sums, a, b, walk, end - begin);
    } else {
        Across<Tile, Tile::ROWS, MatrixAcross<T>> a{
            {left, left_start, rows, p.length, left_pitch, p.left_segment, left_vectors}};
        Across<Tile, Tile::COLUMNS, MatrixAcross<T>> b{
            {right, right_start, columns, p.length, right_pitch, p.right_segment, right_vectors}};
        multiply<Tile>(sums, a, b, walk, end - begin);
    }

    int result_rows[Tile::THREAD_ROWS];
#pragma unroll
    for (int i = 0; i < Tile::THREAD_ROWS; ++i)
        result_rows[i] = Tile::row(i) < rows ? int(blockIdx.y) * p.rows + first_row + Tile::row(i) : -1;
    float *out = partial + u64(blockIdx.z) * gridDim.y * p.rows * p.columns;
    auto part = plain(out, p.columns, Tile::vectors(p.columns % 4 == 0));
    if constexpr (sizeof(*epilogue.out) == sizeof(float)) {
        // One way out: with two of them the compiler runs short of registers.
        Epilogue last = epilogue;
        if (in_parts(p, epilogue)) last = part;
        write_tile<Tile>(sums, last, first_column, result_rows);
    } else if (in_parts(p, epilogue)) {
        write_tile<Tile>(sums, part, first_column, result_rows);
    } else {
        write_tile<Tile>(sums, epilogue, first_column, result_rows);
    }
}
