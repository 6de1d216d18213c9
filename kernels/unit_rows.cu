// unit_rows: w_j = w_j / ‖w_j‖, in place.
//
// weight  [rows, columns] f32   updated
//
// A warp a row, its norm in f64; grid: rows / 8 blocks, rounded up, of 256 threads. Floor: 8 · rows · columns bytes, the
// second reading from a cache.
// Partners: crates/tensor/src/op/unit_rows.rs, crates/tensor/src/cpu/unit_rows.rs, crates/cuda/src/launcher/unit_rows.rs.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(256) unit_rows(float *weight, u32 rows, u32 columns) {
    u32 lane = threadIdx.x % WARP, row = global_thread() / WARP;
    if (row >= rows) return;
    float *w = weight + u64(row) * columns;
    double square = 0;
    for (u32 d = lane; d < columns; d += WARP) square += double(w[d]) * double(w[d]);
    double norm = sqrt(warp_sum(square));
    if (norm < 1e-12) norm = 1e-12;
    for (u32 d = lane; d < columns; d += WARP) w[d] = float(w[d] / norm);
}
