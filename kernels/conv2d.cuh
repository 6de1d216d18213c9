// Sizes of convolutions, as crates/cuda/src/launcher/conv2d.rs passes them.
#pragma once
#include "common.cuh"

// x [H, W, N, C], filter [R, S, C, K], y [P, Q, N, K].
struct Conv2d {
    u32 height, width;                // H, W
    u32 batch;                        // N
    u32 inputs;                       // C
    u32 filter_height, filter_width;  // R, S
    u32 outputs;                      // K
    u32 output_height, output_width;  // P, Q
    u32 stride, padding;
};

// How the pixels of a result see a source through the taps of a filter, along one axis: result pixel i sees source
// pixel i · step + origin + direction · u through the u-th tap, where there is one.
//
// Forward, the result is y and the source x: all pixels, all taps, direction 1. Backward, the result is those pixels of
// d_x that are `first_pixel` modulo the stride, and the source is d_y: these see it through every stride-th tap, and,
// counted among themselves, one step at a time in the opposite direction.
struct TapAxis {
    int pixels;                   // of the result
    int step, origin, direction;  // see above
    int source;                   // pixels of the source
    int taps;                     // that are used
    int first_tap, tap_step;      // the u-th of them is tap first_tap + tap_step · u of the filter
    int first_pixel, pixel_step;  // the i-th pixel of the result is pixel first_pixel + pixel_step · i of its image
};

// result[i, j, n, columns] = Σ over taps of source[·, ·, n, length] · filter[tap]. Rows are (i, j, n), n the fastest.
struct TapProduct {
    TapAxis vertical, horizontal;
    int batch;
    int length;        // channels of the source: the reduction within a tap
    int columns;       // channels of the result
    int filter_width;  // S
    int result_width;  // of the result's image
    int result_rows;   // pixels of the result's image, times the batch
    int splits;        // parts of the reduction
    int left_vectors, right_vectors, out_vectors;  // whether source, filter and result allow vectors of four elements
};

// d_filter[r, s, c, k] = Σ over p, q, n of x · d_y. Sizes as in Conv2d, but signed: positions reach into the padding.
struct WeightProduct {
    int height, width, batch, inputs;
    int filter_height, filter_width, outputs;
    int output_height, output_width;
    int stride, padding;
    int splits;
    int left_vectors, right_vectors, out_vectors;  // whether x, d_y and the result allow vectors of four elements
};

// Whether an epilogue of conv2d_wgmma.cuh or conv2d_wgmma_wide.cuh has these operands.
struct WgmmaOperands {
    u32 addend, pre, kept;
};

// result [H, W, N, 64] = Σ over 3×3 taps of a source of the same size. See conv2d_wgmma.cuh.
struct HaloProduct {
    int height, width;
    u32 tiles;
    WgmmaOperands operands;
};

// The same of more channels, result [H, W, N, results]. See conv2d_wgmma_wide.cuh.
struct WideProduct {
    int height;
    int pixels, images;        // of a tile
    u32 across, image_tiles;   // tiles of a row's pixels, and of its images
    u32 parts;                 // tiles of the same channels
    int inputs;                // channels of the source
    u32 results, channels;     // of the result, and of a tile: 128 or 64
    u32 last_round, halved;    // of the list: where it begins, and how many are two of 64 channels in it
    u32 wholes, count;         // tiles of 128 channels, and all
    u32 slots, slot_bytes;     // of the ring of rows
    WgmmaOperands operands;
};

// The pixels of a result that see a source in the same way: all, or those of a class modulo the stride.
struct PixelClass {
    TapAxis vertical, horizontal;
    u32 across;      // tiles of a row
    u32 first_tile;  // tiles of the classes before
};

// Products of taps by tiles of rows that are images of one pixel, or of a few. See conv2d_wgmma_pixels.cuh.
struct PixelProduct {
    PixelClass classes[4];
    u32 class_count;
    int batch, length, columns;     // images; channels of the source and of the result
    int filter_width, result_width;
    u32 image_bits, pixel_bits;     // a tile has images, pixels of a row, and rows of these: powers of two
    u32 row_bits;
    u32 image_tiles, column_tiles;  // of a pixel, and of the result's channels
    u32 tiles;                      // all of them
};

// d_filter [9, inputs, outputs] as sums over steps: rows of `pixels` times `images`. See conv2d_wgmma_weight.cuh.
struct WeightTiles {
    int height, source_height;  // P, H
    int stride;
    int pixels, images;
    u32 across;                // strips of an image
    u32 steps, steps_of_part;  // rows of all strips, and those of one part
    int inputs, outputs;
    u32 slots;                 // of the ring of rows of x
};
