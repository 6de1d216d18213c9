// Sizes of a convolution, as crates/cuda/src/launcher/conv2d.rs passes them.
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
