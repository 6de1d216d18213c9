// metrics: writes row `counter mod rows` of the log: sums over the valid rows of the batch, and the gradient's norm.
//
// loss           [N] f32             read
// hits           [N] u32             read: bits 1, 2, 4 for right by logits, cosines, penalised logits
// norm           [N] f32             read: embedding norms
// count          [1] u32             read: valid rows
// counter        [1] u32             read
// gradient_norm  [1] f32             read, or absent (null)
// log            [rows, 7] f32       updated: rows, loss, the three counts of hits, norms, gradient norm
//
// Sums are fp64 in a fixed order; a loss or norm that is not a number makes its sum one.
// Grid: one block of 256 threads. Floor: the launch.
// Partners: crates/tensor/src/op/metrics.rs, crates/tensor/src/cpu/metrics.rs, crates/cuda/src/launcher/metrics.rs.
#include "common.cuh"

KERNELS_OVERLAP

constexpr u32 THREADS = 256;
constexpr u32 COLUMNS = 7;

extern "C" __global__ void __launch_bounds__(THREADS)
metrics(const float *loss, const u32 *hits, const float *norm, const u32 *count, const u32 *counter,
        const float *gradient_norm, float *log, u32 log_rows) {
    await_previous();
    u32 valid = count[0];
    double losses = 0, norms = 0;
    u32 right[3] = {0, 0, 0};
    for (u32 n = threadIdx.x; n < valid; n += THREADS) {
        losses += double(loss[n]);
        norms += double(norm[n]);
#pragma unroll
        for (u32 bit = 0; bit < 3; ++bit) right[bit] += hits[n] >> bit & 1;
    }
    losses = block_sum<THREADS>(losses);
    norms = block_sum<THREADS>(norms);
#pragma unroll
    for (u32 bit = 0; bit < 3; ++bit) right[bit] = block_sum<THREADS>(right[bit]);
    if (threadIdx.x > 0) return;
    float *row = log + counter[0] % log_rows * COLUMNS;
    row[0] = float(valid);
    row[1] = float(losses);
#pragma unroll
    for (u32 bit = 0; bit < 3; ++bit) row[2 + bit] = float(right[bit]);
    row[5] = float(norms);
    row[6] = gradient_norm ? gradient_norm[0] : 0.0f;
}
