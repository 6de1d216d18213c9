// Convolutions as products of the portable tier: what stands where, for the engine of tile.cuh.
#pragma once
#include "conv2d.cuh"
#include "tile.cuh"

// First and last pixel of the result that a tile has rows of.
struct TilePixels {
    int top, left, bottom, right;
};

// The block's place in the taps of a filter, and in the channels of a tap. Taps that only meet padding under all pixels
// of the tile are left out.
struct TapWalk {
    const TapProduct &p;
    const TilePixels &pixels;  // in shared memory: registers are scarce, and it is asked for at a new tap only
    int u, v;                  // counted taps
    int first;                 // first channel of the step

    // Tap of the filter.
    __device__ __forceinline__ int segment() const {
        return (p.vertical.first_tap + p.vertical.tap_step * u) * p.filter_width + p.horizontal.first_tap +
               p.horizontal.tap_step * v;
    }

    // Source pixel of a result's pixel at this tap, from that at the first tap.
    __device__ __forceinline__ int down() const { return p.vertical.direction * u; }
    __device__ __forceinline__ int across() const { return p.horizontal.direction * v; }

    // Whether a line of pixels, from one to another, sees some of the source through a tap: may say so where a step is
    // larger than the source, never the other way round.
    static __device__ __forceinline__ bool sees(const TapAxis &axis, int from, int to, int tap) {
        int shift = axis.origin + axis.direction * tap;
        return to * axis.step + shift >= 0 && from * axis.step + shift < axis.source;
    }

    __device__ __forceinline__ bool useful() const {
        for (int i = pixels.top; i <= pixels.bottom; ++i) {
            int from = i == pixels.top ? pixels.left : 0;
            int to = i == pixels.bottom ? pixels.right : p.horizontal.pixels - 1;
            if (sees(p.vertical, i, i, u) && sees(p.horizontal, from, to, v)) return true;
        }
        return false;
    }

    __device__ __forceinline__ void next_tap() {
        if (++v == p.horizontal.taps) v = 0, ++u;
    }

    __device__ __forceinline__ int useful_taps() {
        int count = 0;
        for (u = 0, v = 0; u < p.vertical.taps && v < p.horizontal.taps; next_tap()) count += useful();
        return count;
    }

    // Goes to a step of those that useful taps have.
    __device__ __forceinline__ void start(int step) {
        int chunks = (p.length + DEPTH - 1) / DEPTH, taps = step / chunks;
        u = 0, v = 0;
        while (!useful() || taps-- > 0) next_tap();
        first = step % chunks * DEPTH;
    }

    // Goes to the next step, which exists.
    __device__ __forceinline__ void advance() {
        first += DEPTH;
        if (first < p.length) return;
        first = 0;
        do next_tap();
        while (!useful());
    }
};

// Rows of the left operand of a TapProduct: channels of the source pixel that a result's pixel sees through a tap,
// zeros in the padding. A source for Along.
template <class T, int VECTORS>
struct PixelRows {
    const T *data;
    int height, width, length, pixel_pitch;
    bool vectors;
    int top[VECTORS], left[VECTORS], base[VECTORS];  // source at the first tap, of this thread's rows

    __device__ __forceinline__ void place(const TapProduct &p, int v, int row, int rows) {
        int image = row % p.batch, pixel = row / p.batch;
        top[v] = pixel / p.horizontal.pixels * p.vertical.step + p.vertical.origin;
        left[v] = pixel % p.horizontal.pixels * p.horizontal.step + p.horizontal.origin;
        base[v] = ((top[v] * width + left[v]) * p.batch + image) * length;
        if (row >= rows) top[v] = -(1 << 24);
    }

    __device__ __forceinline__ Four read(const TapWalk &walk, int v, int, int depth) const {
        bool inside = u32(top[v] + walk.down()) < u32(height) && u32(left[v] + walk.across()) < u32(width);
        int channel = walk.first + depth, pixels = walk.down() * width + walk.across();
        return read_four(data + (base[v] + pixels * pixel_pitch + channel), inside ? length - channel : 0, vectors);
    }
};

// out[pixel, n, column] = Σ over taps and channels of source · filter; see TapProduct. `filter` is
// [R, S, length, columns] or, transposed, [R, S, columns, length].
// Grid: (tiles of rows × tiles of columns, 1, splits); with splits > 1 the sums go to `partial`
// [splits, rows of the result, columns].
template <class Tile, bool TRANSPOSED, class T, class Epilogue>
__device__ __forceinline__ void tap_product(const T *source, const T *filter, const Epilogue &epilogue,
                                            float *partial, const TapProduct &p) {
    u32 column_tiles = (p.columns + Tile::COLUMNS - 1) / Tile::COLUMNS;
    int first_row = blockIdx.x / column_tiles * Tile::ROWS, first_column = blockIdx.x % column_tiles * Tile::COLUMNS;
    int rows = p.vertical.pixels * p.horizontal.pixels * p.batch;

    __shared__ TilePixels pixels;
    if (threadIdx.x == 0) {
        int first = first_row / p.batch, last = (min(first_row + Tile::ROWS, rows) - 1) / p.batch;
        pixels = {first / p.horizontal.pixels, first % p.horizontal.pixels, last / p.horizontal.pixels,
                  last % p.horizontal.pixels};
    }
    __syncthreads();
    TapWalk walk{p, pixels, 0, 0, 0};
    int steps = walk.useful_taps() * ((p.length + DEPTH - 1) / DEPTH);
    int begin = first_step(steps, blockIdx.z, p.splits), end = first_step(steps, blockIdx.z + 1, p.splits);
    if (begin < end) walk.start(begin);

    constexpr int VECTORS = Tile::ROWS * DEPTH / 4 / Tile::THREADS;
    using Left = Along<Tile, Tile::ROWS, PixelRows<T, VECTORS>>;
    bool left_vectors = Tile::vectors(p.left_vectors), right_vectors = Tile::vectors(p.right_vectors);
    Left left{{source, p.vertical.source, p.horizontal.source, p.length, p.batch * p.length, left_vectors}};
#pragma unroll
    for (int v = 0; v < VECTORS; ++v) left.source.place(p, v, first_row + Left::line(v), rows);

    float sums[Tile::THREAD_ROWS][Tile::THREAD_COLUMNS] = {};
    int columns = p.columns - first_column, filter_pitch = p.length * p.columns;
    if constexpr (TRANSPOSED) {
        Along<Tile, Tile::COLUMNS, MatrixAlong<T>> right{
            {filter, first_column * p.length, columns, p.length, p.length, filter_pitch, right_vectors}};
        multiply<Tile>(sums, left, right, walk, end - begin);
    } else {
        Across<Tile, Tile::COLUMNS, MatrixAcross<T>> right{
            {filter, first_column, columns, p.length, p.columns, filter_pitch, right_vectors}};
        multiply<Tile>(sums, left, right, walk, end - begin);
    }

    int result_rows[Tile::THREAD_ROWS];
#pragma unroll
    for (int i = 0; i < Tile::THREAD_ROWS; ++i) {
        int row = first_row + Tile::row(i), image = row % p.batch, pixel = row / p.batch;
        int y = p.vertical.first_pixel + pixel / p.horizontal.pixels * p.vertical.pixel_step;
        int x = p.horizontal.first_pixel + pixel % p.horizontal.pixels * p.horizontal.pixel_step;
        result_rows[i] = row < rows ? (y * p.result_width + x) * p.batch + image : -1;
    }
    if (p.splits == 1) {
        write_tile<Tile>(sums, epilogue, first_column, result_rows);
    } else {
        float *out = partial + u64(blockIdx.z) * p.result_rows * p.columns;
        write_tile<Tile>(sums, plain(out, p.columns, Tile::vectors(p.columns % 4 == 0)), first_column, result_rows);
    }
}

// The block's place in the pixels of d_y, and in the images of a pixel.
struct PixelWalk {
    const WeightProduct &sizes;
    const TilePixels &pixels;  // a rectangle, in shared memory as above
    int h, w;                  // the pixel of x that the pixel of d_y sees through tap (padding, padding)
    int pixel, first;          // number of the pixel of d_y, first image of the step

    __device__ __forceinline__ int segment() const { return pixel; }

    __device__ __forceinline__ void enter(int p, int q) {
        pixel = p * sizes.output_width + q;
        h = p * sizes.stride, w = q * sizes.stride;
    }
    __device__ __forceinline__ void advance() {
        first += DEPTH;
        if (first < sizes.batch) return;
        first = 0;
        int p = pixel / sizes.output_width, q = pixel % sizes.output_width + 1;
        if (q > pixels.right) q = pixels.left, ++p;
        enter(p, q);
    }
};

// A row of the gradient of a filter: a tap and an input channel.
struct TapRow {
    int offset;         // in elements, from the input pixel under tap (padding, padding)
    short down, right;  // in pixels, likewise
};

// Rows of the left operand of the weight's gradient: x as each tap sees it below a pixel of y. A source for Across.
template <class T>
struct TapRows {
    const T *x;
    const TapRow *rows;  // of the tile, in shared memory; with vectors, every fourth: they are of one tap
    bool vectors;

    template <int COUNT>
    __device__ __forceinline__ Four read_row(const PixelWalk &walk, int index, u32 image) const {
        const WeightProduct &sizes = walk.sizes;
        TapRow row = rows[index];
        bool inside = image < u32(sizes.batch) && u32(walk.h + row.down) < u32(sizes.height) &&
                      u32(walk.w + row.right) < u32(sizes.width);
        int at = ((walk.h * sizes.width + walk.w) * sizes.batch + image) * sizes.inputs + row.offset;
        return read_four(x + at, inside ? COUNT : 0, COUNT == 4);
    }
    __device__ __forceinline__ Four read(const PixelWalk &walk, int, int line, int depth) const {
        u32 image = walk.first + depth;
        if (vectors) return read_row<4>(walk, line / 4, image);
        Four value;
#pragma unroll
        for (int i = 0; i < 4; ++i) value.values[i] = read_row<1>(walk, line + i, image).values[0];
        return value;
    }
};

// First output that sees the source through one of the taps up to `last_tap`, along one axis.
__device__ __forceinline__ int first_output(const WeightProduct &sizes, int last_tap) {
    int padding = sizes.padding, stride = sizes.stride;
    return last_tap >= padding ? 0 : (padding - last_tap + stride - 1) / stride;
}
// End of the outputs that see it through one of the taps from `first_tap` on.
__device__ __forceinline__ int end_output(const WeightProduct &sizes, int size, int outputs, int first_tap) {
    int reach = size + sizes.padding - first_tap, stride = sizes.stride;  // from output 0 to the source's end
    return reach <= 0 ? 0 : min(outputs, (reach + stride - 1) / stride);
}

// out[split, (r, s, c), k] = Σ over the split's pixels and images of x · d_y.
// Grid: (tiles of rows (r, s, c) × tiles of columns k, 1, splits).
template <class Tile, class T>
__device__ __forceinline__ void weight_product(const T *x, const T *d_y, float *out, const WeightProduct &p) {
    __shared__ TapRow tap_rows[Tile::ROWS];
    const WeightProduct &sizes = p;
    int inputs = sizes.inputs, outputs = sizes.outputs, batch = sizes.batch;
    int filter_width = sizes.filter_width, rows = sizes.filter_height * filter_width * inputs;
    u32 column_tiles = (outputs + Tile::COLUMNS - 1) / Tile::COLUMNS;
    int first_row = blockIdx.x / column_tiles * Tile::ROWS, first_column = blockIdx.x % column_tiles * Tile::COLUMNS;
    bool left_vectors = Tile::vectors(p.left_vectors), right_vectors = Tile::vectors(p.right_vectors);
    int group = left_vectors ? 4 : 1;
    for (int index = threadIdx.x; index < Tile::ROWS / group; index += Tile::THREADS) {
        int row = first_row + index * group, tap = row / inputs, channel = row % inputs;
        int down = tap / filter_width - sizes.padding, right = tap % filter_width - sizes.padding;
        int offset = (down * sizes.width + right) * batch * inputs + channel;
        tap_rows[index] = row < rows ? TapRow{offset, short(down), short(right)} : TapRow{0, -0x8000, -0x8000};
    }

    // The pixels that see the source through any tap of the tile: a rectangle.
    int first_tap = first_row / inputs, last_tap = (min(first_row + Tile::ROWS, rows) - 1) / inputs;
    int first_r = first_tap / filter_width, last_r = last_tap / filter_width;
    bool one = first_r == last_r;
    int first_s = one ? first_tap % filter_width : 0, last_s = one ? last_tap % filter_width : filter_width - 1;
    int first_p = first_output(sizes, last_r), end_p = end_output(sizes, sizes.height, sizes.output_height, first_r);
    int first_q = first_output(sizes, last_s), end_q = end_output(sizes, sizes.width, sizes.output_width, first_s);
    int pixels = max(end_p - first_p, 0) * max(end_q - first_q, 0);
    __shared__ TilePixels rectangle;
    __shared__ int origin[2];  // of the tile: kept here until the end
    if (threadIdx.x == 0) {
        rectangle = {first_p, first_q, end_p - 1, end_q - 1};
        origin[0] = first_row, origin[1] = first_column;
    }
    __syncthreads();

    int chunks = (batch + DEPTH - 1) / DEPTH, steps = pixels * chunks;
    int begin = first_step(steps, blockIdx.z, p.splits), end = first_step(steps, blockIdx.z + 1, p.splits);
    PixelWalk walk{sizes, rectangle, 0, 0, 0, 0};
    if (begin < end) {
        int pixel = begin / chunks, width = end_q - first_q;
        walk.enter(first_p + pixel / width, first_q + pixel % width);
        walk.first = begin % chunks * DEPTH;
    }

    float sums[Tile::THREAD_ROWS][Tile::THREAD_COLUMNS] = {};
    Across<Tile, Tile::ROWS, TapRows<T>> left{{x, tap_rows, left_vectors}};
    Across<Tile, Tile::COLUMNS, MatrixAcross<T>> right{
        {d_y, first_column, outputs - first_column, batch, outputs, batch * outputs, right_vectors}};
    multiply<Tile>(sums, left, right, walk, end - begin);

    int result_rows[Tile::THREAD_ROWS];
#pragma unroll
    for (int i = 0; i < Tile::THREAD_ROWS; ++i) {
        int row = origin[0] + Tile::row(i);
        result_rows[i] = row < rows ? row : -1;
    }
    out += u64(blockIdx.z) * u32(rows * outputs);
    write_tile<Tile>(sums, plain(out, outputs, Tile::vectors(p.out_vectors)), origin[1], result_rows);
}
