// row_modifiers: a number for each row of a batch, by which its margin differs from those of others.
//
// embedding  [N, D] f32   read
// count      [1] u32      read: valid rows; the modifiers of the others are 0
// counter    [1] u32      read
// modifiers  [N] f32      written
//
//   _drawn   standard normal numbers, a pure function of seed, step and row (random.cuh). Grid: N / 256 blocks, rounded up
//   _length  where ‖x‖ stands among those of the batch: clip(spread · (l − μ) / (σ + 10⁻³), −1, 1), l = clip(‖x‖, 10⁻³, 100).
//            Grid: one block, a warp a row; mean, then deviation, in f64 in a fixed order
//
// Blocks of 256 and of 1,024 threads. Floor: the launch; 4 N D bytes for lengths.
// Partners: crates/tensor/src/op/row_modifiers.rs, crates/tensor/src/cpu/row_modifiers.rs,
// crates/cuda/src/launcher/row_modifiers.rs.
#include "random.cuh"

extern "C" __global__ void __launch_bounds__(256)
row_modifiers_drawn(const u32 *count, const u32 *counter, float *modifiers, u32 batch, u64 seed) {
    u32 n = global_thread();
    if (n < batch) modifiers[n] = n < count[0] ? float(normal(seed, STREAM_MARGIN, counter[0], n)) : 0.0f;
}

constexpr u32 LENGTH_THREADS = 1024;

// ‖x‖ of a row as it counts, by a warp.
__device__ __forceinline__ double length_of(const float *x, u32 dimension) {
    double square = 0;
    for (u32 d = threadIdx.x % WARP; d < dimension; d += WARP) square += double(x[d]) * double(x[d]);
    double length = sqrt(warp_sum(square));
    return length < 1e-3 ? 1e-3 : length > 100 ? 100 : length;
}

extern "C" __global__ void __launch_bounds__(LENGTH_THREADS)
row_modifiers_length(const float *embedding, const u32 *count, float *modifiers, double *lengths, u32 batch,
                     u32 dimension, float spread) {
    u32 valid = min(count[0], batch);
    for (u32 n = threadIdx.x / WARP; n < valid; n += LENGTH_THREADS / WARP) {
        double length = length_of(embedding + u64(n) * dimension, dimension);
        if (threadIdx.x % WARP == 0) lengths[n] = length;
    }
    __syncthreads();
    double sum = 0, squares = 0;
    for (u32 n = threadIdx.x; n < valid; n += LENGTH_THREADS) sum += lengths[n];
    double mean = block_sum<LENGTH_THREADS>(sum) / valid;
    for (u32 n = threadIdx.x; n < valid; n += LENGTH_THREADS) squares += (lengths[n] - mean) * (lengths[n] - mean);
    double deviation = sqrt(block_sum<LENGTH_THREADS>(squares) / (valid > 1 ? valid - 1 : 1));
    for (u32 n = threadIdx.x; n < batch; n += LENGTH_THREADS) {
        double standing = n < valid ? double(spread) * (lengths[n] - mean) / (deviation + 1e-3) : 0;
        modifiers[n] = float(standing < -1 ? -1 : standing > 1 ? 1 : standing);
    }
}
